"""The error tree: the contract's table, and the envelope."""

import json

import pytest

from relay import errors
from relay.errors import BackendError, NothingSent, RelayError, UpstreamStatus

TABLE = [
    (errors.InvalidRequest, 400, "invalid_request_error", None),
    (errors.PromptTooLong, 400, "invalid_request_error", "context_length_exceeded"),
    (errors.InvalidApiKey, 401, "authentication_error", "invalid_api_key"),
    (errors.NotPermitted, 403, "permission_error", "not_permitted"),
    (errors.OriginNotAllowed, 403, "permission_error", "origin_not_allowed"),
    (errors.AddressNotAllowed, 403, "permission_error", "address_not_allowed"),
    (errors.ModelNotAllowed, 403, "permission_error", "model_not_allowed"),
    (errors.ModelNotFound, 404, "invalid_request_error", "model_not_found"),
    (errors.RouteNotFound, 404, "invalid_request_error", "not_found"),
    (errors.MethodNotAllowed, 405, "invalid_request_error", "method_not_allowed"),
    (errors.RequestTimeout, 408, "invalid_request_error", "request_timeout"),
    (errors.StreamNotFound, 404, "invalid_request_error", "stream_not_found"),
    (errors.StreamTaken, 409, "invalid_request_error", "stream_taken"),
    (errors.EventsGone, 410, "invalid_request_error", "events_gone"),
    (errors.Conflict, 409, "invalid_request_error", "conflict"),
    (errors.RequestTooLarge, 413, "invalid_request_error", "request_too_large"),
    (errors.UnsupportedMediaType, 415, "invalid_request_error", "unsupported_media_type"),
    (errors.RateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.InsufficientQuota, 429, "insufficient_quota", "insufficient_quota"),
    (errors.InternalError, 500, "server_error", "internal_error"),
    (errors.UpstreamUnreachable, 502, "upstream_error", "upstream_unreachable"),
    (errors.WentOffline, 502, "upstream_error", "upstream_unreachable"),
    (errors.UpstreamAuth, 502, "upstream_error", "upstream_auth"),
    (errors.UpstreamProtocol, 502, "upstream_error", "upstream_protocol"),
    (errors.NoUpstream, 503, "upstream_error", "no_upstream_available"),
    (errors.Overloaded, 503, "upstream_error", "overloaded"),
    (errors.UpstreamTimeout, 504, "upstream_error", "upstream_timeout"),
    (errors.ConnectTimeout, 504, "upstream_error", "upstream_timeout"),
]


@pytest.mark.parametrize(("kind", "status", "type_", "code"), TABLE)
def test_each_error_has_its_row(
    kind: type[RelayError], status: int, type_: str, code: str | None
) -> None:
    error = kind("What happened.", param="field")
    assert error.status == status
    assert json.loads(error.envelope()) == {
        "error": {"message": "What happened.", "type": type_, "param": "field", "code": code}
    }


def test_the_table_is_complete() -> None:
    def children(kind: type[RelayError]) -> set[type[RelayError]]:
        return {kind}.union(*(children(child) for child in kind.__subclasses__()))

    ours = {kind for kind in children(RelayError) if kind.__module__ == errors.__name__}
    assert ours - {RelayError, BackendError, UpstreamStatus} == {row[0] for row in TABLE}


def test_only_failures_to_connect_are_safe_to_repeat() -> None:
    safe = {kind for kind, *_ in TABLE if issubclass(kind, NothingSent)}
    assert safe == {errors.UpstreamUnreachable, errors.ConnectTimeout}


def test_an_upstreams_error_keeps_its_bytes() -> None:
    error = UpstreamStatus(418, headers=[(b"x", b"y")], body=b"short and stout")
    assert (error.status, error.envelope(), error.headers) == (
        418,
        b"short and stout",
        [(b"x", b"y")],
    )


def test_text_that_is_no_text_does_not_break_the_envelope() -> None:
    assert b"a?" in RelayError("a\ud800").envelope()
