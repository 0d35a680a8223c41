"""Reading fields of a client's JSON, with the field's path in every complaint.

The paths are OpenAI's: `messages[0].content[1].text`.
"""

from collections.abc import Mapping
from typing import Any

from relay.errors import InvalidRequest


def unfit(param: str, problem: str) -> InvalidRequest:
    """The error that says what is wrong with a field: `'stop' cannot be …`."""
    return InvalidRequest(f"'{param}' {problem}.", param=param)


def text(value: Any, param: str) -> str:
    """A string.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, str):
        raise unfit(param, "must be a string")
    return value


def array(value: Any, param: str) -> list[Any]:
    """An array.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, list):
        raise unfit(param, "must be an array")
    return value


def mapping(value: Any, param: str) -> Mapping[str, Any]:
    """An object.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(value, Mapping):
        raise unfit(param, "must be an object")
    return value


def or_empty(value: Any) -> Mapping[str, Any]:
    """The object that an answer holds there, or an empty one: servers leave much out."""
    return value if isinstance(value, Mapping) else {}
