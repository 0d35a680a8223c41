"""Which counters a relay uses, by its settings."""

import sys
from pathlib import Path

import pytest

from relay.settings import Settings, SettingsError
from relay.stores.counters import count_for_workers, open_counters
from relay.stores.counters.memory import MemoryCounters
from relay.stores.counters.redis import RedisCounters
from relay.stores.counters.worker import WorkerCounters


def settings(tmp_path: Path, redis_url: str | None = None) -> Settings:
    return Settings(budget_journal=tmp_path / "journal", redis_url=redis_url)


async def test_it_is_redis_where_there_is_one_then_the_parent_then_memory(tmp_path: Path) -> None:
    redis = settings(tmp_path, "redis://:canary@127.0.0.1:1/0")
    found = [
        (open_counters(redis, socket="/a"), RedisCounters),
        (open_counters(settings(tmp_path), socket="/a"), WorkerCounters),
        (open_counters(settings(tmp_path)), MemoryCounters),
    ]
    for counters, kind in found:
        assert isinstance(counters, kind)
        await counters.aclose()
    assert list(tmp_path.iterdir()) == [], "nothing is opened before it is used"


async def test_what_the_parent_has_for_its_workers_is_removed_with_it(tmp_path: Path) -> None:
    counting = count_for_workers(settings(tmp_path))
    async with counting:
        await counting.serving()
        assert Path(counting.path).exists()
    assert not Path(counting.path).parent.exists()


@pytest.mark.parametrize("url", ["http://canary@h", "redis://h:canary/0", "canary"])
def test_an_address_that_is_none_is_said_so_without_showing_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="RELAY_REDIS_URL is no address") as raised:
        open_counters(settings(tmp_path, url))
    assert "canary" not in str(raised.value)


def test_the_extra_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "relay.stores.counters.redis", None)
    with pytest.raises(SettingsError, match=r"openai-relay\[redis\]"):
        open_counters(settings(tmp_path, "redis://h"))
