"""Which database a URL names, and what of it may be shown."""

import subprocess
import sys

import pytest

from relay.stores import open_store
from relay.stores.url import parse_store_url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relay.db", "relay.db"),
        ("sqlite:////var/lib/relay.db", "/var/lib/relay.db"),
        ("sqlite:///a%20b/%23.db", "a b/#.db"),
    ],
)
def test_an_sqlite_url_names_a_file(url: str, path: str):
    where = parse_store_url(url)
    assert (where.kind, where.path, where.shown) == ("sqlite", path, path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@db:5432/relay", "postgresql://db:5432/relay"),
        ("postgres://db/relay?password=secret", "postgresql://db/relay"),
        ("postgresql://u:secret@a:1,b:2/relay?sslmode=require", "postgresql://a:1,b:2/relay"),
        ("postgresql://u:sec%2Fret@[::1]:5432/relay", "postgresql://[::1]:5432/relay"),
        ("postgresql:///relay?host=/run/postgresql&user=u", "postgresql:///relay"),
        ("postgresql://u:s@secret@db/relay", "postgresql://db/relay"),
    ],
)
def test_a_postgres_url_shows_no_user_and_no_password(url: str, shown: str):
    where = parse_store_url(url)
    assert (where.kind, where.dsn, where.shown) == ("postgres", url, shown)
    assert "secret" not in repr(where)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.db",
        "sqlite://secret/relay.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "mysql://u:secret@db/relay",
        "postgresql//u:secret@db/relay",
        "postgresql://u:/secret@db/relay",
        "postgresql://u:?secret@db/relay",
        "postgresql://u:#secret",
        "postgresql://u:secret#@db/relay",
    ],
)
def test_another_one_is_refused_without_showing_it(url: str):
    with pytest.raises(ValueError, match=r"the database URL|in the database URL") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_opening_a_store_opens_nothing(tmp_path):
    open_store(f"sqlite:///{tmp_path / 'relay.db'}")
    assert list(tmp_path.iterdir()) == []


WITHOUT_ASYNCPG = """
import sys
sys.modules["asyncpg"] = None
from relay.stores import open_store
try:
    open_store("postgresql://u:secret@db/relay")
except ValueError as exc:
    print(exc)
"""

LOADED = """
import sys
from relay.stores import open_store
open_store("sqlite:///relay.db")
print(*(name for name in ("alembic", "sqlalchemy", "asyncpg") if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            WITHOUT_ASYNCPG,
            "the database URL names a PostgreSQL: install openai-relay[postgres] for that",
        ),
        (LOADED, ""),
    ],
)
def test_a_driver_is_loaded_where_it_is_needed(program: str, said: str):
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said
