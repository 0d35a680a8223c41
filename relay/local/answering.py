"""`complete` and `stream` for backends that generate parts: the same answer, whole or in pieces.

chat/completions           `complete` or `stream`, as the caller wants it
completions, embeddings    what is passed on is always streamed by its caller; whether the
                           answer is events or one body stands in the request
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from relay.local.chunks import CHAT, Form, Part, StreamedAnswer
from relay.local.completions import payload_of
from relay.types import Answer, Call, Completion, RawHeaders


class WholeAnswer:
    """A whole answer for who asked for pieces: one piece."""

    def __init__(self, completion: Completion) -> None:
        self.status: int = completion.status
        self.headers: RawHeaders = completion.headers
        self._body = completion.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


class Answering(ABC):
    """Half a backend; `generate` is the other half."""

    @abstractmethod
    def generate(self, call: Call) -> AbstractAsyncContextManager[tuple[Form, AsyncIterator[Part]]]:
        """The answer's form and its parts; leaving stops whatever makes them.

        Raises:
            RouteNotFound, InvalidRequest: the call is nothing for this model.
            NoUpstream: the model is not there.
            Overloaded: too many requests wait already.
            BackendError: the model failed (`local_model_failed`).
        """

    async def complete(self, call: Call) -> Completion:
        """The whole answer. Raises: as `generate`."""
        async with self.generate(call) as (form, parts):
            return await form.collect(parts)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        """The answer once its first part exists; leaving stops it.

        Raises:
            As `generate`; after the first part, a failure comes out of the answer.
        """
        if call.path != CHAT and not streams(call):
            yield WholeAnswer(await self.complete(call))
            return
        async with self.generate(call) as (form, parts):
            yield await StreamedAnswer.begin(form, parts)


def streams(call: Call) -> bool:
    """Whether the request of a call asks for events."""
    payload = payload_of(call)
    return isinstance(payload, dict) and payload.get("stream") is True
