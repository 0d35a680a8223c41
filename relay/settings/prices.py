"""Prices of one's own (`[[prices]]`), in place of those of the table or beside them."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from relay.settings.upstream import Section

Usd = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class PriceSettings(Section):
    """What a model costs, in USD for a million tokens.

    A part that has no price of its own costs what all tokens on its side cost: cached, cache_write
    and audio_prompt are parts of the prompt, reasoning and audio_completion of the completion.
    """

    model: Annotated[str, Field(min_length=1)] = Field(
        description="what the model is called where it answers; * and vendor/* are patterns"
    )
    upstream: str | None = Field(None, description="only there; default: everywhere")
    prompt_usd: Usd = Field(Decimal(0), description="prompt tokens")
    completion_usd: Usd = Field(Decimal(0), description="completion tokens")
    cached_usd: Usd | None = Field(None, description="prompt tokens that were read from a cache")
    cache_write_usd: Usd | None = Field(None, description="those that were written to one")
    reasoning_usd: Usd | None = Field(None, description="completion tokens nobody sees")
    audio_prompt_usd: Usd | None = Field(None, description="audio tokens of the prompt")
    audio_completion_usd: Usd | None = Field(None, description="audio tokens of the completion")
    request_usd: Usd = Field(Decimal(0), description="in USD for each request")
    minute_usd: Usd | None = Field(
        None, description="in USD for a minute of sound, where an upstream counts time"
    )
