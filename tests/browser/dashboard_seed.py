"""A ledger and keys for the dashboard to show, in a file that no relay has open yet."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ledger_file

from relay.stores import KeyRecord, LedgerRow, TeamRecord, open_store, prepare
from relay.types import Limits

HOSTILE = '<img src=x onerror="window.hacked=1">'
KEYS = 105


def seed(path: Path, *, requests: int = 120, keys: int = KEYS) -> None:
    """Fill it. Each tenth request failed after two attempts; one in three was of another model."""
    # Playwright has an event loop in this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _fill(ledger_file.url(path), requests, keys)).result()


async def _fill(url: str, requests: int, keys: int) -> None:
    await prepare(url)
    store = open_store(url)
    now = time.time()
    await store.put_team(TeamRecord(id="team_1", name="Search", created_at=now - 1000))
    for number in range(keys):
        await store.put_key(
            KeyRecord(
                id=f"key_{number}",
                name=HOSTILE if number == 0 else f"program-{number:03}",
                digest=number.to_bytes(32),
                prefix=f"rk-{number:06}",
                created_at=now - 1000 + number,
                team_id="team_1" if number % 2 else "",
                limits=Limits(rpm=60),
            )
        )
    await store.append([_row(number, now) for number in range(requests)])
    await store.aclose()


def _row(number: int, now: float) -> LedgerRow:
    failed, other = number % 10 == 9, number % 3 == 0
    return LedgerRow(
        at=now - 60 - number,
        request_id=f"req-{number:05}",
        key_id=f"key_{number % 4}",
        team_id="",
        caller=HOSTILE if number % 4 == 0 else f"program-{number % 4:03}",
        path="chat/completions",
        model_asked="alias",
        model_served=HOSTILE if other else "gpt-4o",
        upstream="azure" if other else "openai",
        attempts=2 if failed else 1,
        lost_attempts=0,
        status=502 if failed else 200,
        error="upstream_unreachable" if failed else "",
        stream=True,
        prompt_tokens=None if failed else 100,
        completion_tokens=None if failed else 20,
        cached_tokens=None,
        reasoning_tokens=None,
        audio_tokens=None,
        estimated=False,
        cost_nano=None if failed else 2_000_000,
        first_token_s=None if failed else 0.4,
        duration_s=0.1 if failed else 2.5,
    )
