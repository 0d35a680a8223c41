"""The chat page for everybody: keyboard, screen readers, phones, Chinese, slow lines."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import transcripts
from everybody import hindrances
from fake_script import Script
from fake_upstream import FakeUpstream
from playwright.sync_api import Page, expect
from running import RunningRelay, StartRelay

from relay.settings import PriceSettings

Visit = Callable[..., Page]
PHONE = {"width": 390, "height": 780}
LARGEST_BYTES = 150_000
PICTURES = Path(__file__).parents[2] / "docs" / "img"

ANSWER = """A **hash table** keeps values by their key. A *hash function* turns the key into a \
number, and the number says in which bucket to look:

```python
def bucket(key: str, size: int) -> int:
    return sum(key.encode()) % size

print(bucket("relay", 8))
```

| operation | usual | worst |
|---|--:|--:|
| find | O(1) | O(n) |
| insert | O(1) | O(n) |

Two keys may meet in one bucket. Then one of them

1. joins a short list there, or
2. takes the next bucket that is free.

[More on it](https://en.wikipedia.org/wiki/Hash_table)
"""


def ask(page: Page, text: str) -> None:
    page.fill("#query", text)
    page.press("#query", "Enter")
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#messages > li").last.locator(".took")).not_to_be_empty()


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    stream = transcripts.chat_stream(
        re.findall(r"\S+\s*|\s+", ANSWER),
        usage={"prompt_tokens": 21, "completion_tokens": 164, "total_tokens": 185},
    )
    upstream.answer(
        Script(body=transcripts.models_body("gpt-4o-mini", "gpt-4o")), path="/v1/models"
    )
    headers = [(b"content-type", b"text/event-stream")]
    upstream.answer(Script(pieces=stream, headers=headers), path="/v1/chat/completions")
    price = {"model": "*", "prompt_usd": 0.15, "completion_usd": 0.6}
    return start_relay(upstream_url=upstream.url, prices=[PriceSettings.model_validate(price)])


def test_axe_finds_nothing_serious(visit: Visit, relay: RunningRelay) -> None:
    page = visit(relay.root, color_scheme="light")
    expect(page.locator("#serving")).to_be_visible()
    assert hindrances(page) == []
    ask(page, "How does a hash table work?")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".which")).to_be_visible()
    assert hindrances(page) == []
    for opened in ("Settings", "Keyboard"):
        page.get_by_role("button", name=opened, exact=True).click()
        assert hindrances(page) == []
        page.keyboard.press("Escape")


def test_axe_finds_nothing_serious_on_a_phone(visit: Visit, relay: RunningRelay) -> None:
    page = visit(relay.root, viewport=PHONE, has_touch=True, is_mobile=True)
    ask(page, "How does a hash table work?")
    assert hindrances(page) == []
    page.click("#sidebar-toggle")
    assert hindrances(page) == []


@pytest.mark.parametrize("width", [PHONE["width"], 320])
def test_a_phone_shows_all_of_it(
    visit: Visit, relay: RunningRelay, upstream: FakeUpstream, width: int
) -> None:
    names = transcripts.models_body("a-model-of-a-vendor-with-a-name-that-fits-no-phone")
    upstream.answer(Script(body=names), path="/v1/models")
    page = visit(relay.root, viewport=PHONE | {"width": width}, has_touch=True, is_mobile=True)
    expect(page.locator("#model")).to_have_value(re.compile("fits-no-phone$"))
    expect(page.locator("#serving")).to_be_visible()
    ask(page, "How does a hash table work?")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    expect(page.locator("#sidebar")).to_be_hidden()
    page.click("#sidebar-toggle")
    page.locator("#conversations .open").click()
    expect(page.locator("#sidebar")).to_be_hidden()
    for name in ("#sidebar-toggle", "#model", "#serving", "#settings-open", "#send", "#query"):
        box = page.locator(name).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert name == "#query" or box["height"] <= 40  # in a line


def test_everything_is_within_reach_of_the_keyboard(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root)
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(page.locator("#query")).to_have_value("one\ntwo")
    page.keyboard.press("Enter")
    expect(page.locator("#messages .took").last).not_to_be_empty()
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("textbox", name="Your question")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#conversations .open")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.press("Control+.")
    expect(page.locator("#settings")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    expect(page.locator("#shortcuts")).to_contain_text("Search the conversations")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+o")
    expect(page.locator("#empty")).to_be_visible()


def test_the_focus_stays_where_it_was(visit: Visit, relay: RunningRelay) -> None:
    page = visit(relay.root)
    for text in ("first", "second"):
        page.keyboard.press("Control+Shift+o")
        ask(page, text)
    focused = page.locator(":focus")
    page.keyboard.press("Control+k")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    expect(focused).to_have_text("first")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("first")
    expect(focused).to_have_text("first")
    page.keyboard.press("ArrowUp")
    expect(focused).to_have_text("second")
    page.locator("#conversations li").last.get_by_role("button", name="Rename").press("Enter")
    page.get_by_role("textbox", name="Name of the conversation").fill("renamed")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("renamed")
    expect(focused).to_have_attribute("aria-label", "Rename")
    page.get_by_role("button", name="Try again").press("Enter")
    expect(page.locator(".which")).to_be_visible()
    expect(page.locator("#scroller")).to_be_focused()
    expect(page.locator("#send")).to_be_visible()
    page.locator("#conversations li").last.get_by_role("button", name="Delete").press("Enter")
    page.locator("dialog").get_by_role("button", name="Delete").press("Enter")
    expect(page.locator("#conversations li")).to_have_count(1)
    expect(focused).to_have_attribute("id", re.compile("^(search|query)$"))


def test_an_input_methods_enter_sends_nothing(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root)
    page.fill("#query", "ni hao")
    event = {"key": "Enter", "isComposing": True, "bubbles": True}
    page.dispatch_event("#query", "keydown", event)
    expect(page.locator("#query")).to_have_value("ni hao")
    assert page.locator("#messages > li").count() == 0


def test_who_listens_hears_of_the_answer_once(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root)
    page.evaluate(
        """() => {
          window.heard = [];
          const told = document.getElementById("told");
          const hear = () => heard.push(told.textContent);
          new MutationObserver(hear).observe(told, { childList: true });
        }"""
    )
    ask(page, "many words in one answer")
    assert page.evaluate("heard") == [
        "An answer is being written.",
        "The answer is there. many words in one answer",
    ]


def test_it_speaks_chinese(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root, locale="zh-CN")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("#query")).to_have_attribute("placeholder", "问点什么")
    ask(page, "你好")
    expect(page.locator(".sender").first).to_have_text("你")
    expect(page.locator(".took").last).to_contain_text("本地")
    page.click("#language")
    expect(page.locator(".sender").first).to_have_text("you")
    page.reload()
    expect(page.locator("#query")).to_have_attribute("placeholder", "Ask something")


def test_both_languages_have_the_same_words() -> None:
    text = (Path(__file__).parents[2] / "relay/web/static/chat/words.js").read_text()
    english, chinese = re.findall(r"= \{\n(.*?)\n\};", text, re.DOTALL)[:2]

    def words(of: str) -> list[tuple[str, list[str]]]:
        lines = re.findall(r'^  (\w+): "(.*)",$', of, re.MULTILINE)
        return [(name, sorted(re.findall(r"\{\w+\}", said))) for name, said in lines]

    assert words(english) == words(chinese)


def test_a_theme_that_was_chosen_stays(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark or light").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate(ground) == light
    assert page.evaluate("localStorage.getItem('relay-theme')") is None


def test_it_is_small_and_asks_no_other_host(visit: Visit, echo: RunningRelay) -> None:
    page = visit(echo.root)
    expect(page.locator("#serving")).to_be_visible()
    loaded = page.evaluate(
        """() => ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
          .map(({ name, transferSize }) => [name, transferSize])"""
    )
    assert sum(size for _, size in loaded) < LARGEST_BYTES
    assert all(name.startswith(echo.root) for name, _ in loaded)
    policy = echo.http.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["chat-light", "chat-dark", "chat-phone"])
def test_it_has_its_picture_taken(
    visit: Visit, relay: RunningRelay, name: str, tmp_path: Path
) -> None:
    """Those of docs/img, which are drawn anew where `DRAW_PICTURES` is set."""
    phone = name == "chat-phone"
    options = {"viewport": PHONE if phone else {"width": 1180, "height": 760}, "is_mobile": phone}
    page = visit(relay.root, color_scheme="dark" if name == "chat-dark" else "light", **options)
    for text in (
        "Write a polite mail that moves a meeting to Thursday",
        "What is a context manager for?",
        "How does a hash table work?",
    ):
        if not phone:
            page.keyboard.press("Control+Shift+o")
        ask(page, text)
    page.mouse.move(0, 0)
    expect(page.get_by_role("button", name="Stop")).not_to_be_visible()
    picture = (PICTURES if "DRAW_PICTURES" in os.environ else tmp_path) / f"{name}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size < LARGEST_BYTES
