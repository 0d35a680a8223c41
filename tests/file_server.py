"""A real HTTP server of one file, which breaks off, changes it or refuses, as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """`breaks`: after so many bytes of a body the connection is cut, once for each entry."""

    content: bytes
    etag: str | None = '"one"'
    last_modified: str | None = None
    ranges: bool = True
    status: int = 200
    lengths: bool = True
    breaks: list[int] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def running(self) -> Iterator["FileServer"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}/models/tiny.gguf"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        told = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                told.asked.append({name.lower(): value for name, value in self.headers.items()})
                if self.path.startswith("/elsewhere"):
                    self.send_response(302)
                    self.send_header("location", "/models/tiny.gguf")
                    self.end_headers()
                    return
                told.answer(self)

        return Handler

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        start, status = self._start(to), self.status
        if start is not None:
            status = 206 if start < len(self.content) else 416
        body = b"" if status == 416 else self.content[start or 0 :]
        to.send_response(status)
        for name, value in (("etag", self.etag), ("last-modified", self.last_modified)):
            if value:
                to.send_header(name, value)
        if status == 416:
            to.send_header("content-range", f"bytes */{len(self.content)}")
        elif start is not None:
            last, whole = len(self.content) - 1, len(self.content)
            to.send_header("content-range", f"bytes {start}-{last}/{whole}")
        if self.lengths:
            to.send_header("content-length", str(len(body)))
        to.end_headers()
        cut = self.breaks.pop(0) if self.breaks else len(body)
        to.wfile.write(body[:cut])
        to.close_connection = True

    def _start(self, to: BaseHTTPRequestHandler) -> int | None:
        """Where it is to begin; None when all is given."""
        asked = to.headers.get("range")
        same = to.headers.get("if-range") in (None, self.etag, self.last_modified)
        if asked is None or not self.ranges or not same or self.status != 200:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))
