//! What a range holds in memory, in layers: one table that takes in what is applied, and behind it those that are on
//! their way to the file, oldest first. A key's newest state is in the first layer that knows it.
//!
//! A flush takes the oldest layer, writes it in one transaction and drops it. While flushes go on, the
//! active table is frozen whenever it has grown to [`LAYER_BYTES`], so that a writer that is held back waits for the flush
//! of one layer and not of everything that has piled up. While none goes on, the active table is left alone however
//! large it grows: a key that is written again and again then goes to the file once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::domain::Timestamp;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::domain::key::PackedKey;
use crate::replication::machine_state::MachineState;
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;

use super::memory_table::{MemoryItem, MemoryTable, Written};

/// Bytes at which a layer is closed while flushes go on.
pub const LAYER_BYTES: usize = 8 << 20;

/// See the module's essay.
#[derive(Default)]
pub struct MemoryLayers {
    /// Takes in what is applied.
    pub active: MemoryTable,
    /// Receipts of entries that are not applied yet.
    pub pending_receipts: HashSet<ReceiptId>,
    /// Layers that were flushed so far.
    pub flushes: u64,
    /// Items in the range, where it is known.
    pub item_count: Option<u64>,
    /// Items in the file and their bytes, where they are known.
    pub in_file: Option<Written>,
    /// The latest leader's time in an entry, where it is known: time does not go back, whatever a leader's clock says.
    pub time: Option<Timestamp>,
    /// Where the group's state stands, where the range has a group: it goes to the file with the entries it tells of.
    pub machine: Option<MachineState>,
    /// On their way to the file, oldest first.
    frozen: VecDeque<Arc<MemoryTable>>,
}

impl MemoryLayers {
    /// All layers, newest first.
    fn layers(&self) -> impl Iterator<Item = &MemoryTable> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev().map(Arc::as_ref))
    }

    /// The newest state of `key`, where it was written since the last flush.
    pub fn get(&self, key: &PackedKey) -> Option<&MemoryItem> {
        self.layers().find_map(|layer| layer.get(key))
    }

    /// A remembered request.
    pub fn request(&self, principal: PrincipalId, id: RequestId) -> Option<&Remembered> {
        self.layers().find_map(|layer| layer.request(principal, id))
    }

    /// A kept receipt.
    pub fn receipt(&self, id: ReceiptId) -> Option<&Outcome> {
        self.layers().find_map(|layer| layer.receipt(id))
    }

    /// The states of an interval, in key order, at most `limit`; and whether these are all.
    pub fn slice(
        &self,
        start: &PackedKey,
        end: Option<&PackedKey>,
        descending: bool,
        limit: usize,
    ) -> (Vec<(PackedKey, MemoryItem)>, bool) {
        let collect = |layer| collect_slice(layer, start, end, descending, limit);
        let mut slice = collect(&self.active);
        let mut complete = slice.len() < limit;
        for layer in self.frozen.iter().rev() {
            // An incomplete slice has `limit` entries, and so has whatever it is merged into.
            (slice, complete) = merge_slices(slice, collect(layer), descending, limit);
        }
        (slice, complete)
    }

    /// Bytes in all layers, about.
    pub fn bytes(&self) -> usize {
        self.layers().map(MemoryTable::bytes).sum()
    }

    /// Items in the range and their bytes, where they are known. Of items in the file that memory replaces or deletes only the number
    /// is known, so each of them counts as one of middling size; with nothing in memory the bytes are exact.
    pub fn stored(&self) -> Option<Written> {
        let (items, file) = (self.item_count?, self.in_file?);
        let (mut new, mut bytes) = (0, 0);
        for written in self.layers().map(MemoryTable::written) {
            (new, bytes) = (new + written.items, bytes + written.bytes);
        }
        let replaced = (file.items + new).saturating_sub(items).min(file.items);
        let kept = u128::from(file.bytes) * u128::from(file.items - replaced) / u128::from(file.items.max(1));
        Some(Written { items, bytes: kept as u64 + bytes })
    }

    /// Whether there is nothing that is not in the file.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.frozen.is_empty()
    }

    /// Closes the active table where flushes go on and it has grown enough. Called after each entry.
    pub fn close_layer(&mut self) {
        if !self.frozen.is_empty() && self.active.bytes() >= LAYER_BYTES {
            self.freeze();
        }
    }

    /// Freezes what there is; how many layers are now on their way to the file.
    pub fn freeze(&mut self) -> usize {
        if !self.active.is_empty() {
            self.active.close(self.machine.clone());
            self.frozen.push_back(Arc::new(std::mem::take(&mut self.active)));
        }
        self.frozen.len()
    }

    /// The layer that goes to the file next.
    pub fn oldest(&self) -> Option<Arc<MemoryTable>> {
        self.frozen.front().cloned()
    }

    /// Drops everything: another file stands for the range, and `machine` for its group's state.
    pub fn replace(&mut self, machine: Option<MachineState>) {
        *self = MemoryLayers { machine, flushes: self.flushes + 1, ..MemoryLayers::default() };
    }

    /// Drops the oldest layer: it is in the file.
    pub fn drop_oldest(&mut self) {
        self.frozen.pop_front();
        self.flushes += 1;
    }
}

fn collect_slice(
    table: &MemoryTable,
    start: &PackedKey,
    end: Option<&PackedKey>,
    descending: bool,
    limit: usize,
) -> Vec<(PackedKey, MemoryItem)> {
    let copy = |(key, item): (&PackedKey, &MemoryItem)| (key.clone(), item.clone());
    let range = table.range(start, end);
    if descending { range.rev().take(limit).map(copy).collect() } else { range.take(limit).map(copy).collect() }
}

/// Merges two ordered slices; where both have a key, the first has the newer state.
fn merge_slices(
    newer: Vec<(PackedKey, MemoryItem)>,
    older: Vec<(PackedKey, MemoryItem)>,
    descending: bool,
    limit: usize,
) -> (Vec<(PackedKey, MemoryItem)>, bool) {
    let cut = newer.len() == limit || older.len() == limit;
    let mut merged = Vec::with_capacity(newer.len() + older.len());
    let (mut newer, mut older) = (newer.into_iter().peekable(), older.into_iter().peekable());
    while merged.len() < limit {
        let order = match (newer.peek(), older.peek()) {
            (None, None) => return (merged, !cut),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((left, _)), Some((right, _))) if descending => right.cmp(left),
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        match order {
            std::cmp::Ordering::Less => merged.extend(newer.next()),
            std::cmp::Ordering::Greater => merged.extend(older.next()),
            std::cmp::Ordering::Equal => {
                merged.extend(newer.next());
                older.next();
            }
        }
    }
    (merged, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::KeyValue;
    use crate::domain::version::ItemVersion;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(number: u8) -> PackedKey {
        PackedKey::new(&KeyValue::String(number.to_string().into()), None)
    }

    fn put(memory: &mut MemoryLayers, number: u8, index: u64) {
        memory.active.put(key(number), MemoryItem { version: ItemVersion(index), document: None });
        memory.active.note_applied(index, Timestamp(index), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8),
        Freeze,
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![8 => (0u8..20).prop_map(Step::Put), 2 => Just(Step::Freeze), 1 => Just(Step::Flush)];
        proptest::collection::vec(step, 0..120)
    }

    proptest! {
        /// However it is cut into layers, memory with the file behind it is one map with the newest states.
        #[test]
        fn layers_show_the_newest_state_of_each_key(steps in steps(), descending: bool, limit in 1usize..30) {
            let mut memory = MemoryLayers::default();
            let (mut all, mut file) = (BTreeMap::new(), BTreeMap::new());
            for (step, index) in steps.into_iter().zip(1..) {
                match step {
                    Step::Put(number) => {
                        put(&mut memory, number, index);
                        all.insert(key(number), ItemVersion(index));
                    }
                    Step::Freeze => { memory.freeze(); }
                    Step::Flush => {
                        if let Some(oldest) = memory.oldest() {
                            file.extend(oldest.items().map(|(key, item)| (key.clone(), item.version)));
                            memory.drop_oldest();
                        }
                    }
                }
            }
            for (key, version) in &all {
                let found = memory.get(key).map(|item| item.version);
                prop_assert_eq!(found.or_else(|| file.get(key).copied()), Some(*version));
            }
            let (slice, complete) = memory.slice(&PackedKey::hash_floor(0), None, descending, limit);
            let mut known: Vec<_> =
                all.keys().filter_map(|key| Some((key.clone(), memory.get(key)?.version))).collect();
            if descending {
                known.reverse();
            }
            prop_assert_eq!(complete, known.len() < limit);
            known.truncate(limit);
            let shown: Vec<_> = slice.into_iter().map(|(key, item)| (key, item.version)).collect();
            prop_assert_eq!(shown, known);
        }
    }

    #[test]
    fn a_layer_is_closed_only_while_flushes_go_on() {
        let mut memory = MemoryLayers::default();
        put(&mut memory, 1, 1);
        memory.close_layer();
        assert!(memory.oldest().is_none());
        assert_eq!(memory.freeze(), 1);
        put(&mut memory, 2, 2);
        memory.close_layer();
        assert_eq!(memory.freeze(), 2, "a small layer stays open until it is asked for");
        assert_eq!(memory.freeze(), 2, "nothing is no layer");
        memory.drop_oldest();
        memory.drop_oldest();
        assert!(memory.is_empty() && memory.flushes == 2);
    }
}
