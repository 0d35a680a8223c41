"""How fast the messages of one socket come."""

import asyncio


class Pace:
    """Counts messages; a second takes off as many as are allowed in one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time()
        self._counted = 0.0

    def excess(self, per_s: float) -> float:
        """Count one more; how many there are beyond those of a second, 0 while there are none."""
        now = self._loop.time()
        self._counted = max(0.0, self._counted - (now - self._at) * per_s) + 1
        self._at = now
        return max(0.0, self._counted - max(1.0, per_s))
