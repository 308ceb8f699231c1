//! Reading a page of a range in the order of a local index: what is in memory and what is in the file, merged.
//!
//! It is put together from steps, as a page in key order is ([`super::scan`]), and by the same rule: a step pins memory
//! first and reads the file after, and memory that the file's transaction has already is ignored. But memory knows no
//! entries; it is ordered by key. What helps is that entry and key of an item begin with the same hash:
//!
//! 1. A slice of memory is pinned in key order, from the first key with the hash of the interval's start on (descending: from
//!    its end backwards). Where it is cut, the step covers the hashes that the slice has to their ends, and no part of the one in
//!    which it was cut. A slice that was cut within its first hash is taken anew, twice as long.
//! 2. The file is asked for entries in what the step covers. Where those are cut, it covers no more than up to the last of
//!    them.
//! 3. Of an item that is pinned and newer than the file, memory alone says what it is now: the file's entry of it is dropped,
//!    for it may stand at another place by now, or in the index no more. Its place is computed from the document.
//!
//! So a step shows no item twice. A page, as everywhere, is no snapshot: an item that is written while it is read can be met at
//! its old place and later on at its new one, or at neither.
//!
//! What it costs: a page of one ID takes all of memory that has its hash, whatever of it the page shows. Memory is
//! bounded, and an order by entry that is kept in memory would be paid for by each write, for reads that may never come.

use std::collections::HashMap;

use crate::domain::key::PackedKey;
use crate::domain::limits::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};
use crate::domain::local_index::LocalIndex;
use crate::services::ports::{ListRequest, Page, StoredItem};
use crate::storage::store::{IndexChunk, IndexedItem, KeyInterval, StoreError, no_index};

use super::memory_table::MemoryItem;
use super::replica::Replica;
use super::scan::{Placed, Step, in_steps, narrowed};

/// Memory entries looked at in one step, at the least: few of them may be in the index, and a look at all of them costs less
/// than one into the file.
const STEP_KEYS_MIN: usize = 1000;

/// Reads one page in the order of the index at this position. Blocks.
pub(super) fn page(replica: &Replica, position: u8, request: &ListRequest) -> Result<Page, StoreError> {
    let index = replica.index(position)?;
    let descending = request.descending;
    let mut least = 0;
    in_steps(request, |rest, wanted| {
        // All that a step finds may be replaced or gone in memory: then the next one looks further.
        let wanted = wanted.max(least);
        least = (2 * wanted).min(PAGE_ITEMS_MAX);
        let pinned = pin(replica, rest, descending, wanted.max(STEP_KEYS_MIN));
        let interval = pinned.interval(rest, descending);
        let chunk =
            replica.read_with(|store| store.scan_index(position, &interval, descending, wanted, PAGE_BYTES_MAX))?;
        Ok(pinned.merge(index, rest, chunk, descending))
    })
}

impl Replica {
    /// The index of its table at this position.
    ///
    /// # Errors
    /// `Failed` where the table has none there.
    pub(super) fn index(&self, position: u8) -> Result<&LocalIndex, StoreError> {
        self.indexes.get(usize::from(position)).ok_or_else(|| no_index(position))
    }
}

/// All of memory that belongs to a piece of the interval.
struct Pinned {
    /// In key order, from the end backwards where that is asked for.
    memory: Vec<(PackedKey, MemoryItem)>,
    /// The bound between hashes up to which this is all; none: it is all to the end of the interval.
    covered: Option<PackedKey>,
}

/// Pins what memory has of the hashes in which the interval begins: at least `length` items, where there are so many.
fn pin(replica: &Replica, rest: &KeyInterval, descending: bool, mut length: usize) -> Pinned {
    let (start, end) = whole_hashes(rest);
    loop {
        let (mut memory, is_all) = replica.memory_slice(&start, end.as_ref(), descending, length);
        if is_all {
            return Pinned { memory, covered: None };
        }
        let ends = memory.first().zip(memory.last()).map(|((first, _), (last, _))| (first.hash(), last.hash()));
        if let Some((first, last)) = ends.filter(|(first, last)| first != last) {
            memory.retain(|(key, _)| key.hash() != last);
            // Descending, the first hash is above the last, so there is one above that.
            let bound = if descending { last.saturating_add(1) } else { last };
            debug_assert!(descending == (first > last), "memory is in order");
            return Pinned { memory, covered: Some(PackedKey::hash_floor(bound)) };
        }
        length = length.saturating_mul(2);
    }
}

/// The interval of keys of all hashes that an interval of entries has a part in.
fn whole_hashes(entries: &KeyInterval) -> (PackedKey, Option<PackedKey>) {
    let end = entries.end.as_ref().and_then(|end| {
        let floor = PackedKey::hash_floor(end.hash());
        // An end that is nothing but a hash excludes all of that hash.
        if *end == floor { Some(floor) } else { end.hash().checked_add(1).map(PackedKey::hash_floor) }
    });
    (PackedKey::hash_floor(entries.start.hash()), end)
}

impl Pinned {
    /// The part of `rest` that it has all of memory of.
    fn interval(&self, rest: &KeyInterval, descending: bool) -> KeyInterval {
        narrowed(rest, self.covered.as_ref(), descending)
    }

    /// The step, from this and what the file showed of [`Pinned::interval`] afterwards.
    fn merge(self, index: &LocalIndex, rest: &KeyInterval, chunk: IndexChunk, descending: bool) -> Step {
        let covered = match chunk.items.last() {
            // Though that item be dropped below: the file was looked at up to there.
            Some(last) if !chunk.complete => Some(last.entry.clone()),
            _ => self.covered,
        };
        let shown = narrowed(rest, covered.as_ref(), descending);
        let newer: HashMap<PackedKey, MemoryItem> =
            self.memory.into_iter().filter(|(_, item)| item.version.0 > chunk.applied_index).collect();
        let of_file = chunk.items.into_iter().filter(|found| !newer.contains_key(&found.key));
        let mut items: Vec<Placed> = of_file.map(Placed::from).collect();
        let of_memory = newer.into_iter().filter_map(|(key, item)| {
            let document = item.document?;
            let place = index.entry(&key, &document)?;
            let is_shown = place >= shown.start && shown.end.as_ref().is_none_or(|end| place < *end);
            is_shown.then(|| Placed { place, key, item: StoredItem { document, version: item.version } })
        });
        items.extend(of_memory);
        items.sort_by(|one, other| {
            let order = one.place.cmp(&other.place);
            if descending { order.reverse() } else { order }
        });
        Step { items, covered }
    }
}

impl From<IndexedItem> for Placed {
    fn from(found: IndexedItem) -> Self {
        let item = StoredItem { document: found.document, version: found.version };
        Placed { place: found.entry, key: found.key, item }
    }
}

#[cfg(test)]
pub(super) mod tests;
