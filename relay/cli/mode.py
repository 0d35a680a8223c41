"""`relay mode`: which side of a relay serves, seen and changed through its admin API."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from relay.cli.admin import JSON, explain_admin, open_admin
from relay.cli.here import admin_here
from relay.cli.terminal import fail, note, say
from relay.errors import BackendError, UpstreamProtocol
from relay.types import Backend, Call


class NoMode(UpstreamProtocol):
    """The answer of the server does not tell a mode."""


def run(mode: str | None, *, url: str | None, admin_key: str | None, as_json: bool) -> None:
    """Print the mode of the relay at `url`, after a change if `mode` says so."""
    url, admin_key = admin_here(url, admin_key)
    asyncio.run(_show(open_admin(url, admin_key), url, mode, as_json=as_json))


async def _show(backend: Backend, url: str, mode: str | None, *, as_json: bool) -> None:
    try:
        state = await _ask(backend, mode)
    except BackendError as exc:
        fail(explain_admin(exc, url))
    finally:
        await backend.aclose()
    if as_json:
        say(json.dumps(state, indent=2) + "\n")
    else:
        say(f"mode {state['mode']}, serving {state['serving']}\n")
        if mode is None and (course := _course(state)):
            say(f"{course}\n")
    if state.get("kept") is False:
        note(
            "relay: the mode could not be kept: other workers do not follow, and it ends with a "
            "restart (see the relay's log)",
            style="yellow",
        )


def _course(state: dict[str, Any]) -> str:
    """How it came to that, once there was a move; an older relay tells less, and then nothing."""
    moves, since, reach = state.get("moves"), state.get("since"), state.get("upstreams")
    if not (isinstance(moves, dict) and isinstance(since, int) and any(moves.values())):
        return ""
    told = [f"  since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC"]
    told.append("moves: " + ", ".join(f"{count} to {side}" for side, count in moves.items()))
    if isinstance(reach, dict):
        gone = [name for name, found in reach.items() if found == "unreachable"]
        told += [f"out of reach: {', '.join(gone)}"] if gone else []
    return "; ".join(told)


async def _ask(backend: Backend, mode: str | None) -> dict[str, Any]:
    """The state of the switch.

    Raises:
        NoMode: the answer is something else.
        BackendError: there is none.
    """
    call = Call(path="mode", method="GET")
    if mode is not None:
        body = json.dumps({"mode": mode}).encode()
        call = Call(path="mode", method="PUT", headers=JSON, body=body)
    completion = await backend.complete(call)
    try:
        state = json.loads(completion.body)
        if isinstance(state["mode"], str) and isinstance(state["serving"], str):
            return dict(state)
    except (ValueError, LookupError, TypeError):
        pass
    raise NoMode("its answer at /admin/mode tells no mode: not a relay?")
