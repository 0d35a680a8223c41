"""What is asked of the ledger, in words; and what it answers."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import InvalidRequest
from relay.ledger import read_page, read_query, requests_report, usage_report
from relay.ledger.report import read_time
from relay.stores import RowPage, RowQuery, UsageSum
from relay.stores.histograms import BOUNDS_S, BUCKETS, bucket_of, quantile

NOON = 1_767_614_400.0  # 2026-01-05T12:00:00Z
DAY = 86400


def test_without_a_word_it_is_about_the_last_thirty_days_in_whole_hours() -> None:
    query = read_query({}, now=NOON + 1234)
    assert (query.begins_at, query.ends_at) == (NOON - 30 * DAY, NOON + 1234)
    assert query.group_by == []


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-05", NOON - DAY / 2),
        ("2026-01-05T12:00:00Z", NOON),
        ("2026-01-05T12:00:00", NOON),
        ("2026-01-05 13:00:00+01:00", NOON),
        ("1767614400", NOON),
        ("1767614400.5", NOON + 0.5),
        ("0", 0),
    ],
)
def test_times_are_dates_moments_or_seconds(text: str, at: float) -> None:
    assert read_time(text, "from") == at


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "-1", "1e99", "2026-13-01"])
def test_what_is_no_time_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="'to' must be a date") as caught:
        read_query({"to": text})
    assert caught.value.param == "to"


def test_groups_and_filters_are_taken() -> None:
    query = read_query(
        {
            "group_by": "key, day,key",
            "from": "2026-01-01",
            "to": "2026-02-01",
            "key": "key_1",
            "team": "t",
            "model": "m",
            "upstream": "u",
        }
    )
    assert query.group_by == ["key", "day"]
    assert query.ends_at - query.begins_at == 31 * DAY
    assert (query.key_id, query.team_id, query.model, query.upstream) == ("key_1", "t", "m", "u")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"group_by": "colour"}, "group_by"),
        ({"until": "2026-01-01"}, "until"),
        ({"percentiles": "yes"}, "percentiles"),
        ({"from": "2026-01-02", "to": "2026-01-02"}, "from"),
    ],
)
def test_a_wrong_question_is_refused_by_its_name(asked: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_query(asked)
    assert caught.value.param == param


def test_a_page_is_read() -> None:
    assert read_page({}) == RowQuery(limit=100)
    asked = {"limit": "7", "before": "1000", "key": "k", "model": "m", "upstream": "u"}
    wanted = RowQuery(limit=7, before=1000.0, key_id="k", model="m", upstream="u", status=429)
    assert read_page({**asked, "status": "429"}) == wanted
    assert read_page({"status": "failed"}).status == "failed"
    for status in ("bad", "99", "600", "", "٤٠٠", "9" * 5000):
        with pytest.raises(InvalidRequest) as caught:
            read_page({"status": status})
        assert caught.value.param == "status"
    for limit in ("0", "1001", "x", "-1", "", "9" * 5000, "٣"):
        with pytest.raises(InvalidRequest) as caught:
            read_page({"limit": limit})
        assert caught.value.param == "limit"
    with pytest.raises(InvalidRequest):
        read_page({"offset": "1"})


def total(key: str, requests: int, cost_nano: int, unpriced: int = 0) -> UsageSum:
    return UsageSum(
        group={"key": key},
        requests=requests,
        errors=1,
        prompt_tokens=10,
        completion_tokens=5,
        cached_tokens=1,
        reasoning_tokens=2,
        audio_tokens=3,
        cost_nano=cost_nano,
        unpriced=unpriced,
        duration_s=3.0,
    )


def test_a_report_has_a_line_for_each_group_and_one_for_all() -> None:
    query = read_query({"group_by": "key"}, now=NOON)
    sums = [total("key_1", 2, 1_500_000_000), total("", 4, 1, unpriced=3)]
    report = usage_report(query, sums, {"key_1": "Ada"})
    assert (report["from"], report["to"]) == ("2025-12-06T12:00:00Z", "2026-01-05T12:00:00Z")
    ada, nobody = report["data"]
    assert (ada["key"], ada["key_name"], ada["cost_usd"], ada["mean_s"]) == (
        "key_1",
        "Ada",
        1.5,
        1.5,
    )
    assert (nobody["key"], nobody["key_name"], nobody["unpriced_requests"]) == ("", None, 3)
    assert report["total"] == {
        "requests": 6,
        "errors": 2,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "cached_tokens": 2,
        "reasoning_tokens": 4,
        "audio_tokens": 6,
        "cost_usd": 1.500000001,
        "unpriced_requests": 3,
        "mean_s": 1.0,
    }


def test_a_report_of_nothing_is_zero() -> None:
    report = usage_report(read_query({}, now=NOON), [], {})
    assert report["data"] == []
    assert (report["total"]["requests"], report["total"]["mean_s"]) == (0, 0.0)
    assert requests_report(RowPage(rows=[], next_before=None)) == {"data": [], "next_before": None}


def histogram(*times: float) -> tuple[int, ...]:
    counts = [0] * BUCKETS
    for at in times:
        counts[bucket_of(at)] += 1
    return tuple(counts)


def test_percentiles_are_of_each_group_and_of_all_together() -> None:
    query = read_query({"group_by": "key", "percentiles": "true"}, now=NOON)
    quick = replace(total("a", 3, 0), latency=histogram(1.0, 1.0, 1.0))
    slow = replace(total("b", 1, 0), latency=histogram(60.0), first_token=histogram(2.0))
    report = usage_report(query, [quick, slow], {})
    first, second = report["data"]
    assert 0.67 < first["latency_s"]["p99"] < 1.5
    assert first["first_token_s"] == {"p50": None, "p95": None, "p99": None}
    assert 40 < second["latency_s"]["p50"] < 90
    assert 0.67 < report["total"]["latency_s"]["p50"] < 1.5
    assert 40 < report["total"]["latency_s"]["p95"] < 90
    assert "latency_s" not in usage_report(read_query({}, now=NOON), [quick], {})["total"]


@given(
    st.lists(st.floats(0.014, BOUNDS_S[-1], exclude_max=True), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.95, 0.99]),
)
def test_a_percentile_is_never_off_by_more_than_its_bucket(times: list[float], share: float):
    wanted = sorted(times)[math.ceil(share * len(times)) - 1]
    found = quantile(histogram(*times), share)
    assert found is not None
    assert wanted / 1.51 <= found <= wanted * 1.51


def test_times_out_of_all_bounds_are_counted_at_the_ends() -> None:
    assert quantile(histogram(0.0), 0.5) == pytest.approx(0.0163, rel=0.01)
    assert quantile(histogram(1e9), 0.5) == BOUNDS_S[-1]
    assert quantile([0] * BUCKETS, 0.5) is None
