"""What one model costs, and what an answer of it has cost: exact, in whole nano-dollars."""

from dataclasses import dataclass

from relay.types import Usage

NANO = 1_000_000_000
MILLION = 1_000_000
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Price:
    """Rates in nano-dollars for a million tokens, `request` for one request.

    A rate that is None is that of all tokens on its side: `cached`, `cache_write` and
    `audio_prompt` are of the prompt, `reasoning` and `audio_completion` of the completion. `tiers`
    are the prices of longer prompts (of more than so many tokens), which then hold for all tokens.
    `minute` is for one minute of sound, where that is counted instead; None when nobody knows.
    """

    prompt: int | None = 0
    completion: int | None = 0
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    audio_prompt: int | None = None
    audio_completion: int | None = None
    request: int | None = 0
    tiers: tuple[tuple[int, "Price"], ...] = ()
    minute: int | None = None


FREE = Price(minute=0)


def cost(price: Price, usage: Usage) -> int:
    """What an answer with those tokens costs, in nano-dollars, rounded up."""
    asked, answered, *parts = usage
    if price.tiers:
        price = _tier(price, asked)
    if not any(parts):  # as most have none
        total = asked * (price.prompt or 0) + answered * (price.completion or 0)
        return -(-total // MILLION) + (price.request or 0)
    prompt, completion = price.prompt or 0, price.completion or 0
    total = asked * prompt + answered * completion
    if price.cached is not None:
        total += usage.cached_tokens * (price.cached - prompt)
    if price.cache_write is not None:
        total += usage.cache_write_tokens * (price.cache_write - prompt)
    if price.reasoning is not None:
        total += usage.reasoning_tokens * (price.reasoning - completion)
    if price.audio_prompt is not None:
        heard = usage.audio_tokens - usage.audio_completion_tokens
        total += heard * (price.audio_prompt - prompt)
    if price.audio_completion is not None:
        total += usage.audio_completion_tokens * (price.audio_completion - completion)
    timed = -(-usage.heard_ms * (price.minute or 0) // MINUTE_MS)
    return -(-max(total, 0) // MILLION) + timed + (price.request or 0)


def bounds(price: Price, prompt_tokens: int, completion_tokens: int) -> tuple[int, int]:
    """What a call with at most those tokens costs at most, and what its prompt alone does."""
    if price.tiers:
        price = _tier(price, prompt_tokens)
    request = price.request or 0
    asked = prompt_tokens * (price.prompt or 0)
    most = asked + completion_tokens * (price.completion or 0)
    return -(-most // MILLION) + request, -(-asked // MILLION) + request


def _tier(price: Price, prompt_tokens: int) -> Price:
    """The one that holds for a prompt of that length."""
    for above, tier in price.tiers:
        if prompt_tokens > above:
            price = tier
    return price
