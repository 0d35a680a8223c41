"""What a local model is to the relay: what it is asked, and what it must be able to do."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from relay.schema import ModelCard
from relay.types import Backend

USUAL_PATHS = ("chat/completions",)
"""What a backend answers that says nothing of it."""


class Options(BaseModel):
    """What a local model can be told in the configuration; derive from it, or from any BaseModel.

    A class or function that makes a model takes them as its one parameter, annotated with their
    type; an unknown name is an error then.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True
    )


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a local model is asked.

    `messages` is the whole conversation as role dicts (normalised when the operator wants that);
    `query` and `history` are the same in ChatGLM's form, the system prompt in front of every
    query. `options` is the request without its messages: temperature, seed and whatever else the
    client sent. `left` is set when nobody listens any more: wait for it instead of sleeping, and
    look at it where the next piece takes long.
    """

    messages: Sequence[dict[str, Any]]
    query: str
    history: Sequence[tuple[str, str]]
    options: dict[str, Any] = field(default_factory=dict)
    left: threading.Event = field(default_factory=threading.Event, compare=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model wants to be made, among the pieces of its answer."""

    name: str
    arguments: str
    """JSON."""


class LocalModel(Protocol):
    """The simplest door to a model of one's own.

    Optional: `name` (default: the class name in lower case), `parallel` (how many answers it can
    generate at once, each in a thread; default: `local_parallel`), and `count_tokens(text) -> int`
    for `usage` (default: the pieces that were generated, and the words of the prompt).
    """

    def generate(self, prompt: Prompt) -> Iterator[str | ToolCall]:
        """Yield the answer piece by piece; runs in a thread, is closed when nobody listens.

        A `relay.errors.RelayError` that it raises reaches the client as it is; what else it raises
        is a 502 that says nothing of it.
        """
        ...


class LocalBackend(Backend, Protocol):
    """A backend in this process: it also knows its models and when it is ready.

    Optional: `paths`, the calls it answers (default: `chat/completions` alone; also possible are
    `completions` and `embeddings`). What it does not answer it refuses with `RouteNotFound`.
    """

    def cards(self) -> Sequence[ModelCard]:
        """The models it has."""
        ...

    def start(self) -> None:
        """Begin to load, in the background; called once, from the event loop."""
        ...

    def state(self) -> str:
        """`ready`, `loading`, or one sentence that says why it cannot answer."""
        ...


def paths_of(backend: Backend) -> frozenset[str]:
    """The calls that a local backend answers."""
    return frozenset(getattr(backend, "paths", USUAL_PATHS))
