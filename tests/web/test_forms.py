"""The model of a form says where the call goes, as that of a JSON body does."""

import json

import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay

from relay.errors import InvalidRequest
from relay.web.forms import NamedModel

TYPE = "multipart/form-data; boundary=xyz"
LARGE = b"\x00\xff\r\n--xy" * 30_000
"""A file that is not held."""


def part(disposition: str, value: bytes, *more: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: form-data; {disposition}", *more])
    return f"--xyz\r\n{head}\r\n\r\n".encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--xyz--\r\n"


def model(name: str) -> bytes:
    return part('name="model"', name.encode())


def file(content: bytes = b"sound") -> bytes:
    return part('name="file"; filename="a.wav"', content, "Content-Type: audio/wav")


def found(body: bytes, content_type: str = TYPE) -> str | None:
    named = NamedModel.find(body, {b"content-type": content_type.encode()})
    if named is None:
        return None
    assert body[named.start : named.end].decode() == named.name
    return named.name


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (form(model("whisper"), file()), "whisper"),
        (form(file(), model("wisp\u00e9r")), "wisp\u00e9r"),
        (b"preamble\r\n" + form(model("whisper")), "whisper"),
        (form(part("name=model", b"w", "X-More: 1")), "w"),
        (form(part('name="language"', b"de"), model("m")), "m"),
        (form(file(LARGE), model("m")), "m"),
        (form(file()), None),
        (form(model("")), None),
        (form(part('name="model"; filename="f"', b"m")), None),
        (form(part('name="models"', b"m")), None),
        (form(file(model("inner").replace(b"xyz", b"abc"))), None),
        (model("cut")[:-3], None),
        (b"--xyz\r\nno head", None),
        (b"--xyz--\r\n", None),
        (b"", None),
    ],
)
def test_the_field_is_found(body: bytes, name: str | None) -> None:
    assert found(body) == name


@pytest.mark.parametrize("boundary", ['"xyz"', "xyz; charset=utf-8"])
def test_the_boundary_may_be_written_in_more_ways(boundary: str) -> None:
    assert found(form(model("m")), f"Multipart/Form-Data; BOUNDARY={boundary}") == "m"
    assert found(form(model("m")), "multipart/form-data") is None


def test_two_models_are_an_error() -> None:
    with pytest.raises(InvalidRequest) as refused:
        found(form(model("a"), file(), model("b")))
    assert refused.value.param == "model"


def ask(relay: RunningRelay, body: bytes) -> str:
    """The upstream that has answered a transcription."""
    headers = {"content-type": TYPE}
    answer = relay.http.post("/v1/audio/transcriptions", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-relay-upstream"]


@pytest.mark.parametrize("sound", [b"short", LARGE])
def test_a_form_goes_where_its_model_goes_and_has_its_name_there(
    start_relay: StartRelay, upstream: FakeUpstream, sound: bytes
) -> None:
    relay = start_relay(
        upstreams=[
            {"name": "other", "base_url": "http://127.0.0.1:1/v1"},
            {"name": "good", "base_url": upstream.url},
        ],
        models=[
            {"id": "voice", "targets": [{"upstream": "good", "model": "whisper-large-3"}]},
            {"id": "*", "targets": [{"upstream": "good"}]},
        ],
    )
    upstream.answer(Script(body=b"{}"))
    assert ask(relay, form(model("voice"), file(sound))) == "good"
    assert upstream.requests[-1].body == form(model("whisper-large-3"), file(sound))
    assert ask(relay, form(model("any"), file(sound))) == "good"
    assert upstream.requests[-1].body == form(model("any"), file(sound))


@pytest.mark.parametrize("sound", [b"short", LARGE])
def test_azures_deployment_is_the_model_of_the_form(
    start_relay: StartRelay, upstream: FakeUpstream, sound: bytes
) -> None:
    relay = start_relay(
        upstreams=[{"name": "azure", "kind": "azure", "base_url": upstream.root_url}]
    )
    upstream.answer(Script(body=b"{}"))
    assert ask(relay, form(model("whisper"), file(sound))) == "azure"
    assert upstream.requests[-1].path == "/openai/deployments/whisper/audio/transcriptions"
    assert upstream.requests[-1].body == form(model("whisper"), file(sound))


def test_a_form_of_unknown_length_is_read_as_well(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(
        upstreams=[{"name": "azure", "kind": "azure", "base_url": upstream.root_url}]
    )
    upstream.answer(Script(body=b"{}"))
    whole = form(model("whisper"), file(LARGE))
    answer = relay.http.post(
        "/v1/audio/transcriptions",
        content=iter([whole[:50], whole[50:]]),
        headers={"content-type": TYPE},
    )
    assert answer.status_code == 200
    assert upstream.requests[-1].body == whole


def test_two_models_reach_nobody(remote: RunningRelay, upstream: FakeUpstream) -> None:
    answer = remote.http.post(
        "/v1/audio/transcriptions",
        content=form(model("a"), model("b")),
        headers={"content-type": TYPE},
    )
    assert (answer.status_code, json.loads(answer.content)["error"]["param"]) == (400, "model")
    assert not upstream.requests
