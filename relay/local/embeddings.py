"""Embeddings (`POST /v1/embeddings`): the request, and the form of their answer.

Source: OpenAI's API reference (embeddings); base64 holds little-endian 32-bit floats.
"""

import base64
import json
from array import array
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from relay.errors import InvalidRequest
from relay.local.chunks import JSON, utf8
from relay.local.completions import Texts, Tokens, one_by_one
from relay.schema import Wire, invalid
from relay.types import Completion

MOST_INPUTS = 2048
"""OpenAI's own limit of one request."""


class EmbeddingRequest(Wire):
    """The body of `POST /v1/embeddings`."""

    model: Annotated[str, Field(min_length=1, strict=True)]
    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, strict=True)] | None = None
    user: str | None = None

    def inputs(self) -> list[str | Tokens]:
        """What is to be embedded, one by one."""
        return one_by_one(self.input)


def read_embedding_request(payload: Any) -> EmbeddingRequest:
    """Check a parsed body against the schema.

    Raises:
        InvalidRequest: a field is missing or wrong, or asks for what no local model does.
    """
    try:
        request = EmbeddingRequest.model_validate(payload)
    except ValidationError as exc:
        raise invalid(exc) from exc
    if request.dimensions is not None:
        raise InvalidRequest(
            "The local model's embeddings have as many dimensions as they have; leave out "
            "'dimensions'.",
            param="dimensions",
        )
    inputs = request.inputs()
    if not inputs or not all(inputs):
        raise InvalidRequest("There is nothing to embed: 'input' is empty.", param="input")
    if len(inputs) > MOST_INPUTS:
        raise InvalidRequest(f"'input' has more than {MOST_INPUTS} texts.", param="input")
    return request


def embedding_answer(
    request: EmbeddingRequest, vectors: Sequence[Sequence[float]], tokens: int
) -> Completion:
    """The vectors, in the order of the inputs, as OpenAI sends them."""
    written = _as_base64 if request.encoding_format == "base64" else list
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": written(vector)}
            for index, vector in enumerate(vectors)
        ],
        "model": utf8(request.model),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Completion(200, (JSON,), json.dumps(body, separators=(",", ":")).encode())


def _as_base64(vector: Sequence[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()
