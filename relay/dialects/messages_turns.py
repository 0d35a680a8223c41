"""The messages of an Anthropic request as chat messages.

    user text, images, documents     a user message; plain text stays plain
    tool_result                      a tool message, in front of what the user says with it; its
                                     images follow in the user message, where OpenAI takes them
    assistant text, tool_use         an assistant message with tool_calls
    thinking                         reasoning_content when the backend wants it, else left out
    system in mid-conversation       a system message

`is_error` has no counterpart, so the result begins with `Error: `. `cache_control` and citations
are left out. What OpenAI's format cannot hold (results of tools that ran at Anthropic, files by
their id) is refused.

Source: Claude API reference, "Messages"; OpenAI API reference, "Create chat completion".
"""

from collections.abc import Mapping
from typing import Any

from relay.dialects import json_text
from relay.dialects.fields import array, mapping, text, unfit
from relay.errors import InvalidRequest

ChatMessage = dict[str, Any]
Part = dict[str, Any]

ERROR_MARK = "Error: "
_PARAGRAPH = "\n\n"
_LEFT_OUT = ("redacted_thinking",)


def read_system(system: Any) -> list[ChatMessage]:
    """The system prompt, a string or blocks of text, as a message; none when it is blank.

    Raises:
        InvalidRequest: it is something else.
    """
    words = _joined_text(system, "system") if system else ""
    return [{"role": "system", "content": words}] if words else []


def read_messages(messages: Any, *, keep_thinking: bool) -> list[ChatMessage]:
    """The chat messages that stand for Anthropic's.

    Raises:
        InvalidRequest: a message is malformed or holds what OpenAI's format cannot; `param` names
            it.
    """
    result: list[ChatMessage] = []
    for index, given in enumerate(array(messages, "messages")):
        at = f"messages[{index}]"
        message = mapping(given, at)
        role, content = message.get("role"), message.get("content")
        at_content = f"{at}.content"
        if role == "user":
            result += _user(content, at_content)
        elif role == "assistant":
            result.append(_assistant(content, at_content, keep_thinking=keep_thinking))
        elif role == "system":
            result.append({"role": "system", "content": _joined_text(content, at_content)})
        else:
            raise unfit(f"{at}.role", "must be user or assistant")
    if not result:
        raise unfit("messages", "must hold a message")
    return result


def _user(content: Any, at: str) -> list[ChatMessage]:
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[ChatMessage] = []
    shown: list[Part] = []  # what tools gave besides text
    said: list[Part] = []
    for at_block, block in _blocks(content, at):
        if block.get("type") != "tool_result":
            said.append(_part(block, at_block))
            continue
        result, more = _tool_result(block, at_block)
        results.append(result)
        shown += more
    said = shown + said
    if not said:
        return results
    return [*results, {"role": "user", "content": _plain(said)}]


def _plain(parts: list[Part]) -> str | list[Part]:
    """The one text that many backends take as a string only; else the parts."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _tool_result(block: Mapping[str, Any], at: str) -> tuple[ChatMessage, list[Part]]:
    """The tool message, and what of its content is no text."""
    id_ = text(block.get("tool_use_id"), f"{at}.tool_use_id")
    content = block.get("content") or ""
    more: list[Part] = []
    if isinstance(content, str):
        words = content
    else:
        parts = [_part(inner, at_inner) for at_inner, inner in _blocks(content, f"{at}.content")]
        words = "".join(part["text"] for part in parts if part["type"] == "text")
        more = [part for part in parts if part["type"] != "text"]
    if block.get("is_error"):
        words = ERROR_MARK + words
    return {"role": "tool", "tool_call_id": id_, "content": words}, more


def _assistant(content: Any, at: str, *, keep_thinking: bool) -> ChatMessage:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for at_block, block in _blocks(content, at):
        kind = block.get("type")
        if kind == "text":
            texts.append(text(block.get("text"), f"{at_block}.text"))
        elif kind == "thinking":
            thoughts.append(text(block.get("thinking"), f"{at_block}.thinking"))
        elif kind == "tool_use":
            calls.append(_tool_call(block, at_block))
        elif kind not in _LEFT_OUT:
            raise _unknown(kind, at_block)
    message: ChatMessage = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
    }
    if thoughts and keep_thinking:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _tool_call(block: Mapping[str, Any], at: str) -> dict[str, Any]:
    given = mapping(block.get("input"), f"{at}.input")
    try:
        arguments = json_text.dump(given).decode()
    except ValueError as exc:
        raise unfit(f"{at}.input", "is nested too deeply") from exc
    return {
        "id": text(block.get("id"), f"{at}.id"),
        "type": "function",
        "function": {
            "name": text(block.get("name"), f"{at}.name"),
            "arguments": arguments,
        },
    }


def _part(block: Mapping[str, Any], at: str) -> Part:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": text(block.get("text"), f"{at}.text")}
    if kind == "image":
        url = _url(mapping(block.get("source"), f"{at}.source"), f"{at}.source")
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "document":
        return _document(block, at)
    if kind == "search_result":
        words = _joined_text(block.get("content"), f"{at}.content")
        about = [str(block[name]) for name in ("title", "source") if block.get(name)]
        return {"type": "text", "text": _PARAGRAPH.join([*about, words])}
    raise _unknown(kind, at)


def _document(block: Mapping[str, Any], at: str) -> Part:
    source = mapping(block.get("source"), f"{at}.source")
    title = block.get("title")
    kind = source.get("type")
    if kind == "base64":
        name = title if isinstance(title, str) else "document.pdf"
        file = {"filename": name, "file_data": _url(source, f"{at}.source")}
        return {"type": "file", "file": file}
    if kind == "text":
        words = text(source.get("data"), f"{at}.source.data")
    elif kind == "content":
        words = _joined_text(source.get("content"), f"{at}.source.content")
    else:
        raise unfit(f"{at}.source.type", "must be base64, text or content: no other can be sent on")
    return {"type": "text", "text": _PARAGRAPH.join(filter(None, (title, words)))}


def _url(source: Mapping[str, Any], at: str) -> str:
    kind = source.get("type")
    if kind == "url":
        return text(source.get("url"), f"{at}.url")
    if kind == "base64":
        media_type = text(source.get("media_type"), f"{at}.media_type")
        return f"data:{media_type};base64,{text(source.get('data'), f'{at}.data')}"
    raise unfit(f"{at}.type", "must be base64 or url: no other can be sent on")


def _joined_text(content: Any, at: str) -> str:
    if isinstance(content, str):
        return content
    texts = [
        text(block.get("text"), f"{at_block}.text") for at_block, block in _blocks(content, at)
    ]
    return _PARAGRAPH.join(texts)


def _blocks(content: Any, at: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The blocks of a content, each with its path."""
    places = [(f"{at}[{number}]", block) for number, block in enumerate(array(content, at))]
    return [(place, mapping(block, place)) for place, block in places]


def _unknown(kind: Any, at: str) -> InvalidRequest:
    return unfit(f"{at}.type", f"cannot be '{kind}' here: this model does not know such blocks")
