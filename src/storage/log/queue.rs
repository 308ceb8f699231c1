//! What waits for the log's thread, and what that thread shows to others.
//!
//! Submitting is a push into a vector under a short lock, and a wake-up only if the thread sleeps: while it writes
//! one group the next one gathers, and so a group is as large as the disk is slow. A channel was rejected: it has a
//! cost per record where this has one per group, and cannot say how many bytes wait.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::commit_log::{Append, AppendRefused, LogStats, Refused};
use super::error::LogError;
use super::format::{RECORD_HEADER_BYTES, TAG_BYTES};
use super::keys::KeyOwner;
use super::live::LiveIndex;
use super::options::LogOptions;
use super::record::Record;
use crate::domain::ids::RangeId;
use crate::storage::workers::{Bell, Patience};

/// Something asked of the thread besides appending.
pub(crate) enum Command {
    /// Drop what can be dropped, of segments up to this one whatever it takes; answers with the number of segments.
    Drop(u64, Sender<Result<u64, LogError>>),
    /// Wrap the owner's keys anew; answers with their number.
    Rewrap(KeyOwner, Sender<Result<u64, LogError>>),
    /// Void all records of a range.
    Remove(RangeId, Sender<Result<u64, LogError>>),
    /// Write what waits and a mark, and end.
    Close(Sender<Result<u64, LogError>>),
}

/// What the thread is to do next.
pub(crate) enum Work<C> {
    /// Write these.
    Records(Vec<Append<C>>),
    /// Do this; all that was queued before it has been handed out.
    Command(Command),
    /// Nothing came until the deadline.
    Idle,
    /// There is nothing, and no patience to wait for it.
    Nothing,
}

struct Queue<C> {
    appends: Vec<Append<C>>,
    commands: Vec<Command>,
    bytes: usize,
    /// When the first of `appends` was queued.
    waiting_since: Option<Instant>,
    /// The same of those that are being written.
    taken_since: Option<Instant>,
    sleeps: bool,
    is_closed: bool,
}

/// Shared between callers and the thread.
pub(crate) struct Shared<C> {
    queue: Mutex<Queue<C>>,
    wake: Condvar,
    /// Rung with `wake`.
    pub(crate) bell: Bell,
    room: Notify,
    pending_bytes_max: usize,
    record_bytes_max: usize,
    /// Which records are needed.
    pub(crate) live: Mutex<LiveIndex>,
    /// Counters, written by the thread.
    pub(crate) stats: Mutex<LogStats>,
    /// Numbers of the segments in use that are written to no more. One leaves before anything is done to its file.
    pub(crate) closed: Mutex<Range<u64>>,
    /// Those of them that were found damaged: their files are not written to again.
    pub(crate) damaged: Mutex<BTreeSet<u64>>,
    /// A write or sync failed.
    pub(crate) failed: AtomicBool,
    /// Ordinary records are refused for want of disk space.
    pub(crate) disk_full: AtomicBool,
    /// Ordinary records are refused since live records fill the budget.
    pub(crate) over_budget: AtomicBool,
    /// The budget of live records.
    pub(crate) budget_bytes: u64,
}

/// Length of a record in the log.
pub(crate) fn stored_bytes(record: &Record) -> usize {
    RECORD_HEADER_BYTES + record.payload.len() + TAG_BYTES
}

impl<C> Shared<C> {
    pub(crate) fn new(live: LiveIndex, closed: Range<u64>, options: &LogOptions, record_bytes_max: usize) -> Shared<C> {
        Shared {
            queue: Mutex::new(Queue {
                appends: Vec::new(),
                commands: Vec::new(),
                bytes: 0,
                waiting_since: None,
                taken_since: None,
                sleeps: false,
                is_closed: false,
            }),
            wake: Condvar::new(),
            bell: options.workers.bell(),
            room: Notify::new(),
            pending_bytes_max: options.pending_bytes_max,
            record_bytes_max,
            live: Mutex::new(live),
            stats: Mutex::default(),
            closed: Mutex::new(closed),
            damaged: Mutex::default(),
            failed: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            over_budget: AtomicBool::new(false),
            budget_bytes: options.budget_bytes,
        }
    }

    /// Queues records, all or none.
    pub(crate) fn push(&self, mut appends: Vec<Append<C>>) -> Result<(), Refused<C>> {
        let bytes: usize = appends.iter().map(|append| stored_bytes(&append.record)).sum();
        let mut queue = self.queue.lock();
        if let Some(reason) = self.refusal(&queue, &appends, bytes) {
            drop(queue);
            return Err(Refused { reason, appends });
        }
        queue.bytes += bytes;
        if queue.appends.is_empty() {
            queue.appends = appends;
            queue.waiting_since = Some(Instant::now());
        } else {
            queue.appends.append(&mut appends)
        }
        self.wake(queue);
        Ok(())
    }

    fn wake(&self, queue: parking_lot::MutexGuard<'_, Queue<C>>) {
        let sleeps = queue.sleeps;
        drop(queue);
        if sleeps {
            self.wake.notify_one();
            self.bell.ring();
        }
    }

    fn refusal(&self, queue: &Queue<C>, appends: &[Append<C>], bytes: usize) -> Option<AppendRefused> {
        if self.failed.load(Ordering::Acquire) {
            return Some(AppendRefused::Failed);
        }
        if queue.is_closed {
            return Some(AppendRefused::Closed);
        }
        if appends.iter().any(|append| stored_bytes(&append.record) > self.record_bytes_max) {
            return Some(AppendRefused::TooLarge);
        }
        if !appends.iter().all(|append| append.urgent) {
            if self.disk_full.load(Ordering::Relaxed) {
                return Some(AppendRefused::DiskFull);
            }
            if self.over_budget.load(Ordering::Relaxed) {
                return Some(AppendRefused::OverBudget);
            }
        }
        (queue.bytes > 0 && queue.bytes + bytes > self.pending_bytes_max).then_some(AppendRefused::Busy)
    }

    /// Queues a command behind what is queued.
    pub(crate) fn command(&self, command: Command) -> Result<(), LogError> {
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return Err(LogError::Closed);
        }
        queue.is_closed = matches!(command, Command::Close(_));
        queue.commands.push(command);
        self.wake(queue);
        Ok(())
    }

    /// What to do next. With patience it waits for that until the deadline, or without end where there is none.
    pub(crate) fn next(&self, deadline: Option<Instant>, patience: Patience) -> Work<C> {
        let mut queue = self.queue.lock();
        loop {
            if !queue.appends.is_empty() {
                queue.taken_since = queue.waiting_since.take();
                return Work::Records(std::mem::take(&mut queue.appends));
            }
            if !queue.commands.is_empty() {
                return Work::Command(queue.commands.remove(0));
            }
            queue.sleeps = true;
            let timed_out = match (patience, deadline) {
                (Patience::Look, _) => return Work::Nothing,
                (Patience::TimeIsUp, _) => return Work::Idle,
                (Patience::Wait, None) => {
                    self.wake.wait(&mut queue);
                    false
                }
                (Patience::Wait, Some(deadline)) => self.wake.wait_until(&mut queue, deadline.into_std()).timed_out(),
            };
            queue.sleeps = false;
            if timed_out && queue.appends.is_empty() && queue.commands.is_empty() {
                return Work::Idle;
            }
        }
    }

    /// What waits to be appended now.
    pub(crate) fn take_appends(&self) -> Vec<Append<C>> {
        std::mem::take(&mut self.queue.lock().appends)
    }

    /// These bytes wait no longer.
    pub(crate) fn release(&self, bytes: usize) {
        let mut queue = self.queue.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        queue.taken_since = None;
        drop(queue);
        self.room.notify_waiters();
    }

    /// Refuses everything from now on, and hands out what was queued.
    pub(crate) fn shut(&self) -> (Vec<Append<C>>, Vec<Command>) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        let rest = (std::mem::take(&mut queue.appends), std::mem::take(&mut queue.commands));
        queue.bytes = 0;
        drop(queue);
        self.room.notify_waiters();
        rest
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().is_closed
    }

    /// Waits until so many bytes can be queued or nothing can any more.
    pub(crate) async fn room(&self, bytes: usize) {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let queue = self.queue.lock();
                let fits = queue.bytes == 0 || queue.bytes + bytes <= self.pending_bytes_max;
                if fits || queue.is_closed || self.failed.load(Ordering::Acquire) {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes_pending(&self) -> u64 {
        self.queue.lock().bytes as u64
    }

    /// How long the oldest record waits that is queued or being written.
    pub(crate) fn oldest_age(&self) -> Duration {
        let queue = self.queue.lock();
        queue.taken_since.or(queue.waiting_since).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A deadline so many milliseconds from now.
    pub(crate) fn deadline(after_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(after_ms)
    }
}
