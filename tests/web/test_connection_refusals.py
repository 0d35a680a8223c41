"""What a connection does not take: what is no request, and what is too much of one."""

from collections.abc import Iterator

import pytest
from fake_script import Bell
from wire import CHUNKED, Served, Stage, Wire, body_of, check_refusal, get, post, serving, tell

from relay.web.connection import MAX_HEAD_BYTES, MAX_HEADERS
from relay.web.exchange import HIGH_WATER_BYTES, Exchange


@pytest.fixture(scope="module")
def teller() -> Iterator[Served]:
    with serving(tell) as served:
        yield served


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def staged(stage: Stage) -> Iterator[Served]:
    with serving(stage.answer) as served:
        yield served
        stage.gate.open()


# What is no request


@pytest.mark.parametrize(
    "nonsense",
    [
        b"NONSENSE / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/3.7\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nname: a\x00b\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"GET /?\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"CONNECT h:80 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"1\r\nxyz\r\n",
        get("/", "connection: upgrade", "upgrade: websocket"),
    ],
)
def test_what_is_no_http_is_400_and_the_end(teller: Served, nonsense: bytes) -> None:
    with Wire(teller.port) as wire:
        wire.send(nonsense)
        check_refusal(wire)


def test_no_byte_of_a_target_is_a_fault_of_ours(teller: Served) -> None:
    for byte in range(256):
        for target in (b"/a" + bytes([byte]) + b"b", b"/?a" + bytes([byte]) + b"b"):
            with Wire(teller.port) as wire:
                wire.send(b"GET " + target + b" HTTP/1.1\r\nhost: h\r\n\r\n")
                assert wire.read().status in (200, 400), target


def test_a_body_that_breaks_off_before_its_answer_is_400(staged: Served, stage: Stage) -> None:
    with Wire(staged.port) as wire:
        wire.send(CHUNKED + b"1\r\nx\r\n")
        stage.wait_for(lambda: stage.came)
        wire.send(b"zz\r\n")
        check_refusal(wire)
    stage.wait_for(lambda: stage.left)


def test_a_body_that_breaks_off_in_its_answer_cuts_that() -> None:
    stage = Stage()

    async def begin(exchange: Exchange) -> None:
        exchange.begin(200, [])
        exchange.write(b"begun")
        exchange.on_leave = lambda: stage.note(exchange.path)
        await body_of(exchange)

    with serving(begin) as served, Wire(served.port) as wire:
        wire.send(CHUNKED + b"1\r\nx\r\n")
        assert wire.head()[1] == 200
        wire.send(b"zz\r\n")
        assert wire.rest() == b"5\r\nbegun\r\n"
        stage.wait_for(lambda: stage.left)


def test_a_body_that_breaks_off_behind_its_answer_is_just_closed() -> None:
    async def hasty(exchange: Exchange) -> None:
        exchange.answer(401, [], b"no")

    with serving(hasty) as served, Wire(served.port) as wire:
        assert wire.ask(CHUNKED + b"1\r\nx\r\n").status == 401
        wire.send(b"zz\r\n")
        assert wire.rest() == b""


def test_the_rest_of_a_body_that_nobody_wants_is_skipped() -> None:
    async def hasty(exchange: Exchange) -> None:
        exchange.answer(401, [], b"no")

    body = b"x" * HIGH_WATER_BYTES * 10
    with serving(hasty) as served, Wire(served.port) as wire:
        request = post(body)
        assert wire.ask(request[:100]).body == b"no"
        wire.send(request[100:])
        assert wire.ask(get("/")).body == b"no"


# Bounds


def test_a_head_that_is_too_large_is_431(teller: Served) -> None:
    with Wire(teller.port) as wire:
        wire.send(get("/", "x: " + "y" * MAX_HEAD_BYTES))
        assert check_refusal(wire, 431)["code"] == "request_too_large"


def test_a_head_may_be_as_large_as_is_allowed(teller: Served) -> None:
    with Wire(teller.port) as wire:
        wire.send(get("/", "x: " + "y" * (MAX_HEAD_BYTES - 100)))
        assert wire.read().status == 200


@pytest.mark.parametrize("start", [b"GET /", get("/")[:-2] + b"x: "])
def test_a_head_that_only_grows_is_431(teller: Served, start: bytes) -> None:
    with Wire(teller.port) as wire:
        wire.send(start)
        for _ in range(MAX_HEAD_BYTES // 1024):
            wire.send(b"y" * 1024)
        check_refusal(wire, 431)


@pytest.mark.parametrize("start", [b"0\r\na: b\r\nx: ", b"1;x="])
def test_what_grows_between_the_pieces_of_a_body_is_431(start: bytes) -> None:
    bell = Bell()
    received: list[bytes] = []

    async def listen(exchange: Exchange) -> None:
        while (message := await exchange.receive())["type"] == "http.request":
            received.append(message["body"])
            bell.ring()

    with serving(listen) as served, Wire(served.port) as wire:
        wire.send(CHUNKED + b"1\r\nx\r\n")
        bell.wait_for(lambda: b"x" in received)
        wire.send(start)
        for _ in range(MAX_HEAD_BYTES // 1024):
            wire.send(b"0" * 1024)
        check_refusal(wire, 431)


@pytest.mark.parametrize(("count", "status"), [(MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)])
def test_headers_are_counted(teller: Served, count: int, status: int) -> None:
    with Wire(teller.port) as wire:
        assert wire.ask(get("/", *["x: y"] * (count - 1))).status == status


@pytest.mark.parametrize("begin", [b"", b"GET / HT", get("/first"), get("/first") + b"GET"])
def test_an_idle_connection_is_closed_and_so_is_half_a_head(begin: bytes) -> None:
    with serving(tell, timeout_keep_alive=0.2) as served, Wire(served.port) as wire:
        wire.send(begin)
        assert wire.rest().count(b"HTTP/1.1 200") == begin.count(b"first")


def test_the_time_of_a_connection_begins_anew_with_each_answer() -> None:
    stage = Stage()
    with serving(stage.answer, timeout_keep_alive=0.1) as served, Wire(served.port) as wire:
        wire.send(get("/"))
        with Wire(served.port) as idle:
            assert idle.rest() == b""  # by then the time of the first is over, too
        stage.gate.open()
        assert wire.read().body == b"/"
        assert wire.ask(get("/next")).body == b"/next"
        assert wire.rest() == b""
