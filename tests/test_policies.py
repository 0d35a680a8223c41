"""Whom each policy asks first."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from relay.health import Health
from relay.policies import load_policy
from relay.settings import BreakerSettings, SettingsError
from relay.types import Call

CALL = Call(path="chat/completions")


@dataclass
class Place:
    name: str
    weight: float = 1.0
    health: Health = field(default_factory=lambda: Health(BreakerSettings()))


def order(policy: str, targets: Sequence[Place]) -> list[str]:
    return [target.name for target in load_policy(policy)(targets, CALL)]


def firsts(policy: str, targets: Sequence[Place], times: int = 2000) -> Counter[str]:
    return Counter(order(policy, targets)[0] for _ in range(times))


@pytest.mark.parametrize("policy", ["first", "weighted", "least-latency", "least-busy"])
def test_everyone_follows_once(policy: str) -> None:
    targets = [Place("a"), Place("b", 2), Place("c", 3)]
    for _ in range(50):
        assert sorted(order(policy, targets)) == ["a", "b", "c"]


def test_first_keeps_the_order() -> None:
    assert order("first", [Place("b"), Place("a")]) == ["b", "a"]


def test_weights_are_shares() -> None:
    counted = firsts("weighted", [Place("a", 9), Place("b", 1)])
    assert 1650 < counted["a"] < 1950  # 1800 and six standard deviations on either side


def test_the_slower_of_two_is_not_asked_first() -> None:
    slow, fast = Place("slow"), Place("fast")
    for place, latency_s in ((slow, 2.0), (fast, 0.1)):
        place.health.answered(latency_s, place.health.now())
    assert firsts("least-latency", [slow, fast], 50) == {"fast": 50}
    for _ in range(100):
        fast.health.begin()
    assert firsts("least-latency", [slow, fast], 50) == {"slow": 50}


def test_of_many_the_fastest_does_not_get_everything() -> None:
    places = [Place(name) for name in "abcd"]
    for number, place in enumerate(places):
        place.health.answered(1.0 + number, place.health.now())
    counted = firsts("least-latency", places)
    assert 800 < counted["a"] < 1200  # it is one of the two in half of the draws
    assert counted["d"] == 0


def test_the_least_busy_is_asked_first_and_weights_count() -> None:
    small, large = Place("small"), Place("large", weight=4)
    small.health.begin()
    for _ in range(3):
        large.health.begin()
    assert order("least-busy", [small, large]) == ["large", "small"]
    large.health.begin()
    large.health.begin()
    assert order("least-busy", [small, large]) == ["small", "large"]


def test_a_policy_of_ones_own_is_found_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_policies")
    module.backwards = lambda targets, _: targets[::-1]  # type: ignore[attr-defined]
    module.number = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_policies", module)
    assert order("own_policies:backwards", [Place("a"), Place("b")]) == ["b", "a"]
    with pytest.raises(SettingsError, match="cannot be called"):
        load_policy("own_policies:number")
    with pytest.raises(SettingsError, match="AttributeError"):
        load_policy("own_policies:missing")


def test_a_policy_of_ones_own_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pointed.py").write_text("def last(targets, call):\n    return targets[-1:]\n")
    info = tmp_path / "pointed-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pointed\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[relay.policies]\nlast = pointed:last\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert order("last", [Place("a"), Place("b")]) == ["b"]
    with pytest.raises(SettingsError, match=r"first, weighted, .*, last"):
        load_policy("fastest")
