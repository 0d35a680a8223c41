"""Why a server did not answer, in words."""

import socket
import ssl

import pytest
from fake_script import Script
from fake_upstream import FakeUpstream

from relay.cli.endpoint import NoModelList, error_message, explain, list_models, open_endpoint
from relay.errors import UpstreamProtocol, UpstreamStatus, UpstreamUnreachable

URL = "https://api.example.com:8443/v1"


def unreachable(cause: BaseException) -> UpstreamUnreachable:
    error = UpstreamUnreachable("The upstream 'x' cannot be reached.")
    error.__cause__ = OSError("All connection attempts failed")
    error.__cause__.__cause__ = cause
    return error


def bad_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (ConnectionRefusedError(), "nothing listens on api.example.com:8443"),
        (
            ExceptionGroup("both", [OSError(), ConnectionRefusedError()]),
            "nothing listens on api.example.com:8443",
        ),
        (
            socket.gaierror(-2, "Name or service not known"),
            "unknown host api.example.com: the name cannot be resolved",
        ),
        (
            bad_certificate(),
            "the TLS certificate of api.example.com:8443 is not valid: self-signed certificate",
        ),
        (OSError("No route to host"), "api.example.com:8443 cannot be reached"),
    ],
)
def test_the_cause_of_a_missing_connection_is_named(cause: BaseException, sentence: str) -> None:
    assert explain(unreachable(cause), URL) == sentence


def test_other_failures_say_it_themselves() -> None:
    assert explain(UpstreamProtocol("it broke"), URL) == "it broke"


def test_an_error_status_comes_with_the_message_of_its_envelope() -> None:
    error = UpstreamStatus(429, headers=[], body=b'{"error": {"message": "slow down"}}')

    assert explain(error, URL) == "429: slow down"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "model is loading"}', "model is loading"),
        (b"<html>\n  Bad gateway</html>", "<html> Bad gateway</html>"),
        (b'{"detail": "Not Found"}', '{"detail": "Not Found"}'),
        (b"[1]", "[1]"),
        (b"", "no message"),
        (b"x" * 1000, "x" * 300),
    ],
)
def test_a_body_that_is_no_envelope_is_shown_as_it_begins(body: bytes, message: str) -> None:
    assert error_message(body) == message


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b"[]", b'{"data": {}}', b'{"data": [{"name": "m"}]}', b"7"]
)
async def test_what_is_no_model_list_is_said_to_be_none(fake: FakeUpstream, body: bytes) -> None:
    fake.answer(Script(body=body))
    backend = open_endpoint(fake.url, "sk-canary")

    with pytest.raises(NoModelList):
        await list_models(backend)

    await backend.aclose()
