"""A request as the engine behind `llama.py` takes it.

What passes is named here: the engine has options that reach beyond one request (slots, adapters,
caches). What it would ignore and what changes the answer is refused; hints are not (see IGNORED in
docs/local.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay.errors import InvalidRequest
from relay.local.llama_schema import Rule, rule_of
from relay.local.llama_tools import Toolbox, as_text, read_tools
from relay.schema import ChatCompletionRequest

# fmt: off  # one name a line would be a page
SAMPLING = frozenset(
    [
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "top_k",
        "min_p",
        "typical_p",
        "top_n_sigma",
        "xtc_probability",
        "xtc_threshold",
        "dynatemp_range",
        "dynatemp_exponent",
        "repeat_penalty",
        "repeat_last_n",
        "dry_multiplier",
        "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
        "min_keep",
        "ignore_eos",
        "grammar",
        "json_schema",
    ]
)
# fmt: on
"""Fields that go to the engine as they are: OpenAI's, and the samplers that GGUF users know."""

PASSED = SAMPLING | {
    "messages",
    "logprobs",
    "top_logprobs",
    "response_format",
    "chat_template_kwargs",
    "reasoning_format",
}
"""The same for chat completions."""

TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")

REFUSED = {
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
    "audio": "local models give text only",
    "web_search_options": "local models search nothing",
}
"""Fields that would be ignored although they matter, and what to do instead."""

RANDOM_SEED = 2**32 - 1
"""The engine takes 32-bit seeds, and this one for "a new one each time"."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One run of the engine. `first` is the index of its first answer, `prompt` its prompt's."""

    body: dict[str, Any]
    first: int = 0
    prompt: int = 0


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What to ask the engine, one after the other, and what we do for it.

    `places` is how many answers come at once. `rules` have to be such that the engine can hold
    answers to them. With `tools` answers may be calls, and JSON that is no call
    with `json_text`. `max_length`: ChatGLM's limit, which needs the prompt's tokens, which only the
    engine knows.
    """

    asks: Sequence[Ask]
    chat: bool = True
    places: int = 1
    tools: Toolbox | None = None
    json_text: bool = False
    rules: Sequence[Rule] = ()
    max_length: int | None = None


def build(
    request: ChatCompletionRequest,
    payload: Mapping[str, Any],
    *,
    parallel: int,
    own_tools: bool = True,
) -> EngineRequest:
    """What to ask the engine for that request; it gives at most `parallel` answers at once.

    With `own_tools` we see to the tools; else the model's chat template does.

    Raises:
        InvalidRequest: the request asks for what the engine cannot do.
    """
    _refuse(payload)
    _check_parts(request)
    body = {name: payload[name] for name in PASSED & payload.keys() if payload[name] is not None}
    body |= limits_and_seed(payload, [request.max_tokens, request.max_completion_tokens])
    if (effort := payload.get("reasoning_effort")) is not None:
        body["chat_template_kwargs"] = {
            "reasoning_effort": effort,
            **(body.get("chat_template_kwargs") or {}),
        }
    toolbox = read_tools(request)
    answer_schema = _answer_schema(body)
    rules: list[Rule] = []
    if answer_schema is not None:
        rules.append(hold(body, "response_format", answer_schema))
    elif "json_schema" in body:
        answer_schema = body.pop("json_schema")
        rules.append(hold(body, "json_schema", answer_schema))
    if own_tools:
        if toolbox is not None:
            _refuse_two_grammars(payload, "tools")
            rules += toolbox.rules()
            body["grammar"] = toolbox.grammar(answer_schema)
            body["messages"] = toolbox.told(body["messages"])
        else:
            body["messages"] = as_text(body["messages"])
    else:
        toolbox = None
        body |= {name: payload[name] for name in TOOL_FIELDS if payload.get(name) is not None}
    count = request.n or 1
    return EngineRequest(
        in_rounds(body, count, parallel),
        places=min(count, parallel),
        tools=toolbox,
        json_text=answer_schema is not None and toolbox is not None and not toolbox.forced,
        rules=rules,
        max_length=request.max_length,
    )


def hold(body: dict[str, Any], param: str, schema: Any) -> Rule:
    """Hold the answers of that body to a schema, which came in the field `param`.

    Raises:
        InvalidRequest: it is no schema, is too large, or there is a grammar already.
    """
    if not isinstance(schema, dict):
        raise InvalidRequest(f"'{param}' is a JSON schema, an object.", param=param)
    _refuse_two_grammars(body, param)
    rule = rule_of(param, schema)
    body["grammar"] = rule.grammar
    return rule


def limits_and_seed(payload: Mapping[str, Any], limits: Sequence[int | None]) -> dict[str, Any]:
    """The part of the engine's body that says how long, how random, and that it is streamed."""
    body: dict[str, Any] = {}
    if given := [limit for limit in limits if limit is not None]:
        body["max_tokens"] = min(given)
    stop, seed = payload.get("stop"), payload.get("seed")
    stops = [stop] if isinstance(stop, str) else stop or []
    body["stop"] = [one for one in stops if one]  # an empty one would end every answer at once
    if seed is not None:
        body["seed"] = seed % RANDOM_SEED
    # A cached prompt is computed in other batches, whose rounding may turn a near-tie: the same
    # seed gives the same text only without it.
    body["cache_prompt"] = seed is None
    body["stream"] = True
    body["return_progress"] = True  # or a long prompt could not be cancelled
    return body


def in_rounds(body: dict[str, Any], count: int, parallel: int, *, prompt: int = 0) -> list[Ask]:
    """As many runs as `count` answers to one prompt take."""
    asks = []
    for first in range(0, count, parallel):
        asked = body | {"n": min(parallel, count - first)}
        if first and "seed" in body:
            asked["seed"] = (body["seed"] + first) % RANDOM_SEED
        asks.append(Ask(asked, prompt * count + first, prompt))
    return asks


def within(asked: EngineRequest, tokens: int) -> EngineRequest:
    """The same, with at most so many tokens in each answer."""
    asks = [
        replace(
            ask, body=ask.body | {"max_tokens": min(tokens, ask.body.get("max_tokens", tokens))}
        )
        for ask in asked.asks
    ]
    return replace(asked, asks=asks)


def _refuse(payload: Mapping[str, Any]) -> None:
    for name, advice in REFUSED.items():
        if payload.get(name) is not None:
            raise InvalidRequest(f"The local model knows no '{name}': {advice}.", param=name)
    if set(payload.get("modalities") or ()) - {"text"}:
        raise InvalidRequest("The local model gives text only.", param="modalities")
    if payload.get("top_logprobs") is not None and not payload.get("logprobs"):
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    if not isinstance(payload.get("chat_template_kwargs") or {}, dict):
        raise InvalidRequest("'chat_template_kwargs' is an object.", param="chat_template_kwargs")


def _refuse_two_grammars(body: Mapping[str, Any], param: str) -> None:
    if body.get("grammar") is not None:
        raise InvalidRequest(
            f"An answer cannot be held to 'grammar' and '{param}' at once.", param="grammar"
        )


def _answer_schema(body: dict[str, Any]) -> Any:
    """The schema that an answer has to follow, taken out of the body; None where there is none.

    The engine would enforce it as well, but lets a small model indent to its last token.
    """
    form: dict[str, Any] = body.get("response_format") or {"type": "text"}
    kind = form.get("type")
    if kind == "json_object":
        schema: Any = form.get("schema") or {"type": "object"}
    elif kind == "json_schema":
        wanted = form.get("json_schema")
        schema = wanted.get("schema") if isinstance(wanted, dict) else None
        if not isinstance(schema, dict):
            raise InvalidRequest(
                "'response_format' of type json_schema needs a 'json_schema' with a 'schema'.",
                param="response_format",
            )
    elif kind == "text":
        return None
    else:
        raise InvalidRequest(
            f"'response_format' is of type text, json_object or json_schema, not '{kind}'.",
            param="response_format",
        )
    del body["response_format"]
    return schema


def _check_parts(request: ChatCompletionRequest) -> None:
    for index, message in enumerate(request.messages):
        if not isinstance(message.content, list):
            continue
        for place, part in enumerate(message.content):
            if part.type not in ("text", "refusal"):
                raise InvalidRequest(
                    f"The local model reads text only, and no '{part.type}'.",
                    param=f"messages[{index}].content[{place}].type",
                )
