"""Which local model a relay has, and when it is loaded."""

from collections.abc import Sequence
from typing import Any

import pytest

from relay.backends import open_backends
from relay.local import Standby, is_chosen, may_be_needed
from relay.local.echo import EchoModel
from relay.schema import ModelCard
from relay.settings import Settings, SettingsError

UPSTREAM = {"upstream_url": "http://127.0.0.1:1/v1"}


class Counting:
    """A backend that counts how often it was told to load."""

    name = "counting"

    def __init__(self) -> None:
        self.started = 0

    def cards(self) -> Sequence[ModelCard]:
        return []

    def start(self) -> None:
        self.started += 1

    def state(self) -> str:
        return "ready"

    async def complete(self, call: Any) -> Any: ...

    def stream(self, call: Any) -> Any: ...

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    ("given", "there", "chosen"),
    [
        ({}, True, False),
        (UPSTREAM, False, False),
        (UPSTREAM | {"local": "echo"}, True, True),
        (UPSTREAM | {"local": "echo", "mode": "remote"}, False, True),
        (UPSTREAM | {"mode": "local"}, True, False),
        (UPSTREAM | {"admin_key": "ak-1"}, True, False),
        (UPSTREAM | {"models": [{"id": "m", "targets": [{"local": True}]}]}, True, False),
    ],
)
def test_it_is_opened_where_it_may_be_asked(
    given: dict[str, Any], there: bool, chosen: bool
) -> None:
    settings = Settings(**given)
    assert (may_be_needed(settings), is_chosen(settings)) == (there, chosen)
    assert (open_backends(settings).standby is not None) == there
    handed_over = open_backends(settings, given=EchoModel()).standby
    assert handed_over is not None
    assert handed_over.chosen


@pytest.mark.parametrize(
    ("chosen", "needed", "at_start"),
    [(True, False, 1), (False, True, 1), (True, True, 1), (False, False, 0)],
)
def test_it_is_loaded_at_the_start_or_when_it_is_needed_and_once(
    chosen: bool, needed: bool, at_start: int
) -> None:
    backend = Counting()
    standby = Standby(backend, chosen=chosen, needed=needed)
    standby.start()
    assert backend.started == at_start
    standby.load()
    standby.load()
    assert backend.started == 1


def test_a_chosen_one_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(SettingsError, match="there is no local backend"):
        open_backends(Settings(**UPSTREAM, local="nothing"))
