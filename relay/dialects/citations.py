"""Anthropic's citations as OpenAI's annotations of the text that they support.

    a page of the web, or a search result with a URL    annotations: url_citation
    a place in a document                               citations: as it came, and where it belongs

OpenAI has no word for the second. To write it into the text was rejected: an answer may be JSON,
and its words are the model's.

Source: Claude guide, "Citations"; OpenAI API reference, "Chat completion object".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from relay.dialects.fields import or_empty

ANNOTATIONS = "annotations"
CITATIONS = "citations"


def to_notes(cited: Iterable[Any], start: int, end: int) -> list[tuple[str, dict[str, Any]]]:
    """What they are in OpenAI's format, each with the member of the message where it goes.

    `start` and `end` are where the text that they support stands in the message, in characters.
    """
    return [_to_note(citation, start, end) for citation in map(or_empty, cited) if citation]


def _to_note(citation: Mapping[str, Any], start: int, end: int) -> tuple[str, dict[str, Any]]:
    place = {"start_index": start, "end_index": end}
    url = str(citation.get("url") or citation.get("source") or "")
    if not url.startswith(("http://", "https://")):
        return CITATIONS, {**citation, **place}
    title = str(citation.get("title") or "")
    return ANNOTATIONS, {
        "type": "url_citation",
        "url_citation": {**place, "title": title, "url": url},
    }
