"""The conversation: what a strict model can take, without losing a word of it.

    apply               the message list a target gets under a policy; None when it stays as it is
    plan                the same as steps: which messages stay, and what stands in for the others
    split_system        the system prompt apart from the turns
    system_in_queries   role messages for a model without a system role
    to_pairs            ChatGLM's form: the query, and (question, answer) pairs
    from_pairs          the other way

Everything here works on parsed JSON and leaves it alone: results are new lists of new dicts, which
share their nested values with the input. A key nobody knows is kept.

Source: the history rules of ChatGLM's OpenAI-format server, which drops what does not alternate;
here neighbours of one role are merged instead.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from relay.errors import InvalidRequest

Policy = Literal["normalize", "reject", "passthrough"]
Messages = Sequence[Mapping[str, Any]]

BLANK_LINE = "\n\n"

_SYSTEM = ("system", "developer")
_MERGED = (*_SYSTEM, "user", "assistant")
_NEVER_MERGED = ("tool_calls", "function_call", "tool_call_id", "audio", "refusal")


def apply(messages: Messages, policy: Policy) -> list[dict[str, Any]] | None:
    """The messages a target should get, or None when they may go as they came.

    Raises:
        InvalidRequest: as `plan`.
    """
    planned = plan(messages, policy)
    if planned is None:
        return None
    return [dict(messages[step]) if isinstance(step, int) else step for step in planned]


def plan(messages: Messages, policy: Policy) -> list[int | dict[str, Any]] | None:
    """What `apply` does, told apart: the index of a message that stays, or the one in its place.

    `normalize` merges neighbours of one role with a blank line between, and puts an empty question
    in front of a conversation that the assistant begins; `reject` refuses both; `passthrough` looks
    at nothing. Applied to its own result it returns None.

    Raises:
        InvalidRequest: the last message is neither the user's nor the answer to an earlier tool
            call; or, under `reject`, the turns do not alternate (`param` names the message).
    """
    if policy == "passthrough":
        return None
    if not (messages and _asks(messages)):
        raise InvalidRequest(
            "The last message must come from the user, or be a tool message that answers "
            "a tool call of an earlier assistant message.",
            param="messages",
        )
    if _alternates(messages):
        return None
    start = _leading(messages)
    begins_with_answer = messages[start].get("role") == "assistant"
    continuing = {i for i in range(1, len(messages)) if _mergeable(messages[i - 1], messages[i])}
    if not continuing and not begins_with_answer:
        return None
    if policy == "reject":
        raise _refusal(min(continuing, default=start), begins_with_answer, start)
    groups: list[list[int]] = []
    for index in range(len(messages)):
        if index in continuing:
            groups[-1].append(index)
        else:
            groups.append([index])
    steps: list[int | dict[str, Any]] = [
        group[0] if len(group) == 1 else _merged([messages[i] for i in group]) for group in groups
    ]
    if begins_with_answer:
        before = next(i for i, group in enumerate(groups) if group[0] == start)
        steps.insert(before, {"role": "user", "content": ""})
    return steps


def split_system(messages: Messages) -> tuple[str | None, list[dict[str, Any]]]:
    """The text of the leading system and developer messages (None without any), and the rest."""
    start = _leading(messages)
    rest = [dict(message) for message in messages[start:]]
    if not start:
        return None, rest
    return _paragraphs(text_of(message.get("content")) for message in messages[:start]), rest


def system_in_queries(messages: Messages) -> list[dict[str, Any]]:
    """The messages for a model without a system role: the prompt in front of every user message.

    A system message in mid-conversation goes in front of the next user message. Where there is no
    user message to take it, the text becomes one.
    """
    prompt, rest = split_system(messages)
    result: list[dict[str, Any]] = []
    waiting: list[Any] = []
    for message in rest:
        role = message.get("role")
        if role in _SYSTEM:
            waiting.append(message.get("content"))
            continue
        if role == "user" and (prompt or waiting):
            message["content"] = _joined([prompt, *waiting, message.get("content")])
            waiting = []
        result.append(message)
    if prompt and not any(message.get("role") == "user" for message in result):
        result.insert(0, {"role": "user", "content": prompt})
    if waiting:
        result.append({"role": "user", "content": _joined(waiting)})
    return result


def to_pairs(messages: Messages) -> tuple[str, list[tuple[str, str]]]:
    """The query and the (question, answer) pairs of a conversation, all of it as text.

    What the assistant says is an answer, tool calls included (as JSON); everything else is asked:
    tool answers, and system messages in mid-conversation. Questions without an answer are merged
    with the next. The system prompt stands in front of every question but an empty one, which is
    what an answer gets that nobody asked for.
    """
    prompt, rest = split_system(messages)
    history: list[tuple[str, str]] = []
    asked: list[str] = []
    answered: list[str] = []

    def end_turn() -> None:
        question = _paragraphs(asked)
        if question and prompt:
            question = prompt + BLANK_LINE + question
        history.append((question, _paragraphs(answered)))
        asked.clear()
        answered.clear()

    for message in rest:
        if message.get("role") == "assistant":
            answered.append(_said(message))
            continue
        if answered:
            end_turn()
        asked.append(_said(message))
    if answered:
        end_turn()
    return _paragraphs([prompt or "", *asked]), history


def from_pairs(query: str, history: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """The conversation that a query and its (question, answer) pairs stand for."""
    messages: list[dict[str, Any]] = []
    for question, answer in history:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    messages.append({"role": "user", "content": query})
    return messages


def text_of(content: Any) -> str:
    """The text of a message's content; a part that is no text becomes its type: `[image_url]`."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of_part(part) for part in content)
    return _json(content)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return _json(part)
    for key in ("text", "refusal"):
        text = part.get(key)
        if isinstance(text, str):
            return text
    kind = part.get("type")
    return f"[{kind}]" if isinstance(kind, str) else _json(part)


def _said(message: Mapping[str, Any]) -> str:
    said = [text_of(message.get("content"))]
    if isinstance(refusal := message.get("refusal"), str):
        said.append(refusal)
    if message.get("audio"):
        said.append("[audio]")
    if isinstance(calls := message.get("tool_calls"), list):
        said += [_json(call) for call in calls]
    if call := message.get("function_call"):
        said.append(_json(call))
    return _paragraphs(said)


def _paragraphs(texts: Iterable[str]) -> str:
    return BLANK_LINE.join(text for text in texts if text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _leading(messages: Messages) -> int:
    """How many messages stand before the first that is no system prompt."""
    for index, message in enumerate(messages):
        if message.get("role") not in _SYSTEM:
            return index
    return len(messages)


def _alternates(messages: Messages) -> bool:
    """Whether nothing needs a closer look: no neighbours of one role, and the user begins."""
    previous = None
    for message in messages:
        role = message.get("role")
        if role == previous or (role == "assistant" and (previous is None or previous in _SYSTEM)):
            return False
        previous = role
    return True


def _asks(messages: Messages) -> bool:
    """Whether it is the assistant's turn."""
    last = messages[-1]
    role = last.get("role")
    if role == "user":
        return True
    answers = [message for message in messages[:-1] if message.get("role") == "assistant"]
    if role == "tool":
        return last.get("tool_call_id") in [id_ for answer in answers for id_ in _call_ids(answer)]
    if role == "function":
        calls = [answer.get("function_call") for answer in answers]
        names = [call["name"] for call in calls if isinstance(call, Mapping) and "name" in call]
        return last.get("name") in names
    return False


def _call_ids(answer: Mapping[str, Any]) -> list[Any]:
    calls = answer.get("tool_calls")
    if not isinstance(calls, list):
        return []
    return [call["id"] for call in calls if isinstance(call, Mapping) and "id" in call]


def _refusal(second: int, begins_with_answer: bool, start: int) -> InvalidRequest:
    if begins_with_answer and start <= second:
        return InvalidRequest(
            f"messages[{start}] is from the assistant, but a conversation begins with the user: "
            "put a user message before it.",
            param=f"messages[{start}]",
        )
    return InvalidRequest(
        f"messages[{second}] has the same role as the message before it, but turns must alternate: "
        "merge the two into one message.",
        param=f"messages[{second}]",
    )


def _mergeable(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    role = second.get("role")
    if first.get("role") != role or role not in _MERGED:
        return False
    if not (_joinable(first.get("content")) and _joinable(second.get("content"))):
        return False
    try:
        extras = _extras(first)
        return extras == _extras(second) and extras.keys().isdisjoint(_NEVER_MERGED)
    except RecursionError:  # values nested so deeply that Python cannot compare them
        return False


def _joinable(content: Any) -> bool:
    return content is None or isinstance(content, (str, list))


def _extras(message: Mapping[str, Any]) -> dict[str, Any]:
    """What a message holds besides its text; null and `[]` say nothing (SDKs write them out)."""
    return {
        key: value
        for key, value in message.items()
        if key not in ("role", "content") and value is not None and value != []
    }


def _merged(group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged = dict(group[0])
    for message in group[1:]:
        for key, value in message.items():
            merged.setdefault(key, value)
    if "content" in merged:
        merged["content"] = _joined([message.get("content") for message in group])
    return merged


def _joined(contents: Sequence[Any]) -> Any:
    """Contents as one, a blank line between each: text as long as all is text, else parts."""
    known: list[Any] = [
        c if isinstance(c, (str, list)) else text_of(c) for c in contents if c is not None
    ]
    kept = [content for content in known if content]
    if not kept:
        return known[0] if known else None
    if all(isinstance(content, str) for content in kept):
        return BLANK_LINE.join(kept)
    parts: list[Any] = []
    # A run of strings is one text part, which carries the blank lines towards its neighbours.
    runs = [(is_text, list(run)) for is_text, run in groupby(kept, lambda c: isinstance(c, str))]
    for position, (is_text, run) in enumerate(runs):
        if is_text:
            before = BLANK_LINE if position else ""
            after = BLANK_LINE if position < len(runs) - 1 else ""
            parts.append(_text_part(before + BLANK_LINE.join(run) + after))
            continue
        for index, content in enumerate(run):
            if index and _is_text(parts[-1]) and _is_text(content[0]):
                parts.append(_text_part(BLANK_LINE))
            parts += content
    return parts


def _text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text"
