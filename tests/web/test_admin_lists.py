"""The lists of the admin API, page by page: over HTTP, on a real database."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from running import RunningRelay, StartRelay

KEY = "ak-admin-0123456789"
ADMIN = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def relay(start_relay: StartRelay, tmp_path: Path) -> RunningRelay:
    return start_relay(local="echo", admin_key=KEY, database_url=f"sqlite:///{tmp_path}/relay.db")


def get(relay: RunningRelay, path: str, **query: Any) -> httpx.Response:
    return relay.http.get(f"/admin/{path}", params=query, headers=ADMIN)


def listed(relay: RunningRelay, path: str, **query: Any) -> dict[str, Any]:
    answer = get(relay, path, **query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def make(relay: RunningRelay, path: str, name: str, **fields: Any) -> str:
    answer = relay.http.post(f"/admin/{path}", json={"name": name, **fields}, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def revoke(relay: RunningRelay, id_: str) -> None:
    assert relay.http.delete(f"/admin/keys/{id_}", headers=ADMIN).status_code == 200


def names(page: dict[str, Any]) -> list[str]:
    return [one["name"] for one in page["data"]]


@pytest.mark.parametrize("path", ["keys", "teams"])
def test_a_list_comes_in_pages_as_openais_lists_do(relay: RunningRelay, path: str) -> None:
    nothing = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert listed(relay, path) == listed(relay, path, limit=5) == nothing
    ids = [make(relay, path, name) for name in "abcde"]
    whole = listed(relay, path)
    assert [one["id"] for one in whole["data"]] == ids
    assert (whole["first_id"], whole["last_id"], whole["has_more"]) == (ids[0], ids[-1], False)
    first = listed(relay, path, limit=3)
    assert first["data"] == whole["data"][:3]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[0], ids[2], True)
    second = listed(relay, path, limit=3, after=first["last_id"])
    assert second["data"] == whole["data"][3:]
    assert second["has_more"] is False
    assert listed(relay, path, limit=3, after=ids[-1])["data"] == []
    assert listed(relay, path, after=ids[1])["data"] == whole["data"][2:]
    newest = listed(relay, path, limit=2, order="desc", after=ids[3])
    assert (names(newest), newest["has_more"]) == (["c", "b"], True)


def test_whoever_walks_on_from_a_key_that_was_revoked_misses_none(relay: RunningRelay) -> None:
    ids = [make(relay, "keys", name) for name in "abcd"]
    first = listed(relay, "keys", limit=2)
    revoke(relay, first["last_id"])
    assert names(listed(relay, "keys", limit=2, after=ids[1])) == ["c", "d"]
    assert names(listed(relay, "keys", limit=2)) == ["a", "c"]


def test_keys_are_found_by_team_by_state_and_by_a_part_of_their_name(relay: RunningRelay) -> None:
    team = make(relay, "teams", "Research")
    make(relay, "keys", "Nightly build", team=team)
    make(relay, "keys", "laptop", team=team, expires_at=1)
    gone = make(relay, "keys", "old build")
    revoke(relay, gone)
    assert names(listed(relay, "keys", q="BUILD")) == ["Nightly build"]
    assert names(listed(relay, "keys", q="build", revoked=True)) == ["Nightly build", "old build"]
    assert names(listed(relay, "keys", q=gone[4:], status="revoked")) == ["old build"]
    assert names(listed(relay, "keys", q="research", limit=1)) == ["Nightly build"]
    for one in (team, "Research"):
        assert names(listed(relay, "keys", team=one)) == ["Nightly build", "laptop"]
    assert names(listed(relay, "keys", status="active")) == ["Nightly build"]
    assert names(listed(relay, "keys", status="expired", team=team)) == ["laptop"]
    assert names(listed(relay, "keys", status="revoked")) == ["old build"]


def test_a_team_says_how_many_keys_it_has(relay: RunningRelay) -> None:
    team = make(relay, "teams", "ops")
    keys = [make(relay, "keys", name, team=team) for name in "ab"]
    revoke(relay, keys[0])
    assert [one["keys"] for one in listed(relay, "teams")["data"]] == [1]
    assert get(relay, f"teams/{team}").json()["keys"] == 1
    refused = relay.http.delete(f"/admin/teams/{team}", headers=ADMIN)
    assert "1 keys belong to the team" in refused.json()["error"]["message"]


def test_the_acts_say_where_to_go_on_and_where_they_end(relay: RunningRelay) -> None:
    for name in "abc":
        make(relay, "keys", name)
    whole = listed(relay, "audit")
    assert (len(whole["data"]), whole["next_before"]) == (3, None)
    first = listed(relay, "audit", limit=2)
    assert (first["data"], first["next_before"]) == (whole["data"][:2], whole["data"][1]["at"])
    last = listed(relay, "audit", limit=1, before=first["next_before"])
    assert (last["data"], last["next_before"]) == (whole["data"][2:], None)


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("keys", {"limit": 0}, "limit"),
        ("keys", {"limit": 1001}, "limit"),
        ("keys", {"limit": "many"}, "limit"),
        ("keys", {"limit": ""}, "limit"),
        ("keys", {"after": "key_none"}, "after"),
        ("keys", {"after": ""}, "after"),
        ("keys", {"order": "up"}, "order"),
        ("keys", {"status": "lost"}, "status"),
        ("keys", {"revoked": "perhaps"}, "revoked"),
        ("keys", {"team": "nobody"}, "team"),
        ("keys", {"q": "\0"}, "q"),
        ("keys", {"q": "a" * 101}, "q"),
        ("keys", {"before": "key_none"}, "before"),
        ("teams", {"limit": 0}, "limit"),
        ("teams", {"after": "team_none"}, "after"),
        ("teams", {"q": "a"}, "q"),
        ("audit", {"limit": 1001}, "limit"),
        ("audit", {"before": "yesterday"}, "before"),
    ],
)
def test_what_is_wrong_with_a_question_is_named(
    relay: RunningRelay, path: str, query: dict[str, Any], param: str
) -> None:
    answer = get(relay, path, **query)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_the_documentation_tells_how_to_ask(relay: RunningRelay) -> None:
    paths = relay.http.get("/openapi.json").json()["paths"]
    told = {one["name"] for one in paths["/admin/keys"]["get"]["parameters"]}
    assert told == {"limit", "after", "order", "revoked", "status", "team", "q"}
    assert all(one["description"] for one in paths["/admin/keys"]["get"]["parameters"])
    told = {one["name"] for one in paths["/admin/teams"]["get"]["parameters"]}
    assert told == {"limit", "after", "order"}
    assert "422" not in paths["/admin/keys"]["get"]["responses"]
