"""The official client's calls for every resource family: through the relay as they are direct."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
from fake_script import Script
from fake_upstream import FakeUpstream, Received
from running import UPSTREAM_KEY, RunningRelay, StartRelay
from transcripts import to_json

JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
AUDIO = bytes(range(256)) * 200
WAV = ("speech.wav", AUDIO, "audio/wav")

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": 3,
    "created_at": 1,
    "filename": "a.jsonl",
    "purpose": "batch",
    "status": "processed",
}
BATCH = {
    "id": "batch_1",
    "object": "batch",
    "completion_window": "24h",
    "created_at": 1,
    "endpoint": "/v1/embeddings",
    "input_file_id": "file-1",
    "status": "validating",
}
LIST = {"object": "list", "data": [], "has_more": False}
STORE = {
    "id": "vs_1",
    "object": "vector_store",
    "created_at": 1,
    "name": "s",
    "status": "completed",
    "usage_bytes": 0,
    "file_counts": {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0},
}
ASSISTANT = {
    "id": "asst_1",
    "object": "assistant",
    "created_at": 1,
    "model": "m",
    "name": None,
    "description": None,
    "instructions": None,
    "tools": [],
    "metadata": {},
}


def events(*events: dict[str, Any]) -> list[bytes]:
    return [b"event: %b\ndata: %b\n\n" % (e["type"].encode(), to_json(e)) for e in events]


STREAMED_RESPONSE = events(
    {"type": "response.created", "sequence_number": 0, "response": RESPONSE},
    {
        "type": "response.output_text.delta",
        "sequence_number": 1,
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": "Grüß",
        "logprobs": [],
    },
    {"type": "response.completed", "sequence_number": 2, "response": RESPONSE},
)
STREAMED_TRANSCRIPT = events(
    {"type": "transcript.text.delta", "delta": "one "},
    {"type": "transcript.text.done", "text": "one two"},
)

Ask = Callable[[openai.OpenAI], Any]


@dataclass(frozen=True)
class Case:
    """What is asked for, and what the upstream answers: JSON unless it says otherwise."""

    ask: Ask
    answer: Any = field(default_factory=lambda: LIST)
    headers: tuple[bytes, bytes] = JSON

    def script(self) -> Script:
        if isinstance(self.answer, list):
            return Script(headers=[self.headers], pieces=self.answer)
        raw = isinstance(self.answer, bytes)
        return Script(headers=[self.headers], body=self.answer if raw else to_json(self.answer))


def asked(ask: Ask, answer: Any = LIST, headers: tuple[bytes, bytes] = JSON) -> Case:
    return Case(ask, answer, headers)


INFERENCE = {
    "completions": asked(
        lambda api: api.completions.create(model="m", prompt="one"),
        {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": []},
    ),
    "embeddings": asked(
        lambda api: api.embeddings.create(model="m", input=["a", "ü"], encoding_format="float"),
        {
            "object": "list",
            "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.10, 2e-5]}],
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
        },
    ),
    "a large embedding": asked(
        lambda api: api.embeddings.create(model="m", input=["word " * 40_000]),
        {
            "object": "list",
            "model": "m",
            "data": [{"object": "embedding", "index": 0, "embedding": "AACAPw=="}],
            "usage": {"prompt_tokens": 40_000, "total_tokens": 40_000},
        },
    ),
    "responses": asked(lambda api: api.responses.create(model="m", input="one"), RESPONSE),
    "responses, streamed": asked(
        lambda api: list(api.responses.create(model="m", input="one", stream=True)),
        STREAMED_RESPONSE,
        EVENTS,
    ),
    "responses, retrieved": asked(
        lambda api: api.responses.retrieve("resp_1", include=["reasoning.encrypted_content"]),
        RESPONSE,
    ),
    "responses, input items": asked(
        lambda api: api.responses.input_items.list("resp_1", limit=2, order="asc")
    ),
    "responses, cancelled": asked(lambda api: api.responses.cancel("resp_1"), RESPONSE),
    "responses, deleted": asked(lambda api: api.responses.delete("resp_1"), {}),
    "moderations": asked(
        lambda api: api.moderations.create(input="x"), {"id": "1", "model": "m", "results": []}
    ),
    "images, generated": asked(
        lambda api: api.images.generate(model="m", prompt="a cat"),
        {"created": 1, "data": [{"b64_json": "AAAA"}]},
    ),
    "images, edited": asked(
        lambda api: api.images.edit(model="m", prompt="x", image=("a.png", AUDIO, "image/png")),
        {"created": 1, "data": []},
    ),
    "speech": asked(
        lambda api: api.audio.speech.create(model="m", voice="alloy", input="x").content,
        AUDIO,
        (b"content-type", b"audio/mpeg"),
    ),
    "transcriptions": asked(
        lambda api: api.audio.transcriptions.create(model="m", file=WAV), {"text": "one two"}
    ),
    "transcriptions, large": asked(
        lambda api: api.audio.transcriptions.create(
            model="m", file=("a.wav", AUDIO * 20, "audio/wav")
        ),
        {"text": "one two"},
    ),
    "transcriptions, streamed": asked(
        lambda api: list(api.audio.transcriptions.create(model="m", file=WAV, stream=True)),
        STREAMED_TRANSCRIPT,
        EVENTS,
    ),
}
ACCOUNT = {
    "files, created": asked(
        lambda api: api.files.create(file=("a.jsonl", b"{}\n"), purpose="batch"), FILE
    ),
    "files, content": asked(
        lambda api: api.files.content("file-1").content,
        AUDIO,
        (b"content-type", b"application/octet-stream"),
    ),
    "files, listed": asked(lambda api: api.files.list(after="file-0", limit=2)),
    "files, deleted": asked(
        lambda api: api.files.delete("file-1"), {"id": "file-1", "object": "file", "deleted": True}
    ),
    "uploads, a part": asked(
        lambda api: api.uploads.parts.create("upload_1", data=b"part"),
        {"id": "part_1", "object": "upload.part", "created_at": 1, "upload_id": "upload_1"},
    ),
    "batches, created": asked(
        lambda api: api.batches.create(
            completion_window="24h", endpoint="/v1/embeddings", input_file_id="file-1"
        ),
        BATCH,
    ),
    "batches, listed": asked(lambda api: api.batches.list(limit=1)),
    "fine-tuning": asked(lambda api: api.fine_tuning.jobs.list(limit=3)),
    "vector stores": asked(lambda api: api.vector_stores.create(name="s", file_ids=["f"]), STORE),
    "vector stores, listed": asked(lambda api: api.vector_stores.list(order="asc")),
    "assistants": asked(lambda api: api.beta.assistants.create(model="m"), ASSISTANT),
    "threads": asked(
        lambda api: api.beta.threads.create(messages=[{"role": "user", "content": "x"}]),
        {"id": "thread_1", "object": "thread", "created_at": 1, "metadata": {}},
    ),
    "conversations": asked(
        lambda api: api.conversations.create(),
        {"id": "conv_1", "object": "conversation", "created_at": 1, "metadata": {}},
    ),
    "stored completions": asked(lambda api: api.chat.completions.list(limit=1)),
    "models, deleted": asked(
        lambda api: api.models.delete("ft:m:x"),
        {"id": "ft:m:x", "object": "model", "deleted": True},
    ),
}


def seen(received: Received) -> tuple[str, str, bytes, str | None]:
    """What an upstream has of a call; the boundary of a multipart body differs call by call."""
    body, kind = received.body, received.header("content-type")
    if kind and "boundary=" in kind:
        boundary = kind.partition("boundary=")[2]
        assert boundary.encode() in body
        body, kind = (
            body.replace(boundary.encode(), b"BOUNDARY"),
            kind.replace(boundary, "BOUNDARY"),
        )
    return received.method, received.target, body, kind


def same_both_ways(relay: RunningRelay, upstream: FakeUpstream, case: Case) -> None:
    """Asked direct and through the relay: the upstream sees the same, and so does the client."""
    upstream.answer(case.script())
    results = []
    for base_url, key in ((upstream.url, UPSTREAM_KEY), (relay.url, "unused")):
        with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as api:
            results.append(_plain(case.ask(api)))
    direct, relayed = upstream.requests
    assert seen(relayed) == seen(direct)
    assert relayed.header("authorization") == direct.header("authorization")
    assert relayed.header("accept") == direct.header("accept")
    assert results[0] == results[1]


def _plain(result: Any) -> Any:
    if isinstance(result, list):
        return [_plain(one) for one in result]
    return result.model_dump() if hasattr(result, "model_dump") else result


@pytest.mark.parametrize("name", INFERENCE)
def test_what_asks_a_model_works_as_it_does_direct(
    remote: RunningRelay, upstream: FakeUpstream, name: str
) -> None:
    same_both_ways(remote, upstream, INFERENCE[name])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # assistants and threads are old
@pytest.mark.parametrize("name", ACCOUNT)
def test_what_reaches_the_account_works_once_it_is_switched_on(
    start_relay: StartRelay, upstream: FakeUpstream, name: str
) -> None:
    relay = start_relay(upstream_url=upstream.url, upstream_api_key=UPSTREAM_KEY, passthrough=["*"])
    same_both_ways(relay, upstream, ACCOUNT[name])


def test_files_are_refused_as_long_as_they_are_not_switched_on(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    with (
        openai.OpenAI(base_url=remote.url, api_key="unused", max_retries=0) as api,
        pytest.raises(openai.NotFoundError, match="RELAY_PASSTHROUGH"),
    ):
        api.files.list()
    assert not upstream.requests
