from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_upstream import FakeUpstream

from cli.program import Program


@pytest.fixture
def relay(tmp_path: Path) -> Program:
    """The `relay` command, in an empty directory and without settings."""
    return Program(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeUpstream]:
    """An OpenAI-format server that wants the key `sk-canary`."""
    with FakeUpstream.in_thread(key="sk-canary") as fake:
        yield fake
