"""The bytes of a request's head."""

import pytest

from relay.errors import UpstreamProtocol
from relay.settings import UpstreamSettings
from relay.types import Call
from relay.upstream.credentials import open_keys
from relay.upstream.headers import upward
from relay.upstream.request import RequestHead


def head(call: Call, base_url: str = "http://host/v1", **settings) -> list[bytes]:
    chosen = UpstreamSettings(name="u", base_url=base_url, **settings)
    key = open_keys(chosen).take()
    assert key is not None
    written = RequestHead(chosen).write(call, key)
    assert written.endswith(b"\r\n\r\n")
    return written.removesuffix(b"\r\n\r\n").split(b"\r\n")


def test_it_is_the_request_line_our_headers_the_callers_and_the_length():
    call = Call("chat/completions", b"{}", headers=[(b"x-a", b"1"), (b"x-a", b"2")])
    assert head(call, api_keys=["sk-1"], headers={"X-Own": "o"}) == [
        b"POST /v1/chat/completions HTTP/1.1",
        b"authorization: Bearer sk-1",
        b"host: host",
        b"accept-encoding: identity",
        b"x-own: o",
        b"x-a: 1",
        b"x-a: 2",
        b"content-length: 2",
    ]


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("http://h", b"h"),
        ("http://h:80/v1", b"h"),
        ("https://h:443/v1", b"h"),
        ("https://h:80/v1", b"h:80"),
        ("http://[::1]:8080/v1", b"[::1]:8080"),
        ("http://bücher.example/v1", b"xn--bcher-kva.example"),
    ],
)
def test_the_host_is_that_of_the_base_url(base_url, host):
    assert b"host: " + host in head(Call("m"), base_url)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("models/a%2Fb?x=1&y=%20", b"models/a%2Fb?x=1&y=%20"),
        ("models/ü b", b"models/%C3%BC%20b"),
        ("models/a#b", b"models/a%23b"),
        ("models/a\r\nx: y", b"models/a%0D%0Ax:%20y"),
    ],
)
def test_a_path_travels_as_it_is_but_for_what_a_request_line_cannot_hold(path, target):
    [line, *_] = head(Call(path, method="GET"), "http://h/großes/v1")
    assert line == b"GET /gro%C3%9Fes/v1/" + target + b" HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "PUT", "PATCH"])
def test_the_length_is_stated_where_a_body_is_or_could_be(method):
    stated = b"content-length: 0" in head(Call("m", method=method))
    assert stated is (method in ("POST", "PUT", "PATCH"))
    assert b"content-length: 1" in head(Call("m", b"x", method=method))


@pytest.mark.parametrize(
    "name", [b"host", b"content-length", b"transfer-encoding", b"connection", b"authorization"]
)
def test_no_caller_states_what_is_ours_to_state(name):
    lines = head(Call("m", b"x", headers=[(name, b"7")]))
    assert name + b": 7" not in lines


@pytest.mark.parametrize(
    "pair", [(b"x", b"a\r\nhost: b"), (b"x", b"a\nb"), (b"x", b"a\rb"), (b"x\r\ny", b"")]
)
def test_a_line_break_in_a_header_is_refused(pair):
    with pytest.raises(UpstreamProtocol):
        head(Call("m", headers=[pair]))


def test_a_method_cannot_begin_another_line():
    with pytest.raises(UpstreamProtocol):
        head(Call("m", method="GET / HTTP/1.1\r\nx:"))


def test_headers_that_come_again_are_written_for_whoever_is_asked():
    headers = upward([(b"accept", b"*/*"), (b"x-own", b"theirs")])
    call = Call("chat/completions", b"{}", headers=headers)
    for settings in ({}, {"headers": {"X-Own": "ours"}}, {}):
        owned = b"x-own: ours" if settings else b"x-own: theirs"
        for _ in range(2):
            lines = head(call, **settings)
            assert [line for line in lines if line.startswith(b"x-own")] == [owned]


def test_headers_that_come_again_are_written_once():
    settings = UpstreamSettings(name="u", base_url="http://host/v1")
    key = open_keys(settings).take()
    assert key is not None
    writer = RequestHead(settings)
    headers = upward([(b"accept", b"*/*")])
    call = Call("chat/completions", b"{}", headers=headers)
    first = writer.write(call, key)
    kept = headers.written
    assert writer.write(call, key) == first
    assert headers.written is kept


def test_a_line_break_in_headers_that_come_again_is_refused_each_time():
    call = Call("chat/completions", b"{}", headers=upward([(b"x-a", b"1\r\nx-b: 2")]))
    for _ in range(2):
        with pytest.raises(UpstreamProtocol):
            head(call)
