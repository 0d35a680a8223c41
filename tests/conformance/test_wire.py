"""The golden wire: the classic program's stream, with the `id` and `created` that ours adds."""

import json
import re

import pytest
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat

ADDED = re.compile(r'"id":"chatcmpl-[A-Za-z0-9]+","created":\d+,')


def test_the_stream_is_the_classic_one_to_the_letter(echo: RunningRelay) -> None:
    answer = echo.ask("Grüße, 世界!", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    golden = (
        'data: {"model":"m","object":"chat.completion.chunk","choices":'
        '[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n'
        'data: {"model":"m","object":"chat.completion.chunk","choices":'
        '[{"index":0,"delta":{"content":"Grüße,"},"finish_reason":null}]}\n\n'
        'data: {"model":"m","object":"chat.completion.chunk","choices":'
        '[{"index":0,"delta":{"content":" 世界!"},"finish_reason":null}]}\n\n'
        'data: {"model":"m","object":"chat.completion.chunk","choices":'
        '[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        "data: [DONE]\n\n"
    )
    assert ADDED.sub("", answer.text) == golden
    assert len(ADDED.findall(answer.text)) == 4
    assert len(set(ADDED.findall(answer.text))) == 1  # one id, one time


def test_usage_comes_in_a_chunk_of_its_own_when_it_is_asked_for(echo: RunningRelay) -> None:
    answer = echo.ask("one two", stream=True, stream_options={"include_usage": True})
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    last = json.loads(events[-3].removeprefix("data: "))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 2


def test_the_plain_answer_has_the_classic_shape(echo: RunningRelay) -> None:
    body = echo.ask("Grüße").json()
    assert list(body) == ["id", "created", "model", "object", "choices", "usage"]
    assert body["object"] == "chat.completion"
    assert body["model"] == "m"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Grüße"},
            "finish_reason": "stop",
        }
    ]


def test_the_list_of_models_has_the_classic_shape(echo: RunningRelay) -> None:
    body = echo.http.get("/v1/models").json()
    assert body["object"] == "list"
    [card] = body["data"]
    assert card["id"] == "echo"
    assert card["object"] == "model"
    assert isinstance(card["created"], int)
    assert card["owned_by"] == "relay"
    assert echo.http.get("/v1/models/echo").json() == card
    assert echo.http.get("/v1/models/other").json()["error"]["code"] == "model_not_found"


def test_the_system_prompt_stands_in_front_of_every_query(echo: RunningRelay) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
    ]
    body = echo.http.post("/v1/chat/completions", json=chat() | {"messages": messages}).json()
    assert body["choices"][0]["message"]["content"] == "two"


def test_the_documentation_shows_the_real_schemas(echo: RunningRelay) -> None:
    document = echo.http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for name in (
        "ModelCard",
        "ModelList",
        "ChatMessage",
        "DeltaMessage",
        "ChatCompletionRequest",
        "ChatCompletionResponseChoice",
        "ChatCompletionResponseStreamChoice",
        "ChatCompletionResponse",
        "ErrorResponse",
    ):
        assert name in schemas
    post = document["paths"]["/v1/chat/completions"]["post"]
    body = post["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ChatCompletionRequest"}
    assert {"model", "messages", "stream", "tools"} <= schemas["ChatCompletionRequest"][
        "properties"
    ].keys()
    stream = post["responses"]["200"]["content"]["text/event-stream"]
    assert stream["example"].endswith("data: [DONE]\n\n")
    assert "429" in post["responses"]


def test_the_documentation_shows_anthropics_api_with_its_own_errors(echo: RunningRelay) -> None:
    document = echo.http.get("/openapi.json").json()
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        post = document["paths"][path]["post"]
        body = post["requestBody"]["content"]["application/json"]
        assert body["schema"] == {"$ref": "#/components/schemas/MessagesRequest"}
        error = post["responses"]["401"]["content"]["application/json"]["schema"]
        assert error == {"$ref": "#/components/schemas/MessagesError"}
    example = document["paths"]["/v1/messages"]["post"]["requestBody"]["content"]
    answer = echo.http.post("/v1/messages", json=example["application/json"]["example"])
    shown = document["components"]["schemas"]["Message"]
    assert set(shown["required"]) <= answer.json().keys() <= shown["properties"].keys()


@pytest.fixture
def operated(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    return start_relay(upstream_url=upstream.url, local="echo", admin_key="ak-0123456789")


def test_each_call_of_the_admin_api_is_described_whole(operated: RunningRelay) -> None:
    document = operated.http.get("/openapi.json").json()
    calls = {
        (method, path): operation
        for path, item in document["paths"].items()
        if path.startswith("/admin/")
        for method, operation in item.items()
    }
    assert {("put", "/admin/mode"), ("post", "/admin/reload"), ("get", "/admin/upstreams")} <= set(
        calls
    )
    for (method, path), operation in calls.items():
        assert operation["summary"], path
        assert operation["security"] == [{"admin": []}], path
        assert "401" in operation["responses"], path
        assert method not in ("put", "patch") or operation["requestBody"]["content"], path


def test_every_reference_of_the_document_leads_somewhere(operated: RunningRelay) -> None:
    text = operated.http.get("/openapi.json").text
    schemas = json.loads(text)["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert name in schemas
