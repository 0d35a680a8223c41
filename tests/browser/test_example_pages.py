"""The example pages, in a real Chromium: packages of npm, a broken connection, a token."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from network import Network
from playwright.sync_api import Page, expect
from running import RunningRelay, StartRelay, accepts
from waiting import until

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = "rk-canary-0123456789"
STREAM = [(b"content-type", b"text/event-stream")]

REACT = """
const files = {
  react: "react/cjs/react.production.js",
  scheduler: "scheduler/cjs/scheduler.production.js",
  "react-dom": "react-dom/cjs/react-dom.production.js",
  "react-dom/client": "react-dom/cjs/react-dom-client.production.js",
};
const code = {}, modules = {};
for (const [name, file] of Object.entries(files))
  code[name] = await (await fetch(`./node_modules/${file}`)).text();
function require(name) {
  if (!modules[name]) {
    const module = (modules[name] = { exports: {} });
    new Function("require", "module", "exports", code[name])(require, module, module.exports);
  }
  return modules[name].exports;
}
globalThis.process = { env: { NODE_ENV: "production" } };
export const { createElement, useCallback, useRef, useState } = require("react");
export const { createRoot } = require("react-dom/client");
"""
APP = """<!doctype html>
<title>React</title>
<div id="root"></div>
<script type="importmap">{ "imports": { "react": "./react.js" } }</script>
<script type="module">
  import { createElement as h, createRoot } from "react";
  import { useChat } from "./useChat.js";

  const relay = new URLSearchParams(location.search).get("relay");
  function App() {
    const { messages, busy, error, send, stop } = useChat(`${relay}/chat/completions`);
    return h("div", null,
      h("ul", null, messages.map((one, n) => h("li", { key: n }, `${one.role}: ${one.content}`))),
      h("p", null, error ?? (busy ? "busy" : "idle")),
      h("button", { id: "send", onClick: () => send("hello there") }, "send"),
      h("button", { id: "stop", onClick: stop }, "stop"));
  }
  createRoot(document.querySelector("#root")).render(h(App));
</script>
"""


@pytest.fixture
def site(tmp_path: Path, front_end: Callable[[Path], str]) -> str:
    """The address of the example pages."""
    shutil.copytree(EXAMPLES / "browser", tmp_path, dirs_exist_ok=True)
    return front_end(tmp_path)


def ask(page: Page, text: str) -> None:
    page.fill("#question", text)
    page.press("#question", "Enter")


def test_an_answer_survives_a_broken_connection(
    page: Page, start_relay: StartRelay, upstream: FakeUpstream, site: str
) -> None:
    relay = start_relay(upstream_url=upstream.url, resume_s=20)
    gates = {number: Gate() for number in (2, 3)}
    pieces = transcripts.chat_stream(["once ", "upon ", "a time"])
    upstream.answer(Script(pieces=pieces, headers=STREAM, piece_gates=gates))
    with Network.in_thread(int(relay.root.rpartition(":")[2])) as network:
        page.goto(f"{site}/resume.html?relay={network.url}")
        ask(page, "a story")
        answer = page.locator("#answer")
        for gate, seen in zip(gates.values(), ["once ", "once upon "], strict=True):
            expect(answer).to_have_text(seen.strip())
            network.refuse()
            gate.open()
            network.restore()
        expect(page.locator("#answer[data-state=done]")).to_have_text("once upon a time")
    assert len(upstream.requests) == 1


def test_a_stopped_answer_ends_its_upstream_at_once(
    page: Page, start_relay: StartRelay, upstream: FakeUpstream, site: str
) -> None:
    relay = start_relay(upstream_url=upstream.url, resume_s=600)
    pieces = transcripts.chat_stream(["begun", "never"])
    upstream.answer(Script(pieces=pieces, headers=STREAM, stall_after=2))
    page.goto(f"{site}/resume.html?relay={relay.url}")
    ask(page, "a long story")
    expect(page.locator("#answer")).to_have_text("begun")
    page.click("#stop")
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    expect(page.locator("#answer[data-state=failed]")).to_contain_text("begun")


@pytest.mark.parametrize("resume_s", [0, 20])
def test_the_reader_needs_no_relay_that_keeps_streams(
    page: Page, start_relay: StartRelay, site: str, resume_s: float
) -> None:
    relay = start_relay(local="echo", resume_s=resume_s)
    page.goto(f"{site}/resume.html?relay={relay.url}")
    ask(page, "one two three")
    expect(page.locator("#answer[data-state=done]")).to_have_text("one two three")


def test_a_cut_answer_fails_where_nothing_is_kept(
    page: Page, remote: RunningRelay, upstream: FakeUpstream, site: str
) -> None:
    pieces = transcripts.chat_stream(["begun", "never"])[:2]
    upstream.answer(Script(pieces=pieces, headers=STREAM))
    page.goto(f"{site}/resume.html?relay={remote.url}")
    ask(page, "a story")
    expect(page.locator("#answer[data-state=failed]")).to_contain_text("cut off")


def test_a_page_with_a_token_of_its_own(page: Page, start_relay: StartRelay, site: str) -> None:
    relay = start_relay(local="echo", api_keys=KEY)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    back_end = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "browser_token.py")],
        env=os.environ
        | {"OPENAI_BASE_URL": relay.url, "OPENAI_API_KEY": KEY}
        | {"PORT": str(port), "PAGE_ORIGIN": site},
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: accepts(f"http://127.0.0.1:{port}"))
        page.goto(f"{site}/token.html?relay={relay.url}&back_end=http://127.0.0.1:{port}/")
        shown: list[str] = []
        page.on("request", lambda one: shown.append(one.headers.get("authorization", "")))
        ask(page, "with a token")
        expect(page.locator("#answer[data-state=done]")).to_have_text("with a token")
        assert any(one.startswith("Bearer ek-") for one in shown)
        assert not any(KEY in one for one in shown)
    finally:
        back_end.kill()
        back_end.wait()


def test_the_openai_package_in_a_page(
    page: Page, start_relay: StartRelay, site: str, tmp_path: Path, node_modules: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(node_modules)
    relay = start_relay(local="echo")
    page.goto(f"{site}/openai.html?relay={relay.url}")
    ask(page, "from a package")
    expect(page.locator("#answer[data-state=done]")).to_have_text("from a package")


def test_the_react_hook(
    page: Page,
    start_relay: StartRelay,
    upstream: FakeUpstream,
    site: str,
    tmp_path: Path,
    node_modules: Path,
) -> None:
    (tmp_path / "node_modules").symlink_to(node_modules)
    (tmp_path / "react.js").write_text(REACT)
    (tmp_path / "app.html").write_text(APP)
    relay = start_relay(upstream_url=upstream.url, resume_s=20)
    page.goto(f"{site}/app.html?relay={relay.url}")
    lines, state = page.locator("li"), page.locator("p")
    page.click("#send")
    expect(lines).to_have_text(["user: hello there", "assistant: hello there"])
    expect(state).to_have_text("idle")
    pieces = transcripts.chat_stream(["begun", "never"])
    upstream.answer(Script(pieces=pieces, headers=STREAM, stall_after=2), times=1)
    page.click("#send")
    expect(lines.nth(3)).to_have_text("assistant: begun")
    page.click("#stop")
    expect(state).to_have_text("idle")
    upstream.answer(Script(status=400, body=transcripts.error_body("no such thing")), times=1)
    page.click("#send")
    expect(state).to_have_text("no such thing")
    hook = (EXAMPLES / "browser" / "useChat.js").read_text()
    assert len(hook.splitlines()) <= 30
