"""Asking an upstream client, and what is always true of its failures."""

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from fake_script import PATIENCE_S

from relay.errors import BackendError
from relay.types import Answer, Backend, Call
from relay.upstream import Upstream

KEY = "sk-canary-5c1d"

Connect = Callable[..., Upstream]
Error = TypeVar("Error", bound=BackendError)

CHAT = Call(
    "chat/completions", b'{"messages":[]}', headers=[(b"content-type", b"application/json")]
)
STREAM = Call(CHAT.path, b'{"messages":[],"stream":true}', headers=CHAT.headers, stream=True)


async def read(answer: Answer) -> bytes:
    """The rest of an answer."""
    return b"".join([piece async for piece in answer])


async def ask(upstream: Backend, call: Call) -> bytes:
    """The whole body of an answer, by `stream` when the call is one, else by `complete`."""
    async with asyncio.timeout(PATIENCE_S):  # a client without limits fails, and does not hang
        if not call.stream:
            return (await upstream.complete(call)).body
        async with upstream.stream(call) as answer:
            return await read(answer)


@contextlib.contextmanager
def fails_with(kind: type[Error]) -> Iterator[pytest.ExceptionInfo[Error]]:
    """Exactly that error is raised, and nothing that a log could show of it holds the key."""
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind
    told = [str(error), repr(error), error.message, *traceback.format_exception(error)]
    assert KEY not in "".join(told)
