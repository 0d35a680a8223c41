"""A real Chromium, and a fresh page for each test."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_upstream import FakeUpstream
from playwright.sync_api import (
    Browser,
    Page,
    expect,
    sync_playwright,
)
from running import StartRelay
from visiting import PATIENCE_MS, Visit, visiting

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = Path(__file__).parent / "screenshots"

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one file: while Playwright runs its event loop, no other test could run one."""
    chromium = shutil.which("chromium")
    assert chromium, "these tests need Chromium: `make test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that must not complain; what it showed last is kept as a screenshot."""
    page = browser.new_page(viewport={"width": 900, "height": 700})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Security" in line.text else None)
    yield page
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{request.node.name}.png")
    page.close()
    assert faults == []


@pytest.fixture
def visit(browser: Browser, upstream: FakeUpstream, start_relay: StartRelay) -> Iterator[Visit]:
    """`visiting`, for one test: its pages close first, then its relays, then `upstream`."""
    with visiting(browser) as visit:
        yield visit


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def front_end() -> Iterator[Callable[[Path], str]]:
    """Serves a folder on a port of its own, as a front-end would; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


PACKAGES = ("openai@7", "react@19", "react-dom@19")


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of npm that the example pages use."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")  # an error in CI, as every skip there
    folder = tmp_path_factory.mktemp("npm")
    quiet = ("--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error")
    subprocess.run(
        [npm, "install", *quiet, "--prefix", str(folder), *PACKAGES],
        cwd=folder,
        check=True,
        timeout=300,
    )
    return folder / "node_modules"
