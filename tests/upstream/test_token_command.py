"""A token is printed by a program, once for all who wait, and anew before it expires."""

import asyncio
import os
from pathlib import Path

import pytest
from upstream.calls import KEY
from upstream.clock import Clock
from upstream.contract_keys import PRINTS_NUMBERED, program

from relay.errors import UpstreamAuth
from relay.settings import SettingsError, UpstreamSettings
from relay.upstream.token_command import CommandToken

STARTS_ANOTHER = """
import subprocess, sys, time
with open(sys.argv[1], "w") as held:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    subprocess.Popen(sleep, pass_fds=[held.fileno()])
    print("started", file=held, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(command: str, *, now: Clock | None = None, run_s: float = 20.0) -> CommandToken:
    settings = UpstreamSettings(
        name="u", base_url="http://h", token_command=command, token_refresh_s=100
    )
    return CommandToken(settings, run_s=run_s, now=now or Clock())


async def renewed(tokens: CommandToken) -> None:
    """The run in the background is over."""
    assert tokens._running is not None
    await asyncio.wait([tokens._running])


async def test_it_is_renewed_in_the_background_before_its_time_is_over(
    tmp_path: Path, clock: Clock
):
    tokens = opened(program(PRINTS_NUMBERED, tmp_path / "runs"), now=clock)
    assert tokens.take() is None
    assert tokens.states() == []
    first = await tokens.fetch()
    clock.time += 79
    assert tokens.take() is first
    assert [row["until_s"] for row in tokens.states()] == [21]
    clock.time += 2
    assert tokens.take() is first
    assert tokens.take() is first  # and no second program
    await renewed(tokens)
    second = tokens.take()
    assert second is not None
    assert second.header == (b"authorization", b"Bearer token-2")
    assert [row["until_s"] for row in tokens.states()] == [100]
    await tokens.aclose()


async def test_when_its_time_is_over_it_is_not_used_any_more(tmp_path: Path, clock: Clock):
    tokens = opened(program(PRINTS_NUMBERED, tmp_path / "runs"), now=clock)
    await tokens.fetch()
    clock.time += 101
    assert tokens.take() is None
    assert tokens.states() == []
    assert (await tokens.fetch()).header == (b"authorization", b"Bearer token-2")


async def test_while_renewing_fails_the_token_is_used_to_its_end(tmp_path: Path, clock: Clock):
    once = tmp_path / "once"
    tokens = opened(
        program(f"import os, sys; os.mkdir(sys.argv[1]); print({KEY!r})", once), now=clock
    )
    key = await tokens.fetch()
    clock.time += 81
    assert tokens.take() is key
    await renewed(tokens)
    assert tokens.take() is key
    assert tokens._running is None  # not at once again
    clock.time += 6
    assert tokens.take() is key
    await renewed(tokens)
    clock.time += 14
    assert tokens.take() is None
    with pytest.raises(UpstreamAuth, match="failed with status 1"):
        await tokens.fetch()


async def test_a_refused_token_is_not_used_again_when_the_next_one_fails(
    tmp_path: Path, clock: Clock
):
    once = tmp_path / "once"
    tokens = opened(
        program("import os, sys; os.mkdir(sys.argv[1]); print('token')", once), now=clock
    )
    key = await tokens.fetch()
    tokens.accepted(key)
    assert tokens.refused(key, 401, ())
    for _ in range(2):
        assert tokens.take() is None
        with pytest.raises(UpstreamAuth):
            await tokens.fetch()


async def test_refusals_of_the_same_token_have_it_replaced_once_and_again_after_a_minute(
    tmp_path: Path, clock: Clock
):
    tokens = opened(program(PRINTS_NUMBERED, tmp_path / "runs"), now=clock)
    first = await tokens.fetch()
    assert tokens.refused(first, 401, ())
    second = await tokens.fetch()
    assert tokens.refused(first, 401, ())  # a call that was on its way
    assert tokens.take() is second
    assert not tokens.refused(second, 401, ())
    assert tokens.take() is second
    clock.time += 61
    assert tokens.refused(second, 401, ())
    assert tokens.take() is None


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (program("import sys; print(sys.argv[1]); sys.exit(2)", KEY), "failed with status 2"),
        (program("print('')"), "printed no token"),
        (program("import sys; print('the token is', sys.argv[1])", KEY), "printed no token"),
        (program("import os; os.write(1, b'caf\\xe9')"), "printed no token"),
        (program("while True: print('x' * 1000)"), "printed too much"),
        (program("import os, signal; os.kill(os.getpid(), signal.SIGTERM)"), "status -15"),
        ("/no/such/program", r"cannot be run \(No such file or directory"),
    ],
)
async def test_a_program_that_gives_no_token_is_said_so_without_what_it_printed(
    command: str, what: str
):
    with pytest.raises(UpstreamAuth, match=what) as caught:
        await opened(command).fetch()
    assert KEY not in caught.value.message
    assert caught.value.__cause__ is None


async def test_closing_ends_the_program_and_what_it_has_started(tmp_path: Path):
    pipe = tmp_path / "pipe"  # its end comes when nobody has it open for writing any more
    os.mkfifo(pipe)
    tokens = opened(program(STARTS_ANOTHER, pipe))
    fetching = asyncio.create_task(tokens.fetch())
    held = await asyncio.to_thread(pipe.open)
    assert await asyncio.to_thread(held.readline) == "started\n"
    fetching.cancel()
    await asyncio.wait([fetching])
    assert tokens._running is not None  # for whoever comes next
    await tokens.aclose()
    assert await asyncio.to_thread(held.read) == ""
    held.close()


async def test_a_program_has_only_so_much_time():
    with pytest.raises(UpstreamAuth, match=r"took longer than 0\.2 s"):
        await opened(program("import time; time.sleep(60)"), run_s=0.2).fetch()


@pytest.mark.parametrize(
    ("command", "reason"), [("az 'account", "no closing quotation"), ("  ", "it is empty")]
)
def test_what_is_no_command_stops_the_start(command: str, reason: str):
    with pytest.raises(SettingsError, match=reason):
        opened(command)
