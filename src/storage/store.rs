//! The contract of one range's store, and of the place that keeps stores. There are two
//! implementations: encrypted SQLite files ([`super::sqlite`]) and plain memory
//! ([`super::memory`]), for tests and simulations. [`super::contract`] runs one suite on both.
//!
//! A store is written by one caller at a time (the flusher) and read by many. All calls block:
//! callers keep them off async workers.
//!
//! A store is made with the local indexes of its table and remembers them: whoever writes items later, on whatever way
//! they came, keeps the indexes by that, in the same transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, RangeId, ReceiptId, ReplicaId, RequestId, TableId, TenantId};
use crate::domain::key::PackedKey;
use crate::domain::local_index::LocalIndex;
use crate::domain::version::ItemVersion;
use crate::replication::machine_state::MachineState;
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;

pub use crate::storage::vfs::Scrubbed;

/// Why a store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was read is not what was written: a flipped bit, a swapped page, a cut file.
    #[error("{0}")]
    Damaged(String),
    /// The key of the file could not be had, or is not the right one.
    #[error("{0}")]
    Key(String),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// A sync failed: what was written since the last one that did not may be gone, whatever a reader sees. It is not
    /// tried again; see [`RangeStore::discard_unsynced`].
    #[error("a sync failed: {0}")]
    SyncFailed(String),
    /// Anything else that SQLite or the file system said.
    #[error("{0}")]
    Failed(String),
}

/// Which replica a store is of; the ids name its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplicaName {
    /// The tenant, at this control plane.
    pub tenant: TenantId,
    /// The table.
    pub table: TableId,
    /// The range.
    pub range: RangeId,
    /// This copy of it.
    pub replica: ReplicaId,
}

impl ReplicaName {
    /// The name that the replica's file number so and so goes by. The first is called after the replica; a later one
    /// by an id of its own, made from the two, that is never used again either.
    pub fn file(self, number: u64) -> ReplicaName {
        let number = ReplicaId::from_bytes((self.replica.0.as_u128() ^ u128::from(number)).to_be_bytes());
        ReplicaName { replica: number, ..self }
    }
}

/// An item to be written.
#[derive(Debug, Clone)]
pub struct ItemWrite {
    /// The item's key.
    pub key: PackedKey,
    /// The item's new version.
    pub version: ItemVersion,
    /// The item; none: it goes.
    pub document: Option<Document>,
}

/// Everything that one flush brings: written in one transaction, so that `applied_index` tells the
/// truth about all of it.
#[derive(Debug, Default)]
pub struct Batch {
    /// Items in the order of their keys, each key once.
    pub items: Vec<ItemWrite>,
    /// Request ids to remember.
    pub requests: Vec<(PrincipalId, RequestId, Remembered)>,
    /// Receipts to keep, with the leader's time in their entries.
    pub receipts: Vec<(ReceiptId, Outcome, Timestamp)>,
    /// The index of the last entry that is in this batch or before it.
    pub applied_index: u64,
    /// How many items the range has after it.
    pub item_count: u64,
    /// The leader's time in the last entry: what is older than its window is forgotten.
    pub now: Timestamp,
    /// Where the replica stands in its group's log after it; none where it is no member of a group, and what was
    /// written before stays.
    pub machine: Option<MachineState>,
}

/// What a flush changed, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchChanges {
    /// Cells inserted or changed, the items' own rows included.
    pub cells_written: u64,
    /// Cells removed.
    pub cells_removed: u64,
    /// [`StoreState::stored_bytes`] afterwards.
    pub stored_bytes: u64,
}

/// How many bytes an item takes, as its size is defined for limits.
pub fn item_bytes(key: &PackedKey, document: &Document) -> usize {
    key.len() + document.item_size()
}

/// What a store knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreState {
    /// The last entry applied.
    pub applied_index: u64,
    /// Items in the range.
    pub item_count: u64,
    /// Bytes of the items in the file, keys included, as their size is defined for limits.
    pub stored_bytes: u64,
    /// The leader's time in the last entry.
    pub time: Timestamp,
    /// Where the replica stands in its group's log; none where nothing of a group was ever written.
    pub machine: Option<MachineState>,
}

/// A remembered request with what it is remembered under.
pub type RememberedRequest = (PrincipalId, RequestId, Remembered);
/// A kept receipt: its id, how the write ended, and the leader's time in its entry.
pub type KeptReceipt = (ReceiptId, Outcome, Timestamp);

/// A store as it was at one moment, however long it is read and whatever is written meanwhile. All calls block. It costs
/// the store room in its write-ahead log, and ends with an error where the store is removed or its content is
/// no longer believed.
pub trait StoreSnapshot: Send {
    /// What the store knew of itself at that moment.
    fn state(&self) -> &StoreState;
    /// Items of an interval in order: at most `items_max`, and about `bytes_max` bytes of them, but at least one.
    fn items(&mut self, interval: &KeyInterval, items_max: usize, bytes_max: usize) -> Result<Chunk, StoreError>;
    /// Remembered requests in the order of principal and id, from behind `after` on, at most `max`.
    fn requests(
        &mut self,
        after: Option<(PrincipalId, RequestId)>,
        max: usize,
    ) -> Result<Vec<RememberedRequest>, StoreError>;
    /// Kept receipts in the order of their ids, from behind `after` on, at most `max`.
    fn receipts(&mut self, after: Option<ReceiptId>, max: usize) -> Result<Vec<KeptReceipt>, StoreError>;
}

/// A piece of a scan.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The items in the order asked for.
    pub items: Vec<(PackedKey, Document, ItemVersion)>,
    /// Whether the interval is exhausted.
    pub complete: bool,
    /// The applied index of the transaction that read them: newer entries are in memory only.
    pub applied_index: u64,
}

/// An item as an index leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedItem {
    /// The entry that stands for it in the index.
    pub entry: PackedKey,
    /// The item's key.
    pub key: PackedKey,
    /// The item.
    pub document: Document,
    /// The item's version.
    pub version: ItemVersion,
}

/// A piece of a scan of an index.
#[derive(Debug, Default)]
pub struct IndexChunk {
    /// The items in the order asked for.
    pub items: Vec<IndexedItem>,
    /// Whether the interval is exhausted.
    pub complete: bool,
    /// The applied index of the transaction that read them: newer entries are in memory only.
    pub applied_index: u64,
}

/// How much of something a store has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredSize {
    /// How many items.
    pub items: u64,
    /// Their bytes, keys included, as their size is defined for limits.
    pub bytes: u64,
}

/// The error where a store is asked for an index that its table has not.
pub(crate) fn no_index(position: u8) -> StoreError {
    StoreError::Failed(format!("there is no local index {position}"))
}

/// The error where an index leads to an item that is not there.
pub(crate) fn no_indexed_item() -> StoreError {
    StoreError::Damaged("an entry of a local index stands for no item".to_owned())
}

/// An interval of packed keys, from `start` (inclusive) to `end` (exclusive; none: open).
#[derive(Debug, Clone)]
pub struct KeyInterval {
    /// The first key that belongs to it.
    pub start: PackedKey,
    /// The first key that no longer does.
    pub end: Option<PackedKey>,
}

/// The stored state of one range.
pub trait RangeStore: Send + Sync + 'static {
    /// What the store knows of itself.
    fn state(&self) -> Result<StoreState, StoreError>;
    /// One item.
    fn get(&self, key: &PackedKey) -> Result<Option<(Document, ItemVersion)>, StoreError>;
    /// One item's version.
    fn version(&self, key: &PackedKey) -> Result<Option<ItemVersion>, StoreError>;
    /// Items of an interval: at most `items_max`, and about `bytes_max` bytes of them, but at least one.
    fn scan(
        &self,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Chunk, StoreError>;
    /// Items in the order of an index, which goes by its position. `interval` is one of entries; the rest as for
    /// [`RangeStore::scan`].
    fn scan_index(
        &self,
        position: u8,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<IndexChunk, StoreError>;
    /// Entries of an index and the bytes of what it shows, as of the last flush.
    fn index_size(&self, position: u8) -> Result<StoredSize, StoreError>;
    /// Items of an interval of packed keys and their bytes, as of the last flush. Costs a walk over all of them.
    fn interval_size(&self, interval: &KeyInterval) -> Result<StoredSize, StoreError>;
    /// A remembered request.
    fn request(&self, principal: PrincipalId, id: RequestId) -> Result<Option<Remembered>, StoreError>;
    /// A kept receipt.
    fn receipt(&self, id: ReceiptId) -> Result<Option<Outcome>, StoreError>;
    /// The store as it is now, to be read at leisure.
    fn snapshot(&self) -> Result<Box<dyn StoreSnapshot>, StoreError>;
    /// Writes a batch in one transaction.
    fn write(&self, batch: &Batch) -> Result<BatchChanges, StoreError>;
    /// Forces what has been written to the disk and returns the applied index that is then safe.
    fn make_durable(&self) -> Result<u64, StoreError>;
    /// Brings the write-ahead log back into the file, as far as readers allow. Only after
    /// [`RangeStore::make_durable`] and after its index has been recorded elsewhere.
    fn checkpoint(&self) -> Result<(), StoreError>;
    /// Bytes in the write-ahead log that a checkpoint would bring back.
    fn checkpoint_backlog_bytes(&self) -> u64;
    /// Says that the store is known to hold everything up to this index. One that is found to hold less, whenever it is
    /// opened, is damaged as a whole.
    fn expect_at_least(&self, index: u64);
    /// What was found cut off when the store was opened, since the last call: harmless where the commit log has the rest.
    fn take_cut(&self) -> Option<String>;
    /// After [`StoreError::SyncFailed`]: closes files and forgets what was written since the last
    /// checkpoint, so that nothing is believed that only the kernel remembers. Nothing to do otherwise.
    fn discard_unsynced(&self) -> Result<(), StoreError>;
    /// Closes files; the next call opens them again.
    fn release(&self);
    /// Reads every page and checks it, and SQLite's own `integrity_check`.
    fn verify(&self) -> Result<(), StoreError>;
    /// Reads up to `pages_max` pages of the store's file as they stand on the disk, from page `first` on, which counts from
    /// 1, while the store is in use. A store without a file has no pages.
    fn scrub(&self, _first: u64, _pages_max: u64) -> Result<Scrubbed, StoreError> {
        Ok(Scrubbed::default())
    }
    /// How large the store's file is.
    fn file_bytes(&self) -> u64 {
        0
    }
    /// Of pages that did not open, those that are damaged beyond doubt; none where that cannot be told now. Brings the
    /// write-ahead log back, as [`RangeStore::checkpoint`] does, and only where that may be called.
    fn damaged_pages(&self, _suspects: &[u64]) -> Result<Option<Vec<u64>>, StoreError> {
        Ok(Some(Vec::new()))
    }
}

/// The two steps of wrapping the keys of files anew: between them old and new key both open each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewrapStep {
    /// Wrap each file's key under its owner's newest key, too.
    AddNew,
    /// Forget what is wrapped under any other key.
    DropOld,
}

/// The place that keeps stores.
pub trait StoreKeeper: Send + Sync + 'static {
    /// A new, empty store, which keeps these indexes from now on. An error where there is one of this name.
    fn create(&self, name: ReplicaName, indexes: &[LocalIndex]) -> Result<Arc<dyn RangeStore>, StoreError>;
    /// The store of this name; opened when first used.
    fn open(&self, name: ReplicaName) -> Result<Arc<dyn RangeStore>, StoreError>;
    /// Removes a store for good.
    fn remove(&self, name: ReplicaName) -> Result<(), StoreError>;
    /// Sets a damaged store aside, for people to look at; the name is free afterwards.
    fn set_aside(&self, name: ReplicaName) -> Result<String, StoreError>;
    /// One step of wrapping the keys of all of a tenant's files anew, under the tenant's newest key, those set aside
    /// included; synced. Stores may be in use meanwhile. May be repeated. How many files there are.
    fn rewrap(&self, tenant: TenantId, step: RewrapStep) -> Result<usize, StoreError>;
    /// Versions of the tenant's key that the key of some file is wrapped under.
    fn key_versions(&self, tenant: TenantId) -> Result<BTreeSet<u32>, StoreError>;
}
