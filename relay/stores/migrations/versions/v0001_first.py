"""Keys, teams, acts, the ledger and its roll-ups."""

from alembic import op

revision = "0001"
down_revision = None

SUMS = (
    """
CREATE TABLE {table} (
    begins_at BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    team_id TEXT NOT NULL,
    model TEXT NOT NULL,
    upstream TEXT NOT NULL,
    requests BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    audio_tokens BIGINT NOT NULL,
    cost_nano BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    duration_s DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (begins_at, key_id, team_id, model, upstream)
){clustered}{room}""",
)

# Few sums of a day are new: an index costs little. For hours and for rows it would be most of what
# a row costs, as each goes to another page of it.
OF_DAYS = (
    "CREATE INDEX relay_days_by_key ON relay_days (key_id, begins_at)",
    "CREATE INDEX relay_days_by_team ON relay_days (team_id, begins_at) WHERE team_id <> ''",
)

# Here many relays write, and the server pays; an hour may hold 60 million rows.
POSTGRES_ONLY = (
    "CREATE INDEX relay_ledger_by_key ON relay_ledger (key_id, at)",
    "CREATE INDEX relay_ledger_by_team ON relay_ledger (team_id, at) WHERE team_id <> ''",
)

TABLES = (
    """
CREATE TABLE relay_marks (
    name TEXT NOT NULL PRIMARY KEY,
    value DOUBLE PRECISION NOT NULL
){clustered}""",
    """
CREATE TABLE relay_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest {bytes} NOT NULL,
    prefix TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    revision BIGINT NOT NULL,
    team_id TEXT NOT NULL,
    models TEXT,
    limits TEXT NOT NULL,
    expires_at DOUBLE PRECISION,
    revoked_at DOUBLE PRECISION,
    previous_digest {bytes},
    previous_until DOUBLE PRECISION,
    origins TEXT,
    networks TEXT,
    keep_bodies BOOLEAN NOT NULL,
    metadata TEXT NOT NULL,
    last_used_at DOUBLE PRECISION
)""",
    "CREATE INDEX relay_keys_by_revision ON relay_keys (revision)",
    """
CREATE TABLE relay_teams (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    revision BIGINT NOT NULL,
    models TEXT,
    limits TEXT NOT NULL,
    metadata TEXT NOT NULL,
    deleted_at DOUBLE PRECISION
)""",
    "CREATE INDEX relay_teams_by_revision ON relay_teams (revision)",
    """
CREATE TABLE relay_acts (
    at DOUBLE PRECISION NOT NULL,
    id TEXT NOT NULL,
    act TEXT NOT NULL,
    subject TEXT NOT NULL,
    source TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (at, id)
){clustered}""",
    # Ordered by time, as rows come in and go: each write is at the end, each removal at the
    # beginning.
    """
CREATE TABLE relay_ledger (
    at DOUBLE PRECISION NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    team_id TEXT NOT NULL,
    caller TEXT NOT NULL,
    path TEXT NOT NULL,
    model_asked TEXT NOT NULL,
    model_served TEXT NOT NULL,
    upstream TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    lost_attempts INTEGER NOT NULL,
    status INTEGER NOT NULL,
    error TEXT NOT NULL,
    stream BOOLEAN NOT NULL,
    prompt_tokens BIGINT,
    completion_tokens BIGINT,
    cached_tokens BIGINT,
    reasoning_tokens BIGINT,
    audio_tokens BIGINT,
    estimated BOOLEAN NOT NULL,
    cost_nano BIGINT,
    first_token_s DOUBLE PRECISION,
    duration_s DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (at, request_id)
){clustered}""",
    """
CREATE TABLE relay_bodies (
    at DOUBLE PRECISION NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    request {bytes} NOT NULL,
    response {bytes} NOT NULL,
    PRIMARY KEY (at, request_id)
)""",
    *(
        statement.replace("{table}", table)
        for table in ("relay_hours", "relay_days")
        for statement in SUMS
    ),
    *OF_DAYS,
    "INSERT INTO relay_marks (name, value) VALUES ('revision', 0), ('rows_begin_at', 0)",
)

WORDS = {
    "sqlite": {"bytes": "BLOB", "clustered": " WITHOUT ROWID", "room": ""},
    # Room in each page for the next version of its rows: a sum changes once a second.
    "postgresql": {"bytes": "BYTEA", "clustered": "", "room": " WITH (fillfactor = 70)"},
}


def upgrade() -> None:
    """Make the tables."""
    dialect = op.get_context().dialect.name
    words = WORDS[dialect]
    for statement in (*TABLES, *(POSTGRES_ONLY if dialect == "postgresql" else ())):
        op.execute(statement.format(**words).strip())
