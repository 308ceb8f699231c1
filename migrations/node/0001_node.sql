-- A node's own database, at one control plane: what it holds, and its parts of the tenants' keys.

-- The replicas. durable_index: up to there each is known to be in its file and synced. quantity is
-- an estimate of the items, brought up to date with each flush.
CREATE TABLE replicas (
    replica BLOB NOT NULL PRIMARY KEY,
    range BLOB NOT NULL,
    tenant BLOB NOT NULL,
    table_id BLOB NOT NULL,
    hash_low INTEGER NOT NULL,
    hash_high INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    durable_index INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    state TEXT NOT NULL,
    definition TEXT NOT NULL
) WITHOUT ROWID;

-- The tenants' keys at this node: one of the three parts of each tenant's key.
CREATE TABLE tenant_keys (
    tenant BLOB NOT NULL,
    version INTEGER NOT NULL,
    uuid BLOB NOT NULL,
    part BLOB NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (tenant, version)
) WITHOUT ROWID;

-- Anything else, by name.
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- The tables this node controls a part of, under the names that people and control know.
CREATE VIEW table_ranges AS
    SELECT json_extract(definition, '$.tenant') AS RID_TENANT, json_extract(definition, '$.name') AS RID_TABLE,
           hash_low AS HASH_START, hash_high AS HASH_END, quantity AS QUANTITY,
           (SELECT uuid FROM tenant_keys WHERE tenant_keys.tenant = replicas.tenant ORDER BY version DESC LIMIT 1) AS UUID,
           json_extract(definition, '$.version') AS TABLE_VERSION
    FROM replicas WHERE state = 'serving';
