"""The model that needs nothing: it answers with the last user text, word by word."""

import re
from collections.abc import Iterator

from relay.history import text_of
from relay.local.model import Prompt

WORD = re.compile(r"\s*\S+|\s+$")


class EchoModel:
    """Deterministic: for trying things out, and for tests."""

    name = "echo"

    def generate(self, prompt: Prompt) -> Iterator[str]:
        """Yield the last user text, a word at a time, each with the space before it."""
        for message in reversed(prompt.messages):
            if message.get("role") == "user":
                yield from WORD.findall(text_of(message.get("content")))
                return
