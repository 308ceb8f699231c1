//! The thread that owns the store. Jobs come in through a channel; changes that wait together share
//! one transaction and one sync.
//!
//! Order within a turn: leases whose time is over end, then the changes, then the commit, then the
//! answers to the changes, then the reads. So a read sees every change that was answered before it was
//! asked, and no change that could still be lost.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use tokio::sync::watch;

use super::store::Store;
use crate::coordination::{Error, Result, Revision};

/// Answers whoever asked for a change, when it is known how the commit went.
pub(super) type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// What a change left behind, before the commit.
pub(super) struct Written {
    /// Called when it is known how the commit went.
    pub(super) answer: Answer,
    /// Set where SQLite failed half-way: the whole turn is undone.
    pub(super) failed: Option<Error>,
}

/// A change, to be done inside the turn's transaction.
pub(super) type Write = Box<dyn FnOnce(&mut Store) -> Written + Send>;

/// Something for the thread to do.
pub(super) enum Job {
    /// Reads, and answers by itself.
    Read(Box<dyn FnOnce(&mut Store) + Send>),
    /// Changes.
    Write(Write),
    /// Ends the thread.
    Stop,
}

/// How many jobs one turn takes at most.
const TURN_JOBS_MAX: usize = 256;

/// Runs until told to stop, or until nobody can send any more.
pub(super) fn run(mut store: Store, jobs: &Receiver<Job>, committed: &watch::Sender<Revision>, history_revisions: i64) {
    let mut broken: Option<Error> = None;
    loop {
        let Some((turn, stop)) = next_turn(&store, jobs) else { return };
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for job in turn {
            match job {
                Job::Read(read) => reads.push(read),
                Job::Write(write) => writes.push(write),
                Job::Stop => {}
            }
        }
        if broken.is_none() {
            broken = change(&mut store, writes, history_revisions).err();
        }
        if let Some(error) = &broken {
            // Dropping the unanswered jobs closes their channels; the callers see the store as gone.
            tracing::error!(%error, "the embedded coordinator stops: its file can no longer be trusted to take changes");
            return;
        }
        committed.send_if_modified(|revision| std::mem::replace(revision, store.revision()) != store.revision());
        for read in reads {
            read(&mut store);
        }
        if stop {
            return;
        }
    }
}

/// Waits for a job or for the end of a lease, and takes what else is waiting. `None` when all senders are gone.
fn next_turn(store: &Store, jobs: &Receiver<Job>) -> Option<(Vec<Job>, bool)> {
    let first = match store.next_lease_end() {
        None => Some(jobs.recv().ok()?),
        Some(end) => match jobs.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return None,
        },
    };
    let turn: Vec<Job> = first.into_iter().chain(jobs.try_iter()).take(TURN_JOBS_MAX).collect();
    let stop = turn.iter().any(|job| matches!(job, Job::Stop));
    Some((turn, stop))
}

/// One transaction with all changes of a turn. An error means that the store must not be used any more.
fn change(store: &mut Store, writes: Vec<Write>, history_revisions: i64) -> Result<()> {
    let leases_due = store.next_lease_end().is_some_and(|end| end <= Instant::now());
    if writes.is_empty() && !leases_due {
        return Ok(());
    }
    store.execute("BEGIN IMMEDIATE")?;
    let mut outcome = if leases_due { store.expire_leases(Instant::now()) } else { Ok(()) };
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        let written = write(store);
        answers.push(written.answer);
        outcome = outcome.and(written.failed.map_or(Ok(()), Err));
    }
    if outcome.is_ok() && store.history_revisions() > history_revisions.saturating_mul(2) {
        outcome = store.compact(store.revision() - history_revisions);
    }
    let undone = outcome.is_err();
    let outcome = outcome.and_then(|()| commit(store));
    let answered = match &outcome {
        // A commit that failed for any other reason than a full disk may have reached the disk.
        Err(error) if !undone && !matches!(error, Error::NoSpace(_)) => Err(Error::OutcomeUnknown(error.to_string())),
        other => other.clone(),
    };
    answers.into_iter().for_each(|answer| answer(answered.clone()));
    match outcome {
        Err(Error::NoSpace(_)) => roll_back(store),
        other => other,
    }
}

fn commit(store: &Store) -> Result<()> {
    if !store.in_transaction() {
        return Err(Error::NoSpace("SQLite has undone the transaction".into()));
    }
    store.execute("COMMIT")
}

fn roll_back(store: &mut Store) -> Result<()> {
    if store.in_transaction() {
        store.execute("ROLLBACK")?;
    }
    store.reload()
}
