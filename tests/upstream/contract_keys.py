"""What every upstream client must do with its keys and tokens, and where it takes the calls."""

import asyncio
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_upstream import FakeUpstream, Received, Script
from upstream.calls import CHAT, KEY, STREAM, Connect, ask, fails_with

from relay.errors import ModelNotFound, UpstreamAuth, UpstreamStatus
from relay.events import Event
from relay.types import Call
from relay.upstream import Upstream

both_ways = pytest.mark.parametrize("call", [CHAT, STREAM], ids=["complete", "stream"])
FINE = Script(body=b"fine")
PRINTS_NUMBERED = """
import pathlib, sys
runs = pathlib.Path(sys.argv[1])
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
print("token-%d" % len(runs.read_text()))
"""


def by_key(answers: dict[str, Script]) -> Callable[[Received], Script]:
    """Answers as the key deserves it; one that is not named is fine."""
    return lambda received: answers.get(bearer(received), FINE)


def bearer(received: Received) -> str:
    return (received.header("authorization") or "").removeprefix("Bearer ")


def states(upstream: Upstream) -> list[object]:
    rows = upstream.keys()
    return [row["state"] for row in rows]


def program(text: str, *arguments: object) -> str:
    """A command line that runs this Python text."""
    return shlex.join([sys.executable, "-c", text, *map(str, arguments)])


class KeyContract:
    """Several keys, each as well as the upstream says."""

    @both_ways
    async def test_a_key_that_was_used_too_much_rests_and_the_others_take_over(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        tired = Script(status=429, headers=[(b"retry-after", b"30")], body=b"slow down")
        fake.answer(by_key({"sk-a": tired}))
        upstream = connect(api_keys=["sk-a", "sk-b", "sk-c"])
        with fails_with(UpstreamStatus) as caught:
            await ask(upstream, call)
        assert (caught.value.status, caught.value.body) == (429, b"slow down")
        assert caught.value.another_key
        assert [await ask(upstream, call) for _ in range(4)] == [b"fine"] * 4
        assert [bearer(received) for received in fake.requests[1:]] == ["sk-b", "sk-c"] * 2
        resting, *others = upstream.keys()
        assert resting["state"] == "resting"
        assert 20 < resting["until_s"] <= 30
        assert [row["state"] for row in others] == ["ok", "ok"]

    @both_ways
    @pytest.mark.parametrize("status", [429, 403])
    async def test_the_only_key_is_used_however_tired(
        self, fake: FakeUpstream, upstream: Upstream, call: Call, status: int
    ) -> None:
        fake.answer(Script(status=status), times=1)
        fake.answer(FINE)
        with pytest.raises((UpstreamStatus, UpstreamAuth)) as caught:
            await ask(upstream, call)
        assert not caught.value.another_key
        assert await ask(upstream, call) == b"fine"

    @both_ways
    async def test_a_key_that_is_refused_is_retired_and_told_of_once(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        told: list[Event] = []
        fake.answer(by_key({KEY: Script(status=401)}))
        upstream = connect(api_keys=[KEY, "sk-b"], observe=told.append)
        with fails_with(UpstreamAuth) as caught:
            await ask(upstream, call)
        assert caught.value.another_key
        assert [await ask(upstream, call) for _ in range(3)] == [b"fine"] * 3
        assert [bearer(received) for received in fake.requests] == [KEY, *["sk-b"] * 3]
        [event] = told
        assert event.upstream == "fake"
        assert event.which.startswith("1 (")
        assert KEY not in repr(event) + repr(upstream.keys())
        assert states(upstream) == ["retired", "ok"]

    @both_ways
    async def test_a_key_that_alone_meets_errors_of_the_upstream_rests(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(by_key({"sk-a": Script(status=500)}))
        upstream = connect(api_keys=["sk-a", "sk-b"], breaker={"failures": 2})
        for _ in range(2):
            with fails_with(UpstreamStatus) as caught:
                await ask(upstream, call)
            assert not caught.value.another_key
            assert await ask(upstream, call) == b"fine"
        assert states(upstream) == ["resting", "ok"]
        assert [await ask(upstream, call) for _ in range(3)] == [b"fine"] * 3

    async def test_a_request_that_is_at_fault_says_nothing_against_its_key(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        upstream = connect(api_keys=["sk-a", "sk-b"], breaker={"failures": 2})
        for status in (500, 400, 500):
            fake.answer(by_key({"sk-a": Script(status=status)}))
            with fails_with(UpstreamStatus):
                await ask(upstream, CHAT)
            assert await ask(upstream, CHAT) == b"fine"
        assert states(upstream) == ["ok", "ok"]

    async def test_what_is_forbidden_may_be_allowed_to_another_key_and_retires_none(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        told: list[Event] = []
        fake.answer(by_key({"sk-a": Script(status=403)}))
        upstream = connect(api_keys=["sk-a", "sk-b"], observe=told.append)
        with fails_with(UpstreamAuth) as caught:
            await ask(upstream, CHAT)
        assert caught.value.another_key
        assert states(upstream) == ["resting", "ok"]
        assert told == []

    @both_ways
    async def test_when_every_key_is_refused_calls_fail_without_being_sent(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(Script(status=401))
        upstream = connect(api_keys=["sk-a", "sk-b"])
        another = []
        for _ in range(5):
            with fails_with(UpstreamAuth) as caught:
                await ask(upstream, call)
            another.append(caught.value.another_key)
        assert another == [True, False, False, False, False]
        assert [bearer(received) for received in fake.requests] == ["sk-a", "sk-b", "sk-a"]

    @both_ways
    async def test_a_stray_refusal_of_the_only_key_does_not_last(
        self, fake: FakeUpstream, upstream: Upstream, call: Call
    ) -> None:
        fake.answer(Script(status=401), times=1)
        fake.answer(FINE)
        with fails_with(UpstreamAuth):
            await ask(upstream, call)
        assert states(upstream) == ["retired"]
        assert [await ask(upstream, call) for _ in range(3)] == [b"fine"] * 3
        assert states(upstream) == ["ok"]

    async def test_without_a_key_nothing_is_retired(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        told: list[Event] = []
        fake.answer(Script(status=401))
        upstream = connect(api_keys=[], observe=told.append)
        for _ in range(3):
            with fails_with(UpstreamAuth):
                await ask(upstream, CHAT)
        assert len(fake.requests) == 3
        assert told == []
        assert upstream.keys() == []


class TokenContract:
    """A bearer token in place of keys."""

    @both_ways
    async def test_the_token_of_a_file_is_sent_and_a_refused_one_is_read_anew(
        self, fake: FakeUpstream, connect: Connect, call: Call, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("token-1\n")
        upstream = connect(api_keys=[], token_file=file)
        fake.answer(by_key({"token-1": Script(status=401)}))
        with fails_with(UpstreamAuth) as caught:
            await ask(upstream, call)
        assert not caught.value.another_key
        (tmp_path / "new").write_text("token-2\n")
        (tmp_path / "new").replace(file)
        with fails_with(UpstreamAuth) as caught:
            await ask(upstream, call)
        assert caught.value.another_key
        assert await ask(upstream, call) == b"fine"
        assert [bearer(received) for received in fake.requests] == ["token-1"] * 2 + ["token-2"]

    async def test_a_file_without_a_token_fails_the_call_and_shows_nothing_of_it(
        self, fake: FakeUpstream, connect: Connect, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text(f"two words: {KEY}")
        with fails_with(UpstreamAuth) as caught:
            await ask(connect(api_keys=[], token_file=file), CHAT)
        assert "token_file holds no token" in caught.value.message
        assert fake.requests == []

    async def test_calls_at_the_same_time_share_one_run_of_the_token_program(
        self, fake: FakeUpstream, connect: Connect, tmp_path: Path
    ) -> None:
        fake.answer(FINE)
        runs = tmp_path / "runs"
        upstream = connect(api_keys=[], token_command=program(PRINTS_NUMBERED, runs))
        calls = [asyncio.create_task(ask(upstream, call)) for call in (CHAT, STREAM) * 3]
        await asyncio.sleep(0)  # one turn of the loop: all of them wait
        calls[0].cancel()
        assert await asyncio.gather(*calls[1:]) == [b"fine"] * 5
        assert {bearer(received) for received in fake.requests} == {"token-1"}
        assert runs.read_text() == "x"
        [row] = upstream.keys()
        assert row["state"] == "ok"
        assert row["until_s"] > 200

    @both_ways
    async def test_a_refused_token_is_replaced_once_by_the_program(
        self, fake: FakeUpstream, connect: Connect, call: Call, tmp_path: Path
    ) -> None:
        runs = tmp_path / "runs"
        upstream = connect(api_keys=[], token_command=program(PRINTS_NUMBERED, runs))
        fake.answer(Script(status=401), times=3)
        fake.answer(Script(status=429), times=1)
        another = []
        for _ in range(3):
            with fails_with(UpstreamAuth) as caught:
                await ask(upstream, call)
            another.append(caught.value.another_key)
        assert another == [True, False, False]
        with fails_with(UpstreamStatus) as limited:
            await ask(upstream, call)
        assert not limited.value.another_key
        assert [bearer(received) for received in fake.requests] == ["token-1"] + ["token-2"] * 3

    async def test_a_token_program_that_fails_fails_the_call_and_shows_no_token(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        command = program("import sys; print(sys.argv[1]); sys.exit(3)", KEY)
        with fails_with(UpstreamAuth) as caught:
            await ask(connect(api_keys=[], token_command=command), CHAT)
        assert "token_command failed with status 3" in caught.value.message
        assert fake.requests == []

    async def test_closing_the_client_ends_the_token_program(self, connect: Connect) -> None:
        upstream = connect(api_keys=[], token_command=program("import time; time.sleep(60)"))
        calling = asyncio.create_task(ask(upstream, CHAT))
        await asyncio.sleep(0)  # one turn of the loop: the program is being started
        await upstream.aclose()
        with pytest.raises(asyncio.CancelledError):
            await calling


class KindContract:
    """Upstreams that keep OpenAI's API elsewhere, or want the key elsewhere."""

    @both_ways
    async def test_azure_has_deployments_and_its_key_in_another_header(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(FINE)
        upstream = connect(fake.root_url, kind="azure", api_version="2024-10-21")
        for model in ("gpt-4o", "my model"):
            await ask(upstream, replace(call, model="alias", payload={"model": model}))
        await ask(upstream, Call("models?limit=2", method="GET"))
        deployments = "/openai/deployments"
        assert [received.target for received in fake.requests] == [
            f"{deployments}/gpt-4o/chat/completions?api-version=2024-10-21",
            f"{deployments}/my%20model/chat/completions?api-version=2024-10-21",
            "/openai/models?limit=2&api-version=2024-10-21",
        ]
        for received in fake.requests:
            assert received.header("api-key") == KEY
            assert received.header("authorization") is None

    async def test_azure_takes_a_token_as_the_bearer(
        self, fake: FakeUpstream, connect: Connect, tmp_path: Path
    ) -> None:
        fake.answer(FINE)
        file = tmp_path / "token"
        file.write_text("token-1")
        upstream = connect(fake.root_url, kind="azure", api_keys=[], token_file=file)
        await ask(upstream, replace(CHAT, model="gpt-4o"))
        [received] = fake.requests
        assert (bearer(received), received.header("api-key")) == ("token-1", None)

    async def test_azures_new_api_is_openais_but_for_the_header_of_the_key(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        fake.answer(FINE)
        await ask(connect(f"{fake.root_url}/openai/v1", kind="azure"), CHAT)
        [received] = fake.requests
        assert received.target == "/openai/v1/chat/completions"
        assert (received.header("api-key"), received.header("authorization")) == (KEY, None)

    @both_ways
    async def test_a_model_that_no_deployment_can_have_is_not_found_and_takes_no_slot(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(FINE)
        upstream = connect(fake.root_url, kind="azure", max_parallel=1)
        for model in ("", "..", "a/b"):
            with pytest.raises(ModelNotFound):
                await ask(upstream, replace(call, model=model))
        assert await ask(upstream, replace(call, model="gpt-4o")) == b"fine"

    @pytest.mark.parametrize("version", [None, "2026-01-01"])
    async def test_anthropic_has_its_own_headers_for_key_and_version(
        self, fake: FakeUpstream, connect: Connect, version: str | None
    ) -> None:
        fake.answer(FINE)
        await ask(connect(kind="anthropic", api_version=version), replace(CHAT, path="messages"))
        [received] = fake.requests
        assert (received.header("x-api-key"), received.header("authorization")) == (KEY, None)
        assert received.header("anthropic-version") == (version or "2023-06-01")

    async def test_a_header_of_the_settings_wins_over_the_key(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        fake.answer(FINE)
        await ask(connect(headers={"Authorization": "Basic-abc"}), CHAT)
        assert fake.requests[0].header("authorization") == "Basic-abc"
