"""The dashboard for everybody: axe-core in each view, light and dark; keyboard; long names."""

from pathlib import Path

import ledger_file
from dashboard_seed import seed
from everybody import hindrances
from fake_upstream import FakeUpstream
from playwright.sync_api import Browser, Page, expect
from running import StartRelay

KEY = "ak-browser-0123456789"
VIEWS = ("overview", "keys", "requests", "teams", "audit")


def test_nothing_keeps_anybody_out(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path, browser: Browser
) -> None:
    path = tmp_path / "relay.db"
    seed(path, requests=20, keys=4)
    relay = start_relay(
        upstream_url=upstream.url, admin_key=KEY, database_url=ledger_file.url(path)
    )
    page = browser.new_page(color_scheme="light")
    page.goto(f"{relay.root}/dashboard")
    expect(page.locator("#admin-key")).to_be_visible()
    assert hindrances(page) == []
    page.fill("#admin-key", KEY)
    page.press("#admin-key", "Enter")
    for view in VIEWS:
        page.goto(f"{relay.root}/dashboard#{view}")
        expect(page.locator(f"#{view}")).to_be_visible()
        if view == "overview":
            page.locator("[data-chart=errors] button").click()
            page.hover("[data-chart=requests] .plot")
        else:
            expect(page.locator(f"#{view}-list")).not_to_be_empty()
        assert hindrances(page) == []
    page.goto(f"{relay.root}/dashboard#keys")
    page.click("#keys-new")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert hindrances(page) == []
    page.close()


def press(page: Page, name: str) -> None:
    """Press a button by the keyboard; it keeps the focus that it was given."""
    page.get_by_role("button", name=name, exact=True).focus()
    page.keyboard.press("Enter")


def test_who_works_with_the_keyboard_stays_where_he_is(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path, browser: Browser
) -> None:
    path = tmp_path / "relay.db"
    seed(path, keys=45)
    relay = start_relay(
        upstream_url=upstream.url, admin_key=KEY, database_url=ledger_file.url(path)
    )
    page = browser.new_page(locale="en-GB")
    page.add_init_script(f"sessionStorage.setItem('relay-admin-key', '{KEY}')")
    focused = page.locator(":focus")

    page.goto(f"{relay.root}/dashboard#keys")
    press(page, "Next")
    expect(page.get_by_text("21–40", exact=True)).to_be_visible()
    expect(focused).to_have_text("Next")
    page.keyboard.press("Enter")
    expect(page.get_by_text("41–45 of 45")).to_be_visible()
    expect(focused).to_have_text("Previous")  # there is no next one
    press(page, "Change: program-003")
    page.get_by_role("textbox", name="Name", exact=True).fill("renamed")
    page.keyboard.press("Enter")
    expect(focused).to_have_attribute("aria-label", "Change: renamed")
    press(page, "Revoke: renamed")
    page.get_by_role("dialog").get_by_role("button", name="Revoke").press("Enter")
    expect(page.get_by_role("button", name="Revoke: renamed")).to_have_count(0)
    expect(focused).to_have_attribute("id", "keys-search")

    page.goto(f"{relay.root}/dashboard#requests")
    rows = page.locator("#requests-list tr[data-request]")
    press(page, "More")
    expect(rows).to_have_count(100)
    expect(focused).to_have_text("More")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(120)
    expect(rows.last.locator("button")).to_be_focused()

    page.goto(f"{relay.root}/dashboard#overview")
    press(page, "gpt-4o")
    expect(page.locator("#filters button")).to_have_count(1)
    expect(page.locator("#groups tbody tr")).to_have_count(1)
    expect(focused).to_have_text("gpt-4o")
    page.locator("#filters button").press("Enter")
    expect(page.locator("#filters button")).to_have_count(0)
    expect(focused).to_have_attribute("id", "split")
    page.close()
