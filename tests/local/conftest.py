"""The real small model, loaded once for all tests."""

import asyncio
from collections.abc import Iterator

import pytest

from local.calls import chat_call
from relay.local import LocalBackend, open_local
from relay.settings import Settings


@pytest.fixture(scope="session")
def smollm2() -> Iterator[LocalBackend]:
    """The real model, ready; two requests at once, 1024 tokens each, one thread."""
    settings = Settings(local_context_tokens=1024, local_parallel=2, local_threads=1)
    backend = open_local("smollm2", settings)

    async def load() -> None:
        backend.start()
        await backend.complete(chat_call(max_tokens=1))

    asyncio.run(load())
    yield backend
    asyncio.run(backend.aclose())
