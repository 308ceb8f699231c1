//! Stores in plain memory, for tests and simulations: the contract of [`super::store`] and nothing else.
//!
//! A store forgets on purpose what a power cut would take: [`MemoryKeeper::cut_power`] brings every store back to what
//! it was when it was last made durable, which is the least that a file promises. Nothing is encrypted and no key
//! is asked for, so the calls about keys have nothing to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use parking_lot::Mutex;

use super::store::{
    Batch, BatchChanges, Chunk, IndexChunk, IndexedItem, KeptReceipt, KeyInterval, RangeStore, RememberedRequest,
    ReplicaName, RewrapStep, StoreError, StoreKeeper, StoreSnapshot, StoreState, StoredSize, item_bytes, no_index,
    no_indexed_item,
};
use crate::domain::Timestamp;
use crate::domain::cell::{CellChange, diff_cells};
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, ReceiptId, ReplicaId, RequestId, TenantId};
use crate::domain::key::{PackedKey, read_index_entry};
use crate::domain::limits::{RECEIPT_SECONDS, REQUEST_WINDOW_SECONDS};
use crate::domain::local_index::LocalIndex;
use crate::domain::version::ItemVersion;
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;

/// A local index: its entries, and the bytes of what it shows of each item.
#[derive(Debug, Clone)]
struct Index {
    definition: LocalIndex,
    entries: BTreeMap<PackedKey, u64>,
}

impl Index {
    fn change(&mut self, key: &PackedKey, before: Option<&Document>, after: Option<&Document>) {
        if let Some(entry) = before.and_then(|document| self.definition.entry(key, document)) {
            self.entries.remove(&entry);
        }
        if let Some(document) = after
            && let Some(entry) = self.definition.entry(key, document)
        {
            self.entries.insert(entry, self.definition.projected_bytes(key, document));
        }
    }
}

fn is_in(interval: &KeyInterval, key: &PackedKey) -> bool {
    *key >= interval.start && interval.end.as_ref().is_none_or(|end| key < end)
}

/// What one store holds.
#[derive(Debug, Clone, Default)]
struct Content {
    items: BTreeMap<PackedKey, (Document, ItemVersion)>,
    indexes: Vec<Index>,
    requests: BTreeMap<(PrincipalId, RequestId), Remembered>,
    receipts: BTreeMap<ReceiptId, (Outcome, Timestamp)>,
    state: StoreState,
}

impl Content {
    fn scan(&self, interval: &KeyInterval, descending: bool, items_max: usize, bytes_max: usize) -> Chunk {
        let mut chunk = Chunk { applied_index: self.state.applied_index, ..Chunk::default() };
        let mut found: Vec<_> = self.items.iter().filter(|(key, _)| is_in(interval, key)).collect();
        if descending {
            found.reverse();
        }
        let mut bytes = 0;
        for (key, (document, version)) in &found {
            if chunk.items.len() == items_max || bytes >= bytes_max {
                break;
            }
            bytes += key.len() + document.as_bytes().len();
            chunk.items.push(((*key).clone(), document.clone(), *version));
        }
        chunk.complete = chunk.items.len() == found.len() && found.len() < items_max;
        chunk
    }

    fn index(&self, position: u8) -> Result<&Index, StoreError> {
        self.indexes.get(usize::from(position)).ok_or_else(|| no_index(position))
    }

    fn scan_index(
        &self,
        position: u8,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<IndexChunk, StoreError> {
        let mut chunk = IndexChunk { applied_index: self.state.applied_index, ..IndexChunk::default() };
        let entries = self.index(position)?.entries.keys();
        let mut found: Vec<_> = entries.filter(|entry| is_in(interval, entry)).collect();
        if descending {
            found.reverse();
        }
        let mut bytes = 0;
        for entry in &found {
            if chunk.items.len() == items_max || (bytes >= bytes_max && !chunk.items.is_empty()) {
                break;
            }
            let (key, _) = read_index_entry(entry).map_err(|_| no_indexed_item())?;
            let (document, version) = self.items.get(&key).cloned().ok_or_else(no_indexed_item)?;
            bytes += key.len() + document.as_bytes().len();
            chunk.items.push(IndexedItem { entry: (*entry).clone(), key, document, version });
        }
        chunk.complete = chunk.items.len() == found.len() && found.len() < items_max;
        Ok(chunk)
    }

    fn index_size(&self, position: u8) -> Result<StoredSize, StoreError> {
        let entries = &self.index(position)?.entries;
        Ok(StoredSize { items: entries.len() as u64, bytes: entries.values().sum() })
    }

    fn interval_size(&self, interval: &KeyInterval) -> StoredSize {
        let mut size = StoredSize::default();
        for (key, (document, _)) in self.items.iter().filter(|(key, _)| is_in(interval, key)) {
            size.items += 1;
            size.bytes += item_bytes(key, document) as u64;
        }
        size
    }
}

impl StoreSnapshot for Content {
    fn state(&self) -> &StoreState {
        &self.state
    }

    fn items(&mut self, interval: &KeyInterval, items_max: usize, bytes_max: usize) -> Result<Chunk, StoreError> {
        Ok(self.scan(interval, false, items_max, bytes_max))
    }

    fn requests(
        &mut self,
        after: Option<(PrincipalId, RequestId)>,
        max: usize,
    ) -> Result<Vec<RememberedRequest>, StoreError> {
        let rest = self.requests.range((after.map_or(Unbounded, Excluded), Unbounded)).take(max);
        Ok(rest.map(|((principal, id), known)| (*principal, *id, known.clone())).collect())
    }

    fn receipts(&mut self, after: Option<ReceiptId>, max: usize) -> Result<Vec<KeptReceipt>, StoreError> {
        let rest = self.receipts.range((after.map_or(Unbounded, Excluded), Unbounded)).take(max);
        Ok(rest.map(|(id, (outcome, at))| (*id, outcome.clone(), *at)).collect())
    }
}

/// One range's store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    now: Mutex<Content>,
    durable: Mutex<Content>,
}

impl MemoryStore {
    /// An empty store, which is durable as it is.
    fn new(indexes: &[LocalIndex]) -> Self {
        let empty = |index: &LocalIndex| Index { definition: index.clone(), entries: BTreeMap::new() };
        let content = Content { indexes: indexes.iter().map(empty).collect(), ..Content::default() };
        Self { now: Mutex::new(content.clone()), durable: Mutex::new(content) }
    }
}

/// Keeps stores in memory.
#[derive(Debug, Default)]
pub struct MemoryKeeper {
    stores: Mutex<HashMap<ReplicaId, Arc<MemoryStore>>>,
    aside: Mutex<Vec<Arc<MemoryStore>>>,
}

impl MemoryKeeper {
    /// Another keeper, whose stores are as these would be after a loss of power.
    pub fn fork(&self) -> MemoryKeeper {
        let copy = |store: &Arc<MemoryStore>| {
            let content = store.durable.lock().clone();
            Arc::new(MemoryStore { now: Mutex::new(content.clone()), durable: Mutex::new(content) })
        };
        let stores = self.stores.lock().iter().map(|(replica, store)| (*replica, copy(store))).collect();
        MemoryKeeper { stores: Mutex::new(stores), aside: Mutex::default() }
    }

    /// All stores are as they were when each was last made durable.
    pub fn cut_power(&self) {
        for store in self.stores.lock().values() {
            *store.now.lock() = store.durable.lock().clone();
        }
    }
}

impl StoreKeeper for MemoryKeeper {
    fn create(&self, name: ReplicaName, indexes: &[LocalIndex]) -> Result<Arc<dyn RangeStore>, StoreError> {
        let mut stores = self.stores.lock();
        if stores.contains_key(&name.replica) {
            return Err(StoreError::Failed(format!("there is a store of replica {} already", name.replica)));
        }
        let store = Arc::new(MemoryStore::new(indexes));
        stores.insert(name.replica, Arc::clone(&store));
        Ok(store)
    }

    fn open(&self, name: ReplicaName) -> Result<Arc<dyn RangeStore>, StoreError> {
        Ok(match self.stores.lock().get(&name.replica) {
            Some(store) => Arc::clone(store) as Arc<dyn RangeStore>,
            // As with a file: what is not there shows when it is used.
            None => Arc::new(Missing(name.replica)),
        })
    }

    fn remove(&self, name: ReplicaName) -> Result<(), StoreError> {
        self.stores.lock().remove(&name.replica);
        Ok(())
    }

    fn set_aside(&self, name: ReplicaName) -> Result<String, StoreError> {
        let mut aside = self.aside.lock();
        aside.extend(self.stores.lock().remove(&name.replica));
        Ok(format!("memory {}", aside.len()))
    }

    fn rewrap(&self, _tenant: TenantId, _step: RewrapStep) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn key_versions(&self, _tenant: TenantId) -> Result<BTreeSet<u32>, StoreError> {
        Ok(BTreeSet::new())
    }
}

impl RangeStore for MemoryStore {
    fn state(&self) -> Result<StoreState, StoreError> {
        Ok(self.now.lock().state.clone())
    }

    fn get(&self, key: &PackedKey) -> Result<Option<(Document, ItemVersion)>, StoreError> {
        Ok(self.now.lock().items.get(key).cloned())
    }

    fn version(&self, key: &PackedKey) -> Result<Option<ItemVersion>, StoreError> {
        Ok(self.now.lock().items.get(key).map(|(_, version)| *version))
    }

    fn scan(
        &self,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Chunk, StoreError> {
        Ok(self.now.lock().scan(interval, descending, items_max, bytes_max))
    }

    fn scan_index(
        &self,
        position: u8,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<IndexChunk, StoreError> {
        self.now.lock().scan_index(position, interval, descending, items_max, bytes_max)
    }

    fn index_size(&self, position: u8) -> Result<StoredSize, StoreError> {
        self.now.lock().index_size(position)
    }

    fn interval_size(&self, interval: &KeyInterval) -> Result<StoredSize, StoreError> {
        Ok(self.now.lock().interval_size(interval))
    }

    fn request(&self, principal: PrincipalId, id: RequestId) -> Result<Option<Remembered>, StoreError> {
        Ok(self.now.lock().requests.get(&(principal, id)).cloned())
    }

    fn receipt(&self, id: ReceiptId) -> Result<Option<Outcome>, StoreError> {
        Ok(self.now.lock().receipts.get(&id).map(|(outcome, _)| outcome.clone()))
    }

    fn snapshot(&self) -> Result<Box<dyn StoreSnapshot>, StoreError> {
        Ok(Box::new(self.now.lock().clone()))
    }

    fn write(&self, batch: &Batch) -> Result<BatchChanges, StoreError> {
        let mut now = self.now.lock();
        let mut changes = BatchChanges { stored_bytes: now.state.stored_bytes, ..BatchChanges::default() };
        for item in &batch.items {
            let before = now.items.remove(&item.key);
            count(&mut changes, before.as_ref(), item.document.as_ref(), item.version);
            let bytes =
                |document: Option<&Document>| document.map_or(0, |document| item_bytes(&item.key, document) as u64);
            changes.stored_bytes += bytes(item.document.as_ref());
            changes.stored_bytes -= bytes(before.as_ref().map(|(document, _)| document));
            for index in &mut now.indexes {
                index.change(&item.key, before.as_ref().map(|(document, _)| document), item.document.as_ref());
            }
            if let Some(document) = &item.document {
                now.items.insert(item.key.clone(), (document.clone(), item.version));
            }
        }
        let is_kept = |at: Timestamp, seconds: u64| batch.now.seconds_since(at) <= seconds;
        if !batch.requests.is_empty() {
            now.requests.extend(batch.requests.iter().map(|(principal, id, known)| ((*principal, *id), known.clone())));
            now.requests.retain(|_, known| is_kept(known.at, REQUEST_WINDOW_SECONDS));
        }
        if !batch.receipts.is_empty() {
            now.receipts.extend(batch.receipts.iter().map(|(id, outcome, at)| (*id, (outcome.clone(), *at))));
            now.receipts.retain(|_, (_, at)| is_kept(*at, RECEIPT_SECONDS));
        }
        now.state = StoreState {
            applied_index: batch.applied_index,
            item_count: batch.item_count,
            stored_bytes: changes.stored_bytes,
            time: now.state.time.max(batch.now),
            machine: batch.machine.clone().or(now.state.machine.take()),
        };
        Ok(changes)
    }

    fn make_durable(&self) -> Result<u64, StoreError> {
        let now = self.now.lock().clone();
        let index = now.state.applied_index;
        *self.durable.lock() = now;
        Ok(index)
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn checkpoint_backlog_bytes(&self) -> u64 {
        0
    }

    fn expect_at_least(&self, index: u64) {
        debug_assert!(self.now.lock().state.applied_index >= index, "memory loses nothing by itself");
    }

    fn take_cut(&self) -> Option<String> {
        None
    }

    fn discard_unsynced(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn release(&self) {}

    fn verify(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Counts rows as a store of rows would write them: the item's own, and one for each leaf that differs.
fn count(
    changes: &mut BatchChanges,
    before: Option<&(Document, ItemVersion)>,
    after: Option<&Document>,
    version: ItemVersion,
) {
    let nothing = Document::empty();
    let (old, new) = (before.map_or(&nothing, |(document, _)| document), after.unwrap_or(&nothing));
    diff_cells(old, new, |_, change| match change {
        CellChange::Upsert(_) => changes.cells_written += 1,
        CellChange::Remove => changes.cells_removed += 1,
    });
    match (before, after) {
        (Some((_, known)), Some(_)) => changes.cells_written += u64::from(*known != version),
        (None, Some(_)) => changes.cells_written += 1,
        (Some(_), None) => changes.cells_removed += 1,
        (None, None) => {}
    }
}

/// A store that is not there: every call says so.
struct Missing(ReplicaId);

impl Missing {
    fn error<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::Failed(format!("there is no store of replica {}", self.0)))
    }
}

impl RangeStore for Missing {
    fn state(&self) -> Result<StoreState, StoreError> {
        self.error()
    }
    fn get(&self, _key: &PackedKey) -> Result<Option<(Document, ItemVersion)>, StoreError> {
        self.error()
    }
    fn version(&self, _key: &PackedKey) -> Result<Option<ItemVersion>, StoreError> {
        self.error()
    }
    fn scan(&self, _: &KeyInterval, _: bool, _: usize, _: usize) -> Result<Chunk, StoreError> {
        self.error()
    }
    fn scan_index(&self, _: u8, _: &KeyInterval, _: bool, _: usize, _: usize) -> Result<IndexChunk, StoreError> {
        self.error()
    }
    fn index_size(&self, _position: u8) -> Result<StoredSize, StoreError> {
        self.error()
    }
    fn interval_size(&self, _interval: &KeyInterval) -> Result<StoredSize, StoreError> {
        self.error()
    }
    fn request(&self, _principal: PrincipalId, _id: RequestId) -> Result<Option<Remembered>, StoreError> {
        self.error()
    }
    fn receipt(&self, _id: ReceiptId) -> Result<Option<Outcome>, StoreError> {
        self.error()
    }
    fn snapshot(&self) -> Result<Box<dyn StoreSnapshot>, StoreError> {
        self.error()
    }
    fn write(&self, _batch: &Batch) -> Result<BatchChanges, StoreError> {
        self.error()
    }
    fn make_durable(&self) -> Result<u64, StoreError> {
        self.error()
    }
    fn checkpoint(&self) -> Result<(), StoreError> {
        self.error()
    }
    fn checkpoint_backlog_bytes(&self) -> u64 {
        0
    }
    fn expect_at_least(&self, _index: u64) {}
    fn take_cut(&self) -> Option<String> {
        None
    }
    fn discard_unsynced(&self) -> Result<(), StoreError> {
        self.error()
    }
    fn release(&self) {}
    fn verify(&self) -> Result<(), StoreError> {
        self.error()
    }
}
