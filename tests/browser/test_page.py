"""The classic page, the example front-end and the documentation, in a real Chromium."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from running import RunningRelay, StartRelay

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"


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
