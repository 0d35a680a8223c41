"""A request, as the bytes that are sent: its head, and a streamed body that keeps its promise."""

from collections.abc import AsyncIterable
from urllib.parse import quote, urlsplit

from relay.dialects import anthropic_request
from relay.errors import UpstreamProtocol
from relay.settings import UpstreamSettings
from relay.types import Call
from relay.upstream.headers import Upward
from relay.upstream.key import Key
from relay.upstream.paths import path_of

HAVE_BODIES = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests state their length even when that is zero (RFC 9110, 8.6)."""

REMEMBERED_LINES = 100

_OURS = frozenset(
    {
        b"accept-encoding",
        b"api-key",
        b"authorization",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"upgrade",
        b"x-api-key",
    }
)
_URL_CHARACTERS = "!$%&'()*+,-./:;=?@[]_~"


class RequestHead:
    """Writes the heads of one upstream's requests; what all of them share is made once."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._upstream = settings.name
        url = urlsplit(settings.base_url)
        usual = {b"host": _host(settings.base_url), b"accept-encoding": b"identity"}
        self._fixed = usual | own_headers(settings)
        self._path_of = path_of(settings)
        self._lines: dict[tuple[str, str], bytes] = {}
        self._ours = _OURS | self._fixed.keys()
        self._path = _target(url.path).encode() + b"/"

    def _line(self, call: Call) -> bytes:
        """What stands before the version; that of a path without a query is remembered."""
        path = self._path_of(call)
        line = b"%b %b%b" % (call.method.encode(), self._path, _target(path).encode())
        self._checked(line, 0)
        if len(self._lines) < REMEMBERED_LINES and path is call.path and "?" not in path:
            self._lines[call.method, call.path] = line
        return line

    def _start(self, key: Key) -> bytes:
        """What stands between the request line and the headers of the call, with that key."""
        shown = {} if key.header is None else dict([key.header])
        lines = [b"%b: %b\r\n" % pair for pair in (shown | self._fixed).items()]
        key.start = self._checked(b" HTTP/1.1\r\n" + b"".join(lines), len(lines) + 1)
        return key.start

    def write(self, call: Call, key: Key) -> bytes:
        """Everything up to the empty line, and that.

        Raises:
            UpstreamProtocol: the call holds a line break where HTTP allows none.
            ModelNotFound: the upstream's places are named by model, and there is none for it.
        """
        line = self._lines.get((call.method, call.path)) or self._line(call)
        start = key.start or self._start(key)
        written = call.headers.written if type(call.headers) is Upward else None
        if written is None or written[0] is not self:
            written = self._write_headers(call)
        length: int | None = len(call.body)
        if call.content is not None:
            length = call.content_length
        if length is None:
            end = b"transfer-encoding: chunked\r\n\r\n"
        elif length or call.method in HAVE_BODIES:
            end = b"content-length: %d\r\n\r\n" % length
        else:
            end = b"\r\n"
        return b"".join((line, start, written[1], end))

    def _write_headers(self, call: Call) -> tuple[object, bytes]:
        """Those of the call, less what is ours to say."""
        ours = self._ours
        lines = [b"%b: %b\r\n" % pair for pair in call.headers if pair[0] not in ours]
        written = (self, self._checked(b"".join(lines), len(lines)))
        if isinstance(call.headers, Upward):
            call.headers.written = written
        return written

    def _checked(self, text: bytes, lines: int) -> bytes:
        """A part of a head that must have so many lines, and nothing that a server takes for one.

        Raises:
            UpstreamProtocol: there is a line break somewhere.
        """
        if not text.count(b"\r") == text.count(b"\n") == lines:
            raise UpstreamProtocol(
                f"The call for the upstream '{self._upstream}' has a line break in a header."
            )
        return text


class PromisedBody:
    """A streamed body of exactly the `length` that its head told, if that told one.

    Raises: what `content` does; UpstreamProtocol when it has another length, as the rest, or what
    is missing, would be taken for another request.
    """

    def __init__(self, content: AsyncIterable[bytes], length: int | None, upstream: str) -> None:
        self._pieces = aiter(content)
        self._length = length
        self._given = 0
        self._upstream = upstream

    def __aiter__(self) -> "PromisedBody":
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces, None)
        self._given += len(piece or b"")
        if self._length is not None and (
            self._given > self._length or (piece is None and self._given < self._length)
        ):
            raise UpstreamProtocol(
                f"The body for the upstream '{self._upstream}' does not have the "
                f"{self._length} bytes that were announced."
            )
        if piece is None:
            raise StopAsyncIteration
        return piece


def own_headers(settings: UpstreamSettings) -> dict[bytes, bytes]:
    """The headers that go with every call of that upstream, whatever the call says."""
    headers = {}
    if settings.kind == "anthropic":
        name, usual = anthropic_request.VERSION
        headers[name] = settings.api_version.encode() if settings.api_version else usual
    for name_text, secret in settings.headers.items():
        headers[name_text.lower().encode()] = secret.get_secret_value().encode()
    return headers


def _host(base_url: str) -> bytes:
    url = urlsplit(base_url)
    host = url.hostname or ""
    host = f"[{host}]" if ":" in host else host.encode("idna").decode()
    usual = {"http": 80, "https": 443}[url.scheme]
    return (host if url.port in (None, usual) else f"{host}:{url.port}").encode()


def _target(path: str) -> str:
    """A path as it may stand in a request line; what is quoted already stays as it is."""
    if path.isascii() and path.isprintable() and " " not in path and "#" not in path:
        return path
    return quote(path, safe=_URL_CHARACTERS)
