"""A JSON schema as the engine's grammars take it, made such that a small model comes to an end.

    no white space between the parts    or it indents until its tokens are used up
    no properties but those named       or it invents more of them; where the schema says nothing

Whatever follows the result follows the schema, too.

Source: llguidance's JSON schemas; llama.cpp's own grammars close objects in the same way.
"""

import json
from typing import Any

_COMBINED = ("allOf", "anyOf", "oneOf", "if", "$ref", "not", "dependentSchemas")
"""Beside these, properties are a part of what is allowed: closing the parts would leave nothing."""

_OPEN = ("additionalProperties", "patternProperties", "unevaluatedProperties", *_COMBINED)
_VALUES = ("const", "enum", "default", "examples")
"""Keywords whose values are no schemas."""


def compact_json(schema: Any) -> str:
    """A grammar's words for JSON that follows the schema."""
    closed = _closed(schema)
    rules = closed if isinstance(closed, dict) else {}
    return "%json " + json.dumps(rules | {"x-guidance": {"whitespace_flexible": False}})


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    properties: Any = schema.get("properties")
    named = isinstance(properties, dict)
    left = (*_VALUES, *(_COMBINED if named else ("allOf", "not")))
    result = {name: part if name in left else _closed(part) for name, part in schema.items()}
    if named:
        # Their names are no keywords.
        result["properties"] = {name: _closed(part) for name, part in properties.items()}
        if not any(name in schema for name in _OPEN):
            result["additionalProperties"] = False
    return result
