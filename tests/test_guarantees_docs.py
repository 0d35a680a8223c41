"""docs/guarantees.md: every promise names tests, and all of them are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
GUIDE = (TESTS.parent / "docs" / "guarantees.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.*?) \| (.*) \|$", GUIDE, re.M)


def test_there_are_all_of_them() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 26))


@pytest.mark.parametrize(("number", "named"), [(row[0], row[2]) for row in ROWS])
def test_each_is_held_by_tests_that_are_there(number: str, named: str) -> None:
    tests = re.findall(r"`([\w/.]+)::(\w+)`", named)
    assert tests, f"nothing holds promise {number}"
    for file, name in tests:
        source = (TESTS / file).read_text(encoding="utf-8")
        assert re.search(rf"def {name}\(", source), f"{file} has no {name}"


def test_tests_that_are_named_after_a_promise_are_in_its_row() -> None:
    rows = {number: named for number, _, named in ROWS}
    for path in TESTS.rglob("test_*.py"):
        for name, number in re.findall(r"def (test_(\d+)_\w+)\(", path.read_text(encoding="utf-8")):
            if number in rows:
                assert f"::{name}`" in rows[number], f"{path.name} has {name}"
