"""What the engine behind `llama.py` says, as parts of an answer."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

from relay.errors import BackendError, InvalidRequest, PromptTooLong, RelayError
from relay.local.chunks import Part, StreamChoice, Text, ending, opening, tool_calls
from relay.local.llama_request import Ask
from relay.local.llama_tools import OPENING
from relay.schema import DeltaMessage, Usage

FIELD = re.compile(r"^Field '(\w+)': ")
"""How the engine names the field it complains of."""

BATCH = re.compile(r"^input \((\d+) tokens\) is too large to process\..*batch size: (\d+)")
"""What it says of a text that is too long to be embedded, which has to fit into one batch."""

CONTENT = frozenset(["content"])
"""What nearly every delta holds, and no more."""

logger = logging.getLogger(__name__)


class ChunkReader:
    """Turns the engine's chunks into parts; with `tools`, texts that are calls into tool calls.

    `json_text`: an answer that calls nothing may be JSON, too.
    """

    prompt_field = "messages"

    def __init__(self, *, tools: bool = False, json_text: bool = False) -> None:
        self._tools = tools
        self._json_text = json_text
        self._texts: dict[int, _MaybeCalls] = {}
        self._timings: dict[int, tuple[int, dict[str, Any]]] = {}

    def read(self, chunk: dict[str, Any], ask: Ask) -> Iterator[Part]:
        """The parts of one chunk of that run.

        Raises:
            InvalidRequest: the chunk says that the request cannot be served.
            BackendError: the chunk says that the engine failed.
        """
        if "error" in chunk:
            raise refusal(chunk["error"], param=self.prompt_field)
        for choice in chunk["choices"]:
            index = choice["index"] + ask.first
            if "timings" in chunk:
                self._timings[index] = (ask.prompt, chunk["timings"])
            yield from self._read_choice(index, choice)

    def usage(self) -> Usage:
        """What all answers used, once they have ended.

        From the timings in the last chunk of each: the engine's own usage is one answer's, and
        comes once for each of several. Answers to one prompt share it.
        """
        prompts = dict(reversed(self._timings.values()))
        cached = sum(timings["cache_n"] for timings in prompts.values())
        asked = cached + sum(timings["prompt_n"] for timings in prompts.values())
        answered = sum(timings["predicted_n"] for _, timings in self._timings.values())
        return Usage.model_validate(
            {
                "prompt_tokens": asked,
                "completion_tokens": answered,
                "total_tokens": asked + answered,
                "prompt_tokens_details": {"cached_tokens": cached},
            }
        )

    def _read_choice(self, index: int, choice: dict[str, Any]) -> Iterator[Part]:
        reason = choice["finish_reason"]
        delta = {name: value for name, value in choice["delta"].items() if value is not None}
        if delta.pop("role", None):
            yield opening(index)
        if self._tools:
            text = self._texts.setdefault(index, _MaybeCalls())
            said = text.push(delta.pop("content", ""))
            if reason:
                calls = text.calls()
                if calls:
                    for place, call in enumerate(calls):
                        yield tool_calls(index, place, *call)
                    reason = "tool_calls"
                elif self._json_text and not text.begun_calls:
                    said += text.rest()
            if said:
                delta["content"] = said
        if delta.keys() == CONTENT and not choice.get("logprobs"):  # as nearly always
            yield Text(index, delta["content"])
        elif delta:
            extra = {"logprobs": choice["logprobs"]} if choice.get("logprobs") else {}
            yield _part(index, delta, **extra)
        if reason:
            yield ending(index, reason)


class TextReader(ChunkReader):
    """The same for legacy completions, whose choices hold plain text."""

    prompt_field = "prompt"

    def _read_choice(self, index: int, choice: dict[str, Any]) -> Iterator[Part]:
        if choice["text"]:
            part: Part = Text(index, choice["text"])
            if choice.get("logprobs"):
                part = _part(index, {"content": choice["text"]}, logprobs=choice["logprobs"])
            yield part
        if choice["finish_reason"]:
            yield ending(index, choice["finish_reason"])


class _MaybeCalls:
    """A text that may turn out to be calls: what begins like them is held back."""

    def __init__(self) -> None:
        self._held = ""
        self._is_text = False

    @property
    def begun_calls(self) -> bool:
        """Whether it is calls, perhaps cut short."""
        return not self._is_text and self._held.startswith(OPENING)

    def push(self, piece: str) -> str:
        """What of it is text for sure."""
        if self._is_text:
            return piece
        self._held += piece
        if OPENING.startswith(self._held[: len(OPENING)]):
            return ""
        self._is_text = True
        return self.rest()

    def rest(self) -> str:
        """What was held back, when it is no call after all."""
        held, self._held = self._held, ""
        return held

    def calls(self) -> list[tuple[str, str]]:
        """The calls that it is, names and arguments; none when it is text, or was cut short."""
        try:
            made = json.loads(self._held)["tool_calls"] if self.begun_calls else []
        except json.JSONDecodeError:
            return []
        return [(call["name"], _compact(call["arguments"])) for call in made]


def _compact(arguments: object) -> str:
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))


def refusal(error: dict[str, Any], *, param: str = "messages") -> RelayError:
    """The engine's error object as ours; `param` is the field that holds the prompt."""
    message = str(error.get("message", ""))
    if error.get("type") == "exceed_context_size_error":
        return too_long(error.get("n_prompt_tokens"), error.get("n_ctx"), param=param)
    if batch := BATCH.match(message):
        return too_long(int(batch[1]), int(batch[2]), param=param)
    if error.get("code") == 400:
        named = FIELD.match(message)
        return InvalidRequest(
            f"The local model cannot take this request: {first_line(message)}",
            param=named[1] if named else None,
        )
    logger.error("local_model_failed error=%s status=%s", error.get("type"), error.get("code"))
    return BackendError(
        "The local model failed while answering; the relay's log says where.",
        code="local_model_failed",
    )


def too_long(tokens: int | None, room: int | None, *, param: str) -> PromptTooLong:
    """What is told of a prompt that the context cannot hold."""
    what = {"messages": "conversation", "input": "text"}.get(param, param)
    return PromptTooLong(
        f"The {what} has {tokens} tokens, but the local model's context holds {room}: shorten it.",
        param=param,
    )


def first_line(text: str) -> str:
    """The beginning of an engine's message; more of it may quote the request."""
    return text.partition("\n")[0][:200]


def _part(index: int, delta: dict[str, Any], **extra: Any) -> StreamChoice:
    return StreamChoice.model_validate(
        {
            "index": index,
            "delta": DeltaMessage.model_validate(delta),
            "finish_reason": None,
            **extra,
        }
    )
