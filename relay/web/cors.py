"""Which origins may call from a browser. The outermost layer, so that every status has its headers.

    request                          answer
    no `origin`                      passed on
    preflight, origin allowed        204 with what is allowed; no key needed
    preflight, origin not allowed    403 origin_not_allowed
    origin allowed                   passed on, CORS headers on whatever comes back
    origin not allowed               passed on when a key guards the relay (a page has none to
                                     send), else 403: a page that somebody happens to visit must
                                     not spend in his name

What never became a request, as its HTTP was wrong, has the same headers (`beside`). `null` is the
origin of sandboxed frames and of files: it is one like others, and any page can have it.

A page of the relay's own origin is always allowed; without keys only under a loopback name, since
any other name could be made to point here (DNS rebinding).
"""

import re
from collections.abc import Callable, Container, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.errors import OriginNotAllowed
from relay.origins import OriginList
from relay.settings import is_loopback
from relay.types import RawHeaders
from relay.web import messages_form
from relay.web.client import AsgiClient
from relay.web.replies import Visit, awaited

EXPOSED = b", ".join(
    [
        b"x-request-id",
        b"request-id",
        b"x-upstream-request-id",
        b"x-relay-upstream",
        b"x-relay-attempts",
        b"x-relay-resume",
        b"server-timing",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        *(
            name
            for kind in (b"limit", b"remaining", b"reset")
            for unit in (b"requests", b"tokens")
            for name in (
                b"x-ratelimit-%s-%s" % (kind, unit),
                b"anthropic-ratelimit-%s-%s" % (unit, kind),
            )
        ),
    ]
)
"""Response headers that a page may read."""

_PORT = re.compile(r":\d+$")
_VARY = (b"vary", b"Origin")
_ASKED_HEADERS = b"access-control-request-headers"
_ASKED_NETWORK = b"access-control-request-private-network"
_ALWAYS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods whose answers say on what they depend, or which ask for nothing but that."""

_PREFLIGHT_VARIES = (b"vary", _ASKED_HEADERS + b", " + _ASKED_NETWORK)


class Origins:
    """The allowed origins. `guarded` tells whether a key guards the relay now."""

    def __init__(self, allowed: Iterable[str], *, guarded: Callable[[], bool]) -> None:
        self._list = OriginList(allowed)
        self.any = self._list.any
        self.guarded = guarded

    def allows(self, origin: bytes, scope: Scope) -> bool:
        """Whether pages of that origin may call the relay that `scope` has reached."""
        return self._list.allows(origin) or self._own(origin, scope)

    def _own(self, origin: bytes, scope: Scope) -> bool:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        if not host or origin not in (b"http://" + host, b"https://" + host):
            return False
        return self.guarded() or is_loopback(_PORT.sub("", host.decode("latin-1")))


class Cors:
    """The layer. The four knobs are `origins`, `credentials`, `methods` and `headers`.

    `private_network`: pages that come from the internet may call a relay that is not on it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Origins,
        credentials: bool,
        methods: Iterable[str],
        headers: Iterable[str],
        max_age_s: int,
        private_network: bool = False,
    ) -> None:
        self._app = app
        self._origins = origins
        self._everyone = origins.any and not credentials
        self._headers = {header.lower() for header in headers}
        self._allow = [(b"access-control-allow-credentials", b"true")] if credentials else []
        self._preflight: RawHeaders = [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-max-age", b"%d" % max_age_s),
            _PREFLIGHT_VARIES,
        ]
        self._private_network = private_network

    @staticmethod
    def concerns(method: str, names: Container[bytes]) -> bool:
        """Whether this layer may have to do anything about a request with headers so named."""
        return method in _ALWAYS or b"origin" in names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        origin = next((value for name, value in headers if name == b"origin"), None)
        if origin is None:
            # Only answers to these methods are cached by anybody.
            varies = not self._everyone and scope["method"] in ("GET", "HEAD")
            await self._app(scope, receive, _varying(send) if varies else send)
            return
        preflight = scope["method"] == "OPTIONS" and any(
            name == b"access-control-request-method" for name, _ in headers
        )
        if not self._origins.allows(origin, scope):
            if preflight or not (self._origins.guarded() or scope["method"] in ("GET", "HEAD")):
                refusal = OriginNotAllowed(
                    "Pages of this origin may not call the relay; "
                    "its operator can allow them with RELAY_CORS_ORIGINS."
                )
                visit = Visit(AsgiClient(scope, receive, _varying(send)))
                await awaited(messages_form.send_error(visit, refusal))
                return
            await self._app(scope, receive, _varying(send))
            return
        if preflight:
            await self._answer_preflight(headers, origin, send)
            return
        await self._app(scope, receive, self._sharing(send, origin))

    async def _answer_preflight(self, headers: RawHeaders, origin: bytes, send: Send) -> None:
        asked = [
            header.strip().lower()
            for name, value in headers
            if name == _ASKED_HEADERS
            for header in value.decode("latin-1").split(",")
        ]
        allowed = [header for header in asked if "*" in self._headers or header in self._headers]
        answer = [*self._shared(origin), *self._preflight]
        if allowed:
            answer.append((b"access-control-allow-headers", ", ".join(allowed).encode("latin-1")))
        if self._private_network and (_ASKED_NETWORK, b"true") in headers:
            answer.append((b"access-control-allow-private-network", b"true"))
        await send({"type": "http.response.start", "status": 204, "headers": answer})
        await send({"type": "http.response.body", "body": b""})

    def _shared(self, origin: bytes) -> RawHeaders:
        if self._everyone:
            return [(b"access-control-allow-origin", b"*")]
        return [(b"access-control-allow-origin", origin), *self._allow, _VARY]

    def beside(self, headers: RawHeaders) -> RawHeaders:
        """What goes with an answer to somebody whose headers were these, as far as they came."""
        origin = next((value for name, value in headers if name == b"origin"), None)
        if origin is None:
            return []
        if not self._origins.allows(origin, {"headers": headers}):
            return [_VARY]
        return self._exposing(origin)

    def _sharing(self, send: Send, origin: bytes) -> Send:
        return _adding(send, self._exposing(origin))

    def _exposing(self, origin: bytes) -> RawHeaders:
        return [*self._shared(origin), (b"access-control-expose-headers", EXPOSED)]


def _varying(send: Send) -> Send:
    return _adding(send, [_VARY])


def _adding(send: Send, headers: RawHeaders) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return wrapped
