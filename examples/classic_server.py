"""The classic `openai_api.py`, reborn: a model of your own behind OpenAI's API.

    python examples/classic_server.py
    curl localhost:8000/v1/chat/completions -H 'content-type: application/json' \
        -d '{"model": "parrot", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
"""

from collections.abc import Iterator

import relay
from relay.local import Prompt


class Parrot:
    """Put a real one here: it gets `prompt.query` and `prompt.history`, and yields text."""

    def generate(self, prompt: Prompt) -> Iterator[str]:
        yield f"You have said {len(prompt.history) + 1} things; the last was:"
        for word in prompt.query.split():
            yield f" {word}"


if __name__ == "__main__":
    relay.serve(relay.Settings(port=8000), local=Parrot())
