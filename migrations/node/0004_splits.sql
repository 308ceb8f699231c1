-- Splits that this node's replicas have carried out: `replica` is the parent's, `split` the bytes of the split. A row is written
-- in the same transaction as the children's replicas, so that they are made once, whatever becomes of them later.
CREATE TABLE splits (
    replica BLOB NOT NULL PRIMARY KEY,
    split BLOB NOT NULL
) WITHOUT ROWID;
