"""The state of a model in a word."""

from typing import Any

import pytest

from relay.local.states import in_words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "loaded"),
        ({"value": "unloaded"}, "unloaded"),
        ({"value": "loading", "progress": 0.4}, "loading 40 %"),
        ({"value": "failed", "message": "It is broken."}, "failed: It is broken."),
    ],
)
def test_a_status_is_told_in_words(status: Any, words: str) -> None:
    assert in_words(status) == words
