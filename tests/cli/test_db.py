"""`relay db`: the database brought up to date, or moved."""

import re
import sqlite3
from pathlib import Path

import pytest
from servers import PASSWORD

from cli.program import Program


def test_upgrade_makes_the_tables_of_the_settings_database(relay: Program, tmp_path: Path) -> None:
    env = {"RELAY_DATABASE_URL": "sqlite:///kept.db"}
    first, second = relay("db", "upgrade", env=env), relay("db", "upgrade", env=env)

    assert (first.returncode, first.stderr) == (0, "kept.db: its tables have been made\n")
    assert (second.returncode, second.stderr) == (0, "kept.db: it was up to date already\n")
    assert (tmp_path / "kept.db").exists()


def test_upgrade_takes_another_configuration_or_database(relay: Program, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('database_url = "sqlite:///a.db"\n')
    (tmp_path / "secret").write_text("sqlite:///b.db\n")

    assert relay("db", "upgrade", "--config", "other.toml").stderr.startswith("a.db: ")
    assert relay("db", "upgrade", "--database-url", "file:secret").stderr.startswith("b.db: ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--database-url", "mysql://u:canary@h/d"], 2, "has to begin with sqlite:/// or"),
        (["--database-url", "env:NOT_SET"], 2, "--database-url: the environment variable NOT_SET"),
        (["--database-url", "sqlite:////nowhere/relay.db"], 1, "/nowhere/relay.db cannot be open"),
        (["--config", "missing.toml"], 1, "missing.toml"),
        (["--database-url", "none"], 1, "nothing is kept here"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    relay: Program, arguments: list[str], code: int, said: str
) -> None:
    done = relay("db", "upgrade", *arguments)

    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr


def test_check_reaches_the_database_and_makes_nothing(
    relay: Program, tmp_path: Path, postgres_url: str
) -> None:
    first = relay("check")
    assert (first.returncode, list(tmp_path.glob("*.db*"))) == (0, [])
    assert "usage is kept; its tables will be made" in first.stdout

    relay("db", "upgrade")
    assert re.search(r"usage is kept *\n", relay("check").stdout)

    for version, said, code in (
        ("9999", "written by a newer relay", 1),
        ("unfinished", "is half a copy", 1),
    ):
        with sqlite3.connect(tmp_path / "relay.db") as connection:
            connection.execute("UPDATE relay_version SET version_num = ?", (version,))
        connection.close()
        found = relay("check")
        assert (found.returncode, said in found.stdout) == (code, True)

    (tmp_path / "relay.db").write_bytes(b"no database at all, but long enough for one" * 99)
    assert "something else than an SQLite database" in relay("check").stdout

    found = relay("check", "--database-url", postgres_url)
    assert "usage is kept; its tables will be made" in found.stdout
    found = relay("check", "--database-url", f"{postgres_url}_none")
    assert (found.returncode, "is not there: create it first" in found.stdout) == (1, True)
    assert PASSWORD not in found.stdout + found.stderr


def test_copy_moves_everything_and_counts_it(
    relay: Program, tmp_path: Path, postgres_url: str
) -> None:
    relay("db", "upgrade")
    with sqlite3.connect(tmp_path / "relay.db") as connection:
        connection.execute("INSERT INTO relay_acts VALUES (1.0, 'id', 'act', 's', 's', '{}')")
    connection.close()
    env = {"TARGET": postgres_url}
    done = relay("db", "copy", "sqlite:///relay.db", "env:TARGET", env=env)

    assert done.returncode == 0, done.stderr
    counts = dict(line.split() for line in done.stdout.splitlines())
    assert counts["acts"] == "1"
    assert counts["ledger"] == "0"
    assert PASSWORD not in done.stdout + done.stderr

    again = relay("db", "copy", "sqlite:///relay.db", "env:TARGET", env=env)
    assert again.returncode == 1
    assert "holds something already: name a new one" in again.stderr
    assert PASSWORD not in again.stderr


def test_copy_without_a_source_says_so(relay: Program, tmp_path: Path) -> None:
    done = relay("db", "copy", "sqlite:///none.db", "sqlite:///target.db")

    assert done.returncode == 1
    assert "There is no file none.db" in done.stderr
    assert list(tmp_path.glob("*.db")) == []
