"""The dashboard for everybody: what axe-core finds in each of its views, light and dark."""

from pathlib import Path

import ledger_file
from dashboard_seed import seed
from everybody import hindrances
from fake_upstream import FakeUpstream
from playwright.sync_api import Browser, expect
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
