//! The log as the engine sees it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;

use super::disk::Disk;
use super::error::LogError;
use super::group_commit::Writer;
use super::keys::{KeyOwner, LogKeys};
use super::open;
use super::options::LogOptions;
use super::queue::{Command, Shared};
use super::record::Record;
use super::replay::{ReplayEvent, ReplaySummary};
use super::verify::{Verified, Verifier};
use crate::domain::Random;
use crate::domain::ids::{LogId, RangeId};
use crate::storage::workers::{Patience, Running, Step, Worker};

/// Why a record was not taken. Nothing of it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefused {
    /// Too much waits to be written: try again when there is room (`CommitLog::room`).
    #[error("too much waits for the log")]
    Busy,
    /// Live records fill the log's budget: the engine must flush first. Urgent records are still taken.
    #[error("the log is full of records that are not flushed")]
    OverBudget,
    /// The disk is full. Urgent records are still taken while the reserve lasts.
    #[error("the disk is full")]
    DiskFull,
    /// The record does not fit in a segment.
    #[error("the record is larger than a segment of the log")]
    TooLarge,
    /// The owner's key is not available (tenant destroyed, plane away).
    #[error("the owner's key is not available")]
    KeyUnavailable,
    /// A write or sync failed; the log must be opened anew from disk.
    #[error("the log has failed")]
    Failed,
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

/// What became of a record that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written and synced.
    Durable,
    /// Not written: surely not in the log.
    Refused(AppendRefused),
    /// The write or sync failed: after reopening it may be there or not. Never answer this as a failure.
    Unknown,
}

/// A record on its way, with what the engine wants to have back.
#[derive(Debug)]
pub struct Append<C> {
    /// What to write.
    pub record: Record,
    /// Frees space (deletes, truncations, votes, marks): still taken when the disk or the budget is full.
    pub urgent: bool,
    /// Handed back as it is: a channel to answer on, for example.
    pub companion: C,
}

/// A record whose fate is known.
#[derive(Debug)]
pub struct Committed<C> {
    /// The record, as it was handed in.
    pub record: Record,
    /// What became of it.
    pub outcome: Outcome,
    /// What was handed in with it.
    pub companion: C,
}

/// Takes what became of records, a group at a time, in log order.
pub trait GroupSink<C>: Send + Sync + 'static {
    /// Called from the log's thread after the group's sync: hand over and return, for nothing is written meanwhile.
    fn group_committed(&self, group: Vec<Committed<C>>);
}

/// A refusal with everything that was handed in.
#[derive(Debug)]
pub struct Refused<C> {
    /// Why.
    pub reason: AppendRefused,
    /// What was handed in.
    pub appends: Vec<Append<C>>,
}

/// Counters since the log was opened, and present sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Records made durable.
    pub records: u64,
    /// Groups: batches of records written with one write.
    pub groups: u64,
    /// Calls of write.
    pub writes: u64,
    /// Calls of fdatasync on segments.
    pub syncs: u64,
    /// How long they took together, with the writes before them, in microseconds.
    pub sync_us: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Marks written.
    pub marks: u64,
    /// Records copied to the head.
    pub records_carried: u64,
    /// Segments dropped.
    pub segments_dropped: u64,
    /// Segments in use now.
    pub segments: u64,
    /// Spare segments now.
    pub spares: u64,
    /// Bytes of all segments in use now, an upper bound of what is live in them, and what waits in memory.
    pub bytes_total: u64,
    /// An upper bound of the bytes of live records.
    pub bytes_live: u64,
    /// How far the log is synced: the segment's number in the upper half, the offset in it in the lower. It only grows, over
    /// all starts.
    pub synced: u64,
    /// The same where it ended when it was opened.
    pub opened_at: u64,
    /// Bytes that wait to be written.
    pub bytes_pending: u64,
    /// How long the oldest record has waited that is not synced, in microseconds.
    pub queue_age_us: u64,
    /// Whether a sync or write failed.
    pub failed: bool,
    /// Whether ordinary records are refused because the disk is full.
    pub disk_full: bool,
}

/// A node's commit log; see the module's essay. `C` is what goes along with each record.
pub struct CommitLog<C: Send + 'static> {
    shared: Arc<Shared<C>>,
    verifier: Verifier,
    writing: Mutex<Option<Running>>,
}

impl<C: Send + 'static> CommitLog<C> {
    /// Opens the log in `folder` (made if it is not there), hands every surviving record to `replay`, and starts
    /// the log's thread. Blocks on disk.
    ///
    /// Afterwards call [`CommitLog::set_durable`] for every range: what is durable elsewhere is not kept in the log.
    ///
    /// # Errors
    /// [`LogError::Damaged`], [`LogError::SegmentMissing`], [`LogError::SegmentTruncated`] where something is gone that had been acknowledged;
    /// [`LogError::WrongLog`], [`LogError::LogMissing`], [`LogError::WrongKey`] where these are not the log or the
    /// keys that belong together; [`LogError::Disk`].
    pub fn open(
        folder: &Path,
        options: LogOptions,
        keys: Arc<dyn LogKeys>,
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        sink: Arc<dyn GroupSink<C>>,
        replay: &mut dyn FnMut(ReplayEvent),
    ) -> Result<(CommitLog<C>, ReplaySummary), LogError> {
        let workers = options.workers.clone();
        let (writer, summary) =
            open::open(folder, options, Arc::clone(&keys), Arc::clone(&disk), random, sink, replay)?;
        let shared = Arc::clone(&writer.shared);
        let writing = workers
            .start("commit log", &shared.bell, FailOnPanic(writer))
            .map_err(|source| LogError::Disk { action: "start the thread of", path: folder.to_owned(), source })?;
        let verifier = Verifier { log_id: summary.log_id, folder: folder.to_owned(), disk, keys };
        Ok((CommitLog { shared, verifier, writing: Mutex::new(Some(writing)) }, summary))
    }

    /// The log's id.
    pub fn id(&self) -> LogId {
        self.verifier.log_id
    }

    /// Queues records, which stay together and in order; returns at once. All or none is taken.
    pub fn append(&self, appends: Vec<Append<C>>) -> Result<(), Refused<C>> {
        self.shared.push(appends)
    }

    /// Queues one record; returns at once.
    pub fn append_one(&self, append: Append<C>) -> Result<(), Refused<C>> {
        self.shared.push(vec![append])
    }

    /// Waits until so many bytes can be queued, or the log has failed or is closed.
    pub async fn room(&self, bytes: usize) {
        self.shared.room(bytes).await;
    }

    /// Entries of the range at or below `index` are safe elsewhere: their segments may go. Never falls.
    pub fn set_durable(&self, range: RangeId, index: u64) {
        let mut live = self.shared.live.lock();
        let is_news = live.set_durable(range, index);
        if is_news && self.shared.over_budget.load(Ordering::Relaxed) {
            let bytes_live = live.live_bytes_total();
            self.shared.over_budget.store(bytes_live > self.shared.budget_bytes, Ordering::Relaxed);
        }
    }

    /// Drops the segments that nobody needs; returns their number. Blocks on disk.
    pub fn drop_segments(&self) -> Result<u64, LogError> {
        self.drop_segments_through(0)
    }

    /// The same; and what lives in segments up to `through`, one of which is damaged, is copied to the head even where that
    /// frees less than it writes.
    pub fn drop_segments_through(&self, through: u64) -> Result<u64, LogError> {
        self.ask(|answer| Command::Drop(through, answer))
    }

    /// Numbers of the segments in use that are written to no more.
    pub fn closed_segments(&self) -> Range<u64> {
        self.shared.closed.lock().clone()
    }

    /// The file of a segment.
    pub fn segment_path(&self, segment: u64) -> PathBuf {
        self.verifier.path(segment)
    }

    /// Verifies a piece of a closed segment as a start would: batches from `offset` on, one at least, until `bytes` are read.
    /// Of a segment that goes meanwhile, and of a log that is closed, nothing is left to verify. Blocks on disk.
    ///
    /// # Errors
    /// [`LogError::Disk`] where the file could not be opened now; all others say what is damaged.
    pub fn verify(&self, segment: u64, offset: u64, bytes: u64) -> Result<Verified, LogError> {
        let verified = self.verifier.read(&self.shared.live, segment, offset, bytes);
        let is_in_use = || self.closed_segments().contains(&segment) && !self.shared.is_closed();
        if verified.is_err() && !is_in_use() {
            return Ok(Verified::default());
        }
        if verified.as_ref().is_err_and(|error| !matches!(error, LogError::Disk { .. })) {
            self.shared.damaged.lock().insert(segment);
        }
        verified
    }

    /// Wraps every data key of the owner anew under its newest key and returns their number when that is synced.
    pub fn rewrap(&self, owner: KeyOwner) -> Result<u64, LogError> {
        self.ask(|answer| Command::Rewrap(owner, answer))
    }

    /// Says that the range left this node: all its records before are void, also those not durable elsewhere. Returns
    /// when that is synced; the segments go with [`CommitLog::drop_segments`].
    pub fn remove_range(&self, range: RangeId) -> Result<(), LogError> {
        self.ask(|answer| Command::Remove(range, answer)).map(|_| ())
    }

    /// Versions of the owner's key under which data keys rest wrapped.
    pub fn key_versions(&self, owner: KeyOwner) -> BTreeSet<u32> {
        self.shared.live.lock().key_versions(owner)
    }

    /// How many data keys of the owner rest wrapped under this version of its key. At zero the version can go.
    pub fn keys_in_use(&self, owner: KeyOwner, version: u32) -> u64 {
        self.shared.live.lock().keys_in_use(owner, version)
    }

    /// Counters and sizes. Looks at every range that has records; what is asked all the time is in [`CommitLog::counters`].
    pub fn stats(&self) -> LogStats {
        LogStats { bytes_live: self.shared.live.lock().live_bytes_total(), ..self.counters() }
    }

    /// The same but for the bytes that live, which are given as none: costs nothing, however many ranges there are.
    pub fn counters(&self) -> LogStats {
        let mut stats = *self.shared.stats.lock();
        stats.bytes_live = 0;
        stats.bytes_pending = self.shared.bytes_pending();
        stats.queue_age_us = self.shared.oldest_age().as_micros() as u64;
        stats.disk_full = self.shared.disk_full.load(Ordering::Relaxed);
        stats
    }

    /// Writes what waits, then a mark, and stops the thread. Later appends are refused. Dropping the log does the
    /// same.
    pub fn close(&self) -> Result<(), LogError> {
        let closed = self.ask(Command::Close);
        let writing = self.writing.lock().take();
        if let Some(writing) = writing {
            // A panic has been reported by its hook, and the log counts as failed.
            writing.join().map_err(|_| LogError::Failed)?;
        }
        match closed {
            Ok(_) => Ok(()),
            Err(LogError::Closed) if !self.shared.failed.load(Ordering::Acquire) => Ok(()),
            Err(LogError::Closed) => Err(LogError::Failed),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, command: impl FnOnce(Sender<Result<u64, LogError>>) -> Command) -> Result<u64, LogError> {
        let (answer, answered) = channel();
        self.shared.command(command(answer))?;
        if let Some(writing) = self.writing.lock().as_ref() {
            writing.drive();
        }
        answered.recv().map_err(|_| LogError::Failed)?
    }
}

impl<C: Send + 'static> Drop for CommitLog<C> {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the commit log was not closed in order");
        }
    }
}

/// Fails the log if its thread panics, so that nobody waits for ever.
struct FailOnPanic<C: Send + 'static>(Writer<C>);

impl<C: Send + 'static> Worker for FailOnPanic<C> {
    fn step(&mut self, patience: Patience) -> Step {
        self.0.step(patience)
    }
}

impl<C: Send + 'static> Drop for FailOnPanic<C> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.shared.failed.store(true, Ordering::Release);
            self.0.shared.shut();
        }
    }
}
