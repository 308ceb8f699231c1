//! How much a replica stores of a part of its range: of what an index shows, and of the items with one ID.
//!
//! What an index shows is counted where its entries are, in the file, so what is in memory goes there first. The size of
//! a collection is an estimate: who asks for it compares it with a bound far away. How much the whole range stores is known
//! without any of that (`flushing`).

use crate::domain::key::PackedKey;
use crate::domain::local_index::LocalIndex;
use crate::services::ports::Stored;
use crate::storage::store::{KeyInterval, RangeStore, StoreError, StoredSize, item_bytes};

use super::replica::Replica;

/// Memory entries looked at at once: the apply stage waits for that long.
const KEYS: usize = 1000;

impl From<StoredSize> for Stored {
    fn from(size: StoredSize) -> Self {
        Stored { items: size.items, bytes: size.bytes }
    }
}

impl Replica {
    /// The entries of an index and the bytes of what it shows. What is in memory is written to the file first: where little is
    /// written, nothing else would do so for days. Blocks.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or the table has no such index.
    pub fn stored_in_index(&self, position: u8) -> Result<Stored, StoreError> {
        self.index(position)?;
        if self.is_dirty() {
            self.flush()?;
        }
        Ok(self.read_with(|store| store.index_size(position))?.into())
    }

    /// The items of the ID that has this prefix, and their bytes: those of the file and those in memory that are newer. An
    /// estimate, and never below what the file has: an item that was replaced since the last flush counts twice, one that was
    /// deleted since then still counts, and where a flush ends meanwhile, what it wrote may count twice. Blocks, and costs a
    /// walk over all of these items.
    ///
    /// # Errors
    /// Where the file cannot be read, or this is no prefix of an ID.
    pub fn stored_in_collection(&self, prefix: &PackedKey) -> Result<Stored, StoreError> {
        let (id, _) = prefix.decode().map_err(|error| StoreError::Failed(format!("this is no ID: {error}")))?;
        let (start, end) = PackedKey::id_interval(&id);
        let interval = KeyInterval { start, end: Some(end) };
        // In this order nothing is left out: what a flush takes out of memory meanwhile, the file has when it is looked at.
        let in_file = self.read_with(|store| store.state())?.applied_index;
        let newer = self.newer_in_memory(&interval, in_file);
        let size = self.read_with(|store| store.interval_size(&interval))?;
        Ok(newer.plus(size.into()))
    }

    /// What memory has of the interval that was written by entries behind this one.
    fn newer_in_memory(&self, interval: &KeyInterval, index: u64) -> Stored {
        let (mut sum, mut start) = (Stored::default(), interval.start.clone());
        loop {
            let (slice, is_all) = self.memory_slice(&start, interval.end.as_ref(), false, KEYS);
            for (key, item) in slice.iter().filter(|(_, item)| item.version.0 > index) {
                if let Some(document) = &item.document {
                    sum = sum.plus(Stored { items: 1, bytes: item_bytes(key, document) as u64 });
                }
            }
            match slice.last() {
                Some((last, _)) if !is_all => start = last.successor(),
                _ => return sum,
            }
        }
    }
}

/// That the file keeps the indexes of its table: one that was made without would keep none of them, and nobody would see.
///
/// # Errors
/// `Damaged` where it does not; whatever the file says else.
pub(super) fn check_indexes(store: &dyn RangeStore, indexes: &[LocalIndex]) -> Result<(), StoreError> {
    for (position, _) in (0..).zip(indexes) {
        store.index_size(position).map_err(|error| match error {
            StoreError::Failed(text) => StoreError::Damaged(text),
            other => other,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::index_scan::tests::{apply, id, key, replica};
    use super::*;
    use crate::domain::document::sample::of_text as document;

    #[test]
    fn an_index_is_measured_with_what_is_in_memory() {
        let replica = replica();
        let shown = document(r#"{"n":1,"t":"b"}"#);
        apply(&replica, &key(0, 0), Some(&shown));
        apply(&replica, &key(1, 0), Some(&document(r#"{"t":"b"}"#)));
        let bytes = item_bytes(&key(0, 0), &shown) as u64;
        assert_eq!(replica.stored_in_index(0).unwrap(), Stored { items: 1, bytes });
        let bytes = 2 * item_bytes(&key(0, 0), &document(r#"{"t":"b"}"#)) as u64;
        assert_eq!(replica.stored_in_index(1).unwrap(), Stored { items: 2, bytes }, "keys only");
        apply(&replica, &key(0, 0), None);
        assert_eq!(replica.stored_in_index(0).unwrap(), Stored::default());
        assert!(matches!(replica.stored_in_index(2), Err(StoreError::Failed(_))));
    }

    /// Near the truth while items are in memory, and exact when they are in the file.
    #[test]
    fn the_items_of_one_id_are_measured_in_memory_and_file() {
        let replica = replica();
        let item = document(r#"{"n":1}"#);
        let items = |count: u64| Stored { items: count, bytes: count * item_bytes(&key(0, 1), &item) as u64 };
        let stored = || replica.stored_in_collection(&PackedKey::id_prefix(&id(0))).unwrap();
        assert_eq!(stored(), items(0));
        for sort in 1..4 {
            apply(&replica, &key(0, sort), Some(&item));
            apply(&replica, &key(1, sort), Some(&item));
        }
        assert_eq!(stored(), items(3));
        replica.freeze();
        apply(&replica, &key(0, 4), Some(&item));
        assert_eq!(stored(), items(4), "whatever layer they are in");
        replica.flush().unwrap();
        assert_eq!(stored(), items(4));
        apply(&replica, &key(0, 1), Some(&item));
        apply(&replica, &key(0, 2), None);
        assert_eq!(stored(), items(5), "an estimate: what is replaced counts twice, and what is deleted still does");
        replica.flush().unwrap();
        assert_eq!(stored(), items(3));
        let no_id = replica.stored_in_collection(&PackedKey::hash_floor(7));
        assert!(matches!(no_id, Err(StoreError::Failed(_))));
    }
}
