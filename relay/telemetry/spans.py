"""OpenTelemetry's spans, made of what has ended, and how they get to a collector: OTLP over HTTP.

    request   SERVER   POST /v1/chat/completions      docs/traces.md has their attributes
      attempt   CLIENT   chat gpt-4o                    one for each

Importing this takes 0.1 s and 9 MB, so it is imported by the thread that sends.

Source: OpenTelemetry's semantic conventions for HTTP and for generative AI.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import sleep
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from relay import __version__
from relay.events import RequestEnded
from relay.telemetry.labels import path_class
from relay.telemetry.logs import redact
from relay.telemetry.traces import Attempt, Ended
from relay.types import Usage

if TYPE_CHECKING:
    from requests import Response, Session

PATH = "/v1/traces"

PATIENCE_S = 10.0
"""For one batch, whatever is tried for it."""

PAUSE_S = 0.0001
PAUSE_AFTER = 16
"""Requests."""

MAX_TEXT = 256

NANO = 1_000_000_000

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/ws": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""Those that OpenTelemetry has a word for."""

_CLIENT_LEFT = 499

_NO_STATE = TraceState()

Attributes = dict[str, str | int | float | bool]


class OtlpCollector:
    """One collector. `url` is its base, or the whole address of its traces."""

    def __init__(
        self, url: str, headers: Mapping[str, str], *, patience_s: float = PATIENCE_S
    ) -> None:
        self.url = url if url.endswith(PATH) else url + PATH
        self._heard = ""
        self._exporter = OTLPSpanExporter(
            endpoint=self.url,
            headers=dict(headers),
            timeout=patience_s,
            compression=Compression.Gzip,
            session=self._session(),
        )
        self._resource = _resource()
        self._scope = InstrumentationScope("relay", __version__)

    def send(self, ended: Sequence[Ended]) -> str:
        """Send spans of these; "" when they were taken, else why they were not."""
        self._heard = "it cannot be reached, or does not answer"
        taken = self._exporter.export(_Leisurely(ended, self._spans))
        return "" if taken is SpanExportResult.SUCCESS else self._heard

    def give_up(self) -> None:
        """Have what is being sent end soon; from another thread."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # untyped there

    def _session(self) -> "Session":
        """What the exporter asks with; as everywhere here, proxies of the environment are not."""
        from requests import Session  # noqa: PLC0415 - opens a socket when it is imported

        session = Session()
        session.trust_env = False
        session.hooks["response"].append(self._hear)
        return session

    def _hear(self, response: "Response", *_: object, **__: object) -> None:
        self._heard = f"it answers with status {response.status_code}"

    def _spans(self, ended: Ended) -> Iterator[ReadableSpan]:
        trace, span, event, attempts = ended
        state = TraceState.from_header([trace.state.decode("ascii")]) if trace.state else _NO_STATE
        flags = TraceFlags(trace.flags)
        answered = None if event is None else _answered(event, attempts)
        for attempt in attempts:
            of_it = event if attempt is answered else None
            route = path_class("/v1/" + attempt.asked.path.partition("?")[0])
            yield self._made(
                _name_of_call(attempt, route),
                SpanKind.CLIENT,
                SpanContext(trace.id, attempt.span, False, flags, state),
                SpanContext(trace.id, span, False, flags, state),
                _of_attempt(attempt, route, of_it),
                _status_of_attempt(attempt, of_it),
                (attempt.at, attempt.duration_s or 0.0),
            )
        if event is None:
            return
        parent, route = trace.parent, path_class(event.path)
        yield self._made(
            f"{event.method} {route}",
            SpanKind.SERVER,
            SpanContext(trace.id, span, False, flags, state),
            parent and SpanContext(parent.trace, parent.span, True, flags, state),
            _of_request(event, route, used_here=answered is None),
            _status_of_request(event),
            (event.at, event.duration_s),
        )

    def _made(  # noqa: PLR0917  # as the parts of a span stand in it
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
        status: Status,
        time: tuple[float, float],
    ) -> ReadableSpan:
        at, duration_s = time
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=status,
            start_time=int(at * NANO),
            end_time=int((at + duration_s) * NANO),
            instrumentation_scope=self._scope,
        )


class _Leisurely(Sequence[ReadableSpan]):
    """Spans that are made while they are encoded, with pauses for those who answer requests.

    A span takes 50 us to make and to encode, and Python has a thread that computes go on for 5 ms
    before another one may: without pauses one request in a hundred came 10 ms later.
    """

    def __init__(
        self, ended: Sequence[Ended], spans: Callable[[Ended], Iterator[ReadableSpan]]
    ) -> None:
        self._ended = ended
        self._spans = spans
        self._length = sum(len(one.attempts) + (one.event is not None) for one in ended)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[ReadableSpan]:
        for number, one in enumerate(self._ended):
            if not number % PAUSE_AFTER:
                sleep(PAUSE_S)
            yield from self._spans(one)

    def __getitem__(self, place: Any) -> Any:
        return list(self)[place]


class _Sender(Resource):
    """A resource that is one by itself: OpenTelemetry's own writes JSON for each comparison."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def _resource() -> Resource:
    """Who sends; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may say otherwise."""
    ours = {
        "service.name": "relay",
        "service.version": __version__,
        "service.instance.id": str(uuid.uuid4()),
    }
    found = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    return _Sender(found.attributes, found.schema_url)


def _answered(event: RequestEnded, attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt whose answer the request had."""
    good = [one for one in attempts if one.status and not (one.error or one.lost)]
    return next((one for one in reversed(good) if one.peer.name == event.target), None)


def _name_of_call(attempt: Attempt, route: str) -> str:
    operation = _OPERATIONS.get(route)
    if operation is None:
        return f"{attempt.asked.method} {route}"
    return f"{operation} {_chosen(attempt.asked.model)}".rstrip()


def _of_request(event: RequestEnded, route: str, *, used_here: bool) -> Attributes:
    attributes: Attributes = {
        "http.request.method": event.method,
        "http.route": route,
        "url.path": _chosen(event.path),
        "http.response.status_code": event.status,
        "relay.request.id": _chosen(event.request_id),
        "relay.attempts": event.attempts,
        **_said("relay.key.id", event.key_id),
        **_said("relay.team.id", event.team_id),
        **_said("relay.upstream", event.target),
        **_said("error.type", event.error or (str(event.status) if event.status >= 500 else "")),
        **_said("gen_ai.operation.name", _OPERATIONS.get(route, "") if event.model else ""),
        **_said("gen_ai.request.model", _chosen(event.model)),
    }
    if event.lost_attempts:
        attributes["relay.attempts.lost"] = event.lost_attempts
    if event.stream:
        attributes["gen_ai.request.stream"] = True
    if event.first_token_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = event.first_token_s
    if event.target and event.status < 400:
        attributes |= _said("gen_ai.response.model", _chosen(event.served))
    return attributes | _used(event) if used_here else attributes


def _of_attempt(attempt: Attempt, route: str, event: RequestEnded | None) -> Attributes:
    """Of the one that answered, what its request tells of the answer stands there, too."""
    peer, asked = attempt.peer, attempt.asked
    attributes: Attributes = {
        "http.request.method": asked.method,
        "gen_ai.provider.name": peer.provider,
        "relay.upstream": peer.name,
        "relay.attempt": attempt.number,
        "relay.attempt.outcome": _outcome(attempt, event),
        **_said("server.address", peer.address),
        **_said("gen_ai.operation.name", _OPERATIONS.get(route, "")),
        **_said("gen_ai.request.model", _chosen(asked.model)),
        **_said("error.type", _error_of(attempt, event)),
    }
    if peer.port:
        attributes["server.port"] = peer.port
    if attempt.status:
        attributes["http.response.status_code"] = attempt.status
    if asked.stream:
        attributes["gen_ai.request.stream"] = True
        if attempt.first_byte_s is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = attempt.first_byte_s
    if event is not None:
        attributes |= _said("gen_ai.response.model", _chosen(event.served)) | _used(event)
    return attributes


def _used(event: RequestEnded) -> Attributes:
    """What it used, on one span of a request only, so that sums are right."""
    usage = event.usage
    if usage is None or usage == Usage():
        return {}
    used: Attributes = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    more = {
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "relay.usage.estimated": event.estimated,
    }
    return used | {name: value for name, value in more.items() if value}


def _broken_off(event: RequestEnded | None) -> bool:
    """Whether an answer that had begun ended in an error."""
    return event is not None and bool(event.error) and event.status < 400


def _error_of(attempt: Attempt, event: RequestEnded | None) -> str:
    if event is not None and _broken_off(event):
        return event.error
    return attempt.error


def _outcome(attempt: Attempt, event: RequestEnded | None) -> str:
    if attempt.lost:
        return "lost"
    if attempt.cancelled or (event is not None and event.status == _CLIENT_LEFT):
        return "cancelled"
    return "failed" if _error_of(attempt, event) else "answered"


def _status_of_request(event: RequestEnded) -> Status:
    """An error is what is the server's; 4xx is not (semantic conventions for HTTP)."""
    failed = event.status >= 500 or _broken_off(event)
    return Status(StatusCode.ERROR if failed else StatusCode.UNSET)


def _status_of_attempt(attempt: Attempt, event: RequestEnded | None) -> Status:
    if not _error_of(attempt, event):
        return Status(StatusCode.UNSET)
    return Status(StatusCode.ERROR, _chosen(attempt.message) or None)


def _said(name: str, text: str) -> Attributes:
    """That attribute, where there is something to say."""
    return {name: text} if text else {}


def _chosen(text: str) -> str:
    """What may be told of a text that a client has chosen, or that names something of his."""
    return redact(text[:MAX_TEXT]) if text else ""
