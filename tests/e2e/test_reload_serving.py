"""SIGHUP under a relay that works: a new configuration for new requests, and nobody notices."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import chat, process
from waiting import until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

STREAM = [(b"content-type", b"text/event-stream")]
TEXT = " ".join(f"word{number}" for number in range(40))
ADMIN_KEY = "rk-admin-canary-0123"

Process = subprocess.Popen[str]


@pytest.fixture
def other() -> Iterator[FakeUpstream]:
    """A second upstream, which wants another key."""
    with FakeUpstream.in_thread(key="sk-other") as fake:
        yield fake


@pytest.fixture
def one() -> Iterator[FakeUpstream]:
    """An upstream that wants a key."""
    with FakeUpstream.in_thread(key="sk-one") as fake:
        yield fake


def configure(folder: Path, upstream: FakeUpstream, key: str, more: str = "") -> None:
    """Put a whole file in the place of the old one, as editors do."""
    text = f'upstream_url = "{upstream.url}"\nupstream_api_key = "{key}"\n{more}\n'
    (folder / "new.toml").write_text(text)
    (folder / "new.toml").replace(folder / "relay.toml")


def line_with(relay: Process, *texts: str) -> str:
    """Read its log up to the line that holds one of these."""
    assert relay.stdout is not None
    return next(line for line in relay.stdout if any(text in line for text in texts))


def reload(relay: Process) -> str:
    """SIGHUP, and what became of it."""
    relay.send_signal(signal.SIGHUP)
    return line_with(relay, " reloaded ", " reload_refused ")


def ask(root: str, text: str = "hello", **headers: str) -> httpx.Response:
    return httpx.post(
        f"{root}/v1/chat/completions",
        json=chat(text),
        headers=headers,
        timeout=30,
        trust_env=False,
    )


def descriptors(relay: Process) -> int:
    return len(list(Path(f"/proc/{relay.pid}/fd").iterdir()))


class Load:
    """Clients that ask without a pause; what did not come back whole is kept."""

    def __init__(self, root: str) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self._root = root
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator["Load"]:
        kinds = (self._plain, self._plain, self._stream, self._stream)
        threads = [threading.Thread(target=self._repeat, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _repeat(self, kind: "object") -> None:
        assert callable(kind)
        with httpx.Client(base_url=self._root, timeout=30, trust_env=False) as client:
            while not self._over.is_set():
                try:
                    problem = kind(client)
                except httpx.HTTPError as exc:
                    problem = repr(exc)
                if problem:
                    self.failures.append(problem)
                self.answered += 1

    def _plain(self, client: httpx.Client) -> str:
        answer = client.post("/v1/chat/completions", json=chat(TEXT))
        return "" if answer.status_code == 200 and TEXT in answer.text else answer.text

    def _stream(self, client: httpx.Client) -> str:
        answer = client.post("/v1/chat/completions", json=chat(TEXT, stream=True))
        whole = answer.text.endswith("data: [DONE]\n\n") and answer.text.count("word") == 40
        return "" if answer.status_code == 200 and whole else answer.text


def test_twenty_reloads_under_load_drop_and_cut_nothing(
    tmp_path: Path, one: FakeUpstream, other: FakeUpstream
) -> None:
    configure(tmp_path, one, "sk-one")
    with process(tmp_path) as (relay, root), Load(root).running() as load:
        for number in range(20):
            to, key = (one, "sk-one") if number % 2 else (other, "sk-other")
            before = len(to.requests)
            configure(tmp_path, to, key)
            assert 'changed="upstream_url, upstream_api_key"' in reload(relay)
            to.wait_for(lambda to=to, before=before: len(to.requests) > before + 4)
    assert load.failures == []
    assert load.answered > 100
    assert all(request.header("authorization") == "Bearer sk-one" for request in one.requests)
    assert all(request.header("authorization") == "Bearer sk-other" for request in other.requests)


def test_an_open_stream_ends_on_the_upstream_where_it_began(
    tmp_path: Path, one: FakeUpstream, other: FakeUpstream
) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["a", "b"])
    one.answer(Script(pieces=pieces, piece_gates={2: gate}, headers=STREAM))
    configure(tmp_path, one, "sk-one")
    with process(tmp_path) as (relay, root):
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
            configure(tmp_path, other, "sk-other")
            reload(relay)
            assert ask(root).status_code == 200
            assert len(other.requests) == 1
            assert one.requests[0].closed_at is None
            gate.open()
            received += b"".join(stream)
        assert received == b"".join(pieces)
        one.wait_for(lambda: not one.open_connections)


def test_an_upstream_that_did_not_change_keeps_its_connections(
    tmp_path: Path, one: FakeUpstream
) -> None:
    configure(tmp_path, one, "sk-one")
    with process(tmp_path) as (relay, root):
        ask(root)
        configure(tmp_path, one, "sk-one", "retries = 7")
        assert "changed=retries" in reload(relay)
        ask(root)
    assert len(one.connections) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("upstream_url = ", "is not valid TOML"),
        ("retires = 3", "did you mean retries?"),
        ('mode = "remote"', "there is no upstream"),
        ('local = "nowhere:Model"\nmode = "local"', "'nowhere:Model' could not be loaded"),
    ],
)
def test_a_bad_file_changes_nothing_and_the_log_says_why(
    tmp_path: Path, one: FakeUpstream, text: str, reason: str
) -> None:
    configure(tmp_path, one, "sk-one")
    with process(tmp_path) as (relay, root):
        (tmp_path / "relay.toml").write_text(text)
        line = reload(relay)
        assert " ERROR reload_refused " in line
        assert reason in line
        assert ask(root).status_code == 200
        configure(tmp_path, one, "sk-one", "retries = 1")
        assert "changed=retries" in reload(relay)


def test_client_keys_hold_at_once_also_for_open_sockets(tmp_path: Path, one: FakeUpstream) -> None:
    configure(tmp_path, one, "sk-one", 'api_keys = ["rk-old"]')
    old, new = ({"authorization": f"Bearer {key}"} for key in ("rk-old", "rk-new"))
    with process(tmp_path, default_model="m") as (relay, root):
        assert (ask(root, **old).status_code, ask(root, **new).status_code) == (200, 401)
        url = root.replace("http", "ws") + "/ws"
        with connect(url, additional_headers=old, proxy=None) as socket:
            socket.send(json.dumps({"query": "hello"}))
            while json.loads(socket.recv())["status"] != 200:
                pass
            configure(tmp_path, one, "sk-one", 'api_keys = ["rk-new"]')
            reload(relay)
            assert (ask(root, **old).status_code, ask(root, **new).status_code) == (401, 200)
            socket.send(json.dumps({"query": "hello"}))
            assert json.loads(socket.recv())["status"] == 401
            with pytest.raises(ConnectionClosed):
                socket.recv()


def test_an_open_socket_asks_the_new_upstream(
    tmp_path: Path, one: FakeUpstream, other: FakeUpstream
) -> None:
    configure(tmp_path, one, "sk-one")
    with process(tmp_path, default_model="m") as (relay, root):
        with connect(root.replace("http", "ws") + "/ws", proxy=None) as socket:
            for upstream, key in ((one, "sk-one"), (other, "sk-other")):
                configure(tmp_path, upstream, key)
                reload(relay)
                socket.send(json.dumps({"query": "hello"}))
                while json.loads(socket.recv())["status"] != 200:
                    pass
                assert len(upstream.requests) == 1
        one.wait_for(lambda: not one.open_connections)


def test_what_needs_a_restart_is_named_and_the_rest_applied(
    tmp_path: Path, one: FakeUpstream
) -> None:
    configure(tmp_path, one, "sk-one")
    with process(tmp_path) as (relay, root):
        configure(tmp_path, one, "sk-one", "workers = 3\nretries = 4")
        assert "changed=retries" in reload(relay)
        assert " WARNING restart_needed settings=workers" in line_with(relay, "restart_needed")
        assert ask(root).status_code == 200


def test_the_level_of_the_log_can_be_changed(tmp_path: Path, one: FakeUpstream) -> None:
    configure(tmp_path, one, "sk-one")
    with process(tmp_path) as (relay, root):
        configure(tmp_path, one, "sk-one", 'log_level = "debug"\nlog_format = "json"')
        relay.send_signal(signal.SIGHUP)
        told = json.loads(line_with(relay, '"reloaded"'))
        assert told["changed"] == "log_level, log_format"
        ask(root)
        assert json.loads(line_with(relay, "request_ended"))["status"] == 200


COUNTED = """
from pathlib import Path

class Model:
    def __init__(self):
        with Path("made").open("a") as file:
            file.write("x")

    def generate(self, prompt):
        yield "counted"
"""


def test_a_local_model_is_kept_until_its_settings_change(tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    config, made = tmp_path / "relay.toml", tmp_path / "made"
    config.write_text('local = "counted:Model"')
    with process(tmp_path) as (relay, root):
        for more in ("retries = 3", "ping_s = 5"):
            config.write_text(f'local = "counted:Model"\n{more}')
            assert "changed=" in reload(relay)
        assert made.read_text() == "x"
        assert "counted" in ask(root).text
        config.write_text('local = "counted:Model"\nlocal_parallel = 1')
        reload(relay)
        assert made.read_text() == "xx"
        config.write_text('local = "echo"')
        reload(relay)
        assert "counted" not in ask(root).text


def test_a_watched_file_is_applied_by_itself_until_it_says_otherwise(
    tmp_path: Path, one: FakeUpstream, other: FakeUpstream
) -> None:
    configure(tmp_path, one, "sk-one", "watch_config = true")
    with process(tmp_path) as (relay, root):
        configure(tmp_path, other, "sk-other", "watch_config = true")
        assert "upstream_url" in line_with(relay, " reloaded ")
        ask(root)
        assert len(other.requests) == 1
        (tmp_path / ".env").write_text("RELAY_WATCH_CONFIG=false")
        assert "changed=watch_config" in line_with(relay, " reloaded ")


def test_fifty_reloads_leave_no_connection_and_no_descriptor(
    tmp_path: Path, one: FakeUpstream, other: FakeUpstream
) -> None:
    configure(tmp_path, one, "sk-one")
    with process(tmp_path) as (relay, root):
        counts = []
        for number in range(52):
            to, key = (one, "sk-one") if number % 2 else (other, "sk-other")
            configure(tmp_path, to, key)
            reload(relay)
            assert ask(root).status_code == 200
            away = other if number % 2 else one
            away.wait_for(lambda away=away: not away.open_connections)
            counts.append(descriptors(relay))
        until(lambda: descriptors(relay) <= counts[1])  # the last client's may be open still


def test_a_signal_before_it_serves_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(
        "import os, signal\n"
        "class Model:\n"
        "    def __init__(self):\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "    def generate(self, prompt):\n"
        "        yield 'there'\n"
    )
    with process(tmp_path, local="early:Model", allow_anonymous=True) as (_, root):
        assert "there" in ask(root).text
