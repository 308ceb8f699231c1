//! A group's log as openraft wants to have it: a handle to the [`KeptLog`] in memory and to the node's commit log on disk.
//!
//! Appending does not wait for the disk: entries are readable at once, and openraft's callback is called when they are
//! synced. So the entries of all groups of a node, and several appends of one group, share one sync. Votes,
//! truncations and purges wait until they are synced.
//!
//! Where too much waits for the disk, an append waits for room. Where the disk is full it does not: the entries stay in
//! memory, unacknowledged, and a task hands them over again until they are taken; a vote is tried again until it
//! is. Where the log has failed everything is an error, and the group stops: the node starts again from disk.
//!
//! # Purging
//!
//! openraft purges nothing by itself: its policy is to keep everything that a snapshot covers (`max_in_snapshot_log_to_keep`
//! at its maximum), and to make none (`SnapshotPolicy::Never`). Whoever keeps the group awake looks now and
//! then at `Replica::purge_point`, which leaves a tail for followers that lag; where it is some, it has openraft make a snapshot
//! (`trigger().snapshot()`: that costs a flush at most) and purge up to there (`trigger().purge_log(…)`). A group that
//! goes to sleep drops more, without openraft (`Replica::rest`).
//!
//! The committed point is not written: what is in the file is committed, and the rest is learnt from the leader.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::replication::machine_state::LogPlace;
use crate::services::engine::companion::Companion;
use crate::storage::log::{Append, AppendRefused, CommitLog, Outcome, Record, RecordKind};

use super::convert::{place_of, vote_bytes};
use super::kept_log::KeptLog;
use super::types::{Entry, LogId, Types, Vote};

/// How long until what a full disk refused is tried again.
const FULL_DISK_WAIT: Duration = Duration::from_millis(500);
/// Bytes of entries read at once for replication, about.
const READ_BYTES: usize = 1 << 20;

/// See the module's essay.
pub struct GroupLog {
    kept: Arc<KeptLog>,
    disk: Arc<CommitLog<Companion>>,
    generation: u64,
    /// Hands over again what was refused, as long as this handle is there.
    again: Option<JoinHandle<()>>,
}

/// Reads a group's log.
#[derive(Clone)]
pub struct GroupLogReader {
    kept: Arc<KeptLog>,
}

impl GroupLog {
    /// A new handle; the one before stops working. Writes down what is void since a snapshot was taken in, and waits for
    /// what the handle before has appended to be synced: openraft takes what it finds in a log for that.
    ///
    /// # Errors
    /// Where the log has failed.
    pub async fn open(kept: Arc<KeptLog>, disk: Arc<CommitLog<Companion>>) -> io::Result<Self> {
        let generation = kept.take_over()?;
        let mut log = Self { kept, disk, generation, again: None };
        if let Some(index) = log.kept.void_from() {
            log.write_truncation(index).await?;
        }
        log.send().await?;
        log.kept.all_synced().await?;
        Ok(log)
    }

    /// Writes a record and waits until it is synced.
    async fn write(&self, record: Record) -> io::Result<()> {
        loop {
            self.kept.check(self.generation)?;
            match write_once(&self.disk, record.clone()).await? {
                None => return Ok(()),
                Some(AppendRefused::Busy) => self.disk.room(record.payload.len()).await,
                Some(_) => tokio::time::sleep(FULL_DISK_WAIT).await,
            }
        }
    }

    async fn write_truncation(&self, index: u64) -> io::Result<()> {
        let place = LogPlace { term: 0, index };
        self.write(self.kept.record(RecordKind::Truncate, place, bytes::Bytes::new())).await?;
        self.kept.truncate(index);
        Ok(())
    }

    /// Hands over what is in memory only, and waits for room to do so.
    async fn send(&mut self) -> io::Result<()> {
        loop {
            match self.kept.send(&self.disk, false) {
                Ok(()) => break,
                Err(AppendRefused::Busy) => self.disk.room(self.kept.unsent_bytes()).await,
                Err(reason) => {
                    self.kept.fail(&format!("the commit log takes no entry: {reason}"));
                    return Err(io::Error::other(reason));
                }
            }
        }
        self.again.get_or_insert_with(|| tokio::spawn(hand_over_again(Arc::clone(&self.kept), Arc::clone(&self.disk))));
        Ok(())
    }
}

impl Drop for GroupLog {
    fn drop(&mut self) {
        if let Some(task) = &self.again {
            task.abort();
        }
    }
}

/// Writes a record and waits for its fate; why it was refused where trying again may help.
pub(crate) async fn write_once(disk: &CommitLog<Companion>, record: Record) -> io::Result<Option<AppendRefused>> {
    let (sender, fate) = oneshot::channel();
    let answer = Box::new(move |outcome| {
        let _ = sender.send(outcome);
    });
    let append = Append { record, urgent: true, companion: Companion::Answer(answer) };
    let outcome = match disk.append_one(append) {
        Ok(()) => fate.await.unwrap_or(Outcome::Unknown),
        Err(refused) => Outcome::Refused(refused.reason),
    };
    match outcome {
        Outcome::Durable => Ok(None),
        Outcome::Refused(reason @ (AppendRefused::Busy | AppendRefused::DiskFull | AppendRefused::OverBudget)) => {
            Ok(Some(reason))
        }
        Outcome::Refused(reason) => Err(io::Error::other(reason)),
        Outcome::Unknown => Err(io::Error::other("the commit log has failed")),
    }
}

async fn hand_over_again(kept: Arc<KeptLog>, disk: Arc<CommitLog<Companion>>) {
    while kept.wait_for_refused().await {
        tokio::time::sleep(FULL_DISK_WAIT).await;
        match kept.send(&disk, true) {
            Ok(()) => {}
            Err(AppendRefused::Busy) => disk.room(kept.unsent_bytes()).await,
            Err(reason) => kept.fail(&format!("the commit log takes no entry: {reason}")),
        }
    }
}

impl RaftLogReader<Types> for GroupLogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.kept.entries(range, usize::MAX))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.kept.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        Ok(self.kept.entries(start..end, READ_BYTES))
    }
}

impl RaftLogStorage<Types> for GroupLog {
    type LogReader = GroupLogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (last_purged_log_id, last_log_id) = self.kept.bounds();
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> GroupLogReader {
        GroupLogReader { kept: Arc::clone(&self.kept) }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let place = LogPlace { term: vote.leader_id.term, index: 0 };
        self.write(self.kept.record(RecordKind::Vote, place, vote_bytes(vote))).await?;
        self.kept.set_vote(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.kept.take(self.generation, entries, callback)?;
        self.send().await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.write_truncation(last_log_id.map_or(0, |last| last.index + 1)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.write(self.kept.record(RecordKind::Purge, place_of(&log_id), bytes::Bytes::new())).await?;
        self.kept.purge(log_id);
        Ok(())
    }
}
