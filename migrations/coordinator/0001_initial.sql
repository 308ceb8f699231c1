-- The embedded coordinator's file. Only ever append migrations; never change this one.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('revision', 1), ('compacted', 0), ('lease_next', 1);

-- What is, now.
CREATE TABLE present (
    key             BLOB PRIMARY KEY,
    value           BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    mod_revision    INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    lease           INTEGER
) WITHOUT ROWID;

CREATE INDEX present_by_lease ON present (lease) WHERE lease IS NOT NULL;

-- What happened, and with it what was. A removed key has no value.
CREATE TABLE history (
    revision        INTEGER NOT NULL,
    sequence        INTEGER NOT NULL,
    key             BLOB NOT NULL,
    value           BLOB,
    create_revision INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    lease           INTEGER,
    PRIMARY KEY (revision, sequence)
) WITHOUT ROWID;

CREATE INDEX history_by_key ON history (key, revision);

-- Leases outlive a restart with their whole time anew; when they end is kept in memory.
CREATE TABLE lease (
    id          INTEGER PRIMARY KEY,
    ttl_seconds INTEGER NOT NULL
);
