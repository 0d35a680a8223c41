"""The model that needs nothing: it answers with the last user text, word by word.

What it does beside that is a matter of its options, so a front-end can be built against slow, long,
failing and tool-calling answers, which are the same each time.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, islice
from typing import Annotated, Any

from pydantic import Field

from relay.errors import UpstreamStatus
from relay.history import text_of
from relay.local.model import Options, Prompt, ToolCall

WORD = re.compile(r"\s*\S+|\s+$")
FILLER = "word"
"""What is said when there is nothing to repeat."""

RETRY_AFTER_S = 1

Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class EchoOptions(Options):
    """How the echo answers."""

    first_s: Seconds = Field(0.0, description="seconds before the first word")
    word_s: Seconds = Field(0.0, description="seconds before each further word")
    words: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="as many words, repeating the question or cutting it short"
    )
    fail_every: Annotated[int, Field(ge=0)] = Field(
        0, description="every so-manyth answer fails; 1: all; 0: none"
    )
    fail_status: Annotated[int, Field(ge=400, le=599)] = Field(
        503, description="with that status (429 and 503 with retry-after)"
    )
    fail_after_words: Annotated[int, Field(ge=0)] = Field(
        0, description="after so many words: in the middle of a stream"
    )
    tool_calls: bool = Field(
        False, description="call the first tool that is offered, not only when one is required"
    )


class EchoModel:
    """Deterministic: for trying things out, and for tests."""

    name = "echo"

    def __init__(self, options: EchoOptions | None = None) -> None:
        self._options = options or EchoOptions()
        self._lock = threading.Lock()
        self._answers = 0

    def generate(self, prompt: Prompt) -> Iterator[str | ToolCall]:
        """Yield the last user text, a word at a time, each with the space before it.

        Raises:
            UpstreamStatus: it was told to fail.
        """
        options = self._options
        fails = self._fails()
        call = _call(prompt.options, unasked=options.tool_calls, answered=_answered(prompt))
        pieces: Iterator[str | ToolCall] = iter([call] if call else _words(prompt, options.words))
        place = 0
        for place, piece in enumerate(pieces, start=1):
            if fails and place > options.fail_after_words:
                break
            prompt.left.wait(options.word_s if place > 1 else options.first_s)
            yield piece
        if fails:
            raise failure(options.fail_status)

    def _fails(self) -> bool:
        every = self._options.fail_every
        if not every:
            return False
        with self._lock:
            self._answers += 1
            return self._answers % every == 0


def failure(status: int) -> UpstreamStatus:
    """The error of that status, in the form in which providers send it."""
    words = f"The echo was told to fail with status {status}."
    kind, code = _KINDS.get(
        status, ("server_error" if status >= 500 else "invalid_request_error",) * 2
    )
    error = {"message": words, "type": kind, "param": None, "code": code}
    headers = [(b"content-type", b"application/json")]
    if status in (429, 503):
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    return UpstreamStatus(status, headers=headers, body=json.dumps({"error": error}).encode())


_KINDS = {
    401: ("authentication_error", "invalid_api_key"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "overloaded"),
}


def sample(schema: object) -> Any:
    """The least that a JSON schema allows, as far as types, constants and bounds go."""
    if not isinstance(schema, Mapping):
        return {}
    fixed = [schema[name] for name in ("const", "default") if name in schema]
    fixed += schema.get("enum") or ()
    if fixed:
        return fixed[0]
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return sample(branches[0])
    kind = schema.get("type", "object")
    make = _SAMPLES.get(kind[0] if isinstance(kind, list) and kind else kind)
    return None if make is None else make(schema)


def _object(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    return {name: sample(properties.get(name, {})) for name in schema.get("required") or ()}


def _array(schema: Mapping[str, Any]) -> list[Any]:
    return [sample(schema.get("items")) for _ in range(schema.get("minItems", 0))]


def _string(schema: Mapping[str, Any]) -> str:
    return "text"[: schema.get("maxLength", 4)].ljust(schema.get("minLength", 0), "x")


def _number(schema: Mapping[str, Any]) -> Any:
    return schema.get("minimum", 1)


def _boolean(_: Mapping[str, Any]) -> bool:
    return True


_SAMPLES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": _boolean,
}


def _words(prompt: Prompt, count: int | None) -> Iterator[str]:
    said = [text_of(one.get("content")) for one in prompt.messages if one.get("role") == "user"]
    words = WORD.findall(said[-1]) if said else []
    if count is None:
        return iter(words)
    # The second time round, a word that had no space before it needs one.
    again = [word if word[:1].isspace() else f" {word}" for word in words or [FILLER]]
    return islice((*(words or [FILLER]), *islice(cycle(again), max(0, count))), count)


def _answered(prompt: Prompt) -> bool:
    """Whether the last message is what came of a call."""
    return bool(prompt.messages) and prompt.messages[-1].get("role") in ("tool", "function")


def _call(request: Mapping[str, Any], *, unasked: bool, answered: bool) -> ToolCall | None:
    choice = request.get("tool_choice")
    tools = [tool["function"] for tool in request.get("tools") or () if "function" in tool]
    demanded = choice == "required" or isinstance(choice, dict)
    if isinstance(choice, dict):
        named = (choice.get("function") or {}).get("name")
        tools = [function for function in tools if function.get("name") == named]
    if not tools or choice == "none" or not (demanded or (unasked and not answered)):
        return None
    function = tools[0]
    return ToolCall(function["name"], json.dumps(sample(function.get("parameters"))))
