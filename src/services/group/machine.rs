//! A group's state machine as openraft wants to have it: the engine's replica.
//!
//! Entries are applied by the engine's apply threads, in batches, since a read of the present item may wait for the disk.
//! What was applied is in memory and goes to the file with the next flush, together with where the group stands; so
//! after a start the machine stands where its file does, and openraft has what follows applied again.
//!
//! openraft's worker that calls this outlives its instance: it finishes what it was given. The next instance may begin meanwhile,
//! so the engine sees to it that what both have is applied once.
//!
//! A split is carried out by the engine, too, but not on an apply thread: it takes as long as copying the range, and
//! other ranges' entries would wait behind it. Where the disk is full it is waited for; what has been committed cannot
//! be refused any more.
//!
//! The snapshot is what is in the file ([`super::snapshot`]). Building one is flushing memory. Taking one in is
//! making the received file the replica's own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use crate::replication::split::Split;
use crate::services::engine::Engine;
use crate::services::engine::replica::Replica;
use crate::storage::store::StoreError;
use crate::storage::workers::Workers;

use super::convert::{log_id, place_of, split_of, stored_membership};
use super::pieces::{PieceTarget, Wanted};
use super::snapshot::{GroupSnapshot, GroupSnapshotMeta, ReceivedSnapshot, SnapshotData, StoredSnapshot, meta_of};
use super::types::{Applied, LogId, StoredMembership, Types};

/// Entries applied in one go: between two batches other ranges of the same thread get their turn.
const BATCH_ENTRIES: usize = 256;
/// The pause before a split is tried again that found no room on the disk.
const ROOM_PAUSE: Duration = Duration::from_secs(2);

/// See the module's essay.
pub struct GroupMachine {
    engine: Arc<Engine>,
    replica: Arc<Replica>,
}

/// Makes a snapshot.
pub struct GroupSnapshotBuilder {
    replica: Arc<Replica>,
    workers: Workers,
}

impl GroupMachine {
    /// The machine of a replica whose log was put together.
    pub(crate) fn new(engine: Arc<Engine>, replica: Arc<Replica>) -> Self {
        Self { engine, replica }
    }

    async fn apply_batch(&self, entries: &mut Vec<EntryResponder<Types>>) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.engine.apply_group(Arc::clone(&self.replica), std::mem::take(entries)).await
    }

    /// Carries out a split, all entries before which are applied.
    async fn apply_split(&self, split: Split, (entry, responder): EntryResponder<Types>) -> io::Result<()> {
        let place = place_of(&entry.log_id);
        let applied = loop {
            let (engine, replica, split) = (Arc::clone(&self.engine), Arc::clone(&self.replica), split.clone());
            let done = self.engine.workers().run(move || engine.split_replica(&replica, place, &split)).await;
            match done.map_err(io::Error::other)? {
                Err(StoreError::Full) if !self.replica.is_closed() => {
                    tracing::error!(range = %self.replica.name.range, "a split waits for room on the disk");
                    tokio::time::sleep(ROOM_PAUSE).await;
                }
                done => break done.map_err(broken)?,
            }
        };
        // What it came to where another instance had it applied is not known.
        if let Some(responder) = responder.filter(|_| applied != Applied::Nothing) {
            responder.send(applied);
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for GroupMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = GroupSnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let machine = self.replica.machine_state().map_err(broken)?;
        let membership = stored_membership(machine.as_ref()).ok_or_else(senseless)?;
        Ok((machine.map(|machine| log_id(machine.applied)), membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            if let Some(split) = split_of(&entry.0.payload) {
                self.apply_batch(&mut batch).await?;
                self.apply_split(split, entry).await?;
                continue;
            }
            batch.push(entry);
            if batch.len() == BATCH_ENTRIES {
                self.apply_batch(&mut batch).await?;
            }
        }
        self.apply_batch(&mut batch).await
    }

    async fn get_snapshot_builder(&mut self) -> GroupSnapshotBuilder {
        GroupSnapshotBuilder { replica: Arc::clone(&self.replica), workers: self.engine.workers().clone() }
    }

    async fn install_snapshot(&mut self, meta: &GroupSnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let received = match snapshot {
            SnapshotData::Received(received) => received,
            SnapshotData::Here(_) => {
                let target = self.engine.snapshot_target(&self.replica);
                off_worker(self.engine.workers(), move || copy(&snapshot, Box::new(target))).await?
            }
        };
        if meta.last_log_id != Some(log_id(received.machine.applied)) {
            return Err(io::Error::other("the snapshot does not stand where it is said to"));
        }
        let (engine, replica) = (Arc::clone(&self.engine), Arc::clone(&self.replica));
        off_worker(self.engine.workers(), move || engine.install(&replica, received).map_err(broken)).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<GroupSnapshot>> {
        current(&self.replica)
    }
}

impl RaftSnapshotBuilder<Types> for GroupSnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<GroupSnapshot> {
        let replica = Arc::clone(&self.replica);
        off_worker(&self.workers, move || replica.flush().map(|_| ()).map_err(broken)).await?;
        // A log that was purged before anything was applied: a replica never does that, but openraft may ask.
        let nothing = || GroupSnapshot { meta: GroupSnapshotMeta::default(), snapshot: stored(&self.replica) };
        Ok(current(&self.replica)?.unwrap_or_else(nothing))
    }
}

fn current(replica: &Replica) -> io::Result<Option<GroupSnapshot>> {
    let Some(machine) = replica.machine_in_file() else { return Ok(None) };
    let meta = meta_of(&machine).ok_or_else(senseless)?;
    Ok(Some(GroupSnapshot { meta, snapshot: stored(replica) }))
}

fn stored(replica: &Replica) -> SnapshotData {
    SnapshotData::Here(StoredSnapshot { replica: replica.name.replica, store: replica.file() })
}

/// A snapshot of another replica on this node, taken in piece by piece like any other.
fn copy(snapshot: &SnapshotData, mut target: Box<dyn PieceTarget>) -> io::Result<ReceivedSnapshot> {
    let mut source = snapshot.open().map_err(broken)?;
    let mut wanted = Wanted::Piece(0);
    while let Wanted::Piece(number) = wanted {
        let piece = source.piece(number).map_err(broken)?;
        wanted = target
            .take(&piece.ok_or_else(|| io::Error::other("the snapshot ends early"))?)
            .map_err(io::Error::other)?;
    }
    match target.finish().map_err(io::Error::other)?.snapshot {
        SnapshotData::Received(received) => Ok(received),
        SnapshotData::Here(_) => Err(io::Error::other("the snapshot was not taken in")),
    }
}

/// Runs what waits for the disk where it holds up no async worker.
async fn off_worker<T: Send + 'static>(
    workers: &Workers,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    workers.run(work).await.map_err(io::Error::other)?
}

fn broken(error: StoreError) -> io::Error {
    io::Error::other(error)
}

fn senseless() -> io::Error {
    io::Error::other("the group's membership makes no sense")
}
