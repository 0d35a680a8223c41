"""`RELAY_WORKERS`: several processes on one address, replaced when they die, ended together."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import transcripts
from cli.program import Program
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import accepts, chat, process
from waiting import until

from relay.serving import serve
from relay.settings import Settings, SettingsError

STREAM = [(b"content-type", b"text/event-stream")]
WHO = """
import gc, json, os

import httpx

class Who(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        said = f"{os.getpid()} {gc.get_freeze_count()}"
        message = {"role": "assistant", "content": said}
        return httpx.Response(200, json={"choices": [{"index": 0, "message": message}]})

def make():
    return Who()
"""
WHO_CONFIG = """
[[upstreams]]
name = "who"
base_url = "http://who.invalid/v1"
transport = "who:make"
"""
BROKEN_IN_WORKERS = """
import multiprocessing

class Model:
    def generate(self, prompt):
        yield "never"

if multiprocessing.parent_process() is not None:
    raise RuntimeError("not in this process")
"""


@pytest.fixture
def who(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Two workers, whose upstream answers with the id of their process; and the address."""
    (tmp_path / "who.py").write_text(WHO)
    (tmp_path / "relay.toml").write_text(WHO_CONFIG)
    with process(tmp_path, workers=2) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        yield relay, root


def workers(relay: "subprocess.Popen[str]") -> set[int]:
    """The processes that serve: children of the one that was started that hold a TCP listener."""
    return {pid for pid in children(relay) if listeners("tcp") & sockets(pid)}


def model_processes(relay: "subprocess.Popen[str]") -> set[int]:
    """Those that have a local model: children that hold a unix listener for it."""
    return {pid for pid in children(relay) if listeners("unix") & sockets(pid)}


def children(relay: "subprocess.Popen[str]") -> set[int]:
    """The processes that it has started for work of ours."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (place / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if int(parent) == relay.pid and state != "Z" and b"spawn_main" in command:
            found.add(int(place.name))
    return found


def listeners(kind: str) -> set[str]:
    """Inodes of this machine's listening sockets, less those where workers ask each other."""
    lines = [line.split() for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    if kind == "tcp":
        return {fields[9] for fields in lines if fields[3] == "0A"}
    return {
        fields[6] for fields in lines if fields[3] == "00010000" and "/resume-" not in fields[-1]
    }


def sockets(pid: int) -> set[str]:
    """The inodes of the sockets that a process holds."""
    found = set()
    with suppress(OSError):  # it may end meanwhile
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def ask(root: str) -> list[int]:
    """Who answers on a connection of its own: process, objects it keeps from the collector."""
    answer = httpx.post(
        f"{root}/v1/chat/completions", json=chat(), timeout=30, trust_env=False
    ).raise_for_status()
    return [int(word) for word in answer.json()["choices"][0]["message"]["content"].split()]


def test_each_worker_answers_on_the_same_address(who: tuple["subprocess.Popen[str]", str]) -> None:
    relay, root = who
    one, other = workers(relay)
    for asleep, awake in ((one, other), (other, one)):
        os.kill(asleep, signal.SIGSTOP)
        until(lambda pid=asleep: stopped(pid))
        try:
            answered, frozen = ask(root)
        finally:
            os.kill(asleep, signal.SIGCONT)
        assert answered == awake
        assert frozen > 10_000
    relay.terminate()
    output, _ = relay.communicate(timeout=20)
    assert relay.returncode == 0, output
    assert "relay 0." not in output, "it was announced once, and that was read"
    assert "worker_ended" not in output
    assert "Traceback" not in output


def test_a_worker_that_dies_is_replaced_while_the_other_answers(
    who: tuple["subprocess.Popen[str]", str],
) -> None:
    relay, root = who
    before = workers(relay)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in workers(relay))
    assert ask(root)[0] != victim
    until(lambda: len(workers(relay)) == 2)
    [new] = workers(relay) - before
    # With the old one asleep, it can only be the new one that answers.
    os.kill(max(before), signal.SIGSTOP)
    until(lambda: stopped(max(before)))
    try:
        assert ask(root)[0] == new
    finally:
        os.kill(max(before), signal.SIGCONT)
    relay.terminate()
    output, _ = relay.communicate(timeout=20)
    assert relay.returncode == 0, output
    assert f"worker_ended pid={victim} how=SIGKILL" in output


def test_replacements_that_cannot_start_are_logged_and_tried_again(
    tmp_path: Path, who: tuple["subprocess.Popen[str]", str]
) -> None:
    relay, root = who
    serves, _ = ask(root)
    (other,) = workers(relay) - {serves}  # which may have begun to load it, and fail as well
    (tmp_path / "who.py").write_text("1 / 0")
    os.kill(other, signal.SIGKILL)
    assert relay.stdout is not None
    failures = (line for line in relay.stdout if "could not be loaded" in line)
    line = next(line for line in failures if f"pid={other} " not in line)
    assert 'how="status 1" reason="transport of the upstream \'who\'' in line
    assert ask(root)
    (tmp_path / "who.py").write_text(WHO)
    until(lambda: len(workers(relay)) == 2)
    relay.terminate()
    assert relay.wait(timeout=20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_of_all_workers_may_finish(
    tmp_path: Path, upstream: FakeUpstream, number: signal.Signals
) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["a", "b"])
    upstream.answer(Script(pieces=pieces, piece_gates={2: gate}, headers=STREAM))
    settings = {"upstream_url": upstream.url, "shutdown_grace_s": 15, "workers": 2}
    with process(tmp_path, **settings) as (relay, root):
        request = httpx.stream(
            "POST",
            f"{root}/v1/chat/completions",
            json=chat(stream=True),
            timeout=20,
            trust_env=False,
        )
        with request as answer:
            stream = answer.iter_raw()
            received = next(stream)
            relay.send_signal(number)
            until(lambda: not accepts(root))
            relay.send_signal(number)  # asking twice changes nothing
            gate.open()
            received += b"".join(stream)
        assert received == b"".join(pieces)
        output, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0, output
        assert "Traceback" not in output


def test_a_worker_that_hangs_is_killed(tmp_path: Path) -> None:
    with process(tmp_path, local="echo", workers=2, shutdown_grace_s=0) as (relay, _):
        until(lambda: len(workers(relay)) == 2)
        hanging = min(workers(relay))
        os.kill(hanging, signal.SIGSTOP)
        relay.terminate()
        output, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0, output
        assert not Path(f"/proc/{hanging}").exists()


def test_workers_end_with_their_parent(who: tuple["subprocess.Popen[str]", str]) -> None:
    relay, root = who
    left = workers(relay)
    relay.kill()
    relay.wait()
    until(lambda: not accepts(root))
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


def test_workers_that_cannot_start_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_IN_WORKERS)
    arguments = ("--local", "broken:Model", "--workers", "2", "--database-url", "none")
    ended = Program(tmp_path)("serve", "--port", "0", *arguments)
    assert ended.returncode == 1
    assert ended.stderr == (
        "relay: RELAY_LOCAL: 'broken:Model' could not be loaded: "
        "RuntimeError: not in this process\n"
    )


def test_a_model_that_cannot_be_copied_is_one_clear_sentence() -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def generate(self, prompt: object) -> Iterator[str]:
            yield json.dumps(str(prompt))

    with pytest.raises(SettingsError, match=r"RELAY_WORKERS: .* cannot be copied") as raised:
        serve(Settings(port=0, workers=2), local=Locked())
    assert len(str(raised.value).splitlines()) == 1
