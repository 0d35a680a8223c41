"""The benchmark measures what it says: a number from a wrong tool is worse than none."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench import memory, processes, report
from bench.load import Load, LoadError
from bench.measure import Way, measure, medians, percentile, ratio
from bench.upstream import Upstream
from bench.workloads import BODY_5M, CHAT, IDLE, Cell, Work, plan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 20


def stream(chunks: int, *, stamped: bool = False) -> Work:
    return Work("s", "s", f"bench-stream-{chunks}-0{'-stamped' * stamped}", chunks=chunks)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The fake upstream as a process of its own."""
    with processes.upstream(tmp_path_factory.mktemp("up"), processes.Cores.available()) as one:
        yield one


@asynccontextmanager
async def upstream():
    """The fake upstream in this very loop, and its port."""
    fake = Upstream()
    async with await fake.listen() as server:
        yield fake, server.sockets[0].getsockname()[1]


@asynccontextmanager
async def load(port: int, work: Work, connections: int = 1):
    one = Load(port, work.request("bench"), work.chunks)
    try:
        await one.open(connections)
        yield one
    finally:
        one.close()


@asynccontextmanager
async def scripted(answer: bytes, piece_bytes: int):
    """A server that gives one answer, in pieces, and hangs up; its port."""

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for start in range(0, len(answer), piece_bytes):
            writer.write(answer[start : start + piece_bytes])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, *pieces: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to a request that is sent in pieces."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        head = await reader.readuntil(b"\r\n\r\n")
        if b"chunked" in head:
            return head, await reader.readuntil(b"\r\n0\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head, await reader.readexactly(length)
    finally:
        writer.close()


def events(body: bytes) -> list[bytes]:
    return [
        line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")
    ]


class TestUpstream:
    @pytest.mark.parametrize("cut", [1, 60, -150, -1])
    async def test_a_small_chat_is_answered_however_the_request_is_cut(self, cut):
        request = CHAT.request("bench")
        async with upstream() as (_, port):
            head, body = await ask(port, request[:cut], request[cut:])
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert json.loads(body)["object"] == "chat.completion"
        assert 400 < len(body) < 500

    async def test_a_stream_has_the_chunks_that_were_asked_for_and_its_end(self):
        async with upstream() as (_, port):
            _, body = await ask(port, stream(5).request("bench"))
        *chunks, last = events(body)
        assert [json.loads(chunk)["object"] for chunk in chunks] == ["chat.completion.chunk"] * 5
        assert last == b"[DONE]"

    async def test_a_stamp_is_the_time_of_its_chunk(self):
        before = time.monotonic_ns()
        async with upstream() as (_, port):
            _, body = await ask(port, stream(3, stamped=True).request("bench"))
        stamps = [
            int(json.loads(chunk)["choices"][0]["delta"]["content"]) for chunk in events(body)[:-1]
        ]
        assert before < stamps[0] < stamps[1] < stamps[2] < time.monotonic_ns()

    async def test_usage_is_told_when_it_is_asked_for_and_only_then(self):
        request = {"model": "bench-stream-2-0", "stream": True}
        asking = request | {"stream_options": {"include_usage": True}}
        async with upstream() as (_, port):
            answers = [events((await ask(port, post(one)))[1]) for one in (request, asking)]
        assert [len(answer) for answer in answers] == [3, 4]
        assert json.loads(answers[1][2])["usage"]["total_tokens"] == 88

    async def test_a_large_body_is_read_to_its_end_before_it_is_answered(self):
        request = BODY_5M.request("bench")
        assert len(BODY_5M.body()) == 5_000_000
        async with upstream() as (fake, port):
            head, _ = await ask(port, request[:-1], request[-1:])
            assert b" 200 " in head
            assert fake.requests == 1

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"POST /v1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
            (CHAT.request("bench") + b"more", b"501"),
            (b"GET /v1/models HTTP/1.1\r\n\r\n", b"404"),
        ],
    )
    async def test_what_it_cannot_do_is_refused(self, request_bytes, status):
        async with upstream() as (_, port):
            head, _ = await ask(port, request_bytes)
        assert head.split()[1] == status


class TestLoad:
    async def test_it_sends_exactly_as_many_requests_as_it_is_told(self):
        async with upstream() as (fake, port), load(port, CHAT, 3) as one:
            sample = await one.run(10, limit_s=LIMIT_S)
        assert fake.requests == len(sample.latencies) == 10
        assert sample.rate > 0

    async def test_it_keeps_exactly_that_many_in_flight(self):
        async with upstream() as (fake, port), load(port, IDLE, 4) as one:
            answers = asyncio.create_task(one.run(10, limit_s=LIMIT_S))
            for asked, released in ((4, 4), (8, 4), (10, 2)):
                while fake.requests < asked:
                    await asyncio.sleep(0)
                assert fake.requests == asked
                assert fake.release() == released
            assert len((await answers).latencies) == 10

    async def test_at_a_given_rate_it_sends_no_more_either(self):
        async with upstream() as (fake, port), load(port, CHAT, 2) as one:
            sample = await one.run(20, rate=50_000, limit_s=LIMIT_S)
        assert fake.requests == len(sample.latencies) == 20

    async def test_every_chunk_of_a_stream_is_timed(self):
        work = stream(6, stamped=True)
        async with upstream() as (_, port), load(port, work, 2) as one:
            sample = await one.run(4, limit_s=LIMIT_S)
        assert (len(sample.firsts), len(sample.delays), len(sample.jitters)) == (4, 24, 20)
        assert min(sample.delays) > 0
        assert all(
            first <= whole
            for first, whole in zip(sorted(sample.firsts), sorted(sample.latencies), strict=True)
        )

    @pytest.mark.parametrize("piece_bytes", [1, 2, 7, 100])
    @pytest.mark.parametrize("work", [CHAT, stream(3)], ids=["plain", "stream"])
    async def test_an_answer_is_read_alike_however_it_is_cut(self, work, piece_bytes):
        async with upstream() as (_, port):
            whole = b"".join(await ask(port, work.request("bench")))
        async with scripted(whole, piece_bytes) as port, load(port, work) as one:
            sample = await one.run(1, limit_s=LIMIT_S)
        assert len(sample.latencies) == 1
        assert sample.reads > 1

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", "not a good answer"),
            (b"HTTP/1.1 200 OK\r\n\r\n", "not a good answer"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "longer than announced"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", "closed"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "not expected"),
        ],
    )
    async def test_a_wrong_answer_fails_the_run(self, answer, reason):
        async with scripted(answer, 1000) as port, load(port, CHAT) as one:
            with pytest.raises(LoadError, match=reason):
                await one.run(1, limit_s=LIMIT_S)

    async def test_a_stream_that_lacks_a_chunk_fails_the_run(self):
        work = Work("short", "short", "bench-stream-3-0", chunks=4)
        async with upstream() as (_, port), load(port, work) as one:
            with pytest.raises(LoadError, match="4 events instead of 5"):
                await one.run(1, limit_s=LIMIT_S)

    async def test_answers_that_never_come_fail_the_run(self):
        async with upstream() as (_, port), load(port, IDLE) as one:
            with pytest.raises(LoadError, match="1 of 1 answers missing"):
                await one.run(1, limit_s=0.01)


class TestProcesses:
    async def test_each_chunk_is_its_own_write(self, running):
        async with load(running.server.port, stream(64), 4) as one:
            before = running.server.writes()
            await one.run(4, limit_s=LIMIT_S)
            assert running.server.writes() - before == 4 * (64 + 1)

    def test_its_other_port_speaks_tls(self, running):
        request = urllib.request.Request(
            f"https://localhost:{running.tls_port}/v1/chat/completions", CHAT.body()
        )
        context = ssl.create_default_context(cafile=running.cert)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(request, timeout=LIMIT_S) as answer:
            assert json.load(answer)["model"] == "bench-plain"

    async def test_a_measurement_counts_requests_and_the_servers_cpu(self, running):
        way = Way("upstream", running.server.port, running.server)
        before = running.get("/stats")["requests"]
        numbers = await measure(Cell(CHAT, 2), way, 0.05)
        assert running.get("/stats")["requests"] - before > numbers["requests"] > 0
        assert numbers["cpu_us"] >= 0
        assert numbers["writes"] == 1
        assert numbers["latency_p50"] <= numbers["latency_p99"] <= numbers["latency_p999"]

    async def test_idle_streams_are_held_weighed_and_all_end(self, running):
        weight = await memory.weigh(
            Way("upstream", running.server.port, running.server), running, 30
        )
        assert weight["streams"] == 30
        assert weight["resident_held"] >= weight["resident_before"] > 1_000_000
        assert running.get("/stats")["held"] == 0

    def test_what_was_started_is_gone_afterwards(self, tmp_path):
        with processes.upstream(tmp_path, processes.Cores.available()) as one:
            assert one.server.resident_bytes() > 0
        assert one.server.resident_bytes() == 0

    def test_streams_are_bounded_by_the_descriptors_there_are(self):
        assert memory.possible(10_000, 65_536) == 10_000
        assert memory.possible(10_000, 20_000) == 9_970


class TestNumbers:
    def test_a_percentile_is_one_of_the_values(self):
        assert [percentile(range(1, 1001), share) for share in (0.5, 0.99, 0.999)] == [
            501,
            991,
            1000,
        ]
        assert percentile([7], 0.999) == 7

    def test_the_ratio_pairs_the_rounds(self):
        rounds = {
            "nginx": [{"cpu_us": 10.0}, {"cpu_us": 20.0}, {"cpu_us": 40.0}],
            "relay": [{"cpu_us": 30.0}, {"cpu_us": 60.0}, {"cpu_us": 80.0}],
        }
        assert ratio(rounds) == 3
        assert medians(rounds["nginx"]) == {"cpu_us": 20}
        assert ratio({"relay": rounds["relay"]}) is None

    def test_the_plan_has_every_cell_once_and_the_short_one_is_part_of_it(self):
        whole = [cell.name for cell in plan(quick=False)]
        assert len(set(whole)) == len(whole)
        assert {cell.name for cell in plan(quick=True)} < set(whole)
        assert set(report.COSTS) | {report.ALONE, report.STEADY, report.CHUNK_ALONE} <= set(whole)

    @pytest.mark.parametrize(
        ("relay_us", "verdict"),
        [(35, "reached"), (36, "above the target"), (50, "above the target"), (51, "**missed**")],
    )
    def test_the_table_holds_the_ratio_against_its_limits(self, relay_us, verdict):
        text = report.markdown(outcome({"nginx": 10.0, "relay": relay_us}))
        row = next(line for line in text.splitlines() if line.startswith("| small chat"))
        assert f"| {relay_us / 10:.2f} | 3.5 | 5.0 | {verdict} |" in row

    def test_without_nginx_there_is_a_table_all_the_same(self):
        text = report.markdown(outcome({"relay": 99.0}))
        assert "| small chat, not streamed | 16 | – | 99.0 | – | 3.5 | 5.0 |  |" in text

    @pytest.mark.parametrize(("relay_us", "verdict"), [(65, "reached"), (66, "**missed**")])
    def test_what_is_counted_is_held_against_a_relay_that_checks_keys_alone(
        self, relay_us, verdict
    ):
        text = report.markdown(outcome({"relay": relay_us, "plain": 40.0}, "counted@16"))
        assert f"by turns: {relay_us - 40:.1f} µs (at most 25: {verdict})." in text

    def test_publishing_replaces_the_last_numbers_and_nothing_else(self, tmp_path):
        readme = tmp_path / "README.md"
        readme.write_text("# Words\n\n## The last numbers\n\nold\n")
        for cost in (70.0, 30.0):
            report.publish(outcome({"nginx": 10.0, "relay": cost}), readme)
        text = readme.read_text()
        assert text.startswith("# Words\n\n## The last numbers\n\nBenchmark of 2026-01-01")
        assert "| 3.00 | 3.5 |" in text
        assert "old" not in text
        assert "| 7.00 |" not in text

    def test_the_readme_has_the_heading_that_numbers_are_published_under(self):
        assert report.PUBLISHED_UNDER in (ROOT / "bench" / "README.md").read_text()


def test_the_whole_benchmark_runs(tmp_path):
    command = [sys.executable, "-m", "bench.run", "--quick"]
    command += ["--only", "chat@1", "--only", "counted", "--only", "memory"]
    command += ["--seconds", "0.02", "--streams", "20", "--results", str(tmp_path)]
    env = os.environ | {"COVERAGE_PROCESS_START": "", "RELAY_PORT": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    raw = json.loads((tmp_path / "latest.json").read_text())
    assert [cell["failures"] for cell in [*raw["cells"], raw["memory"]]] == [{}] * 3
    assert all(cell["rounds"]["relay"][0]["requests"] > 0 for cell in raw["cells"])
    counted = raw["cells"][1]["rounds"]
    assert len(counted["relay"]) == len(counted["plain"]) == 3
    assert "20 open and alive to the end" in (tmp_path / "latest.md").read_text()


def post(value: object) -> bytes:
    body = json.dumps(value).encode()
    return f"POST /v1 HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def outcome(costs: dict[str, float], cell: str = "chat@16") -> dict[str, object]:
    """A run of one cell, as it is written to the JSON file."""
    rounds = {way: [{"cpu_us": cost, "rps": 1000.0}] for way, cost in costs.items()}
    return {
        "when": "2026-01-01T00:00:00+00:00",
        "machine": {"cpu": "one"},
        "rounds": 1,
        "seconds": 1,
        "cells": [{"cell": cell, "rounds": rounds, "failures": {}}],
        "memory": None,
    }
