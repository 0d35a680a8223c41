"""What is counted of the events."""

from typing import Any

from relay.events import RequestEnded
from relay.settings import Settings
from relay.telemetry.metrics import FOLD_AT, Metrics
from relay.types import Usage


class Prices:
    """Those that come late."""

    nano: int | None = None

    def cost(self, model: str, upstream: str, usage: Usage) -> int | None:
        return self.nano


def ended(**fields: Any) -> RequestEnded:
    usual: dict[str, Any] = dict.fromkeys(RequestEnded._fields, "")
    usual |= {"path": "/v1/chat/completions", "served": "m", "target": "a", "status": 200}
    usual |= {"attempts": 1, "cost_nano": None, "first_token_s": None, "duration_s": 0.2}
    usual |= {"usage": Usage(10, 5), "estimated": False}
    return RequestEnded(**usual | fields)


def test_what_was_unpriced_while_prices_were_loaded_is_priced_when_it_is_counted() -> None:
    prices = Prices()
    metrics = Metrics(Settings(), lambda: prices)
    metrics.observe(ended())
    prices.nano = 2_000_000_000
    found = metrics.snapshot()
    assert found["relay_cost_usd_total"] == [(("a", "m"), 2.0)]
    assert found["relay_requests_unpriced_total"] == []


def test_a_name_that_was_refused_first_is_told_as_soon_as_it_has_answered() -> None:
    metrics = Metrics(Settings(), Prices)
    for status in (404, 200, 404):
        metrics.observe(ended(status=status))
        metrics.snapshot()
    found = dict(metrics.snapshot()["relay_requests_total"])
    path = "/v1/chat/completions"
    assert found == {
        (path, "other", "a", "404"): 1,
        (path, "m", "a", "200"): 1,
        (path, "m", "a", "404"): 1,
    }


def test_no_more_than_a_few_events_wait() -> None:
    metrics = Metrics(Settings(), Prices)
    for _ in range(FOLD_AT * 3 + 1):
        metrics.observe(ended())
        assert len(metrics._events) < FOLD_AT
    assert metrics.snapshot()["relay_requests_total"][0][1] == FOLD_AT * 3 + 1
    assert metrics.snapshot()["relay_requests_total"][0][1] == FOLD_AT * 3 + 1
