"""`relay serve`: a real server, started and stopped as its users do."""

import argparse
import json
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fake_upstream import FakeUpstream

from cli.program import PATIENCE_S, Program, environment


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
    except urllib.error.URLError:
        return False
    return True


@contextmanager
def serving(directory: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`relay serve` on a free port, once it can be called: the process and its base URL."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "relay", "serve", "--port", str(port), *arguments],
        cwd=directory,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while not answers(port):
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"it ended with {process.wait(timeout=0.05)}")
            yield process, f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def stop(process: subprocess.Popen[str], by: signal.Signals = signal.SIGTERM) -> str:
    """End it; returns what it wrote to standard error."""
    process.send_signal(by)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    return errors


def as_curl(line: str) -> bytes:
    """What curl would show; not every machine that runs the tests has it."""
    curl = argparse.ArgumentParser()
    curl.add_argument("url")
    curl.add_argument("-N", action="store_true")
    curl.add_argument("-H", action="append")
    curl.add_argument("-d")
    name, *arguments = shlex.split(line)
    assert name == "curl"
    given = curl.parse_args(arguments)
    headers = dict(header.split(": ", 1) for header in given.H)
    with urllib.request.urlopen(
        urllib.request.Request(given.url, given.d.encode(), headers)
    ) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_what_it_serves(tmp_path: Path, by: signal.Signals) -> None:
    with serving(tmp_path, "--local", "echo") as (process, url):
        shown = stop(process, by)

    assert f"on {url}\n" in shown
    assert "serves from the local model echo\n" in shown
    assert "for everyone on this machine, without a key\n" in shown


@pytest.mark.parametrize("keys", [(), ("--api-keys", "rk-canary")])
def test_the_curl_line_can_be_copied(tmp_path: Path, keys: tuple[str, ...]) -> None:
    with serving(tmp_path, "--local", "echo", *keys) as (process, _):
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.strip().startswith("curl "))
        assert "canary" not in line
        answer = as_curl(line.replace("Bearer KEY", "Bearer rk-canary"))
        stop(process)

    assert answer.endswith(b"data: [DONE]\n\n")
    assert ("authorization" in line) is bool(keys)


def test_a_key_that_was_made_before_is_told_at_the_next_start(tmp_path: Path) -> None:
    given = ("--local", "echo", "--admin-key", "ak-canary-0123456789")
    with serving(tmp_path, *given) as (process, url):
        made = urllib.request.Request(
            f"{url.removesuffix('/v1')}/admin/keys",
            b'{"name": "ci"}',
            {"authorization": "Bearer ak-canary-0123456789"},
        )
        with urllib.request.urlopen(made) as answer:
            key = json.load(answer)["key"]
        assert "everyone on this machine, without a key, until one is made\n" in stop(process)
    with serving(tmp_path, *given) as (process, _):
        assert process.stderr is not None
        shown = iter(process.stderr)
        assert "  for callers with a key of the database\n" in shown
        assert as_curl(next(shown).replace("Bearer KEY", f"Bearer {key}"))
        stop(process)


def test_an_upstream_is_named_and_its_key_is_not(tmp_path: Path, fake: FakeUpstream) -> None:
    given = ("--upstream-url", fake.url, "--upstream-api-key", "sk-canary")
    with serving(tmp_path, *given) as (process, _):
        shown = stop(process)

    assert f"serves from {fake.url}\n" in shown
    assert "canary" not in shown


def test_a_chosen_local_model_behind_an_upstream_is_named(
    tmp_path: Path, fake: FakeUpstream
) -> None:
    with serving(tmp_path, "--upstream-url", fake.url, "--local", "echo") as (process, _):
        shown = stop(process)

    assert "while the network is away from the local model echo\n" in shown


def test_the_first_named_model_is_the_one_to_try(tmp_path: Path, fake: FakeUpstream) -> None:
    (tmp_path / "relay.toml").write_text(
        """
        [[models]]
        id = "vendor/*"
        targets = [{ upstream = "upstream" }]

        [[models]]
        id = "big"
        targets = [{ upstream = "upstream" }]
        """
    )
    with serving(tmp_path, "--upstream-url", fake.url) as (process, _):
        shown = stop(process)

    assert '"model": "big"' in shown


def test_json_logs_come_without_a_banner(tmp_path: Path) -> None:
    with serving(tmp_path, "--local", "echo", "--log-format", "json") as (process, _):
        shown = stop(process)

    assert all(line.startswith("{") for line in shown.splitlines())


def test_the_chat_and_the_models_work_against_it(relay: Program, tmp_path: Path) -> None:
    with serving(tmp_path, "--local", "echo", "--api-keys", "rk-canary") as (process, url):
        at = ("--url", url, "--key", "rk-canary")
        models = relay("models", *at)
        answer = relay("chat", *at, "How are you?")
        refused = relay("chat", "--url", url, "--key", "rk-wrong", "How are you?")
        stop(process)

    assert models.stdout.splitlines()[1].startswith("echo")
    assert answer.stdout == "How are you?\n"
    assert refused.returncode == 1
    assert refused.stderr.startswith("relay: the key is missing or refused")


def test_a_port_in_use_is_one_sentence(relay: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        shown = relay("serve", "--local", "echo", "--port", str(port), "--log-format", "json")

    assert shown.returncode == 1
    assert shown.stderr == (
        f"relay: port {port} of 127.0.0.1 is in use already; choose another with --port\n"
    )


def test_an_address_of_another_machine_is_one_sentence(relay: Program) -> None:
    shown = relay(
        "serve",
        "--local",
        "echo",
        "--host",
        "192.0.2.1",
        "--allow-anonymous",
        "--log-format",
        "json",
    )

    assert shown.returncode == 1
    assert shown.stderr == (
        "relay: cannot listen on port 8000 of 192.0.2.1: Cannot assign requested address\n"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ("--port", "many"),
        ("--timeouts-idle-s", "-1"),
        ("--config", "nowhere.toml"),
        ("--host", "0.0.0.0"),
        ("--local", "llama:nowhere.gguf"),
    ],
)
def test_a_wrong_setting_is_one_message_and_no_traceback(
    relay: Program, wrong: tuple[str, ...]
) -> None:
    shown = relay("serve", *wrong)

    assert shown.returncode == 2
    assert shown.stdout == ""
    assert all(line.startswith("relay: ") for line in shown.stderr.splitlines())
