"""How a local model does, in a word, as `GET /v1/models` tells it in `status`.

    {"value": "unloaded"}                      it is loaded on first use
    {"value": "loading", "progress": 0.4}      so much of the file was read
    {"value": "loaded"}
    {"value": "failed", "message": "..."}      why

Source: the router of llama.cpp's server, which has the same field and words.
"""

from typing import Any

from relay.schema import ModelCard


def of_card(card: ModelCard) -> str:
    """The state of a model; `loaded` for one that says nothing of it."""
    return in_words((card.model_extra or {}).get("status"))


def in_words(status: Any) -> str:
    """`loaded`, `unloaded`, `loading 40 %`, or `failed: ` and why."""
    if not isinstance(status, dict):
        return "loaded"
    value = str(status.get("value", ""))
    progress, message = status.get("progress"), status.get("message")
    if isinstance(progress, int | float):
        return f"{value} {progress:.0%}".replace("%", " %")
    return f"{value}: {message}" if message else value
