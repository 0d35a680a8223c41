"""What follows a failed attempt: whom to ask next, and after how long. Decided without I/O.

failure                                        what follows
nothing was sent (no connection)               the same target again, `retries` times (after a
                                               wait, if there is no other one); then the next
another key may be tried (429, 401)            the same target, at once
the network is away (see `switch/`)            the local model
busy (429, 503, 529)                           the next target; if there is none, the same one after
                                               its `retry-after`, when `retries` of the model say so
the prompt is too long                         the model's `context_fallback`
500 and above, 408, a time limit, a broken     the next target
answer, a refused key, no room
any other status                               nothing: the client gets it as it is

All of that before the first bytes of an answer, within the total time of the call, and never when
a body that is read once has been sent.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import orjson
from tenacity import RetryCallState, wait_exponential_jitter

from relay.errors import BackendError, NothingSent, PromptTooLong, UpstreamStatus
from relay.routing import LOCAL, Route, Router, Target
from relay.types import Call
from relay.upstream.headers import retry_after_s
from relay.verdict import BUSY

TOO_LONG = ("maximum context length", "prompt is too long", "exceed context limit")
"""How OpenAI's servers and Anthropic's say that, where they have no code for it."""

MAX_KEYS_TRIED = 10

LEAST_LEFT_S = 0.01
"""With less left of its total time a call is over: the event loop's timers go off a millisecond or
two early, so the end of that time would look like time for one more attempt."""

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
JITTER_S = 0.1

_backoff = wait_exponential_jitter(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S, jitter=JITTER_S)


@dataclass(slots=True)
class Course:
    """The rest of one call's way, from its first failure on.

    `target` is whom to ask now; `ends_at` when all attempts must be over (of `perf_counter`).
    """

    router: Router
    route: Route
    target: Target
    left: deque[Target]
    call: Call
    retries: int
    max_retry_after_s: float
    ends_at: float
    _again: int = 0
    _keys_tried: int = 0
    _wait_s: float | None = 0.0
    _context: Sequence[Target] = field(init=False)
    _asked_locally: bool = False

    def __post_init__(self) -> None:
        self._context = self.route.context_fallback
        self._asked_locally = self.target.name == LOCAL

    def goes_on_after(self, failure: BaseException) -> bool:
        """Whether another attempt follows that failure; then `target` and `wait` say which."""
        if not isinstance(failure, BackendError):
            return False
        if self.call.content is not None and not isinstance(failure, NothingSent):
            return False
        if not self._decide(failure):
            return False
        return perf_counter() + (self._wait_s or 0) + LEAST_LEFT_S < self.ends_at

    def within_time(self) -> Call:
        """The call, for no longer than what is left of its total time."""
        usual = self.target.limits or self.target.usual
        left_s = self.ends_at - perf_counter()
        if usual is None or left_s >= usual.total_s:
            return self.call
        return replace(self.call, timeouts={**(self.call.timeouts or {}), "total_s": left_s})

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt."""
        return _backoff(state) if self._wait_s is None else self._wait_s

    def _decide(self, failure: BackendError) -> bool:
        if failure.another_key and self._keys_tried < MAX_KEYS_TRIED:
            self._keys_tried += 1
            self._wait_s = 0.0
            return True
        if isinstance(failure, PromptTooLong):
            return self._with_more_room()
        if not isinstance(failure, UpstreamStatus) and self._moves_local():
            return True
        if isinstance(failure, NothingSent):
            wait_s = 0.0 if self.left else None  # nobody waits while there is somebody else
            return self._same(wait_s, self._retries()) or self._next()
        if isinstance(failure, UpstreamStatus):
            return self._decide_on_status(failure)
        return self._next()

    def _decide_on_status(self, failure: UpstreamStatus) -> bool:
        if failure.status in BUSY:
            return self._next() or self._after_rest(failure)
        if self._context and is_too_long(failure):
            return self._with_more_room()
        return (failure.status >= 500 or failure.status == 408) and self._next()

    def _with_more_room(self) -> bool:
        self.left, self._context = deque(self._context), ()
        return self._next()

    def _retries(self) -> int:
        return self.retries if self.route.retries is None else self.route.retries

    def _same(self, wait_s: float | None, times: int) -> bool:
        if self._again >= times:
            return False
        if self.left and not self.target.health.admits:
            return False
        self._again += 1
        self._wait_s = wait_s
        return True

    def _after_rest(self, failure: UpstreamStatus) -> bool:
        wait_s = retry_after_s(failure.headers)
        if wait_s is not None and wait_s > self.max_retry_after_s:
            return False
        return self._same(wait_s, self.route.retries or 0)

    def _moves_local(self) -> bool:
        """Whether the relay went over to the local model meanwhile, which then answers."""
        if self._asked_locally or self.router.serving != LOCAL:
            return False
        if not self.router.answers_locally(self.call.path):
            return False
        self.left = deque(self.router.route(self.call).targets)
        return self._next()

    def _next(self) -> bool:
        while self.left:
            target = self.left.popleft()
            if target.health.admits or not self.left:
                self.target = target
                self._asked_locally = self._asked_locally or target.name == LOCAL
                self._again = self._keys_tried = 0
                self._wait_s = 0.0
                return True
        return False


def is_too_long(failure: UpstreamStatus) -> bool:
    """Whether an upstream says that the prompt is longer than its context."""
    if failure.status not in (400, 413, 422):
        return False
    try:
        error = orjson.loads(failure.body)["error"]
        code, message = error.get("code"), error.get("message")
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return False
    return code == "context_length_exceeded" or any(words in str(message) for words in TOO_LONG)
