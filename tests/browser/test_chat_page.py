"""The chat page: asking, stopping, trying again, keeping, in a real Chromium."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from playwright.sync_api import Locator, Page, Route, expect
from running import RunningRelay, StartRelay

from relay.settings import PriceSettings

KEY = "rk-browser-0123456789"
ADMIN = "ak-browser-0123456789"
CHAT = "/v1/chat/completions"
STREAM = [(b"content-type", b"text/event-stream")]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
PRICE = PriceSettings.model_validate(
    {"model": "*", "upstream": "upstream", "prompt_usd": 2, "completion_usd": 2000}
)
LOOK_MS = 2000
"""How often the badge looks."""

Visit = Callable[..., Page]


def ask(page: Page, text: str) -> None:
    page.fill("#query", text)
    page.press("#query", "Enter")


def bodies(page: Page) -> Locator:
    return page.locator("#messages > li .body")


def last(page: Page) -> Locator:
    return page.locator("#messages > li").last


def answered(page: Page, text: str) -> None:
    expect(last(page).locator(".body")).to_have_text(text)
    expect(page.locator("#send")).to_be_visible()


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def sent(upstream: FakeUpstream) -> dict[str, Any]:
    chats = [one for one in upstream.requests if one.path.endswith("/chat/completions")]
    return json.loads(chats[-1].body)


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    upstream.answer(Script(body=transcripts.models_body("small", "large")), path="/v1/models")
    return start_relay(upstream_url=upstream.url, retries=0, prices=[PRICE])


def test_a_conversation_goes_along_and_outlives_a_reload(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    page = visit(relay.root)
    ask(page, "one")
    answered(page, "one")
    ask(page, "two")
    answered(page, "two")
    messages = sent(upstream)["messages"]
    assert [message["content"] for message in messages] == ["one", "one", "two"]
    expect(page.locator(".sender").nth(0)).to_have_text("you")
    expect(page.locator(".sender").nth(1)).to_have_text("small")
    expect(last(page).locator(".took")).to_have_text(
        re.compile(r"^\d+ → \d+ tokens · [\d.]+ s · \$0\.\d+ · upstream$")
    )
    page.reload()
    expect(bodies(page)).to_have_text(["one", "one", "two", "two"])
    expect(page.locator("#conversations .open")).to_have_text(["one"])


def test_an_answer_is_shown_as_it_comes_and_can_be_stopped(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    pieces = transcripts.chat_stream(["be", "gun", " never"])
    gate = Gate()
    upstream.answer(
        Script(pieces=pieces, piece_gates={3: gate}, headers=STREAM), path=CHAT, times=1
    )
    page = visit(relay.root)
    ask(page, "a long story")
    expect(last(page).locator(".body")).to_have_text("begun")
    expect(last(page)).to_have_attribute("aria-busy", "true")
    page.keyboard.press("Escape")
    expect(last(page).locator(".took")).to_contain_text("stopped")
    upstream.wait_for(lambda: upstream.requests[-1].closed_at is not None)
    ask(page, "again")
    answered(page, "again")


def test_thoughts_are_folded_and_never_sent_back(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    pieces = transcripts.reasoning_stream(["first <b>this</b>,", " then that"], ["So it is."])
    upstream.answer(Script(pieces=pieces, headers=STREAM), path=CHAT, times=1)
    page = visit(relay.root)
    ask(page, "think")
    answered(page, "So it is.")
    thoughts = last(page).locator(".reasoning")
    expect(thoughts.locator("p")).to_be_hidden()
    thoughts.get_by_text("Thoughts").click()
    expect(thoughts.locator("p")).to_have_text("first <b>this</b>, then that")
    expect(thoughts.locator("p")).to_be_visible()
    ask(page, "again")
    answered(page, "again")
    assert "first" not in json.dumps(sent(upstream))
    assert sent(upstream)["messages"][1] == {"role": "assistant", "content": "So it is."}
    page.reload()
    expect(page.locator(".reasoning p")).to_be_hidden()


def test_an_answer_tried_again_is_another_version(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    page = visit(relay.root)
    ask(page, "same")
    answered(page, "same")
    upstream.answer(
        Script(pieces=transcripts.chat_stream(["other"]), headers=STREAM), path=CHAT, times=1
    )
    button(last(page), "Try again").click()
    answered(page, "other")
    expect(last(page).locator(".which")).to_contain_text("2/2")
    button(last(page), "Earlier version").click()
    expect(bodies(page)).to_have_text(["same", "same"])
    page.reload()
    expect(bodies(page)).to_have_text(["same", "same"])
    button(last(page), "Later version").click()
    expect(bodies(page)).to_have_text(["same", "other"])


def test_a_question_edited_is_another_branch(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    page = visit(relay.root)
    for text in ("first", "second"):
        ask(page, text)
        answered(page, text)
    first = page.locator("#messages > li").first
    first.hover()
    button(first, "Edit and ask anew").click()
    page.keyboard.press("Escape")
    expect(bodies(page)).to_have_text(["first", "first", "second", "second"])
    button(first, "Edit and ask anew").click()
    page.get_by_role("textbox", name="Your question").fill("changed")
    page.keyboard.press("Enter")
    expect(bodies(page)).to_have_text(["changed", "changed"])
    assert [message["content"] for message in sent(upstream)["messages"]] == ["changed"]
    button(first, "Earlier version").click()
    expect(bodies(page)).to_have_text(["first", "first", "second", "second"])


def test_an_error_tells_its_request_and_how_long_to_wait(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    body = transcripts.error_body("Too much at once.", code="rate_limit_exceeded")
    upstream.answer(
        Script(status=429, headers=[(b"retry-after", b"7")], body=body), path=CHAT, times=1
    )
    page = visit(relay.root, refused=True)
    ask(page, "anyone?")
    problem = last(page).locator(".problem")
    expect(problem).to_contain_text("Too much at once.")
    expect(problem).to_contain_text("wait 7 s")
    expect(problem).to_contain_text(re.compile("Request [0-9a-zA-Z-]+"))
    button(last(page), "Try again").click()
    answered(page, "anyone?")
    expect(page.locator(".which")).to_have_count(0)  # what never came is no version


def test_an_answer_that_is_cut_says_so_and_can_be_tried_again(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    begun = transcripts.chat_stream(["half"])[:2]
    upstream.answer(
        Script(pieces=begun, reset_at=len(b"".join(begun)), headers=STREAM), path=CHAT, times=1
    )
    page = visit(relay.root)
    ask(page, "whole")
    expect(last(page).locator(".body")).to_have_text("half")
    expect(last(page).locator(".problem")).to_be_visible()
    button(last(page), "Try again").click()
    answered(page, "whole")
    expect(last(page).locator(".which")).to_contain_text("2/2")


def test_nobody_to_reach_is_said(visit: Visit, relay: RunningRelay) -> None:
    page = visit(relay.root, refused=True)
    expect(page.locator("#model")).to_have_value("small")
    page.context.set_offline(True)
    ask(page, "anyone?")
    expect(last(page).locator(".problem")).to_contain_text("cannot be reached")
    expect(page.locator("#serving")).to_be_hidden()


def test_a_badge_follows_what_serves(
    visit: Visit, start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.answer(Script(body=transcripts.models_body("small")), path="/v1/models")
    relay = start_relay(
        upstream_url=upstream.url,
        local="echo",
        admin_key=ADMIN,
        prices=[PRICE],
        state_file=tmp_path / "state.json",
    )
    page = visit(relay.root, clock=True)
    expect(page.locator("#serving")).to_have_text("remote")
    bearer = {"authorization": f"Bearer {ADMIN}"}
    relay.http.put("/admin/mode", json={"mode": "local"}, headers=bearer).raise_for_status()
    page.clock.run_for(LOOK_MS)
    expect(page.locator("#serving")).to_have_text("local")
    expect(page.locator("#model")).to_have_value("echo")
    ask(page, "near")
    answered(page, "near")
    expect(last(page).locator(".took")).to_contain_text("free · local")
    relay.http.put("/admin/mode", json={"mode": "remote"}, headers=bearer).raise_for_status()
    page.clock.run_for(LOOK_MS)
    expect(page.locator("#serving")).to_have_text("remote")
    expect(page.locator("#model")).to_have_value("small")


def test_the_key_is_asked_for_once_and_kept_for_the_tab_only(
    visit: Visit, start_relay: StartRelay
) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    page = visit(relay.root, refused=True)
    for key in ("wrong", KEY):
        expect(page.locator("#key")).to_be_visible()
        page.fill("#key", key)
        page.press("#key", "Enter")
    expect(page.locator("#key")).to_be_hidden()
    expect(page.locator("#model")).to_have_value("echo")
    ask(page, "hello")
    answered(page, "hello")
    page.reload()
    ask(page, "hello again")
    answered(page, "hello again")
    assert page.evaluate("Object.values(sessionStorage)") == [KEY]
    kept = page.evaluate(
        """async () => {
          const { openShelf } = await import("/static/chat/shelf.js");
          const shelf = await openShelf();
          const all = (await shelf.list()).map(({ id }) => shelf.get(id));
          return JSON.stringify([await Promise.all(all), { ...localStorage }]);
        }"""
    )
    assert "hello again" in kept
    assert KEY not in kept
    button(page, "Settings").click()
    button(page, "Forget the key").click()
    expect(page.locator("#key")).to_be_visible()


def test_a_key_for_the_pages_of_the_relay_works_in_its_own(
    visit: Visit, start_relay: StartRelay
) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    bound = {"name": "page", "sha256": digest, "origins": ["http://127.0.0.1:*"]}
    relay = start_relay(local="echo", keys=[bound])
    page = visit(relay.root)  # which tries nothing without a key, so the console stays empty
    page.fill("#key", KEY)
    page.press("#key", "Enter")
    expect(page.locator("#model")).to_have_value("echo")  # read without an `Origin` header
    ask(page, "hello")
    answered(page, "hello")


def test_what_is_set_is_sent_and_nothing_else(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    page = visit(relay.root)
    expect(page.locator("#model")).to_have_value("small")
    page.select_option("#model", "large")
    button(page, "Settings").click()
    page.get_by_label("Instructions").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.2")
    page.get_by_label("Top p").fill("0.9")
    page.get_by_label("Longest answer").fill("50")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Stop at").fill("END\nSTOP")
    button(page, "Use for new conversations").click()
    button(page.locator("#settings"), "Close").click()
    ask(page, "with all that")
    answered(page, "with all that")
    assert sent(upstream) == {
        "model": "large",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "with all that"},
        ],
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 50,
        "seed": 7,
        "stop": ["END", "STOP"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    button(page, "New conversation").first.click()
    button(page, "Settings").click()
    expect(page.get_by_label("Instructions")).to_have_value("Be brief.")
    button(page, "Back to the model’s own").click()
    button(page.locator("#settings"), "Close").click()
    ask(page, "plain")
    answered(page, "plain")
    assert set(sent(upstream)) == {"model", "messages", "stream", "stream_options"}


def test_a_model_of_no_list_can_be_named(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    page = visit(relay.root)
    page.select_option("#model", label="Another …")
    page.get_by_role("textbox", name="The model’s name").fill("own/model")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_have_value("own/model")
    ask(page, "hello")
    answered(page, "hello")
    assert sent(upstream)["model"] == "own/model"


GIVE = """([kind, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "dot.png", { type: "image/png" }));
  const how = { cancelable: true, bubbles: true };
  const events = {
    paste: () => new ClipboardEvent("paste", { clipboardData: transfer, ...how }),
    drop: () => new DragEvent("drop", { dataTransfer: transfer, ...how }),
  };
  document.getElementById(kind === "paste" ? "query" : "messages").dispatchEvent(events[kind]());
}"""


def test_a_picture_that_was_pasted_or_dropped_goes_along(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    page = visit(relay.root)
    for kind in ("paste", "drop", "drop"):
        page.evaluate(GIVE, [kind, PIXEL])
    expect(page.locator("#pictures li")).to_have_count(3)
    button(page, "Take this picture out").last.click()
    expect(page.locator("#pictures li")).to_have_count(2)
    button(page, "Take this picture out").first.click()
    expect(page.locator("#pictures li")).to_have_count(1)
    ask(page, "what is it?")
    expect(page.locator("#messages img")).to_be_visible()
    expect(page.locator("#send")).to_be_visible()
    assert sent(upstream)["messages"][0]["content"] == [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    page.evaluate(GIVE, ["paste", "bm8gcGljdHVyZQ=="])
    expect(page.locator(".notice")).to_have_text("dot.png is no picture that can be sent.")


def test_conversations_are_found_renamed_and_deleted(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root)
    for text in ("about cats", "about dogs"):
        ask(page, text)
        answered(page, text)
        page.keyboard.press("Control+Shift+O")
    titles = page.locator("#conversations .open")
    expect(titles).to_have_text(["about dogs", "about cats"])
    page.keyboard.press("Control+k")
    page.keyboard.type("cats")
    expect(titles).to_have_text(["about cats"])
    page.keyboard.press("Enter")
    expect(bodies(page)).to_have_text(["about cats", "about cats"])
    page.hover("#conversations li")
    button(page, "Rename").click()
    page.get_by_role("textbox", name="Name of the conversation").fill("felines")
    page.keyboard.press("Enter")
    page.fill("#search", "")
    expect(titles).to_have_text(["about dogs", "felines"])
    page.hover("#conversations li:nth-child(2)")
    button(page, "Delete").nth(1).click()
    button(page.locator("dialog"), "Delete").click()
    expect(titles).to_have_text(["about dogs"])
    page.reload()
    expect(titles).to_have_text(["about dogs"])


def test_conversations_go_out_to_a_file_and_come_back(
    visit: Visit, echo: RunningRelay, tmp_path: Path
) -> None:
    page = visit(echo.root)
    ask(page, "kept")
    answered(page, "kept")
    with page.expect_download() as download:
        button(page, "Export all").click()
    file = tmp_path / "out.json"
    download.value.save_as(file)
    other = visit(echo.root)
    other.set_input_files("#imported", file)
    other.locator("#conversations .open").click()
    expect(bodies(other)).to_have_text(["kept", "kept"])
    other.set_input_files("#imported", file)  # a second time it is there already
    expect(other.locator(".notice")).to_have_count(2)
    expect(other.locator("#conversations .open")).to_have_count(1)

    told = json.loads(file.read_text())
    (node, *_) = told["conversations"][0]["nodes"].values()
    node |= {"images": ["https://elsewhere.example/x.png"], "text": "<img src=x onerror=alert(1)>"}
    told["conversations"][0] |= {"id": "#bad", "changed": 5, "settings": {"evil": 1, "seed": 4}}
    file.write_text(json.dumps(told))
    other.set_input_files("#imported", file)
    expect(other.locator("#conversations .open")).to_have_count(2)
    other.locator("#conversations .open").last.click()
    expect(bodies(other).first).to_have_text("<img src=x onerror=alert(1)>")
    file.write_text('{"format": "another"}')
    other.set_input_files("#imported", file)
    expect(other.locator(".notice.bad")).to_contain_text("no conversations")


MANY = """async (count) => {
  const { openShelf } = await import("/static/chat/shelf.js");
  const { ROOT, add, newConversation } = await import("/static/chat/tree.js");
  const shelf = await openShelf();
  for (let number = 0; number < count; number++) {
    const one = { ...newConversation({}), title: `number ${number}`, changed: 1000 - number };
    add(one, { parent: ROOT, role: "user", text: `question ${number}` });
    await shelf.put(one);
  }
}"""


def test_of_many_conversations_those_are_drawn_that_one_looks_at(
    visit: Visit, echo: RunningRelay
) -> None:
    page = visit(echo.root)
    page.evaluate(MANY, 230)
    page.reload()
    drawn = page.locator("#conversations li")
    expect(drawn).to_have_count(100)
    for count in (200, 230):
        page.locator("#conversations").evaluate("(list) => list.scrollTo(0, list.scrollHeight)")
        expect(drawn).to_have_count(count)
    expect(drawn.last).to_have_text("number 229")
    page.fill("#search", "question")
    expect(drawn).to_have_count(100)
    page.fill("#search", "question 229")
    drawn.get_by_role("button", name="number 229").click()
    page.fill("#search", "")
    expect(page.locator("#conversations [aria-current]")).to_have_text("number 229")
    page.reload()  # it is there, however old, when it is looked at
    expect(page.locator("#conversations [aria-current]")).to_have_text("number 229")


def test_two_tabs_know_of_each_other_and_lose_nothing(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    one = visit(relay.root)
    two = one.context.new_page()
    two.goto(relay.root)
    expect(two.locator("#chat[aria-busy=true]")).to_have_count(0)
    ask(one, "first")
    answered(one, "first")
    two.locator("#conversations .open").click()
    answered(two, "first")
    gate = Gate()
    pieces = transcripts.chat_stream(["slow", " answer"])
    upstream.answer(
        Script(pieces=pieces, piece_gates={2: gate}, headers=STREAM), path=CHAT, times=1
    )
    ask(one, "while this is answered")
    expect(last(one).locator(".body")).to_have_text("slow")
    expect(bodies(two).nth(2)).to_have_text("while this is answered")
    other = transcripts.chat_stream(["other"])
    upstream.answer(Script(pieces=other, headers=STREAM), path=CHAT, times=1)
    ask(two, "this is asked")
    answered(two, "other")
    gate.open()
    whole = ["first", "first", "while this is answered", "slow answer", "this is asked", "other"]
    for page in (one, two):
        expect(bodies(page)).to_have_text(whole)
        page.reload()
        expect(bodies(page)).to_have_text(whole)
    two.hover("#conversations li")
    button(two, "Delete").click()
    button(two.locator("dialog"), "Delete").click()
    expect(one.locator("#conversations li")).to_have_count(0)


def test_what_is_deleted_before_its_cost_is_known_stays_deleted(
    visit: Visit, relay: RunningRelay
) -> None:
    page = visit(relay.root)
    held: list[Route] = []
    page.route("**/v1/relay/cost", lambda route: held.append(route))  # noqa: PLW0108  a method of C takes no mark of Playwright
    with page.expect_request("**/v1/relay/cost"):
        ask(page, "gone")
    page.hover("#conversations li")
    button(page, "Delete").click()
    button(page.locator("dialog"), "Delete").click()
    expect(page.locator("#conversations li")).to_have_count(0)
    with page.expect_response("**/v1/relay/cost"):
        held[0].continue_()
    ask(page, "next")
    answered(page, "next")
    page.reload()
    expect(page.locator("#conversations .open")).to_have_text(["next"])


def test_a_browser_that_keeps_no_more_says_so_once(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root)
    page.evaluate(
        """() => {
          window.put = IDBObjectStore.prototype.put;
          IDBObjectStore.prototype.put = () => { throw new DOMException("It is full."); };
        }"""
    )
    for text in ("one", "two"):
        ask(page, text)
        answered(page, text)
    expect(page.locator(".notice.bad")).to_have_count(1)
    expect(page.locator(".notice.bad")).to_contain_text("It is full. Export all")
    page.evaluate("() => { IDBObjectStore.prototype.put = window.put; }")
    ask(page, "three")
    answered(page, "three")
    page.reload()
    expect(bodies(page)).to_have_text(["one", "one", "two", "two", "three", "three"])


@pytest.mark.parametrize("back_first", [False, True])
def test_an_answer_goes_on_while_another_conversation_is_looked_at(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream, back_first: bool
) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["slow", " answer"])
    upstream.answer(
        Script(pieces=pieces, piece_gates={2: gate}, headers=STREAM), path=CHAT, times=1
    )
    page = visit(relay.root)
    ask(page, "long")
    expect(last(page).locator(".body")).to_have_text("slow")
    button(page, "New conversation").first.click()
    ask(page, "short")
    answered(page, "short")
    if not back_first:
        gate.open()
    page.locator("#conversations .open", has_text="long").click()
    if back_first:
        expect(last(page).locator(".body")).to_have_text("slow")
        gate.open()
    answered(page, "slow answer")


ENDED = """() => {
  const scroller = document.getElementById("scroller");
  window.ended = new Promise((end) => scroller.addEventListener("scrollend", end, { once: true }));
}"""
"""A wheel's way may be a slow one: where it ends is known when it has ended."""


def test_the_list_follows_the_answer_until_the_reader_scrolls_up(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream
) -> None:
    gates = {60: Gate(), 120: Gate()}
    pieces = transcripts.chat_stream([f"line {number}\n\n" for number in range(180)])
    upstream.answer(Script(pieces=pieces, piece_gates=gates, headers=STREAM), path=CHAT, times=1)
    page = visit(relay.root)
    ask(page, "many lines")
    expect(page.get_by_text("line 58", exact=True)).to_be_in_viewport()
    gates[60].open()
    expect(page.get_by_text("line 118", exact=True)).to_be_in_viewport()
    page.hover("#messages")
    page.evaluate(ENDED)
    page.mouse.wheel(0, -900)
    page.evaluate("window.ended")
    expect(page.locator("#jump")).to_be_visible()
    before = page.evaluate("document.getElementById('scroller').scrollTop")
    gates[120].open()
    expect(page.locator("#send")).to_be_visible()
    assert page.evaluate("document.getElementById('scroller').scrollTop") == before
    page.click("#jump")
    expect(page.get_by_text("line 179", exact=True)).to_be_in_viewport()
