//! One replica of one range: its in-memory table, its file, and the order of its entries.
//!
//! Three parties meet here, each with its own lock and in this order, so that none waits for a disk
//! while it holds a lock that a reader wants:
//!
//! - writers take the next index and hand their entry to the commit log under `sequencer`;
//! - the apply stage evaluates committed entries, one at a time, and puts the result into memory;
//! - the flusher freezes memory, writes it to the file a layer a transaction, and drops each.
//!
//! A reader looks at the layers in memory, newest first, then in the cache, then in the file.
//! It pins memory first and opens its transaction after, and the flusher commits before it drops:
//! so an entry is always in one of the places looked at.
//!
//! What the next author must keep: an answer is sent only after `applied` has moved; a strong read
//! waits until everything committed when it began is applied; the cache is filled only under the
//! memory lock and only if no flush ended since the file was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::domain::Timestamp;
use crate::domain::hash::HashRange;
use crate::domain::ids::{ReceiptId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::local_index::LocalIndex;
use crate::domain::mutation::{Mutation, is_on};
use crate::domain::table::TableDefinition;
use crate::domain::version::ItemVersion;
use crate::replication::apply::{Effect, Needs, Present, evaluate_indexed, needs};
use crate::replication::machine_state::LogPlace;
use crate::replication::operation::{Operation, Outcome, RequestIdentity};
use crate::replication::request_id;
use crate::replication::requests::{Remembered, Verdict, judge, kept};
use crate::services::ports::{ReceiptState, StoredItem};
use crate::storage::store::{RangeStore, ReplicaName, StoreError};

use super::group_side::GroupSide;
use super::item_cache::ItemCache;
use super::memory_layers::MemoryLayers;
use super::memory_table::MemoryItem;

/// See the module's essay.
pub struct Replica {
    /// Its ids.
    pub name: ReplicaName,
    /// A number for this replica within this process, for the cache.
    pub number: u64,
    /// The hashes it holds.
    pub hashes: HashRange,
    definition: RwLock<Arc<TableDefinition>>,
    /// The indexes of its table: they are given when the table is made and stay, whatever else of the definition changes.
    pub(super) indexes: Box<[LocalIndex]>,
    /// The epoch of its configuration.
    pub epoch: u64,
    /// Its file; another one after a snapshot was taken in.
    pub(super) store: RwLock<Arc<dyn RangeStore>>,
    pub(super) cache: Arc<ItemCache>,
    /// What its items go by in the cache; another one with each file.
    pub(super) cache_key: AtomicU64,
    pub(super) sequencer: Mutex<Sequencer>,
    pub(super) memory: RwLock<MemoryLayers>,
    pub(super) flushing: Mutex<()>,
    pub(super) bytes_reported: AtomicU64,
    pub(super) committed: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) applied_changed: Notify,
    damage: RwLock<Option<String>>,
    /// Entries that were sequenced and not settled.
    pub(super) outstanding: AtomicU64,
    pub(super) is_closed: AtomicBool,
    pub(super) side: GroupSide,
}

pub(super) struct Sequencer {
    pub(super) next_index: u64,
    pub(super) state: Sequencing,
}

#[derive(PartialEq, Eq)]
pub(super) enum Sequencing {
    Open,
    /// The range is becoming a group: what was sequenced is applied, and nothing comes after.
    Pausing,
    /// Another object stands for the replica.
    Closed,
}

/// What a look without touching the file found.
#[derive(Debug, Clone, PartialEq)]
pub enum Peek {
    /// The answer: the item, or that there is none.
    Known(Option<StoredItem>),
    /// Neither memory nor cache know; the file must be asked. The number of flushes so far.
    AskStore(u64),
}

/// The state a replica starts from.
#[derive(Debug, Clone, Copy)]
pub struct StartingPoint {
    /// The last index known to exist: the next entry gets the one after.
    pub last_index: u64,
    /// The last index applied.
    pub applied_index: u64,
    /// The last index known to be in the file and synced.
    pub durable_index: u64,
}

impl Replica {
    /// A replica over its store.
    #[expect(clippy::too_many_arguments, reason = "made in one place, from what that place knows")]
    pub fn new(
        name: ReplicaName,
        number: u64,
        hashes: HashRange,
        table: Arc<TableDefinition>,
        epoch: u64,
        store: Arc<dyn RangeStore>,
        cache: Arc<ItemCache>,
        start: StartingPoint,
    ) -> Self {
        Self {
            name,
            number,
            hashes,
            indexes: table.specification.local_indexes.clone().into(),
            definition: RwLock::new(table),
            epoch,
            store: RwLock::new(store),
            cache,
            cache_key: AtomicU64::new(number),
            sequencer: Mutex::new(Sequencer { next_index: start.last_index + 1, state: Sequencing::Open }),
            memory: RwLock::default(),
            flushing: Mutex::new(()),
            bytes_reported: AtomicU64::new(0),
            committed: AtomicU64::new(start.last_index),
            applied: AtomicU64::new(start.applied_index),
            durable: AtomicU64::new(start.durable_index),
            applied_changed: Notify::new(),
            damage: RwLock::new(None),
            outstanding: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            side: GroupSide::default(),
        }
    }

    /// Takes the next index and passes it to `submit` while no one else can take one, so that the
    /// log holds this range's entries in the order of their indexes. A refused submission uses no index.
    /// `None`: the replica was closed, another object or its group stands for it now.
    pub fn sequence<E>(
        &self,
        receipt: Option<ReceiptId>,
        submit: impl FnOnce(u64) -> Result<(), E>,
    ) -> Option<Result<u64, E>> {
        let mut sequencer = self.sequencer.lock();
        if sequencer.state != Sequencing::Open {
            return None;
        }
        if let Some(receipt) = receipt {
            self.memory.write().pending_receipts.insert(receipt);
        }
        let index = sequencer.next_index;
        if let Err(error) = submit(index) {
            if let Some(receipt) = receipt {
                self.memory.write().pending_receipts.remove(&receipt);
            }
            return Some(Err(error));
        }
        sequencer.next_index = index + 1;
        self.outstanding.fetch_add(1, Ordering::AcqRel);
        Some(Ok(index))
    }

    /// Waits until everything up to this index has been applied, or the replica is damaged or closed: look which.
    pub async fn applied_through(&self, index: u64) {
        self.wait_until(|replica| replica.applied.load(Ordering::Acquire) >= index).await;
    }

    pub(super) async fn wait_until(&self, is_reached: impl Fn(&Replica) -> bool) {
        loop {
            let changed = self.applied_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_reached(self) || self.damage.read().is_some() || self.is_closed() {
                return;
            }
            changed.await;
        }
    }

    /// Notes that entries up to `index` are durable and will be applied.
    pub fn note_committed(&self, index: u64) {
        self.committed.fetch_max(index, Ordering::Release);
    }

    /// Applies a committed entry. Called for one entry at a time, in order, and once for each.
    ///
    /// # Errors
    /// Where the present item could not be read: nothing was changed and nothing after this entry
    /// may be applied.
    pub fn apply(&self, index: u64, time: Timestamp, operation: &Operation) -> Result<Outcome, StoreError> {
        self.apply_at(LogPlace { term: 1, index }, time, operation)
    }

    /// The same at a place of the group's log. The term is of interest where the range has a group.
    pub(super) fn apply_at(
        &self,
        place: LogPlace,
        time: Timestamp,
        operation: &Operation,
    ) -> Result<Outcome, StoreError> {
        let index = place.index;
        // So that what one replica has forgotten none can remember, though another leader's clock be behind.
        let time = time.max(self.leader_time()?);
        let verdict = match &operation.request {
            None => Verdict::Fresh,
            Some(_) if is_on(Mutation::ForgetRequests) => Verdict::Fresh,
            Some(RequestIdentity::Client(request)) => {
                judge(request, self.remembered(request.principal, request.request_id)?.as_ref(), time)
            }
            Some(RequestIdentity::Proxy(id)) => self.judge_proxy(*id, time),
        };
        let is_fresh = verdict == Verdict::Fresh;
        let (outcome, effect) = match verdict {
            Verdict::Repeat(outcome) => (outcome, Effect::None),
            Verdict::Fresh => evaluate_indexed(index, operation, self.present(operation)?.as_ref(), &self.indexes),
        };
        let count_before = self.item_count()?;
        let count = match &effect {
            Effect::Store(_) => count_before + u64::from(outcome.has_created()),
            Effect::Remove => count_before.saturating_sub(1),
            Effect::None => count_before,
        };
        self.take_in(place, time, operation, &outcome, effect, count);
        if is_fresh && let Some(RequestIdentity::Proxy(id)) = &operation.request {
            self.remember_proxy(*id, operation.key.hash(), &outcome);
        }
        self.note_applied(index);
        Ok(outcome)
    }

    /// What to do with a write under an id that a proxy made. Only groups remember these: a range with one copy is asked
    /// once.
    fn judge_proxy(&self, id: RequestId, time: Timestamp) -> Verdict {
        let mut memory = self.memory.write();
        let Some(machine) = &mut memory.machine else { return Verdict::Fresh };
        let window = Arc::make_mut(&mut machine.requests);
        window.advance(time);
        match window.judge(id) {
            request_id::Verdict::Fresh => Verdict::Fresh,
            request_id::Verdict::Repeat(outcome) => Verdict::Repeat(outcome.unwrap_or(Outcome::RequestIdExpired)),
            request_id::Verdict::Unknown => Verdict::Repeat(Outcome::RequestIdOutside(window.latest())),
        }
    }

    fn remember_proxy(&self, id: RequestId, hash: u32, outcome: &Outcome) {
        if let Some(machine) = &mut self.memory.write().machine {
            Arc::make_mut(&mut machine.requests).remember(id, hash, outcome.clone());
        }
    }

    pub(super) fn note_applied(&self, index: u64) {
        self.applied.store(index, Ordering::Release);
        self.applied_changed.notify_waiters();
    }

    fn take_in(
        &self,
        place: LogPlace,
        time: Timestamp,
        operation: &Operation,
        outcome: &Outcome,
        effect: Effect,
        count: u64,
    ) {
        let index = place.index;
        let mut memory = self.memory.write();
        let version = ItemVersion(index);
        match effect {
            Effect::None => {}
            Effect::Store(document) => {
                memory.active.put(operation.key.clone(), MemoryItem { version, document: Some(document) })
            }
            Effect::Remove => memory.active.put(operation.key.clone(), MemoryItem { version, document: None }),
        }
        if let Some(RequestIdentity::Client(request)) = &operation.request
            && *outcome != Outcome::RequestIdReused
        {
            let remembered = Remembered { digest: request.digest, outcome: kept(outcome), index, at: time };
            memory.active.remember(request.principal, request.request_id, remembered);
        }
        if let Some(receipt) = operation.receipt {
            memory.pending_receipts.remove(&receipt);
            // A receipt tells how the write ended, and is kept for too long to hold items.
            memory.active.keep_receipt(receipt, outcome.clone().without_images(), time);
        }
        (memory.item_count, memory.time) = (Some(count), Some(time));
        if let Some(machine) = &mut memory.machine {
            machine.applied = place;
        }
        memory.active.note_applied(index, time, count);
        memory.close_layer();
    }

    fn present(&self, operation: &Operation) -> Result<Option<Present>, StoreError> {
        if let Peek::Known(item) = self.peek(&operation.key) {
            return Ok(item.map(|item| Present { version: item.version, document: Some(item.document) }));
        }
        Ok(match needs(operation) {
            Needs::Version => self
                .read_with(|store| store.version(&operation.key))?
                .map(|version| Present { version, document: None }),
            Needs::Document => {
                let found = self.read_with(|store| store.get(&operation.key))?;
                found.map(|(document, version)| Present { version, document: Some(document) })
            }
        })
    }

    fn remembered(
        &self,
        principal: crate::domain::ids::PrincipalId,
        id: RequestId,
    ) -> Result<Option<Remembered>, StoreError> {
        let known = {
            let memory = self.memory.read();
            memory.request(principal, id).cloned()
        };
        match known {
            Some(known) => Ok(Some(known)),
            None => self.read_with(|store| store.request(principal, id)),
        }
    }

    /// How many items the range has, all applied entries counted.
    pub fn item_count(&self) -> Result<u64, StoreError> {
        if let Some(count) = self.memory.read().item_count {
            return Ok(count);
        }
        Ok(self.stored()?.items)
    }

    /// The latest leader's time in an entry that was applied.
    fn leader_time(&self) -> Result<Timestamp, StoreError> {
        if let Some(time) = self.memory.read().time {
            return Ok(time);
        }
        let time = self.read_with(|store| store.state())?.time;
        Ok(*self.memory.write().time.get_or_insert(time))
    }

    /// Looks for an item without touching the file.
    pub fn peek(&self, key: &PackedKey) -> Peek {
        let memory = self.memory.read();
        if let Some(item) = memory.get(key) {
            let stored =
                item.document.as_ref().map(|document| StoredItem { document: document.clone(), version: item.version });
            return Peek::Known(stored);
        }
        match self.cache.get(self.cache_key(), key) {
            Some((document, version)) => Peek::Known(Some(StoredItem { document, version })),
            None => Peek::AskStore(memory.flushes),
        }
    }

    /// Reads an item from the file, after [`Replica::peek`] said so, and fills the cache. Blocks.
    pub fn read_store(&self, key: &PackedKey, flushes_before: u64) -> Result<Option<StoredItem>, StoreError> {
        let found = self.read_with(|store| store.get(key))?;
        let memory = self.memory.read();
        if let Some(item) = memory.get(key) {
            return Ok(item
                .document
                .as_ref()
                .map(|document| StoredItem { document: document.clone(), version: item.version }));
        }
        if memory.flushes == flushes_before
            && let Some((document, version)) = &found
        {
            self.cache.insert(self.cache_key(), key.clone(), document.clone(), *version);
        }
        Ok(found.map(|(document, version)| StoredItem { document, version }))
    }

    /// Whether everything committed by now is applied.
    pub fn is_caught_up(&self) -> bool {
        self.applied.load(Ordering::Acquire) >= self.committed.load(Ordering::Acquire)
    }

    /// Waits until everything that is committed now has been applied, or the replica is damaged.
    pub async fn caught_up(&self) {
        self.applied_through(self.committed.load(Ordering::Acquire)).await;
    }

    /// What is known of a receipt. Blocks where memory does not know.
    pub fn receipt(&self, id: ReceiptId) -> Result<Option<ReceiptState>, StoreError> {
        {
            let memory = self.memory.read();
            if memory.pending_receipts.contains(&id) {
                return Ok(Some(ReceiptState::Queued));
            }
            if let Some(outcome) = memory.receipt(id) {
                return Ok(Some(ReceiptState::Ended(outcome.clone())));
            }
        }
        Ok(self.read_with(|store| store.receipt(id))?.map(ReceiptState::Ended))
    }

    /// The states of an interval that are in memory, in key order, at most `limit`; and whether these are all.
    pub(super) fn memory_slice(
        &self,
        start: &PackedKey,
        end: Option<&PackedKey>,
        descending: bool,
        limit: usize,
    ) -> (Vec<(PackedKey, MemoryItem)>, bool) {
        self.memory.read().slice(start, end, descending, limit)
    }

    /// The file as it is now.
    pub(super) fn store(&self) -> Arc<dyn RangeStore> {
        Arc::clone(&self.store.read())
    }

    /// Reads the file. Where it failed since another file took its place meanwhile, reads that one.
    pub(super) fn read_with<T>(
        &self,
        read: impl Fn(&dyn RangeStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut store = self.store();
        loop {
            let result = read(&*store);
            let now = self.store();
            if result.is_ok() || Arc::ptr_eq(&now, &store) {
                return result;
            }
            store = now;
        }
    }

    pub(super) fn cache_key(&self) -> u64 {
        self.cache_key.load(Ordering::Relaxed)
    }

    /// The table it belongs to; a table that was brought back may have another name, never another id.
    pub fn table(&self) -> Arc<TableDefinition> {
        Arc::clone(&self.definition.read())
    }

    /// Takes in a new definition of its table.
    pub fn set_table(&self, table: Arc<TableDefinition>) {
        *self.definition.write() = table;
    }

    /// The last applied index.
    pub fn applied_index(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// The index up to which the file is known to be synced.
    pub fn durable_index(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Notes a new durable index, after it has been recorded.
    pub fn note_durable(&self, index: u64) {
        self.durable.fetch_max(index, Ordering::AcqRel);
    }

    /// Marks the replica as damaged: it serves nothing any more, and whoever waits is told.
    pub fn mark_damaged(&self, reason: String) {
        self.damage.write().get_or_insert(reason);
        self.applied_changed.notify_waiters();
    }

    /// Why the replica serves nothing, where it is damaged.
    pub fn damage(&self) -> Option<String> {
        self.damage.read().clone()
    }
}
