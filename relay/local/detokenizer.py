"""From tokens to text, one at a time: a character may take several, and none is sent in halves."""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What decoders give for bytes that are no character yet."""


class Detokenizer:
    """Gives the text that each token adds.

    Only the tokens since the last whole character are decoded, and those of the piece before them:
    whether a word begins with a space depends on what it follows.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._told = 0
        """How many of the tokens have been told of; the others are no whole character yet."""

    def push(self, token: int) -> str:
        """What may be sent now; nothing while a character is not whole."""
        self._tokens.append(token)
        text = self._new()
        if text.endswith(UNFINISHED):
            return ""
        if text:
            del self._tokens[: self._told]
            self._told = len(self._tokens)
        return text

    def rest(self) -> str:
        """What is left at the end, broken characters included."""
        text = self._new()
        self._told = len(self._tokens)
        return text

    def _new(self) -> str:
        before = self._decode(self._tokens[: self._told])
        return self._decode(self._tokens)[len(before) :]
