"""What the relay adds to a model in its own process: the bundled small one, by itself and relayed.

python -m bench.local [--only cost,clients,cancel,lag] [--rounds N] [--tokens N] [--threads N]

cost      tokens a second and CPU a token: the engine called in this process, then through HTTP
clients   16 clients on 4 slots: in which order, and what they get together against one alone
cancel    from closing a connection until the next in line is served, in an answer and in a prompt
lag       the delay of a relayed stream's chunks, alone and beside two local answers
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from bench import processes
from bench.load import Load
from bench.measure import LIMIT_S, percentile
from bench.processes import Cores, FakeUpstream, Server
from bench.workloads import CLIENT_KEY, PACED
from relay.local import find_smollm2
from relay.local.llama_engine import LlamaEngine, Opening

SLOTS = 4
CLIENTS = 16
CONTEXT_TOKENS = 4096
ANSWERS = 3
"""Of each way in a round."""

SETTLE_S = 1.0
READY_WITHIN_S = 60
TELL_APART_S = 0.02
"""Between two arrivals, so that there is an order to keep."""

QUESTION = "Write a long story about a lighthouse, a storm and a letter that came too late."
SENTENCE = " The lighthouse keeper wrote another letter."
SHORT = 2
"""Tokens of an answer that is only there to see whether it begins."""

LOCAL = "here"
CONFIG = f"""
[[models]]
id = "bench-*"
targets = [ {{{{ upstream = "bench" }}}} ]

[[models]]
id = "{LOCAL}"
targets = [ {{{{ local = true }}}} ]
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer: seconds until its first text and its end, and the engine's count."""

    first_s: float
    whole_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What some answers took: wall time, CPU, and how much of that outside the engine's threads."""

    tokens: int
    wall_s: float
    cpu_s: float
    ours_s: float


def asked(text: str, tokens: int) -> dict[str, Any]:
    """A request for exactly so many tokens, the same ones each time."""
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "seed": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def ask(port: int, text: str, tokens: int) -> Answer:
    """Ask the relay; cancelled, it closes the connection."""
    body = json.dumps({"model": LOCAL} | asked(text, tokens)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        f"authorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + body)
        first_s, used, ended = 0.0, 0, False
        async for line in reader:
            if not first_s and b'"content":' in line:
                first_s = time.perf_counter() - began
            if b'"usage":' in line:
                used = json.loads(line.removeprefix(b"data: "))["usage"]["completion_tokens"]
            ended = ended or line.startswith(b"data: [DONE]")
        if not ended:
            raise RuntimeError("an answer was refused, or cut short")
        return Answer(first_s, time.perf_counter() - began, used)
    finally:
        writer.transport.abort()


def ask_engine(engine: LlamaEngine, text: str, tokens: int) -> int:
    """The same without a relay; how many tokens came."""
    chunks: list[dict[str, Any]] = []
    body = asked(text, tokens) | {"cache_prompt": False, "return_progress": True}

    def take(chunk: dict[str, Any]) -> bool:
        chunks.append(chunk)
        return False

    engine.ask(body, take, chat=True)
    return next(int(chunk["usage"]["completion_tokens"]) for chunk in chunks if chunk.get("usage"))


class Meter:
    """The CPU clock of a process: of all its threads, and of those that are the engine's.

    These are the ones that outlive the answers, but for the first, which is the event loop's.
    """

    def __init__(self, pid: int) -> None:
        self._clock = ~pid << 3 | 2  # clock_getcpuclockid(3)
        self._tasks = Path(f"/proc/{pid}/task")
        self._first = str(pid)
        self._began = self._now()
        self._threads = self._used()

    def took(self, tokens: int) -> Pace:
        """Since this was made."""
        wall_s, cpu_s = (now - then for now, then in zip(self._now(), self._began, strict=True))
        used = self._used()
        lasting = used.keys() & self._threads.keys()
        engine_s = sum(used[tid] - self._threads[tid] for tid in lasting)
        return Pace(tokens, wall_s, cpu_s, cpu_s - engine_s)

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.clock_gettime(self._clock)

    def _used(self) -> dict[str, float]:
        """The CPU of each thread but the first so far, in seconds."""
        found = {}
        for task in self._tasks.iterdir():
            with suppress(OSError):  # one that has just ended
                stat = (task / "schedstat").read_text(encoding="ascii")
                found[task.name] = int(stat.split()[0]) / 1e9
        found.pop(self._first, None)
        return found


async def cost(relay: Server, options: argparse.Namespace) -> None:
    """The engine called directly and through the relay, by turns."""
    path = find_smollm2()
    if path is None:
        raise RuntimeError("the small model is not installed")
    engine = LlamaEngine(
        Opening(path, context_tokens=CONTEXT_TOKENS, parallel=SLOTS, threads=options.threads)
    )
    ask_engine(engine, QUESTION, SHORT)
    await ask(relay.port, QUESTION, SHORT)
    pairs: list[tuple[Pace, Pace]] = []
    for number in range(options.rounds):
        texts = [f"{QUESTION} {number}.{one}" for one in range(ANSWERS)]
        paces: dict[str, Pace] = {}
        for way in ("direct", "relayed") if number % 2 else ("relayed", "direct"):
            await asyncio.sleep(SETTLE_S / 4)  # a thread of the last answer may have to end yet
            meter = Meter(os.getpid() if way == "direct" else relay.session)
            tokens = 0
            for text in texts:
                if way == "direct":
                    tokens += ask_engine(engine, text, options.tokens)
                else:
                    tokens += (await ask(relay.port, text, options.tokens)).tokens
            paces[way] = meter.took(tokens)
        pairs.append((paces["direct"], paces["relayed"]))
    for name, of in (("direct", 0), ("relayed", 1)):
        each = [pair[of] for pair in pairs]
        print(
            f"{name}: {median(one.tokens / one.wall_s for one in each):.1f} tokens/s, "
            f"CPU {_us(each, lambda one: one.cpu_s):.0f} µs a token, "
            f"{_us(each, lambda one: one.ours_s):.0f} of them outside the engine's threads"
        )
    cpu = [1 - direct.cpu_s / relayed.cpu_s for direct, relayed in pairs]
    wall = [1 - direct.wall_s / relayed.wall_s for direct, relayed in pairs]
    direct_us = _us([pair[0] for pair in pairs], lambda one: one.cpu_s)
    added = _us([pair[1] for pair in pairs], lambda one: one.ours_s) - _us(
        [pair[0] for pair in pairs], lambda one: one.ours_s
    )
    print(
        f"the relay's cost: {added:.0f} µs a token, {added / (direct_us + added):.1%} of what it "
        f"takes; all threads {median(cpu):+.1%}, wall time {median(wall):+.1%} "
        f"(medians of {len(pairs)} rounds)"
    )


def _us(each: list[Pace], of: Callable[[Pace], float]) -> float:
    return median(of(one) / one.tokens for one in each) * 1e6


async def clients(relay: Server, options: argparse.Namespace) -> None:
    """More clients than slots."""
    await ask(relay.port, QUESTION, SHORT)
    gains = []
    for number in range(max(1, options.rounds // 4)):
        began = time.perf_counter()
        alone = [
            await ask(relay.port, f"{QUESTION} {number}.{one}", options.tokens)
            for one in range(ANSWERS)
        ]
        by_one = sum(answer.tokens for answer in alone) / (time.perf_counter() - began)
        began = time.perf_counter()
        tasks = []
        for one in range(CLIENTS):
            text = f"{QUESTION} {number}/{one}"
            tasks.append(asyncio.create_task(ask(relay.port, text, options.tokens)))
            await asyncio.sleep(TELL_APART_S)
        answers = await asyncio.gather(*tasks)
        together = sum(answer.tokens for answer in answers) / (time.perf_counter() - began)
        gains.append(together / by_one)
        firsts = [answer.first_s + one * TELL_APART_S for one, answer in enumerate(answers)]
        late = sum(max(firsts[:one], default=0) > first for one, first in enumerate(firsts))
        print(
            f"one client {by_one:.1f} tokens/s; {CLIENTS} on {SLOTS} slots {together:.1f}, "
            f"{gains[-1]:.2f} times that; {late} answers began before an earlier one"
        )
    print(f"{CLIENTS} clients get {median(gains):.2f} times what one gets")


async def cancel(relay: Server, options: argparse.Namespace) -> None:
    """All slots but one answer; the last is left by its client while another one waits for it."""
    await ask(relay.port, QUESTION, SHORT)
    for phase in ("answer", "prompt"):
        freed, usual = [], []
        for number in range(options.rounds):
            others = [
                asyncio.create_task(ask(relay.port, f"{QUESTION} {number}.{one}", 2000))
                for one in range(SLOTS - 1)
            ]
            await asyncio.sleep(SETTLE_S)
            text = QUESTION if phase == "answer" else f"{number}{SENTENCE * 420}"
            victim = asyncio.create_task(ask(relay.port, text, 2000))
            await asyncio.sleep(SETTLE_S)
            waiting = asyncio.create_task(ask(relay.port, "Hi", SHORT))
            await asyncio.sleep(SETTLE_S / 4)
            if victim.done() or waiting.done():
                raise RuntimeError("nobody had to wait")
            freed.append(await _time_of(waiting, victim))
            # What that answer takes by itself, where a slot is free.
            await asyncio.sleep(SETTLE_S / 4)
            usual.append(await _time_of(asyncio.create_task(ask(relay.port, "Hi", SHORT))))
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        took = sorted(one - median(usual) for one in freed)
        print(
            f"cancelled in its {phase}: the next one is served after "
            f"{median(took):.2f} s (median), {took[-2:][0]:.2f}, {took[-1]:.2f} (the longest two); "
            f"by itself it takes {median(usual):.2f}, {max(usual):.2f} at most"
        )


async def _time_of(
    task: "asyncio.Task[Answer]", left: "asyncio.Task[Answer] | None" = None
) -> float:
    began = time.perf_counter()
    if left is not None:
        left.cancel()
    await task
    return time.perf_counter() - began


async def lag(relay: Server, options: argparse.Namespace) -> None:
    """A stream that is relayed from upstream, chunk by chunk."""
    await ask(relay.port, QUESTION, SHORT)
    load = Load(relay.port, PACED.request(f"127.0.0.1:{relay.port}"), PACED.chunks)
    await load.open(1)
    try:
        await load.run(1, limit_s=LIMIT_S)
        for beside in (0, 2):
            delays: list[int] = []
            writers = [asyncio.create_task(_go_on(relay.port, one)) for one in range(beside)]
            await asyncio.sleep(SETTLE_S if beside else 0)
            for _ in range(options.rounds):
                delays += (await load.run(1, limit_s=LIMIT_S)).delays
            for task in writers:
                task.cancel()
            await asyncio.gather(*writers, return_exceptions=True)
            ms = [percentile(sorted(delays), share) / 1e6 for share in (0.5, 0.99, 1)]
            print(
                f"a relayed stream beside {beside} local ones: {len(delays)} chunks, delay "
                f"p50 {ms[0]:.2f} ms, p99 {ms[1]:.2f}, longest {ms[2]:.2f}; "
                f"load {os.getloadavg()[0]:.1f}"
            )
    finally:
        load.close()


async def _go_on(port: int, number: int) -> None:
    while True:
        await ask(port, f"{QUESTION} {number}", 1000)


PARTS = {"cost": cost, "clients": clients, "cancel": cancel, "lag": lag}


def run(target: FakeUpstream, folder: Path, options: argparse.Namespace) -> None:
    """Measure what was asked for, each with a relay of its own."""
    settings = {
        "RELAY_LOCAL": "smollm2",
        "RELAY_LOCAL_PARALLEL": str(SLOTS),
        "RELAY_LOCAL_THREADS": str(options.threads),
        "RELAY_LOCAL_CONTEXT_TOKENS": str(CONTEXT_TOKENS),
    }
    # Not pinned: how engine and event loop share the cores is part of the question.
    cores = Cores(None, Cores.available().load)
    for name in options.only:
        where = folder / name
        with processes.relay(where, cores, target, config=CONFIG, settings=settings) as relay:
            uvloop.run(PARTS[name](relay, options))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=12, help="of each measurement")
    parser.add_argument("--tokens", type=int, default=96, help="of an answer")
    parser.add_argument("--threads", type=int, default=1, help="of the engine's")
    options = parser.parse_args(arguments)
    if unknown := set(options.only) - PARTS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    with (
        tempfile.TemporaryDirectory(prefix="relay-bench-") as folder,
        processes.upstream(Path(folder), Cores.available()) as target,
    ):
        run(target, Path(folder), options)


if __name__ == "__main__":
    main()
