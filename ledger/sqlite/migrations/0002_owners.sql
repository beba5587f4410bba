-- Owners of partitions, salted bodies, gaps, versions of tables, snapshots. Differences to PostgreSQL are those that 0001 names.

-- tag is the encoding of the hash: 1 without salt, 2 with it. salt goes away with the body. content is the SHA-256 of a body in contents;
-- unlike digest it goes away with the body too.
ALTER TABLE entries ADD COLUMN tag SMALLINT NOT NULL DEFAULT 1;
ALTER TABLE entries ADD COLUMN salt BLOB;
ALTER TABLE entries ADD COLUMN content BLOB;
UPDATE entries SET content = digest WHERE place = 2;
DROP INDEX entries_digest;
-- To know whether an erased body is still wanted by another entry.
CREATE INDEX entries_content ON entries (content) WHERE place = 2;

-- time is that of the entry; until is when the key is free again, 0 for never.
ALTER TABLE unique_keys ADD COLUMN time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE unique_keys ADD COLUMN until BIGINT NOT NULL DEFAULT 0;
UPDATE unique_keys SET time = coalesce((SELECT e.time FROM entries e WHERE e.seq = unique_keys.seq), 0);

-- Entries that were forgotten: one row for each run of neighbours. time and hash are those of the last of them; entry commits to the row.
CREATE TABLE gaps (
    first BIGINT NOT NULL PRIMARY KEY,
    last  BIGINT NOT NULL,
    time  BIGINT NOT NULL,
    hash  BLOB   NOT NULL,
    entry BIGINT NOT NULL
);

-- One heartbeat for each owner; until is 0 for a lease without end.
CREATE TABLE owners (
    owner TEXT   NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL
);

-- Who owns which partition. A partition that nobody ever owned has no row. fence grows with each change of owner.
CREATE TABLE partitions (
    number SMALLINT NOT NULL PRIMARY KEY,
    owner  TEXT     NOT NULL,
    fence  BIGINT   NOT NULL
);

-- partition is where the subject lives; -1 for an item that was enqueued before there were any, which every owner may take. owner is who
-- has claimed it. No claim outlives the program that this file belonged to.
ALTER TABLE outbox ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN partition SMALLINT NOT NULL DEFAULT -1;
ALTER TABLE outbox ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE outbox SET ready = due, claimed = 0 WHERE claimed = 1;

-- Where the rows of a table are: kind is what projected.kind has for them, version is that of the projections that derived them.
CREATE TABLE tables (
    name    TEXT NOT NULL PRIMARY KEY,
    kind    TEXT NOT NULL,
    version TEXT NOT NULL
);

-- Rows that are being derived anew, beside those of tables. after is the last entry that they know of.
CREATE TABLE rebuilds (
    name    TEXT   NOT NULL PRIMARY KEY,
    kind    TEXT   NOT NULL,
    version TEXT   NOT NULL,
    after   BIGINT NOT NULL
);

-- Kinds of rows that nobody reads any more and that are yet to be deleted.
CREATE TABLE drops (
    kind TEXT NOT NULL PRIMARY KEY
);

-- The state of a subject as of one of its entries, in its room's own words. It can be lost: the entries have it.
CREATE TABLE snapshots (
    subject TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    seq     BIGINT NOT NULL,
    body    BLOB   NOT NULL
);
