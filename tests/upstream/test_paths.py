"""Where a call goes, by the kind of its upstream."""

import pytest

from relay.errors import ModelNotFound
from relay.settings import UpstreamSettings
from relay.types import Call
from relay.upstream.paths import AZURE_API_VERSION, path_of

RESOURCE = "https://name.openai.azure.com"
VERSION = f"api-version={AZURE_API_VERSION}"


def path(call: Call, base_url: str = RESOURCE, kind: str = "azure", **more) -> str:
    return path_of(UpstreamSettings(name="u", base_url=base_url, kind=kind, **more))(call)


@pytest.mark.parametrize(
    ("base_url", "kind"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://api.anthropic.com/v1", "anthropic"),
        (f"{RESOURCE}/openai/v1", "azure"),
    ],
)
def test_elsewhere_a_path_is_what_it_is(base_url: str, kind: str):
    assert path(Call("chat/completions?a=b", model="m"), base_url, kind) == "chat/completions?a=b"


@pytest.mark.parametrize(
    ("call", "deployment"),
    [
        (Call("embeddings", payload={"model": "sent"}, model="asked"), "sent"),
        (Call("embeddings", payload={"input": ""}, model="asked"), "asked"),
        (Call("embeddings", b'{"model": "of the body"}'), "of%20the%20body"),
        (Call("embeddings", b'{"model": 7}', model="asked"), "asked"),
        (Call("embeddings", b"{broken", model="asked"), "asked"),
        (Call("embeddings", b"--multipart", model="asked"), "asked"),
    ],
)
def test_the_deployment_is_the_model_that_is_sent(call: Call, deployment: str):
    assert path(call) == f"openai/deployments/{deployment}/embeddings?{VERSION}"


def test_the_version_may_be_set():
    call = Call("models", method="GET")
    assert path(call, api_version="2025-01-01-preview") == (
        "openai/models?api-version=2025-01-01-preview"
    )


def test_a_base_url_may_hold_the_first_step_already():
    assert path(Call("files"), f"{RESOURCE}/openai") == f"files?{VERSION}"


def test_a_call_without_a_model_has_no_deployment():
    with pytest.raises(ModelNotFound, match="names no model"):
        path(Call("audio/transcriptions?x=1", b"--multipart"))
