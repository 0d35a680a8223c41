"""A tape: events numbered as they come, one reader at a time, a bound on all of it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import EventsGone, UpstreamProtocol
from relay.sse import MAX_EVENT_BYTES
from relay.types import Identity
from relay.web.shelf import Shelf
from relay.web.tape import PING_LINE, Room, Tape

ROOM = Room(keep_s=30, stream_bytes=4096, streams=10, streams_per_key=10)


def tape(room: Room = ROOM) -> Tape:
    made = Shelf().open(Identity("a"), room)
    assert made is not None
    return made


def read(tape: Tape, after: int = 0) -> list[bytes]:
    """The lines of what there is."""
    with tape.take(after) as reader:
        return tape.next_for(reader).split(b"\n")


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    asyncio.run(run())


EVENTS = st.lists(
    st.sampled_from(
        [
            b'data: {"a": 1}\n\n',
            b"data: one\ndata: two\n\n",
            b"event: error\r\ndata: x\r\n\r\n",
            b"id: theirs\ndata: mine\n\n",
            b"data\n\n",
            b"\xef\xbb\xbfdata: first\n\n",
        ]
    ),
    max_size=9,
)


@given(events=EVENTS, cut=st.integers(1, 40))
@example(events=[b"data: x\r\n\r\n", b"\xef\xbb\xbfdata: first\n\n"], cut=10)
def test_events_are_numbered_wherever_their_bytes_were_cut(events: list[bytes], cut: int) -> None:
    async def work() -> None:
        kept = tape()
        whole = b"".join(events)
        for start in range(0, len(whole), cut):
            assert kept.write(whole[start : start + cut]) is None
        kept.end()
        lines = read(kept)
        ids = [line for line in lines if line.startswith(b"id")]
        assert ids == [b"id: %b.%d" % (kept.name.encode(), n + 1) for n in range(len(events))]
        data = [line.rstrip(b"\r") for line in lines if line.startswith(b"data")]
        wanted = [line for event in events for line in event.splitlines() if b"data" in line]
        assert data == [line.removeprefix(b"\xef\xbb\xbf") for line in wanted]
        kept.close()

    in_loop(work)


def test_an_end_without_an_empty_line_ends_an_event_all_the_same() -> None:
    async def work() -> None:
        kept = tape()
        kept.write(b"data: a\n\ndata: [DO")
        kept.end(b"NE]\n")
        kept.end()  # a second end is none
        assert read(kept, 1)[1:] == [b"data: [DONE]", b"", b""]
        assert kept.last == 2

    in_loop(work)


def test_comments_are_for_those_who_listen_and_are_not_kept() -> None:
    async def work() -> None:
        kept = tape()
        kept.write(b": nobody\n\n")
        kept.write(PING_LINE)
        with kept.take(0) as reader:
            kept.write(b": processing\n\n")
            kept.write(PING_LINE)
            assert kept.next_for(reader) == b": processing\n: ping\n"
            assert kept.next_for(reader) == b""
        assert kept.last == 0

    in_loop(work)


def test_a_writer_waits_for_a_slow_reader_and_goes_on_when_it_has_left() -> None:
    async def work() -> None:
        kept = tape(Room(30, 1024, 1, 1))
        event = b"data: %b\n\n" % (b"x" * 600)
        with kept.take(0) as reader:
            assert kept.write(event) is None
            wait = kept.write(event)
            assert wait is not None
            waiting = asyncio.ensure_future(wait)
            await asyncio.sleep(0)
            assert not waiting.done()
            kept.next_for(reader)
            await waiting
            kept.write(event)
            with pytest.raises(EventsGone):
                kept.take(0)
        full = kept.write(event)
        assert full is not None  # nobody reads, and there is no room
        waiting = asyncio.ensure_future(full)
        with kept.take(kept.last):
            await waiting

    in_loop(work)


def test_an_event_that_never_ends_is_an_error() -> None:
    async def work() -> None:
        kept = tape()
        piece = b"data: " + b"x" * (MAX_EVENT_BYTES // 2)
        assert kept.write(piece) is None
        assert kept.write(piece) is None or True
        wait = kept.write(piece)
        assert wait is not None
        with pytest.raises(UpstreamProtocol):
            await wait

    in_loop(work)
