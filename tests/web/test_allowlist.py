"""Which calls are passed on, and which paths are refused whoever asks."""

import pytest

from relay.errors import RouteNotFound
from relay.web.allowlist import Allowlist, check_path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/responses/resp_1"),
        ("HEAD", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/moderations"),
        ("POST", "/v1/images/generations"),
        ("POST", "/v1/audio/transcriptions"),
        ("POST", "/v1/rerank"),
    ],
)
def test_what_asks_a_model_is_allowed_by_default(method: str, path: str) -> None:
    assert Allowlist(["default"]).allows(method, path)
    assert Allowlist(["/v1/files*", "default"]).allows(method, path)
    assert Allowlist(["*"]).allows(method, path)
    assert not Allowlist([]).allows(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/embeddings"),
        ("GET", "/v1/files"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/file-1/content"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/assistants"),
        ("POST", "/v1/threads"),
        ("POST", "/v1/vector_stores"),
        ("POST", "/v1/uploads"),
        ("GET", "/v1/organization/admin_api_keys"),
        ("POST", "/v1/responsesx"),
    ],
)
def test_what_reaches_the_account_must_be_switched_on(method: str, path: str) -> None:
    assert not Allowlist(["default"]).allows(method, path)
    assert Allowlist(["*"]).allows(method, path)


def test_a_pattern_may_name_its_method() -> None:
    allowed = Allowlist(["GET /v1/files*"])
    assert allowed.allows("GET", "/v1/files/file-1/content")
    assert allowed.allows("HEAD", "/v1/files")
    assert not allowed.allows("DELETE", "/v1/files/file-1")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "OPTIONS", "get", ""])
def test_methods_that_could_show_the_key_are_never_allowed(method: str) -> None:
    assert not Allowlist(["*"]).allows(method, "/v1/embeddings")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin",
        "/v1/images/./x",
        "/v1/images//x",
        "/v1/images/",
        "/v1/images/..",
        "/v1/images/%2e%2e/files",
        "/v1/images/%2e",
        "/v1/images/%2f%2e%2e%2ffiles",
        "/v1/images/%252e%252e/files",
        "/v1/images/..\\files",
        "/v1/images/a%5cb",
        "/v1/images/..;x/files",
        "/v1/" + "%25" * 4 + "2525252525" + "2e",
    ],
)
def test_a_path_that_could_climb_is_refused(path: str) -> None:
    with pytest.raises(RouteNotFound):
        check_path(path)


@pytest.mark.parametrize("path", ["/v1/a", "/v1/a/b.c", "/v1/...", "/v1/a%20b", "/v1/ü", "/v1/%zz"])
def test_any_other_path_is_fine(path: str) -> None:
    check_path(path)
