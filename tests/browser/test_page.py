"""The chat page, the classic page and the example front-end, in a real Chromium."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import transcripts
from fake_script import Script
from fake_upstream import FakeUpstream
from playwright.sync_api import Page, expect
from running import RunningRelay, StartRelay

KEY = "rk-browser-0123456789"
EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"


def say(page: Page, text: str) -> None:
    page.fill("#query", text)
    page.press("#query", "Enter")


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_a_conversation_of_two_turns(
    request: pytest.FixtureRequest, page: Page, target: str
) -> None:
    relay: RunningRelay = request.getfixturevalue(target)
    page.goto(relay.root)
    expect(page.locator("#state")).to_have_text("connected")
    say(page, "first question")
    messages = page.locator("#messages li")
    expect(messages).to_have_text(["you: first question", "relay: first question"])
    expect(page.locator("#send")).to_be_visible()
    say(page, "  ")  # nothing to send
    say(page, "<b>second</b>")
    expect(messages.nth(3)).to_have_text("relay: <b>second</b>")
    assert page.locator("#messages b b").count() == 0


def test_a_badge_follows_what_serves(
    page: Page, start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    relay = start_relay(
        upstream_url=upstream.url,
        local="echo",
        admin_key="ak-0123456789",
        state_file=tmp_path / "state.json",
    )
    page.goto(relay.root)
    badge = page.locator("#serving")
    for mode, side in (("auto", "remote"), ("local", "local"), ("remote", "remote")):
        relay.http.put(
            "/admin/mode", json={"mode": mode}, headers={"authorization": "Bearer ak-0123456789"}
        ).raise_for_status()
        expect(badge).to_have_text(side)
        expect(badge).to_be_visible()


def test_the_history_goes_along(page: Page, remote: RunningRelay, upstream: FakeUpstream) -> None:
    page.goto(remote.root)
    say(page, "one")
    expect(page.locator("#messages li").nth(1)).to_have_text("relay: one")
    expect(page.locator("#send")).to_be_visible()
    say(page, "two")
    expect(page.locator("#messages li").nth(3)).to_have_text("relay: two")
    messages = json.loads(upstream.requests[-1].body)["messages"]
    assert [message["content"] for message in messages] == ["one", "one", "two"]


def test_stop_ends_the_answer(page: Page, start_relay: StartRelay, upstream: FakeUpstream) -> None:
    relay = start_relay(upstream_url=upstream.url, default_model="m")
    upstream.answer(
        Script(
            pieces=transcripts.chat_stream(["begun", "never"]),
            stall_after=2,
            headers=[(b"content-type", b"text/event-stream")],
        ),
        times=1,
    )
    page.goto(relay.root)
    say(page, "a long story")
    expect(page.locator("#messages li").nth(1)).to_have_text("relay: begun")
    page.click("#stop")
    expect(page.locator("#send")).to_be_visible()
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    say(page, "again")
    expect(page.locator("#messages li").nth(3)).to_have_text("relay: again")


def test_an_error_is_shown(page: Page, start_relay: StartRelay) -> None:
    relay = start_relay(upstream_url="http://127.0.0.1:9/v1", default_model="m", retries=0)
    page.goto(relay.root)
    say(page, "anyone?")
    expect(page.locator("#messages .error")).to_contain_text("cannot be reached")
    expect(page.locator("#send")).to_be_visible()


def test_the_key_is_asked_for_and_kept_for_the_tab_only(
    page: Page, start_relay: StartRelay
) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    page.goto(relay.root)
    say(page, "hello")
    expect(page.locator("#keys")).to_be_visible()
    page.fill("#key", KEY)
    page.press("#key", "Enter")
    expect(page.locator("#keys")).to_be_hidden()
    say(page, "hello again")
    expect(page.locator("#messages li").last).to_have_text("relay: hello again")
    assert page.evaluate("Object.values(sessionStorage)") == [KEY]
    assert page.evaluate("localStorage.length") == 0


CLASSIC = """<!doctype html>
<ul id="box"></ul>
<form><input id="input"><button>Send</button></form>
<script>
  let history = [], busy = false, item = null;
  const ws = new WebSocket("ADDRESS");
  function appendMessage(sender, text) {
    const li = document.createElement("li");
    li.textContent = sender + ": " + text;
    document.getElementById("box").appendChild(li);
    return li;
  }
  ws.onmessage = (event) => {
    const data = JSON.parse(event.data);
    if (data.status === 200) { busy = false; item = null; return; }
    if (item === null) item = appendMessage("model", "");
    item.textContent = "model: " + data.response;
    history = data.history;
  };
  document.forms[0].onsubmit = (event) => {
    event.preventDefault();
    const input = document.getElementById("input");
    if (busy || input.value === "") return;
    busy = true;
    appendMessage("me", input.value);
    ws.send(JSON.stringify({ query: input.value, history: history }));
    input.value = "";
  };
</script>
"""


def test_a_classic_page_of_another_origin_works_unchanged(
    page: Page, echo: RunningRelay, tmp_path: Path, front_end: Callable[[Path], str]
) -> None:
    address = echo.root.replace("http", "ws") + "/ws"
    (tmp_path / "index.html").write_text(CLASSIC.replace("ADDRESS", address))
    page.goto(front_end(tmp_path))
    page.wait_for_function("ws.readyState === 1")
    for number, text in enumerate(["one two", "three"]):
        page.fill("#input", text)
        page.press("#input", "Enter")
        expect(page.locator("#box li").nth(2 * number + 1)).to_have_text(f"model: {text}")
        page.wait_for_function("!busy")
    assert page.evaluate("history") == [["one two", "one two"], ["three", "three"]]


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_the_example_front_end_streams_across_origins(
    request: pytest.FixtureRequest,
    page: Page,
    target: str,
    front_end: Callable[[Path], str],
) -> None:
    relay: RunningRelay = request.getfixturevalue(target)
    page.goto(f"{front_end(EXAMPLE)}/?relay={relay.url}")
    page.fill("#question", "across the ports")
    page.press("#question", "Enter")
    expect(page.locator("#answer[data-state=done]")).to_have_text("across the ports")


def test_a_page_that_is_not_allowed_cannot_read_anything(
    page: Page, start_relay: StartRelay, front_end: Callable[[Path], str]
) -> None:
    relay = start_relay(local="echo", cors_origins=["https://app.example"])
    page.goto(f"{front_end(EXAMPLE)}/?relay={relay.url}")
    page.press("#question", "Enter")
    expect(page.locator("#answer[data-state=failed]")).to_contain_text("Failed to fetch")


def test_the_documentation_is_shown_without_another_host(page: Page, echo: RunningRelay) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{echo.root}/docs")
    expect(page.get_by_text("/v1/chat/completions").first).to_be_visible()
    page.get_by_text("/v1/chat/completions").first.click()
    expect(page.get_by_text("Request body").first).to_be_visible()
    assert all(url.startswith((echo.root, "data:", "blob:")) for url in asked)
