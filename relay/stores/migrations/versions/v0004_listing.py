"""Indexes that pages of keys and teams are read by: in the order in which those were made."""

from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = ("relay_keys", "relay_teams")


def upgrade() -> None:
    """Make them."""
    for table in TABLES:
        op.execute(f"CREATE INDEX {table}_by_time ON {table} (created_at, id)")
