"""How hard a model shall think: OpenAI's word for it, and Anthropic's budget in tokens.

    reasoning_effort   minimal   low    medium   high     xhigh
    budget_tokens      1024      2048   8192     16384    32768

A budget counts towards `max_tokens` and must be smaller. The way back knows only the three words
that every reasoning model takes. Models from Claude 4.7 on set their budget themselves: they are
told an effort, and refuse both a budget and sampling parameters.

Source: Claude guides, "Extended thinking", "Adaptive thinking".
"""

import re

MIN_BUDGET_TOKENS = 1024
"""A smaller budget is refused."""

BUDGET_TOKENS = {
    "minimal": MIN_BUDGET_TOKENS,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
}

ADAPTIVE = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
"""`reasoning_effort` as `output_config.effort` of models that set their budget themselves."""

FROM_ADAPTIVE = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "xhigh",
}
"""The other way."""


_VERSION = re.compile(r"claude-[a-z]+-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_FIRST_ADAPTIVE = (4, 7)


def is_adaptive(model: str) -> bool:
    """Whether a model sets its thinking budget itself, by its name (`claude-opus-4-7`)."""
    found = _VERSION.search(model)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= _FIRST_ADAPTIVE


def budget_within(effort: str, max_tokens: int) -> int | None:
    """The budget of an effort, at most half of `max_tokens`; None when that is too little."""
    budget = min(BUDGET_TOKENS[effort], max_tokens // 2)
    return budget if budget >= MIN_BUDGET_TOKENS else None


def effort_of(budget_tokens: int) -> str:
    """The effort that comes nearest to a budget without staying below it, `high` at most."""
    for effort in ("low", "medium"):
        if budget_tokens <= BUDGET_TOKENS[effort]:
            return effort
    return "high"
