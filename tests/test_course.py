"""What follows a failed attempt: what the end-to-end tests cannot bring about at will."""

from collections import deque
from time import perf_counter
from typing import Any

import pytest

from relay.course import LEAST_LEFT_S, Course
from relay.errors import UpstreamTimeout
from relay.routing import Router
from relay.settings import ModelSettings
from relay.types import Call

MODEL = {"id": "m", "targets": [{"upstream": "a"}], "fallback": [{"upstream": "b"}]}


@pytest.mark.parametrize(("left_s", "goes_on"), [(LEAST_LEFT_S / 5, False), (60.0, True)])
def test_a_timer_that_goes_off_early_leaves_no_time_for_another_attempt(
    left_s: float, goes_on: bool
) -> None:
    backends: Any = {name: f"backend {name}" for name in "ab"}
    models = [ModelSettings.model_validate(MODEL)]
    router = Router(mode="remote", upstreams=backends, local=None, models=models)
    call = Call(path="chat/completions", model="m")
    route = router.route(call)
    first, *others = route.course(call)
    course = Course(
        router,
        route,
        first,
        deque(others),
        call,
        retries=0,
        max_retry_after_s=10.0,
        ends_at=perf_counter() + left_s,
    )
    assert course.goes_on_after(UpstreamTimeout("the total time is over")) is goes_on
