"""The settings of models: where their calls go, in which order, and what happens on the way."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from relay.settings.upstream import Section, SomeTimeouts
from relay.settings.values import Seconds

History = Literal["normalize", "reject", "passthrough"]


class OfflineSettings(Section):
    """How `auto` mode leaves the remote side, and when it comes back."""

    probe_s: Seconds = Field(
        2.0, description="seconds between two looks for an upstream while the network is away"
    )
    return_after_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        3.0, description="seconds an upstream must have been within reach before calls go back"
    )


class TargetSettings(Section):
    """Where a model's calls go: an upstream by name, or the local model."""

    upstream: str | None = None
    local: bool = False
    model: str | None = Field(None, description="the id the target knows; default: as asked")
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1.0, description="its share of the calls, for the policy 'weighted'"
    )

    @model_validator(mode="after")
    def _one_place(self) -> "TargetSettings":
        if (self.upstream is None) != self.local:
            raise ValueError("a target names either an upstream or local = true")
        return self


class ModelSettings(Section):
    """A model that clients may name (`[[models]]`); `*` and `vendor/*` are patterns."""

    id: Annotated[str, Field(min_length=1)]
    aliases: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="other ids that mean the same"
    )
    targets: Annotated[tuple[TargetSettings, ...], Field(min_length=1)]
    policy: Annotated[str, Field(min_length=1)] = Field(
        "first",
        description="which target is asked first: first, weighted, least-latency, least-busy, the"
        " name of an entry point in relay.policies, or package.module:attribute",
    )
    fallback: tuple[TargetSettings, ...] = Field(
        (), description="asked in this order when the targets have failed"
    )
    context_fallback: tuple[TargetSettings, ...] = Field(
        (), description="asked when the prompt is too long for a target"
    )
    retries: Annotated[int, Field(ge=0, le=10)] | None = Field(
        None,
        description="times a target that is busy (429, 503) or out of reach is asked again",
    )
    hedge_after_s: Seconds | None = Field(
        None, description="a second target is asked when no first token came by then"
    )
    single_flight: bool = Field(
        False, description="identical calls of one key at the same time share one upstream call"
    )
    timeouts: SomeTimeouts = SomeTimeouts()
    history: History | None = None

    def all_targets(self) -> tuple[TargetSettings, ...]:
        """Wherever a call for it may go."""
        return (*self.targets, *self.fallback, *self.context_fallback)
