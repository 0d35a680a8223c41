"""A collector of traces: takes OTLP over HTTP as a real one does, and knows what it was sent."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from running import RunningRelay

PATH = "/v1/traces"


@dataclass(frozen=True)
class Span:
    """One span, in the words of who reads it."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    message: str
    began_ns: int
    ended_ns: int
    state: str
    resource: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)


@dataclass
class Collector:
    """Answers `status` from now on; holds its answers while `hangs`."""

    url: str = ""
    status: int = 200
    hangs: bool = False
    spans: list[Span] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        if path != PATH:
            return 404
        self.headers.append(headers)
        if self.hangs:
            self.let_go.wait(60)
        if self.status == 200:
            self.bodies.append(body)
            self.spans += list(read(body))
        return self.status

    def after(self, relay: RunningRelay) -> list[Span]:
        """All that a relay had to send: what it has noted leaves at its end at the latest."""
        relay.stop()
        return self.spans


def read(body: bytes) -> Iterator[Span]:
    for of_one in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = values(of_one.resource.attributes)
        for scope in of_one.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    Sent.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    values(span.attributes),
                    span.status.code == Status.STATUS_CODE_ERROR,
                    span.status.message,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.trace_state,
                    resource,
                )


def values(pairs: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")

    return {pair.key: value(pair) for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = found.take(self.path, headers, body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # who asked did not wait for the answer
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        yield found
    finally:
        found.let_go.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Where traces of a test go."""
    with collecting() as found:
        yield found
