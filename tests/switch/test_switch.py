"""When the side moves, what that ends, and what it leaves alone; over real connections."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.errors import (
    BackendError,
    ConnectTimeout,
    InvalidRequest,
    UpstreamAuth,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
    WentOffline,
)
from relay.events import Event, ModeChanged
from relay.settings import Mode, OfflineSettings
from relay.switch import KeptMode, Side, Switch

PATIENCE_S = 20.0
OFFLINE = OfflineSettings(probe_s=0.01, return_after_s=0.02)
STATUS = UpstreamStatus(500, headers=(), body=b"")


class Host:
    """A port that listens, or does not."""

    def __init__(self) -> None:
        self.probed = 0
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", self.port
        )

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def probe(self, limit_s: float) -> None:
        self.probed += 1
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.close()


class Watched:
    """A switch, its hosts, and what it told."""

    switch: Switch

    def __init__(self, hosts: dict[str, Host]) -> None:
        self.hosts = hosts
        self.events: list[ModeChanged] = []
        self.sides: list[Side] = []
        self.on_tell: Callable[[], object] = lambda: None
        self._told = asyncio.Event()

    def tell(self, event: Event) -> None:
        assert isinstance(event, ModeChanged)
        self.events.append(event)
        self._told.set()
        self.on_tell()

    async def until(self, serving: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.switch.serving != serving:
                self._told.clear()
                await self._told.wait()

    async def fails(self, error: BackendError, name: str = "a") -> bool:
        """An attempt that fails so; whether its call goes to the local model."""
        with pytest.raises(type(error)), self.switch.attempt(name):
            raise error
        return await self.switch.away(error)


@asynccontextmanager
async def watched(
    *names: str, mode: Mode = "auto", offline: OfflineSettings | None = OFFLINE, **options: Any
) -> AsyncIterator[Watched]:
    """A switch over hosts of those names, all of which listen."""
    hosts = {name: Host() for name in names}
    for host in hosts.values():
        await host.listen()
    probes = {name: host.probe for name, host in hosts.items()}
    found = Watched(hosts)
    found.switch = switch = Switch(
        mode=mode,
        probes=probes,
        offline=offline,
        on_move=found.sides.append,
        observe=found.tell,
        **{"local": True, **options},
    )
    switch.start()
    try:
        yield found
    finally:
        await switch.aclose()
        for host in hosts.values():
            await host.close()


async def refused(switch: Switch, name: str) -> None:
    """An attempt that cannot connect."""
    with switch.attempt(name):
        raise UpstreamUnreachable("The upstream cannot be reached.")


async def silence(switch: Switch, name: str = "a", begun: asyncio.Event | None = None) -> None:
    """An attempt that never hears anything."""
    with switch.attempt(name):
        if begun is not None:
            begun.set()
        await asyncio.get_running_loop().create_future()


async def begin(make: Callable[[asyncio.Event], Awaitable[None]]) -> "asyncio.Task[None]":
    begun = asyncio.Event()

    async def run() -> None:
        await make(begun)

    task = asyncio.create_task(run())
    await begun.wait()
    return task


async def test_it_goes_offline_when_no_upstream_is_within_reach_and_comes_back() -> None:
    async with watched("a", "b") as network:
        switch = network.switch
        assert (switch.serving, switch.upstreams) == ("remote", {"a": "unknown", "b": "unknown"})
        for host in network.hosts.values():
            await host.close()
        assert await network.fails(UpstreamUnreachable("The upstream cannot be reached."))
        assert (switch.serving, switch.upstreams) == (
            "local",
            {"a": "unreachable", "b": "unreachable"},
        )
        await network.hosts["b"].listen()
        await network.until("remote")
        assert network.sides == ["local", "remote"]
        assert switch.moves == {"remote": 1, "local": 1}
        assert [(event.mode, event.serving, event.reason) for event in network.events] == [
            ("auto", "local", "no upstream is within reach"),
            ("auto", "remote", "an upstream has been within reach for 0.02 s"),
        ]


async def test_one_failed_connection_is_not_the_network() -> None:
    async with watched("a", "b") as network:
        await network.hosts["a"].close()
        for error in (UpstreamUnreachable("Refused."), ConnectTimeout("Late.")):
            assert not await network.fails(error)
        assert (network.switch.serving, network.events) == ("remote", [])


async def test_silent_attempts_end_when_the_network_is_away() -> None:
    async with watched("a") as network:
        waiting = [await begin(lambda e: silence(network.switch, begun=e)) for _ in range(3)]
        await network.hosts["a"].close()
        ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE_S)
        assert [type(error) for error in ended] == [WentOffline] * 3
        assert network.switch.serving == "local"
        assert [task.cancelling() for task in waiting] == [0, 0, 0]
        assert await network.switch.away(WentOffline("gone"))


async def test_silent_attempts_wait_on_while_a_probe_succeeds() -> None:
    async with watched("a", "b") as network:
        waiting = await begin(lambda e: silence(network.switch, begun=e))
        await network.hosts["a"].close()
        async with asyncio.timeout(PATIENCE_S):
            while network.hosts["b"].probed < 2:
                await asyncio.sleep(0.01)
        assert network.switch.serving == "remote"
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_an_attempt_cannot_begin_while_the_network_is_away() -> None:
    async with watched("a", offline=OfflineSettings(probe_s=60)) as network:
        await network.hosts["a"].close()
        assert await network.fails(UpstreamUnreachable("Refused."))
        with pytest.raises(WentOffline):
            await refused(network.switch, "a")


async def test_somebody_elses_cancellation_stays_one() -> None:
    async with watched("a") as network:
        waiting = await begin(lambda e: silence(network.switch, begun=e))
        await network.hosts["a"].close()
        network.on_tell = waiting.cancel  # in the very moment of the move
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(waiting), PATIENCE_S)
        assert waiting.cancelled()


@pytest.mark.parametrize("error", [STATUS, UpstreamAuth("Refused key.")])
async def test_an_answer_of_an_upstream_is_not_doubted(error: BackendError) -> None:
    async with watched("a") as network:
        await network.hosts["a"].close()
        assert not await network.fails(error)
        assert network.switch.upstreams == {"a": "reachable"}
        assert network.hosts["a"].probed == 0


@pytest.mark.parametrize("error", [UpstreamProtocol("Reset."), UpstreamTimeout("Late.")])
async def test_an_answer_that_did_not_come_is_doubted(error: BackendError) -> None:
    async with watched("a") as network:
        assert not await network.fails(error)
        await network.hosts["a"].close()
        assert await network.fails(error)


async def test_an_answer_makes_its_upstream_reachable() -> None:
    async with watched("a") as network:
        with network.switch.attempt("a"):
            pass
        assert network.switch.upstreams == {"a": "reachable"}


async def test_an_upstream_must_stay_within_reach() -> None:
    looks = 0
    stayed = asyncio.Event()

    async def flapping(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks in (1, 3):
            raise ConnectTimeout("Out of reach.")
        if looks == 5:
            stayed.set()

    told: list[Event] = []
    switch = Switch(
        mode="auto",
        probes={"a": flapping},
        local=True,
        offline=OfflineSettings(probe_s=0.001, return_after_s=0.001),
        observe=told.append,
    )
    assert await switch.away(UpstreamUnreachable("Refused."))
    await asyncio.wait_for(stayed.wait(), PATIENCE_S)
    while switch.serving == "local":
        await asyncio.sleep(0)
    assert looks == 5
    await switch.aclose()


@pytest.mark.parametrize(
    ("mode", "names", "serving"),
    [
        ("auto", ("a",), "remote"),
        ("auto", (), "local"),
        ("remote", ("a",), "remote"),
        ("local", ("a",), "local"),
    ],
)
async def test_the_mode_says_which_side_serves(
    mode: Mode, names: tuple[str, ...], serving: str
) -> None:
    async with watched(*names, mode=mode) as network:
        assert network.switch.serving == serving


@pytest.mark.parametrize(
    "options",
    [{"mode": "remote"}, {"mode": "local"}, {"local": False}, {"offline": None}],
)
async def test_what_does_not_move_by_itself_watches_nothing(options: dict[str, Any]) -> None:
    async with watched("a", **options) as network:
        await network.hosts["a"].close()
        assert not await network.fails(UpstreamUnreachable("Refused."))
        assert network.hosts["a"].probed == 0
        assert network.events == []
        assert network.switch.upstreams == {"a": "unknown"}


async def test_a_mode_set_by_hand_ends_the_waiting_for_the_network() -> None:
    async with watched("a") as network:
        await network.hosts["a"].close()
        assert await network.fails(UpstreamUnreachable("Refused."))
        assert not await network.switch.set("remote")  # kept nowhere
        assert network.switch.serving == "remote"
        assert await network.switch.set("local") is False
        assert network.sides == ["local", "remote", "local"]
        assert not await network.switch.away(UpstreamUnreachable("Refused."))
        assert await network.switch.away(WentOffline("gone"))


async def test_setting_the_mode_that_is_set_changes_nothing() -> None:
    async with watched("a", offline=OfflineSettings(probe_s=60)) as network:
        await network.hosts["a"].close()
        assert await network.fails(UpstreamUnreachable("Refused."))
        await network.switch.set("auto")
        assert (network.switch.serving, len(network.events)) == ("local", 1)


def next_switch(network: Watched, **options: Any) -> Switch:
    """The switch of another configuration of the same upstreams."""
    usual = {"mode": "auto", "local": True, "offline": OFFLINE, "observe": network.tell}
    probes = {name: host.probe for name, host in network.hosts.items()}
    return Switch(**{"probes": probes, **usual, **options})


async def test_another_configuration_stays_offline_and_comes_back_by_itself() -> None:
    async with watched("a", offline=OfflineSettings(probe_s=60)) as network:
        await network.hosts["a"].close()
        assert await network.fails(UpstreamUnreachable("Refused."))
        before, sides = network.switch, []
        network.switch = after = next_switch(network, on_move=sides.append)
        after.take_over(before)
        assert (after.serving, after.moves, after.since) == (
            *("local", {"remote": 0, "local": 1}),
            before.since,
        )
        assert (sides, len(network.events)) == (["local"], 1)  # nothing moved
        await network.hosts["a"].listen()
        await network.until("remote")
        await before.aclose()
        await after.aclose()


async def test_another_upstream_may_be_within_reach() -> None:
    async with watched("a") as network, watched("b") as other:
        await network.hosts["a"].close()
        assert await network.fails(UpstreamUnreachable("Refused."))
        after = next_switch(other)
        after.take_over(network.switch)
        assert (after.serving, after.moves) == ("remote", {"remote": 1, "local": 1})
        assert other.events[-1].reason == "the configuration is another"


async def test_a_mode_set_by_hand_outlives_a_configuration_while_it_can() -> None:
    async with watched("a") as network:
        await network.switch.set("local")
        for options, serving in (({"mode": "remote"}, "local"), ({"local": False}, "remote")):
            after = next_switch(network, **options)
            after.take_over(network.switch)
            assert after.serving == serving
            assert after.moves[after.serving] == 1


async def test_going_offline_does_not_overrule_a_hand() -> None:
    held = asyncio.Event()

    async def slow(_: float) -> None:
        await held.wait()
        raise ConnectTimeout("Out of reach.")

    switch = Switch(mode="auto", probes={"a": slow}, local=True, offline=OFFLINE)
    asking = asyncio.create_task(switch.away(UpstreamUnreachable("Refused.")))
    await asyncio.sleep(0)
    await switch.set("remote")
    held.set()
    assert not await asking
    assert (switch.mode, switch.serving) == ("remote", "remote")
    await switch.aclose()


async def test_a_probe_from_before_a_failure_does_not_count() -> None:
    probing, held = asyncio.Event(), asyncio.Event()
    looks = 0

    async def reached_once(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise ConnectTimeout("Out of reach.")
        probing.set()
        await held.wait()

    switch = Switch(mode="auto", probes={"a": reached_once}, local=True, offline=OFFLINE)
    waiting = await begin(lambda e: silence(switch, begun=e))
    await asyncio.wait_for(probing.wait(), PATIENCE_S)
    asking = asyncio.create_task(switch.away(UpstreamProtocol("Reset.")))
    await asyncio.sleep(0)
    held.set()
    assert await asking
    with pytest.raises(WentOffline):
        await waiting
    await switch.aclose()


async def test_a_mode_that_cannot_be_is_refused() -> None:
    async with watched() as network:
        with pytest.raises(InvalidRequest, match="no upstream") as refusal:
            await network.switch.set("remote")
        assert refusal.value.param == "mode"
    async with watched("a", local=False) as network:
        with pytest.raises(InvalidRequest, match="no local model"):
            await network.switch.set("local")


async def test_a_kept_mode_counts_at_the_start_and_reaches_the_others(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    async with watched("a", kept=KeptMode(path)) as one, watched("a", kept=KeptMode(path)) as other:
        assert await one.switch.set("local")
        await other.until("local")
        async with watched("a", kept=KeptMode(path)) as late:
            assert (late.switch.mode, late.switch.serving) == ("local", "local")
            assert await late.switch.set("auto")
        assert not path.exists()
        await one.until("remote")
        await other.until("remote")
        assert [event.reason for event in other.events] == [
            "set by hand, as the state file says",
            "set by hand, as the state file says",
        ]


async def test_a_kept_mode_that_cannot_be_any_more_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    KeptMode(path).write("remote")
    async with watched(kept=KeptMode(path)) as network:
        assert (network.switch.mode, network.switch.serving) == ("auto", "local")


async def test_closing_ends_what_runs() -> None:
    async with watched("a") as network:
        waiting = await begin(lambda e: silence(network.switch, begun=e))
        await network.hosts["a"].close()
        assert await network.fails(UpstreamUnreachable("Refused."))
        with pytest.raises(WentOffline):
            await waiting
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
