"""Why an upstream cannot be reached, in words for its operator. Its address stays out of them."""

import os
import socket
import ssl
from collections.abc import Iterator


def cannot_be_reached(exc: BaseException) -> str:
    """`cannot be reached`, and why, as far as that exception or what led to it tells."""
    told = next((words for cause in causes(exc) if (words := _words(cause))), "")
    return f"cannot be reached: {told}" if told else "cannot be reached"


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The exception and all that led to it, the members of groups too."""
    while exc is not None:
        yield exc
        if isinstance(exc, BaseExceptionGroup):
            for member in exc.exceptions:
                yield from causes(member)
        exc = exc.__cause__ or exc.__context__


def _words(exc: BaseException) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({exc.verify_message.rstrip('.')})"
    if isinstance(exc, ssl.SSLError):
        return f"TLS fails ({exc.reason}); perhaps it speaks http:// only"
    if isinstance(exc, socket.gaierror):
        away = exc.errno == socket.EAI_AGAIN
        return "no name server answers" if away else "its host name is not known"
    if isinstance(exc, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(exc, OSError) and exc.errno is not None and exc.errno > 0:
        return os.strerror(exc.errno).lower()
    return ""
