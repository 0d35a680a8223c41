"""What a failure says of its target's health: one table, for calls and for probes.

another key may be tried; no room on our side;
the network is away                              nothing
busy (429, 503, 529)                             a rest, as long as its `retry-after`
500 and above; no answer, or a broken one        a failure
any other status; a prompt that is too long      a success: the request was at fault
"""

from relay.errors import BackendError, PromptTooLong, UpstreamStatus, WentOffline
from relay.health import Health
from relay.upstream.headers import retry_after_s

BUSY = frozenset({429, 503, 529})
"""Statuses that say "later": RFC 6585, RFC 9110, and Anthropic's own."""

REST_S = 1.0
"""How long a busy target is left alone when it does not say so itself."""

LONGEST_REST_S = 60.0
"""A target that asks for more is tried again after that: nobody else may be there by then."""


def judge(health: Health, failure: BackendError) -> None:
    """Tell a target's health what a failure says of it."""
    if failure.another_key or failure.code == "overloaded" or isinstance(failure, WentOffline):
        return
    if isinstance(failure, PromptTooLong):
        health.succeeded()
    elif not isinstance(failure, UpstreamStatus):
        health.failed(failure.message)
    elif failure.status in BUSY:
        wait_s = retry_after_s(failure.headers)
        health.rest(REST_S if wait_s is None else min(wait_s, LONGEST_REST_S))
    elif failure.status >= 500:
        health.failed(failure.message)
    else:
        health.succeeded()
