"""Everything that can go wrong, as one tree.

    RelayError                    status  type                   code
    ├── InvalidRequest            400     invalid_request_error  (param names the field)
    │   ├── ModelNotFound         404                            model_not_found
    │   ├── RouteNotFound         404                            not_found
    │   ├── MethodNotAllowed      405                            method_not_allowed
    │   ├── StreamNotFound        404                            stream_not_found
    │   ├── Conflict              409                            conflict
    │   ├── StreamTaken           409                            stream_taken
    │   ├── EventsGone            410                            events_gone
    │   ├── RequestTooLarge       413                            request_too_large
    │   └── UnsupportedMediaType  415                            unsupported_media_type
    ├── InvalidApiKey             401     authentication_error   invalid_api_key
    ├── NotPermitted              403     permission_error       not_permitted
    │   ├── OriginNotAllowed      403                            origin_not_allowed
    │   ├── AddressNotAllowed     403                            address_not_allowed
    │   └── ModelNotAllowed       403                            model_not_allowed
    ├── RequestTimeout            408     invalid_request_error  request_timeout
    ├── RateLimited               429     rate_limit_error       rate_limit_exceeded
    ├── InsufficientQuota         429     insufficient_quota     insufficient_quota
    ├── InternalError             500     server_error           internal_error
    └── BackendError              502     upstream_error
        ├── UpstreamUnreachable   502                            upstream_unreachable (unsent)
        ├── WentOffline           502                            upstream_unreachable
        ├── UpstreamAuth          502                            upstream_auth
        ├── UpstreamProtocol      502                            upstream_protocol
        ├── UpstreamTimeout       504                            upstream_timeout
        │   └── ConnectTimeout    504                            upstream_timeout (unsent)
        ├── PromptTooLong         400     (an InvalidRequest, too) context_length_exceeded
        ├── UpstreamStatus        its own status, headers and body: passed through
        ├── NoUpstream            503                            no_upstream_available
        └── Overloaded            503                            overloaded

Whether asking again is safe is a type: `NothingSent` marks the failures after which no upstream can
have seen the request. On the wire every error is OpenAI's envelope,
`{"error": {"message", "type", "param", "code"}}`; a message never holds a key or a body.
"""

import json
from collections.abc import Sequence
from typing import ClassVar

Headers = Sequence[tuple[bytes, bytes]]


class RelayError(Exception):
    """Something a client is told about: a status, and OpenAI's error envelope."""

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers
        if code is not None:
            self.code = code

    @property
    def name(self) -> str:
        """Its code, or its type where it has none."""
        return self.code or self.type

    def envelope(self) -> bytes:
        """The JSON body: `{"error": {"message", "type", "param", "code"}}`, UTF-8."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        # A lone surrogate of a client's own text must not break the answer that complains of it.
        return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "replace")


class InvalidRequest(RelayError):
    """The request cannot be served as it stands; `param` names the field that is wrong."""

    status = 400
    type = "invalid_request_error"


class ModelNotFound(InvalidRequest):
    """No model of that id exists here."""

    status = 404
    code = "model_not_found"


class RouteNotFound(InvalidRequest):
    """Nothing is served at that path."""

    status = 404
    code = "not_found"


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not for that method."""

    status = 405
    code = "method_not_allowed"


class Conflict(InvalidRequest):
    """The state of what it is about does not allow it."""

    status = 409
    code = "conflict"


class StreamNotFound(InvalidRequest):
    """There is no such stream to take up, not any more, or it is somebody else's."""

    status = 404
    code = "stream_not_found"


class StreamTaken(InvalidRequest):
    """Another connection reads the stream now."""

    status = 409
    code = "stream_taken"


class EventsGone(InvalidRequest):
    """What followed that event of a stream is not kept any more."""

    status = 410
    code = "events_gone"


class RequestTooLarge(InvalidRequest):
    """The body is larger than the operator allows."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(InvalidRequest):
    """The body is not of a type that the path takes."""

    status = 415
    code = "unsupported_media_type"


class RequestTimeout(InvalidRequest):
    """The client did not finish sending its body in time."""

    status = 408
    code = "request_timeout"


class InvalidApiKey(RelayError):
    """No key, or one that opens nothing here."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class NotPermitted(RelayError):
    """The caller is known, and may not do that."""

    status = 403
    type = "permission_error"
    code = "not_permitted"


class OriginNotAllowed(NotPermitted):
    """A browser page of that origin may not call this relay, or not with that key."""

    code = "origin_not_allowed"


class AddressNotAllowed(NotPermitted):
    """That key may not be used from that address."""

    code = "address_not_allowed"


class ModelNotAllowed(NotPermitted):
    """That key may not use that model."""

    code = "model_not_allowed"


class RateLimited(RelayError):
    """A limit per minute, or of calls at once, is reached; `retry-after` says when to come back."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class InsufficientQuota(RelayError):
    """A budget, or the number of requests that a token is good for, is used up."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class InternalError(RelayError):
    """A fault of ours. The message holds the request id and nothing else of the fault."""

    code = "internal_error"


class BackendError(RelayError):
    """What a backend, remote or local, may raise: this and its children only."""

    status = 502
    type = "upstream_error"
    another_key: bool = False
    """One key of the upstream failed, and it has another that may be tried at once."""


class NothingSent(Exception):
    """Marks a failure before the first byte of the request left us: asking again is safe."""


class UpstreamUnreachable(NothingSent, BackendError):
    """No connection could be made (refused, no route, no such host, TLS failure)."""

    code = "upstream_unreachable"


class WentOffline(BackendError):
    """The network went away before the first byte of an answer; the local model may be asked."""

    code = "upstream_unreachable"


class UpstreamAuth(BackendError):
    """The upstream refused our key: the operator's fault, so not the client's 401."""

    code = "upstream_auth"


class UpstreamProtocol(BackendError):
    """The upstream broke HTTP, closed before it had answered, or redirected."""

    code = "upstream_protocol"


class UpstreamTimeout(BackendError):
    """One of the four time limits (connect, first byte, idle, total) has passed."""

    status = 504
    code = "upstream_timeout"


class ConnectTimeout(NothingSent, UpstreamTimeout):
    """No connection within the connect limit."""


class UpstreamStatus(BackendError):
    """The upstream answered with an error of its own, which the client gets as it is."""

    def __init__(self, status: int, *, headers: Headers, body: bytes) -> None:
        super().__init__(f"The upstream answered with status {status}.", headers=headers)
        self.status = status
        self.body = body

    def envelope(self) -> bytes:
        """The upstream's own body, byte for byte."""
        return self.body


class PromptTooLong(InvalidRequest, BackendError):
    """The local model has no room for the prompt; another one may have. An upstream's own error
    that says so is an `UpstreamStatus`."""

    status = 400
    type = "invalid_request_error"
    code = "context_length_exceeded"


class NoUpstream(BackendError):
    """Nothing is there that could answer."""

    status = 503
    code = "no_upstream_available"


class Overloaded(BackendError):
    """Whoever could answer has no room; `retry-after` says when to come back."""

    status = 503
    code = "overloaded"
