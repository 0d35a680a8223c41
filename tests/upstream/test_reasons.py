"""Why an upstream cannot be reached, for each cause."""

import errno
import os
import socket
import ssl

import pytest

from relay.upstream.reasons import cannot_be_reached


def bad_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate."
    return error


def wrapped(cause: BaseException) -> Exception:
    error = OSError("All connection attempts failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "why"),
    [
        (ConnectionRefusedError(111, "refused by 192.0.2.1"), ": nothing listens there"),
        (socket.gaierror(socket.EAI_NONAME, "no"), ": its host name is not known"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), ": no name server answers"),
        (OSError(errno.ENETUNREACH, "at 192.0.2.1"), ": network is unreachable"),
        (OSError(errno.EHOSTUNREACH, os.devnull), ": no route to host"),
        (bad_certificate(), ": its certificate is refused (self-signed certificate)"),
        (OSError("at 192.0.2.1"), ""),
        (UnicodeError("label too long"), ""),
    ],
    ids=repr,
)
def test_the_cause_is_told_without_the_address(cause: Exception, why: str) -> None:
    for error in (cause, wrapped(cause), wrapped(ExceptionGroup("both", [OSError(), cause]))):
        assert cannot_be_reached(error) == f"cannot be reached{why}"
