-- When this node learned that a replica's table was deleted, in microseconds since 1970: its file is
-- kept for seven days from then on. Null while the replica serves.
ALTER TABLE replicas ADD COLUMN dropped_at INTEGER;

UPDATE replicas SET dropped_at = 0 WHERE state = 'dropped';
