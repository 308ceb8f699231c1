//! What a replica is besides its items where it is a member of its range's group: its log, where the group's state
//! stands, and which file it is in.
//!
//! Of ten thousand replicas most sleep, and a start of the node touches none of their files. So the log is put together,
//! from what the commit log showed and what the file says, when it is first asked for ([`Replica::group_log`]);
//! until then it is known only whether there is anything to do at all ([`Replica::needs_wake`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard, RwLock};
use sha2::{Digest, Sha256};

use crate::domain::hash::HashRange;
use crate::domain::ids::{ReceiptId, ReplicaId};
use crate::domain::key::PackedKey;
use crate::domain::limits::RECEIPT_SECONDS;
use crate::domain::{Refusal, Timestamp};
use crate::replication::command;
use crate::replication::entry;
use crate::replication::machine_state::{LogPlace, MachineState};
use crate::replication::membership::Membership;
use crate::replication::requests::expired;
use crate::replication::split::SplitDone;
use crate::services::group::convert::{membership_of, place_of};
use crate::services::group::kept_log::{KeptLog, ReplayedGroup};
use crate::services::group::rebuild::{first_vote, rebuild};
use crate::services::group::snapshot::FileClaim;
use crate::services::group::types::{Applied, Entry, Proposed};
use crate::storage::store::{KeyInterval, RangeStore, StoreError, StoreSnapshot};

use super::digests::Pins;
use super::replica::Replica;

/// Rows read at once for a digest.
const ROWS: usize = 500;
/// Bytes of items read at once for a digest, about.
const BYTES: usize = 1 << 20;

/// See the module's essay.
#[derive(Default)]
pub struct GroupSide {
    is_grouped: AtomicBool,
    file: AtomicU64,
    log: Mutex<LogSide>,
    in_file: Mutex<Option<MachineState>>,
    /// Held by whoever moves the group's state on.
    moving: Mutex<()>,
    /// Who may write the file that is to be the next one.
    claims: Arc<Mutex<u64>>,
    /// The split that it has carried out.
    split: RwLock<Option<Arc<SplitDone>>>,
    /// The state that is to be compared with other copies'.
    pub(super) pins: Pins,
}

#[derive(Default)]
enum LogSide {
    #[default]
    None,
    /// Nobody has asked for it since the node started.
    Replayed(ReplayedGroup),
    Known(Arc<KeptLog>),
}

/// A digest of a part of a range's state at one place of its log. Equal on every replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDigest {
    /// The last entry in it.
    pub place: LogPlace,
    /// Items in it.
    pub items: u64,
    /// SHA-256 over items and versions; where all hashes are asked for also over membership, the number of items, and
    /// requests and receipts that have not expired.
    pub sum: [u8; 32],
}

impl GroupSide {
    /// Whoever waits for the log is told that the replica is closed.
    pub(super) fn close(&self) {
        self.pins.drop_all();
        if let LogSide::Known(log) = &*self.log.lock() {
            log.fail("the replica was closed: another object stands for it");
        }
    }

    /// This state is in the file.
    pub(super) fn note_in_file(&self, machine: &MachineState) {
        *self.in_file.lock() = Some(machine.clone());
    }
}

impl Replica {
    /// Whether it is a member of its range's group.
    pub fn is_grouped(&self) -> bool {
        self.side.is_grouped.load(Ordering::Acquire)
    }

    /// The number of the file it is in, where it is a member of a group.
    pub fn group_file(&self) -> Option<u64> {
        self.is_grouped().then(|| self.side.file.load(Ordering::Acquire))
    }

    /// The split of its range, where this replica has carried one out.
    pub fn split(&self) -> Option<Arc<SplitDone>> {
        self.side.split.read().clone()
    }

    /// It has carried this split out.
    pub(super) fn set_split(&self, split: Arc<SplitDone>) {
        *self.side.split.write() = Some(split);
        self.applied_changed.notify_waiters();
    }

    /// Lets pass who asks for this hash, unless the range was split.
    ///
    /// # Errors
    /// Then: `WrongNode` with the child that has it.
    pub fn check_split(&self, hash: u32) -> Result<(), Refusal> {
        match &*self.side.split.read() {
            Some(split) => Err(Refusal::moved(split.moved_to(hash, self.hashes))),
            None => Ok(()),
        }
    }

    /// Who leads its group in this term, as far as it has promised to follow.
    pub(super) fn leader_of(&self, term: u64) -> Option<ReplicaId> {
        match &*self.side.log.lock() {
            LogSide::Known(log) => log.leader_of(term),
            LogSide::None | LogSide::Replayed(_) => None,
        }
    }

    /// The right to write the file that is to be the next one; whoever had it has it no more.
    pub(super) fn claim(&self) -> FileClaim {
        FileClaim::take(&self.side.claims)
    }

    /// It is a member of a group, as the commit log shows it.
    pub(super) fn set_replayed(&self, file: u64, mut found: ReplayedGroup) {
        found.trim(self.durable_index());
        *self.side.log.lock() = LogSide::Replayed(found);
        self.side.file.store(file, Ordering::Release);
        self.side.is_grouped.store(true, Ordering::Release);
    }

    /// It is a member of a group from here on, with this log, and in its file stands `machine`.
    pub(super) fn become_member(&self, log: Arc<KeptLog>, machine: Option<MachineState>) {
        *self.side.in_file.lock() = machine.clone();
        self.memory.write().machine = machine;
        *self.side.log.lock() = LogSide::Known(log);
        self.side.is_grouped.store(true, Ordering::Release);
    }

    /// Its log. Blocks on the file when it is first asked for.
    ///
    /// # Errors
    /// Where the file cannot be read, or does not fit to the log: the replica is to be taken out of service. `Failed` where
    /// it is no member of a group.
    pub fn group_log(&self) -> Result<Arc<KeptLog>, StoreError> {
        let mut side = self.side.log.lock();
        if let LogSide::Known(log) = &*side {
            return Ok(Arc::clone(log));
        }
        let state = self.store().state()?;
        if state.machine.as_ref().map_or(0, |machine| machine.applied.index) != state.applied_index {
            return Err(StoreError::Damaged(
                "the file's items and its group's state do not belong together".to_owned(),
            ));
        }
        let found = match std::mem::take(&mut *side) {
            LogSide::Replayed(found) => found,
            LogSide::None | LogSide::Known(_) => {
                return Err(StoreError::Failed(format!("range {} has no group here", self.name.range)));
            }
        };
        let rebuilt = rebuild(found, state.machine.as_ref().map(|machine| machine.applied));
        let mut rebuilt = rebuilt.map_err(StoreError::Damaged)?;
        rebuilt.vote = rebuilt.vote.or_else(|| first_vote(state.machine.as_ref()?, None));
        let log = KeptLog::new(self.name.range, self.name.tenant, rebuilt);
        *self.side.in_file.lock() = state.machine.clone();
        self.memory.write().machine = state.machine;
        self.committed.fetch_max(state.applied_index, Ordering::AcqRel);
        self.note_applied(state.applied_index);
        // At last: whoever finds the log known takes the rest for known, too.
        *side = LogSide::Known(Arc::clone(&log));
        Ok(log)
    }

    /// The last membership that this replica knows of, from its log or from its file: a member of a group counts by what
    /// stands in its log, whether that is applied or not. Blocks as [`Replica::group_log`] does.
    ///
    /// # Errors
    /// As [`Replica::group_log`].
    pub fn last_membership(&self) -> Result<Option<(LogPlace, Membership)>, StoreError> {
        let in_log = self.group_log()?.last_membership();
        let in_file = self.machine_state()?.map(|machine| (machine.membership_at, machine.membership));
        Ok(in_log.max(in_file))
    }

    /// Whether its log has entries that it has not applied: its group has work to do. Costs nothing.
    pub fn needs_wake(&self) -> bool {
        let applied = self.applied_index();
        match &*self.side.log.lock() {
            LogSide::None => false,
            LogSide::Replayed(found) => found.entries.last_key_value().is_some_and(|(index, _)| *index > applied),
            LogSide::Known(log) => log.last_index() > applied,
        }
    }

    /// Where the group's state stands: what is applied, and who the members are. Blocks as [`Replica::group_log`] does;
    /// none where nothing was ever applied.
    ///
    /// # Errors
    /// As [`Replica::group_log`].
    pub fn machine_state(&self) -> Result<Option<MachineState>, StoreError> {
        self.group_log()?;
        Ok(self.memory.read().machine.clone())
    }

    /// The same as it is in the file, with which a snapshot would begin. Only after [`Replica::group_log`].
    pub fn machine_in_file(&self) -> Option<MachineState> {
        self.side.in_file.lock().clone()
    }

    /// Up to which index the group's log may be purged: what is surely in the file, but for a tail. None where there is
    /// nothing to do.
    pub fn purge_point(&self) -> Option<u64> {
        match &*self.side.log.lock() {
            LogSide::Known(log) => log.purge_point(self.durable_index()),
            LogSide::None | LogSide::Replayed(_) => None,
        }
    }

    /// Drops from memory what a group that has gone to sleep does not need, but for so many bytes of its log that a member
    /// that was away may need. Handles to its log stop working.
    pub fn rest(&self, tail_bytes: usize) {
        if let LogSide::Known(log) = &*self.side.log.lock() {
            log.rest(self.durable_index(), tail_bytes);
        }
    }

    /// Bytes of its group's log in memory, about.
    pub fn log_bytes(&self) -> usize {
        match &*self.side.log.lock() {
            LogSide::Known(log) => log.bytes(),
            LogSide::None | LogSide::Replayed(_) => 0,
        }
    }

    /// A receipt was promised for an entry that is about to be proposed: until it is applied, it is queued.
    pub fn expect_receipt(&self, receipt: ReceiptId) {
        self.memory.write().pending_receipts.insert(receipt);
    }

    /// The entry with this receipt was not proposed after all.
    pub fn forget_receipt(&self, receipt: ReceiptId) {
        self.memory.write().pending_receipts.remove(&receipt);
    }

    /// The right to move the group's state on, which one has at a time. It is taken before [`Replica::group_applied`] is looked
    /// at, after the locks of the engine and before those of the replica.
    pub(super) fn moving(&self) -> MutexGuard<'_, ()> {
        self.side.moving.lock()
    }

    /// The index of the last entry in the group's state; none where nothing was ever applied.
    pub(super) fn group_applied(&self) -> Option<u64> {
        self.memory.read().machine.as_ref().map(|machine| machine.applied.index)
    }

    /// Applies an entry that its group has committed, at this time. Called for one at a time, in order, each once, by who has
    /// the right to move the state on.
    ///
    /// # Errors
    /// Where the present item could not be read or the entry makes no sense: nothing was changed, and nothing after this
    /// entry may be applied.
    pub(super) fn apply_in_group(&self, entry: &Entry, committed: Instant) -> Result<Applied, StoreError> {
        let place = place_of(&entry.log_id);
        let operation = match &entry.payload {
            openraft::EntryPayload::Blank => return self.advance(place, |_| ()),
            openraft::EntryPayload::Membership(members) => {
                return self.advance(place, |machine| {
                    (machine.membership_at, machine.membership) = (place, membership_of(members));
                });
            }
            openraft::EntryPayload::Normal(Proposed(bytes)) => bytes,
        };
        if command::is_digest(operation) {
            return self.pin(place, operation);
        }
        let proposed = entry::decode(operation).map_err(|error| StoreError::Failed(error.to_string()))?;
        if let Some(split) = self.split().filter(|split| split.split.refuses(split.place, place.index)) {
            self.advance(place, |_| ())?;
            return Ok(Applied::Moved(split.moved_to(proposed.operation.key.hash(), self.hashes)));
        }
        if self.memory.read().machine.is_none() {
            self.memory.write().machine = Some(MachineState::default());
        }
        self.committed.fetch_max(place.index, Ordering::AcqRel);
        let outcome = self.apply_at(place, proposed.time, &proposed.operation)?;
        Ok(Applied::Outcome(outcome, committed))
    }

    /// Passes the entry of a split, which was carried out, or else refused; not where another instance has passed it before.
    pub(super) fn pass(&self, place: LogPlace, split: Option<Arc<SplitDone>>) -> Result<(), StoreError> {
        let _alone = self.moving();
        if Some(place.index) <= self.group_applied() {
            return Ok(());
        }
        let keep = |machine: &mut MachineState| machine.split = split.or(machine.split.take());
        self.advance(place, keep).map(|_| ())
    }

    /// The state's place is this one from here on. Called by who has the right to move it on.
    pub(super) fn advance(
        &self,
        place: LogPlace,
        change: impl FnOnce(&mut MachineState),
    ) -> Result<Applied, StoreError> {
        let count = self.item_count()?;
        let mut memory = self.memory.write();
        let machine = memory.machine.get_or_insert_default();
        machine.applied = place;
        change(machine);
        memory.active.note_applied(place.index, Timestamp(0), count);
        memory.close_layer();
        drop(memory);
        self.committed.fetch_max(place.index, Ordering::AcqRel);
        self.note_applied(place.index);
        Ok(Applied::Nothing)
    }

    /// Another file stands for the replica from here on: everything in memory is void. Returns the file before. Called by who has
    /// the right to move the group's state on.
    pub(super) fn adopt(
        &self,
        store: Arc<dyn RangeStore>,
        file: u64,
        cache_key: u64,
        machine: &MachineState,
    ) -> Arc<dyn RangeStore> {
        let _nothing_is_flushed = self.flushing.lock();
        let mut memory = self.memory.write();
        let before = std::mem::replace(&mut *self.store.write(), store);
        self.cache_key.store(cache_key, Ordering::Relaxed);
        self.side.file.store(file, Ordering::Release);
        self.side.note_in_file(machine);
        self.side.pins.miss();
        memory.replace(Some(machine.clone()));
        drop(memory);
        self.durable.fetch_max(machine.applied.index, Ordering::AcqRel);
        self.committed.fetch_max(machine.applied.index, Ordering::AcqRel);
        self.note_applied(machine.applied.index);
        before
    }

    /// A digest of the items with these hashes, as they are in the file once all that is applied now has been flushed to
    /// it. Replicas of a group agree where [`StateDigest::place`] does. Blocks on disk.
    ///
    /// # Errors
    /// Where the file cannot be written or read.
    pub fn digest(&self, hashes: &HashRange) -> Result<StateDigest, StoreError> {
        self.flush()?;
        digest_of(&mut *self.store().snapshot()?, hashes)
    }
}

fn digest_of(snapshot: &mut dyn StoreSnapshot, hashes: &HashRange) -> Result<StateDigest, StoreError> {
    let (start, end) = PackedKey::hash_interval(hashes);
    let (mut sum, mut items) = (Sha256::new(), 0);
    let mut rest = KeyInterval { start, end };
    loop {
        let chunk = snapshot.items(&rest, ROWS, BYTES)?;
        for (key, document, version) in &chunk.items {
            put(&mut sum, key.as_bytes());
            put(&mut sum, &version.0.to_be_bytes());
            put(&mut sum, document.as_bytes());
            items += 1;
        }
        match chunk.items.last() {
            Some((key, ..)) if !chunk.complete => rest.start = key.successor(),
            _ => break,
        }
    }
    if *hashes == HashRange::FULL {
        digest_rest(&mut sum, snapshot)?;
    }
    let state = snapshot.state();
    let place = LogPlace { term: 0, index: state.applied_index };
    let place = state.machine.as_ref().map_or(place, |machine| machine.applied);
    Ok(StateDigest { place, items, sum: sum.finalize().into() })
}

/// What belongs to no item. When the expired is deleted depends on when a replica flushes, so it does not count.
pub(super) fn digest_rest(sum: &mut Sha256, snapshot: &mut dyn StoreSnapshot) -> Result<(), StoreError> {
    let state = snapshot.state().clone();
    put(sum, &state.item_count.to_be_bytes());
    put(sum, &state.machine.map_or_else(bytes::Bytes::new, |machine| machine.encode()));
    let mut after = None;
    loop {
        let requests = snapshot.requests(after, ROWS)?;
        for (principal, id, known) in requests.iter().filter(|(.., known)| !expired(known.at, state.time)) {
            put(sum, principal.as_bytes());
            put(sum, id.as_bytes());
            put(sum, &known.digest);
            put(sum, &known.outcome.encode());
            put(sum, &[known.index.to_be_bytes(), known.at.0.to_be_bytes()].concat());
        }
        match requests.last() {
            Some((principal, id, _)) if requests.len() == ROWS => after = Some((*principal, *id)),
            _ => break,
        }
    }
    let mut after = None;
    loop {
        let receipts = snapshot.receipts(after, ROWS)?;
        let is_kept = |at: Timestamp| state.time.seconds_since(at) <= RECEIPT_SECONDS;
        for (id, outcome, at) in receipts.iter().filter(|(.., at)| is_kept(*at)) {
            put(sum, id.as_bytes());
            put(sum, &outcome.encode());
            put(sum, &at.0.to_be_bytes());
        }
        match receipts.last() {
            Some((id, ..)) if receipts.len() == ROWS => after = Some(*id),
            _ => return Ok(()),
        }
    }
}

pub(super) fn put(sum: &mut Sha256, bytes: &[u8]) {
    sum.update((bytes.len() as u64).to_be_bytes());
    sum.update(bytes);
}
