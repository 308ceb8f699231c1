-- The local indexes of the range's table, as they were when the file was made; a file that is older has none.

-- An index by its position: its definition as JSON, how many entries it has, and the bytes of what it shows of them.
CREATE TABLE local_indexes (
    position INTEGER NOT NULL PRIMARY KEY,
    definition TEXT NOT NULL,
    entries INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);

-- A row for each item that an index has, in the index's order, with the bytes of what it shows of the item.
CREATE TABLE index_entries (
    position INTEGER NOT NULL,
    entry BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (position, entry)
) WITHOUT ROWID;
