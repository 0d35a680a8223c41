"""The examples run as their README says."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from running import RunningRelay, StartRelay, chat

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(relay: RunningRelay, *command: str) -> str:
    done = subprocess.run(
        command,
        env=os.environ | {"OPENAI_BASE_URL": relay.url, "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_curl(request: pytest.FixtureRequest, target: str) -> None:
    printed = run(request.getfixturevalue(target), "sh", str(EXAMPLES / "curl.sh"))
    assert '"object":"list"' in printed.replace(" ", "")
    assert "data: [DONE]" in printed
    assert '"param": "messages"' in printed


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_the_openai_package(request: pytest.FixtureRequest, target: str) -> None:
    printed = run(
        request.getfixturevalue(target), sys.executable, str(EXAMPLES / "openai_client.py")
    )
    assert "# plain\nSay hello.\n" in printed
    assert "# streamed\nCount to five.\n" in printed
    assert "# tools\n" in printed


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_two_questions_at_once_on_a_websocket(request: pytest.FixtureRequest, target: str) -> None:
    program = str(EXAMPLES / "websocket_chat.py")
    printed = run(request.getfixturevalue(target), sys.executable, program)
    assert "# 1\nSay hello.\n" in printed
    assert "# 2\nCount to five.\n" in printed


def test_a_page_gets_a_token_and_not_the_key(start_relay: StartRelay) -> None:
    page, key = "http://localhost:3000", "rk-canary-0123456789"
    relay = start_relay(local="echo", api_keys=key)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    back_end = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "browser_token.py")],
        env=os.environ | {"OPENAI_BASE_URL": relay.url, "OPENAI_API_KEY": key, "PORT": str(port)},
        stderr=subprocess.DEVNULL,
    )
    try:
        made = _post_when_it_listens(f"http://127.0.0.1:{port}/", back_end)
        assert made.headers["access-control-allow-origin"] == page
        token = made.json()["value"]
        headers = {"authorization": f"Bearer {token}", "origin": page}
        answer = relay.http.post("/v1/chat/completions", json=chat(), headers=headers)
        assert answer.status_code == 200
    finally:
        back_end.kill()
        back_end.wait()
    code = [line for line in (EXAMPLES / "browser_token.py").read_text().splitlines() if line]
    assert sum("import" not in line and line[0] not in '#"' for line in code) <= 11


def _post_when_it_listens(url: str, server: subprocess.Popen[bytes]) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=30) as browser:
        while True:
            try:
                return browser.post(url)
            except httpx.ConnectError:
                assert server.poll() is None


def test_every_example_is_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name not in ("README.md", "__pycache__"):
            assert f"`{path.name}" in readme
