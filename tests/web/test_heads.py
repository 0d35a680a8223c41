"""A head that is known again says what the parser would say."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire import Served, Wire, serving

from relay.types import RawHeaders
from relay.web.exchange import Exchange
from relay.web.heads import Headers, KnownHead

LINE = ("POST", b"/v1/x", "/v1/x", "1.1")


async def echo(exchange: Exchange) -> None:
    """Answer with all that was understood of the request."""
    body = exchange.take()
    while exchange.unread or body is None:
        message = await exchange.receive()
        body = (body or b"") + message["body"]
    told = {
        "line": [exchange.method, exchange.target.decode(), exchange.path, exchange.version],
        "pairs": [[name.decode(), value.decode()] for name, value in exchange.headers],
        "named": {name.decode(): value.decode() for name, value in exchange.head.named.items()},
        "count": exchange.head.made(len),
        "body": body.decode(),
    }
    exchange.answer(200, [], json.dumps(told).encode())


@pytest.fixture(scope="module")
def echoing() -> Iterator[Served]:
    with serving(echo) as served:
        yield served


def request(
    body: str, *headers: str, line: str = "POST /v1/x?y=%20", name: str = "Content-Length"
) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: h", f"{name}: {len(body)}", *headers]
    return "\r\n".join([*lines, "", body]).encode()


REQUESTS = st.builds(
    lambda body, headers, line, name: request(body, *headers, line=line, name=name),
    st.text("ab1\r\n", max_size=12),
    st.lists(
        st.sampled_from(
            ["X-One: 1", "X-One: 2", "x-two: content-length: 3", "Authorization: Bearer k", "A:"]
        ),
        max_size=3,
    ),
    st.sampled_from(["POST /v1/x?y=%20", "POST /v1/x", "PUT /v1/x"]),
    st.sampled_from(["Content-Length", "content-length"]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(REQUESTS, st.integers(1, 3), st.none() | st.integers(1, 200)), max_size=4)
)
def test_what_is_told_of_a_request_does_not_depend_on_those_before(
    echoing: Served, rounds: list[tuple[bytes, int, int | None]]
) -> None:
    with Wire(echoing.port) as kept:
        for data, times, cut in rounds:
            with Wire(echoing.port) as fresh:
                expected = fresh.ask(data).body
            for _ in range(times):
                kept.send(data[:cut])
                kept.send(data[len(data[:cut]) :])
                assert kept.read().body == expected


def test_a_request_that_comes_again_with_another_body_is_read_with_that(echoing: Served) -> None:
    with Wire(echoing.port) as wire:
        for body in ("{}", "{}", "x" * 1234, "", "{}"):
            told = json.loads(wire.ask(request(body, "Accept: */*")).body)
            assert told["body"] == body
            assert told["named"]["content-length"] == str(len(body))
            assert ["content-length", str(len(body))] in told["pairs"]
            assert told["count"] == 3


def test_requests_that_come_at_once_are_all_answered(echoing: Served) -> None:
    with Wire(echoing.port) as wire:
        wire.ask(request("1"))
        wire.send(request("22") + request("333") + request("4444")[:-2])
        assert [json.loads(wire.read().body)["body"] for _ in range(2)] == ["22", "333"]
        wire.send(b"44" + request("1"))
        assert [json.loads(wire.read().body)["body"] for _ in range(2)] == ["4444", "1"]


def test_what_is_no_repetition_is_still_refused(echoing: Served) -> None:
    with Wire(echoing.port) as wire:
        wire.ask(request("1"))
        wire.ask(request("1"))
        broken = request("1").replace(b"Content-Length: 1", b"Content-Length: +1")
        assert wire.ask(broken).status == 400


def test_a_client_whose_heads_all_differ_is_served_like_any_other(echoing: Served) -> None:
    with Wire(echoing.port) as wire:
        for number in [*range(6), 5, 5]:
            told = json.loads(wire.ask(request("{}", f"x-number: {number}")).body)
            assert told["named"]["x-number"] == str(number)


def test_only_the_same_bytes_are_the_same_head() -> None:
    data = request("{}")
    head = Headers([(b"host", b"h"), (b"content-length", b"2")])
    known = KnownHead.learn(data, LINE, head)
    assert known is not None
    assert known.read(data) == b"{}"
    assert known.headers is head
    for other in (
        data + b"P",  # the next one has begun
        data[:-1],
        data.replace(b"Host", b"host"),
        data.replace(b": 2", b": 02 "),
        data.replace(b"Length: 2", b"Length: " + b"0" * 12 + b"2"),
        data.replace(b"Length: 2", b"Length:"),
        data[:20],
        b"",
    ):
        assert known.read(other) is None
    longer = data.replace(b": 2", b": 3") + b" "
    assert known.read(longer) == b"{} "
    assert known.headers.named == {b"host": b"h", b"content-length": b"3"}


def test_a_head_without_a_length_is_not_kept() -> None:
    data = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
    assert KnownHead.learn(data, LINE, Headers([(b"host", b"h")])) is None


def test_a_function_is_asked_once_for_a_head_that_comes_again() -> None:
    asked = []

    def count(pairs: RawHeaders) -> int:
        asked.append(pairs)
        return len(pairs)

    head = Headers([(b"content-length", b"2")])
    assert [headers.made(count) for headers in (head, head, head.with_length(b"3"))] == [1, 1, 1]
    assert len(asked) == 1
