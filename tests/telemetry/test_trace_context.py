"""What the headers of a trace say, and what is no such header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.telemetry.trace_context import MAX_STATE_BYTES, Parent, read, write

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()


def said(parent: bytes, *states: bytes) -> Parent | None:
    return read([(b"traceparent", parent), *((b"tracestate", state) for state in states)])


def test_a_parent_is_read() -> None:
    assert said(PARENT) == Parent(int(TRACE, 16), int(SPAN, 16), 1, b"")
    assert said(PARENT[:-2] + b"00") == Parent(int(TRACE, 16), int(SPAN, 16), 0, b"")


def test_a_later_version_may_say_more() -> None:
    assert said(b"01" + PARENT[2:] + b"-what-the-future-brings") == said(PARENT)
    assert said(b"01" + PARENT[2:]) == said(PARENT)
    assert said(b"01" + PARENT[2:] + b"x") is None


def test_flags_that_nobody_knows_are_not_passed_on() -> None:
    found = said(PARENT[:-2] + b"ff")
    assert found is not None
    assert found.flags == 3


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        PARENT[:-1],
        PARENT + b"-",
        PARENT + b"-00",
        b" " + PARENT,
        PARENT.upper(),
        PARENT.replace(b"-", b"_"),
        b"ff" + PARENT[2:],
        b"0" + PARENT,
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE}-{SPAN}-0g".encode(),
        b"01" + PARENT[2:] + b"-" + b"x" * 600,
        PARENT.replace(b"a", "à".encode()),
    ],
)
def test_what_is_malformed_is_no_parent(parent: bytes) -> None:
    assert said(parent) is None


def test_two_parents_are_none() -> None:
    assert read([(b"traceparent", PARENT), (b"traceparent", PARENT)]) is None
    assert read([]) is None
    assert read([(b"tracestate", b"a=b")]) is None


@pytest.mark.parametrize(
    ("states", "passed_on"),
    [
        ([b"a=b"], b"a=b"),
        ([b"a=b", b"c=d"], b"a=b,c=d"),
        ([b"a=b, t@v=x:y;z"], b"a=b, t@v=x:y;z"),
        ([b"a=b,,c=d"], b"a=b,,c=d"),
        ([b"A=b"], b""),
        ([b"a=b=c"], b""),
        ([b"a"], b""),
        ([b"a=\xc3\xa0"], b""),
        ([b"a=b\r\nx: y"], b""),
        ([b",".join(b"k%d=v" % n for n in range(33))], b""),
        ([b"a=" + b"x" * 255, b"b=" + b"x" * 255], b""),
    ],
)
def test_a_state_is_passed_on_as_it_came_if_it_is_sane(
    states: list[bytes], passed_on: bytes
) -> None:
    found = said(PARENT, *states)
    assert found is not None
    assert found.state == passed_on


def test_what_is_written_stands_in_the_place_of_what_was_there() -> None:
    given = [(b"traceparent", b"x"), (b"accept", b"*/*"), (b"tracestate", b"y")]
    parent = (b"traceparent", b"00-" + b"0" * 31 + b"1-" + b"0" * 15 + b"2-01")
    assert write(given, 1, 2, 1, b"") == [(b"accept", b"*/*"), parent]
    assert write([], 1, 2, 1, b"a=b") == [parent, (b"tracestate", b"a=b")]
    assert given[0] == (b"traceparent", b"x")


@given(
    trace=st.integers(1, 2**128 - 1), span=st.integers(1, 2**64 - 1), flags=st.sampled_from([0, 1])
)
def test_what_is_written_is_read_again(trace: int, span: int, flags: int) -> None:
    assert read(write([], trace, span, flags, b"a=b")) == Parent(trace, span, flags, b"a=b")


@given(st.binary(max_size=700))
def test_nothing_that_a_client_sends_breaks_it(sent: bytes) -> None:
    found = said(PARENT, sent)
    assert found is not None
    assert len(found.state) <= MAX_STATE_BYTES
    assert said(sent) is None or said(sent) != Parent(0, 0, 0, b"")
