"""Several workers and one local model: in one process, which is looked after like the workers."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import chat, process
from test_reload_serving import line_with
from test_workers import children, model_processes, stopped, until, workers

MODEL = """
import os, time

class Model:
    def __init__(self):
        with open("made", "a") as made:
            print(os.getpid(), file=made)

    def generate(self, prompt):
        yield f"{os.getpid()} "
        while prompt.query == "for ever":
            time.sleep(0.01)
            yield "again "
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


def client(root: str) -> httpx.Client:
    return httpx.Client(base_url=root, timeout=60, trust_env=False)


def ask(root: str, **fields: Any) -> httpx.Response:
    """On a connection of its own, so that any of the workers may answer."""
    with client(root) as http:
        return http.post("/v1/chat/completions", json=chat(**fields))


def answered_by(root: str) -> int:
    return int(ask(root).raise_for_status().json()["choices"][0]["message"]["content"])


def events(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def test_one_process_has_the_model_and_answers_for_each_worker(model: Path) -> None:
    with process(model, local="model:Model", workers=2) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        [its_process] = model_processes(relay)
        for asleep in workers(relay):
            os.kill(asleep, signal.SIGSTOP)
            until(lambda pid=asleep: stopped(pid))
            try:
                assert answered_by(root) == its_process
            finally:
                os.kill(asleep, signal.SIGCONT)
        assert (model / "made").read_text().split() == [str(its_process)]
        relay.terminate()
        assert (
            relay.stdout is not None
        )  # the rest of what it has said, part of which is in a buffer
        output = relay.stdout.read()
        assert relay.wait(timeout=20) == 0, output
        assert "the local model model:Model" in output
        assert "Traceback" not in output
        assert "_ended" not in output


def test_killed_in_mid_stream_it_is_an_error_event_and_the_next_call_is_answered(
    model: Path,
) -> None:
    with process(model, local="model:Model", workers=2) as (relay, root):
        [killed] = model_processes(relay)
        with (
            client(root) as http,
            http.stream(
                "POST", "/v1/chat/completions", json=chat("for ever", stream=True)
            ) as answer,
        ):
            received = events(answer.iter_lines())
            assert "error" not in next(received)
            os.kill(killed, signal.SIGKILL)
            *_, last = received
        assert last["error"]["code"] == "local_model_failed"
        until(lambda: ask(root).status_code == 200)
        assert {answered_by(root)} == model_processes(relay) != {killed}
        assert f"model_process_ended pid={killed} how=SIGKILL" in line_with(relay, "_ended")


def test_it_ends_with_its_parent(model: Path) -> None:
    with process(model, local="model:Model", workers=2) as (relay, _):
        left = children(relay)
        relay.kill()
        relay.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


def test_another_local_model_is_another_process_and_open_answers_end_on_the_old(
    model: Path,
) -> None:
    config = model / "relay.toml"
    config.write_text('local = "model:Model"')
    with process(model, workers=2) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        [old] = model_processes(relay)
        with (
            client(root) as http,
            http.stream(
                "POST", "/v1/chat/completions", json=chat("for ever", stream=True)
            ) as answer,
        ):
            received = events(answer.iter_lines())
            next(received)
            config.write_text('local = "echo"')
            relay.send_signal(signal.SIGHUP)
            for _ in range(2):
                line_with(relay, " reloaded ")
            answers = {ask(root).json()["choices"][0]["message"]["content"] for _ in range(8)}
            assert answers == {"one two three"}
            for _ in range(20):
                assert "error" not in next(received)
        until(lambda: old not in children(relay))
        assert len(model_processes(relay)) == 1


def test_one_that_is_not_needed_is_not_started(model: Path) -> None:
    settings = {"upstream_url": "http://127.0.0.1:1/v1", "admin_key": "ak-test"}
    # Several threads of a model wait for each other, for ever so long on a machine that is busy.
    with process(model, workers=2, local_threads=1, **settings) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        assert model_processes(relay) == set()
        with client(root) as http:
            headers = {"authorization": "Bearer ak-test"}
            http.put("/admin/mode", headers=headers, json={"mode": "local"}).raise_for_status()
        until(lambda: ask(root, max_tokens=1).status_code == 200)  # a real model: few words
        assert len(model_processes(relay)) == 1


def test_one_that_cannot_be_started_again_says_why_and_comes_back(model: Path) -> None:
    with process(model, local="model:Model", workers=2) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        (model / "model.py").write_text("1 / 0")
        [killed] = model_processes(relay)
        os.kill(killed, signal.SIGKILL)
        assert "ZeroDivisionError" in line_with(relay, "could not be loaded")
        (model / "model.py").write_text(MODEL)
        until(lambda: ask(root).status_code == 200)
