"""What is remembered of one upstream's models, and when it is asked again."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_upstream import FakeUpstream, Gate, Script
from transcripts import models_body

from relay.errors import UpstreamProtocol
from relay.settings import UpstreamSettings
from relay.types import Backend
from relay.upstream import open_upstream
from relay.web.catalogue import Catalogue
from relay.web.listing import (
    FAILED_S,
    FRESH_S,
    MAX_LIST_BYTES,
    MAX_MODELS,
    STALE_S,
    Listing,
    read_cards,
)


class Clock:
    """A time that a test moves by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def backend(fake: FakeUpstream) -> AsyncIterator[Backend]:
    backend = open_upstream(UpstreamSettings(name="eu", base_url=fake.url))
    yield backend
    await backend.aclose()


@pytest.fixture
async def listing(backend: Backend, clock: Clock) -> AsyncIterator[Listing]:
    listing = Listing(backend, clock=clock)
    yield listing
    await listing.aclose()


def ids(listing: Listing) -> list[str] | None:
    return None if listing.cards is None else [card.id for card in listing.cards]


async def asked(listing: Listing) -> None:
    """Refresh it, and wait also where that is not worth while."""
    listing.refresh()
    if listing._asking is not None:
        await asyncio.wait([listing._asking])


async def test_a_list_is_asked_for_once_a_minute(
    listing: Listing, fake: FakeUpstream, clock: Clock
) -> None:
    assert ids(listing) is None
    task = listing.refresh()
    assert task is not None
    await task
    assert ids(listing) == ["fake-1", "fake-2"]
    clock.now_s += FRESH_S - 1
    await asked(listing)
    assert len(fake.requests) == 1
    clock.now_s += 1
    await asked(listing)
    assert len(fake.requests) == 2


async def test_many_who_ask_at_once_cause_one_request(listing: Listing, fake: FakeUpstream) -> None:
    tasks = [listing.refresh() for _ in range(50)]
    assert len(set(tasks)) == 1
    await asked(listing)
    assert len(fake.requests) == 1


async def test_an_old_list_is_given_while_a_newer_one_is_fetched(
    listing: Listing, fake: FakeUpstream, clock: Clock
) -> None:
    await asked(listing)
    gate = Gate()
    fake.answer(Script(body=models_body("newer"), gate=gate))
    clock.now_s += FRESH_S
    assert listing.refresh() is None
    assert ids(listing) == ["fake-1", "fake-2"]
    gate.open()
    await asked(listing)
    assert ids(listing) == ["newer"]


async def test_a_failure_keeps_the_list_for_an_hour_and_is_not_repeated_at_once(
    listing: Listing, fake: FakeUpstream, clock: Clock
) -> None:
    await asked(listing)
    fake.answer(Script(status=500))
    clock.now_s += FRESH_S
    await asked(listing)
    await asked(listing)
    assert len(fake.requests) == 2
    clock.now_s += FAILED_S
    await asked(listing)
    assert len(fake.requests) == 3
    assert ids(listing) == ["fake-1", "fake-2"]
    clock.now_s += STALE_S
    assert ids(listing) is None


async def test_who_has_failed_is_not_waited_for_again_and_may_come_back(
    listing: Listing, fake: FakeUpstream, clock: Clock
) -> None:
    fake.answer(Script(status=503), times=1)
    await asked(listing)
    assert ids(listing) is None
    assert listing.refresh() is None
    clock.now_s += FAILED_S
    assert listing.refresh() is None
    await asked(listing)
    assert ids(listing) == ["fake-1", "fake-2"]


async def test_a_list_older_than_an_hour_is_waited_for(listing: Listing, clock: Clock) -> None:
    await asked(listing)
    clock.now_s += STALE_S
    task = listing.refresh()
    assert task is not None
    await task
    assert ids(listing) == ["fake-1", "fake-2"]


async def test_a_silent_upstream_is_given_up_and_its_connection_closed(
    backend: Backend, fake: FakeUpstream, clock: Clock
) -> None:
    fake.answer(Script(gate=Gate()))
    listing = Listing(backend, limit_s=0.05, clock=clock)
    await asked(listing)
    assert listing.cards is None
    await fake.until(lambda: fake.requests[0].closed_at is not None)


async def test_closing_ends_what_is_being_asked(listing: Listing, fake: FakeUpstream) -> None:
    fake.answer(Script(gate=Gate()))
    listing.refresh()
    await fake.until(lambda: fake.requests)
    await listing.aclose()
    await fake.until(lambda: fake.requests[0].closed_at is not None)
    assert listing.cards is None


async def test_an_answer_that_is_no_list_is_a_failure(listing: Listing, fake: FakeUpstream) -> None:
    fake.answer(Script(body=b"<html>Welcome</html>"))
    await asked(listing)
    assert listing.cards is None


@pytest.mark.parametrize(
    ("entry", "created", "owner"),
    [
        pytest.param(
            {"id": "m", "object": "model", "created": 1686935002, "owned_by": "openai"},
            1686935002,
            "openai",
            id="openai",
        ),
        pytest.param(
            {"id": "m", "status": "succeeded", "created_at": 1646092800, "object": "model"},
            1646092800,
            "eu",
            id="azure",
        ),
        pytest.param(
            {"id": "m", "display_name": "M", "created_at": "2026-02-19T00:00:00Z"},
            1771459200,
            "eu",
            id="anthropic",
        ),
        pytest.param({"id": "m", "created": 1.5e9}, 1500000000, "eu", id="a broken number"),
        pytest.param({"id": "m"}, 0, "eu", id="the id alone"),
        pytest.param({"id": "m", "created": "yesterday", "owned_by": 7}, 0, "eu", id="nonsense"),
        pytest.param({"id": "m", "created": -1, "owned_by": ""}, 0, "eu", id="before all time"),
        pytest.param({"id": "m", "created": float("nan")}, 0, "eu", id="not a number"),
    ],
)
def test_each_form_of_a_model_is_understood(entry: Any, created: int, owner: str) -> None:
    (card,) = read_cards(json.dumps({"data": [entry]}).encode(), owner="eu")
    assert card.model_dump(exclude_none=True) == {
        "id": "m",
        "object": "model",
        "created": created,
        "owned_by": owner,
    }


def test_a_bare_array_is_a_list_too() -> None:
    assert [card.id for card in read_cards(b'[{"id": "a"}, {"id": "b"}]', owner="eu")] == ["a", "b"]


def test_entries_that_name_no_model_are_passed_over() -> None:
    entries = [7, {}, {"id": 7}, {"id": ""}, {"id": "a\nb"}, {"id": "\ud800"}, {"id": "x" * 257}]
    body = json.dumps({"data": [*entries, {"id": "m"}, {"id": "m", "owned_by": "other"}]})
    assert [(card.id, card.owned_by) for card in read_cards(body.encode(), owner="eu")] == [
        ("m", "eu")
    ]


def test_only_so_many_models_are_kept() -> None:
    body = models_body(*(f"m{number}" for number in range(MAX_MODELS + 1)))
    cards = read_cards(body, owner="eu")
    assert (len(cards), cards[-1].id) == (MAX_MODELS, f"m{MAX_MODELS - 1}")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"data": {}}', id="an object"),
        pytest.param(b'{"models": []}', id="other names"),
        pytest.param(b"[" * 100_000, id="depth"),
        pytest.param(b" " * MAX_LIST_BYTES + b"[]", id="too much"),
    ],
)
def test_what_is_no_list_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(UpstreamProtocol, match="'eu'"):
        read_cards(body, owner="eu")


async def test_a_catalogue_that_is_closed_asks_no_longer(
    backend: Backend, fake: FakeUpstream
) -> None:
    fake.answer(Script(gate=Gate()))
    catalogue = Catalogue(upstreams={"eu": backend, "us": backend})
    client = asyncio.create_task(catalogue.cards(local=False))
    await fake.until(lambda: len(fake.requests) == 2)
    client.cancel()
    await asyncio.wait([client])
    assert len(fake.open_connections) == 2  # who leaves does not end what others may wait for
    await catalogue.aclose()
    await fake.until(lambda: not fake.open_connections)
