"""What goes out on a client's connection: how an answer is framed, and what cannot be one."""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from wire import Reply, Wire, serving

from relay.errors import InvalidRequest
from relay.web.exchange import Exchange

TEXT = (b"content-type", b"text/plain")
GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n"

Sending = Callable[[Exchange], Awaitable[None]]


def length(count: int) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % count)


async def at_once(exchange: Exchange) -> None:
    exchange.answer(200, [TEXT], b"one two")


async def in_pieces(exchange: Exchange) -> None:
    exchange.begin(200, [TEXT])
    exchange.write(b"one")
    exchange.write(b"")
    exchange.write(b" two")
    exchange.end()


async def in_pieces_of_a_length(exchange: Exchange) -> None:
    exchange.begin(200, [length(7)])
    exchange.write(b"one")
    exchange.end(b" two")


async def by_asgi(exchange: Exchange) -> None:
    await exchange.send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    await exchange.send({"type": "http.response.body", "body": b"one", "more_body": True})
    await exchange.send({"type": "http.response.body", "body": b" two"})


async def by_asgi_with_a_length(exchange: Exchange) -> None:
    await exchange.send({"type": "http.response.start", "status": 200, "headers": [length(7)]})
    await exchange.send({"type": "http.response.body", "body": b"one two"})


WAYS = [at_once, in_pieces, in_pieces_of_a_length, by_asgi, by_asgi_with_a_length]
TELLING = (at_once, in_pieces_of_a_length, by_asgi_with_a_length)


def ask(sending: Sending, request: bytes = GET, *, again: bool = True) -> Reply:
    """One answer; then the connection serves another request, or is closed."""

    async def answer(exchange: Exchange) -> None:
        await sending(exchange)
        assert exchange.answered

    with serving(answer) as served, Wire(served.port) as wire:
        method = "HEAD" if request is HEAD else "GET"
        reply = wire.ask(request, method=method)
        if again:
            assert wire.ask(request, method=method) == reply
        else:
            assert wire.rest() == b""
        return reply


def cut(sending: Sending, request: bytes = GET) -> bytes:
    """What is received of an answer that is cut, without the head's own lines."""
    with serving(sending) as served, Wire(served.port) as wire:
        wire.send(request)
        return wire.rest().rpartition(b"\r\n\r\n")[2]


# Framing


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_has_a_length_or_chunks(way: Sending) -> None:
    reply = ask(way)
    assert (reply.version, reply.status, reply.body) == ("HTTP/1.1", 200, b"one two")
    framing = set(reply.headers) & {"content-length", "transfer-encoding"}
    assert framing == {"content-length" if way in TELLING else "transfer-encoding"}


@pytest.mark.parametrize("way", WAYS)
def test_an_old_client_gets_no_chunks_and_is_closed(way: Sending) -> None:
    reply = ask(way, GET_1_0, again=False)
    assert reply.body == b"one two"
    assert reply.headers["connection"] == "close"
    assert "transfer-encoding" not in reply.headers


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_to_head_has_no_body(way: Sending) -> None:
    assert ("content-length" in ask(way, HEAD).headers) == (way in TELLING)


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body_has_none(status: int) -> None:
    async def nothing(exchange: Exchange) -> None:
        exchange.begin(status, [])
        exchange.end()

    reply = ask(nothing)
    assert reply.status == status
    assert not {"content-length", "transfer-encoding"} & set(reply.headers)


def test_the_head_leaves_with_the_first_bytes_of_the_body() -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.begin(299, [(b"connection", b"close"), (b"transfer-encoding", b"gzip")])
        exchange.end(b"all")

    reply = ask(answer, again=False)
    assert (reply.status, reply.body) == (299, b"all")
    assert reply.headers["transfer-encoding"] == "chunked"
    assert reply.headers["connection"] == "close"


def test_an_answer_may_keep_a_connection_in_so_many_words() -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.begin(200, [(b"connection", b"keep-alive"), length(0)])
        exchange.end()

    assert "connection" not in ask(answer).headers


# What cannot be an answer


@pytest.mark.parametrize(
    "value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b", b"a\r\n\r\n<html>"]
)
def test_a_header_with_a_line_break_is_never_sent(value: bytes) -> None:
    async def split(exchange: Exchange) -> None:
        exchange.begin(200, [(b"x-name", value)])
        exchange.end(b"body")

    check_internal_error(split)


def check_internal_error(sending: Sending) -> None:
    with serving(sending) as served, Wire(served.port) as wire:
        reply = wire.ask(GET)
        assert (reply.status, reply.headers["connection"]) == (500, "close")
        assert json.loads(reply.body)["error"]["code"] == "internal_error"
        assert wire.rest() == b""


def test_whoever_fails_before_his_answer_is_answered_for() -> None:
    async def fail(_: Exchange) -> None:
        raise ValueError("secret")

    check_internal_error(fail)


@pytest.mark.parametrize("way", ["fails", "returns"])
def test_whoever_stops_within_his_answer_has_it_cut(way: str) -> None:
    async def stop(exchange: Exchange) -> None:
        exchange.begin(200, [])
        exchange.write(b"begun")
        if way == "fails":
            raise ValueError(way)

    assert cut(stop) in (b"", b"5\r\nbegun\r\n")


def test_whoever_does_not_answer_has_his_connection_cut() -> None:
    async def nothing(_: Exchange) -> None: ...

    assert cut(nothing) == b""


@pytest.mark.parametrize("last", [b"", b"1234", b"123456"])
def test_an_answer_of_another_length_than_it_told_is_cut(last: bytes) -> None:
    failures: list[str] = []

    async def wrong(exchange: Exchange) -> None:
        exchange.begin(200, [length(5)])
        for _ in range(2):  # a second attempt makes it no better
            try:
                exchange.end(last) if len(last) < 5 else exchange.write(last)
            except RuntimeError as exc:
                failures.append(str(exc))
        if len(last) < 5:
            return
        with suppress(RuntimeError):
            exchange.end()

    assert cut(wrong) == b""
    assert failures == ["the body does not have the length that its head tells"] * 2


def test_nothing_comes_behind_the_end() -> None:
    raised: list[Exception] = []

    async def insist(exchange: Exchange) -> None:
        exchange.begin(200, [])
        exchange.end(b"all")
        assert exchange.end(b"more") is None
        try:
            await exchange.send({"type": "http.response.body", "body": b"more"})
        except RuntimeError as exc:
            raised.append(exc)

    assert ask(insist).body == b"all"
    assert [str(exc) for exc in raised] == ["the answer has ended"] * 2


def test_an_error_may_stand_for_an_answer() -> None:
    async def refuse(exchange: Exchange) -> None:
        exchange.refuse(InvalidRequest("No."))

    reply = ask(refuse, again=False)
    assert (reply.status, json.loads(reply.body)["error"]["message"]) == (400, "No.")
