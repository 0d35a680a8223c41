"""Where a call goes, relative to the base URL.

kind                                        chat/completions for the model gpt-4o
openai                                      chat/completions
anthropic                                   messages: `anthropic.py` calls it so
azure, https://NAME.openai.azure.com        openai/deployments/gpt-4o/chat/completions?api-v…
azure, …/openai/v1                          chat/completions
"""

from collections.abc import Callable
from urllib.parse import urlsplit

import orjson

from relay.dialects import azure
from relay.errors import ModelNotFound
from relay.settings import UpstreamSettings
from relay.types import Call

AZURE_API_VERSION = "2024-10-21"
"""The latest that is generally available.

Source: Microsoft Learn, "Azure OpenAI REST API reference", data plane inference.
"""

PathOf = Callable[[Call], str]


def path_of(settings: UpstreamSettings) -> PathOf:
    """Says where each call goes, for that upstream; raises ModelNotFound as `azure.path` does."""
    place = urlsplit(settings.base_url).path
    if settings.kind != "azure" or place.endswith("/openai/v1"):
        return _as_it_is
    version = settings.api_version or AZURE_API_VERSION
    already = "openai/" if place.endswith("/openai") else ""

    def path(call: Call) -> str:
        model = _model(call)
        if not model and call.path.partition("?")[0] in azure.DEPLOYMENT_PATHS:
            raise ModelNotFound(
                f"The call names no model, so the upstream '{settings.name}' has no deployment "
                "for it.",
                param="model",
            )
        return azure.path(call.path, deployment=model, api_version=version).removeprefix(already)

    return path


def _as_it_is(call: Call) -> str:
    return call.path


def _model(call: Call) -> str:
    """The model as the body has it, which may be another than the client asked for."""
    payload: object = call.payload
    if not payload and call.body.startswith(b"{"):  # a call that is only passed on
        try:
            payload = orjson.loads(call.body)
        except orjson.JSONDecodeError:
            return call.model
    model = payload.get("model") if isinstance(payload, dict) else None
    return model if isinstance(model, str) else call.model
