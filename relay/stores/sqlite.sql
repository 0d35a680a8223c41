CREATE TABLE relay_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT relay_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE relay_marks (
    name TEXT NOT NULL PRIMARY KEY,
    value DOUBLE PRECISION NOT NULL
) WITHOUT ROWID;

CREATE TABLE relay_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    prefix TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    revision BIGINT NOT NULL,
    team_id TEXT NOT NULL,
    models TEXT,
    limits TEXT NOT NULL,
    expires_at DOUBLE PRECISION,
    revoked_at DOUBLE PRECISION,
    previous_digest BLOB,
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
) WITHOUT ROWID;

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
) WITHOUT ROWID;

CREATE TABLE relay_bodies (
    at DOUBLE PRECISION NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    request BLOB NOT NULL,
    response BLOB NOT NULL,
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
) WITHOUT ROWID;

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
) WITHOUT ROWID;

CREATE INDEX relay_days_by_key ON relay_days (key_id, begins_at);

CREATE INDEX relay_days_by_team ON relay_days (team_id, begins_at) WHERE team_id <> '';

INSERT INTO relay_marks (name, value) VALUES ('revision', 0), ('rows_begin_at', 0);

INSERT INTO relay_version (version_num) VALUES ('0001') RETURNING version_num;

-- Running upgrade 0001 -> 0002

ALTER TABLE relay_hours ADD COLUMN latency_00 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_01 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_02 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_03 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_04 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_05 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_06 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_07 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_08 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_09 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_10 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_11 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_12 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_13 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_14 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_15 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_16 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_17 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_18 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_19 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_20 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_21 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_22 BIGINT;

ALTER TABLE relay_hours ADD COLUMN latency_23 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_00 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_01 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_02 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_03 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_04 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_05 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_06 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_07 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_08 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_09 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_10 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_11 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_12 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_13 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_14 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_15 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_16 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_17 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_18 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_19 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_20 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_21 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_22 BIGINT;

ALTER TABLE relay_hours ADD COLUMN first_token_23 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_00 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_01 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_02 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_03 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_04 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_05 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_06 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_07 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_08 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_09 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_10 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_11 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_12 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_13 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_14 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_15 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_16 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_17 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_18 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_19 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_20 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_21 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_22 BIGINT;

ALTER TABLE relay_days ADD COLUMN latency_23 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_00 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_01 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_02 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_03 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_04 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_05 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_06 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_07 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_08 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_09 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_10 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_11 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_12 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_13 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_14 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_15 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_16 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_17 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_18 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_19 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_20 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_21 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_22 BIGINT;

ALTER TABLE relay_days ADD COLUMN first_token_23 BIGINT;

UPDATE relay_version SET version_num='0002' WHERE relay_version.version_num = '0001';

-- Running upgrade 0002 -> 0003

CREATE TABLE relay_totals (
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
    latency_00 BIGINT,
    latency_01 BIGINT,
    latency_02 BIGINT,
    latency_03 BIGINT,
    latency_04 BIGINT,
    latency_05 BIGINT,
    latency_06 BIGINT,
    latency_07 BIGINT,
    latency_08 BIGINT,
    latency_09 BIGINT,
    latency_10 BIGINT,
    latency_11 BIGINT,
    latency_12 BIGINT,
    latency_13 BIGINT,
    latency_14 BIGINT,
    latency_15 BIGINT,
    latency_16 BIGINT,
    latency_17 BIGINT,
    latency_18 BIGINT,
    latency_19 BIGINT,
    latency_20 BIGINT,
    latency_21 BIGINT,
    latency_22 BIGINT,
    latency_23 BIGINT,
    first_token_00 BIGINT,
    first_token_01 BIGINT,
    first_token_02 BIGINT,
    first_token_03 BIGINT,
    first_token_04 BIGINT,
    first_token_05 BIGINT,
    first_token_06 BIGINT,
    first_token_07 BIGINT,
    first_token_08 BIGINT,
    first_token_09 BIGINT,
    first_token_10 BIGINT,
    first_token_11 BIGINT,
    first_token_12 BIGINT,
    first_token_13 BIGINT,
    first_token_14 BIGINT,
    first_token_15 BIGINT,
    first_token_16 BIGINT,
    first_token_17 BIGINT,
    first_token_18 BIGINT,
    first_token_19 BIGINT,
    first_token_20 BIGINT,
    first_token_21 BIGINT,
    first_token_22 BIGINT,
    first_token_23 BIGINT,
    PRIMARY KEY (begins_at, key_id, team_id, model, upstream)
) WITHOUT ROWID;

INSERT INTO relay_totals (begins_at, key_id, team_id, model, upstream, requests, errors, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, audio_tokens, cost_nano, unpriced, duration_s, latency_00, latency_01, latency_02, latency_03, latency_04, latency_05, latency_06, latency_07, latency_08, latency_09, latency_10, latency_11, latency_12, latency_13, latency_14, latency_15, latency_16, latency_17, latency_18, latency_19, latency_20, latency_21, latency_22, latency_23, first_token_00, first_token_01, first_token_02, first_token_03, first_token_04, first_token_05, first_token_06, first_token_07, first_token_08, first_token_09, first_token_10, first_token_11, first_token_12, first_token_13, first_token_14, first_token_15, first_token_16, first_token_17, first_token_18, first_token_19, first_token_20, first_token_21, first_token_22, first_token_23)
SELECT begins_at, '', '', model, upstream, CAST(sum(requests) AS BIGINT), CAST(sum(errors) AS BIGINT), CAST(sum(prompt_tokens) AS BIGINT), CAST(sum(completion_tokens) AS BIGINT), CAST(sum(cached_tokens) AS BIGINT), CAST(sum(reasoning_tokens) AS BIGINT), CAST(sum(audio_tokens) AS BIGINT), CAST(sum(cost_nano) AS BIGINT), CAST(sum(unpriced) AS BIGINT), sum(duration_s), CAST(sum(latency_00) AS BIGINT), CAST(sum(latency_01) AS BIGINT), CAST(sum(latency_02) AS BIGINT), CAST(sum(latency_03) AS BIGINT), CAST(sum(latency_04) AS BIGINT), CAST(sum(latency_05) AS BIGINT), CAST(sum(latency_06) AS BIGINT), CAST(sum(latency_07) AS BIGINT), CAST(sum(latency_08) AS BIGINT), CAST(sum(latency_09) AS BIGINT), CAST(sum(latency_10) AS BIGINT), CAST(sum(latency_11) AS BIGINT), CAST(sum(latency_12) AS BIGINT), CAST(sum(latency_13) AS BIGINT), CAST(sum(latency_14) AS BIGINT), CAST(sum(latency_15) AS BIGINT), CAST(sum(latency_16) AS BIGINT), CAST(sum(latency_17) AS BIGINT), CAST(sum(latency_18) AS BIGINT), CAST(sum(latency_19) AS BIGINT), CAST(sum(latency_20) AS BIGINT), CAST(sum(latency_21) AS BIGINT), CAST(sum(latency_22) AS BIGINT), CAST(sum(latency_23) AS BIGINT), CAST(sum(first_token_00) AS BIGINT), CAST(sum(first_token_01) AS BIGINT), CAST(sum(first_token_02) AS BIGINT), CAST(sum(first_token_03) AS BIGINT), CAST(sum(first_token_04) AS BIGINT), CAST(sum(first_token_05) AS BIGINT), CAST(sum(first_token_06) AS BIGINT), CAST(sum(first_token_07) AS BIGINT), CAST(sum(first_token_08) AS BIGINT), CAST(sum(first_token_09) AS BIGINT), CAST(sum(first_token_10) AS BIGINT), CAST(sum(first_token_11) AS BIGINT), CAST(sum(first_token_12) AS BIGINT), CAST(sum(first_token_13) AS BIGINT), CAST(sum(first_token_14) AS BIGINT), CAST(sum(first_token_15) AS BIGINT), CAST(sum(first_token_16) AS BIGINT), CAST(sum(first_token_17) AS BIGINT), CAST(sum(first_token_18) AS BIGINT), CAST(sum(first_token_19) AS BIGINT), CAST(sum(first_token_20) AS BIGINT), CAST(sum(first_token_21) AS BIGINT), CAST(sum(first_token_22) AS BIGINT), CAST(sum(first_token_23) AS BIGINT)
FROM relay_hours GROUP BY begins_at, model, upstream;

UPDATE relay_version SET version_num='0003' WHERE relay_version.version_num = '0002';

-- Running upgrade 0003 -> 0004

CREATE INDEX relay_keys_by_time ON relay_keys (created_at, id);

CREATE INDEX relay_teams_by_time ON relay_teams (created_at, id);

UPDATE relay_version SET version_num='0004' WHERE relay_version.version_num = '0003';

