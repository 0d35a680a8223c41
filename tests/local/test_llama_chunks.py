"""The engine's chunks, as it sends them, and the parts they become."""

from typing import Any

import pytest

from local.calls import chat_call
from relay.errors import BackendError, InvalidRequest
from relay.local.chunks import ChatForm, StreamChoice, Text
from relay.local.llama_chunks import ChunkReader
from relay.local.llama_request import Ask
from relay.schema import read_chat_request

ASK = Ask({})


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


async def test_calls_that_the_engine_makes_itself_are_put_together() -> None:
    """As llama.cpp streams them for models whose template has tools; the small one has not."""
    reader = ChunkReader()
    opened = {"index": 0, "id": "a", "type": "function"}
    sent = [
        chunk({"role": "assistant", "content": None}),
        chunk({"tool_calls": [{**opened, "function": {"name": "f", "arguments": "{"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"x":1}'}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g"}}]}),
        chunk({"reasoning_content": "hm"}),
        chunk({}, "tool_calls"),
    ]

    async def parts() -> Any:
        for one in sent:
            for part in reader.read(one, ASK):
                yield part

    completion = await ChatForm(read_chat_request(chat_call().payload)).collect(parts())
    assert (
        b'"message":{"role":"assistant","content":null,'
        b'"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\\"x\\":1}"}},'
        b'{"id":"b","function":{"name":"g"}}],"reasoning_content":"hm"},'
        b'"finish_reason":"tool_calls"' in completion.body
    )
    assert b"usage" not in completion.body


def test_a_failure_of_the_engine_is_no_fault_of_the_request() -> None:
    error = {"code": 500, "message": "decode failed: the prompt", "type": "server_error"}
    with pytest.raises(BackendError) as failed:
        list(ChunkReader().read({"error": error}, ASK))
    assert failed.value.code == "local_model_failed"
    assert "prompt" not in failed.value.message


def test_what_the_engine_complains_of_is_shown_short_and_names_the_field() -> None:
    message = "Field 'top_k': wrong\nthe whole prompt " + "x" * 1000
    with pytest.raises(InvalidRequest) as refused:
        list(ChunkReader().read({"error": {"code": 400, "message": message}}, ASK))
    assert refused.value.param == "top_k"
    assert refused.value.message.endswith("wrong")


def test_a_part_holds_only_what_was_said() -> None:
    [part] = ChunkReader().read(chunk({"content": "a", "role": None}), ASK)
    assert part == Text(0, "a")
    [part] = ChunkReader().read(chunk({"reasoning_content": "b", "content": None}), ASK)
    assert isinstance(part, StreamChoice)
    assert part.wire() == '{"index":0,"delta":{"reasoning_content":"b"},"finish_reason":null}'
