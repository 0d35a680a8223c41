"""Which headers travel."""

import time
from email.utils import formatdate

import pytest

from relay.upstream.headers import divide_downward, downward, retry_after_s, upward


def test_credentials_cookies_and_the_hop_stay_here():
    kept = [(b"content-type", b"a"), (b"x-stainless-lang", b"python")]
    staying = [
        (b"authorization", b"x"),
        (b"cookie", b"x"),
        (b"te", b"x"),
        (b"sec-fetch-site", b"x"),
    ]
    for _ in range(2):  # decided, then remembered
        assert upward(kept + staying) == kept
    assert upward([(b"Authorization", b"x")]) == []


def test_what_a_connection_header_names_stays_behind():
    pairs = [(b"x-hop", b"1"), (b"x-end", b"2"), (b"connection", b"X-Hop, close")]
    assert upward(pairs) == [(b"x-end", b"2")]
    assert downward(pairs) == [(b"x-end", b"2")]
    assert downward([(b"X-Request-Id", b"1"), (b"Connection", b"x-request-id")]) == []


def test_what_frames_an_answer_is_told_apart_and_its_request_id_is_renamed():
    travelling, framing = divide_downward(
        [(b"X-Request-ID", b"1"), (b"Content-Length", b"2"), (b"CF-Ray", b"3")]
    )
    assert travelling == [(b"x-upstream-request-id", b"1")]
    assert framing == [(b"content-length", b"2")]


def test_ever_new_names_are_judged_but_not_all_remembered():
    for number in range(5000):
        name = b"x-%d" % number
        assert upward([(name, b""), (b"sec-" + name, b"")]) == [(name, b"")]
    assert upward([(b"x" * 10_000, b"")]) == [(b"x" * 10_000, b"")]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"retry-after", b"7")], 7),
        ([(b"retry-after", b" 7 ")], 7),
        ([(b"retry-after", b"7"), (b"retry-after-ms", b"1500")], 1.5),
        ([(b"retry-after-ms", b"nan")], None),
        ([(b"retry-after-ms", b"-1")], 0),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"9" * 400)], None),
        ([(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 GMT")], 0),
        ([(b"retry-after", b"Wed, 21 Oct 99999999999 07:28:00 GMT")], None),
    ],
)
def test_when_to_come_back_is_read_in_each_of_its_forms(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_a_date_to_come_back_is_so_many_seconds_from_now():
    date = formatdate(time.time() + 3600, usegmt=True).encode()
    seconds = retry_after_s([(b"retry-after", date)])
    assert seconds is not None
    assert 3000 < seconds <= 3600
