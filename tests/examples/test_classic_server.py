"""The classic server of the examples, behind a real relay."""

import runpy
from pathlib import Path

from running import StartRelay

PROGRAM = Path(__file__).parents[2] / "examples" / "classic_server.py"


def test_a_model_of_ones_own_answers_over_http(start_relay: StartRelay) -> None:
    relay = start_relay(local=runpy.run_path(str(PROGRAM))["Parrot"]())
    answer = relay.ask("Polly wants a cracker").json()
    assert answer["choices"][0]["message"]["content"] == (
        "You have said 1 things; the last was: Polly wants a cracker"
    )
    assert relay.ask("Polly", stream=True).text.endswith("data: [DONE]\n\n")
    assert [card["id"] for card in relay.http.get("/v1/models").json()["data"]] == ["parrot"]
