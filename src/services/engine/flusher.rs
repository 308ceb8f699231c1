//! The flusher: one thread of a node that brings what is in memory into files, many entries to a
//! transaction, and so lets the commit log go.
//!
//! It works only when nudged: when memory is over its budget, when the log is over its own, when
//! the node stops. There is no timer for any range, so an idle table costs nothing. Each round takes
//! the ranges with the most bytes in memory first, since a large batch costs the least per entry.
//!
//! After a flush, a file whose write-ahead log has grown is made durable: its log is synced, the
//! index that is then safe is recorded in the node's database, and only then are pages copied back
//! (the order matters: a file that reopens below its recorded index is known to be damaged).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::domain::mutation::{Mutation, is_on};
use crate::storage::node_database::{DurableMark, NodeDatabase};
use crate::storage::store::StoreError;
use crate::storage::workers::{Bell, Patience, Running, Step, Worker, Workers};

use super::notices::Notices;
use super::replica::Replica;

/// How much the flusher lets pile up.
#[derive(Debug, Clone, Copy)]
pub struct FlushBudget {
    /// Bytes in memory at which flushing begins.
    pub memory_bytes_soft: usize,
    /// Bytes in memory at which writers are held back.
    pub memory_bytes_hard: usize,
    /// Bytes in a file's write-ahead log at which it is brought back into the file.
    pub checkpoint_bytes: u64,
}

/// Tells the commit log what is durable elsewhere.
type ReleaseLog = Box<dyn Fn(&[DurableMark]) + Send + Sync>;

/// See the module's essay.
pub struct Flusher {
    budget: FlushBudget,
    database: Arc<dyn NodeDatabase>,
    notices: Arc<Notices>,
    /// Called after durable indexes have been recorded: the log may drop what is below.
    release_log: Mutex<Option<ReleaseLog>>,
    dirty: Mutex<HashMap<u64, Arc<Replica>>>,
    /// Replicas whose file has more than is known to be synced.
    unsynced: Mutex<HashMap<u64, Arc<Replica>>>,
    bytes: AtomicU64,
    nudge: Mutex<Nudge>,
    nudged: Condvar,
    /// Rung with `nudged`.
    bell: Bell,
    /// Held while a round is under way.
    working: Mutex<()>,
    progress: Notify,
    failing: AtomicBool,
    memory_noticed: AtomicBool,
    /// A sync of a file failed: the engine has to start again from disk.
    sync_failed: AtomicBool,
}

#[derive(Default)]
struct Nudge {
    look: bool,
    flush_all: bool,
    make_durable: bool,
    stop: bool,
    rounds_done: u64,
}

/// The flusher at work, a round a step.
struct Rounds(Arc<Flusher>);

impl Worker for Rounds {
    fn step(&mut self, patience: Patience) -> Step {
        self.0.step(patience)
    }
}

impl Flusher {
    /// A flusher that is not running yet.
    pub fn new(
        budget: FlushBudget,
        database: Arc<dyn NodeDatabase>,
        notices: Arc<Notices>,
        workers: &Workers,
    ) -> Arc<Self> {
        Arc::new(Self {
            budget,
            database,
            notices,
            release_log: Mutex::default(),
            dirty: Mutex::default(),
            unsynced: Mutex::default(),
            bytes: AtomicU64::new(0),
            nudge: Mutex::default(),
            nudged: Condvar::new(),
            bell: workers.bell(),
            working: Mutex::default(),
            progress: Notify::new(),
            failing: AtomicBool::new(false),
            memory_noticed: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
        })
    }

    /// Says whom to tell about new durable indexes.
    pub fn on_durable(&self, release_log: impl Fn(&[DurableMark]) + Send + Sync + 'static) {
        *self.release_log.lock() = Some(Box::new(release_log));
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(self: &Arc<Self>, workers: &Workers) -> std::io::Result<Running> {
        workers.start("flush", &self.bell, Rounds(Arc::clone(self)))
    }

    /// Notes that a replica has taken in an entry.
    pub fn note_dirty(&self, replica: &Arc<Replica>) {
        self.dirty.lock().entry(replica.number).or_insert_with(|| Arc::clone(replica));
        let growth = replica.take_growth();
        let total = self.bytes.fetch_add(growth, Ordering::Relaxed) + growth;
        if total as usize > self.budget.memory_bytes_soft {
            self.nudge(|nudge| nudge.look = true);
            self.notice_memory(total as usize);
        }
    }

    /// Tells, once for each time it comes near, that writers are about to be held back.
    fn notice_memory(&self, bytes: usize) {
        let near = self.budget.memory_bytes_hard / 10 * 9;
        if bytes > near.max(self.budget.memory_bytes_soft) && !self.memory_noticed.swap(true, Ordering::Relaxed) {
            self.notices.write(format!(
                "{} MiB of writes wait in memory to be written to files; at {} MiB writers are held back and then refused. The disk is too slow, full, or failing",
                bytes >> 20,
                self.budget.memory_bytes_hard >> 20
            ));
        }
    }

    /// Forgets a replica that is being removed; what it had in memory goes with it.
    pub fn forget(&self, replica: &Replica) {
        self.dirty.lock().remove(&replica.number);
        self.unsynced.lock().remove(&replica.number);
    }

    /// Notes those of these replicas that have something beside their files, whoever wrote it: the flusher knows only what it
    /// wrote itself, since the process started, and has not brought back. Looks at each file's size.
    pub fn note_backlogs(&self, replicas: &[Arc<Replica>]) {
        let has_backlog =
            |replica: &&Arc<Replica>| replica.damage().is_none() && replica.store().checkpoint_backlog_bytes() > 0;
        let noted: Vec<_> = replicas.iter().filter(has_backlog).collect();
        self.unsynced.lock().extend(noted.into_iter().map(|replica| (replica.number, Arc::clone(replica))));
    }

    /// Asks for everything in memory to be flushed and made durable: the log is over its budget.
    pub fn ask_for_durability(&self) {
        self.nudge(|nudge| {
            nudge.flush_all = true;
            nudge.make_durable = true;
        });
    }

    /// Flushes everything, makes it durable, and ends the thread.
    pub fn stop(&self) {
        self.nudge(|nudge| {
            nudge.flush_all = true;
            nudge.make_durable = true;
            nudge.stop = true;
        });
    }

    fn nudge(&self, change: impl FnOnce(&mut Nudge)) {
        let mut nudge = self.nudge.lock();
        change(&mut nudge);
        self.nudged.notify_one();
        self.bell.ring();
    }

    /// Whether memory is so full that writers must wait.
    pub fn is_over_hard_budget(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) as usize > self.budget.memory_bytes_hard
    }

    /// Whether the last flush failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether a sync of a file failed, so that the engine has to start again from disk.
    pub fn has_sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits for the next flush to end.
    pub fn progress(&self) -> tokio::sync::futures::Notified<'_> {
        self.progress.notified()
    }

    /// How many rounds the thread has done, for tests.
    pub fn rounds_done(&self) -> u64 {
        self.nudge.lock().rounds_done
    }

    fn step(&self, patience: Patience) -> Step {
        let (flush_all, make_durable, stop) = {
            let mut nudge = self.nudge.lock();
            while !(nudge.look || nudge.flush_all || nudge.stop) {
                if patience != Patience::Wait {
                    return Step::Idle(None);
                }
                self.nudged.wait(&mut nudge);
            }
            let taken = (nudge.flush_all, nudge.make_durable, nudge.stop);
            *nudge = Nudge { stop: nudge.stop, rounds_done: nudge.rounds_done, ..Nudge::default() };
            taken
        };
        self.round(flush_all, make_durable);
        self.nudge.lock().rounds_done += 1;
        self.progress.notify_waiters();
        if stop { Step::Ended } else { Step::Worked }
    }

    /// Waits for the round under way, forgets all replicas, and keeps the next round from beginning until what is
    /// returned is dropped.
    pub fn quiesce(&self) -> MutexGuard<'_, ()> {
        let working = self.working.lock();
        self.dirty.lock().clear();
        self.unsynced.lock().clear();
        self.bytes.store(0, Ordering::Relaxed);
        self.sync_failed.store(false, Ordering::Release);
        self.failing.store(false, Ordering::Relaxed);
        working
    }

    fn round(&self, flush_all: bool, make_durable: bool) {
        let _working = self.working.lock();
        let mut replicas: Vec<_> =
            self.dirty.lock().values().cloned().map(|replica| (replica.memory_bytes(), replica)).collect();
        replicas.sort_by_key(|(bytes, replica)| (std::cmp::Reverse(*bytes), replica.number));
        for (_, replica) in replicas {
            if !flush_all && self.has_room() {
                break;
            }
            if let Err(error) = self.flush(&replica, flush_all) {
                self.report(&replica, &error);
            }
        }
        self.recount();
        self.bring_back(make_durable);
    }

    /// Whether so little is in memory that a round which only makes room may end.
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) as usize <= self.budget.memory_bytes_soft / 2
    }

    /// Flushes what a replica has in memory by now, a layer at a time: after each, files with a backlog are brought back
    /// and writers that wait for memory are told.
    fn flush(&self, replica: &Arc<Replica>, whole: bool) -> Result<(), StoreError> {
        if replica.damage().is_some() {
            self.forget(replica);
            return Ok(());
        }
        // Also where nothing is left to write: someone else may have flushed it, and nobody has synced it.
        self.unsynced.lock().insert(replica.number, Arc::clone(replica));
        for _ in 0..replica.freeze() {
            if replica.flush_layer()?.is_none() {
                break;
            }
            self.failing.store(false, Ordering::Relaxed);
            self.recount();
            self.progress.notify_waiters();
            self.bring_back(false);
            if !whole && self.has_room() {
                break;
            }
        }
        let mut dirty = self.dirty.lock();
        if !replica.is_dirty() {
            dirty.remove(&replica.number);
        }
        Ok(())
    }

    fn recount(&self) {
        let total: usize = self.dirty.lock().values().map(|replica| replica.memory_bytes()).sum();
        self.bytes.store(total as u64, Ordering::Relaxed);
        if total <= self.budget.memory_bytes_soft {
            self.memory_noticed.store(false, Ordering::Relaxed);
        }
    }

    /// Where a sync failed, the engine has to start again from disk.
    pub(super) fn note_sync_failure(&self, replica: &Replica, error: &StoreError) {
        if matches!(error, StoreError::SyncFailed(_)) {
            self.report(replica, error);
        }
    }

    fn report(&self, replica: &Replica, error: &StoreError) {
        self.failing.store(true, Ordering::Relaxed);
        tracing::error!(replica = %replica.name.replica, %error, "what is in memory could not be written to the file; it stays in the commit log and is tried again");
        self.notices.write(format!(
            "range {}: writing to its file failed ({error}); nothing is lost, it will be tried again",
            replica.name.range
        ));
        if matches!(error, StoreError::SyncFailed(_)) {
            self.sync_failed.store(true, Ordering::Release);
        }
        if matches!(error, StoreError::Damaged(_)) {
            replica.mark_damaged(format!("the range {} cannot be written: {error}", replica.name.range));
        }
    }

    /// Makes what is in a replica's file durable and records how far that goes, so that its write-ahead log may be brought
    /// back. Blocks on disk.
    ///
    /// # Errors
    /// Where the file cannot be synced or the node's database cannot be written.
    pub fn record(&self, replica: &Arc<Replica>) -> Result<(), StoreError> {
        let _working = self.working.lock();
        let index = replica.make_durable().inspect_err(|error| self.note_sync_failure(replica, error))?;
        let quantity = replica.item_count().unwrap_or_default();
        let (range, replica_id) = (replica.name.range, replica.name.replica);
        self.database.record_durable(&[DurableMark { replica: replica_id, range, durable_index: index, quantity }])?;
        replica.note_durable(index);
        replica.store().expect_at_least(index);
        Ok(())
    }

    /// Syncs and checkpoints files with a backlog; all that are not synced where `make_durable` asks for it.
    fn bring_back(&self, make_durable: bool) {
        let candidates: Vec<_> = self.unsynced.lock().values().cloned().collect();
        let is_due = |replica: &Arc<Replica>| {
            make_durable || replica.store().checkpoint_backlog_bytes() >= self.budget.checkpoint_bytes
        };
        let due: Vec<_> = candidates.into_iter().filter(is_due).collect();
        let mut marks = Vec::with_capacity(due.len());
        let mut synced = Vec::with_capacity(due.len());
        for replica in &due {
            let durable = if is_on(Mutation::RecordBeforeDurable) {
                replica.file().state().map(|state| state.applied_index)
            } else {
                replica.make_durable()
            };
            match durable {
                Ok(index) => {
                    let quantity = replica.item_count().unwrap_or_default();
                    marks.push(DurableMark {
                        replica: replica.name.replica,
                        range: replica.name.range,
                        durable_index: index,
                        quantity,
                    });
                    synced.push(replica);
                }
                Err(error) => self.report(replica, &error),
            }
        }
        if marks.is_empty() {
            return;
        }
        if let Err(error) = self.database.record_durable(&marks) {
            tracing::error!(%error, "durable indexes could not be recorded; files and log stay as they are");
            return;
        }
        for (replica, mark) in synced.iter().zip(&marks) {
            replica.note_durable(mark.durable_index);
            replica.store().expect_at_least(mark.durable_index);
            self.unsynced.lock().remove(&replica.number);
            if let Err(error) = replica.store().checkpoint() {
                self.report(replica, &error);
            }
        }
        if let Some(release_log) = self.release_log.lock().as_ref() {
            release_log(&marks);
        }
    }
}
