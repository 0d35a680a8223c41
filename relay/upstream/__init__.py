"""The upstream client: one OpenAI-format server, behind the `Backend` protocol.

    via_httpx.HttpxUpstream    on httpx: the reference that the others are tested against

`open_upstream` picks the implementation; they share `headers.py`, and one contract suite runs over
each of them.
"""

from relay.settings import UpstreamSettings
from relay.types import Backend
from relay.upstream.headers import upward
from relay.upstream.via_httpx import HttpxUpstream

__all__ = ["open_upstream", "upward"]


def open_upstream(settings: UpstreamSettings) -> Backend:
    """A client for that upstream. Opens nothing until it is called."""
    return HttpxUpstream(settings)
