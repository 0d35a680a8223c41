"""The door: gives each request an id, lets in who may come in, turns every failure into an answer.

Deny by default: what is not in `OPEN` needs a key (the admin API and the metrics of their own),
decided on the path that will be routed (`scope["path"]`), never on a URL that headers could change.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from relay.attempts import CLIENT_LEFT
from relay.errors import InternalError, RelayError, RouteNotFound
from relay.keys import Keyring
from relay.types import ANONYMOUS, Identity, RawHeaders
from relay.web import messages_form
from relay.web.accounts import Accounts
from relay.web.admin import AdminKey
from relay.web.client import AsgiClient, Client
from relay.web.metrics import MetricsKey
from relay.web.passthrough import Passthrough
from relay.web.presence import ClientLeft
from relay.web.replies import Visit, awaited
from relay.web.users import Users

OPEN = frozenset({"/", "/dashboard", "/healthz", "/readyz", "/docs", "/openapi.json"})
OPEN_PREFIXES = ("/static/",)
"""What needs no client's key: the page and its files, the probes, the documentation; and the admin
API, which asks for a key of its own."""

Endpoint = Callable[[Visit], Awaitable[None]]
"""What answers one request; its failures are the door's business."""

_log = logging.getLogger("relay.web")


class Door:
    """The layer between the origins and the routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        direct: Mapping[tuple[str, str], Endpoint],
        passthrough: Passthrough,
        keyring: Keyring,
        admin_key: AdminKey,
        metrics_key: MetricsKey,
        accounts: Accounts,
        users: Users,
        apart: bool = False,
    ) -> None:
        """Without `app`'s stack are reached: `direct`, by method and path, then `passthrough`.

        `apart`: each visit is closed in the context of its request, where traces find themselves.
        """
        self._app = app
        self._direct = direct
        self._passthrough = passthrough
        self._keyring = keyring
        self._admin_key = admin_key
        self._metrics_key = metrics_key
        self._accounts = accounts
        self._ledger = accounts.ledger
        self._users = users
        self._told = accounts.told
        self._over: deque[Visit] = deque()
        self._end = self._end_apart if apart else self._end_together

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.enter(AsgiClient(scope, receive, send))

    async def enter(self, client: Client) -> None:
        """Answer a client, whatever happens."""
        visit = Visit(client)
        headers = client.headers
        if client.path in messages_form.PATHS:
            visit.own_lines = b"request-id: %b" % visit.request_id.encode()
            visit.limits_as = messages_form.translated
            headers = messages_form.as_bearer(headers)
        self._users.enter()
        try:
            endpoint, found = self._let_in(visit, headers)
            # A key that is not known yet is looked for.
            visit.identity = found if isinstance(found, Identity) else await found
            visit.kept = endpoint != self._inside  # from here on: wrong keys leave nothing behind
            if self._ledger.full and visit.kept:
                await self._ledger.room()
            if visit.identity.keep_bodies:
                visit.record()
            await endpoint(visit)
        except ClientLeft:
            visit.status = CLIENT_LEFT
            visit.trail.error = "client_left"
        except RelayError as error:
            visit.trail.error = error.name
            if not client.started:
                await awaited(messages_form.send_error(visit, error))
            else:
                # Half an answer is out: the server closes the connection, so that the client
                # notices.
                fields = {"request_id": visit.request_id, "error": error.message}
                _log.warning("answer_cut", extra={"fields": fields})
        except Exception:  # the last line: whatever it was, the client gets an answer, no detail
            _log.exception("internal_error", extra={"fields": {"request_id": visit.request_id}})
            visit.trail.error = InternalError.code
            if not client.started:
                await awaited(messages_form.send_error(visit, internal_error(visit.request_id)))
        finally:
            if self._told or visit.trail.reservation is not None:
                self._end(visit)
            else:
                self._users.leave()

    def _let_in(
        self, visit: Visit, headers: RawHeaders
    ) -> tuple[Endpoint, Identity | Awaitable[Identity]]:
        """What answers them, and who is there. Raises: RelayError: nobody who may come in."""
        client = visit.client
        method, path = client.method, client.path
        endpoint = self._direct.get((method, path))
        if endpoint is not None:
            made = client.head.made if headers is client.headers else None
            return endpoint, self._keyring.identify(headers, client.peer, made)
        endpoint = self._other(method, path)
        if _is_open(path):
            return endpoint, ANONYMOUS
        if self._admin_key.guards(path):
            return endpoint, self._admin_key.identify(headers)
        if self._metrics_key.guards(path):
            return endpoint, self._metrics_key.identify(headers)
        return endpoint, self._keyring.identify(headers, client.peer)

    def _other(self, method: str, path: str) -> Endpoint:
        return self._passthrough if self._passthrough.takes(method, path) else self._inside

    async def _inside(self, visit: Visit) -> None:
        client = visit.client
        client.scope.setdefault("state", {})["visit"] = visit
        await self._app(client.scope, client.receive, visit.send)

    def _end_together(self, visit: Visit) -> None:
        """Have it closed in a moment, one after another with those that end at the same time.

        What runs again while the processor has it in its cache costs half.
        """
        if not self._over:
            visit.client.task.get_loop().call_soon(self._close_all)
        self._over.append(visit)

    def _end_apart(self, visit: Visit) -> None:
        visit.client.task.get_loop().call_soon(self._close, visit)

    def _close_all(self) -> None:
        over = self._over
        try:
            while over:
                self._close(over.popleft())
        finally:
            if over:  # one failed, which is the loop's to tell; it must not take the others with it
                asyncio.get_running_loop().call_soon(self._close_all)

    def _close(self, visit: Visit) -> None:
        try:
            client, recording = visit.client, visit.recording
            self._accounts.close(
                visit.trail,
                visit.identity,
                visit.request_id,
                client.method,
                client.path,
                visit.status,
                visit.began,
                visit.kept,
                None if recording is None else recording.bodies(),
            )
        finally:
            self._users.leave()


def _is_open(path: str) -> bool:
    if not path.isprintable():
        raise RouteNotFound("The path holds characters that no path has.")
    return path in OPEN or path.startswith(OPEN_PREFIXES)


def internal_error(request_id: str) -> InternalError:
    """What a client is told of a fault of ours."""
    return InternalError(f"The relay failed; its log has the details under {request_id}.")
