"""A JSON schema as the engine's grammars take it, made such that a small model comes to an end.

    no white space between the parts    or it indents until its tokens are used up
    no properties but those named       or it invents more of them; where the schema says nothing
    no formats that it does not know    which would leave the whole answer free

Whatever follows the result follows the schema, too: a format is a remark, as JSON Schema has it.

Source: llguidance's JSON schemas; llama.cpp's own grammars close objects in the same way.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relay.errors import InvalidRequest

MOST_LEVELS = 64
"""Schemas in one another, twice over for their properties; the engine gives up at about as many."""

MOST_CHARACTERS = 100_000
"""In one schema: the engine answers nobody while it reads one, and this one takes a second."""

MOST_ITEMS = 10_000
"""The highest `maxItems`, and so on, that is read in less than a second."""

_COMBINED = ("allOf", "anyOf", "oneOf", "if", "$ref", "not", "dependentSchemas")
"""Beside these, properties are a part of what is allowed: closing the parts would leave nothing."""

_OPEN = ("additionalProperties", "patternProperties", "unevaluatedProperties", *_COMBINED)
_VALUES = ("const", "enum", "default", "examples")
"""Keywords whose values are no schemas."""

_COUNTS = ("maxItems", "maxProperties")

# fmt: off  # one name a line would be a page
_FORMATS = frozenset(
    [
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
    ]
)
_NOT_HELD_TO = (
    "not",
    "if",
    "contains",
    "minContains",
    "uniqueItems",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "oneOf",
)
# fmt: on
"""Keywords that the engine knows nothing of; `oneOf` only where its parts exclude each other."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A grammar that answers have to be held to, and what is said when that cannot be done.

    Nothing that it allows begins with white space or has a line break in it. `param` is the field
    that it came in.
    """

    param: str
    grammar: str
    refusal: str


def rule_of(param: str, schema: Any) -> Rule:
    """The rule of a schema.

    Raises:
        InvalidRequest: it is too large for the engine.
    """
    refusal = f"The local model cannot follow the JSON schema of '{param}'"
    if problem := _too_large(schema):
        raise InvalidRequest(f"{refusal}: {problem}.", param=param)
    grammar = grammar_of(schema)
    if len(grammar) > MOST_CHARACTERS:
        problem = f"it has {len(grammar)} characters, of at most {MOST_CHARACTERS}"
        raise InvalidRequest(f"{refusal}: {problem}.", param=param)
    unknown = sorted({name for part in _parts(schema) for name in _NOT_HELD_TO if name in part})
    reason = "it allows nothing, is too large, or has a type, a pattern or a $ref that is not known"
    if unknown:
        reason = f"answers cannot be held to its {', '.join(unknown)}"
    return Rule(param, grammar, f"{refusal}: {reason}.")


def grammar_of(schema: Any) -> str:
    """The grammar of JSON that follows the schema."""
    return f"%llguidance {{}}\nstart: {compact_json(schema)}\n"


def compact_json(schema: Any) -> str:
    """A grammar's words for JSON that follows the schema."""
    closed = _closed(_without_remarks(schema))
    rules = closed if isinstance(closed, dict) else {}
    return "%json " + json.dumps(rules | {"x-guidance": {"whitespace_flexible": False}})


def _too_large(schema: Any) -> str:
    """Why it is not even written as a grammar; nothing when it may be. Goes level by level."""
    level = [schema]
    for _ in range(2 * MOST_LEVELS):
        parts = [part for part in level if isinstance(part, dict)]
        for count in (part[name] for part in parts for name in _COUNTS if name in part):
            if isinstance(count, int) and count > MOST_ITEMS:
                return f"{count} is more than the {MOST_ITEMS} that it can count to"
        inner = [value for part in parts for value in part.values()]
        inner += [value for part in level if isinstance(part, list) for value in part]
        level = [value for value in inner if isinstance(value, dict | list)]
        if not level:
            return ""
    return "it is nested too deeply"


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in it: schemas, and what looks like them."""
    if isinstance(schema, dict):
        yield schema
    for value in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(value, dict | list):
            yield from _parts(value)


def _without_remarks(schema: Any) -> Any:
    """The schema without what says nothing to the engine but that it should give up."""
    if isinstance(schema, list):
        return [_without_remarks(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: part if name in _VALUES else _without_remarks(part)
        for name, part in schema.items()
        if not (name == "format" and isinstance(part, str) and part not in _FORMATS)
        and not (name == "uniqueItems" and part is False)
    }


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    properties: Any = schema.get("properties")
    named = isinstance(properties, dict)
    # Properties have their own way below; to go both would double the work with each level.
    left = (*_VALUES, *(("properties", *_COMBINED) if named else ("allOf", "not")))
    result = {name: part if name in left else _closed(part) for name, part in schema.items()}
    if named:
        # Their names are no keywords.
        result["properties"] = {name: _closed(part) for name, part in properties.items()}
        if not any(name in schema for name in _OPEN):
            result["additionalProperties"] = False
    return result
