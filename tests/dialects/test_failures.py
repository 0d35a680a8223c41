"""Errors in both envelopes."""

import json

import pytest
from dialects.shapes import ErrorBody

from relay import errors
from relay.dialects import failures


def anthropic(kind: str, message: str = "Something.") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def openai(message: str = "Something.", **fields: str | None) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", (400, "invalid_request_error", None)),
        (401, "authentication_error", (401, "authentication_error", "invalid_api_key")),
        (402, "billing_error", (429, "insufficient_quota", "insufficient_quota")),
        (403, "permission_error", (403, "permission_error", None)),
        (404, "not_found_error", (404, "invalid_request_error", "not_found")),
        (409, "conflict_error", (409, "invalid_request_error", None)),
        (413, "request_too_large", (413, "invalid_request_error", "request_too_large")),
        (429, "rate_limit_error", (429, "rate_limit_error", "rate_limit_exceeded")),
        (500, "api_error", (500, "server_error", None)),
        (504, "timeout_error", (504, "upstream_error", "upstream_timeout")),
        (529, "overloaded_error", (503, "upstream_error", "overloaded")),
        (418, "a_new_error", (418, "invalid_request_error", None)),
        (502, "a_new_error", (502, "server_error", None)),
    ],
)
def test_anthropics_errors_become_openais(status, kind, expected):
    failure = failures.to_chat(status, anthropic(kind))
    error = json.loads(failure.body)["error"]
    assert (failure.status, error["type"], error["code"]) == expected
    assert error["message"] == "Something."
    assert error["param"] is None


@pytest.mark.parametrize(
    ("kind", "message", "code"),
    [
        (
            "invalid_request_error",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "context_length_exceeded",
        ),
        (
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 1 + 2 > 2",
            "context_length_exceeded",
        ),
        ("not_found_error", "model: claude-9", "model_not_found"),
    ],
)
def test_what_clients_and_fallbacks_look_for_gets_its_code(kind, message, code):
    error = json.loads(failures.to_chat(400, anthropic(kind, message)).body)["error"]
    assert (error["code"], error["message"]) == (code, message)


@pytest.mark.parametrize("body", [b"", b"<html>secret</html>", b"[]", b'{"error": null}', b"\xff"])
def test_a_body_that_is_no_error_is_not_shown_in_either_direction(body):
    for failure in (failures.to_chat(502, body), failures.to_messages(502, body)):
        error = json.loads(failure.body)["error"]
        assert failure.status == 502
        assert error["message"] == "The upstream answered with status 502."


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, None, (400, "invalid_request_error")),
        (401, "invalid_api_key", (401, "authentication_error")),
        (403, "model_not_allowed", (403, "permission_error")),
        (404, "model_not_found", (404, "not_found_error")),
        (405, "method_not_allowed", (405, "invalid_request_error")),
        (409, None, (409, "conflict_error")),
        (413, "request_too_large", (413, "request_too_large")),
        (429, "rate_limit_exceeded", (429, "rate_limit_error")),
        (429, "insufficient_quota", (402, "billing_error")),
        (429, "overloaded", (529, "overloaded_error")),
        (500, "internal_error", (500, "api_error")),
        (502, "upstream_unreachable", (502, "api_error")),
        (503, "no_upstream_available", (529, "overloaded_error")),
        (503, "overloaded", (529, "overloaded_error")),
        (504, "upstream_timeout", (504, "timeout_error")),
    ],
)
def test_openais_errors_become_anthropics(status, code, expected):
    failure = failures.to_messages(status, openai(code=code), request_id="req_1")
    body = ErrorBody.model_validate_json(failure.body)
    assert (failure.status, body.error.type) == expected
    assert body.request_id == "req_1"
    assert body.error.message == "Something."


def test_a_conversation_that_is_too_long_is_told_in_the_words_clients_know():
    body = openai("This model's maximum is 8 tokens.", code="context_length_exceeded")
    error = ErrorBody.model_validate_json(failures.to_messages(400, body).body).error
    assert error.message == "prompt is too long: This model's maximum is 8 tokens."
    body = openai("prompt is too long: 9 > 8", code="context_length_exceeded")
    error = ErrorBody.model_validate_json(failures.to_messages(400, body).body).error
    assert error.message == "prompt is too long: 9 > 8"


def test_an_error_that_is_only_a_string_is_its_message():
    failure = failures.to_messages(400, b'{"error": "no such thing"}')
    assert json.loads(failure.body) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "no such thing"},
    }


def every_error(tree: type[errors.RelayError]) -> list[type[errors.RelayError]]:
    children = [child for child in tree.__subclasses__() if child.__module__ == errors.__name__]
    return [tree, *(deeper for child in children for deeper in every_error(child))]


@pytest.mark.parametrize("kind", sorted(set(every_error(errors.RelayError)), key=str))
def test_every_error_of_ours_has_a_shape_that_anthropics_clients_know(kind):
    if kind is errors.UpstreamStatus:
        error = errors.UpstreamStatus(418, headers=(), body=openai())
    else:
        error = kind("What happened.")
    failure = failures.to_messages(error.status, error.envelope())
    ErrorBody.model_validate_json(failure.body)
    assert 400 <= failure.status < 600


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"type": "rate_limit_error", "message": "x"}, "rate_limit_error"),
        ({"type": "upstream_error", "code": "upstream_timeout"}, "timeout_error"),
        ({"type": "server_error"}, "api_error"),
        ({}, "api_error"),
    ],
)
def test_an_error_in_a_stream_has_no_status_to_go_by(error, expected):
    body = ErrorBody.model_validate_json(failures.to_messages_envelope(error))
    assert body.error.type == expected
    assert body.error.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ("upstream_error", "overloaded")),
        ({"type": "a_new_error"}, ("upstream_error", None)),
        ({}, ("server_error", None)),
    ],
)
def test_an_error_event_becomes_openais_envelope(error, expected):
    told = json.loads(failures.to_chat_envelope(error))["error"]
    assert (told["type"], told["code"]) == expected


@pytest.mark.parametrize(
    ("kind", "status"),
    [("overloaded_error", 529), ("rate_limit_error", 429), ("invalid_request_error", 400)],
)
def test_an_error_that_came_as_an_event_has_a_status(kind: str, status: int) -> None:
    assert failures.status_of({"type": kind}) == status
    assert failures.status_of({}) == 500


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"type": "overloaded_error"}, 503),
        ({"type": "BadRequestError", "code": 400}, 400),
        ({"code": 529}, 503),
        ({"code": 200}, 500),
        ({"type": "tokens", "code": "rate_limit_exceeded"}, 429),
        ({"type": "invalid_request_error", "code": "model_not_found"}, 404),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, 400),
        ({"type": "server_error", "code": None}, 500),
        ({}, 500),
    ],
)
def test_an_event_of_either_dialect_has_a_status_of_openais(
    error: dict[str, object], status: int
) -> None:
    assert failures.status_of_event(error) == status


def test_the_status_that_only_anthropic_knows_goes_and_comes_back() -> None:
    assert failures.to_chat_status(529) == 503
    assert failures.to_messages_status(503, anthropic("overloaded_error")) == 529
    assert failures.to_messages_status(503, b"<html>") == 503
