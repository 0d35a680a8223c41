"""Which models a caller may use."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl

from relay.errors import InvalidRequest, ModelNotAllowed
from relay.types import Call, Identity

ALSO_NAMED = ("models", "fallbacks")
"""Members in which some upstreams take other models to be tried."""

TOOLS = "tools"
"""Some of these have a model of their own: one that paints, or gives advice."""

IN_QUERIES = frozenset({"model", "models", "fallbacks", "deployment", "engine"})

_MEMBERS = ("model", *ALSO_NAMED, TOOLS)
_NAMES = re.compile(rb'"(?:' + "|".join(_MEMBERS).encode() + rb')"', re.IGNORECASE)
_SPELLED = re.compile(rb"\\u00[4-7]|\\u(?i:017f|212a)|\xc5\xbf|\xe2\x84\xaa")
"""Their letters as escapes, and the two others that some parsers take for an S and a K."""

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


def naming(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request's body says which models it would use."""
    return {name: payload[name] for name in _MEMBERS if name in payload}


def check_model(call: Call) -> None:
    """Whether its caller may make that call.

    Raises:
        ModelNotAllowed: a model is not among his, or it is not known which it is.
        InvalidRequest: the body names its model twice, and an upstream may take either.
    """
    if not call.model:
        if allows(call.identity, ""):
            return
        raise ModelNotAllowed(
            "This key is for certain models, and it cannot be seen which one this call would use.",
            param="model",
        )
    for model in (call.model, *_others(call)):
        if not isinstance(model, str):
            raise ModelNotAllowed("This key is for certain models, named as texts.", param="model")
        if not allows(call.identity, model):
            raise ModelNotAllowed(f"This key may not use the model '{model}'.", param="model")
    if not call.body and call.content is None:
        return  # that of a WebSocket stands in its query
    if not (_names_one(call.body) if call.payload else _form_names_one(call.body)):
        raise InvalidRequest("The body names its model more than once.", param="model")


def _allowed(patterns: tuple[str, ...], model: str) -> bool:
    if model in patterns or "*" in patterns:
        return True
    return bool(model) and any("*" in one and fnmatchcase(model, one) for one in patterns)


def _others(call: Call) -> Iterator[Any]:
    for name in ALSO_NAMED:
        yield from _listed(call.payload.get(name))
    for tool in _listed(call.payload.get(TOOLS)):
        if isinstance(tool, dict) and tool.get("model") is not None:
            yield tool["model"]
    _, _, query = call.path.partition("?")
    for name, value in parse_qsl(query, keep_blank_values=True, separator="&"):
        if name.casefold().partition("[")[0] in IN_QUERIES:
            yield value


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _names_one(body: bytes) -> bool:
    """Whether a body names its models in one way only.

    Parsers differ in which of two members they take, and whether `Model` is one. Looking at all of
    it costs most when a conversation speaks of models; it is rare.
    """
    found = _NAMES.findall(body)
    if len(found) == len({*map(bytes.lower, found)} & {*found}) and not _SPELLED.search(body):
        return True
    try:
        members = json.loads(body, object_pairs_hook=list)
    except (ValueError, RecursionError):  # what one parser takes, the next may not
        raise InvalidRequest("The body is nested too deeply.") from None
    tools = [tool for name, value in members if name == TOOLS for tool in _listed(value)]
    return _plain(members, _MEMBERS) and all(_plain(tool, ("model",)) for tool in tools)


def _plain(members: Any, names: Iterable[str]) -> bool:
    """Whether each of those names is there once at most, and nothing that may be read as one."""
    try:
        given = [name for name, _ in members]
    except (TypeError, ValueError):  # no object
        return True
    return all(
        [one for one in given if isinstance(one, str) and one.casefold() == name] in ([], [name])
        for name in names
    )


def _form_names_one(body: bytes) -> bool:
    """The same for a form. A part that is oddly written could be one more to somebody."""
    parts = [_PLAIN_PART.fullmatch(part) for part in _PARTS.findall(body)]
    names = [b"model" if part is None else part[1].lower().partition(b"[")[0] for part in parts]
    return sum(name.decode() in _MEMBERS for name in names) == 1
