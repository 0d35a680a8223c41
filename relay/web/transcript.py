"""The text of a streamed answer, read from its events as they come."""

import json
from collections.abc import Iterator
from typing import Any

from relay.errors import BackendError, UpstreamProtocol
from relay.sse import EventParser


class Transcript:
    """What has been said so far. `read` takes bytes, `close` checks that the answer was whole."""

    def __init__(self) -> None:
        self.text = ""
        self._parser = EventParser()
        self._whole = False

    def read(self, piece: bytes) -> Iterator[str]:
        """Take the next bytes; gives the text so far, each time it has grown.

        Raises:
            UpstreamProtocol: what came is no stream of chunks.
            BackendError: the stream carried an error.
        """
        try:
            for data in self._parser.feed(piece):
                before = len(self.text)
                self._take(data)
                if len(self.text) > before:
                    yield self.text
        except ValueError:
            raise UpstreamProtocol("The upstream's stream cannot be read.") from None

    def close(self) -> None:
        """The stream is over.

        Raises:
            UpstreamProtocol: it broke off before the answer was whole.
        """
        if not self._whole:
            raise UpstreamProtocol("The upstream broke off before its answer was whole.")

    def _take(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._whole = True
            return
        chunk: Any = json.loads(data)
        if not isinstance(chunk, dict):
            raise ValueError("not a chunk")  # noqa: TRY004  # like everything unreadable here
        if error := chunk.get("error"):
            message = error.get("message") if isinstance(error, dict) else None
            raise BackendError(str(message or "The upstream failed."))
        for choice in chunk.get("choices") or []:
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            if isinstance(content := delta.get("content"), str):
                self.text += content
            if choice.get("finish_reason"):
                self._whole = True
