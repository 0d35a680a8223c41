"""Effort in words and in tokens."""

import pytest

from relay.dialects import effort


@pytest.mark.parametrize("word", ["low", "medium", "high"])
def test_a_word_comes_back_from_its_budget(word):
    assert effort.effort_of(effort.BUDGET_TOKENS[word]) == word


@pytest.mark.parametrize(
    ("word", "max_tokens", "budget"),
    [
        ("high", 100_000, 16384),
        ("high", 4096, 2048),
        ("minimal", 2048, 1024),
        ("minimal", 2047, None),
        ("high", 100, None),
    ],
)
def test_a_budget_leaves_at_least_as_much_for_the_answer(word, max_tokens, budget):
    assert effort.budget_within(word, max_tokens) == budget


@pytest.mark.parametrize(
    ("model", "adaptive"),
    [
        ("claude-opus-4-7", True),
        ("claude-opus-4-7-20260416", True),
        ("anthropic.claude-opus-4.8-v1:0", True),
        ("claude-sonnet-5", True),
        ("claude-haiku-5-5", True),
        ("claude-opus-10", True),
        ("claude-opus-4-6", False),
        ("claude-haiku-4-5-20251001", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-3-7-sonnet-20250219", False),
        ("claude-2.1", False),
        ("claude", False),
        ("gpt-4o", False),
    ],
)
def test_a_name_tells_whether_a_model_sets_its_budget(model, adaptive):
    assert effort.is_adaptive(model) is adaptive


def test_the_largest_budgets_are_a_word_that_every_reasoning_model_takes():
    assert effort.effort_of(31_999) == "high"
    assert effort.effort_of(1) == "low"
