"""Anthropic's events as chat completion chunks, piece by piece.

    message_start             the role
    text_delta                content
    citations_delta           annotations, at the end of the block that they belong to
    thinking_delta            reasoning_content; a signed block also whole, in thinking_blocks
    tool_use, its deltas      tool_calls: id and name, then arguments
    message_delta, _stop      finish_reason, usage when it is asked for, `[DONE]`
    ping                      a comment
    error                     OpenAI's error, and no `[DONE]`

Events, blocks and deltas that nobody knows are skipped, as Anthropic asks of its clients.

Source: Claude guide, "Streaming messages"; OpenAI API reference, "Chat completion chunk object".
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from relay.dialects import failures, json_text
from relay.dialects.anthropic_answer import finish_reason, to_chat_usage
from relay.dialects.citations import to_notes
from relay.dialects.fields import or_empty
from relay.errors import RelayError, UpstreamProtocol
from relay.sse import DONE, EventParser, comment, event

_PING = comment("ping")


class AnthropicStream:
    """Translates one answer; give it every piece as it comes, then `end`.

    After `[DONE]` or an error nothing more comes out; `error` is the upstream's own, if it sent
    one. `created` is Unix time in seconds.
    """

    def __init__(self, *, created: int, include_usage: bool = False) -> None:
        self.error: Mapping[str, Any] | None = None
        self._parser = EventParser()
        self._include_usage = include_usage
        self._head: dict[str, Any] = {
            "id": "",
            "object": "chat.completion.chunk",
            "created": created,
            "model": "",
        }
        self._usage: dict[str, Any] = {}
        self._stop_reason: Any = None
        self._block: dict[str, Any] = {}  # the block that is open, as it began
        self._thought: list[str] = []  # what it holds, when it is thinking
        self._signature = ""
        self._blocks_kept = 0  # thinking blocks given to the client so far
        self._written = self._block_at = 0  # characters of content, and before the open block
        self._cited: list[Any] = []  # in the open block
        self._notes: Counter[str] = Counter()  # annotations given to the client so far
        self._calls = 0
        self._arguments_sent = False
        self._finished = False
        self._readers: dict[str, Callable[[Mapping[str, Any]], bytes]] = {
            "message_start": self._begin,
            "content_block_start": self._begin_block,
            "content_block_delta": self._continue_block,
            "content_block_stop": self._end_block,
            "message_delta": self._note_ending,
            "message_stop": self._finish,
            "ping": lambda _: _PING,
            "error": self._break,
        }

    @property
    def finished(self) -> bool:
        """Whether the last event, `[DONE]` or an error, went out."""
        return self._finished

    def feed(self, piece: bytes) -> bytes:
        """The chunks that a piece of the upstream's bytes completes; often none."""
        if self._finished:
            return b""
        out = bytearray()
        try:
            for data in self._parser.feed(piece):
                read = json_text.load_object(data)
                reader = self._readers.get(str(read.get("type")))
                if reader is not None:
                    out += reader(read)
                if self._finished:
                    break
        except ValueError:  # no JSON, or an event without an end
            out += self.fail(UpstreamProtocol("The upstream sent an event that cannot be read."))
        return bytes(out)

    def end(self) -> bytes:
        """What is left to say when the upstream's bytes are over: an error, or nothing."""
        return self.fail(UpstreamProtocol("The upstream ended its answer before it was complete."))

    def fail(self, error: RelayError) -> bytes:
        """The event that says so, unless the answer is over."""
        if self._finished:
            return b""
        self._finished = True
        return event(error.envelope())

    def _begin(self, read: Mapping[str, Any]) -> bytes:
        message = or_empty(read.get("message"))
        self._head["id"] = str(message.get("id") or "")
        self._head["model"] = str(message.get("model") or "")
        self._usage.update(or_empty(message.get("usage")))
        return self._delta({"role": "assistant", "content": ""})

    def _begin_block(self, read: Mapping[str, Any]) -> bytes:
        block = dict(or_empty(read.get("content_block")))
        self._block = block
        self._arguments_sent = False
        self._thought, self._signature = [], str(block.get("signature") or "")
        self._cited, self._block_at = [], self._written
        if block.get("type") == "text":
            return self._text("content", block.get("text"))
        if block.get("type") == "thinking":
            return self._think(block.get("thinking"))
        if block.get("type") == "redacted_thinking":
            return self._keep(block)
        if block.get("type") != "tool_use":
            return b""
        self._calls += 1
        call = {
            "id": str(block.get("id") or ""),
            "type": "function",
            "function": {"name": str(block.get("name") or ""), "arguments": ""},
        }
        return self._call(call)

    def _continue_block(self, read: Mapping[str, Any]) -> bytes:
        delta = or_empty(read.get("delta"))
        kind = delta.get("type")
        if kind == "text_delta":
            return self._text("content", delta.get("text"))
        if kind == "thinking_delta":
            return self._think(delta.get("thinking"))
        if kind == "citations_delta":
            self._cited.append(delta.get("citation"))
        if kind == "signature_delta":
            self._signature = str(delta.get("signature") or "")
        if kind == "input_json_delta" and self._block.get("type") == "tool_use":
            return self._arguments(delta.get("partial_json"))
        return b""

    def _end_block(self, _: Mapping[str, Any]) -> bytes:
        block, self._block = self._block, {}
        if self._cited:
            return self._annotate()
        if block.get("type") == "thinking" and self._signature:
            thought = "".join(self._thought)
            return self._keep(
                {"type": "thinking", "thinking": thought, "signature": self._signature}
            )
        if block.get("type") == "tool_use" and not self._arguments_sent:
            # A call without arguments has no deltas, and clients parse what they were given.
            return self._arguments(json_text.dump(or_empty(block.get("input"))).decode())
        return b""

    def _note_ending(self, read: Mapping[str, Any]) -> bytes:
        self._stop_reason = or_empty(read.get("delta")).get("stop_reason") or self._stop_reason
        usage = or_empty(read.get("usage"))
        self._usage.update({name: count for name, count in usage.items() if count is not None})
        return b""

    def _finish(self, _: Mapping[str, Any]) -> bytes:
        out = self._chunk([_choice({}, finish_reason(self._stop_reason))])
        if self._include_usage:
            out += self._chunk([], usage=to_chat_usage(self._usage))
        self._finished = True
        return out + DONE

    def _break(self, read: Mapping[str, Any]) -> bytes:
        self._finished = True
        self.error = or_empty(read.get("error"))
        return event(failures.to_chat_envelope(self.error))

    def _think(self, thought: Any) -> bytes:
        if isinstance(thought, str):
            self._thought.append(thought)
        return self._text("reasoning_content", thought)

    def _annotate(self) -> bytes:
        delta: dict[str, list[Any]] = {}
        for member, note in to_notes(self._cited, self._block_at, self._written):
            delta.setdefault(member, []).append({"index": self._notes[member], **note})
            self._notes[member] += 1
        return self._delta(delta) if delta else b""

    def _keep(self, block: Mapping[str, Any]) -> bytes:
        kept = {"index": self._blocks_kept, **block}  # SDKs put deltas together by their index
        self._blocks_kept += 1
        return self._delta({"thinking_blocks": [kept]})

    def _arguments(self, written: Any) -> bytes:
        if not isinstance(written, str) or not written:
            return b""
        self._arguments_sent = True
        return self._call({"function": {"arguments": written}})

    def _call(self, call: dict[str, Any]) -> bytes:
        return self._delta({"tool_calls": [{"index": self._calls - 1, **call}]})

    def _text(self, name: str, words: Any) -> bytes:
        if not isinstance(words, str) or not words:
            return b""
        if name == "content":
            self._written += len(words)
        return self._delta({name: words})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return self._chunk([_choice(delta, None)])

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event(json_text.dump({**self._head, "choices": choices, **more}))


def _choice(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
