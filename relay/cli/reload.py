"""`relay reload`: have a running relay read its configuration again, and say what became of it.

Asked over the admin API, it answers. A signal (`--pid`) has no answer: the relay's log has it.
"""

import asyncio
import json
import os
import signal

from relay.cli.endpoint import explain, open_endpoint
from relay.cli.here import admin_here
from relay.cli.terminal import fail, note
from relay.errors import BackendError, UpstreamAuth, UpstreamStatus
from relay.types import Backend, Call, Completion

ADMIN = "/admin"


def run(*, config: str | None, url: str | None, key: str | None, pid: int | None) -> None:
    """Reload the relay at `url` (default: of the settings here) with its admin key, or `pid`."""
    if pid is not None:
        _signal(pid)
        return
    url, key = admin_here(url, key, config, without="nothing was reloaded")
    if key is None:
        fail("the admin key is needed: set RELAY_ADMIN_KEY, give --key, or send a signal by --pid")
    root = url.rstrip("/").removesuffix("/v1")
    answer = asyncio.run(_ask(open_endpoint(root + ADMIN, key), root))
    _tell(answer)


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        fail(f"there is no process {pid}")
    except PermissionError:
        fail(f"process {pid} is somebody else's")
    note(f"asked process {pid}; its log tells what became of it", style="")


async def _ask(backend: Backend, root: str) -> Completion:
    try:
        return await backend.complete(Call(path="reload", method="POST"))
    except UpstreamAuth:
        fail(f"{root} refuses the admin key")
    except UpstreamStatus as exc:
        if exc.status == 404:
            fail(f"{root} has no admin API: start it with RELAY_ADMIN_KEY, or use --pid")
        message = explain(exc, root)
        fail(message.removeprefix(f"{exc.status}: ") if exc.status == 409 else message)
    except BackendError as exc:
        fail(explain(exc, root))
    finally:
        await backend.aclose()


def _tell(answer: Completion) -> None:
    try:
        outcome = json.loads(answer.body)
        changed, later = ", ".join(outcome["changed"]), ", ".join(outcome["after_restart"])
    except (ValueError, LookupError, TypeError):
        fail("what answered is not a relay")
    note(f"reloaded; changed: {changed or 'nothing'}", style="")
    if later:
        note(f"only a restart changes: {later}", style="yellow")
