"""An OpenAI-format server as the CLI sees it: how it is opened, what it has, why it failed.

The network client stays in `relay.upstream`; what it raises is told here in words for the person
at the terminal.
"""

import json
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from relay.cli.terminal import fail
from relay.errors import (
    BackendError,
    UpstreamAuth,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamUnreachable,
)
from relay.settings import UpstreamSettings
from relay.types import Backend, Call
from relay.upstream import open_upstream
from relay.upstream.reasons import causes

MAX_MESSAGE_CHARACTERS = 300
"""As much of an error body that is no envelope as is shown."""


class NoModelList(UpstreamProtocol):
    """`GET /models` was answered, but not with a list of models."""


def open_endpoint(url: str, key: str | None) -> Backend:
    """The server at that base URL; leaves the program when the URL or the key is malformed."""
    keys = [key] if key else []
    try:
        settings = UpstreamSettings.model_validate(
            {"name": "server", "base_url": url, "api_keys": keys}
        )
    except ValidationError as exc:
        fault = exc.errors(include_input=False)[0]
        option = "--url" if fault["loc"][0] == "base_url" else "--key"
        fail(f"{option}: {fault['msg'].removeprefix('Value error, ')}", code=2)
    return open_upstream(settings)


async def list_models(backend: Backend) -> list[dict[str, Any]]:
    """The cards of its models; each has at least an `id`.

    Raises:
        NoModelList: the answer is something else.
        BackendError: there is no answer.
    """
    completion = await backend.complete(Call(path="models", method="GET"))
    try:
        cards: Any = json.loads(completion.body)["data"]
        if isinstance(cards, list) and all(isinstance(card["id"], str) for card in cards):
            return cards
    except (ValueError, LookupError, TypeError):
        pass
    raise NoModelList("its answer at /models is no list of models: not an OpenAI-format server?")


def explain(exc: BackendError, url: str) -> str:
    """Why the server at `url` did not answer, in a sentence. Holds no key."""
    match exc:
        case UpstreamStatus():
            return f"{exc.status}: {error_message(exc.body)}"
        case UpstreamAuth():
            return "the key is missing or refused: give one with --key or in OPENAI_API_KEY"
        case UpstreamUnreachable():
            return _why_unreachable(exc, url)
        case _:
            return exc.message


def explain_api(exc: BackendError, url: str) -> str:
    """The same of an API, whose base URL has a path."""
    missing = isinstance(exc, UpstreamStatus) and exc.status == 404
    if missing and not urlsplit(url).path.strip("/"):
        return f"no API at {url}; did you mean {url.rstrip('/')}/v1?"
    return explain(exc, url)


def error_message(body: bytes) -> str:
    """The message of OpenAI's error envelope, or the beginning of whatever else it is."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"]) if isinstance(error, dict) else str(error)
    except (ValueError, LookupError, TypeError):
        text = " ".join(body.decode("utf-8", "replace").split())
        return text[:MAX_MESSAGE_CHARACTERS] or "no message"


def _why_unreachable(exc: BackendError, url: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc
    for cause in causes(exc):
        if isinstance(cause, socket.gaierror):
            return f"unknown host {parts.hostname}: the name cannot be resolved"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the TLS certificate of {place} is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS with {place} failed ({cause.reason}); does it speak http:// only?"
        if isinstance(cause, ConnectionRefusedError):
            return f"nothing listens on {place}"
    return f"{place} cannot be reached"
