"""Sums of all keys together: a question about none of them need not read a thousand.

They begin as what the sums of the hours come to.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

SUMS = (
    "requests",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "cost_nano",
    "unpriced",
)
TIMES = [f"{name}_{number:02}" for name in ("latency", "first_token") for number in range(24)]
GROUP = "begins_at, key_id, team_id, model, upstream"
ENDS = {"sqlite": " WITHOUT ROWID", "postgresql": " WITH (fillfactor = 70)"}

TABLE = """CREATE TABLE relay_totals (
    begins_at BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    team_id TEXT NOT NULL,
    model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    {sums},
    duration_s DOUBLE PRECISION NOT NULL,
    {times},
    PRIMARY KEY ({group})
){end}"""

FILL = """INSERT INTO relay_totals ({group}, {sums}, duration_s, {times})
SELECT begins_at, '', '', model, upstream, {added}, sum(duration_s), {added_times}
FROM relay_hours GROUP BY begins_at, model, upstream"""


def upgrade() -> None:
    """Make the table, and fill it."""
    end = ENDS[op.get_context().dialect.name]
    sums = ",\n    ".join(f"{name} BIGINT NOT NULL" for name in SUMS)
    times = ",\n    ".join(f"{name} BIGINT" for name in TIMES)
    op.execute(TABLE.format(sums=sums, times=times, group=GROUP, end=end))
    op.execute(
        FILL.format(
            group=GROUP,
            sums=", ".join(SUMS),
            times=", ".join(TIMES),
            added=", ".join(_sum(name) for name in SUMS),
            added_times=", ".join(_sum(name) for name in TIMES),
        )
    )


def _sum(name: str) -> str:
    return f"CAST(sum({name}) AS BIGINT)"
