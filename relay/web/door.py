"""The door: gives each request an id, lets in who may come in, turns every failure into an answer.

Deny by default: what is not in `OPEN` needs a key, decided on the path that will be routed
(`scope["path"]`), never on a URL that headers could change.
"""

import logging
from collections.abc import Mapping
from time import perf_counter

from starlette.types import ASGIApp, Receive, Scope, Send

from relay.errors import InternalError, RelayError, RouteNotFound
from relay.events import Observer, RequestEnded, ignore
from relay.keys import Keyring
from relay.web.passthrough import Passthrough
from relay.web.presence import ClientLeft
from relay.web.replies import Visit, send_error

OPEN = frozenset({"/", "/healthz", "/readyz", "/docs", "/openapi.json"})
OPEN_PREFIXES = ("/static/",)
"""What needs no key: the page and its files, the probes, the documentation."""

CLIENT_CLOSED_REQUEST = 499
"""The status that is logged for a client that left; nobody receives it."""

_log = logging.getLogger("relay.web")


class Door:
    """The layer between the origins and the routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        direct: Mapping[tuple[str, str], ASGIApp],
        passthrough: Passthrough,
        keyring: Keyring,
        observe: Observer,
    ) -> None:
        """Without `app`'s stack are reached: `direct`, by method and path, then `passthrough`."""
        self._app = app
        self._direct = direct
        self._passthrough = passthrough
        self._keyring = keyring
        self._observe = observe
        self._observed = observe is not ignore

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit(scope["headers"], send)
        scope.setdefault("state", {})["visit"] = visit
        try:
            await self._enter(scope, receive, visit)
        except ClientLeft:
            visit.status = CLIENT_CLOSED_REQUEST
        finally:
            if self._observed:
                self._observe(
                    RequestEnded(
                        request_id=visit.request_id,
                        method=scope["method"],
                        path=scope["path"],
                        status=visit.status,
                        duration_s=perf_counter() - visit.began,
                        caller=visit.identity.name,
                        target=visit.trail.target,
                        attempts=visit.trail.attempts,
                    )
                )

    async def _enter(self, scope: Scope, receive: Receive, visit: Visit) -> None:
        head = scope["method"] == "HEAD"
        try:
            path: str = scope["path"]
            if not path.isprintable():
                raise RouteNotFound("The path holds characters that no path has.")  # noqa: TRY301  # one way out
            if path not in OPEN and not path.startswith(OPEN_PREFIXES):
                visit.identity = self._keyring.identify(scope["headers"])
            app = self._direct.get((scope["method"], path)) or self._other(scope["method"], path)
            await app(scope, receive, visit.send)
        except ClientLeft:
            raise
        except RelayError as error:
            if not visit.started:
                await send_error(visit.send, error, head=head)
                return
            # Half an answer is out: the server closes the connection, so that the client notices.
            fields = {"request_id": visit.request_id, "error": error.message}
            _log.warning("answer_cut", extra={"fields": fields})
        except Exception:  # the last line: whatever it was, the client gets an answer and no detail
            _log.exception("internal_error", extra={"fields": {"request_id": visit.request_id}})
            if not visit.started:
                await send_error(visit.send, internal_error(visit.request_id), head=head)

    def _other(self, method: str, path: str) -> ASGIApp:
        return self._passthrough if self._passthrough.takes(method, path) else self._app


def internal_error(request_id: str) -> InternalError:
    """What a client is told of a fault of ours."""
    return InternalError(f"The relay failed; its log has the details under {request_id}.")
