"""Guarantee 18: no secret is in anything that a relay says, writes or keeps, whatever fails."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import transcripts
from collector import Collector
from fake_script import Script
from fake_upstream import FakeUpstream
from identity_provider import AUDIENCE, IdentityProvider
from running import ROOT, accepts, chat
from servers import PASSWORD, RedisServer, free_port, settle
from test_faults import FAULTS, answer
from waiting import until

from relay.stores import prepare

POOL = ("sk-canary-pool-one-0123456789", "sk-canary-pool-two-0123456789")
STATIC = "rk-canary-static-0123456789"
CONFIGURED = "rk-canary-configured-0123456789"
ADMIN = "ak-canary-admin-0123456789"
METRICS = "mk-canary-metrics-0123456789"
SIGNING = "ts-canary-signing-0123456789"
TRACES = "tr-canary-traces-0123456789"


def configuration(upstream: FakeUpstream, provider: IdentityProvider) -> str:
    digest = hashlib.sha256(CONFIGURED.encode()).hexdigest()
    return f"""
[[upstreams]]
name = "a"
base_url = "{upstream.url}"
api_keys = {json.dumps(POOL)}
timeouts = {{ connect_s = 0.3, first_byte_s = 0.3, idle_s = 0.3, total_s = 20 }}
breaker = {{ failures = 100000 }}

[[upstreams]]
name = "nowhere"
base_url = "http://127.0.0.1:9/v1"
api_keys = {json.dumps(POOL)}

[[models]]
id = "gone"
targets = [{{ upstream = "nowhere" }}]

[[models]]
id = "*"
targets = [{{ upstream = "a" }}]

[[keys]]
name = "configured"
sha256 = "{digest}"
rpm = 100000
budget_usd = 1000

[[issuers]]
name = "corp"
issuer = "{provider.issuer}"
audience = ["{AUDIENCE}"]
"""


@contextmanager
def relay(folder: Path, **settings: Any) -> Iterator[str]:
    """A relay as a process, all it says in `log`; it has ended well when this is left."""
    named = {f"RELAY_{name.upper()}": str(value) for name, value in settings.items()}
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RELAY_", "OPENAI_"))}
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "relay", "serve", "--port", str(port)],
            cwd=folder,
            env=clean | named | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: accepts(root) or running.poll() is not None)
        assert running.poll() is None, (folder / "log").read_text()
        yield root
    finally:
        running.terminate()
        assert running.wait(20) == 0


def everything_in(url: str) -> str:
    """All that is in a PostgreSQL, as text."""

    async def read() -> str:
        connection = await asyncpg.connect(url)
        try:
            sql = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            names = [name for (name,) in await connection.fetch(sql)]
            tables = [await connection.fetch(f"SELECT * FROM {name}") for name in names]
            return "\n".join(repr(tuple(row)) for table in tables for row in table)
        finally:
            await connection.close()

    return settle(read())


def all_of(answered: httpx.Response) -> str:
    return f"{answered.status_code} {answered.headers.raw!r} {answered.content!r}"


def ways(secrets: Mapping[str, str]) -> list[dict[str, Any]]:
    """How callers show their keys: rightly, and where they do not belong."""
    right = [
        {"headers": {"authorization": f"Bearer {secrets[name]}"}}
        for name in ("static", "configured", "virtual", "token", "jwt")
    ]
    wrong = [
        {"headers": {"authorization": f"Bearer {secret}"}, "params": {"api_key": secret}}
        for secret in (secrets["admin"], secrets["pool one"], secrets["virtual"] + "x")
    ]
    return right + wrong


def test_18_no_secret_is_said_written_or_kept_whatever_fails(
    tmp_path: Path,
    upstream: FakeUpstream,
    redis_server: RedisServer,
    postgres_url: str,
    collector: Collector,
) -> None:
    settle(prepare(postgres_url))
    said: list[str] = []
    with IdentityProvider.in_thread() as provider:
        (tmp_path / "relay.toml").write_text(configuration(upstream, provider))
        settings = {
            "api_keys": STATIC,
            "admin_key": ADMIN,
            "metrics_key": METRICS,
            "token_secret": SIGNING,
            "traces_url": collector.url,
            "traces_headers": f"authorization=Bearer {TRACES}",
            "database_url": postgres_url,
            "redis_url": redis_server.url,
            "log_level": "debug",
            "log_format": "json",
            "retries": 0,
            "passthrough": "*",
            "ledger_flush_s": 0.1,
        }
        bearer = {"authorization": f"Bearer {ADMIN}"}
        with (
            relay(tmp_path, **settings) as root,
            httpx.Client(base_url=root, timeout=30, trust_env=False) as http,
        ):

            def admin(method: str, path: str, body: Any = None) -> httpx.Response:
                return http.request(method, f"/admin/{path}", json=body, headers=bearer)

            fields = {"name": "kept", "budget_usd": 100, "keep_bodies": True}
            made = admin("POST", "keys", fields).json()
            rotated = admin("POST", f"keys/{made['id']}/rotate", {"grace_s": 300}).json()
            minted = http.post(
                "/v1/client_secrets", json={}, headers={"authorization": f"Bearer {STATIC}"}
            )
            secrets = {
                "static": STATIC,
                "configured": CONFIGURED,
                "admin": ADMIN,
                "metrics": METRICS,
                "signing": SIGNING,
                "traces": TRACES,
                "pool one": POOL[0],
                "pool two": POOL[1],
                "virtual": made["key"],
                "rotated": rotated["key"],
                "token": minted.json()["value"],
                "jwt": provider.token(),
                "database": PASSWORD,
            }
            callers = ways(secrets)
            upstream.answer(Script(body=transcripts.chat_body("ok")))
            for caller, status in zip(callers, [200] * 5 + [401] * 3, strict=True):
                told = http.post("/v1/chat/completions", json=chat(max_tokens=5), **caller)
                assert told.status_code == status, told.text
                said.append(all_of(told))
            leaked = chat(f"my key is {made['key']} and {POOL[0]}", max_tokens=5)
            http.post("/v1/chat/completions", json=leaked, **callers[2])
            misplaced = chat(model=made["key"], max_tokens=5)
            http.post("/v1/chat/completions", json=misplaced, **callers[2])
            http.get(f"/v1/files/{made['key']}", headers=callers[2]["headers"])
            for caller, key in ((callers[0], STATIC), (callers[2], made["key"])):
                called_so = {**caller["headers"], "x-request-id": key}
                told = http.post("/v1/chat/completions", json=chat(max_tokens=5), headers=called_so)
                said.append(all_of(told))
            # Those that put a key of the pool aside come last, and say it aloud.
            faults = [
                (name, streamed)
                for name, fault in FAULTS.items()
                for streamed in (False, True)
                if fault.address in (None, "refused") and not (streamed and fault.midway)
            ]
            faults.sort(key=lambda one: one[0] in ("401", "403"))
            for number, (name, streamed) in enumerate(faults):
                fault = FAULTS[name]
                script = fault.script(streamed) if fault.script else answer(streamed)
                if name in ("401", "403"):
                    script = Script(status=int(name), body=" ".join(POOL).encode())
                upstream.answer(script)
                model = "gone" if fault.script is None else "m"
                body = chat(stream=streamed, model=model, max_tokens=5)
                answered = http.post("/v1/chat/completions", json=body, **callers[number % 5])
                assert answered.status_code == fault.status, name
                said.append(all_of(answered))
            upstream.answer(Script(body=transcripts.chat_body("ok")))
            for caller in callers:
                for path in ("/v1/messages", "/v1/embeddings", "/v1/responses", "/nothing", "/ws"):
                    said.append(all_of(http.post(path, json=chat(max_tokens=5), **caller)))
                for path in ("/v1/models", "/metrics", "/readyz", "/openapi.json", "/admin/keys"):
                    if caller["headers"] != bearer:
                        said.append(all_of(http.get(path, **caller)))
            admin("PATCH", f"keys/{made['id']}", {"name": "still kept"})
            until(lambda: "my key is" in everything_in(postgres_url))
            for path in (
                *("keys", f"keys/{made['id']}", "teams", "audit", "mode", "upstreams"),
                *("usage?group_by=key,model,upstream", "requests", "nothing"),
            ):
                said.append(all_of(admin("GET", path)))
            metrics = http.get("/metrics", headers={"authorization": f"Bearer {METRICS}"})
            assert "relay_tokens_total{" in metrics.text
            said.append(all_of(metrics))
            admin("DELETE", f"keys/{made['id']}")
    kept = everything_in(postgres_url)
    assert "still kept" in kept
    with redis_server.client() as client:
        counted = "\n".join(
            f"{key} {client.hgetall(key) if client.type(key) == 'hash' else ''}"
            for key in client.keys("*")
        )
    assert "configured" in counted
    written = {
        path.name: path.read_text(errors="replace")
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "relay.toml"
    }
    traced = b"".join(collector.bodies).decode(errors="replace")
    names = {span.name for span in collector.spans}
    assert {"POST /v1/chat/completions", "chat m", "GET /v1/files"} <= names
    assert {span["error.type"] for span in collector.spans} >= {"500", "upstream_timeout"}
    assert "my key is" not in traced
    assert '"path":"/v1/chat/completions"' in written["log"].replace(" ", "")
    told = {"answers": "\n".join(said), "PostgreSQL": kept, "Redis": counted, "traces": traced}
    places = {**told, **written}
    found = {
        (name, place)
        for name, secret in secrets.items()
        for place, text in places.items()
        if secret in text or (name in ("token", "jwt") and secret.rpartition(".")[2] in text)
    }
    assert found == set()
