"""Which models the events of a realtime session name: a key for certain models asks for no other.

    session.model                                 that of the session, by session.update
    session.audio.input.transcription.model       who writes down what was said
    session.input_audio_transcription.model       the same, as it was called before
    response.model                                none of OpenAI's; some servers take it

Source: OpenAI's API reference, "Realtime", client events and the session object.
"""

import json
from collections.abc import Iterator
from typing import Any

from relay.errors import InvalidRequest, ModelNotAllowed, RelayError
from relay.keys import allows
from relay.types import Identity

TRANSCRIBERS = (
    ("audio", "input", "transcription", "model"),
    ("input_audio_transcription", "model"),
)
"""Where a session says who transcribes."""

_PLACES = (
    ("session", "model"),
    *(("session", *place) for place in TRANSCRIBERS),
    ("response", "model"),
)


class Unwanted(Exception):
    """An event that is not passed on: `error` says why, `event_id` is the client's."""

    def __init__(self, error: RelayError, event_id: object = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.event_id = event_id if isinstance(event_id, str) else None


def check_event(message: str | bytes, identity: Identity, served: str) -> None:
    """Hold the models that an event names against the key's; `served` is the session's own.

    Raises:
        Unwanted: one is not among them, or the event can be read in several ways.
    """
    # Nearly all that a client sends is sound, in text that names no model.
    if isinstance(message, str) and not any(part in message.lower() for part in ("model", "\\u")):
        return
    try:
        event = json.loads(message, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        if isinstance(message, bytes) and b"model" not in message.lower():
            return  # sound as it is
        raise Unwanted(
            InvalidRequest("This key is for certain models: its events must be plain JSON.")
        ) from None
    if not isinstance(event, dict):
        return
    for place in _PLACES:
        for model in _at(event, place):
            if model == served and served:
                continue
            if not isinstance(model, str) or not allows(identity, model):
                named = f"the model '{model}'" if isinstance(model, str) else "a model without name"
                error = ModelNotAllowed(f"This key may not use {named}.", param=".".join(place))
                raise Unwanted(error, event.get("event_id"))


def transcriber_of(session: object) -> str:
    """The model that writes down what is said in a session; "" when nobody does."""
    for place in TRANSCRIBERS:
        for model in _at(session, place):
            if isinstance(model, str):
                return model
    return ""


def _at(value: Any, place: tuple[str, ...]) -> Iterator[Any]:
    for name in place:
        if not isinstance(value, dict):
            return
        value = value.get(name)
    if value is not None:
        yield value


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object by small names, as some parsers take any; ValueError: it has one of them twice."""
    found = {name.casefold(): value for name, value in members}
    if len(found) < len(members):
        raise ValueError("a member stands there twice")
    return found
