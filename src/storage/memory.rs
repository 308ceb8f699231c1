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
    Batch, BatchChanges, Chunk, KeptReceipt, KeyInterval, RangeStore, RememberedRequest, ReplicaName, RewrapStep,
    StoreError, StoreKeeper, StoreSnapshot, StoreState,
};
use crate::domain::Timestamp;
use crate::domain::cell::{CellChange, diff_cells};
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, ReceiptId, ReplicaId, RequestId, TenantId};
use crate::domain::key::PackedKey;
use crate::domain::limits::{RECEIPT_SECONDS, REQUEST_WINDOW_SECONDS};
use crate::domain::version::ItemVersion;
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;

/// What one store holds.
#[derive(Debug, Clone, Default)]
struct Content {
    items: BTreeMap<PackedKey, (Document, ItemVersion)>,
    requests: BTreeMap<(PrincipalId, RequestId), Remembered>,
    receipts: BTreeMap<ReceiptId, (Outcome, Timestamp)>,
    state: StoreState,
}

impl Content {
    fn scan(&self, interval: &KeyInterval, descending: bool, items_max: usize, bytes_max: usize) -> Chunk {
        let mut chunk = Chunk { applied_index: self.state.applied_index, ..Chunk::default() };
        let is_in = |key: &PackedKey| *key >= interval.start && interval.end.as_ref().is_none_or(|end| key < end);
        let mut found: Vec<_> = self.items.iter().filter(|(key, _)| is_in(key)).collect();
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
    fn create(&self, name: ReplicaName) -> Result<Arc<dyn RangeStore>, StoreError> {
        let mut stores = self.stores.lock();
        if stores.contains_key(&name.replica) {
            return Err(StoreError::Failed(format!("there is a store of replica {} already", name.replica)));
        }
        let store = Arc::new(MemoryStore::default());
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
        let mut changes = BatchChanges::default();
        for item in &batch.items {
            let before = now.items.remove(&item.key);
            count(&mut changes, before.as_ref(), item.document.as_ref(), item.version);
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
