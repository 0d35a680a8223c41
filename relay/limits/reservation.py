"""What one call has reserved, until it is settled."""

from relay.limits.headers import rate_limit_lines
from relay.stores.counters import Ask, Counters, Granted
from relay.types import Usage


class Reservation:
    """Taken at all holders of a call; whoever has it ends it, whatever happens."""

    __slots__ = ("_counters", "_ended", "_granted", "ask")

    def __init__(self, counters: Counters, granted: Granted, ask: Ask) -> None:
        self.ask = ask
        self._counters = counters
        self._granted = granted
        self._ended = False

    def lines(self) -> bytes:
        """The headers that tell the client its limits; none when it has none a minute."""
        return rate_limit_lines(self.ask.holders, self._granted.used)

    def end(self, usage: Usage | None, cost_nano: int | None) -> None:
        """The call is over, and has used that much; again does nothing.

        What nobody knows (None) is what was reserved. A call that failed has used 0 of both.
        """
        if self._ended:
            return
        self._ended = True
        if usage is not None:
            tokens = usage.prompt_tokens + usage.completion_tokens
        else:
            tokens = self.ask.tokens if cost_nano is None else 0
        cost_nano = self.ask.cost_nano if cost_nano is None else cost_nano
        self._counters.settle(self._granted, tokens=tokens, cost_nano=cost_nano)
