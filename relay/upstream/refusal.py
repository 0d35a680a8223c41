"""What becomes of an upstream's answer of 300 and above: the error that is raised for it."""

from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from relay.errors import UpstreamAuth, UpstreamProtocol, UpstreamStatus
from relay.types import RawHeaders
from relay.upstream.key import Key, Keys


class Head(Protocol):
    """The beginning of an answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> RawHeaders: ...


async def refuse(
    upstream: str, head: Head, rest: Callable[[], Awaitable[bytes]], *, keys: Keys, key: Key
) -> NoReturn:
    """Raise what that answer means; `rest` reads its body, `key` is the one it was asked with.

    Raises:
        UpstreamProtocol: it redirects.
        UpstreamAuth: it refuses the key.
        UpstreamStatus: any other.
        BackendError: its body cannot be read.
    """
    status, headers = head.status, head.headers
    if status < 400:
        raise UpstreamProtocol(
            f"The upstream '{upstream}' redirects (status {status}), which is not followed; its "
            "base URL is probably wrong."
        )
    if status in (401, 403):
        refused = UpstreamAuth(f"The upstream '{upstream}' refuses the relay's key.")
        refused.another_key = keys.refused(key, status, headers)
        raise refused
    # Before the body is read: other calls need not run into the same.
    another_key = status == 429 and keys.refused(key, status, headers)
    if status >= 500:
        keys.failed(key)
    elif status != 429 and key.on_trial:
        keys.accepted(key)  # it is the request that was wrong
    error = UpstreamStatus(status, headers=headers, body=await rest())
    error.another_key = another_key
    raise error
