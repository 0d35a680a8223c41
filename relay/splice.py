"""Changing one value of a JSON text and nothing else of it.

A body that must change is not parsed and written anew: that would respell its numbers, escapes and
spaces. Instead the value's place is found and only its characters are replaced.

    members('{"a": 1, "b": [2]}')      {"a": (6, 7), "b": (14, 17)}
    elements('{"b": [2, 3]}', 6)       [(7, 8), (10, 11)]

Places are offsets of the first character and the one after the last. The text must be valid JSON;
of members with one name the last counts, as it does for parsers.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Place = tuple[int, int]

_scan = json.JSONDecoder().raw_decode
_SPACE = " \t\n\r"


def members(text: str, start: int = 0) -> dict[str, Place]:
    """Where the values of the object at `start` stand, by name."""
    found: dict[str, Place] = {}
    at = _skip(text, _skip(text, start) + 1)
    while text[at] != "}":
        name, at = _scan(text, at)
        at = _skip(text, _skip(text, at) + 1)  # over the colon
        _, end = _scan(text, at)
        found[name] = (at, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def elements(text: str, start: int = 0) -> list[Place]:
    """Where the elements of the array at `start` stand."""
    found: list[Place] = []
    at = _skip(text, _skip(text, start) + 1)
    while text[at] != "]":
        _, end = _scan(text, at)
        found.append((at, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def member(text: str, places: Mapping[str, Place], name: str, value: Any) -> tuple[Place, str]:
    """The edit that gives the object of these `places` that member: in its place, or as the last.

    Of an object, only the members that change are written anew.
    """
    if name not in places:
        end = text.rindex("}")
        return (end, end), f"{', ' if places else ''}{dump(name)}: {dump(value)}"
    start, end = places[name]
    old = text[start:end]
    if not (isinstance(value, dict) and old.startswith("{")):
        return places[name], dump(value)
    inner = members(old)
    edits = [
        member(old, inner, key, new)
        for key, new in value.items()
        if key not in inner or json.loads(old[slice(*inner[key])]) != new
    ]
    return places[name], replace(old, edits).decode()


def append(body: bytes, member: bytes) -> bytes:
    """An object of UTF-8 with one more member, which it does not have yet, behind its others."""
    end = body.rindex(b"}")
    return b"%b, %b%b" % (body[:end], member, body[end:])


def replace(text: str, edits: Iterable[tuple[Place, str]]) -> bytes:
    """The text with those places replaced, as UTF-8; the places must not overlap."""
    pieces: list[str] = []
    done = 0
    for (start, end), new in sorted(edits):
        pieces += (text[done:start], new)
        done = end
    pieces.append(text[done:])
    return "".join(pieces).encode()


def dump(value: Any) -> str:
    """Compact JSON of a new value; escapes only what UTF-8 cannot carry."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can carry
        return json.dumps(value, separators=(",", ":"))
    return text


def regroup(text: str, array: Place, groups: Sequence[int | Any]) -> str:
    """The array at `array` anew: an index stands for that element as spelled, else a value."""
    places = elements(text, array[0])
    pieces = []
    for group in groups:
        if isinstance(group, int):
            start, end = places[group]
            pieces.append(text[start:end])
        else:
            pieces.append(dump(group))
    return "[" + ",".join(pieces) + "]"


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
