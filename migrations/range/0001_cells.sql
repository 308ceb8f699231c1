-- One replica's file: the items of one range, flattened, in the order of packed keys.

-- A leaf of an item a row. The row with the empty path is the item itself: its data is the item's
-- version. Long values lie in large_values, and data holds their id (type + 64).
CREATE TABLE cells (
    key BLOB NOT NULL,
    path TEXT NOT NULL,
    type INTEGER NOT NULL,
    data,
    PRIMARY KEY (key, path)
) WITHOUT ROWID;

-- Long values would spill over from the index pages of cells, which makes every read dearer.
CREATE TABLE large_values (
    id INTEGER PRIMARY KEY,
    data NOT NULL
);

-- Ids that clients sent with writes, for as long as a repeat is answered as before.
CREATE TABLE requests (
    principal BLOB NOT NULL,
    request_id BLOB NOT NULL,
    digest BLOB NOT NULL,
    outcome BLOB NOT NULL,
    entry_index INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (principal, request_id)
) WITHOUT ROWID;

CREATE INDEX requests_by_time ON requests (at);

-- How writes ended that were answered before they were applied.
CREATE TABLE receipts (
    id BLOB NOT NULL PRIMARY KEY,
    outcome BLOB NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX receipts_by_time ON receipts (at);

-- What the file knows of itself: applied_index, item_count.
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- The rows under the names that people know; rid_id holds the ordered form of ID and sort key.
CREATE VIEW cells_by_name AS
    SELECT hex(substr(key, 1, 4)) AS hash, substr(key, 5) AS rid_id, path AS c_col, type AS c_data_type, data AS c_data
    FROM cells WHERE path <> '';
