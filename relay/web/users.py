"""Who still uses a configuration that may have been replaced meanwhile."""

from collections.abc import Callable


class Users:
    """The answers that one configuration is giving: each enters before it begins, leaves after."""

    __slots__ = ("_then", "count")

    def __init__(self) -> None:
        self.count = 0
        self._then: Callable[[], None] | None = None

    def enter(self) -> None:
        """An answer begins."""
        self.count += 1

    def leave(self) -> None:
        """It is out, or given up."""
        self.count -= 1
        if self._then is not None and not self.count:
            self._then()

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` when nobody is left; at once when nobody is there."""
        self._then = then
        if not self.count:
            then()
