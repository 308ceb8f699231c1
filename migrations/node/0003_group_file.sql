-- A replica that is a member of its range's group: the number of the file it is in, which grows with each
-- snapshot that is taken in. Null where the range has this replica alone and no group.
ALTER TABLE replicas ADD COLUMN group_file INTEGER;
