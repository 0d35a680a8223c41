"""SIGTERM: nothing new, open answers finish or are ended cleanly, exit 0."""

import json
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import accepts, chat, process
from waiting import until

STREAM = [(b"content-type", b"text/event-stream")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_relay_exits_with_0(tmp_path: Path, number: int) -> None:
    with process(tmp_path, local="echo") as (relay, root):
        ready = httpx.get(f"{root}/readyz", trust_env=False).json()
        assert (ready["status"], ready["serving"]) == ("ready", "local")
        relay.send_signal(number)
        output, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0, output
        assert "Traceback" not in output


def test_an_open_stream_may_finish_within_the_grace(tmp_path: Path, upstream: FakeUpstream) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["a", "b"])
    upstream.answer(Script(pieces=pieces, piece_gates={2: gate}, headers=STREAM))
    with process(tmp_path, upstream_url=upstream.url, shutdown_grace_s=15) as (relay, root):
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
            relay.terminate()
            until(lambda: not accepts(root))
            gate.open()
            received += b"".join(stream)
        assert received == b"".join(pieces)
        assert relay.wait(timeout=20) == 0


@pytest.mark.parametrize("where", ["remote", "local"])
def test_a_stream_that_does_not_finish_is_ended_with_an_error_event(
    tmp_path: Path, upstream: FakeUpstream, where: str
) -> None:
    settings: dict[str, Any] = {"upstream_url": upstream.url}
    if where == "local":
        (tmp_path / "endless.py").write_text(ENDLESS)
        settings = {"local": "endless:Endless"}
    pieces = transcripts.chat_stream(["a", "b"])
    upstream.answer(Script(pieces=pieces, stall_after=2, headers=STREAM))
    with process(tmp_path, shutdown_grace_s=0.1, **settings) as (relay, root):
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
            relay.terminate()
            received += b"".join(stream)  # the chunked body ends as it should
        last = received.split(b"\n\n")[-2]
        assert "shutting down" in json.loads(last.removeprefix(b"data: "))["error"]["message"]
        assert b"[DONE]" not in received
        output, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0, output
        assert "Traceback" not in output


def test_a_plain_answer_that_does_not_finish_is_503(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstream.answer(Script(gate=Gate()))
    with process(tmp_path, upstream_url=upstream.url, shutdown_grace_s=0.1) as (relay, root):
        address = httpx.URL(root)
        with socket.create_connection((address.host, address.port or 0)) as client:
            body = json.dumps(chat()).encode()
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
                b"content-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            upstream.wait_for(lambda: upstream.requests)
            relay.terminate()
            assert client.recv(65536).startswith(b"HTTP/1.1 503")
        assert relay.wait(timeout=20) == 0


ENDLESS = """
import time

class Endless:
    name = "endless"

    def generate(self, prompt):
        while True:
            time.sleep(0.01)
            yield "word "
"""
