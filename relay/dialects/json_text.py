"""JSON in and out, the odd texts of real servers included.

orjson does the usual work. What it refuses and `json` takes goes the slower way: lone surrogates,
which servers make when they cut an emoji in two, and, in writing, integers beyond 64 bits.
"""

import json
from typing import Any

import orjson

from relay import splice


def load(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested deeper than Python can follow.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except RecursionError as exc:
            raise ValueError("the JSON is nested too deeply") from exc


def load_object(data: bytes | str) -> dict[str, Any]:
    """The object of a JSON text.

    Raises:
        ValueError: it is not JSON, or something else than an object.
    """
    value = load(data)
    if not isinstance(value, dict):
        raise ValueError("the JSON is not an object")  # noqa: TRY004 - it is the text that is wrong
    return value


def dump(value: Any) -> bytes:
    """Compact UTF-8; only what UTF-8 cannot carry is escaped.

    Raises:
        ValueError: the value is nested deeper than Python can follow.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # orjson.JSONEncodeError is this very class
        try:
            return splice.dump(value).encode()
        except RecursionError as exc:
            raise ValueError("the value is nested too deeply") from exc
