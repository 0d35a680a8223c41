"""`relay mode`: which side of a relay serves, seen and changed through its admin API."""

import asyncio
import json
from typing import Any

from pydantic import ValidationError

from relay.cli.endpoint import explain
from relay.cli.terminal import fail, note, say
from relay.errors import BackendError, UpstreamAuth, UpstreamProtocol, UpstreamStatus
from relay.settings import UpstreamSettings
from relay.types import Backend, Call
from relay.upstream import open_upstream

JSON = ((b"content-type", b"application/json"),)


class NoMode(UpstreamProtocol):
    """The answer of the server does not tell a mode."""


def run(mode: str | None, *, url: str, admin_key: str | None, as_json: bool) -> None:
    """Print the mode of the relay at `url`, after a change if `mode` says so."""
    if not admin_key:
        fail("the admin API needs its key: give one with --admin-key or in RELAY_ADMIN_KEY", code=2)
    asyncio.run(_show(_open_admin(url, admin_key), url, mode, as_json=as_json))


def _open_admin(url: str, admin_key: str) -> Backend:
    root = url.rstrip("/").removesuffix("/v1")
    try:
        settings = UpstreamSettings.model_validate(
            {"name": "relay", "base_url": f"{root}/admin", "api_keys": [admin_key]}
        )
    except ValidationError as exc:
        fault = exc.errors(include_input=False)[0]
        option = "--url" if fault["loc"][0] == "base_url" else "--admin-key"
        fail(f"{option}: {fault['msg'].removeprefix('Value error, ')}", code=2)
    return open_upstream(settings)


async def _show(backend: Backend, url: str, mode: str | None, *, as_json: bool) -> None:
    try:
        state = await _ask(backend, mode)
    except BackendError as exc:
        fail(_explain(exc, url))
    finally:
        await backend.aclose()
    if as_json:
        say(json.dumps(state, indent=2) + "\n")
    else:
        say(f"mode {state['mode']}, serving {state['serving']}\n")
    if state.get("kept") is False:
        note(
            "relay: the mode could not be kept: other workers do not follow, and it ends with a "
            "restart (see the relay's log)",
            style="yellow",
        )


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


def _explain(exc: BackendError, url: str) -> str:
    if isinstance(exc, UpstreamAuth):
        return "the admin key is refused: give it with --admin-key or in RELAY_ADMIN_KEY"
    if isinstance(exc, UpstreamStatus) and exc.status == 404:
        return f"there is no admin API at {url}: start the relay with RELAY_ADMIN_KEY"
    return explain(exc, url)
