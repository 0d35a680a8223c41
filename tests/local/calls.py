"""Calls to local backends, and what their streams say."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

from relay.local import LocalBackend
from relay.types import Call


def chat_call(
    text: str = "one two three", *, path: str = "chat/completions", **fields: Any
) -> Call:
    """A chat call for the model `asked`; fields go into the payload."""
    messages = [{"role": "user", "content": text}]
    payload = {"model": "asked", "messages": messages, **fields}
    return Call(path=path, payload=payload, model=payload["model"])


async def events(backend: LocalBackend, call: Call) -> list[dict[str, Any]]:
    """The chunks of a whole stream, which must end with `[DONE]`."""
    async with backend.stream(call) as answer:
        assert answer.status == 200
        assert answer.headers == ((b"content-type", b"text/event-stream; charset=utf-8"),)
        raw = [event async for event in answer]
    assert raw.pop() == b"data: [DONE]\n\n"
    for event in raw:
        assert event.startswith(b"data: {")
        assert event.endswith(b"}\n\n")
        assert event.count(b"\n") == 2
    return [json.loads(event.removeprefix(b"data: ")) for event in raw]


async def body(backend: LocalBackend, call: Call) -> dict[str, Any]:
    """The body of a whole answer."""
    completion = await backend.complete(call)
    assert completion.status == 200
    assert completion.headers == ((b"content-type", b"application/json"),)
    return json.loads(completion.body)  # type: ignore[no-any-return]  # it is an object


def deltas(chunks: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    """What the chunks add to one answer."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return [choice["delta"] for choice in choices if choice["index"] == index]


def text(chunks: list[dict[str, Any]], index: int = 0) -> str:
    """The text that a stream has given."""
    return "".join(delta.get("content", "") for delta in deltas(chunks, index))


def no_threads_left(name: str = "relay-local") -> bool:
    """Whether the threads of that name end."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(timeout=30)
    return not any(thread.name == name for thread in threading.enumerate())


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop go on until something is so."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)
