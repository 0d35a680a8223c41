"""Numbers by their labels: never too many, and the sum of several processes."""

import pytest

from relay.telemetry.counting import MAX_SETS, Durations, Numbers, Snapshot, Sums
from relay.telemetry.families import BY_NAME, FAMILIES


def test_what_comes_after_the_most_sets_of_labels_is_other() -> None:
    numbers, durations = Numbers(), Durations((1.0,))
    for number in range(MAX_SETS + 500):
        numbers.add(1, "a", str(number))
        durations.add([0.5], str(number))
    numbers.add(1, "a", "0")
    assert numbers["other", "other"] == 500
    assert numbers["a", "0"] == 2
    assert len(numbers) == len(durations) == MAX_SETS + 1
    assert durations[("other",)] == [500, 0, 250]


def test_a_duration_on_a_bound_is_in_its_bucket() -> None:
    durations = Durations((1.0, 2.0))
    for seconds in (1.0, 1.5, 2.0, 3.0):
        durations.add([seconds], "a")
    assert durations[("a",)] == [1, 2, 1, 7.5]


def test_what_an_ended_process_counted_stays_and_how_it_stood_does_not() -> None:
    ended: Snapshot = {
        "relay_requests_total": [(["/v1", "m", "a", "200"], 3)],
        "relay_first_token_seconds": [(["a"], [1, 0, 2.0])],
        "relay_requests_in_flight": [([], 7)],
        "process_start_time_seconds": [([], 10)],
        "relay_build_info": [(["1", "3"], 1)],
    }
    living: Snapshot = {
        "relay_requests_total": [(["/v1", "m", "a", "200"], 2), (["/v1", "m", "a", "500"], 1)],
        "relay_first_token_seconds": [(["a"], [0, 1, 5.0])],
        "relay_requests_in_flight": [([], 1)],
        "process_start_time_seconds": [([], 30)],
        "relay_build_info": [(["1", "3"], 1)],
    }
    sums = Sums()
    sums.add(ended, ended=True)
    sums.add(living)
    sums.add(living | {"process_start_time_seconds": [([], 20)]})
    assert sums.snapshot() == {
        "relay_requests_total": [
            (("/v1", "m", "a", "200"), 7),
            (("/v1", "m", "a", "500"), 2),
        ],
        "relay_first_token_seconds": [(("a",), [1, 2, 12.0])],
        "relay_requests_in_flight": [((), 2)],
        "relay_build_info": [(("1", "3"), 1)],
        "process_start_time_seconds": [((), 20)],
    }


def test_processes_that_come_and_go_do_not_make_ever_more() -> None:
    sums = Sums()
    for number in range(MAX_SETS + 10):
        sums.add({"relay_requests_estimated_total": [([str(number)], 1)]}, ended=True)
    rows = dict(sums.snapshot()["relay_requests_estimated_total"])
    assert len(rows) == MAX_SETS + 1
    assert rows[("other",)] == 10


@pytest.mark.parametrize("name", BY_NAME)
def test_names_are_as_prometheus_wants_them(name: str) -> None:
    family = BY_NAME[name]
    assert name.startswith(("relay_", "process_"))
    assert (family.kind == "counter") == name.endswith("_total")
    assert (family.kind == "histogram") == bool(family.buckets)
    assert family.buckets == tuple(sorted(family.buckets))
    assert len(BY_NAME) == len(FAMILIES)
