"""The setting that says which calls are passed on takes patterns, and nothing else."""

import pytest
from pydantic import ValidationError

from relay.settings import Settings


def test_patterns_come_as_a_list_or_in_one_text() -> None:
    assert Settings().passthrough == ("default",)
    given = Settings(passthrough="default, /v1/files*,GET /v1/batches*")  # type: ignore[arg-type]
    assert given.passthrough == ("default", "/v1/files*", "GET /v1/batches*")


@pytest.mark.parametrize("pattern", ["files", "/files", "TRACE /v1/files", "GET", "get /v1/x", ""])
def test_what_could_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        Settings(passthrough=(pattern,))
