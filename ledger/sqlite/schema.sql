-- What all migrations together come to, for a new file: to make the tables as they are now costs a fraction of making and changing
-- them. What a column means is said by the migration that brought it. A test compares the two.

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
    body    BLOB,
    tag     SMALLINT NOT NULL DEFAULT 1,
    salt    BLOB,
    content BLOB
);
CREATE INDEX entries_subject ON entries (subject, seq);
CREATE INDEX entries_kind ON entries (kind, seq);
CREATE INDEX entries_cause ON entries (cause, seq) WHERE cause > 0;
CREATE INDEX entries_content ON entries (content) WHERE place = 2;

CREATE TABLE contents (
    digest BLOB NOT NULL PRIMARY KEY,
    body   BLOB NOT NULL
);

CREATE TABLE unique_keys (
    key   TEXT   NOT NULL PRIMARY KEY,
    seq   BIGINT NOT NULL,
    time  BIGINT NOT NULL DEFAULT 0,
    until BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE gaps (
    first BIGINT NOT NULL PRIMARY KEY,
    last  BIGINT NOT NULL,
    time  BIGINT NOT NULL,
    hash  BLOB   NOT NULL,
    entry BIGINT NOT NULL
);

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
CREATE INDEX projected_seq ON projected (kind, seq, key);
CREATE INDEX projected_state ON projected (kind, state, time, key) WHERE state <> '';
CREATE INDEX projected_owner ON projected (kind, owner, time, key) WHERE owner <> '';

CREATE TABLE projected_labels (
    kind  TEXT   NOT NULL,
    name  TEXT   NOT NULL,
    value TEXT   NOT NULL,
    time  BIGINT NOT NULL,
    key   TEXT   NOT NULL,
    PRIMARY KEY (kind, name, value, time, key)
) WITHOUT ROWID;

CREATE TABLE tables (
    name    TEXT NOT NULL PRIMARY KEY,
    kind    TEXT NOT NULL,
    version TEXT NOT NULL
);

CREATE TABLE rebuilds (
    name    TEXT   NOT NULL PRIMARY KEY,
    kind    TEXT   NOT NULL,
    version TEXT   NOT NULL,
    after   BIGINT NOT NULL
);

CREATE TABLE drops (
    kind TEXT NOT NULL PRIMARY KEY
);

CREATE TABLE snapshots (
    subject TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    seq     BIGINT NOT NULL,
    body    BLOB   NOT NULL
);

CREATE TABLE owners (
    owner TEXT   NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL
);

CREATE TABLE partitions (
    number SMALLINT NOT NULL PRIMARY KEY,
    owner  TEXT     NOT NULL,
    fence  BIGINT   NOT NULL
);

CREATE TABLE outbox (
    id        INTEGER PRIMARY KEY,
    queue     TEXT     NOT NULL,
    key       TEXT     NOT NULL,
    due       BIGINT   NOT NULL,
    ready     BIGINT   NOT NULL,
    claimed   SMALLINT NOT NULL,
    attempt   INTEGER  NOT NULL,
    cause     BIGINT   NOT NULL,
    body      BLOB,
    subject   TEXT     NOT NULL DEFAULT '',
    partition SMALLINT NOT NULL DEFAULT -1,
    owner     TEXT     NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX outbox_key ON outbox (queue, key);
CREATE INDEX outbox_ready ON outbox (queue, ready, id);

CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('work', 0);
