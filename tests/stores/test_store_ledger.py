"""What both stores promise of the ledger."""

import asyncio
import math
from typing import Any

import pytest
from ledger_rows import DAY, HOUR, MONDAY, row

from relay.stores import Bodies, RowQuery, Store, UsageQuery, UsageSum, open_store
from relay.stores.histograms import BOUNDS_S, BUCKETS, bucket_of
from relay.stores.records import GroupBy

ALL_TIME = {"begins_at": 0, "ends_at": math.inf}


def query(begins_at: float = 0, ends_at: float = math.inf, **rest) -> UsageQuery:
    return UsageQuery(begins_at=begins_at, ends_at=ends_at, **rest)


async def requests(store: Store, begins_at: float = 0, ends_at: float = math.inf, **rest) -> int:
    return sum(one.requests for one in await store.usage(query(begins_at, ends_at, **rest)))


class TestRows:
    async def test_a_row_comes_back_as_it_was_kept(self, store: Store):
        full = row(
            MONDAY + 0.123456,
            team_id="team",
            attempts=3,
            lost_attempts=1,
            status=502,
            error="upstream_protocol",
            stream=True,
            cached_tokens=4,
            reasoning_tokens=2,
            audio_tokens=1,
            estimated=True,
        )
        bare = row(
            prompt_tokens=None,
            completion_tokens=None,
            cost_nano=None,
            first_token_s=None,
            model_served="",
        )
        await store.append([bare, full])
        assert await store.recent(limit=10) == [full, bare]
        assert [type(value) for value in (await store.recent(limit=1))[0]] == [
            type(value) for value in full
        ]

    async def test_the_latest_come_first_page_by_page_and_of_one_key(self, store: Store):
        rows = [row(MONDAY + second, key_id=f"key-{second % 2}") for second in range(10)]
        await store.append(rows)
        assert await store.recent(limit=3) == rows[:6:-1]
        assert await store.recent(limit=3, before=rows[7].at) == rows[6:3:-1]
        assert await store.recent(limit=2, key_id="key-1") == [rows[9], rows[7]]
        assert await store.recent(limit=2, key_id="key-1", before=rows[7].at) == [rows[5], rows[3]]
        assert await store.recent(limit=9, key_id="nobody") == []

    async def test_the_latest_of_a_key_are_found_however_far_apart(self, store: Store):
        times = [MONDAY + step * 17 * HOUR + step for step in range(40)]
        await store.append([row(at, key_id="rare") for at in times])
        await store.append([row(MONDAY + step * 600) for step in range(5000)])
        found = await store.recent(limit=30, key_id="rare")
        assert [one.at for one in found] == times[:9:-1]
        found = await store.recent(limit=99, key_id="rare", before=times[20])
        assert [one.at for one in found] == times[19::-1]
        await store.expire(rows_before=MONDAY + 9.5 * DAY, bodies_before=0)
        kept = [at for at in times if at >= MONDAY + 9.5 * DAY]
        assert [one.at for one in await store.recent(limit=99, key_id="rare")] == kept[::-1]

    async def test_nothing_to_keep_is_fine(self, store: Store):
        await store.append([])
        assert await store.recent(limit=10) == []
        assert await store.usage(query()) == []
        assert await store.usage(query(group_by=["key"])) == []

    async def test_a_batch_that_is_tried_again_counts_once(self, store: Store):
        first = [row(MONDAY + second) for second in range(300)]
        await store.append(first)
        before = await store.usage(query())
        await store.append(first)
        assert await store.usage(query()) == before
        await store.append([first[7], row(MONDAY + 300), first[8], row(MONDAY + 300)])
        assert await requests(store) == 301
        assert len(await store.recent(limit=1000)) == 301

    async def test_one_id_at_two_times_is_two_rows(self, store: Store):
        await store.append([row(1.0, request_id="same"), row(2.0, request_id="same")])
        assert await requests(store) == 2

    async def test_several_processes_append_at_once(self, store: Store, store_url: str):
        others = [open_store(store_url) for _ in range(4)]
        await asyncio.gather(
            *(
                other.append(
                    [
                        row(MONDAY + HOUR * (second % 5), request_id=f"{number}-{batch}-{second}")
                        for second in range(20)
                    ]
                )
                for number, other in enumerate(others)
                for batch in range(10)
            )
        )
        for other in others:
            await other.aclose()
        assert await requests(store, group_by=["hour"]) == 800
        assert await requests(store, group_by=["day"]) == 800


class TestSearch:
    async def found(self, store: Store, **wanted: Any) -> list[float]:
        page = await store.search(RowQuery(**{"limit": 100, **wanted}))
        assert page.next_before is None
        return [one.at - MONDAY for one in page.rows]

    async def test_it_is_by_key_model_upstream_and_status(self, store: Store):
        await store.append(
            [
                row(MONDAY, key_id="a", model_served="m1"),
                row(MONDAY + HOUR, key_id="a", model_served="m2", upstream="azure"),
                row(MONDAY + DAY, key_id="b", model_served="m2", status=429, error="limit"),
                row(MONDAY + DAY + 1, key_id="a", model_served="m2", error="upstream_protocol"),
            ]
        )
        assert await self.found(store, key_id="a") == [DAY + 1, HOUR, 0]
        assert await self.found(store, model="m2") == [DAY + 1, DAY, HOUR]
        assert await self.found(store, model="m2", key_id="a", upstream="openai") == [DAY + 1]
        assert await self.found(store, status="failed") == [DAY + 1, DAY]
        assert await self.found(store, status="ok") == [HOUR, 0]
        assert await self.found(store, status=429) == [DAY]
        assert await self.found(store, status=200, before=MONDAY + DAY) == [HOUR, 0]
        assert await self.found(store, status=503) == []
        assert await self.found(store, model="gpt", status="failed") == []

    async def test_a_full_page_says_where_the_next_one_begins(self, store: Store):
        await store.append(
            [row(MONDAY + 600 * step, model_served=f"m{step % 3}") for step in range(90)]
        )
        times, before = [], None
        while True:
            page = await store.search(RowQuery(limit=7, model="m1", before=before))
            times += [one.at for one in page.rows]
            if (before := page.next_before) is None:
                break
        assert times == [MONDAY + 600 * step for step in range(88, 0, -3)]

    @pytest.mark.parametrize(("name", "most"), [("MOST_ROWS", 25), ("MOST_HOURS", 2)])
    async def test_a_page_ends_when_enough_was_looked_at(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, name: str, most: int
    ):
        monkeypatch.setattr(f"relay.stores.searching.{name}", most)
        await store.append([row(MONDAY + 300 * step) for step in range(100)])
        await store.append([row(MONDAY + 1 + HOUR * step, status=500) for step in range(8)])
        await store.append([row(MONDAY + 2, status=404)])
        pages, before = [], None
        while True:
            page = await store.search(RowQuery(limit=10, status=404, before=before))
            pages.append([one.at - MONDAY for one in page.rows])
            if (before := page.next_before) is None:
                break
        assert [at for times in pages for at in times] == [2.0]
        assert len(pages) > 3
        assert len(pages) < 10


class TestTimes:
    async def test_they_are_counted_of_what_was_answered(self, store: Store):
        await store.append(
            [
                row(1, duration_s=1.0, first_token_s=0.1),
                row(2, duration_s=1.0, first_token_s=None),
                row(3, duration_s=50.0, first_token_s=20.0, status=502),
                row(4, duration_s=50.0, first_token_s=20.0, error="upstream_protocol"),
            ]
        )
        for bounds in ((0, math.inf), (0.5, 3000)):  # by sums, by rows
            (one,) = await store.usage(query(*bounds, percentiles=True))
            assert (sum(one.latency), sum(one.first_token)) == (2, 1)
            assert one.latency[bucket_of(1.0)] == 2
            assert one.first_token[bucket_of(0.1)] == 1
        (one,) = await store.usage(query())
        assert (one.latency, one.first_token) == ((), ())

    async def test_sums_and_rows_agree_at_every_bound(self, store: Store):
        times = [at for bound in BOUNDS_S for at in (bound, math.nextafter(bound, 0))]
        times += [0.0, 1e6]
        await store.append(
            [row(number, duration_s=at, first_token_s=at) for number, at in enumerate(times)]
        )
        (by_sums,) = await store.usage(query(percentiles=True))
        (by_rows,) = await store.usage(query(-1, 3000, percentiles=True))
        assert by_sums.latency == by_sums.first_token == by_rows.latency == by_rows.first_token
        wanted = [0] * BUCKETS
        for at in times:
            wanted[bucket_of(at)] += 1
        assert by_rows.latency == tuple(wanted)

    async def test_any_number_of_groups_and_batches_is_counted_once(self, store: Store):
        batches = [
            [
                row(MONDAY + HOUR * (number % 30) + number + batch * 100, key_id=f"k{number}")
                for number in range(90)
            ]
            for batch in range(3)
        ]
        for batch in (*batches, batches[0], batches[1]):
            await store.append(batch)
        for by, groups in (("day", 2), ("hour", 30), ("key", 90), ("model", 1)):
            found = await store.usage(query(group_by=[by], percentiles=True))
            assert len(found) == groups
            assert sum(sum(one.latency) for one in found) == 270
            assert sum(sum(one.first_token) for one in found) == 270

    async def test_they_are_there_for_others_when_the_store_was_closed(
        self, store: Store, store_url: str
    ):
        other = open_store(store_url)
        await other.append([row(MONDAY + step, key_id=f"k{step}") for step in range(50)])
        await other.aclose()
        (one,) = await store.usage(query(percentiles=True))
        assert sum(one.latency) == 50


class TestOddRows:
    @pytest.mark.parametrize("model", ["\0", "\ud800", "m" * 100_000, "a\nb\x7f", "模型-€-🦜"])
    async def test_what_a_client_calls_a_model_keeps_no_batch_out(self, store: Store, model: str):
        await store.append([row(1, model_asked=model, model_served=model), row(2)])
        kept = (await store.recent(limit=2))[1].model_served
        assert await requests(store) == 2
        assert 0 < len(kept) <= 256
        if model.isprintable() and len(model) < 256:
            assert kept == model

    @pytest.mark.parametrize("count", [-1, 2**63, 10**40])
    async def test_nor_does_what_an_upstream_counts(self, store: Store, count: int):
        await store.append([row(1, prompt_tokens=count, cost_nano=count), row(2)] * 2)
        (total,) = await store.usage(query())
        assert total.requests == 2
        assert 10 <= total.prompt_tokens < 2**63


class TestUsage:
    async def test_each_sum_is_right(self, store: Store):
        await store.append(
            [
                row(1, cached_tokens=3, reasoning_tokens=2, audio_tokens=1),
                row(2, status=500, error="internal_error", prompt_tokens=None, cost_nano=None),
                row(3, error="upstream_protocol", cost_nano=None, completion_tokens=None),
                row(4, status=404, prompt_tokens=0, completion_tokens=None, cost_nano=None),
            ]
        )
        assert await store.usage(query()) == [
            UsageSum(
                group={},
                requests=4,
                errors=3,
                prompt_tokens=20,
                completion_tokens=10,
                cached_tokens=3,
                reasoning_tokens=2,
                audio_tokens=1,
                cost_nano=1000,
                unpriced=2,
                duration_s=2.0,
            )
        ]

    async def test_it_is_grouped_by_what_was_asked_for_in_that_order(self, store: Store):
        await store.append(
            [
                row(MONDAY, key_id="b", team_id="t", model_served="m2"),
                row(MONDAY + 1, key_id="a", model_served="m1", upstream="azure"),
                row(MONDAY + DAY, key_id="b", model_served="m1"),
                row(MONDAY + DAY + HOUR, key_id="b", model_served="m1"),
            ]
        )

        async def groups(*by) -> list[tuple[str, ...]]:
            found = await store.usage(query(group_by=by))
            return [(*one.group.values(), one.requests) for one in found]

        assert await groups("key") == [("a", 1), ("b", 3)]
        assert await groups("team") == [("", 3), ("t", 1)]
        assert await groups("model", "key") == [("m1", "a", 1), ("m1", "b", 2), ("m2", "b", 1)]
        assert await groups("upstream") == [("azure", 1), ("openai", 3)]
        assert await groups("day") == [("2026-01-05", 2), ("2026-01-06", 2)]
        assert await groups("hour", "key") == [
            ("2026-01-05T00:00:00Z", "a", 1),
            ("2026-01-05T00:00:00Z", "b", 1),
            ("2026-01-06T00:00:00Z", "b", 1),
            ("2026-01-06T01:00:00Z", "b", 1),
        ]

    async def test_only_what_was_asked_for_is_counted(self, store: Store):
        await store.append(
            [
                row(1, key_id="a", team_id="t", model_served="m1", upstream="u1"),
                row(2, key_id="b", team_id="t", model_served="m2", upstream="u1"),
                row(3, key_id="c", team_id="", model_served="m2", upstream="u2"),
            ]
        )
        for bounds in ((0, math.inf), (0.5, 3000)):  # by sums, by rows
            assert await requests(store, *bounds, key_id="a") == 1
            assert await requests(store, *bounds, team_id="t") == 2
            assert await requests(store, *bounds, team_id="") == 1
            assert await requests(store, *bounds, model="m2") == 2
            assert await requests(store, *bounds, upstream="u1", model="m2") == 1
            assert await requests(store, *bounds, key_id="nobody") == 0

    @pytest.mark.parametrize(
        "by", [(), ("day",), ("hour", "model"), ("key",), ("day", "key"), ("hour", "team")]
    )
    async def test_any_stretch_of_time_is_exact(self, store: Store, by):
        times = [MONDAY - HOUR + minute * 1860.5 for minute in range(150)]
        await store.append([row(at) for at in times])
        edges = [
            MONDAY,
            MONDAY + 0.5,
            MONDAY + HOUR,
            times[1],
            times[2],
            MONDAY + 30 * HOUR + 1,
            MONDAY + 2 * DAY,
            times[-1],
            MONDAY + 4 * DAY,
        ]
        for begins_at in edges:
            for ends_at in edges:
                wanted = sum(begins_at <= at < ends_at for at in times)
                assert await requests(store, begins_at, ends_at, group_by=by) == wanted

    @pytest.mark.parametrize("by", [[], ["hour"], ["day", "model"], ["upstream"]])
    async def test_all_keys_together_come_to_what_they_come_to_one_by_one(
        self, store: Store, by: list[GroupBy]
    ):
        for batch in range(3):
            await store.append(
                [
                    row(
                        MONDAY + batch * HOUR + number * 700.5,
                        key_id=f"k{number % 7}",
                        team_id=f"t{number % 3}",
                        model_served=f"m{number % 2}",
                        upstream=f"u{number % 5}",
                        status=500 if number % 11 == 0 else 200,
                        duration_s=0.01 * number,
                    )
                    for number in range(200)
                ]
            )
        together = await store.usage(query(group_by=by, percentiles=True))
        apart: dict[tuple[str, ...], list[UsageSum]] = {}
        for one in await store.usage(query(group_by=[*by, "key"], percentiles=True)):
            apart.setdefault(tuple(one.group[name] for name in by), []).append(one)
        assert len(together) == len(apart)
        for all_of_it in together:
            each = apart[tuple(all_of_it.group.values())]
            for name in ("requests", "errors", "completion_tokens", "cost_nano"):
                assert getattr(all_of_it, name) == sum(getattr(one, name) for one in each)
            assert all_of_it.duration_s == pytest.approx(sum(one.duration_s for one in each))
            for name in ("latency", "first_token"):
                counts = zip(*(getattr(one, name) for one in each), strict=True)
                assert [*getattr(all_of_it, name)] == [sum(column) for column in counts]

    async def test_groups_of_rows_and_of_sums_are_the_same_groups(self, store: Store):
        await store.append([row(MONDAY + second * 60) for second in range(600)])
        (only,) = await store.usage(
            query(MONDAY + 90, MONDAY + 5 * HOUR + 90, group_by=["day", "model", "upstream"])
        )
        assert only.group == {"day": "2026-01-05", "model": "gpt-1", "upstream": "openai"}
        assert only.requests == 300


class TestSpent:
    async def test_it_counts_from_the_very_time(self, store: Store):
        times = [MONDAY + step * 3000 for step in range(100)]
        await store.append([row(at, key_id="k", team_id="t") for at in times])
        await store.append([row(at + 1, key_id="other") for at in times])
        for since in (0, MONDAY, times[1], times[1] + 0.5, MONDAY + HOUR, MONDAY + DAY, times[-1]):
            wanted = 1000 * sum(at >= since for at in times)
            assert await store.spent({"k": since, "t": since}) == {"k": wanted, "t": wanted}

    async def test_who_has_no_rows_has_spent_nothing(self, store: Store):
        await store.append([row(1, key_id="free", cost_nano=None)])
        assert await store.spent({"nobody": 0, "free": 0}) == {"nobody": 0, "free": 0}
        assert await store.spent({}) == {}


class TestExpiry:
    async def test_old_rows_and_bodies_go_and_the_sums_stay(self, store: Store):
        await store.append(
            [row(MONDAY + second) for second in range(0, 2 * HOUR, 600)],
            [Bodies(float(at), f"req-{at}", "key-a", b"{}", b"\0\xff") for at in range(5)],
        )
        before = await store.usage(query(group_by=["hour"]))
        assert await store.expire(rows_before=MONDAY + HOUR + 1, bodies_before=3) == (6, 3)
        assert len(await store.recent(limit=100)) == 6
        assert await store.usage(query(group_by=["hour"])) == before
        assert await store.expire(rows_before=MONDAY + HOUR + 1, bodies_before=3) == (0, 0)

    async def test_a_time_whose_rows_are_gone_counts_as_its_whole_hour(self, store: Store):
        await store.append([row(MONDAY + second, key_id="k") for second in range(0, 7200, 600)])
        await store.expire(rows_before=MONDAY + HOUR, bodies_before=0)
        assert await requests(store, MONDAY + 1200, MONDAY + 2 * HOUR) == 12
        assert await requests(store, MONDAY, MONDAY + 1200) == 6
        assert await store.spent({"k": MONDAY + 1200}) == {"k": 12_000}
        assert await requests(store, MONDAY + HOUR + 1, MONDAY + 2 * HOUR) == 5

    async def test_many_go_in_several_steps(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        for module in ("sqlite", "postgres"):
            monkeypatch.setattr(f"relay.stores.{module}.EXPIRED_AT_ONCE", 10)
        await store.append([row(second) for second in range(95)])
        assert await store.expire(rows_before=HOUR, bodies_before=0) == (95, 0)

    async def test_bodies_are_kept_once(self, store: Store):
        body = Bodies(1.0, "req-1", "key-a", b"question", b"answer")
        await store.append([row(1, request_id="req-1")], [body])
        await store.append([row(1, request_id="req-1")], [body])
        assert await store.expire(rows_before=0, bodies_before=2) == (0, 1)
