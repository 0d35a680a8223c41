"""A local model that answers from a file: each line is `question words => answer`.

RELAY_LOCAL=canned relay serve      (once this package is installed)
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from relay.local import Options, Prompt

WORD = re.compile(r"\s*\S+")


class CannedOptions(Options):
    """What stands under [local_options] in relay.toml."""

    answers: Path | None = Field(None, description="the file; none: there is nothing to answer")
    otherwise: str = Field("I have no answer to that.", description="said when no line fits")
    word_s: float = Field(0.0, ge=0, description="seconds before each word")


class Canned:
    """Says the answer of the first line whose words are all in the question."""

    name = "canned"

    def __init__(self, options: CannedOptions) -> None:
        self._options = options
        text = options.answers.read_text(encoding="utf-8") if options.answers else ""
        lines = (line.split("=>", 1) for line in text.splitlines() if "=>" in line)
        self._answers = [(set(words.lower().split()), answer.strip()) for words, answer in lines]

    def generate(self, prompt: Prompt) -> Iterator[str]:
        asked = set(re.findall(r"\w+", prompt.query.lower()))
        fitting = (answer for words, answer in self._answers if words <= asked)
        for word in WORD.findall(next(fitting, self._options.otherwise)):
            if prompt.left.wait(self._options.word_s):
                return  # nobody listens any more
            yield word

    def count_tokens(self, text: str) -> int:
        return len(WORD.findall(text))
