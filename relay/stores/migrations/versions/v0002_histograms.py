"""Histograms of times beside the sums: how many requests were that fast.

Columns that may be empty: adding them rewrites no row, a version before this one need not know
them, and what it counts meanwhile is missing in percentiles only.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = ("relay_hours", "relay_days")
COLUMNS = [f"{name}_{number:02}" for name in ("latency", "first_token") for number in range(24)]


def upgrade() -> None:
    """Add the columns; SQLite takes one at a time."""
    one_by_one = op.get_context().dialect.name == "sqlite"
    for table in TABLES:
        added = [f"ADD COLUMN {column} BIGINT" for column in COLUMNS]
        for change in added if one_by_one else [",\n    ".join(added)]:
            op.execute(f"ALTER TABLE {table} {change}")
