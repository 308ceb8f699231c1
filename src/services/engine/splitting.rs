//! A range is split: each of its replicas makes a copy of both children, durable before the replica's applied place passes
//! the split ([`crate::replication::split`]).
//!
//! # How the data gets there
//! The replica's memory is flushed, so that its file holds all that was applied, and nothing is applied meanwhile: the
//! group's machine waits. Then the file is read once, in a snapshot, in the order of hashes, and written as two new
//! files, a megabyte or so a transaction. Receipts go by their hash, and the window of proxies' ids by the hashes that it
//! remembers. Clients' request ids go to both: they carry no hash, a repeat has the same key and so finds the child that
//! has it, and the same id with another request is refused in both, as it was before. They are forgotten after ten minutes.
//!
//! It costs the time that it takes to copy the range, in which it takes no write. What was weighed instead
//! stands in `docs/decisions/split.md`.
//!
//! # In which order
//! 1. Both files are written and synced, one range at a time on a node. A crash before the next step leaves files that no record names; they are
//!    made anew when the entry is applied again.
//! 2. One transaction in the node's database: the children's records, and that this replica has been split. From
//!    here on they are never made again, though the entry be applied again after a crash: the children may have voted,
//!    and may have gone again.
//! 3. The replica's applied place passes the split. It answers everything with the children.
//!
//! A replica that lags is sent a snapshot in place of the entry. The parent's state in it names the split, its items are
//! those at the split, for nothing is applied behind it; so the same children are made from the received file before it
//! becomes the replica's.
//!
//! # The children's first term
//! They begin in the term of the split's entry, with a vote for the child's copy that stands where the leader of that
//! term is, which elects itself in the next one. Nothing depends on that vote but who asks first: it
//! is not written down, and what is made of it after a start (`services::group::rebuild`) only has to be of that term.
//!
//! # A range with one copy
//! It is a group of one for its split alone: where it has one member, and no proxy's id is remembered that a repeat could be known
//! by, its children are alone, as ranges with one copy are (`docs/decisions/group-of-one.md`).
//!
//! # Twice
//! An instance of the group that has ended may still carry out the split when the next one comes to it. They do it one after
//! the other, and the second finds that it is done; or that it was refused, by what the members were then, and may not
//! be judged again by what they are now.
//!
//! What the next author must keep: a child is registered in the same transaction in which the split is, or not at all.

use std::sync::Arc;

use parking_lot::MutexGuard;

use crate::domain::hash::HashRange;
use crate::domain::ids::{RangeId, ReceiptId, ReplicaId};
use crate::domain::key::PackedKey;
use crate::domain::local_index::LocalIndex;
use crate::domain::mutation::{Mutation, is_on};
use crate::replication::machine_state::{LogPlace, MachineState};
use crate::replication::request_id::Window;
use crate::replication::split::{ChildStart, Split, SplitDone, check};
use crate::services::group::kept_log::KeptLog;
use crate::services::group::rebuild::{Rebuilt, first_vote};
use crate::services::group::types::Applied;
use crate::storage::node_database::{ReplicaRecord, ReplicaState};
use crate::storage::store::{Batch, ItemWrite, KeyInterval, RangeStore, ReplicaName, StoreError, StoreSnapshot};

use super::lifetimes::record_of;
use super::opening::Engine;
use super::replica::{Replica, StartingPoint};

/// Rows read at once.
const ROWS: usize = 1000;
/// Bytes of items in one transaction, about.
const BYTES: usize = 1 << 20;
/// Transactions after which what was written is synced and brought back into the file.
const WRITES_BETWEEN_SYNCS: u32 = 32;

/// Where a range comes from that is a child of one which this node has a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The range that was split.
    pub parent: RangeId,
    /// Its hashes.
    pub hashes: HashRange,
    /// The split.
    pub split: Arc<SplitDone>,
    /// Both children as the parent's copy here started them; none where that was no member.
    pub children: Option<[ChildStart; 2]>,
}

/// A child whose file is written and synced, and which no record names yet.
struct Written {
    record: ReplicaRecord,
    store: Arc<dyn RangeStore>,
    machine: MachineState,
}

impl Engine {
    /// Carries out a split that a group has committed at `place`, or tells why not; see the module's essay. Called when
    /// all before it is applied. Blocks for as long as the range takes to copy. `Nothing` where another instance was told why
    /// not: that is not known any more.
    ///
    /// # Errors
    /// Where a file or the node's database cannot be read or written: nothing has changed, and it is to be tried again.
    pub(crate) fn split_replica(
        &self,
        replica: &Arc<Replica>,
        place: LogPlace,
        split: &Split,
    ) -> Result<Applied, StoreError> {
        // A group that ended while its replica was being divided may have been woken again.
        let _one_at_a_time = self.dividing.lock();
        let machine = replica.machine_state()?.unwrap_or_default();
        let before = replica.split();
        let is_same = before.as_ref().is_some_and(|before| before.place == place);
        if !is_same {
            if Some(place.index) <= replica.group_applied() {
                return Ok(Applied::Nothing);
            }
            let checked = check(
                split,
                replica.name.range,
                replica.hashes,
                &machine.membership,
                before.as_deref().map(|done| &done.split),
            );
            if let Err(refused) = checked {
                replica.pass(place, None)?;
                return Ok(Applied::Split(Err(refused)));
            }
        }
        let done = match before.filter(|_| is_same) {
            Some(done) => done,
            None => {
                let done = Arc::new(SplitDone { place, membership: machine.membership.clone(), split: split.clone() });
                replica.flush()?;
                let written = self.write_children(replica, &*replica.file(), &machine, &done)?;
                let _alone = self.changing_files.lock();
                check_open(replica)?;
                self.register_children(replica, &record_of(replica), &done, written)?;
                done
            }
        };
        replica.pass(place, Some(done))?;
        self.flusher().note_dirty(replica);
        tracing::info!(range = %replica.name.range, at = split.at, lower = %split.lower, upper = %split.upper, "a range was split");
        Ok(Applied::Split(Ok(())))
    }

    /// Writes what a replica, whose file is `source`, gives to its copies of the children: two files, synced. None where it
    /// has none. A copy that this node has already, or has in another one's place, is left out.
    fn write_children(
        &self,
        parent: &Replica,
        source: &dyn RangeStore,
        machine: &MachineState,
        split: &SplitDone,
    ) -> Result<Vec<Written>, StoreError> {
        let Some(starts) = split.children(parent.name.replica, parent.hashes) else { return Ok(Vec::new()) };
        let windows = machine.requests.split(split.split.at);
        let is_alone = split.membership.members.len() == 1 && machine.requests.is_empty();
        let mut snapshot = source.snapshot()?;
        let mut written = Vec::new();
        for (start, window) in starts.into_iter().zip(windows) {
            let name = ReplicaName { range: start.range, replica: start.replica, ..parent.name };
            if self.knows_range(start.range) {
                tracing::warn!(range = %start.range, replica = %start.replica, "this node has a copy of the child in its place");
                continue;
            }
            let store = self.empty_file(name, &parent.table().specification.local_indexes)?;
            let window = if is_on(Mutation::ForgetRequestsInSplit) { Window::default() } else { window };
            let machine = MachineState { requests: Arc::new(window), ..start.machine };
            let quantity = copy(parent, &mut *snapshot, &*store, &start.hashes, &machine)?;
            let record = ReplicaRecord {
                name,
                hashes: start.hashes,
                table: (*parent.table()).clone(),
                epoch: parent.epoch,
                durable_index: machine.applied.index,
                quantity,
                state: ReplicaState::Serving,
                group_file: (!is_alone).then_some(0),
            };
            written.push(Written { record, store, machine });
        }
        Ok(written)
    }

    /// The children of a split that a received snapshot names and this replica has not carried out; what
    /// [`Engine::adopt_children`] is given when the snapshot becomes the replica's state, while the guard is held.
    pub(super) fn children_in_snapshot(
        &self,
        replica: &Replica,
        store: &dyn RangeStore,
        machine: &MachineState,
    ) -> Result<(Option<MutexGuard<'_, ()>>, Option<SnapshotSplit>), StoreError> {
        let Some(split) = machine.split.clone() else { return Ok((None, None)) };
        let one_at_a_time = self.dividing.lock();
        if replica.split().is_some() {
            return Ok((None, None));
        }
        let written = self.write_children(replica, store, machine, &split)?;
        Ok((Some(one_at_a_time), Some(SnapshotSplit { split, written })))
    }

    /// Registers them together with the replica's record. The caller changes files alone.
    pub(super) fn adopt_children(
        &self,
        replica: &Replica,
        record: &ReplicaRecord,
        found: SnapshotSplit,
    ) -> Result<(), StoreError> {
        self.register_children(replica, record, &found.split, found.written)
    }

    fn register_children(
        &self,
        parent: &Replica,
        record: &ReplicaRecord,
        split: &Arc<SplitDone>,
        written: Vec<Written>,
    ) -> Result<(), StoreError> {
        let records: Vec<ReplicaRecord> = written.iter().map(|child| child.record.clone()).collect();
        self.parts.database.put_split(record, split, &records)?;
        let leader = parent.leader_of(split.place.term);
        for Written { record, store, machine } in written {
            let index = machine.applied.index;
            let (range, tenant) = (record.name.range, record.name.tenant);
            store.expect_at_least(index);
            let at = StartingPoint { last_index: index, applied_index: index, durable_index: index };
            let replica = self.make_replica(&record, store, at);
            if record.group_file.is_some() {
                let vote = first_vote(&machine, leader.and_then(|leader| child_copy(split, leader, range)));
                let found = Rebuilt { vote, purged: Some(machine.applied), ..Rebuilt::default() };
                replica.become_member(KeptLog::new(range, tenant, found), Some(machine));
            }
            self.log().set_durable(range, index);
            self.replicas.write().entry(range).or_insert(replica);
        }
        self.note_split(parent, Arc::clone(split));
        self.note_change();
        Ok(())
    }

    fn note_split(&self, parent: &Replica, split: Arc<SplitDone>) {
        let children = [split.split.lower, split.split.upper];
        self.parents.write().extend(children.map(|child| (child, parent.name.range)));
        parent.set_split(split);
    }

    /// An empty file for a child, in place of what an attempt that did not end has left.
    fn empty_file(&self, name: ReplicaName, indexes: &[LocalIndex]) -> Result<Arc<dyn RangeStore>, StoreError> {
        let _a_file_is_made = self.making_files.read();
        self.parts.keeper.remove(name)?;
        self.parts.keeper.create(name, indexes)
    }

    fn knows_range(&self, range: RangeId) -> bool {
        self.replicas.read().contains_key(&range) || self.retired.read().contains_key(&range)
    }

    /// Whether this range is a child of one which this node has a copy of.
    pub fn is_child(&self, range: RangeId) -> bool {
        self.parents.read().contains_key(&range)
    }

    /// Where this range comes from, where it is a child of one which this node has a copy of.
    pub fn origin_of(&self, range: RangeId) -> Option<Origin> {
        let parent = *self.parents.read().get(&range)?;
        let replica = self.replica_of(parent)?;
        let split = replica.split().filter(|split| split.names(range))?;
        let children = split.children(replica.name.replica, replica.hashes);
        Some(Origin { parent, hashes: replica.hashes, split, children })
    }

    /// A replica of the same table that serves here, holds all of these hashes, and is another range's: where that is
    /// split, it may yet make a copy of a range with these hashes.
    pub fn may_yet_make(&self, name: ReplicaName, hashes: HashRange) -> bool {
        let replicas = self.replicas.read();
        replicas.values().any(|replica| {
            let covers = replica.hashes.low <= hashes.low && hashes.high <= replica.hashes.high;
            let is_other = replica.name.table == name.table && replica.name.range != name.range;
            is_other && covers && replica.split().is_none() && replica.damage().is_none()
        })
    }

    /// Tells each replica of the split that it has carried out, as the node's database knows it.
    pub(super) fn restore_splits(&self) -> Result<(), StoreError> {
        let splits = self.parts.database.splits()?;
        if splits.is_empty() {
            return Ok(());
        }
        let (serving, retired) = (self.replicas.read(), self.retired.read());
        let all = serving.values().chain(retired.values().map(|retired| &retired.replica));
        let by_id: std::collections::HashMap<ReplicaId, &Arc<Replica>> =
            all.map(|replica| (replica.name.replica, replica)).collect();
        for (replica, split) in splits {
            if let Some(replica) = by_id.get(&replica) {
                self.note_split(replica, Arc::new(split));
            }
        }
        Ok(())
    }
}

/// That no other object stands for the replica: then what is read of it is not to be believed.
fn check_open(replica: &Replica) -> Result<(), StoreError> {
    match replica.is_closed() {
        true => Err(StoreError::Failed("the replica was closed: another object stands for it".to_owned())),
        false => Ok(()),
    }
}

/// Children that were made from a snapshot, and the split.
pub(super) struct SnapshotSplit {
    split: Arc<SplitDone>,
    written: Vec<Written>,
}

/// The child's copy that stands where this copy of the parent does.
fn child_copy(split: &SplitDone, parent: ReplicaId, child: RangeId) -> Option<ReplicaId> {
    let copies = split.split.members.get(&parent)?;
    Some(if child == split.split.lower { copies.lower } else { copies.upper })
}

/// Writes the part of `source` with these hashes into an empty store, with `machine` as its state, and syncs it. How many
/// items there are.
fn copy(
    parent: &Replica,
    source: &mut dyn StoreSnapshot,
    store: &dyn RangeStore,
    hashes: &HashRange,
    machine: &MachineState,
) -> Result<u64, StoreError> {
    let (start, end) = PackedKey::hash_interval(hashes);
    let mut rest = KeyInterval { start, end };
    let (mut items, mut writes) = (0, 0);
    loop {
        check_open(parent)?;
        let chunk = source.items(&rest, ROWS, BYTES)?;
        let last = chunk.items.last().map(|(key, ..)| key.successor());
        items += chunk.items.len() as u64;
        let write = |(key, document, version)| ItemWrite { key, version, document: Some(document) };
        store.write(&Batch { items: chunk.items.into_iter().map(write).collect(), ..Batch::default() })?;
        writes += 1;
        if writes % WRITES_BETWEEN_SYNCS == 0 {
            store.make_durable()?;
            store.checkpoint()?;
        }
        match last {
            Some(last) if !chunk.complete => rest.start = last,
            _ => break,
        }
    }
    if !is_on(Mutation::ForgetRequestsInSplit) {
        copy_rest(source, store, hashes)?;
    }
    store.write(&Batch {
        applied_index: machine.applied.index,
        item_count: items,
        now: source.state().time,
        machine: Some(machine.clone()),
        ..Batch::default()
    })?;
    store.make_durable()?;
    store.checkpoint()?;
    Ok(items)
}

/// Request ids and receipts.
fn copy_rest(source: &mut dyn StoreSnapshot, store: &dyn RangeStore, hashes: &HashRange) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let requests = source.requests(after, ROWS)?;
        let is_all = requests.len() < ROWS;
        after = requests.last().map(|(principal, id, _)| (*principal, *id));
        store.write(&Batch { requests, ..Batch::default() })?;
        if is_all {
            break;
        }
    }
    let mut after = None;
    loop {
        let receipts = source.receipts(after, ROWS)?;
        let is_all = receipts.len() < ROWS;
        after = receipts.last().map(|(id, ..)| *id);
        let own = receipts.into_iter().filter(|(id, ..)| hashes.contains(receipt_hash(*id)));
        store.write(&Batch { receipts: own.collect(), ..Batch::default() })?;
        if is_all {
            return Ok(());
        }
    }
}

/// The hash of the item that a receipt is of: it begins with it.
pub fn receipt_hash(receipt: ReceiptId) -> u32 {
    let [a, b, c, d, ..] = *receipt.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}
