"""Answers are read strictly, from raw bytes, however those are cut."""

import contextlib

import httptools
import pytest

from relay.upstream.answer import AnswerReader
from relay.upstream.limits import MAX_HEAD_BYTES, MAX_HEADERS

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"content-length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-t: 1\r\n\r\n"
UNTIL_CLOSE = OK + b"content-type: text/plain\r\n\r\nhello"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"

REFUSED = {
    "length and chunked": OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunked and length": OK + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
    "two lengths": OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
    "one length twice": OK + b"content-length: 1\r\ncontent-length: 1\r\n\r\n",
    "a list of lengths": OK + b"content-length: 1, 1\r\n\r\n",
    "chunked twice": OK + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n",
    "another coding": OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "no coding": OK + b"transfer-encoding: identity\r\n\r\n",
    "a folded header": OK + b"x: a\r\n b\r\n\r\n",
    "a space before the colon": OK + b"content-length : 3\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
    "an interim answer with a body": b"HTTP/1.1 150 X\r\ncontent-length: 3\r\n\r\nabc",
    "too many headers": OK + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
}


def read(*pieces: bytes, bodiless: bool = False) -> AnswerReader:
    answer = AnswerReader()
    answer.begin(bodiless=bodiless)
    for piece in pieces:
        answer.feed(piece)
    return answer


@pytest.mark.parametrize("raw", [LENGTH, CHUNKED, UNTIL_CLOSE, INTERIM + LENGTH])
def test_an_answer_cut_at_any_offset_is_the_same(raw):
    for cut in range(1, len(raw)):
        answer = read(raw[:cut], raw[cut:])
        assert (answer.status, b"".join(answer.pieces)) == (200, b"hello")
        assert answer.ended is not answer.until_close
        assert answer.ended is answer.reusable


def test_pieces_stay_as_they_came():
    assert list(read(CHUNKED).pieces) == [b"he", b"llo"]


def test_headers_travel_down_without_those_of_the_hop_and_of_interim_answers_or_trailers():
    answer = read(INTERIM + OK + b"X-A: 1\r\nX-Empty:\r\n" + CHUNKED.removeprefix(OK))
    assert answer.headers == [(b"x-a", b"1"), (b"x-empty", b"")]


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_understood_in_two_ways_is_refused(name):
    with pytest.raises(httptools.HttpParserError):
        read(REFUSED[name])


@pytest.mark.parametrize("raw", [LENGTH, b"HTTP/1.1 200 OK\r\n", b"x", b"\r\nHTTP/1.1 500 No\r\n"])
def test_what_follows_the_end_is_not_read(raw):
    answer = AnswerReader()
    answer.begin(bodiless=False)
    with pytest.raises(httptools.HttpParserError):
        answer.feed(LENGTH + raw)
    assert answer.ended
    assert (answer.status, list(answer.pieces)) == (200, [b"hello"])


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("length", [b"", b"content-length: 7\r\n"])
def test_some_statuses_have_no_body_whatever_they_say(status, length):
    answer = read(b"HTTP/1.1 " + status + b"\r\n" + length + b"\r\n")
    assert answer.ended
    assert answer.reusable


@pytest.mark.parametrize("raw", [LENGTH.removesuffix(b"hello"), UNTIL_CLOSE, CHUNKED])
def test_the_answer_to_head_has_no_body_and_is_the_last(raw):
    answer = AnswerReader()
    answer.begin(bodiless=True)
    with pytest.raises(httptools.HttpParserError):
        answer.feed(raw)
    assert answer.ended
    assert not answer.pieces
    assert not answer.reusable


@pytest.mark.parametrize(
    ("raw", "reusable"),
    [
        (LENGTH, True),
        (LENGTH.replace(b"content", b"connection: close\r\ncontent"), False),
        (LENGTH.replace(b"1.1", b"1.0"), False),
        (UNTIL_CLOSE, False),
    ],
)
def test_the_upstream_says_whether_it_keeps_the_connection(raw, reusable):
    assert read(raw).reusable is reusable


def test_answers_follow_each_other():
    answer = read(LENGTH)
    for _ in range(3):
        answer.begin(bodiless=False)
        assert (answer.status, answer.ended, list(answer.pieces)) == (0, False, [])
        answer.feed(CHUNKED)
        assert (answer.status, answer.ended) == (200, True)


def test_a_head_that_may_be_too_large_is_weighed():
    for excess, fits in ((-100, True), (100, False)):
        answer = AnswerReader()
        answer.begin(bodiless=False)
        answer.weigh_head = True
        with contextlib.nullcontext() if fits else pytest.raises(httptools.HttpParserError):
            answer.feed(OK + b"x: " + b"a" * (MAX_HEAD_BYTES + excess) + b"\r\n\r\n")
