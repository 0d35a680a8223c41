"""The classic frames: a query and its history in, the answer so far out.

    client  {"query": "…", "history": [["question", "answer"], …], "model"?: "…"}
    relay   {"response": "Py", "history": [["…", "Py"]], "status": 202}        again and again
            {"status": 200}

Source: ChatGLM's `websocket_api.py`.
"""

import json
from collections.abc import Iterator
from typing import Any

from relay.errors import InvalidRequest, RelayError
from relay.history import from_pairs
from relay.types import Call, Identity
from relay.web.models import Models
from relay.web.replies import JSON
from relay.web.sockets.frames import dump, error_frame
from relay.web.transcript import Transcript


class ClassicAnswer:
    """How the question of one classic frame is asked, and its answer told."""

    def __init__(self, frame: dict[str, Any]) -> None:
        """Raises: InvalidRequest: a field is missing or wrong."""
        self._query, self._history = _read(frame)
        self._model: str | None = frame.get("model")
        if self._model is not None and not isinstance(self._model, str):
            raise InvalidRequest("'model' must be a string.", param="model")
        self._transcript = Transcript()

    async def call(self, models: Models, identity: Identity, request_id: str) -> Call:
        """What is asked. Raises: BackendError: no model is known."""
        messages = from_pairs(self._query, [(asked, said) for asked, said in self._history])
        model = self._model or await models.default(identity)
        payload = {"model": model, "messages": messages, "stream": True}
        return Call(
            path="chat/completions",
            body=json.dumps(payload).encode(),
            payload=payload,
            model=model,
            stream=True,
            request_id=request_id,
            identity=identity,
            headers=(JSON,),
        )

    def read(self, piece: bytes) -> Iterator[str]:
        """The frames that the next bytes of the answer make. Raises: as `Transcript.read`."""
        for text in self._transcript.read(piece):
            history = [*self._history, [self._query, text]]
            yield dump({"response": text, "history": history, "status": 202})

    def close(self) -> None:
        """The answer is over. Raises: UpstreamProtocol: it broke off."""
        self._transcript.close()

    def said(self) -> bytes:
        """What was answered, to be kept."""
        return self._transcript.text.encode("utf-8", "replace")

    def done(self) -> str:
        """The last frame of an answer."""
        return dump({"status": 200})

    def failed(self, error: RelayError) -> str:
        """The last frame of one that failed."""
        return error_frame(error)


def _read(frame: dict[str, Any]) -> tuple[str, list[list[str]]]:
    query = frame.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InvalidRequest("'query' must be a string that is not empty.", param="query")
    history = frame.get("history") or []
    if not isinstance(history, list) or not all(map(_is_pair, history)):
        raise InvalidRequest(
            "'history' must be a list of [question, answer] pairs.", param="history"
        )
    return query, history


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
