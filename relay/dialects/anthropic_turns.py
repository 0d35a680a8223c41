"""The messages of a chat request as Anthropic's: system prompt apart, roles in turns, blocks.

    system, developer   blocks of `system`, from wherever they stand
    user                text, images and documents
    assistant           thinking (when the client kept it), text, `tool_use`
    tool, function      `tool_result`, in the user's turn and in front of its text

Neighbours of one role become one turn. Blank texts are left out, since Anthropic refuses them, and
so is a message of which nothing remains. A conversation that the assistant begins gets `…` for a
question. The `name` of a message has no counterpart. A part of a type that OpenAI does not have
travels as it is: it is meant for the model.

Source: Claude API reference, "Messages"; guides "Vision", "PDF support", "Tool use".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.dialects import json_text
from relay.dialects.fields import array, mapping, text, unfit

Block = dict[str, Any]

NO_QUESTION = "…"
"""Stands for the question of an answer that nobody asked for."""
INVALID_JSON = "INVALID_JSON"
"""The name under which arguments that are no JSON object travel as one.

Source: Claude guide, "Fine-grained tool streaming".
"""

_ID = re.compile(r"[^a-zA-Z0-9_-]")
_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),(.*)", re.DOTALL)
_THINKING = ("thinking", "redacted_thinking")
_PDF = "application/pdf"


@dataclass(slots=True)
class Conversation:
    """What Anthropic is sent of the messages."""

    system: list[Block] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)

    def add(self, role: str, blocks: list[Block]) -> None:
        """Continue the turn of that role, or begin one."""
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    @property
    def waits_for_thinking(self) -> bool:
        """Whether the last answer called tools without the thinking that led to it.

        Anthropic refuses to go on thinking then.
        """
        answers = [turn["content"] for turn in self.turns if turn["role"] == "assistant"]
        if not answers:
            return False
        kinds = [block.get("type") for block in answers[-1]]
        return "tool_use" in kinds and kinds[0] not in _THINKING


def read_turns(messages: Any) -> Conversation:
    """The conversation that chat messages hold.

    Raises:
        InvalidRequest: a message is malformed or holds what Anthropic cannot take (audio, a file
            by its id); `param` names it.
    """
    conversation = Conversation()
    for index, given in enumerate(array(messages, "messages")):
        at = f"messages[{index}]"
        message = mapping(given, at)
        role = message.get("role")
        reader = _READERS.get(role) if isinstance(role, str) else None
        if reader is None:
            raise unfit(f"{at}.role", "must be system, developer, user, assistant or tool")
        reader(conversation, message, at)
    if not conversation.turns:
        raise unfit("messages", "must hold a message with content that is not blank")
    if conversation.turns[0]["role"] == "assistant":
        conversation.turns.insert(0, {"role": "user", "content": [_text_block(NO_QUESTION)]})
    for turn in conversation.turns:
        # A stable sort: only the results of tools move, in front of what the user says.
        turn["content"].sort(key=lambda block: block.get("type") != "tool_result")
    return conversation


def tool_input(arguments: Any, param: str) -> dict[str, Any]:
    """The arguments of a tool call as an object, whatever the model wrote."""
    if isinstance(arguments, dict):
        return arguments
    written = text(arguments if arguments is not None else "", param)
    if not written.strip():
        return {}
    try:
        return json_text.load_object(written)
    except ValueError:
        return {INVALID_JSON: written}


def _read_system(conversation: Conversation, message: Mapping[str, Any], at: str) -> None:
    conversation.system += _content(message, at)


def _read_user(conversation: Conversation, message: Mapping[str, Any], at: str) -> None:
    conversation.add("user", _content(message, at))


def _read_assistant(conversation: Conversation, message: Mapping[str, Any], at: str) -> None:
    if message.get("audio"):
        raise unfit(f"{at}.audio", "cannot be translated to Anthropic's format")
    blocks = _thinking(message.get("thinking_blocks"), f"{at}.thinking_blocks")
    blocks += _content(message, at)
    if isinstance(refusal := message.get("refusal"), str) and refusal.strip():
        blocks.append(_text_block(refusal))
    for number, call in enumerate(array(message.get("tool_calls") or [], f"{at}.tool_calls")):
        blocks.append(_tool_use(mapping(call, f"{at}.tool_calls[{number}]"), at, number))
    if legacy := message.get("function_call"):
        legacy = mapping(legacy, f"{at}.function_call")
        blocks.append(_use(_legacy_id(legacy, at), legacy, f"{at}.function_call"))
    conversation.add("assistant", blocks)


def _read_tool(conversation: Conversation, message: Mapping[str, Any], at: str) -> None:
    id_ = text(message.get("tool_call_id"), f"{at}.tool_call_id")
    conversation.add("user", [_tool_result(_safe_id(id_), message, at)])


def _read_function(conversation: Conversation, message: Mapping[str, Any], at: str) -> None:
    conversation.add("user", [_tool_result(_legacy_id(message, at), message, at)])


_READERS: Mapping[str, Callable[[Conversation, Mapping[str, Any], str], None]] = {
    "system": _read_system,
    "developer": _read_system,
    "user": _read_user,
    "assistant": _read_assistant,
    "tool": _read_tool,
    "function": _read_function,
}


def _tool_use(call: Mapping[str, Any], at: str, number: int) -> Block:
    at = f"{at}.tool_calls[{number}]"
    if call.get("type", "function") != "function":
        raise unfit(f"{at}.type", "must be 'function': Anthropic knows no other calls")
    id_ = _safe_id(text(call.get("id"), f"{at}.id"))
    return _use(id_, mapping(call.get("function"), f"{at}.function"), f"{at}.function")


def _use(id_: str, function: Mapping[str, Any], at: str) -> Block:
    return {
        "type": "tool_use",
        "id": id_,
        "name": text(function.get("name"), f"{at}.name"),
        "input": tool_input(function.get("arguments"), f"{at}.arguments"),
    }


def _tool_result(id_: str, message: Mapping[str, Any], at: str) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": id_}
    if content := _content(message, at):
        block["content"] = content
    return block


def _safe_id(id_: str) -> str:
    """The id of a call as Anthropic takes it; other servers also write dots and colons."""
    return _ID.sub("_", id_)


def _legacy_id(named: Mapping[str, Any], at: str) -> str:
    """Calls of `functions` have no id; the function's name tells which answer is whose."""
    return _safe_id("function_" + text(named.get("name"), f"{at}.name"))


def _text_block(words: str) -> Block:
    return {"type": "text", "text": words}


def _content(message: Mapping[str, Any], at: str) -> list[Block]:
    """The blocks of a message's content, without the blank ones."""
    content = message.get("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [_text_block(content)] if content.strip() else []
    blocks = []
    for number, part in enumerate(array(content, f"{at}.content")):
        at_part = f"{at}.content[{number}]"
        block = _block(mapping(part, at_part), at_part)
        if block.get("type") != "text" or text(block.get("text"), f"{at_part}.text").strip():
            blocks.append(block)
    return blocks


def _block(part: Mapping[str, Any], at: str) -> Block:
    """A part as a block; fields that OpenAI's part does not have (`cache_control`) stay."""
    kind = part.get("type")
    if kind == "refusal":
        return _text_block(text(part.get("refusal"), f"{at}.refusal"))
    if kind == "input_audio":
        raise unfit(at, "is audio, which cannot be translated to Anthropic's format")
    if kind == "image_url":
        rest = {name: part[name] for name in part if name not in ("type", "image_url")}
        return {"type": "image", "source": _image(part.get("image_url"), f"{at}.image_url"), **rest}
    if kind == "file":
        rest = {name: part[name] for name in part if name not in ("type", "file")}
        return {**_document(mapping(part.get("file"), f"{at}.file"), f"{at}.file"), **rest}
    return dict(part)


def _thinking(given: Any, at: str) -> list[Block]:
    """Thinking that the client got with an answer and sends back; a stream's has an `index`."""
    return [
        {name: value for name, value in mapping(block, at).items() if name != "index"}
        for block in array(given or [], at)
    ]


def _image(given: Any, at: str) -> Block:
    """The source of an image: a `data:` URL becomes its bytes, any other is fetched there."""
    url = given if isinstance(given, str) else mapping(given, at).get("url")
    at = at if isinstance(given, str) else f"{at}.url"
    url = text(url, at)
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    return _base64(url, at)


def _document(file: Mapping[str, Any], at: str) -> Block:
    source = _base64(text(file.get("file_data"), f"{at}.file_data"), f"{at}.file_data")
    if source["media_type"] != _PDF:
        raise unfit(f"{at}.file_data", f"must be a data: URL of {_PDF}")
    block: Block = {"type": "document", "source": source}
    if isinstance(name := file.get("filename"), str):
        block["title"] = name
    return block


def _base64(url: str, at: str) -> Block:
    found = _DATA_URL.fullmatch(url)
    if found is None or ";base64" not in found[2]:
        raise unfit(at, "must be an http(s): or a base64 data: URL")
    return {"type": "base64", "media_type": found[1] or "text/plain", "data": found[3]}
