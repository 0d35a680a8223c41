"""The wire models: classic names, unknown fields, what is sent, and which field is wrong."""

import json
from typing import Any

import pytest

from relay import schema
from relay.errors import InvalidRequest
from relay.schema import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionResponseStreamChoice,
    ChatMessage,
    DeltaMessage,
    ErrorResponse,
    ModelCard,
    ModelList,
    Usage,
    field_path,
    read_chat_request,
)

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "q"}]}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ModelCard", {"id", "object", "created", "owned_by", "root", "parent", "permission"}),
        ("ModelList", {"object", "data"}),
        ("ChatMessage", {"role", "content"}),
        ("DeltaMessage", {"role", "content"}),
        (
            "ChatCompletionRequest",
            {"model", "messages", "temperature", "top_p", "max_length", "stream"},
        ),
        ("ChatCompletionResponseChoice", {"index", "message", "finish_reason"}),
        ("ChatCompletionResponseStreamChoice", {"index", "delta", "finish_reason"}),
        ("ChatCompletionResponse", {"model", "object", "choices", "created"}),
    ],
)
def test_the_classic_names_and_fields_are_there(name: str, fields: set[str]) -> None:
    assert fields <= set(getattr(schema, name).model_fields)


class TestWhatIsSent:
    @pytest.mark.parametrize(
        ("delta", "finish_reason", "line"),
        [
            (
                DeltaMessage(role="assistant"),
                None,
                '{"model":"m","object":"chat.completion.chunk","choices":'
                '[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}',
            ),
            (
                DeltaMessage(content="Kö東"),
                None,
                '{"model":"m","object":"chat.completion.chunk","choices":'
                '[{"index":0,"delta":{"content":"Kö東"},"finish_reason":null}]}',
            ),
            (
                DeltaMessage(),
                "stop",
                '{"model":"m","object":"chat.completion.chunk","choices":'
                '[{"index":0,"delta":{},"finish_reason":"stop"}]}',
            ),
        ],
    )
    def test_a_chunk_has_the_classic_shape_behind_its_id_and_time(
        self, delta: DeltaMessage, finish_reason: str | None, line: str
    ) -> None:
        chunk = ChatCompletionResponse(
            id="c",
            created=1,
            model="m",
            object="chat.completion.chunk",
            choices=[
                ChatCompletionResponseStreamChoice(
                    index=0, delta=delta, finish_reason=finish_reason
                )
            ],
        )
        assert chunk.wire() == '{"id":"c","created":1,' + line[1:]

    def test_a_whole_answer_has_a_message_and_its_usage(self) -> None:
        answer = ChatCompletionResponse(
            id="c",
            created=1,
            model="m",
            object="chat.completion",
            choices=[
                ChatCompletionResponseChoice(
                    index=0,
                    message=ChatMessage(role="assistant", content="Hi."),
                    finish_reason="stop",
                )
            ],
            usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        )
        assert json.loads(answer.wire()) == {
            "id": "c",
            "created": 1,
            "model": "m",
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hi."},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }

    def test_a_model_list_holds_cards_with_what_was_set(self) -> None:
        card = ModelCard(id="m", object="model", created=1, owned_by="relay")
        assert json.loads(ModelList(object="list", data=[card]).wire()) == {
            "object": "list",
            "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "relay"}],
        }

    def test_what_was_set_to_null_is_sent(self) -> None:
        body = {"error": {"message": "m", "type": "t", "param": None, "code": None}}
        assert json.loads(ErrorResponse.model_validate(body).wire()) == body


class TestWhatIsRead:
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"unknown": {"deep": [1, None]}, "model_extra": 1},
            {"stream": True, "stream_options": {"include_usage": True, "x": 1}},
            {"stop": ["a", "b"], "n": 2, "seed": 7, "temperature": 0.5, "top_p": 1, "user": "u"},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}},
            {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"logit_bias": {"50256": -100}, "logprobs": True, "top_logprobs": 3},
            {"temperature": None, "stop": None, "max_tokens": None, "stream": None},
            {
                "messages": [
                    {"role": "developer", "content": "d", "x": 1},
                    {
                        "role": "user",
                        "name": "ann",
                        "content": [
                            {"type": "text", "text": "look", "cache_control": {"type": "e"}},
                            {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {"id": "c", "type": "function", "function": {"name": "f"}, "x": 1}
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c", "content": "1"},
                    {"role": "function", "name": "f", "content": "1"},
                ]
            },
        ],
    )
    def test_a_request_comes_out_as_it_went_in(self, more: dict[str, Any]) -> None:
        body = {**ASKED, **more}
        assert json.loads(read_chat_request(body).wire()) == body

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ([], None),
            ("text", None),
            (None, None),
            ({"messages": ASKED["messages"]}, "model"),
            ({**ASKED, "model": ""}, "model"),
            ({**ASKED, "model": 5}, "model"),
            ({"model": "m"}, "messages"),
            ({**ASKED, "messages": []}, "messages"),
            ({**ASKED, "messages": {}}, "messages"),
            ({**ASKED, "messages": ["q"]}, "messages[0]"),
            ({**ASKED, "messages": [{"content": "q"}]}, "messages[0].role"),
            ({**ASKED, "messages": [{"role": "alien"}]}, "messages[0].role"),
            ({**ASKED, "messages": [*ASKED["messages"], {"role": 5}]}, "messages[1].role"),
            (
                {**ASKED, "messages": [{"role": "user", "content": 5}]},
                "messages[0].content",
            ),
            (
                {**ASKED, "messages": [{"role": "user", "content": [{"text": "q"}]}]},
                "messages[0].content[0].type",
            ),
            (
                {**ASKED, "messages": [{"role": "assistant", "tool_calls": ["f"]}]},
                "messages[0].tool_calls[0]",
            ),
            ({**ASKED, "temperature": 3}, "temperature"),
            ({**ASKED, "temperature": True}, "temperature"),
            ({**ASKED, "temperature": "0.5"}, "temperature"),
            ({**ASKED, "top_p": -1}, "top_p"),
            ({**ASKED, "max_tokens": 0}, "max_tokens"),
            ({**ASKED, "max_tokens": 1.5}, "max_tokens"),
            ({**ASKED, "n": 0}, "n"),
            ({**ASKED, "stream": "yes"}, "stream"),
            ({**ASKED, "stream_options": []}, "stream_options"),
            (
                {**ASKED, "stream_options": {"include_usage": 5}},
                "stream_options.include_usage",
            ),
            ({**ASKED, "stop": ["a", 5]}, "stop[1]"),
            ({**ASKED, "stop": ["x"] * 17}, "stop"),
            ({**ASKED, "tools": {}}, "tools"),
            ({**ASKED, "logit_bias": {"50256": "x"}}, "logit_bias"),
        ],
    )
    def test_a_wrong_field_is_named_by_its_path(self, body: object, param: str | None) -> None:
        with pytest.raises(InvalidRequest) as caught:
            read_chat_request(body)
        assert (caught.value.status, caught.value.param) == (400, param)
        assert (f"'{param}'" if param else "the body") in caught.value.message

    @pytest.mark.parametrize(
        ("stop", "told"),
        [(["x"] * 17, "at most 16 items"), (["a", 5], "valid string"), (5, "valid string")],
    )
    def test_the_fault_is_that_of_the_branch_the_client_meant(
        self, stop: object, told: str
    ) -> None:
        with pytest.raises(InvalidRequest, match=told):
            read_chat_request({**ASKED, "stop": stop})

    def test_a_wrong_value_is_not_repeated(self) -> None:
        with pytest.raises(InvalidRequest) as caught:
            read_chat_request({**ASKED, "temperature": "sk-canary"})
        assert "sk-canary" not in caught.value.message


@pytest.mark.parametrize(
    ("loc", "path"),
    [
        ((), ""),
        (("model",), "model"),
        (("messages", 0, "content", "list[ContentPart]", 2, "type"), "messages[0].content[2].type"),
        (("stop", "str"), "stop"),
    ],
)
def test_a_location_is_written_as_openai_writes_it(loc: tuple[int | str, ...], path: str) -> None:
    assert field_path(loc) == path


def test_the_documented_examples_are_valid_requests() -> None:
    examples = ChatCompletionRequest.model_json_schema()["examples"]
    assert examples
    for example in examples:
        assert json.loads(read_chat_request(example).wire()) == example
