"""Whatever looks like a key is taken out of logs, of bodies that are kept, and of rows alike."""

from collections.abc import Callable

import pytest

from relay.ledger.redaction import redact_keys, without_keys
from relay.telemetry import logs


def of_bodies(text: str) -> str:
    return redact_keys(text.encode()).decode()


PLACES = pytest.mark.parametrize("redact", [logs.redact, of_bodies, without_keys])

HEAD = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ"
BODY = "eyJzdWIiOiJhbm4iLCJleHAiOjF9"


@PLACES
@pytest.mark.parametrize(
    "secret",
    [
        "sk-0123456789abcdef",
        "sk-proj-0123_4567-89ab",
        "rk-" + "A" * 43,
        "pk-live_0123456789",
        "ek-key_5f0c1f6a6e1d2b3c.c2lnbmF0dXJl-_0",
        f"{HEAD}.{BODY}.c2lnbmF0dXJl-_0",
        f"{HEAD}..aXY.Y2lwaGVy.dGFn",
        HEAD,
    ],
)
@pytest.mark.parametrize("around", ["{}", 'said "{}" and', "k={}&x=1", "/v1/models/{}", "ü{{{}}}"])
def test_a_secret_is_taken_out_to_its_last_letter(
    redact: Callable[[str], str], secret: str, around: str
) -> None:
    assert redact(around.format(secret)) == around.format("[redacted]")


@PLACES
@pytest.mark.parametrize(
    "text",
    [
        "risk-free-of-charge, task-0123456789",
        "sk-short and rk-1",
        "Eyjafjallajokull erupted",
        "heyJude-don-t-be-afraid",
        "gpt-4o-2024-11-20",
        "eyJ0",
    ],
)
def test_what_only_begins_like_one_stays(redact: Callable[[str], str], text: str) -> None:
    assert redact(text) == text
