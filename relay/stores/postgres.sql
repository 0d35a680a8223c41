CREATE TABLE relay_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT relay_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE relay_marks (
    name TEXT NOT NULL PRIMARY KEY,
    value DOUBLE PRECISION NOT NULL
);

CREATE TABLE relay_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest BYTEA NOT NULL,
    prefix TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    revision BIGINT NOT NULL,
    team_id TEXT NOT NULL,
    models TEXT,
    limits TEXT NOT NULL,
    expires_at DOUBLE PRECISION,
    revoked_at DOUBLE PRECISION,
    previous_digest BYTEA,
    previous_until DOUBLE PRECISION,
    origins TEXT,
    networks TEXT,
    keep_bodies BOOLEAN NOT NULL,
    metadata TEXT NOT NULL,
    last_used_at DOUBLE PRECISION
);

CREATE INDEX relay_keys_by_revision ON relay_keys (revision);

CREATE TABLE relay_teams (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    revision BIGINT NOT NULL,
    models TEXT,
    limits TEXT NOT NULL,
    metadata TEXT NOT NULL,
    deleted_at DOUBLE PRECISION
);

CREATE INDEX relay_teams_by_revision ON relay_teams (revision);

CREATE TABLE relay_acts (
    at DOUBLE PRECISION NOT NULL,
    id TEXT NOT NULL,
    act TEXT NOT NULL,
    subject TEXT NOT NULL,
    source TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (at, id)
);

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
);

CREATE TABLE relay_bodies (
    at DOUBLE PRECISION NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    request BYTEA NOT NULL,
    response BYTEA NOT NULL,
    PRIMARY KEY (at, request_id)
);

CREATE TABLE relay_hours (
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
) WITH (fillfactor = 70);

CREATE TABLE relay_days (
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
) WITH (fillfactor = 70);

CREATE INDEX relay_days_by_key ON relay_days (key_id, begins_at);

CREATE INDEX relay_days_by_team ON relay_days (team_id, begins_at) WHERE team_id <> '';

INSERT INTO relay_marks (name, value) VALUES ('revision', 0), ('rows_begin_at', 0);

CREATE INDEX relay_ledger_by_key ON relay_ledger (key_id, at);

CREATE INDEX relay_ledger_by_team ON relay_ledger (team_id, at) WHERE team_id <> '';

INSERT INTO relay_version (version_num) VALUES ('0001') RETURNING relay_version.version_num;

-- Running upgrade 0001 -> 0002

ALTER TABLE relay_hours ADD COLUMN latency_00 BIGINT,
    ADD COLUMN latency_01 BIGINT,
    ADD COLUMN latency_02 BIGINT,
    ADD COLUMN latency_03 BIGINT,
    ADD COLUMN latency_04 BIGINT,
    ADD COLUMN latency_05 BIGINT,
    ADD COLUMN latency_06 BIGINT,
    ADD COLUMN latency_07 BIGINT,
    ADD COLUMN latency_08 BIGINT,
    ADD COLUMN latency_09 BIGINT,
    ADD COLUMN latency_10 BIGINT,
    ADD COLUMN latency_11 BIGINT,
    ADD COLUMN latency_12 BIGINT,
    ADD COLUMN latency_13 BIGINT,
    ADD COLUMN latency_14 BIGINT,
    ADD COLUMN latency_15 BIGINT,
    ADD COLUMN latency_16 BIGINT,
    ADD COLUMN latency_17 BIGINT,
    ADD COLUMN latency_18 BIGINT,
    ADD COLUMN latency_19 BIGINT,
    ADD COLUMN latency_20 BIGINT,
    ADD COLUMN latency_21 BIGINT,
    ADD COLUMN latency_22 BIGINT,
    ADD COLUMN latency_23 BIGINT,
    ADD COLUMN first_token_00 BIGINT,
    ADD COLUMN first_token_01 BIGINT,
    ADD COLUMN first_token_02 BIGINT,
    ADD COLUMN first_token_03 BIGINT,
    ADD COLUMN first_token_04 BIGINT,
    ADD COLUMN first_token_05 BIGINT,
    ADD COLUMN first_token_06 BIGINT,
    ADD COLUMN first_token_07 BIGINT,
    ADD COLUMN first_token_08 BIGINT,
    ADD COLUMN first_token_09 BIGINT,
    ADD COLUMN first_token_10 BIGINT,
    ADD COLUMN first_token_11 BIGINT,
    ADD COLUMN first_token_12 BIGINT,
    ADD COLUMN first_token_13 BIGINT,
    ADD COLUMN first_token_14 BIGINT,
    ADD COLUMN first_token_15 BIGINT,
    ADD COLUMN first_token_16 BIGINT,
    ADD COLUMN first_token_17 BIGINT,
    ADD COLUMN first_token_18 BIGINT,
    ADD COLUMN first_token_19 BIGINT,
    ADD COLUMN first_token_20 BIGINT,
    ADD COLUMN first_token_21 BIGINT,
    ADD COLUMN first_token_22 BIGINT,
    ADD COLUMN first_token_23 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_00 BIGINT,
    ADD COLUMN latency_01 BIGINT,
    ADD COLUMN latency_02 BIGINT,
    ADD COLUMN latency_03 BIGINT,
    ADD COLUMN latency_04 BIGINT,
    ADD COLUMN latency_05 BIGINT,
    ADD COLUMN latency_06 BIGINT,
    ADD COLUMN latency_07 BIGINT,
    ADD COLUMN latency_08 BIGINT,
    ADD COLUMN latency_09 BIGINT,
    ADD COLUMN latency_10 BIGINT,
    ADD COLUMN latency_11 BIGINT,
    ADD COLUMN latency_12 BIGINT,
    ADD COLUMN latency_13 BIGINT,
    ADD COLUMN latency_14 BIGINT,
    ADD COLUMN latency_15 BIGINT,
    ADD COLUMN latency_16 BIGINT,
    ADD COLUMN latency_17 BIGINT,
    ADD COLUMN latency_18 BIGINT,
    ADD COLUMN latency_19 BIGINT,
    ADD COLUMN latency_20 BIGINT,
    ADD COLUMN latency_21 BIGINT,
    ADD COLUMN latency_22 BIGINT,
    ADD COLUMN latency_23 BIGINT,
    ADD COLUMN first_token_00 BIGINT,
    ADD COLUMN first_token_01 BIGINT,
    ADD COLUMN first_token_02 BIGINT,
    ADD COLUMN first_token_03 BIGINT,
    ADD COLUMN first_token_04 BIGINT,
    ADD COLUMN first_token_05 BIGINT,
    ADD COLUMN first_token_06 BIGINT,
    ADD COLUMN first_token_07 BIGINT,
    ADD COLUMN first_token_08 BIGINT,
    ADD COLUMN first_token_09 BIGINT,
    ADD COLUMN first_token_10 BIGINT,
    ADD COLUMN first_token_11 BIGINT,
    ADD COLUMN first_token_12 BIGINT,
    ADD COLUMN first_token_13 BIGINT,
    ADD COLUMN first_token_14 BIGINT,
    ADD COLUMN first_token_15 BIGINT,
    ADD COLUMN first_token_16 BIGINT,
    ADD COLUMN first_token_17 BIGINT,
    ADD COLUMN first_token_18 BIGINT,
    ADD COLUMN first_token_19 BIGINT,
    ADD COLUMN first_token_20 BIGINT,
    ADD COLUMN first_token_21 BIGINT,
    ADD COLUMN first_token_22 BIGINT,
    ADD COLUMN first_token_23 BIGINT;

UPDATE relay_version SET version_num='0002' WHERE relay_version.version_num = '0001';

