"""`GET /metrics` through the door of real relays, read as Prometheus reads it."""

import hashlib
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from running import ROOT, RunningRelay, StartRelay, chat, process
from test_reload_serving import ADMIN_KEY
from test_workers import workers
from waiting import until
from websockets.sync.client import connect

from relay.telemetry.counting import MAX_SETS
from relay.telemetry.families import FAMILIES
from relay.telemetry.labels import MAX_LEARNED

KEY = "mk-canary-metrics-0123456789"
CLIENT = "rk-canary-client-0123456789"
STREAM = [(b"content-type", b"text/event-stream")]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """The sum of those that have these labels; None where there are none."""
    wanted = set(labels.items())
    found = [v for (n, has), v in samples.items() if n == name and wanted <= has]
    return sum(found) if found else None


def scrape(root: str, key: str = "", **headers: str) -> httpx.Response:
    """On a connection of its own, as Prometheus' first one is."""
    if key:
        headers["authorization"] = f"Bearer {key}"
    return httpx.get(f"{root}/metrics", headers=headers, trust_env=False, timeout=30)


def samples_of(root: str, key: str = "") -> Samples:
    answer = scrape(root, key)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


@pytest.fixture
def counted(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    """A relay in front of the fake upstream, which counts."""
    return start_relay(upstream_url=upstream.url, metrics=True)


def test_requests_are_counted_by_path_model_upstream_and_status(
    counted: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("ok")))
    for _ in range(3):
        assert counted.ask(model="gpt-x").status_code == 200
    upstream.answer(Script(status=400, body=b'{"error": {}}'))
    assert counted.ask(model="gpt-x").status_code == 400
    assert counted.http.get("/v1/nothing").status_code == 404
    found = samples_of(counted.root)
    at = {"path": "/v1/chat/completions", "model": "gpt-x", "upstream": "upstream"}
    assert value(found, "relay_requests_total", **at, status="200") == 3
    assert value(found, "relay_requests_total", **at, status="400") == 1
    assert value(found, "relay_requests_total", path="/v1", status="404") == 1
    assert value(found, "relay_request_duration_seconds_count", upstream="upstream") == 4
    assert value(found, "relay_request_duration_seconds_bucket", le="+Inf") == 4
    prompt = value(found, "relay_tokens_total", model="gpt-x", kind="prompt")
    assert prompt is not None
    assert prompt > 0


def test_streams_have_a_time_to_their_first_token_and_are_in_flight_meanwhile(
    counted: RunningRelay, upstream: FakeUpstream
) -> None:
    gate = Gate()
    events = transcripts.chat_stream(["one", "two"])
    upstream.answer(Script(pieces=events, headers=STREAM, piece_gates={2: gate}))
    with counted.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        found = samples_of(counted.root)
        assert value(found, "relay_requests_in_flight") == 1
        assert value(found, "relay_upstream_in_flight", upstream="upstream") == 1
        gate.open()
        list(pieces)
    until(lambda: value(samples_of(counted.root), "relay_first_token_seconds_count") == 1)
    assert value(samples_of(counted.root), "relay_requests_in_flight") == 0


def test_cost_is_counted_in_dollars(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    prices = [{"model": "*", "request_usd": "0.25"}]
    relay = start_relay(upstream_url=upstream.url, metrics=True, prices=prices)
    upstream.answer(Script(body=transcripts.chat_body("ok")))
    relay.ask()
    relay.ask()
    found = samples_of(relay.root)
    assert value(found, "relay_cost_usd_total", model="m") == 0.5
    assert value(found, "relay_requests_unpriced_total") is None


def test_failed_attempts_breakers_and_limits_are_told(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    breaker = {"failures": 1, "open_s": 600}
    relay = start_relay(
        upstreams=[
            {"name": "gone", "base_url": "http://127.0.0.1:9/v1", "breaker": breaker},
            {"name": "good", "base_url": upstream.url},
        ],
        models=[{"id": "m", "targets": [{"upstream": "gone"}], "fallback": [{"upstream": "good"}]}],
        keys=[{"name": "one", "sha256": sha256(CLIENT), "rpm": 2}],
        metrics_key=KEY,
        metrics=True,
        retries=0,
    )
    upstream.answer(Script(body=transcripts.chat_body("ok")))
    bearer = {"authorization": f"Bearer {CLIENT}"}
    statuses = [
        relay.http.post("/v1/chat/completions", json=chat(), headers=bearer).status_code
        for _ in range(4)
    ]
    assert statuses == [200, 200, 429, 429]
    found = samples_of(relay.root, KEY)
    assert value(found, "relay_attempts_failed_total", upstream="gone") == 1
    assert value(found, "relay_attempts_failed_total", upstream="good") == 0
    assert value(found, "relay_upstream_breaker", upstream="gone", state="open") == 1
    assert value(found, "relay_upstream_breaker", upstream="good", state="closed") == 1
    assert value(found, "relay_limit_refusals_total", code="rate_limit_exceeded") == 2
    assert value(found, "relay_serving", side="remote") == 1


def test_open_sockets_are_counted(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", metrics=True)
    with connect(relay.root.replace("http", "ws") + "/ws", proxy=None):
        until(lambda: value(samples_of(relay.root), "relay_websockets_open") == 1)
    until(lambda: value(samples_of(relay.root), "relay_websockets_open") == 0)


def test_ten_thousand_names_of_models_make_few_series(
    counted: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("ok")))
    counted.ask(model=CLIENT)
    counted.ask(model="line\nbreak")
    for number in range(10_000):
        counted.ask("x", model=f"random-{number}")
    text = scrape(counted.root).text
    found = read(text)
    models = {dict(labels).get("model") for _, labels in found}
    assert len(models) <= MAX_LEARNED + 3
    assert len(found) < 1000 < MAX_SETS
    assert value(found, "relay_requests_total", model="other") == 10_002 - MAX_LEARNED
    assert "canary" not in text


def test_a_name_that_never_answered_is_no_label(
    counted: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(status=404, body=b'{"error": {}}'))
    counted.ask(model="guessed")
    assert "guessed" not in scrape(counted.root).text


def test_what_is_told_is_what_is_documented(counted: RunningRelay) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (.*?) \|",
        (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    documented = {
        (name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    }
    assert documented == {(one.name, one.kind, one.labels) for one in FAMILIES}
    told = dict(re.findall(r"^# TYPE (\w+) (\w+)$", scrape(counted.root).text, re.MULTILINE))
    assert told == {one.name: one.kind for one in FAMILIES}


def test_openmetrics_is_spoken_to_who_asks_for_it(counted: RunningRelay) -> None:
    answer = scrape(counted.root, accept="application/openmetrics-text;version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {one.name for one in openmetrics.text_string_to_metric_families(answer.text)}
    assert "relay_requests" in families
    odd = scrape(counted.root, accept="text/plain;version=x;escaping=y, */*")
    assert odd.status_code == 200


def test_a_reload_keeps_what_was_counted(tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text("")
    with process(tmp_path, local="echo", metrics="true", admin_key=ADMIN_KEY) as (_, root):
        bearer = {"authorization": f"Bearer {ADMIN_KEY}"}
        httpx.post(f"{root}/v1/chat/completions", json=chat(), trust_env=False, timeout=30)
        config.write_text("retries = 1")
        url = f"{root}/admin/reload"
        httpx.post(url, headers=bearer, trust_env=False, timeout=30).raise_for_status()
        config.write_text("retires = 1")
        httpx.post(url, headers=bearer, trust_env=False, timeout=30)
        found = samples_of(root, ADMIN_KEY)
        assert value(found, "relay_requests_total", path="/v1/chat/completions") == 1
        assert value(found, "relay_reloads_total", result="applied") == 1
        assert value(found, "relay_reloads_total", result="refused") == 1
        cpu_s = value(found, "process_cpu_seconds_total")
        assert cpu_s is not None
        assert cpu_s > 0


def test_workers_are_one_answer_also_when_one_of_them_has_ended(tmp_path: Path) -> None:
    def answered(root: str) -> float | None:
        found = samples_of(root)
        return value(found, "relay_requests_total", path="/v1/chat/completions", status="200")

    with process(tmp_path, local="echo", metrics="true", workers=2) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        until(lambda: value(samples_of(root), "relay_processes") == 2)
        for _ in range(40):  # each on a connection of its own: the system deals them out
            httpx.post(f"{root}/v1/chat/completions", json=chat(), trust_env=False, timeout=30)
        until(lambda: answered(root) == 40)
        before = workers(relay)
        os.kill(min(before), signal.SIGTERM)
        until(lambda: len(workers(relay) - before) == 1)
        until(lambda: value(samples_of(root), "relay_processes") == 2)
        assert [answered(root) for _ in range(6)] == [40] * 6


@contextmanager
def refused(answer: httpx.Response, status: int) -> Iterator[dict[str, Any]]:
    assert answer.status_code == status, answer.text
    yield answer.json()["error"]


def test_where_they_are_off_the_answer_says_so(echo: RunningRelay) -> None:
    with refused(scrape(echo.root), 404) as error:
        assert "RELAY_METRICS" in error["message"]


def test_they_are_on_where_usage_is_kept(start_relay: StartRelay, tmp_path: Path) -> None:
    relay = start_relay(local="echo", database_url=f"sqlite:///{tmp_path}/relay.db")
    relay.ask()
    found = samples_of(relay.root)
    assert value(found, "relay_requests_total", status="200", upstream="local") == 1
    off = start_relay(local="echo", database_url=f"sqlite:///{tmp_path}/b.db", metrics=False)
    assert scrape(off.root).status_code == 404


@pytest.mark.parametrize("settings", [{"metrics_key": KEY}, {"admin_key": KEY}])
def test_where_there_is_a_key_it_is_needed_and_opens_nothing_else(
    start_relay: StartRelay, settings: dict[str, str]
) -> None:
    relay = start_relay(local="echo", metrics=True, api_keys=CLIENT, **settings)
    assert scrape(relay.root, KEY).status_code == 200
    for wrong in ("", CLIENT, KEY + "x"):
        with refused(scrape(relay.root, wrong), 401) as error:
            assert error["code"] == "invalid_api_key"
    client = relay.http.get("/v1/models", headers={"authorization": f"Bearer {KEY}"})
    assert client.status_code == 401
    admin = relay.http.get("/admin/mode", headers={"authorization": f"Bearer {KEY}"})
    assert admin.status_code == (404 if "metrics_key" in settings else 200)
    for path in ("/metrics/", "/metrics%2f", "//metrics", "/Metrics", "/x/../metrics"):
        assert httpx.get(relay.root + path, trust_env=False).status_code in (401, 404), path
    assert relay.http.post("/metrics").status_code == 401


def test_without_a_key_nobody_reads_them_where_calls_need_one(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", metrics=True, api_keys=CLIENT)
    for key in ("", CLIENT):
        with refused(scrape(relay.root, key), 404) as error:
            assert "RELAY_METRICS_KEY" in error["message"]


def test_without_a_key_nobody_reads_them_on_other_addresses(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", metrics=True, host="0.0.0.0", allow_anonymous=True)
    assert relay.ask().status_code == 200
    assert scrape(relay.root).status_code == 404


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
