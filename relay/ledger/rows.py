"""What ended, as a row of the ledger."""

from relay.events import RequestEnded
from relay.stores import LedgerRow


def as_row(ended: RequestEnded) -> LedgerRow:
    """The row of a request."""
    usage = ended.usage
    prompt = completion = cached = reasoning = audio = None
    if usage is not None:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
        audio = usage.audio_tokens
    return LedgerRow(
        ended.at,
        ended.request_id,
        ended.key_id,
        ended.team_id,
        ended.caller,
        ended.path,
        ended.model,
        ended.served,
        ended.target,
        ended.attempts,
        ended.lost_attempts,
        ended.status,
        ended.error,
        ended.stream,
        prompt,
        completion,
        cached,
        reasoning,
        audio,
        ended.estimated,
        ended.cost_nano,
        ended.first_token_s,
        ended.duration_s,
    )
