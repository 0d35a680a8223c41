"""Chat completion chunks as Anthropic's events, piece by piece.

    first chunk with a choice     message_start
    reasoning_content, reasoning  a thinking block
    content, refusal              a text block
    tool_calls                    a tool_use block for each call, input_json_delta
    finish_reason, usage, [DONE]  message_delta with both, message_stop
    error, a broken stream        error

One block is open at a time, and each begins when the one before has ended. Chunks without choices
(Azure's filter results) say nothing here. A stream that ends without `[DONE]` is complete when it
told a `finish_reason`, and one with `[DONE]` in any case. Usage comes last at OpenAI's, so
message_start counts nothing yet.

Source: Claude guide, "Streaming messages"; OpenAI API reference, "Chat completion chunk object".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.dialects import failures, json_text
from relay.dialects.fields import or_empty
from relay.dialects.messages_answer import reasoning_of, stop_reason, to_messages_usage
from relay.errors import RelayError, UpstreamProtocol
from relay.sse import DONE, EventParser

_NO_USAGE = to_messages_usage({})


@dataclass(slots=True)
class _Call:
    """A tool call; `block` is its place once it has begun, `waiting` what came before that."""

    id: str = ""
    name: str = ""
    waiting: str = ""
    block: int | None = None


class MessagesStream:
    """Translates one answer; give it every piece as it comes, then `end`.

    After message_stop or an error nothing more comes out. `model` and `message_id` stand in where
    the backend tells none; `request_id` goes into an error.
    """

    def __init__(self, *, model: str, message_id: str, request_id: str = "") -> None:
        self._parser = EventParser()
        self._model = model
        self._id = message_id
        self._request_id = request_id
        self._started = False
        self._finished = False
        self._open = ""  # the type of the block that is open
        self._block = -1  # its index
        self._calls: dict[str, _Call] = {}  # the last one of each index
        self._called = False
        self._refused = False
        self._ending: Mapping[str, Any] = {}  # the choice that told a finish_reason
        self._usage: Mapping[str, Any] = {}

    @property
    def finished(self) -> bool:
        """Whether the last event, message_stop or an error, went out."""
        return self._finished

    @property
    def usage(self) -> Mapping[str, Any]:
        """What the backend told of the tokens, in its own words; empty for nothing."""
        return self._usage

    def feed(self, piece: bytes) -> bytes:
        """The events that a piece of the backend's bytes completes; often none."""
        if self._finished:
            return b""
        out: list[bytes] = []
        try:
            for data in self._parser.feed(piece):
                if data.strip() == b"[DONE]":
                    self._finish(out)
                else:
                    self._read(json_text.load_object(data), out)
                if self._finished:
                    break
        except ValueError:  # no JSON, or an event without an end
            out.append(
                self.fail(UpstreamProtocol("The upstream sent an event that cannot be read."))
            )
        return b"".join(out)

    def end(self) -> bytes:
        """What is left to say when the backend's bytes are over."""
        if self._ending:
            return self.feed(b"\n\n" + DONE)  # the last event may lack its blank line
        return self.fail(UpstreamProtocol("The upstream ended its answer before it was complete."))

    def fail(self, error: RelayError) -> bytes:
        """The event that says so, unless the answer is over."""
        if self._finished:
            return b""
        self._finished = True
        failure = failures.to_messages(error.status, error.envelope(), request_id=self._request_id)
        return _named(b"error", failure.body)

    def _read(self, chunk: Mapping[str, Any], out: list[bytes]) -> None:
        if error := chunk.get("error"):
            self._finished = True
            known = or_empty(error) or {"message": str(error)}
            body = failures.to_messages_envelope(known, request_id=self._request_id)
            out.append(_named(b"error", body))
            return
        if usage := or_empty(chunk.get("usage")):
            self._usage = usage
        choices = chunk.get("choices")
        if not (isinstance(choices, list) and choices):
            return
        choice = or_empty(choices[0])
        if choice.get("index", 0) != 0:
            return
        self._start(chunk, out)
        self._add(or_empty(choice.get("delta")), out)
        if choice.get("finish_reason"):
            self._ending = choice

    def _start(self, chunk: Mapping[str, Any], out: list[bytes]) -> None:
        if self._started:
            return
        self._started = True
        self._id = str(chunk.get("id") or self._id)
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": str(chunk.get("model") or self._model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _NO_USAGE,
        }
        out.append(_event({"type": "message_start", "message": message}))

    def _add(self, delta: Mapping[str, Any], out: list[bytes]) -> None:
        if thought := reasoning_of(delta):
            self._begin("thinking", {"thinking": "", "signature": ""}, out)
            self._delta({"type": "thinking_delta", "thinking": thought}, out)
        for block in _list(delta, "thinking_blocks"):
            self._add_signed(block, out)
        for name in ("content", "refusal"):
            words = delta.get(name)
            if isinstance(words, str) and words:
                self._refused |= name == "refusal"
                self._begin("text", {"text": ""}, out)
                self._delta({"type": "text_delta", "text": words}, out)
        for call in _list(delta, "tool_calls"):
            self._add_call(call, out)

    def _add_signed(self, block: Mapping[str, Any], out: list[bytes]) -> None:
        """The signature of the thinking that has just come, or thinking that nobody may read."""
        if block.get("type") == "redacted_thinking":
            self._begin("redacted_thinking", {"data": str(block.get("data") or "")}, out)
            self._stop(out)
        elif self._open == "thinking" and block.get("signature"):
            delta = {"type": "signature_delta", "signature": str(block["signature"])}
            self._delta(delta, out)
            self._stop(out)

    def _add_call(self, delta: Mapping[str, Any], out: list[bytes]) -> None:
        index, id_ = str(delta.get("index") or 0), str(delta.get("id") or "")
        call = self._calls.get(index)
        # Some servers give every call the same index; a new id tells them apart.
        if call is None or (id_ and call.id and id_ != call.id):
            call = self._calls[index] = _Call()
        function = or_empty(delta.get("function"))
        call.id = call.id or id_
        call.name = call.name or str(function.get("name") or "")
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = json_text.dump(arguments).decode()
        call.waiting += arguments
        if call.block is None:
            self._begin_call(call, out)
        if call.block is None or not call.waiting:
            return
        if call.block != self._block or self._open != "tool_use":
            raise ValueError("a call goes on after another block has begun")
        self._delta({"type": "input_json_delta", "partial_json": call.waiting}, out)
        call.waiting = ""

    def _begin_call(self, call: _Call, out: list[bytes]) -> None:
        if not call.name:
            return
        self._stop(out)
        call.block = self._block + 1
        call.id = call.id or f"{self._id}_{call.block}"
        self._called = True
        self._begin("tool_use", {"id": call.id, "name": call.name, "input": {}}, out)

    def _finish(self, out: list[bytes]) -> None:
        if any(call.block is None for call in self._calls.values()):
            raise ValueError("a call has no name")
        self._start({}, out)
        self._stop(out)
        reason, sequence = stop_reason(self._ending, calling=self._called, refusing=self._refused)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        usage = to_messages_usage(self._usage)
        out.append(_event({"type": "message_delta", "delta": delta, "usage": usage}))
        out.append(_event({"type": "message_stop"}))
        self._finished = True

    def _begin(self, kind: str, fields: Mapping[str, Any], out: list[bytes]) -> None:
        """Open a block of that type, unless one is open."""
        if self._open == kind:
            return
        self._stop(out)
        self._open = kind
        self._block += 1
        block = {"type": kind, **fields}
        out.append(
            _event({"type": "content_block_start", "index": self._block, "content_block": block})
        )

    def _delta(self, delta: Mapping[str, Any], out: list[bytes]) -> None:
        out.append(_event({"type": "content_block_delta", "index": self._block, "delta": delta}))

    def _stop(self, out: list[bytes]) -> None:
        if self._open:
            self._open = ""
            out.append(_event({"type": "content_block_stop", "index": self._block}))


def _list(delta: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    values = delta.get(name)
    return [or_empty(value) for value in values] if isinstance(values, list) else []


def _event(data: Mapping[str, Any]) -> bytes:
    return _named(str(data["type"]).encode(), json_text.dump(data))


def _named(name: bytes, data: bytes) -> bytes:
    return b"event: " + name + b"\ndata: " + data + b"\n\n"
