"""What went wrong inside FastAPI's stack, as the envelope."""

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from relay.attempts import CLIENT_LEFT
from relay.errors import (
    InvalidRequest,
    MethodNotAllowed,
    Overloaded,
    RelayError,
    RouteNotFound,
)
from relay.schema import field_path
from relay.stores import StoreUnavailable
from relay.web.door import internal_error
from relay.web.presence import ClientLeft
from relay.web.replies import answer_headers, visit

FAILURES = (
    RelayError,
    StoreUnavailable,
    HTTPException,
    RequestValidationError,
    ClientLeft,
    Exception,
)
"""All of them: FastAPI wants each to be named."""


async def answer_failure(request: Request, exc: Exception) -> Response:
    """Every failure inside FastAPI's stack, as the envelope."""
    if isinstance(exc, ClientLeft):
        return Response(status_code=CLIENT_LEFT)
    error = _as_relay_error(request, exc)
    reply = Response(error.envelope(), error.status)
    reply.raw_headers[:0] = answer_headers(error)
    return reply


def _as_relay_error(request: Request, exc: Exception) -> RelayError:
    if isinstance(exc, RelayError):
        return exc
    if isinstance(exc, StoreUnavailable):
        return Overloaded(str(exc), headers=[(b"retry-after", b"5")])
    if isinstance(exc, HTTPException):
        return _routing_error(request, exc)
    if isinstance(exc, RequestValidationError):
        fault = exc.errors()[0]
        param = field_path(fault["loc"][1:])
        return InvalidRequest(f"Invalid value for '{param}': {fault['msg']}.", param=param)
    return internal_error(visit(request.scope).request_id)


def _routing_error(request: Request, exc: HTTPException) -> RelayError:
    path, method = request.scope["path"], request.scope["method"]
    headers = [
        (name.lower().encode(), value.encode()) for name, value in (exc.headers or {}).items()
    ]
    if exc.status_code == 404:
        return RouteNotFound(f"There is nothing at {method} {path}.")
    if exc.status_code == 405:
        return MethodNotAllowed(f"{path} does not take {method}.", headers=headers)
    return InvalidRequest(str(exc.detail))
