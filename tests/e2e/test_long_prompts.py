"""A prompt that is too long for the local model goes where there is room, as the model says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_upstream import FakeUpstream
from running import StartRelay

from relay.errors import PromptTooLong
from relay.local import Prompt


class Cramped:
    """A local model whose context is one word."""

    def generate(self, prompt: Prompt) -> Iterator[str]:
        if len(prompt.messages[-1]["content"].split()) > 1:
            raise PromptTooLong("The prompt is too long.", param="messages")
        yield "fine"


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
def test_a_prompt_that_is_too_long_for_the_local_model_goes_on_as_well(
    start_relay: StartRelay, upstream: FakeUpstream, streamed: bool
) -> None:
    models: list[dict[str, Any]] = [
        {
            "id": name,
            "targets": [{"local": True}],
            "fallback": [{"upstream": "upstream", "model": "failed"}],
            "context_fallback": context,
        }
        for name, context in (("m", [{"upstream": "upstream", "model": "long"}]), ("n", []))
    ]
    relay = start_relay(upstream_url=upstream.url, local=Cramped(), models=models)
    assert relay.ask("short", stream=streamed).headers["x-relay-upstream"] == "local"
    reply = relay.ask("rather too long", stream=streamed)
    assert (reply.status_code, reply.headers["x-relay-upstream"]) == (200, "upstream")
    assert json.loads(upstream.requests[0].body)["model"] == "long"
    refused = relay.ask("rather too long", stream=streamed, model="n")
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        *(400, "context_length_exceeded"),
    )
    assert len(upstream.requests) == 1
    assert relay.relay.router.health["local"].failures == 0
