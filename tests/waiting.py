"""Waiting for what nobody tells: looked at again and again, with a pause for those who bring it."""

import threading
import time
from collections.abc import Callable

from fake_script import PATIENCE_S

PAUSE_S = 0.01
_NEVER = threading.Event()


def until(holds: Callable[[], object], *, patience_s: float = 2 * PATIENCE_S) -> None:
    """Return when it is so. Raises: AssertionError: it is not so for too long."""
    ends_at = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < ends_at, "what was waited for did not come"
        _NEVER.wait(PAUSE_S)
