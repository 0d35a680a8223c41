"""The settings of one of several local models."""

from typing import Annotated, Any

from pydantic import Field

from relay.settings.upstream import Section


class LocalModelSettings(Section):
    """A local model beside the first (`[[local_models]]`)."""

    id: Annotated[str, Field(min_length=1)] = Field(description="the name clients use")
    backend: Annotated[str, Field(min_length=1)] = Field(
        description="what RELAY_LOCAL may be: llama:PATH.gguf, package.module:attribute, ..."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="what that kind of backend can be told; docs/local.md"
    )
