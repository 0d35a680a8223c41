"""Both stores, behind one fixture."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.stores import Store, open_store, prepare


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'relay.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """A store with its tables."""
    await prepare(store_url)
    store = open_store(store_url)
    yield store
    await store.aclose()
