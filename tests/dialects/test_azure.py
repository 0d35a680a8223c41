"""Where Azure keeps OpenAI's API, and how it is asked for the key."""

import pytest

from relay.dialects import azure
from relay.errors import ModelNotFound

VERSION = "2024-10-21"


@pytest.mark.parametrize(
    ("call_path", "deployment", "expected"),
    [
        (
            "chat/completions",
            "gpt-4o",
            "openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        ),
        (
            "embeddings",
            "my ada?#%2e",
            "openai/deployments/my%20ada%3F%23%252e/embeddings?api-version=2024-10-21",
        ),
        ("models", "gpt-4o", "openai/models?api-version=2024-10-21"),
        ("files/file-1/content", "", "openai/files/file-1/content?api-version=2024-10-21"),
        ("files?limit=2&after=", "", "openai/files?limit=2&after=&api-version=2024-10-21"),
        ("models?api-version=2020-01-01", "", "openai/models?api-version=2024-10-21"),
        (
            "completions",
            "Köln",
            "openai/deployments/K%C3%B6ln/completions?api-version=2024-10-21",
        ),
        (
            "completions",
            "\ud800",
            "openai/deployments/%3F/completions?api-version=2024-10-21",
        ),
    ],
)
def test_a_call_goes_to_its_deployment_if_it_needs_one(call_path, deployment, expected):
    assert azure.path(call_path, deployment=deployment, api_version=VERSION) == expected


@pytest.mark.parametrize("deployment", ["", ".", "..", "../x", "a/b", "..\\x", "/"])
def test_no_deployment_leads_to_another_path(deployment):
    with pytest.raises(ModelNotFound) as caught:
        azure.path("chat/completions", deployment=deployment, api_version=VERSION)
    assert caught.value.status == 404
    assert caught.value.param == "model"


def test_a_version_cannot_add_to_the_query():
    path = azure.path("models", deployment="", api_version="1&x=2")
    assert path == "openai/models?api-version=1%26x%3D2"


def test_a_key_and_a_token_travel_in_different_headers():
    assert azure.credentials("secret") == (b"api-key", b"secret")
    assert azure.credentials("ey.J", bearer=True) == (b"authorization", b"Bearer ey.J")
