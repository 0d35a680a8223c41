"""Stop strings: nothing of one is ever sent, also when it comes in pieces."""

from collections.abc import Sequence


class StopText:
    """Text goes in piece by piece and comes out as soon as it can be no part of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """What may be sent now; once a stop string was found, nothing more comes."""
        if self.found:
            return ""
        text = self._held + piece
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found = True
            self._held = ""
            return text[: min(places)]
        held = self._held_length(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back when the text has ended: no stop string after all."""
        held, self._held = self._held, ""
        return held

    def _held_length(self, text: str) -> int:
        """How much of the end of the text may be the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
