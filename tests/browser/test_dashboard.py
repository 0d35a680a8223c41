"""The dashboard in a real Chromium, over a ledger whose sums are known."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ledger_file
import pytest
from dashboard_seed import HOSTILE, seed
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from playwright.sync_api import Browser, Locator, Page, Route, expect
from running import RunningRelay, StartRelay
from transcripts import chat_body

KEY = "ak-browser-0123456789"
LIVE_MS = 3000
"""How often what is live is asked for; longer than any test would wait for each."""

Open = Callable[..., Page]


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path) -> RunningRelay:
    path = tmp_path / "relay.db"
    seed(path)
    return started(start_relay, upstream, tmp_path, database_url=ledger_file.url(path))


def started(start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path, **rest: Any) -> Any:
    settings = {"admin_key": KEY, "state_file": tmp_path / "state.json", "local": "echo"}
    return start_relay(upstream_url=upstream.url, **settings, **rest)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens pages that must not complain and must not leave their host."""
    pages: list[Page] = []
    faults: list[str] = []

    def open_page(
        root: str,
        view: str = "",
        *,
        key: str | None = KEY,
        width: int = 1200,
        clock: bool = False,
    ) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800}, locale="en-US")
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        # A refused key is a line of the console that no page can keep away.
        page.on(
            "console",
            lambda line: (
                faults.append(line.text)
                if line.type == "error" and "401" not in line.text and "400" not in line.text
                else None
            ),
        )
        page.on(
            "request", lambda request: faults.append(request.url) if away(request.url) else None
        )

        def away(url: str) -> bool:
            return urlsplit(url).netloc != urlsplit(root).netloc and not url.startswith("data:")

        if key is not None:
            kept = f"sessionStorage.setItem('relay-admin-key', '{key}')"
            page.add_init_script(f"if (!window.name) {{ window.name = 'seen'; {kept} }}")
        if clock:
            page.clock.install()
        page.goto(f"{root}/dashboard{view}")
        return page

    yield open_page
    for page in pages:
        assert page.evaluate("window.hacked") is None
        page.close()
    assert faults == []


def tile(page: Page, name: str) -> Locator:
    return page.locator(f"[data-tile={name}]")


def chart(page: Page, name: str) -> Locator:
    return page.locator(f"[data-chart={name}]")


def test_the_key_is_asked_for_once_and_kept_in_the_tab_only(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root, key=None)
    page.fill("#admin-key", "ak-wrong")
    page.press("#admin-key", "Enter")
    expect(page.get_by_role("alert")).to_have_text("The relay does not take that key.")
    page.fill("#admin-key", KEY)
    page.press("#admin-key", "Enter")
    expect(tile(page, "requests")).to_contain_text("120")
    assert page.evaluate("Object.values(sessionStorage)") == [KEY]
    assert KEY not in str(page.evaluate("Object.values(localStorage)"))
    page.reload()
    expect(tile(page, "requests")).to_contain_text("120")
    page.click("#forget")
    expect(page.locator("#admin-key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_that_no_longer_holds_is_asked_for_again(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root, key="ak-of-yesterday")
    expect(page.locator("#admin-key")).to_be_visible()
    expect(page.locator("#dashboard")).to_be_hidden()


def test_the_charts_show_what_is_in_the_ledger(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root)
    expect(tile(page, "requests")).to_contain_text("120")
    expect(tile(page, "errors")).to_contain_text("12")
    expect(tile(page, "errors")).to_contain_text("10% failed")
    expect(tile(page, "tokens")).to_contain_text("13K")
    expect(tile(page, "cost")).to_contain_text("$0.22")
    expect(chart(page, "requests").locator(".legend").first).to_contain_text("failed")
    expect(chart(page, "requests").locator("text.label").last).to_be_visible()
    assert chart(page, "requests").locator("rect.bar.s1").count() in (1, 2)  # an hour may begin
    label = chart(page, "requests").locator(".plot").get_attribute("aria-label")
    assert label == "Requests: answered 108, failed 12"
    p95 = re.search(r"[\d.]+ s", tile(page, "latency").inner_text())
    assert p95
    assert 2.5 / 1.5 < float(p95[0].split()[0]) < 2.5 * 1.5


def test_a_chart_is_a_table_too_and_is_read_by_arrow_keys(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root)
    plot = chart(page, "tokens").locator(".plot")
    plot.focus()
    total = 0
    page.keyboard.press("End")
    for _ in range(2):
        text = chart(page, "tokens").locator(".tip li").last.inner_text()
        total += int(re.sub(r"\D", "", text))
        page.keyboard.press("ArrowLeft")
    assert total == 108 * 120
    page.keyboard.press("Escape")
    expect(chart(page, "tokens").locator(".tip")).to_be_hidden()
    chart(page, "errors").get_by_role("button").click()
    rows = chart(page, "errors").locator("tbody tr")
    expect(rows).to_have_count(24)
    assert sum(int(row.locator("td").inner_text()) for row in rows.all()[:2]) == 12
    plot.hover()
    expect(chart(page, "tokens").locator(".tip")).to_be_visible()


def test_they_are_split_and_filtered_by_model_key_and_upstream(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root)
    page.select_option("#split", "upstream")
    expect(chart(page, "requests").locator("figcaption ~ .legend")).to_have_text("openaiazure")
    label = chart(page, "requests").locator(".plot").get_attribute("aria-label")
    assert label == "Requests: openai 80, azure 40"
    page.get_by_role("button", name="gpt-4o", exact=True).click()
    expect(tile(page, "requests")).to_contain_text("80")
    page.get_by_role("button", name="Close: Model gpt-4o").click()
    expect(tile(page, "requests")).to_contain_text("120")
    page.select_option("#by", "key")
    expect(page.locator("#groups tbody tr")).to_have_count(4)
    page.get_by_role("button", name=HOSTILE, exact=True).click()
    expect(tile(page, "requests")).to_contain_text("30")
    page.select_option("#range", "30")
    expect(chart(page, "cost").locator(".note")).to_have_text("USD by day (UTC)")


def test_the_mode_is_switched_and_upstreams_are_live(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root, clock=True)
    expect(page.locator("html")).to_have_attribute("data-ready", "")  # its timers are set
    modes = page.locator("#modes")
    expect(modes.get_by_role("button", name="auto")).to_have_attribute("aria-pressed", "true")
    modes.get_by_role("button", name="local").click()
    expect(page.locator("#serving")).to_have_text("serving: local")
    expect(modes.get_by_role("button", name="local")).to_have_attribute("aria-pressed", "true")
    admin = {"authorization": f"Bearer {KEY}"}
    assert relay.http.get("/admin/mode", headers=admin).json()["mode"] == "local"
    relay.http.put("/admin/mode", json={"mode": "remote"}, headers=admin)
    page.clock.run_for(LIVE_MS)
    expect(page.locator("#serving")).to_have_text("serving: remote")
    card = page.locator("[data-upstream=upstream]")
    expect(card).to_contain_text("working")
    key = relay.http.post("/admin/keys", json={"name": "x"}, headers=admin).json()["key"]
    relay.http.headers["authorization"] = f"Bearer {key}"
    relay.ask().raise_for_status()
    page.clock.run_for(LIVE_MS)
    expect(card.locator("dl > div", has_text="Calls")).to_contain_text("1")


def test_upstreams_show_who_waits_and_what_is_within_reach(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path, open_page: Open
) -> None:
    gate = Gate()
    upstream.answer(Script(gate=gate, body=chat_body("ok")))
    relay = start_relay(
        admin_key=KEY,
        local="echo",
        state_file=tmp_path / "state.json",
        upstreams=[{"name": "narrow", "base_url": upstream.url, "max_parallel": 1}],
    )
    with ThreadPoolExecutor(3) as callers:
        answers = [callers.submit(relay.ask) for _ in range(3)]
        page = open_page(relay.root)
        narrow, local = (page.locator(f"[data-upstream={name}]") for name in ("narrow", "local"))
        expect(narrow.locator("dl > div", has_text="In flight")).to_contain_text("3, 2 waiting")
        expect(narrow).to_contain_text("within reach")
        expect(local).to_contain_text("echo: loaded")
        expect(local).to_contain_text("working")
        expect(local).not_to_contain_text("within reach")
        gate.open()
        assert [answer.result().status_code for answer in answers] == [200] * 3
    expect(narrow.locator("dl > div", has_text="In flight")).to_have_text("In flight0")


def test_a_key_is_made_changed_rotated_and_revoked(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root, "#keys")
    page.click("#keys-new")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("web-shop")
    dialog.get_by_label("Requests/min").fill("2")
    dialog.get_by_label("Budget (USD)").fill("5")
    dialog.get_by_label("Team").select_option("Search")
    dialog.get_by_label("Origins").fill("no origin")
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("origins")
    expect(dialog.get_by_label("Origins")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Origins").fill("")
    dialog.get_by_role("button", name="Make it").click()
    first = page.locator("#made-key").input_value()
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.get_by_text("Copied")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    assert first not in page.content()
    row = page.locator("#keys-list tr", has_text="web-shop")
    expect(row).to_contain_text("2 Requests/min")
    expect(row).to_contain_text("$0.00 of $5.00 / ")
    expect(row).to_contain_text("Search")
    assert answers(relay, first) == 200

    row.get_by_role("button", name="Change").click()
    dialog.get_by_label("Requests/min").fill("")
    dialog.get_by_label("Budget (USD)").fill("")
    dialog.get_by_label("Models").fill("m, gpt-*")
    dialog.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("unlimited")
    expect(row).to_contain_text("m, gpt-*")

    row.get_by_role("button", name="Rotate").click()
    dialog.get_by_label("The old key").select_option("an hour more")
    dialog.get_by_role("button", name="Make another").click()
    second = page.locator("#made-key").input_value()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert second not in page.content()
    expect(row).to_contain_text("The key before holds until")
    assert second != first
    assert (answers(relay, first), answers(relay, second)) == (200, 200)

    row.get_by_role("button", name="Revoke").click()
    dialog.get_by_role("button", name="Cancel").click()
    row.get_by_role("button", name="Revoke").click()
    dialog.get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    assert (answers(relay, first), answers(relay, second)) == (401, 401)
    page.goto(f"{relay.root}/dashboard#audit")
    for act in ("key.create", "key.update", "key.rotate", "key.revoke"):
        expect(page.locator("#audit-list")).to_contain_text(act)


def test_a_key_can_be_made_before_the_list_is_there(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root, "#audit")
    expect(page.locator("html")).to_have_attribute("data-ready", "")
    held: list[Route] = []
    page.route("**/admin/keys?*", lambda route: held.append(route))  # noqa: PLW0108  a method of C takes no mark of Playwright
    page.goto(f"{relay.root}/dashboard#keys")
    page.click("#keys-new")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Team").select_option("Search")
    held[0].continue_()
    page.unroute_all()
    dialog.get_by_label("Name").fill("early")
    dialog.get_by_role("button", name="Make it").click()
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("#keys-list tr", has_text="early")).to_contain_text("Search")


def test_a_key_that_was_closed_is_out_of_the_page_at_once(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root, "#keys")
    page.click("#keys-new")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("shown-once")
    dialog.get_by_role("button", name="Make it").click()
    expect(page.locator("#made-key")).to_be_visible()
    left = page.evaluate(
        """() => {
          [...document.querySelectorAll("dialog button")].at(-1).click();
          return document.querySelectorAll("dialog").length;
        }"""
    )
    assert left == 0


def test_who_leaves_before_a_key_is_made_is_shown_it_all_the_same(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root, "#keys")
    expect(page.locator("#keys-list tbody tr")).to_have_count(20)
    held: list[Route] = []
    page.route("**/admin/keys", lambda route: held.append(route))  # noqa: PLW0108  a method of C takes no mark of Playwright
    page.click("#keys-new")
    leave_before_the_answer(page)
    held.pop().continue_()
    expect(page.locator("#made-key")).to_have_value(re.compile("^rk-"))
    page.keyboard.press("Escape")
    expect(page.locator("#keys-list tr", has_text="impatient")).to_have_count(1)
    page.click("#keys-new")
    leave_before_the_answer(page)
    held.pop().fulfill(status=400, json={"error": {"message": "too many keys"}})
    expect(page.locator(".notice.bad")).to_have_text("too many keys")


def leave_before_the_answer(page: Page) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("impatient")
    with page.expect_request("**/admin/keys"):
        dialog.get_by_role("button", name="Make it").click()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def answers(relay: RunningRelay, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    return relay.http.post("/v1/chat/completions", json=body, headers=headers).status_code


def test_a_hundred_keys_are_paged_and_searched(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root, "#keys")
    rows = page.locator("#keys-list tbody tr")
    expect(rows).to_have_count(20)
    for part in ("1–20", "21–40", "41–60", "61–80", "81–100"):
        expect(page.get_by_text(part, exact=True)).to_be_visible()
        page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("101–105 of 105")).to_be_visible()
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    expect(rows.last).to_contain_text(HOSTILE)
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_text("81–100", exact=True)).to_be_visible()
    page.fill("#keys-search", "PROGRAM-07")
    expect(rows).to_have_count(10)
    expect(page.get_by_text("1–10 of 10")).to_be_visible()
    page.fill("#keys-search", "search")
    expect(page.get_by_text("1–20", exact=True)).to_be_visible()
    expect(rows.first).to_contain_text("Search")
    page.fill("#keys-search", "nobody's")
    expect(page.locator("#keys-list")).to_have_text("No key is like that.")
    page.fill("#keys-search", "")
    page.select_option("#keys-state", "revoked")
    expect(page.locator("#keys-list")).to_have_text("No key is like that.")
    page.goto(f"{relay.root}/dashboard#teams")
    expect(page.locator("#teams-list tbody tr")).to_contain_text("Search52")


def test_a_page_whose_last_key_is_gone_gives_way_to_the_one_before(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root, "#keys")
    rows = page.locator("#keys-list tbody tr")
    page.select_option("#keys-state", "active")
    for part in ("21–40", "41–60", "61–80", "81–100", "101–105 of 105"):
        page.get_by_role("button", name="Next").click()
        expect(page.get_by_text(part, exact=True)).to_be_visible()
    for number in range(1, 5):
        path = f"/admin/keys/key_{number}"
        assert relay.http.delete(path, headers={"authorization": f"Bearer {KEY}"}).is_success
    page.click("#refresh")
    expect(page.get_by_text("101–101 of 101")).to_be_visible()
    rows.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("81–100 of 100")).to_be_visible()
    expect(rows).to_have_count(20)


def test_who_turns_pages_in_a_hurry_misses_none(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root, "#keys")
    # Both before there is another page: by the mouse, the second may hit the button of that one.
    page.get_by_role("button", name="Next").evaluate("it => { it.click(); it.click(); }")
    expect(page.get_by_text("21–40", exact=True)).to_be_visible()
    expect(page.locator("#keys-list tbody tr").first).to_contain_text("program-084")


def test_requests_are_shown_with_what_they_went_through(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root, "#requests")
    rows = page.locator("#requests-list tr[data-request]")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="More").click()
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="More").click()
    expect(rows).to_have_count(120)
    expect(page.get_by_text("That is all.")).to_be_visible()
    page.select_option("#requests-status", "failed")
    expect(rows).to_have_count(12)
    page.select_option("#requests-model", "gpt-4o")
    expect(rows).to_have_count(8)
    page.select_option("#requests-key", "program-003")
    expect(rows).to_have_count(4)
    rows.first.get_by_role("button").click()
    detail = page.locator("tr.detail:visible")
    expect(detail).to_contain_text("2 of them → openai")
    expect(detail).to_contain_text("upstream_unreachable")
    expect(detail).to_contain_text("alias")
    page.select_option("#requests-status", "429")
    expect(page.locator("#requests-list")).to_contain_text("No request is like that.")


def test_names_are_text_whatever_they_say(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root)
    page.select_option("#split", "model")
    expect(chart(page, "cost").locator("figcaption ~ .legend")).to_contain_text(HOSTILE)
    for view in ("keys", "requests", "teams", "audit"):
        page.goto(f"{relay.root}/dashboard#{view}")
        expect(page.locator(f"#{view}-list")).not_to_be_empty()
    assert page.locator("main img").count() == 0


def test_it_speaks_chinese_and_fits_a_phone(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root, width=360)
    expect(tile(page, "requests")).to_contain_text("120")
    page.click("#language")
    expect(page.get_by_role("heading", name="首个令牌时间")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "zh"
    for view in ("overview", "keys", "requests", "teams", "audit"):
        page.goto(f"{relay.root}/dashboard#{view}")
        expect(
            page.locator(f"#{'charts' if view == 'overview' else f'{view}-list'}")
        ).not_to_be_empty()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.click("#language")
    expect(page.get_by_role("link", name="Audit")).to_be_visible()


def test_on_a_phone_a_row_is_a_card_that_needs_no_sideways_scrolling(
    relay: RunningRelay, open_page: Open
) -> None:
    page = open_page(relay.root, width=360)
    for view in ("keys", "requests", "teams"):
        page.goto(f"{relay.root}/dashboard#{view}")
        rows = page.locator(f"#{view}-list .scroll")
        expect(rows).to_be_visible()
        assert rows.evaluate("it => it.scrollWidth - it.clientWidth") == 0, view
    page.goto(f"{relay.root}/dashboard#keys")
    # The list is drawn once more when it is shown, so what was found may be gone.
    page.wait_for_function(
        """() => {
            const cell = document.querySelector("#keys-list td[data-head=Limits]");
            return cell && getComputedStyle(cell, "::before").content === '"Limits"';
        }"""
    )
    row = page.locator("#keys-list tr[data-key]").first
    row.get_by_role("button", name="Change").click()  # in reach of a thumb
    expect(page.get_by_role("dialog")).to_be_visible()


def test_without_an_admin_key_the_page_says_how_to_have_one(
    echo: RunningRelay, open_page: Open
) -> None:
    page = open_page(echo.root, key=None)
    expect(page.locator("main")).to_contain_text("RELAY_ADMIN_KEY")
    page.click("#language")
    expect(page.get_by_role("heading")).to_have_text("控制台尚未开启")


def test_axes_have_round_numbers(relay: RunningRelay, open_page: Open) -> None:
    page = open_page(relay.root)
    for most, whole, ticks in (
        (0, True, [0, 1]),
        (1, True, [0, 1]),
        (3, True, [0, 1, 2, 3]),
        (7, True, [0, 2, 4, 6, 8]),
        (9, True, [0, 5, 10]),
        (70, True, [0, 20, 40, 60, 80]),
        (90, True, [0, 25, 50, 75, 100]),
        (1, False, [0, 0.25, 0.5, 0.75, 1]),
        (0.015, False, [0, 0.005, 0.01, 0.015]),
    ):
        found = page.evaluate(
            "async ([most, whole]) =>"
            " (await import('/static/dashboard/chart.js')).niceTicks(most, whole)",
            [most, whole],
        )
        assert found == pytest.approx(ticks)


def test_without_a_database_it_says_so_and_shows_the_rest(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path, open_page: Open
) -> None:
    relay = started(start_relay, upstream, tmp_path)
    page = open_page(relay.root)
    expect(page.locator("#charts")).to_contain_text("RELAY_DATABASE_URL is none")
    expect(page.locator("[data-upstream=upstream]")).to_be_visible()
    page.locator("#modes").get_by_role("button", name="local").click()
    expect(page.locator("#serving")).to_have_text("serving: local")
    for view in ("keys", "requests", "teams", "audit"):
        page.goto(f"{relay.root}/dashboard#{view}")
        expect(page.locator(f"#{view}-list")).to_contain_text("RELAY_DATABASE_URL is none")


def test_without_requests_or_keys_it_says_so(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path, open_page: Open
) -> None:
    url = ledger_file.url(tmp_path / "empty.db")
    relay = started(start_relay, upstream, tmp_path, database_url=url)
    page = open_page(relay.root)
    expect(page.locator("#charts")).to_contain_text("Nothing yet")
    expect(page.locator("#breakdown")).to_be_hidden()
    for view, text in (
        ("keys", "There are no keys yet."),
        ("requests", "No request is like that."),
        ("teams", "There are no teams."),
        ("audit", "Nothing has been done"),
    ):
        page.goto(f"{relay.root}/dashboard#{view}")
        expect(page.locator(f"#{view}-list")).to_contain_text(text)


def test_a_relay_that_is_gone_is_told(relay: RunningRelay, browser: Browser) -> None:
    page = browser.new_page()
    page.add_init_script(f"sessionStorage.setItem('relay-admin-key', '{KEY}')")
    page.goto(f"{relay.root}/dashboard")
    expect(tile(page, "requests")).to_contain_text("120")
    page.route("**/admin/**", lambda route: route.abort())
    page.click("#refresh")
    expect(page.locator("#trouble")).to_contain_text("does not answer")
    page.unroute("**/admin/**")
    page.click("#refresh")
    expect(page.locator("#trouble")).to_be_hidden()
    page.close()
