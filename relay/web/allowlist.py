"""Which calls under `/v1` are passed on, and which paths are paths at all.

pattern            allows
/v1/files*         every method at paths that begin so; `*` also spans slashes
GET /v1/files/*    that method (GET: HEAD as well)
*                  everything
default            the table below: what asks a model, nothing that changes an account
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from urllib.parse import unquote

from relay.errors import RouteNotFound

MODEL_IN_BODY = (
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/responses",
    "POST /v1/moderations",
    "POST /v1/images/*",
    "POST /v1/audio/*",
    "POST /v1/rerank",
)
"""Where it is the body that says which model answers; elsewhere it may be the path, or a file."""

INFERENCE = (
    *MODEL_IN_BODY,
    "POST /v1/responses/*/cancel",
    "GET /v1/responses/*",
    "DELETE /v1/responses/*",
)
"""What `default` stands for."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
"""What is ever passed on. Not TRACE: its answer would show the hidden key."""

_DEEPEST_QUOTING = 5


class Allowlist:
    """The patterns of the setting `passthrough`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: list[tuple[str, str]] = []
        for pattern in patterns:
            for one in INFERENCE if pattern == "default" else (pattern,):
                method, _, path = one.rpartition(" ")
                self._patterns.append((method.strip(), path))

    def allows(self, method: str, path: str) -> bool:
        """Whether a call may be passed on; `path` is the unquoted one, with its `/v1`."""
        if method not in METHODS:
            return False
        asked = "GET" if method == "HEAD" else method
        return any(
            allowed in ("", method, asked) and fnmatchcase(path, pattern)
            for allowed, pattern in self._patterns
        )


def check_path(path: str) -> None:
    """Refuse what could mean another path to somebody who reads it more loosely.

    Raises:
        RouteNotFound: a segment is empty, `.` or `..`, however it is quoted, or holds a backslash.
    """
    for _ in range(_DEEPEST_QUOTING):
        segments = path.removeprefix("/").split("/")
        # To some servers `..;x` is `..` with a parameter.
        if "\\" in path or any(part.partition(";")[0] in ("", ".", "..") for part in segments):
            raise RouteNotFound("The path has a segment that is empty, '.', '..' or a backslash.")
        plainer = unquote(path)
        if plainer == path:
            return
        path = plainer
    raise RouteNotFound("The path is quoted again and again.")
