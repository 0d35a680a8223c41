"""What a local model is to the relay: what it is asked, and what it must be able to do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from relay.schema import ModelCard
from relay.types import Backend


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a local model is asked.

    `messages` is the whole conversation as role dicts (normalised when the operator wants that);
    `query` and `history` are the same in ChatGLM's form, the system prompt in front of every
    query. `options` is the request without its messages: temperature, seed and whatever else the
    client sent.
    """

    messages: Sequence[dict[str, Any]]
    query: str
    history: Sequence[tuple[str, str]]
    options: dict[str, Any] = field(default_factory=dict)


class LocalModel(Protocol):
    """The simplest door to a model of one's own.

    Optional: `name` (default: the class name in lower case), `parallel` (how many answers it can
    generate at once, each in a thread; default: `local_parallel`), and `count_tokens(text) -> int`
    for `usage` (default: the pieces that were generated, and the words of the prompt).
    """

    def generate(self, prompt: Prompt) -> Iterator[str]:
        """Yield the answer piece by piece; runs in a thread, is closed when nobody listens."""
        ...


class LocalBackend(Backend, Protocol):
    """A backend in this process: it also knows its models and when it is ready."""

    def cards(self) -> Sequence[ModelCard]:
        """The models it has."""
        ...

    def start(self) -> None:
        """Begin to load, in the background; called once, from the event loop."""
        ...

    def state(self) -> str:
        """`ready`, `loading`, or one sentence that says why it cannot answer."""
        ...
