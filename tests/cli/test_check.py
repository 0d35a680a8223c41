"""`relay check` against what is right, and against each thing that can be wrong."""

import re
import socket
import socketserver
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from collector import Collector
from fake_script import Gate, Script
from fake_upstream import FakeUpstream, Received
from servers import RedisServer
from transcripts import error_body, models_body

from cli.program import Program

KEY = {"RELAY_UPSTREAM_API_KEY": "sk-canary"}


def rows(table: str) -> dict[str, str]:
    """The lines of the table by their first word, spaces made single."""
    lines = [" ".join(line.split()) for line in table.splitlines()[1:]]
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


def test_a_good_upstream_has_models_and_a_latency(relay: Program, fake: FakeUpstream) -> None:
    shown = relay("check", "--upstream-url", fake.url, env=KEY)

    assert shown.returncode == 0
    found = rows(shown.stdout)
    assert found["upstream"].startswith(f"{fake.url} ok 2 models, ")
    assert re.fullmatch(r".* 2 models, openai, 1 key, \d+ ms", found["upstream"])
    assert (
        found["door"] == "http://127.0.0.1:8000/v1 ok for everyone on this machine, without a key"
    )
    assert "local" not in found
    assert "canary" not in shown.stdout + shown.stderr


def test_it_only_asks_for_the_models(relay: Program, fake: FakeUpstream) -> None:
    relay("check", "--upstream-url", fake.url, env=KEY)

    assert [(request.method, request.path) for request in fake.requests] == [("GET", "/v1/models")]


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("sk-wrong-canary", "the upstream refuses the key: check RELAY_UPSTREAM_API_KEY"),
        ("", "the upstream wants a key: set RELAY_UPSTREAM_API_KEY"),
    ],
)
def test_a_wrong_key_is_said_and_not_shown(
    relay: Program, fake: FakeUpstream, key: str, advice: str
) -> None:
    shown = relay("check", "--upstream-url", fake.url, env={"RELAY_UPSTREAM_API_KEY": key})

    assert shown.returncode == 1
    assert f"{fake.url} wrong {advice}" in rows(shown.stdout)["upstream"]
    assert "canary" not in shown.stdout + shown.stderr


def test_each_key_of_a_pool_is_tried(relay: Program, fake: FakeUpstream, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(
        f"""
        [[upstreams]]
        name = "pool"
        base_url = "{fake.url}"
        api_keys = ["sk-canary", "sk-other-canary"]
        """
    )

    shown = relay("check")

    assert shown.returncode == 1
    first, second = (line for line in shown.stdout.splitlines() if line.startswith("pool"))
    assert "key 1 of 2" in first
    assert "2 models, openai, " in first
    assert "key 2 of 2" in second
    assert "the upstream refuses the key: check api_keys of 'pool' in relay.toml" in second
    assert "canary" not in shown.stdout + shown.stderr


def test_the_mode_and_what_is_set_of_an_upstream_are_shown(
    relay: Program, fake: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "relay.toml").write_text(
        f"""
        local = "echo"
        offline = {{ probe_s = 1 }}

        [[upstreams]]
        name = "eu"
        base_url = "{fake.url}"
        api_keys = ["sk-canary"]
        max_parallel = 20
        max_queued = 0
        probe_s = 5
        timeouts = {{ connect_s = 2 }}
        breaker = {{ failures = 3 }}
        headers = {{ x-team = "canary" }}
        http2 = true

        [[upstreams]]
        name = "us"
        base_url = "{fake.url}"
        """
    )

    shown = relay("check")

    found = rows(shown.stdout)
    assert found["mode"] == (
        "auto ok upstreams; the local model while none is within reach: probed every 1 s, back "
        "after 3 s"
    )
    assert found["eu,"] == (
        "as set ok 20 at once; 0 wait; probed every 5 s; connect_s 2; failures 3; headers x-team; "
        "HTTP/2"
    )
    assert "us, as set" not in shown.stdout
    assert "canary" not in shown.stdout + shown.stderr


@pytest.mark.parametrize("accepted", [True, False])
def test_a_token_in_a_file_is_a_key_too(
    relay: Program, fake: FakeUpstream, tmp_path: Path, accepted: bool
) -> None:
    (tmp_path / "token").write_text("token-canary")
    (tmp_path / "relay.toml").write_text(
        f"""
        [[upstreams]]
        name = "cloud"
        base_url = "{fake.url}"
        token_file = "token"
        """
    )
    status = 200 if accepted else 401
    fake.answer(Script(status=status, body=models_body("m") if accepted else error_body("No.")))

    shown = relay("check")

    said = (
        "ok 1 model, openai, a token, "
        if accepted
        else "wrong the upstream refuses the key: check token_file of 'cloud' in relay.toml"
    )
    assert f"{fake.url} {said}" in rows(shown.stdout)["cloud"]
    assert "canary" not in shown.stdout + shown.stderr


def test_models_are_shown_and_what_looks_wrong_of_them_is_no_failure(
    relay: Program, fake: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "relay.toml").write_text(
        f"""
        local = "echo"

        [[upstreams]]
        name = "eu"
        base_url = "{fake.url}"
        api_keys = ["sk-canary", "sk-canary-2"]

        [[models]]
        id = "fast"
        targets = [{{ upstream = "eu", model = "fake-1" }}]
        fallback = [{{ upstream = "eu", model = "other" }}, {{ local = true }}]
        """
    )
    fake.answer(Script(body=models_body("fake-1")), times=1)
    fake.answer(Script(body=models_body("fake-2")), times=1)

    shown = relay("check")

    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "model fast eu (fake-1) ok first; fallback eu (other), local" in lines
    assert "model fast eu (other) note it does not list the model 'other'" in lines
    assert rows(shown.stdout)["local"] == "echo ok echo; not loaded"
    assert shown.returncode == 0


def test_a_dead_port_is_one_that_nothing_listens_on(relay: Program) -> None:
    shown = relay("check", "--upstream-url", "http://127.0.0.1:1/v1")

    assert shown.returncode == 1
    assert "nothing listens on 127.0.0.1:1" in shown.stdout


class Refusal(socketserver.BaseRequestHandler):
    """Answers a TLS hello as a web server does that speaks plain HTTP only."""

    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


def test_a_server_that_speaks_no_tls_is_named_as_that(relay: Program) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.handle_request).start()
        place = f"127.0.0.1:{server.server_address[1]}"
        shown = relay("check", "--upstream-url", f"https://{place}/v1")

    assert shown.returncode == 1
    assert f"TLS with {place} failed" in shown.stdout


def test_a_server_that_takes_no_connection_is_waited_for_as_long_as_its_limit(
    relay: Program,
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        place = server.getsockname()
        for _ in range(4):  # fill its queue: the system drops what comes after
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(place)
        url = f"http://127.0.0.1:{place[1]}/v1"
        shown = relay("check", "--upstream-url", url, "--timeouts-connect-s", "0.2")

    assert shown.returncode == 1
    assert "no connection within 0.2 s" in shown.stdout


def test_a_silent_server_is_waited_for_as_long_as_its_limit(
    relay: Program, fake: FakeUpstream
) -> None:
    fake.answer(Script(gate=Gate()))

    shown = relay("check", "--upstream-url", fake.url, "--timeouts-first-byte-s", "0.2")

    assert shown.returncode == 1
    assert "no answer within 0.2 s" in shown.stdout


@pytest.mark.parametrize("tail", ["", "/v1/chat/completions"])
@pytest.mark.parametrize("key", ["sk-canary", "sk-wrong-canary"])
def test_another_url_than_the_base_gets_the_right_one(
    relay: Program, fake: FakeUpstream, tail: str, key: str
) -> None:
    def by_path(received: Received) -> Script:
        if received.path != "/v1/models":
            return Script(status=404, body=error_body("Invalid URL"))
        if received.header("authorization") != "Bearer sk-canary":
            return Script(status=401, body=error_body("Incorrect API key"))
        return Script(body=models_body("m"))

    fake.answer(by_path)

    shown = relay(
        "check", "--upstream-url", fake.root_url + tail, env={"RELAY_UPSTREAM_API_KEY": key}
    )

    assert shown.returncode == 1
    assert f"did you mean {fake.url}?" in shown.stdout


def test_a_page_where_the_api_should_be_gets_the_right_url(
    relay: Program, fake: FakeUpstream
) -> None:
    fake.answer(Script(body=b"<html>Welcome</html>"), path="/models")

    shown = relay("check", "--upstream-url", fake.root_url, env=KEY)

    assert f"did you mean {fake.url}?" in shown.stdout


def test_a_server_of_another_kind_is_called_one(relay: Program, fake: FakeUpstream) -> None:
    fake.answer(Script(body=b"<html>Welcome</html>"))

    shown = relay("check", "--upstream-url", fake.url, env=KEY)

    assert shown.returncode == 1
    assert "not an OpenAI-format server?" in shown.stdout


def test_an_error_of_the_upstream_is_shown_with_its_status(
    relay: Program, fake: FakeUpstream
) -> None:
    fake.answer(Script(status=500, body=error_body("Out of order.")))

    shown = relay("check", "--upstream-url", fake.url)

    assert shown.returncode == 1
    assert "500: Out of order." in shown.stdout


def test_a_typo_in_a_setting_names_the_nearest(relay: Program) -> None:
    shown = relay("check", env={"RELAY_UPSTREM_URL": "http://127.0.0.1:1/v1"})

    assert shown.returncode == 1
    assert "RELAY_UPSTREM_URL" in shown.stdout
    assert "did you mean RELAY_UPSTREAM_URL?" in shown.stdout


def test_a_local_model_is_looked_for(relay: Program) -> None:
    shown = relay("check", "--local", "echo")

    assert shown.returncode == 0
    assert rows(shown.stdout)["local"] == "echo ok echo; not loaded"


def test_a_local_model_that_is_not_there_is_wrong(relay: Program) -> None:
    shown = relay("check", "--local", "llama:nowhere.gguf")

    assert shown.returncode == 1
    assert rows(shown.stdout)["local"].startswith("llama:nowhere.gguf wrong ")


def test_a_model_file_that_is_damaged_is_wrong(relay: Program, tmp_path: Path) -> None:
    (tmp_path / "half.gguf").write_bytes(b"GGUF")
    shown = relay("check", "--local", f"llama:{tmp_path / 'half.gguf'}")

    assert shown.returncode == 1
    assert "half: it is damaged, or was not copied to its end" in shown.stdout


def test_local_mode_leaves_the_upstreams_alone(relay: Program, fake: FakeUpstream) -> None:
    shown = relay("check", "--mode", "local", "--local", "echo", "--upstream-url", fake.url)

    assert shown.returncode == 0
    assert fake.requests == []


def test_a_model_that_is_answered_locally_needs_the_local_model(
    relay: Program, fake: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text(
        """
        [[models]]
        id = "small"
        targets = [{ local = true }]
        """
    )

    shown = relay(
        "check", "--config", "my.toml", "--local", "echo", "--upstream-url", fake.url, env=KEY
    )

    assert shown.returncode == 0
    assert {"upstream", "local"} <= set(rows(shown.stdout))


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({}, 0, "relay.db"),
        ({"RELAY_DATABASE_URL": "none"}, 0, "usage is not kept"),
        ({"RELAY_DATABASE_URL": "mysql://u:canary@h/d"}, 1, "RELAY_DATABASE_URL: the database URL"),
        ({"RELAY_REDACT_BODIES": "nobody"}, 1, "RELAY_REDACT_BODIES: 'nobody' is not there"),
    ],
)
def test_it_says_where_usage_is_kept(
    relay: Program, settings: dict[str, str], code: int, said: str
) -> None:
    checked = relay("check", env={"RELAY_LOCAL": "echo", **settings})
    assert checked.returncode == code
    assert said in checked.stdout
    assert "canary" not in checked.stdout + checked.stderr
    assert not list(relay.directory.glob("*.db"))


def test_it_says_whether_limits_can_be_counted(relay: Program, redis_server: RedisServer) -> None:
    env = {"RELAY_LOCAL": "echo", "RELAY_DATABASE_URL": "none"}
    with redis_server.client() as client:
        client.acl_setuser(
            "canary", enabled=True, passwords=["+canary"], categories=["+@all", "-@scripting"]
        )
        at = f"127.0.0.1:{redis_server.port}"
        for url, code, said in (
            (redis_server.url, 0, rf"redis://{at} ok counted in Redis, \d+ ms"),
            ("redis://:canary@127.0.0.1:9/0", 1, ".* cannot be reached .*"),
            (f"redis://nobody:canary@{at}", 1, ".* refuses user or password .*"),
            (f"redis://canary:canary@{at}", 1, ".* does not let its user run scripts .*"),
            ("nonsense:canary", 1, ".*RELAY_REDIS_URL.*"),
        ):
            checked = relay("check", env={**env, "RELAY_REDIS_URL": url})
            assert checked.returncode == code, checked.stdout
            assert re.fullmatch(said, rows(checked.stdout)["limits"]), checked.stdout
            assert "canary" not in checked.stdout + checked.stderr
        client.acl_deluser("canary")
        assert client.keys("*") == []


def test_it_says_whether_a_collector_takes_traces(relay: Program, collector: Collector) -> None:
    env = {"RELAY_LOCAL": "echo", "RELAY_TRACES_HEADERS": "authorization=Bearer canary"}
    for url, status, code, said in (
        (collector.url, 200, 0, r"http://127.0.0.1:\d+ ok 100 % of the requests, \d+ ms"),
        (f"{collector.url}/v1/traces", 200, 0, ".* ok 100 % of the requests, .*"),
        (f"{collector.url}/else", 200, 1, ".* wrong no collector takes them there: .* status 404"),
        (collector.url, 401, 1, ".* wrong no collector takes them there: .* status 401"),
        ("http://127.0.0.1:9", 200, 1, ".* wrong no collector takes them there: .* be reached.*"),
        ("nonsense", 200, 1, ".*"),
    ):
        collector.status = status
        checked = relay("check", env={**env, "RELAY_TRACES_URL": url})
        assert checked.returncode == code, checked.stdout
        found = rows(checked.stdout)
        assert re.fullmatch(said, found["settings" if url == "nonsense" else "traces"])
        assert "canary" not in checked.stdout + checked.stderr
        assert checked.stderr == ""
    assert collector.headers[0]["authorization"] == "Bearer canary"
    assert collector.spans == []


def test_each_local_model_is_listed_with_what_is_mapped_to_it(relay: Program) -> None:
    (relay.directory / "relay.toml").write_text(
        'local = "echo"\n'
        '[[local_models]]\nid = "short"\nbackend = "echo"\noptions = { words = 3 }\n'
        '[local_map]\n"gpt-4o" = "short"\n'
    )
    shown = relay("check")
    assert shown.returncode == 0
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert lines[-3:] == [
        "local echo ok echo; not loaded",
        "local echo ok short; not loaded",
        "local gpt-4o ok answered by short",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("local_map = 3\n", "a table is expected: write [local_map]"),
        ("local_models = 3\n", "a list is expected: write [[local_models]]"),
        ('[[local_models]]\nid = "a"\nbackends = "echo"\n', "did you mean backend?"),
        ('local = "echo"\n[local_options]\nword = 3\n', "did you mean words?"),
        ('[[local_models]]\nid = "a"\nbackend = "llama:none.gguf"\n', "there is no file none.gguf"),
    ],
)
def test_a_wrong_local_model_is_one_sentence(relay: Program, text: str, said: str) -> None:
    (relay.directory / "relay.toml").write_text(text)
    shown = relay("check")
    assert shown.returncode == 1
    assert said in " ".join(shown.stdout.split())
