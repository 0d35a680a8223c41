"""What pages of other origins see of the relay, in a real Chromium: all of it, or nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from playwright.sync_api import Frame, Page, expect
from running import RunningRelay, StartRelay

KEY = "rk-browser-0123456789"
FRAME = """<!doctype html><title>a page</title>
<iframe sandbox="allow-scripts" srcdoc="<title>of no origin</title>"></iframe>"""

ASK = """async ([relay, key, body, headers]) => {
  try {
    const answer = await fetch(`${relay}/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}`, ...headers },
      body: JSON.stringify(body),
    });
    const told = Object.fromEntries(answer.headers);
    return { status: answer.status, text: await answer.text(), headers: told };
  } catch (error) {
    return { error: error.name };
  }
}"""

STREAM = """async ([relay, key]) => {
  const answer = await fetch(`${relay}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify({
      model: "m", stream: true, messages: [{ role: "user", content: "x" }],
    }),
  });
  const reader = answer.body.getReader();
  window.first = new TextDecoder().decode((await reader.read()).value);
  window.rest = reader.read();
}"""

Where = Frame | Page


@pytest.fixture
def relay(
    start_relay: StartRelay, upstream: FakeUpstream, here: str
) -> Callable[..., RunningRelay]:
    def start(*more: str) -> RunningRelay:
        origins = [here, *more]
        return start_relay(upstream_url=upstream.url, api_keys=[KEY], cors_origins=origins)

    return start


@pytest.fixture
def here(tmp_path: Path, front_end: Callable[[Path], str]) -> str:
    """The address of a page, with a frame of no origin in it."""
    (tmp_path / "index.html").write_text(FRAME)
    return front_end(tmp_path)


def ask(where: Where, relay: RunningRelay, key: str = KEY, **fields: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "over there"}], **fields}
    seen: dict[str, Any] = where.evaluate(ASK, [relay.url, key, body, {"x-own-header": "1"}])
    return seen


def see_all(where: Where, relay: RunningRelay, upstream: FakeUpstream) -> None:
    plain = ask(where, relay)
    assert plain["status"] == 200
    assert "over there" in plain["text"]
    assert plain["headers"]["x-relay-upstream"] == "upstream"
    assert "server-timing" in plain["headers"]
    streamed = ask(where, relay, stream=True)
    assert streamed["text"].endswith("data: [DONE]\n\n")
    wrong = ask(where, relay, temperature="hot")
    assert (wrong["status"], '"param": "temperature"' in wrong["text"]) == (400, True)
    assert ask(where, relay, key="rk-wrong")["status"] == 401
    told = {"retry-after": "0", "x-ratelimit-remaining-requests": "0", "x-should-retry": "false"}
    limits = [(name.encode(), value.encode()) for name, value in told.items()]
    upstream.answer(Script(status=429, body=transcripts.error_body("slow"), headers=limits))
    limited = ask(where, relay)
    assert limited["status"] == 429
    assert told.items() <= limited["headers"].items()
    assert limited["headers"]["x-request-id"].startswith("req_")


def see_nothing(where: Where, relay: RunningRelay, upstream: FakeUpstream) -> None:
    for fields in ({}, {"stream": True}, {"temperature": "hot"}, {"key": "rk-wrong"}):
        assert ask(where, relay, **fields) == {"error": "TypeError"}
    assert upstream.requests == []


def test_a_page_that_is_allowed_sees_every_answer(
    page: Page, relay: Callable[..., RunningRelay], upstream: FakeUpstream, here: str
) -> None:
    page.goto(here)
    see_all(page, relay(), upstream)


def test_a_page_that_is_not_allowed_sees_none(
    page: Page,
    relay: Callable[..., RunningRelay],
    upstream: FakeUpstream,
    front_end: Callable[[Path], str],
    tmp_path: Path,
) -> None:
    running = relay()
    page.goto(front_end(tmp_path))  # the same page at another port is another origin
    see_nothing(page, running, upstream)


def test_a_page_without_an_origin_sees_answers_only_where_null_is_named(
    page: Page, relay: Callable[..., RunningRelay], upstream: FakeUpstream, here: str
) -> None:
    page.goto(here)
    expect(page.frame_locator("iframe").locator("title")).to_have_count(1)
    frame = page.frames[1]
    assert frame.evaluate("self.origin") == "null"
    see_nothing(frame, relay(), upstream)
    see_all(frame, relay("null"), upstream)


def test_a_stream_reaches_a_page_while_it_comes(
    page: Page, relay: Callable[..., RunningRelay], upstream: FakeUpstream, here: str
) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["begun", "ended"])
    upstream.answer(
        Script(
            pieces=pieces,
            headers=[(b"content-type", b"text/event-stream")],
            piece_gates={2: gate},
        )
    )
    page.goto(here)
    page.evaluate(STREAM, [relay().url, KEY])
    assert page.evaluate("window.first").startswith("data: ")
    gate.open()
    assert page.evaluate("window.rest.then(({ done }) => done)") is False
