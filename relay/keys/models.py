"""Which models a caller may use."""

import json
import re
from fnmatch import fnmatchcase
from typing import Any

from relay.errors import InvalidRequest, ModelNotAllowed
from relay.types import Call, Identity

ALSO_NAMED = ("models", "fallbacks")
"""Members in which some upstreams take other models to be tried."""

_NAMES = re.compile(rb'"model"', re.IGNORECASE)
_SPELLED = re.compile(rb"\\u00[46]")
"""The letters of `model` as escapes."""

_PARTS = re.compile(rb"^[ \t]*content-disposition[^\r\n]*", re.IGNORECASE | re.MULTILINE)
_PLAIN_PART = re.compile(
    rb'content-disposition: form-data; name="([\w.\[\]-]+)"'
    rb'(?:; filename\*?=(?:"[^"\\]*"|[^\s;"]+))*',
    re.IGNORECASE,
)
"""How clients write the head of a form's part; whatever else could be read in several ways."""


def allows(identity: Identity, model: str) -> bool:
    """Whether that caller may use the model of that name; "" is one that cannot be known."""
    return all(_allowed(patterns, model) for patterns in identity.models)


def check_model(call: Call) -> None:
    """Whether its caller may make that call.

    Raises:
        ModelNotAllowed: the model is not among his, or it is not known which it is.
        InvalidRequest: the body names its model twice, and an upstream may take either.
    """
    if not call.model:
        if allows(call.identity, ""):
            return
        raise ModelNotAllowed(
            "This key is for certain models, and it cannot be seen which one this call would use.",
            param="model",
        )
    others = [one for name in ALSO_NAMED for one in _listed(call.payload.get(name))]
    for model in (call.model, *others):
        if not isinstance(model, str):
            raise ModelNotAllowed("This key is for certain models, named as texts.", param="model")
        if not allows(call.identity, model):
            raise ModelNotAllowed(f"This key may not use the model '{model}'.", param="model")
    if not (_names_one(call.body) if call.payload else _form_names_one(call.body)):
        raise InvalidRequest("The body names its model more than once.", param="model")


def _allowed(patterns: tuple[str, ...], model: str) -> bool:
    if model in patterns or "*" in patterns:
        return True
    return bool(model) and any("*" in one and fnmatchcase(model, one) for one in patterns)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _names_one(body: bytes) -> bool:
    """Whether a body has one `model`, in whatever case: parsers differ in which of two they take.

    Looking at all of it costs most when a conversation speaks of models; it is rare.
    """
    if len(_NAMES.findall(body)) <= 1 and not _SPELLED.search(body):
        return True
    try:
        members = json.loads(body, object_pairs_hook=list)
    except (ValueError, RecursionError):  # what one parser takes, the next may not
        raise InvalidRequest("The body is nested too deeply.") from None
    return sum(bool(name.casefold() == "model") for name, _ in members) <= 1


def _form_names_one(body: bytes) -> bool:
    """The same for a form. A part that is oddly written could be one more to somebody."""
    parts = [_PLAIN_PART.fullmatch(part) for part in _PARTS.findall(body)]
    names = [b"model" if part is None else part[1].lower() for part in parts]
    return names.count(b"model") == 1
