-- How far the replicas' files have been read to find damage. file: the number of the replica's file; next_page: where to go
-- on in it, 1 where none of it was read since it was last read as a whole. verified_at: when all pages of it were last
-- found good; digested_at: when the replica's state was last digested. Microseconds since 1970.
CREATE TABLE scrubs (
    replica BLOB NOT NULL PRIMARY KEY,
    file INTEGER NOT NULL,
    next_page INTEGER NOT NULL,
    verified_at INTEGER,
    digested_at INTEGER
) WITHOUT ROWID;

-- Replicas whose state or promises are not to be believed any more, and why. They answer nothing and vote no more, also after
-- a restart, until they are removed.
CREATE TABLE distrusted (
    replica BLOB NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL
) WITHOUT ROWID;
