"""What an answer cost, as the ledger would have it."""

import pytest
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay

from relay.settings import ModelSettings, PriceSettings

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100}
PRICE = PriceSettings.model_validate({"model": "large-1", "prompt_usd": 2, "completion_usd": 10})


def told(relay: RunningRelay, **answered: object) -> object:
    body = {"model": "large", "upstream": "upstream", "usage": USAGE} | answered
    answer = relay.http.post("/v1/relay/cost", json=body)
    answer.raise_for_status()
    return answer.json()["cost_usd"]


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    model = ModelSettings.model_validate(
        {
            "id": "large",
            "targets": [{"upstream": "upstream", "model": "large-1"}],
            "fallback": [{"local": True}],
        }
    )
    return start_relay(upstream_url=upstream.url, models=[model], prices=[PRICE], local="echo")


def test_a_price_is_that_of_the_model_as_its_target_calls_it(relay: RunningRelay) -> None:
    assert told(relay) == 0.003


def test_a_local_answer_is_free(relay: RunningRelay) -> None:
    assert told(relay, upstream="local") == 0


def test_nobody_knows_the_price_of_what_is_not_there(relay: RunningRelay) -> None:
    assert told(relay, model="none-such") is None
    assert told(relay, upstream="elsewhere") is None


def test_what_tells_no_tokens_is_refused(relay: RunningRelay) -> None:
    body = {"model": "large", "upstream": "upstream", "usage": {}}
    answer = relay.http.post("/v1/relay/cost", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "usage"


def test_it_asks_for_a_key_where_there_are_keys(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", api_keys=["rk-0123456789abcdef"])
    assert relay.http.post("/v1/relay/cost", json={}).status_code == 401
    assert relay.http.get("/v1/relay/cost").status_code == 401
