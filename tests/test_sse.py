"""Events, cut at every offset."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.sse import DONE, EventParser, WholeEvents, comment, event, is_plain_stream

PLAIN = b'data: {"a":1}\n\ndata: {"b":"x"}\n\ndata: [DONE]\n\n'
TRANSCRIPTS: dict[str, tuple[bytes, list[bytes]]] = {
    "plain": (PLAIN, [b'{"a":1}', b'{"b":"x"}', b"[DONE]"]),
    "crlf": (PLAIN.replace(b"\n", b"\r\n"), [b'{"a":1}', b'{"b":"x"}', b"[DONE]"]),
    "cr": (PLAIN.replace(b"\n", b"\r"), [b'{"a":1}', b'{"b":"x"}', b"[DONE]"]),
    "mixed line ends": (
        b"data: a\r\n\rdata: b\n\r\ndata: c\r\r\ndata: d\n\r",
        [b"a", b"b", b"c", b"d"],
    ),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
    "byte order mark before a comment": (b"\xef\xbb\xbf: hi\n\ndata: a\n\n", [b"a"]),
    "byte order mark too late": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
    "a return within a line": (b"data: a\rdata: b\n\n", [b"a\nb"]),
    "comments": (b": ping\n\n:\n\n: one\n: two\ndata: a\n: three\ndata: b\n\n", [b"a\nb"]),
    "multi-line": (b"data: a\ndata:b\ndata\ndata:  c\n\n", [b"a\nb\n\n c"]),
    "other fields": (
        b"event: x\nid: 1\nretry: 5\nDATA: no\ndatas: no\n data: no\ndata: a\n\nid: 2\n\n",
        [b"a"],
    ),
    "empty data": (b"data\n\ndata\ndata\n\ndata:\n\ndata: \n\n", [b"", b"\n", b"", b""]),
    "blank lines": (b"\n\n\n\r\n\r\rdata: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
    "utf-8": ("data: Köln 東京 🚲\n\n".encode(), ["Köln 東京 🚲".encode()]),
    "no end": (b"data: a\n\ndata: b\n", [b"a"]),
    "no end of line": (b"data: a\n\ndata: b", [b"a"]),
    "colons": (b"data:a: b: c\n\n", [b"a: b: c"]),
    "nothing": (b"", []),
}

transcripts = pytest.mark.parametrize(
    ("stream", "expected"), TRANSCRIPTS.values(), ids=TRANSCRIPTS.keys()
)
noisy = st.lists(
    st.sampled_from([b"\r", b"\n", b"data: a", b"data:", b": c", b"x", b"\xef\xbb\xbf"])
)


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """Whole, at every one and every two offsets, and byte by byte."""
    yield [stream]
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            yield [stream[:first], stream[first:second], stream[second:]]
    yield [stream[i : i + 1] for i in range(len(stream))]


def cut(stream: bytes, offsets: list[int]) -> list[bytes]:
    return [stream[a:b] for a, b in pairwise(sorted({0, *offsets, len(stream)}))]


def parse(pieces: list[bytes], parser: EventParser | None = None) -> list[bytes]:
    parser = parser or EventParser()
    return [data for piece in pieces for data in parser.feed(piece)]


def whole_events(stream: bytes) -> int:
    """How many bytes of a stream end with a blank line, read one byte at a time."""
    end, line, previous = 0, True, 0
    for offset, byte in enumerate(stream, 1):
        if byte == 0x0A and previous == 0x0D:
            end = offset if end == offset - 1 else end
        elif byte in b"\r\n":
            end = offset if line else end
            line = True
        else:
            line = False
        previous = byte
    return end


class TestEventParser:
    @transcripts
    def test_every_cut_gives_the_same_events(self, stream: bytes, expected: list[bytes]) -> None:
        for pieces in cuts(stream):
            assert parse(pieces) == expected, pieces

    @given(noisy, st.lists(st.integers(0, 40)))
    def test_any_cut_of_any_bytes_gives_the_events_of_the_whole(
        self, units: list[bytes], offsets: list[int]
    ) -> None:
        stream = b"".join(units)
        assert parse(cut(stream, offsets)) == parse([stream])

    def test_an_event_is_known_as_soon_as_its_blank_line_begins(self) -> None:
        parser = EventParser()
        assert parser.feed(b"data: a\r\n\r") == [b"a"]
        assert parser.feed(b"\ndata: b\r\n") == []
        assert parser.feed(b"\r") == [b"b"]

    def test_the_usual_piece_may_follow_a_carriage_return(self) -> None:
        parser = EventParser()
        assert parser.feed(b"data: a\r\r") == [b"a"]
        assert parser.feed(b"data: b\n\n") == [b"b"]
        assert parser.feed(b"\ndata: c\n\n") == [b"c"]

    def test_an_event_of_the_longest_size_is_read_however_it_is_cut(self) -> None:
        stream = b"data: 1234\n\ndata: 5678\n\n"
        for pieces in cuts(stream):
            assert parse(pieces, EventParser(max_bytes=10)) == [b"1234", b"5678"]

    @pytest.mark.parametrize(
        "stream", [b"data: 12345\n\n", b"data: 12345", b"data:\ndata:\ndata:\n\n", b": 34567890 "]
    )
    def test_more_than_the_bound_is_not_held(self, stream: bytes) -> None:
        for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
            with pytest.raises(ValueError, match="longer than 10 bytes"):
                parse(pieces, EventParser(max_bytes=10))

    def test_a_large_event_may_come_in_many_pieces(self) -> None:
        text = b"x" * 3_000_000
        stream = b"data: " + text + b"\n\n"
        pieces = [stream[i : i + 1000] for i in range(0, len(stream), 1000)]
        assert parse(pieces) == [text]


class TestWholeEvents:
    @transcripts
    @pytest.mark.parametrize("max_bytes", [3, 1000])
    def test_no_byte_is_lost_or_moved_at_any_cut(
        self, stream: bytes, expected: list[bytes], max_bytes: int
    ) -> None:
        for pieces in cuts(stream):
            whole = WholeEvents(max_bytes=max_bytes)
            assert b"".join(map(whole.push, pieces)) + whole.tail() == stream

    @transcripts
    def test_what_went_out_ends_with_the_last_blank_line(
        self, stream: bytes, expected: list[bytes]
    ) -> None:
        for pieces in cuts(stream):
            whole, came, went = WholeEvents(), b"", b""
            for piece in pieces:
                came += piece
                went += whole.push(piece)
                assert len(went) == whole_events(came), pieces
                assert whole.between

    @given(noisy, st.lists(st.integers(0, 40)), st.integers(1, 20))
    def test_a_comment_between_events_changes_no_event(
        self, units: list[bytes], offsets: list[int], max_bytes: int
    ) -> None:
        stream = b"".join(units)
        whole = WholeEvents(max_bytes=max_bytes)
        out = whole.push(b"data: first\n\n")
        for piece in cut(stream, offsets):
            out += whole.push(piece)
            if whole.between:
                out += comment("ping")
        out += whole.tail()
        assert parse([out]) == parse([b"data: first\n\n" + stream])

    def test_the_usual_piece_is_not_copied(self) -> None:
        whole, piece = WholeEvents(), bytes(bytearray(PLAIN))
        assert whole.push(piece) is piece
        assert whole.tail() == b""

    def test_the_beginning_of_an_event_waits_for_its_end(self) -> None:
        whole = WholeEvents()
        assert whole.push(b"data: a\n\ndata: b") == b"data: a\n\n"
        assert whole.push(b"c\n") == b""
        assert whole.tail() == b"data: bc\n"
        assert whole.push(b"\ndata: d") == b"data: bc\n\n"
        assert whole.tail() == b"data: d"

    def test_a_long_event_passes_as_it_comes_until_it_ends(self) -> None:
        whole = WholeEvents(max_bytes=8)
        assert whole.push(b"data: 12") == b""
        assert whole.push(b"3") == b"data: 123"
        assert not whole.between
        assert whole.push(b"4\n") == b"4\n"
        assert whole.push(b"\ndata:") == b"\n"
        assert whole.between
        assert whole.tail() == b"data:"

    def test_a_long_event_may_end_with_a_usual_piece(self) -> None:
        whole = WholeEvents(max_bytes=8)
        assert whole.push(b"data: 123456") == b"data: 123456"
        assert whole.push(b"7\n\n") == b"7\n\n"
        assert whole.between
        assert whole.push(b"data:") == b""

    def test_a_long_beginning_behind_a_whole_event_passes(self) -> None:
        whole = WholeEvents(max_bytes=8)
        assert whole.push(b"data: a\n\ndata: 123") == b"data: a\n\ndata: 123"
        assert not whole.between
        assert whole.push(b"\r\n") == b"\r\n"
        assert whole.push(b"\r\n") == b"\r\n"
        assert whole.between


class TestWriting:
    def test_an_event_is_one_data_line(self) -> None:
        assert event("Köln") == "data: Köln\n\n".encode()
        assert event(b"[DONE]") == DONE

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_any_text_comes_back_from_its_event(self, text: str) -> None:
        expected = text.replace("\r\n", "\n").replace("\r", "\n").encode()
        assert EventParser().feed(event(text)) == [expected]

    def test_a_lone_surrogate_is_replaced(self) -> None:
        assert event("a\ud800b") == b"data: a?b\n\n"

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_a_comment_is_skipped_by_readers(self, text: str) -> None:
        assert parse([comment(text), event("a")]) == [b"a"]

    def test_a_comment_is_one_line(self) -> None:
        assert comment("ping") == b": ping\n\n"


@pytest.mark.parametrize(
    ("headers", "plain"),
    [
        ([(b"content-type", b"text/event-stream")], True),
        ([(b"content-type", b"Text/Event-Stream ; charset=utf-8")], True),
        ([(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")], False),
        ([(b"content-type", b"text/event-streams")], False),
        ([(b"content-type", b"application/json")], False),
        ([], False),
    ],
)
def test_a_plain_stream_of_events_is_known_by_its_head(
    headers: list[tuple[bytes, bytes]], plain: bool
) -> None:
    assert is_plain_stream(headers) is plain
