//! Replicas that are members of their range's group: made, begun, woken, filled by a snapshot, and removed.
//!
//! A range with one replica needs no group. When it is to get more, it becomes a group of one: what was
//! sequenced is applied and written to the file, together with the group's first state, whose only member this replica is, at
//! the last entry there is; then the node's database says that the replica is a member, and from there on it is asked through
//! its group. A crash before that leaves a range without a group, whose file says something of one that nobody reads.
//!
//! A snapshot that was received is in a file of its own, whole and synced. One transaction in the node's database makes it
//! the replica's: it names the file. So after a crash either the old file stands or the new one, and the other one is
//! removed at the next start. Entries that the snapshot contradicts were truncated by openraft before, and those that it covers
//! are purged after; whatever of them a crash leaves in the commit log does not lead to the new file's place, and is
//! dropped (`services::group::rebuild`). Where the range was split before the snapshot was made, the replica's copies of
//! the children are made from it first, and registered in the same transaction ([`super::splitting`]).

use std::io;
use std::sync::Arc;

use openraft::storage::EntryResponder;
use tokio::sync::oneshot;

use crate::domain::Refusal;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::domain::refusal::RefusalKind;
use crate::replication::machine_state::{LogPlace, MachineState};
use crate::replication::membership::Membership;
use crate::services::group::convert::vote_bytes;
use crate::services::group::kept_log::{KeptLog, ReplayedGroup};
use crate::services::group::log::{GroupLog, write_once};
use crate::services::group::machine::GroupMachine;
use crate::services::group::rebuild::Rebuilt;
use crate::services::group::snapshot::{ReceivedSnapshot, StoreTarget};
use crate::services::group::types::{Types, Vote};
use crate::storage::log::RecordKind;
use crate::storage::node_database::{DurableMark, ReplicaRecord};
use crate::storage::store::{Batch, RangeStore, ReplicaName, StoreError};

use super::apply_stage::GroupBatch;
use super::lifetimes::record_of;
use super::opening::{Engine, EngineError};
use super::replica::{Replica, StartingPoint};

/// How a new member of a group starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberStart {
    /// As one of the first, with nothing applied: all of them start with this membership.
    Founding(Membership),
    /// With nothing at all: it waits for a snapshot.
    Joining,
}

/// What openraft stands on, made anew each time a group wakes up. The parts made before stop working.
pub struct GroupParts {
    /// The replica.
    pub replica: Arc<Replica>,
    /// Its log.
    pub log: GroupLog,
    /// Its state machine.
    pub machine: GroupMachine,
}

impl Engine {
    /// Makes a member of a group on this node. Blocks on disk. Asked again, it does nothing.
    ///
    /// # Errors
    /// Where the file or the node's database cannot be written, or another replica of the range is here.
    pub fn create_member(&self, record: &ReplicaRecord, start: MemberStart) -> Result<(), StoreError> {
        let record = ReplicaRecord { group_file: Some(record.group_file.unwrap_or(0)), ..record.clone() };
        let range = record.name.range;
        if let Some(present) = self.replicas.read().get(&range) {
            return if present.name == record.name { Ok(()) } else { Err(taken(present)) };
        }
        let retired = self.retired.read().get(&range).map(|retired| retired.name());
        match retired {
            Some(retired) if retired == record.name => return self.create_replica(&record),
            // Another replica of the same range: its entries would be mistaken for the new one's.
            Some(_) => self.purge_replica(range)?,
            None => {}
        }
        let _a_file_is_made = self.making_files.read();
        self.parts.keeper.remove(record.file())?;
        let store = self.parts.keeper.create(record.file(), &record.table.specification.local_indexes)?;
        let machine = match start {
            MemberStart::Founding(membership) => Some(MachineState::founding(membership)),
            MemberStart::Joining => None,
        };
        if machine.is_some() {
            store.write(&Batch { machine: machine.clone(), ..Batch::default() })?;
            store.make_durable()?;
        }
        self.parts.database.put_replica(&record)?;
        let replica =
            self.make_replica(&record, store, StartingPoint { last_index: 0, applied_index: 0, durable_index: 0 });
        let found = Rebuilt { purged: machine.as_ref().map(|machine| machine.applied), ..Rebuilt::default() };
        replica.become_member(KeptLog::new(range, record.name.tenant, found), machine);
        self.replicas.write().entry(range).or_insert(replica);
        self.note_change();
        Ok(())
    }

    /// Makes a group of one of a range that has this replica alone; `node` is this node. Asked again, it does nothing.
    ///
    /// # Errors
    /// `WrongNode` where the range is not here, `Damaged` where it is out of service, `Unavailable` where the disk does
    /// not take it: the range then serves as before.
    pub async fn begin_group(self: &Arc<Self>, range: RangeId, node: NodeId) -> Result<(), Refusal> {
        let engine = Arc::clone(self);
        // A task of its own: who asks may go away in the middle, and the range must not stay as it is then.
        let begun = tokio::spawn(async move { engine.begin_group_now(range, node).await });
        begun.await.map_err(|_| Refusal::internal("a range could not become a group"))?
    }

    async fn begin_group_now(self: &Arc<Self>, range: RangeId, node: NodeId) -> Result<(), Refusal> {
        let _one_at_a_time = self.beginning.lock().await;
        let replica = self.replicas.read().get(&range).cloned().ok_or_else(|| self.not_here())?;
        if replica.is_grouped() {
            return Ok(());
        }
        let last = LogPlace { term: 1, index: replica.pause() };
        replica.settled().await;
        let begun = self.begin_at(&replica, last, node).await;
        if begun.is_err() {
            replica.resume();
        }
        begun
    }

    async fn begin_at(self: &Arc<Self>, replica: &Arc<Replica>, last: LogPlace, node: NodeId) -> Result<(), Refusal> {
        if let Some(reason) = replica.damage() {
            return Err(Refusal::new(RefusalKind::Damaged, reason));
        }
        if replica.is_closed() {
            return Err(self.not_here());
        }
        let name = replica.name;
        // A refused entry may have used up the last index.
        let last = LogPlace { index: replica.applied_index().max(last.index), ..last };
        let membership = Membership::founding([(name.replica, node)]);
        let machine = MachineState { applied: last, membership_at: last, membership, ..MachineState::default() };
        let vote = Vote::new(last.term, name.replica);
        let rebuilt = Rebuilt { vote: Some(vote), purged: Some(last), ..Rebuilt::default() };
        let log = KeptLog::new(name.range, name.tenant, rebuilt);
        let record = log.record(RecordKind::Vote, LogPlace { term: last.term, index: 0 }, vote_bytes(&vote));
        let disk = Arc::clone(&self.log());
        let refused = write_once(&disk, record).await.map_err(|error| Refusal::unavailable(error.to_string(), 1))?;
        if let Some(reason) = refused {
            return Err(Refusal::unavailable(reason.to_string(), 1));
        }
        let (engine, replica) = (Arc::clone(self), Arc::clone(replica));
        let written = self.workers().run(move || engine.write_beginning(&replica, log, machine)).await;
        written
            .map_err(|_| Refusal::internal("a range could not become a group"))?
            .map_err(|error| Refusal::unavailable(error.to_string(), 1))
    }

    fn write_beginning(
        &self,
        replica: &Arc<Replica>,
        log: Arc<KeptLog>,
        machine: MachineState,
    ) -> Result<(), StoreError> {
        let _alone = self.changing_files.lock();
        replica.flush()?;
        let (name, index) = (replica.name, machine.applied.index);
        let store = replica.file();
        let item_count = replica.item_count()?;
        store.write(&Batch { applied_index: index, item_count, machine: Some(machine.clone()), ..Batch::default() })?;
        store.make_durable()?;
        let record = ReplicaRecord { durable_index: index, group_file: Some(0), ..record_of(replica) };
        self.parts.database.put_replica(&record)?;
        store.expect_at_least(index);
        replica.become_member(log, Some(machine));
        self.note_change();
        replica.note_applied(index);
        replica.note_durable(index);
        self.release_log(&[DurableMark {
            replica: name.replica,
            range: name.range,
            durable_index: index,
            quantity: item_count,
        }]);
        Ok(())
    }

    /// This node's replica of a range, where it is a member of the range's group.
    pub fn group_replica(&self, range: RangeId) -> Option<Arc<Replica>> {
        self.replicas.read().get(&range).filter(|replica| replica.is_grouped()).cloned()
    }

    /// What a group that wakes up stands on.
    ///
    /// # Errors
    /// `WrongNode` where this node has no member of the range's group; `Damaged` where it is out of service;
    /// `Unavailable` where the disk fails.
    pub async fn group_parts(self: &Arc<Self>, range: RangeId) -> Result<GroupParts, Refusal> {
        let replica = self.group_replica(range).ok_or_else(|| self.not_here())?;
        if let Some(reason) = replica.damage() {
            return Err(Refusal::new(RefusalKind::Damaged, reason));
        }
        // Before the log: a log that was opened anew since has replicas of its own.
        let disk = Arc::clone(&self.log());
        let looked = {
            let replica = Arc::clone(&replica);
            self.workers().run(move || replica.group_log()).await
        };
        let kept = looked.map_err(|_| Refusal::internal("a group's log could not be read"))?;
        let kept = kept.map_err(|error| self.member_failed(&replica, &error))?;
        let unavailable = |error: io::Error| Refusal::unavailable(error.to_string(), 1);
        let log = GroupLog::open(kept, disk).await.map_err(unavailable)?;
        let machine = GroupMachine::new(Arc::clone(self), Arc::clone(&replica));
        Ok(GroupParts { replica, log, machine })
    }

    fn member_failed(&self, replica: &Replica, error: &StoreError) -> Refusal {
        if matches!(error, StoreError::Damaged(_)) {
            let reason = format!("replica {} cannot be used: {error}", replica.name.replica);
            self.put_out_of_service(replica, &reason);
            return Refusal::new(RefusalKind::Damaged, reason);
        }
        Refusal::unavailable(error.to_string(), 1)
    }

    /// Applies committed entries of a group, in order, and answers who waits for each.
    pub(crate) async fn apply_group(
        &self,
        replica: Arc<Replica>,
        entries: Vec<EntryResponder<Types>>,
    ) -> io::Result<()> {
        let (done, applied) = oneshot::channel();
        let committed = std::time::Instant::now();
        self.apply_on_lanes(GroupBatch { replica, entries, committed, done });
        applied.await.unwrap_or_else(|_| Err(io::Error::other("this node is stopping or starting again")))
    }

    /// Takes a snapshot for a replica, into a new file. What was being taken in before comes to nothing. Waits for a
    /// piece that is being written.
    pub fn snapshot_target(self: &Arc<Self>, replica: &Replica) -> StoreTarget {
        let file = replica.group_file().unwrap_or(0) + 1;
        let (engine, name, table) = (Arc::clone(self), replica.name.file(file), replica.table());
        StoreTarget::new(
            file,
            replica.claim(),
            Box::new(move || {
                let _a_file_is_made = engine.making_files.read();
                engine.parts.keeper.remove(name)?;
                engine.parts.keeper.create(name, &table.specification.local_indexes)
            }),
        )
    }

    /// Makes a received snapshot the replica's state. Blocks on disk.
    ///
    /// # Errors
    /// Where the node's database cannot be written, another snapshot was taken in meanwhile, or the replica has applied more than
    /// is in this one: nothing has changed.
    pub(crate) fn install(&self, replica: &Replica, received: ReceivedSnapshot) -> Result<(), StoreError> {
        let ReceivedSnapshot { store, file, machine, claim, .. } = received;
        let (_one_at_a_time, children) = self.children_in_snapshot(replica, &*store, &machine)?;
        let _alone = self.changing_files.lock();
        let before = replica.group_file().unwrap_or(0);
        if replica.is_closed() || file != before + 1 || !claim.holds() {
            return Err(StoreError::Failed(
                "another snapshot was taken in meanwhile, or the node started again".to_owned(),
            ));
        }
        let (name, index) = (replica.name, machine.applied.index);
        let quantity = store.state()?.item_count;
        // Until it is the replica's: an instance of the group that has ended may still have entries to apply.
        let nothing_is_applied = replica.moving();
        if replica.group_applied() > Some(index) {
            return Err(StoreError::Failed("the replica has applied more than is in the snapshot".to_owned()));
        }
        let record = ReplicaRecord { durable_index: index, quantity, group_file: Some(file), ..record_of(replica) };
        match children {
            Some(children) => self.adopt_children(replica, &record, children)?,
            None => self.parts.database.put_replica(&record)?,
        }
        store.expect_at_least(index);
        let old = replica.adopt(store, file, self.next_number(), &machine);
        drop(nothing_is_applied);
        old.release();
        if let Err(error) = self.parts.keeper.remove(name.file(before)) {
            tracing::warn!(%error, replica = %name.replica, "the file before a snapshot could not be removed; the next start does it");
        }
        self.release_log(&[DurableMark { replica: name.replica, range: name.range, durable_index: index, quantity }]);
        Ok(())
    }

    /// A member of a group as it was before the node stopped. Its file is not opened.
    pub(super) fn restore_member(
        &self,
        record: &ReplicaRecord,
        file: u64,
        found: ReplayedGroup,
        unreadable: Option<u64>,
    ) -> Result<Arc<Replica>, EngineError> {
        self.remove_other_files(record.name, file)?;
        let store = self.parts.keeper.open(record.file())?;
        store.expect_at_least(record.durable_index);
        let durable = record.durable_index;
        let start = StartingPoint { last_index: durable, applied_index: durable, durable_index: durable };
        let replica = self.make_replica(record, store, start);
        replica.set_replayed(file, found);
        if unreadable.is_some() {
            let reason =
                format!("the log of range {} cannot be read: the tenant's key is not available", record.name.range);
            self.put_out_of_service(&replica, &reason);
        }
        Ok(replica)
    }

    /// What a snapshot that was not taken in, or the one before, has left.
    pub(super) fn remove_other_files(&self, name: ReplicaName, file: u64) -> Result<(), StoreError> {
        if let Some(before) = file.checked_sub(1) {
            self.parts.keeper.remove(name.file(before))?;
        }
        self.parts.keeper.remove(name.file(file + 1))
    }

    /// Removes a member of a group that was moved away, at once and for good: its group has other members. Its
    /// instance must be gone. Blocks on disk.
    ///
    /// # Errors
    /// As [`Engine::purge_replica`]; `Failed` where another replica of the range is here.
    pub fn remove_member(&self, range: RangeId, replica: ReplicaId) -> Result<(), StoreError> {
        let present = self.replicas.read().get(&range).cloned();
        if let Some(present) = present.filter(|present| present.name.replica != replica) {
            return Err(taken(&present));
        }
        self.retire_replica(range)?;
        self.purge_replica(range)
    }
}

fn taken(present: &Replica) -> StoreError {
    let name = present.name;
    StoreError::Failed(format!("this node has replica {} of range {} already", name.replica, name.range))
}

/// The file of a replica, for snapshots.
impl Replica {
    /// Its file as it is now.
    pub fn file(&self) -> Arc<dyn RangeStore> {
        self.store()
    }
}
