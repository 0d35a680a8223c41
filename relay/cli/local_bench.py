"""`relay local bench`: how fast a local model answers on this machine.

load       from nothing until it is ready
first      from the question until the first text, median of the runs
alone      tokens per second after the first, one answer at a time, median of the runs
together   the same for as many answers at once as it generates, all of them added up
"""

import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from rich.text import Text

from relay.cli.models_on_disk import settings_of
from relay.cli.terminal import fail, note, print_table, say
from relay.errors import RelayError
from relay.local import LocalBackend, open_local
from relay.local.shelf import Shelf
from relay.settings import Settings, SettingsError
from relay.types import Call

QUESTION = "Write a long story about a lighthouse, a storm and a letter that came too late."


@dataclass(frozen=True, slots=True)
class Run:
    """One answer."""

    first_s: float
    whole_s: float
    tokens: int

    @property
    def per_second(self) -> float:
        """Tokens after the first, by the time they took."""
        return (self.tokens - 1) / max(self.whole_s - self.first_s, 1e-9)


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of one model."""

    model: str
    load_s: float
    first_token_ms: float
    tokens_per_s: float
    parallel: int
    tokens_per_s_together: float


def run(model: str | None, *, tokens: int, runs: int, config: str | None, as_json: bool) -> None:
    """Measure, and print."""
    settings = settings_of(config)
    spec = settings.local if model is None else model
    if spec is not None and Shelf(settings.local_folder).find(spec) and spec != "smollm2":
        spec = f"llama:{spec}"
    try:
        backend = open_local(spec, settings)
    except SettingsError as exc:
        fail(str(exc), code=2)
    try:
        result = asyncio.run(_measure(backend, settings, tokens=tokens, runs=runs))
    except RelayError as exc:
        fail(f"{backend.name} cannot be measured: {exc.message}")
    if as_json:
        say(json.dumps(asdict(result), indent=2) + "\n")
        return
    together = f"tokens/s, {result.parallel} at once"
    row = [
        result.model,
        f"{result.load_s:.2f} s",
        f"{result.first_token_ms:.0f} ms",
        f"{result.tokens_per_s:.1f}",
        f"{result.tokens_per_s_together:.1f}",
    ]
    headings = ["model", "load", "first token", "tokens/s", together]
    print_table(headings, [[Text(cell) for cell in row]])
    note(f"{runs} answers of up to {tokens} tokens; medians.")


async def _measure(backend: LocalBackend, settings: Settings, *, tokens: int, runs: int) -> Result:
    try:
        began = time.perf_counter()
        backend.start()
        await _ask(backend, 2)  # waits for the model, and warms it up
        load_s = time.perf_counter() - began
        alone = [await _ask(backend, tokens) for _ in range(runs)]
        parallel = settings.local_parallel
        began = time.perf_counter()
        together = await asyncio.gather(*(_ask(backend, tokens) for _ in range(parallel)))
        together_s = time.perf_counter() - began
    finally:
        await backend.aclose()
    return Result(
        model=backend.name,
        load_s=load_s,
        first_token_ms=statistics.median(one.first_s for one in alone) * 1000,
        tokens_per_s=statistics.median(one.per_second for one in alone),
        parallel=parallel,
        tokens_per_s_together=sum(one.tokens for one in together) / together_s,
    )


async def _ask(backend: LocalBackend, tokens: int) -> Run:
    payload = {
        "model": backend.name,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    call = Call(
        path="chat/completions",
        body=orjson.dumps(payload),
        payload=payload,
        model=backend.name,
        stream=True,
    )
    began = time.perf_counter()
    first_s, used = 0.0, 0
    async with backend.stream(call) as answer:
        async for event in answer:
            chunk = _chunk(event)
            choices = chunk.get("choices") or [{}]
            if not first_s and choices[0].get("delta", {}).get("content"):
                first_s = time.perf_counter() - began
            used = (chunk.get("usage") or {}).get("completion_tokens", used)
    whole_s = time.perf_counter() - began
    return Run(first_s or whole_s, whole_s, used)


def _chunk(event: bytes) -> dict[str, Any]:
    data = event.removeprefix(b"data: ").strip()
    chunk: dict[str, Any] = {} if data == b"[DONE]" else orjson.loads(data)
    return chunk
