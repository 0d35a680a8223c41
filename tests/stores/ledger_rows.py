"""Rows to keep, with what a test does not care about filled in."""

from typing import Any

from relay.stores import LedgerRow

DAY = 86400
HOUR = 3600
MONDAY = 1_767_571_200  # 2026-01-05T00:00:00Z

_ROW = LedgerRow(
    at=MONDAY,
    request_id="req-0",
    key_id="key-a",
    team_id="",
    caller="a",
    path="chat/completions",
    model_asked="gpt",
    model_served="gpt-1",
    upstream="openai",
    attempts=1,
    lost_attempts=0,
    status=200,
    error="",
    stream=False,
    prompt_tokens=10,
    completion_tokens=5,
    cached_tokens=None,
    reasoning_tokens=None,
    audio_tokens=None,
    estimated=False,
    cost_nano=1000,
    first_token_s=0.25,
    duration_s=0.5,
)


def row(at: float = MONDAY, **changes: Any) -> LedgerRow:
    """One request; its id is made of its time, unless that is given."""
    return _ROW._replace(at=float(at), **{"request_id": f"req-{at}", **changes})
