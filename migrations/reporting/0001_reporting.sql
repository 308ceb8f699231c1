-- A reporter's store, at one control plane. Times are milliseconds since 1970.

-- The components that something was taken in of. changes: how often; whoever takes in compares it. dropped: how many batches it said
-- last that it had thrown away. boot, interval: the batch that is acknowledged to it.
CREATE TABLE components (
    role TEXT NOT NULL,
    component BLOB NOT NULL,
    changes INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    boot BLOB,
    interval INTEGER,
    PRIMARY KEY (role, component)
) WITHOUT ROWID;

-- The last batch that was taken in of each start of each component's process: no batch up to it counts again.
CREATE TABLE positions (
    role TEXT NOT NULL,
    component BLOB NOT NULL,
    boot BLOB NOT NULL,
    interval INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (role, component, boot)
) WITHOUT ROWID;

-- Batches that were taken in and stand in no record yet, because their interval may get more. number: in order of their coming.
CREATE TABLE open_batches (
    number INTEGER PRIMARY KEY,
    role TEXT NOT NULL,
    component BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    batch TEXT NOT NULL
);

CREATE INDEX open_batches_of ON open_batches (role, component);

-- The records. taken_ms: when it was made here. A sequence is never given again.
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL,
    taken_ms INTEGER NOT NULL,
    body TEXT NOT NULL
);

-- Up to which sequence each sink has taken records.
CREATE TABLE sinks (
    name TEXT NOT NULL PRIMARY KEY,
    sequence INTEGER NOT NULL
) WITHOUT ROWID;

-- The names of tenants and tables, as last told.
CREATE TABLE names (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL
) WITHOUT ROWID;

-- Anything else, by name.
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- What was counted in each minute and in each hour (step_ms tells which), of all components together. No table or principal is an
-- empty blob. latency_us: of all requests together; latency_0 to latency_17: requests in each bucket.
CREATE TABLE sums (
    step_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    tenant BLOB NOT NULL,
    table_id BLOB NOT NULL,
    principal BLOB NOT NULL,
    operation TEXT NOT NULL,
    result TEXT NOT NULL,
    requests INTEGER NOT NULL,
    read_bytes INTEGER NOT NULL,
    written_bytes INTEGER NOT NULL,
    read_half_units INTEGER NOT NULL,
    write_units INTEGER NOT NULL,
    latency_us INTEGER NOT NULL,
    latency_0 INTEGER NOT NULL,
    latency_1 INTEGER NOT NULL,
    latency_2 INTEGER NOT NULL,
    latency_3 INTEGER NOT NULL,
    latency_4 INTEGER NOT NULL,
    latency_5 INTEGER NOT NULL,
    latency_6 INTEGER NOT NULL,
    latency_7 INTEGER NOT NULL,
    latency_8 INTEGER NOT NULL,
    latency_9 INTEGER NOT NULL,
    latency_10 INTEGER NOT NULL,
    latency_11 INTEGER NOT NULL,
    latency_12 INTEGER NOT NULL,
    latency_13 INTEGER NOT NULL,
    latency_14 INTEGER NOT NULL,
    latency_15 INTEGER NOT NULL,
    latency_16 INTEGER NOT NULL,
    latency_17 INTEGER NOT NULL,
    PRIMARY KEY (step_ms, at_ms, tenant, table_id, principal, operation, result)
) WITHOUT ROWID;
