-- Times are microseconds since 1970 UTC; digests and hashes are the 32 bytes of SHA-256.
-- In PostgreSQL: INTEGER PRIMARY KEY is BIGINT PRIMARY KEY, BLOB is BYTEA, TEXT has COLLATE "C" (keys sort
-- by their bytes), WITHOUT ROWID goes. Everything else is the same.

-- One row per entry. place says where the body is: 0 there is none, 1 in this row, 2 in contents, 3 erased, 4 in this row and
-- packed (a block of S2).
CREATE TABLE entries (
    seq     INTEGER PRIMARY KEY,
    time    BIGINT   NOT NULL,
    actor   TEXT     NOT NULL,
    kind    TEXT     NOT NULL,
    subject TEXT     NOT NULL,
    cause   BIGINT   NOT NULL,
    place   SMALLINT NOT NULL,
    digest  BLOB     NOT NULL,
    hash    BLOB     NOT NULL,
    body    BLOB
);
CREATE INDEX entries_subject ON entries (subject, seq);
CREATE INDEX entries_kind ON entries (kind, seq);
CREATE INDEX entries_cause ON entries (cause, seq) WHERE cause > 0;
-- To know whether an erased body is still wanted by another entry.
CREATE INDEX entries_digest ON entries (digest) WHERE place = 2;

-- Bodies that would make walking the entries slow, each once.
CREATE TABLE contents (
    digest BLOB NOT NULL PRIMARY KEY,
    body   BLOB NOT NULL
);

-- Keys that one entry only may use.
CREATE TABLE unique_keys (
    key TEXT   NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
) WITHOUT ROWID;

-- What the projections derive.
CREATE TABLE projected (
    kind   TEXT   NOT NULL,
    key    TEXT   NOT NULL,
    owner  TEXT   NOT NULL,
    state  TEXT   NOT NULL,
    time   BIGINT NOT NULL,
    seq    BIGINT NOT NULL,
    labels TEXT   NOT NULL,
    body   BLOB
);
CREATE UNIQUE INDEX projected_key ON projected (kind, key);
CREATE INDEX projected_time ON projected (kind, time, key);
-- For feeds that go on from a sequence.
CREATE INDEX projected_seq ON projected (kind, seq, key);
CREATE INDEX projected_state ON projected (kind, state, time, key) WHERE state <> '';
CREATE INDEX projected_owner ON projected (kind, owner, time, key) WHERE owner <> '';

-- A label repeats its row's time, so that a page by label is one walk along this table.
CREATE TABLE projected_labels (
    kind  TEXT   NOT NULL,
    name  TEXT   NOT NULL,
    value TEXT   NOT NULL,
    time  BIGINT NOT NULL,
    key   TEXT   NOT NULL,
    PRIMARY KEY (kind, name, value, time, key)
) WITHOUT ROWID;

-- Work to be done. ready is when it may be claimed: its due time, or the end of the lease while it is claimed.
CREATE TABLE outbox (
    id      INTEGER PRIMARY KEY,
    queue   TEXT     NOT NULL,
    key     TEXT     NOT NULL,
    due     BIGINT   NOT NULL,
    ready   BIGINT   NOT NULL,
    claimed SMALLINT NOT NULL,
    attempt INTEGER  NOT NULL,
    cause   BIGINT   NOT NULL,
    body    BLOB
);
CREATE UNIQUE INDEX outbox_key ON outbox (queue, key);
CREATE INDEX outbox_ready ON outbox (queue, ready, id);

-- Counters that must not go back: 'work' is the last id given to an item of the outbox, for a settled item's id must
-- never come to mean another item.
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('work', 0);
