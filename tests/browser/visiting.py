"""Pages of a real Chromium, as somebody sees them who was never there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

PATIENCE_MS = 30_000
"""On a machine that has other work."""

Visit = Callable[..., Page]


@contextmanager
def visiting(browser: Browser) -> Iterator[Visit]:
    """Opens pages: `visit(address, locale="zh-CN", …)`.

    They must not complain, nor ask anything of another host. With `refused=True` requests may fail,
    which Chromium writes into the console by itself. With `clock=True` a page's time can be moved.
    """
    faults: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(
        address: str, *, refused: bool = False, clock: bool = False, **options: Any
    ) -> Page:
        options = {"viewport": {"width": 1180, "height": 760}, "locale": "en-GB"} | options
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        host = address.split("/")[2]

        def hear(line: ConsoleMessage) -> None:
            failed = refused and "Failed to load" in line.text
            if line.type == "error" and not failed:
                faults.append(line.text)

        def see(request: Request) -> None:
            if not request.url.startswith((f"http://{host}/", "data:", "blob:")):
                faults.append(request.url)

        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", hear)
        page.on("request", see)
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        if clock:
            page.clock.install()
        page.goto(address)
        # Whoever types before its scripts are there is not heard.
        expect(page.locator("#chat[aria-busy=true]")).to_have_count(0)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults, faults
