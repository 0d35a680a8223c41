"""Anthropic's models as OpenAI's: the list, and one of them.

    GET models?limit=1000      {"object": "list", "data": […]}
    GET models/ID              {"id", "object": "model", "created", "owned_by"}

Without a limit Anthropic tells twenty models at a time; a thousand is the most that it takes.

Source: Claude API reference, "Models"; OpenAI API reference, "Models".
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from relay.dialects import json_text
from relay.dialects.fields import or_empty
from relay.errors import UpstreamProtocol

LIST_PATH = "models?limit=1000"
OWNER = "anthropic"


def to_models_body(body: bytes) -> bytes:
    """OpenAI's form of a list of models, or of a single one.

    Raises:
        UpstreamProtocol: it is neither.
    """
    try:
        told = json_text.load_object(body)
    except ValueError as exc:
        raise UpstreamProtocol("The upstream's answer cannot be read as JSON.") from exc
    entries = told.get("data")
    if isinstance(entries, list):
        cards = [_card(or_empty(entry)) for entry in entries]
        return json_text.dump({"object": "list", "data": [card for card in cards if card["id"]]})
    card = _card(told)
    if not card["id"]:
        raise UpstreamProtocol("The upstream answered with something else than models.")
    return json_text.dump(card)


def _card(model: Mapping[str, Any]) -> dict[str, Any]:
    name = model.get("id")
    return {
        "id": name if isinstance(name, str) else "",
        "object": "model",
        "created": _seconds(model.get("created_at")),
        "owned_by": OWNER,
    }


def _seconds(moment: Any) -> int:
    """Unix time of an RFC 3339 text; 0 for what is none, as for models of unknown age."""
    try:
        return max(0, int(datetime.fromisoformat(moment).timestamp()))
    except (TypeError, ValueError, OverflowError):
        return 0
