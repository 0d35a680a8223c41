"""The known name that a wrong one was probably meant to be."""

import difflib
from collections.abc import Iterable

SIMILAR_ENOUGH = 0.5
"""Of difflib's ratio: below it a suggestion misleads more often than it helps."""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean …?`, or nothing when no known name is near.

    What all of them begin with is left out of the comparison, as it says nothing.
    """
    bare = [one.removeprefix(prefix) for one in known]
    close = difflib.get_close_matches(name.removeprefix(prefix), bare, 1, SIMILAR_ENOUGH)
    return f"; did you mean {prefix}{close[0]}?" if close else ""
