"""Relays whose keys have limits: an answer of five tokens costs a thousand nano-dollars.

As a program, `relay serve` with leases in Redis that end after LEASE_S seconds.
"""

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from relay.serving import serve
from relay.settings import load_settings
from relay.stores.counters.redis import RedisCounters

KEY = "rk-limited"
COST_NANO = 1000
PRICES = [{"model": "*", "completion_usd": "0.2"}]

Keys = Mapping[str, Mapping[str, Any]]
"""Keys and their limits; among those `team`, with the limits of theirs."""

if "LEASE_S" in os.environ:  # also in workers, which load this file by themselves
    RedisCounters.__init__.__kwdefaults__["lease_s"] = float(os.environ["LEASE_S"])


def settings_of(keys: Keys) -> dict[str, list[dict[str, Any]]]:
    """The configuration of these keys, their teams, and what calls cost."""
    found: dict[str, list[dict[str, Any]]] = {"keys": [], "teams": [], "prices": PRICES}
    for key, limits in keys.items():
        name = key.removeprefix("rk-")
        digest = hashlib.sha256(key.encode()).hexdigest()
        own = {"name": name, "sha256": digest, **_in_usd(limits)}
        if (team := own.pop("team", None)) is not None:
            own["team"] = f"of-{name}"
            found["teams"].append({"name": own["team"], **_in_usd(team)})
        found["keys"].append(own)
    return found


def _in_usd(limits: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(limits)
    if "budget_nano" in found:
        found["budget_usd"] = found.pop("budget_nano") / 1e9
    return found


def _toml(keys: Keys) -> str:
    lines = []
    for table, entries in settings_of(keys).items():
        for entry in entries:
            lines.append(f"[[{table}]]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in entry.items()]
    return "\n".join(lines)


@contextmanager
def replicas(
    directory: Path, keys: Keys, *, count: int = 1, **settings: Any
) -> Iterator[list[tuple["subprocess.Popen[bytes]", str]]]:
    """Relays that are processes of their own, and their addresses."""
    with ExitStack() as stack:
        running = []
        for number in range(count):
            own = directory / str(number)
            own.mkdir(exist_ok=True)
            running.append(_start(own, keys, settings))
            stack.callback(_end, running[-1][0])
        for relay, root in running:
            _wait_for(relay, root)
        yield running


def _start(
    directory: Path, keys: Keys, settings: Mapping[str, Any]
) -> tuple["subprocess.Popen[bytes]", str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RELAY_", "OPENAI_"))}
    named = {f"RELAY_{name.upper()}": str(value) for name, value in settings.items()}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)
    (directory / "relay.toml").write_text(_toml(keys))
    root = Path(__file__).parents[1]
    clean["PYTHONPATH"] = str(root)
    clean["PYTHONPYCACHEPREFIX"] = str(root / ".pytest_cache" / "bytecode")
    relay = subprocess.Popen(
        [sys.executable, __file__],
        cwd=directory,
        env=clean | named | {"RELAY_PORT": str(port), "LEASE_S": "2"},
        stdout=subprocess.DEVNULL,
        stderr=(directory / "log").open("ab"),
    )
    return relay, f"http://127.0.0.1:{port}"


def _wait_for(relay: "subprocess.Popen[bytes]", root: str) -> None:
    with httpx.Client(trust_env=False) as client:
        while relay.poll() is None:
            try:
                client.get(f"{root}/healthz")
                return
            except httpx.TransportError:
                continue
    raise AssertionError("the relay has ended")


def _end(relay: "subprocess.Popen[bytes]") -> None:
    relay.kill()
    relay.wait()


async def ask_all(
    roots: Sequence[str],
    times: int,
    *,
    key: str = KEY,
    heard: Callable[["Counter[int | str]"], None] = lambda found: None,
) -> "Counter[int | str]":
    """So many calls at once, in turn to each address: how often each status came.

    `heard` is called with what has come so far, again and again.
    """
    found: Counter[int | str] = Counter()

    async def one(root: str) -> None:
        found[await ask(root, key=key)] += 1
        heard(found)

    await asyncio.gather(*(one(roots[number % len(roots)]) for number in range(times)))
    return found


async def ask(root: str, *, key: str = KEY) -> int | str:
    """One call on a connection of its own: its status, or "cut"."""
    address = httpx.URL(root)
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":5}'
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    async with asyncio.timeout(30):
        try:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(head.encode() + body)
            answer = await reader.read()
            writer.close()
        except ConnectionError:
            return "cut"
    return int(answer.split(b" ", 2)[1]) if answer else "cut"


if __name__ == "__main__":
    serve(load_settings())
