"""`relay usage`, against a relay that runs and against its database."""

import csv
import io
import json
from pathlib import Path

import ledger_file
import pytest
import transcripts
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay

from cli.program import Program

KEY = "ak-canary-0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def running(start_relay: StartRelay, upstream: FakeUpstream, path: Path) -> RunningRelay:
    """A relay that has answered three calls, one of a model without a price."""
    relay = start_relay(
        upstreams=[{"name": "a", "base_url": upstream.url}],
        admin_key=KEY,
        prices=[{"model": "dear", "prompt_usd": 1000, "completion_usd": 200_000}],
        database_url=ledger_file.url(path),
        ledger_flush_s=0.05,
    )
    upstream.answer(Script(body=transcripts.chat_body("x")))
    for model in ("dear", "dear", "a \x1b[31m\nname"):
        relay.ask(model=model).raise_for_status()
    return relay


def test_a_table_a_chart_csv_and_json_are_read_from_the_database(
    relay: Program, running: RunningRelay, path: Path
) -> None:
    assert len(ledger_file.rows_of(running, path)) == 3
    database = ("--database", ledger_file.url(path))

    table = relay("usage", *database).stdout.splitlines()
    headings = "model requests errors prompt completion USD unpriced mean s"
    assert table[1].split() == headings.split()
    assert [line.split()[1:6] for line in table if line.startswith("dear")] == [
        ["2", "0", "6", "10", "2.01"]
    ]
    assert table[-1].split()[:6] == ["total", "3", "0", "9", "15", "2.01"]
    assert "\x1b" not in "".join(table)

    chart = relay("usage", *database, "--group-by", "upstream,model", "--chart", "requests")
    bars = {line.split()[1]: line.count("█") for line in chart.stdout.splitlines()[2:]}
    assert (bars["dear"], bars["a"]) == (40, 20)
    costs = relay("usage", *database, "--chart", "cost").stdout
    assert "2.01" in costs
    assert "16  " in relay("usage", *database, "--chart", "tokens").stdout

    comma = relay("usage", *database, "--csv", "--group-by", "key,day").stdout
    [line] = csv.DictReader(io.StringIO(comma))
    assert (line["key"], line["requests"], line["cost_usd"]) == ("", "3", "2.01")
    assert line["unpriced_requests"] == "1"

    report = json.loads(relay("usage", *database, "--json", "--model", "dear").stdout)
    assert report["total"]["cost_usd"] == 2.006
    assert relay("usage", *database, "--group-by", "").stdout.splitlines()[2].split()[0] == "3"


def test_the_same_comes_from_the_admin_api(relay: Program, running: RunningRelay) -> None:
    asked = ("usage", "--url", running.url, "--json", "--from", "2020-01-01", "--to", "2100-01-01")
    shown = relay(*asked, env={"RELAY_ADMIN_KEY": KEY})
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["from"] == "2020-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--from", "soon", "--database", "sqlite:///x.db"], 2, "'from' must be a date"),
        (["--database", "sqlite:///x.db"], 1, "there is no file x.db"),
        (["--database", "mysql://x"], 2, "--database: the database URL has to begin with"),
        (["--database", "sqlite:///broken.db"], 1, "broken.db is something else"),
        ([], 2, "the admin API needs its key"),
    ],
)
def test_what_cannot_be_shown_is_explained(
    relay: Program, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database" * 500)
    shown = relay("usage", *arguments)
    assert shown.returncode == code
    assert said in shown.stderr
    assert not shown.stdout
    assert not (tmp_path / "x.db").exists()


def test_what_the_relay_says_is_passed_on(
    relay: Program, running: RunningRelay, start_relay: StartRelay
) -> None:
    key = {"RELAY_ADMIN_KEY": KEY}
    wrong = relay("usage", "--url", running.root, "--group-by", "colour", env=key)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "cannot be grouped by 'colour'" in wrong.stderr
    off = start_relay(local="echo", admin_key=KEY)
    assert "database_url is none" in relay("usage", "--url", off.root, env=key).stderr
    refused = relay("usage", "--url", running.root, "--admin-key", "ak-other-0123456789")
    assert "the admin key is refused" in refused.stderr
