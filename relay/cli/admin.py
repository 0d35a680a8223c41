"""A relay's admin API as the CLI sees it: asked with its key, its failures told in words."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from relay.cli.endpoint import explain
from relay.cli.here import admin_here
from relay.cli.terminal import fail
from relay.errors import BackendError, UpstreamAuth, UpstreamProtocol, UpstreamStatus
from relay.settings import UpstreamSettings
from relay.types import Backend, Call
from relay.upstream import open_upstream

JSON = ((b"content-type", b"application/json"),)


class NoAdminApi(UpstreamProtocol):
    """The answer is none of a relay."""


def open_admin(url: str, admin_key: str | None) -> Backend:
    """The admin API of the relay at `url`; leaves the program without a key or a proper URL."""
    if not admin_key:
        fail("the admin API needs its key: give one with --admin-key or in RELAY_ADMIN_KEY", code=2)
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


def ask_admin(
    url: str | None,
    admin_key: str | None,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the admin API answers; leaves the program, with a sentence, when it does not.

    Where it is, and its key, are as the settings here say where they are None.
    """
    url, admin_key = admin_here(url, admin_key)
    try:
        return asyncio.run(_ask(open_admin(url, admin_key), method, path, body))
    except BackendError as exc:
        fail(explain_admin(exc, url))


def explain_admin(exc: BackendError, url: str) -> str:
    """Why it did not, in a sentence. Holds no key."""
    if isinstance(exc, UpstreamAuth):
        return "the admin key is refused: give it with --admin-key or in RELAY_ADMIN_KEY"
    if isinstance(exc, UpstreamStatus) and exc.status == 404 and not _names_a_field(exc):
        return f"there is no admin API at {url}: start the relay with RELAY_ADMIN_KEY"
    return explain(exc, url)


async def _ask(
    backend: Backend, method: str, path: str, body: Mapping[str, Any] | None
) -> dict[str, Any]:
    content = b"" if body is None else json.dumps(body).encode()
    call = Call(path=path, method=method, headers=() if body is None else JSON, body=content)
    try:
        completion = await backend.complete(call)
    finally:
        await backend.aclose()
    try:
        found = json.loads(completion.body)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise NoAdminApi(f"its answer at /admin/{path} is none of a relay")


def _names_a_field(exc: UpstreamStatus) -> bool:
    """Whether it is a relay that does not know the id it was asked for."""
    try:
        return json.loads(exc.body)["error"]["param"] is not None
    except (ValueError, LookupError, TypeError):
        return False
