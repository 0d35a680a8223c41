"""What axe-core holds to be serious on a page: nothing may keep anybody out."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

OF_COLOURS = ("color-contrast", "link-in-text-block")
"""The rules for which it matters whether the page is light or dark."""


def hindrances(page: Page) -> list[str]:
    """What is serious or critical on it, and where; what is wrong in the dark as well."""
    found = _found(page)
    page.emulate_media(color_scheme="dark")
    found += [f"dark: {one}" for one in _found(page, *OF_COLOURS)]
    page.emulate_media(color_scheme="light")
    return found


def _found(page: Page, *rules: str) -> list[str]:
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => 0)))")
    options = {"resultTypes": ["violations"], "preload": False, "iframes": False}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    return [
        f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}"
        for one in Axe().run(page, options=options).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
