"""ChatGLM-style objects: whatever has `chat` and `stream_chat`, as a `LocalModel`.

    v1, v2    stream_chat(tokenizer, query, history=[(question, answer), ...], ...)
    v3        stream_chat(tokenizer, query, history=[{"role", "content"}, ...], role="user", ...)
    both      yield (the answer so far, the history so far)

None of them has a system role that all understand, so the system prompt stands in front of every
query. They are called one at a time, and the history they get is theirs to change.

Source: `modeling_chatglm.py` of ChatGLM-6B, ChatGLM2-6B and ChatGLM3-6B.
"""

import inspect
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import takewhile
from typing import Any

from relay import history
from relay.local.model import Prompt

UNFINISHED = "\ufffd"
"""What stands at the end of a text whose last character has not come whole."""

_PASSED = ("temperature", "top_p", "max_length")


def is_chat_model(found: object) -> bool:
    """Whether it is such an object."""
    return all(callable(getattr(found, name, None)) for name in ("chat", "stream_chat"))


class ChatGlmModel:
    """Such an object and its tokenizer; one answer at a time, whoever asks."""

    parallel = 1

    def __init__(self, model: Any, tokenizer: Any, *, name: str | None = None) -> None:
        self.name = name or type(model).__name__.lower()
        self._model = model
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        takes = inspect.signature(model.stream_chat).parameters
        self._takes_roles = "role" in takes
        self._takes_any = any(one.kind is one.VAR_KEYWORD for one in takes.values())
        self._takes = takes.keys()
        if callable(getattr(tokenizer, "encode", None)):
            self.count_tokens = self._count_tokens

    def generate(self, prompt: Prompt) -> Iterator[str]:
        """Yield what each step has added; closing it closes the model's own generator."""
        turns: list[Any] = list(prompt.history)
        if self._takes_roles:
            turns = history.from_pairs(prompt.query, prompt.history)[:-1]
        with self._lock:
            _seed(prompt.options.get("seed"))
            steps = self._model.stream_chat(
                self._tokenizer, prompt.query, history=turns, **self._options(prompt.options)
            )
            with closing(steps):
                yield from differences(_text(step) for step in steps)

    def _options(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What was asked for, as far as the object takes it."""
        options = {name: asked[name] for name in _PASSED if asked.get(name) is not None}
        if options.get("temperature") == 0:  # a division by zero in the sampler
            del options["temperature"]
            options["do_sample"] = False
        return {n: value for n, value in options.items() if self._takes_any or n in self._takes}

    def _count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text))


def differences(texts: Iterable[str]) -> Iterator[str]:
    """What each text adds to those before it.

    A text that does not begin with the one before has been rewritten. As what was sent cannot be
    taken back: of one that has not become shorter (a comma became another comma) what is new goes
    on behind it; of one that has, everything from the first difference on. So nothing is lost.
    """
    sent, text = "", ""
    for text in texts:
        settled = text.rstrip(UNFINISHED)
        if piece := _added(sent, settled):
            yield piece
        if not sent.startswith(settled):
            sent = settled
    if piece := _added(sent, text):
        yield piece


def _added(sent: str, text: str) -> str:
    if len(text) >= len(sent):
        return text[len(sent) :]
    if sent.startswith(text):
        return ""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(sent, text, strict=False))
    return text[sum(1 for _ in same) :]


def _text(step: Any) -> str:
    """The answer so far; of a tool call, which v3 gives as an object, its JSON."""
    said = step[0] if isinstance(step, tuple) else step
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _seed(seed: int | None) -> None:
    """Such objects draw from torch's own numbers."""
    torch = sys.modules.get("torch")
    if torch is not None and seed is not None:
        torch.manual_seed(seed % 2**63)
