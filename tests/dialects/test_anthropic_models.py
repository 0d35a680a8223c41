"""Anthropic's models in OpenAI's form."""

import json

import pytest

from relay.dialects.anthropic_models import to_models_body
from relay.errors import UpstreamProtocol
from relay.schema import ModelList

CARD = {"type": "model", "id": "claude-x", "created_at": "2025-02-19T00:00:00Z"}


def test_a_list_is_openais_list() -> None:
    body = to_models_body(json.dumps({"data": [CARD, {"id": 7}, None], "has_more": False}).encode())
    [card] = ModelList.model_validate_json(body).data
    assert (card.id, card.created, card.owned_by) == ("claude-x", 1739923200, "anthropic")


def test_one_model_is_openais_card() -> None:
    told = {"id": "claude-x", "object": "model", "created": 1739923200, "owned_by": "anthropic"}
    assert json.loads(to_models_body(json.dumps(CARD).encode())) == told


@pytest.mark.parametrize(
    "moment", [None, 5, "yesterday", "0001-01-01T00:00:00+23:59", "1960-01-01"]
)
def test_an_age_that_nobody_can_read_is_zero(moment: object) -> None:
    body = to_models_body(json.dumps({"id": "m", "created_at": moment}).encode())
    assert json.loads(body)["created"] == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": 5}', b"<html>"])
def test_what_is_no_model_is_the_upstreams_fault(body: bytes) -> None:
    with pytest.raises(UpstreamProtocol):
        to_models_body(body)
