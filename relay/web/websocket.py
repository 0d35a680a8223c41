"""`WS /ws`: the classic WebSocket chat. One socket, many turns, from whatever serves.

    client  {"query": "…", "history": [["question", "answer"], …], "model"?: "…"}
    relay   {"response": "Py", "history": [["…", "Py"]], "status": 202}        again and again
            {"status": 200}
    client  {"type": "stop"}                                                    ends the answer: 200
    relay   {"type": "error", "status": 4xx or 5xx, "error": {…}}               the turn is over

The key comes in the `authorization` header, as the second subprotocol (`relay`, `key.KEY`), or as
the first frame `{"key": "…"}`. Browsers' `Origin` is held against the list that CORS uses.

Source: ChatGLM's `websocket_api.py`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from relay.attempts import CLIENT_LEFT, Trail
from relay.engine import Engine
from relay.errors import (
    InvalidApiKey,
    InvalidRequest,
    NotPermitted,
    OriginNotAllowed,
    Overloaded,
    RelayError,
    RouteNotFound,
)
from relay.history import from_pairs
from relay.keys import Keyring
from relay.types import Call, Identity
from relay.usage import UsageInStream
from relay.web.accounts import Accounts
from relay.web.client import peer
from relay.web.cors import Origins
from relay.web.models import Models
from relay.web.recording import MAX_BYTES
from relay.web.replies import JSON, new_request_id
from relay.web.transcript import Transcript
from relay.web.users import Users

PATH = "/ws"
SUBPROTOCOL = "relay"
KEY_PREFIX = "key."
KEY_WAIT_S = 10.0
"""How long a socket may take to send its key as the first frame."""

Credential = Callable[[Keyring], Identity | Awaitable[Identity]]
"""What a socket came with: a keyring tells whose it is, or raises what it always does."""

POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
"""The close codes of a socket that may not be here, ever or now (RFC 6455, 7.4.1)."""


@dataclass(frozen=True, slots=True)
class Turns:
    """What one configuration gives to the turns of sockets."""

    engine: Engine
    models: Models
    keyring: Keyring
    origins: Origins
    users: Users
    accounts: Accounts


Latest = Callable[[], Turns]
"""Those of the configuration that holds now: a socket may be open for days, and keeps no other."""


class ChatSocket:
    """The ASGI application behind `/ws`, and behind nothing that belongs to one configuration."""

    def __init__(self, latest: Latest) -> None:
        self._latest = latest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        try:
            credential = await _check_handshake(scope, self._latest())
        except RelayError as error:
            await _refuse(send, error)
            return
        offered = SUBPROTOCOL in scope["subprotocols"]
        await socket.accept(subprotocol=SUBPROTOCOL if offered else None)
        conversation = _Conversation(socket, self._latest)
        try:
            conversation.credential = credential or await self._first_frame_key(socket)
            await conversation.run()
        except (InvalidApiKey, NotPermitted, Overloaded) as error:
            await conversation.send_error(error)
            late = isinstance(error, Overloaded)
            await socket.close(TRY_AGAIN_LATER if late else POLICY_VIOLATION)
        except WebSocketDisconnect:
            return

    async def _first_frame_key(self, socket: WebSocket) -> Credential:
        try:
            async with asyncio.timeout(KEY_WAIT_S):
                frame = await _frame(socket)
        except TimeoutError:
            raise InvalidApiKey("No API key came in time.") from None
        except InvalidRequest:
            frame = {}
        key = frame.get("key")
        if not isinstance(key, str):
            raise InvalidApiKey('An API key is needed: send {"key": "…"} as the first frame.')
        credential = _key_credential(key, socket.scope)
        await _identity(credential, self._latest().keyring)
        return credential


class _Conversation:
    """The turns of one socket: one answer at a time, while frames are still read."""

    def __init__(self, socket: WebSocket, latest: Latest) -> None:
        self.credential: Credential = _no_credential
        self._socket = socket
        self._latest = latest
        self._answer: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Take frames until the client leaves; an answer still running then is ended."""
        try:
            while True:
                try:
                    await self._take(await _frame(self._socket))
                except InvalidRequest as error:
                    await self.send_error(error)
        finally:
            await self._stop()

    async def send_error(self, error: RelayError) -> None:
        """An error frame, in the envelope's words."""
        frame = {"type": "error", "status": error.status, **_error_body(error)}
        await self._send(frame)

    async def _take(self, frame: dict[str, Any]) -> None:
        if frame.get("type") == "stop":
            if await self._stop():
                await self._send({"status": 200})
            return
        if "key" in frame and "query" not in frame:
            return  # a client may send its key although none is needed
        if self._answer is not None and not self._answer.done():
            raise InvalidRequest("An answer is still running; wait for it or stop it first.")
        query, history = _read_turn(frame)
        model = frame.get("model")
        if model is not None and not isinstance(model, str):
            raise InvalidRequest("'model' must be a string.", param="model")
        # The configuration may be another than that of the last turn, the key no longer one.
        turns = self._latest()
        identity = await _identity(self.credential, turns.keyring)
        turns.users.enter()
        self._answer = asyncio.create_task(self._reply(turns, identity, query, history, model))
        self._answer.add_done_callback(lambda _: turns.users.leave())

    async def _stop(self) -> bool:
        """End the running answer; whether there was one."""
        task, self._answer = self._answer, None
        if task is None or task.done():
            return False
        task.cancel()
        await asyncio.wait([task])
        return True

    async def _reply(
        self,
        turns: Turns,
        identity: Identity,
        query: str,
        history: list[list[str]],
        model: str | None,
    ) -> None:
        turn = Turn(identity)
        try:
            await self._answer_turn(turns, turn, query, history, model)
        except RelayError as error:
            turn.status, turn.trail.error = error.status, error.name
            await self.send_error(error)
        except (WebSocketDisconnect, asyncio.CancelledError) as exc:
            turn.status, turn.trail.error = CLIENT_LEFT, "client_left"
            if isinstance(exc, asyncio.CancelledError):
                raise
        finally:
            turn.close(turns.accounts)

    async def _answer_turn(
        self,
        turns: Turns,
        turn: "Turn",
        query: str,
        history: list[list[str]],
        model: str | None,
    ) -> None:
        messages = from_pairs(query, [(asked, said) for asked, said in history])
        model = model or await turns.models.default(turn.identity)
        payload = {"model": model, "messages": messages, "stream": True}
        call = Call(
            path="chat/completions",
            body=json.dumps(payload).encode(),
            payload=payload,
            model=model,
            stream=True,
            request_id=turn.request_id,
            identity=turn.identity,
            headers=(JSON,),
        )
        if turns.accounts.ledger.full:
            await turns.accounts.ledger.room()
        async with turns.engine.stream(call, turn.trail) as answer:
            transcript, usage = Transcript(), UsageInStream(strip=False)
            turn.said = transcript
            try:
                async for piece in answer:
                    usage.push(piece)
                    for text in transcript.read(piece):
                        await self._send(
                            {
                                "response": text,
                                "history": [*history, [query, text]],
                                "status": 202,
                            }
                        )
            finally:
                turn.trail.take_stream(usage)
            transcript.close()
        await self._send({"status": 200})

    async def _send(self, frame: dict[str, Any]) -> None:
        text = json.dumps(frame, ensure_ascii=False)
        # A lone surrogate can stand in a question (as an escape), but not in a frame.
        await self._socket.send_text(text.encode("utf-8", "replace").decode())


async def _check_handshake(scope: Scope, turns: Turns) -> Credential | None:
    """What tells who is calling; None when the key is still to come as a frame."""
    await turns.keyring.settle()
    if scope["path"] != PATH:
        raise RouteNotFound(f"There is no WebSocket at {scope['path']}.")
    headers = scope["headers"]
    origin = next((value for name, value in headers if name == b"origin"), None)
    if origin is not None and not turns.origins.allows(origin, scope):
        raise OriginNotAllowed("Pages of this origin may not call the relay.")
    credential = _credential(scope)
    if credential is not None:
        await _identity(credential, turns.keyring)
    elif not turns.keyring.guarded():
        return _no_credential
    return credential


class Turn:
    """One question and its answer: what the accounts want to know of it."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.request_id = new_request_id()
        self.trail = Trail()
        self.status = 200
        self.said: Transcript | None = None
        self._began = perf_counter()

    def close(self, accounts: Accounts) -> None:
        """It is over."""
        bodies = None
        if self.identity.keep_bodies:
            said = "" if self.said is None else self.said.text
            bodies = (self.trail.prompt[:MAX_BYTES], said.encode("utf-8", "replace")[:MAX_BYTES])
        accounts.close(
            self.trail,
            identity=self.identity,
            request_id=self.request_id,
            method="GET",
            path="/ws",
            status=self.status,
            began=self._began,
            kept=True,
            bodies=bodies,
        )


def _credential(scope: Scope) -> Credential | None:
    """The key of a handshake, where browsers and others can put it."""
    headers = scope["headers"]
    if any(name == b"authorization" for name, _ in headers):
        return lambda keyring: keyring.identify(headers, partial(peer, scope))
    for protocol in scope["subprotocols"]:
        if protocol.startswith(KEY_PREFIX):
            return _key_credential(protocol.removeprefix(KEY_PREFIX), scope)
    return None


def _key_credential(key: str, scope: MutableMapping[str, Any]) -> Credential:
    given, headers = key.encode("utf-8", "replace"), scope["headers"]
    return lambda keyring: keyring.identify_key(given, headers, partial(peer, scope))


def _no_credential(keyring: Keyring) -> Identity | Awaitable[Identity]:
    return keyring.identify(())


async def _identity(credential: Credential, keyring: Keyring) -> Identity:
    found = credential(keyring)
    return found if isinstance(found, Identity) else await found


async def _frame(socket: WebSocket) -> dict[str, Any]:
    """The next frame, a JSON object.

    Raises:
        InvalidRequest: it is none.
        WebSocketDisconnect: the client left.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    try:
        frame = json.loads(message.get("text") or message.get("bytes") or "")
    except (ValueError, RecursionError):
        raise InvalidRequest("A frame must be a JSON object.") from None
    if not isinstance(frame, dict):
        raise InvalidRequest("A frame must be a JSON object.")
    return frame


def _read_turn(frame: dict[str, Any]) -> tuple[str, list[list[str]]]:
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


def _error_body(error: RelayError) -> dict[str, Any]:
    """The envelope; an upstream's own error when it is one, else its status in our words."""
    try:
        body = json.loads(error.envelope())
        if isinstance(body["error"], dict):
            return {"error": body["error"]}
    except (ValueError, KeyError, TypeError):
        pass  # an upstream's page of HTML, say
    return json.loads(RelayError.envelope(error))  # type: ignore[no-any-return]  # our own JSON


async def _refuse(send: Send, error: RelayError) -> None:
    """Answer the handshake with an HTTP error instead of opening the socket."""
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": [JSON]})
    await send({"type": "websocket.http.response.body", "body": error.envelope()})
