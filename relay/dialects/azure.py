"""Azure OpenAI: OpenAI's bodies at other places, with the key in another header.

    chat/completions of deployment gpt-4o
    openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21

A deployment is a model under a name of the operator's. Paths that know no deployment (`models`,
`files`, `batches`) stand directly below `openai/`. Bodies need no translation: the model in them is
ignored. A streamed answer begins with a chunk without choices (`prompt_filter_results`), which
passes as it is.

Source: Azure OpenAI REST API reference, "Data plane inference", "Authentication".
"""

from urllib.parse import parse_qsl, quote, urlencode

from relay.errors import ModelNotFound

DEPLOYMENT_PATHS = frozenset(
    {
        "audio/speech",
        "audio/transcriptions",
        "audio/translations",
        "chat/completions",
        "completions",
        "embeddings",
        "images/edits",
        "images/generations",
    }
)
"""What a deployment answers."""

_NOWHERE = frozenset({"", ".", ".."})
_SEPARATORS = ("/", "\\")


def path(call_path: str, *, deployment: str, api_version: str) -> str:
    """Where a call goes, relative to the resource's URL (`https://NAME.openai.azure.com`).

    `call_path` is a path of OpenAI's without a leading slash; its query stays, but for an
    `api-version`, which is the operator's.

    Raises:
        ModelNotFound: no deployment can have that name; it could lead to another path.
    """
    bare, _, query = call_path.partition("?")
    kept = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "api-version"]
    query = urlencode([*kept, ("api-version", api_version)])
    if bare not in DEPLOYMENT_PATHS:
        return f"openai/{bare}?{query}"
    return f"openai/deployments/{_quoted(deployment)}/{bare}?{query}"


def credentials(secret: str, *, bearer: bool = False) -> tuple[bytes, bytes]:
    """The header that carries the key of a resource, or a token of Entra (`bearer`)."""
    if bearer:
        return b"authorization", b"Bearer " + secret.encode()
    return b"api-key", secret.encode()


def _quoted(deployment: str) -> str:
    # A server that unquotes before it routes would be led elsewhere by a quoted slash as well.
    if deployment in _NOWHERE or any(mark in deployment for mark in _SEPARATORS):
        raise ModelNotFound(f"There is no deployment '{deployment}'.", param="model")
    return quote(deployment, safe="", errors="replace")
