//! The apply stage: committed entries are applied by a few threads of their own, so that a slow read of one range's file
//! neither holds up the log nor an async worker. A range always goes to the same thread, which keeps its entries
//! in order. They come from the commit log's thread, in groups, where a range has one replica and durable is committed;
//! and from a range's group, in batches, once a majority has them.
//!
//! A group's instance that has ended may still have entries here, and the next one, which asked where the state stands before
//! they were applied, hands the same ones in again. So whoever moves a group's state on, be it by entries, by a split or by a
//! snapshot, holds `Replica::moving` from the look at where it stands until it has moved: what is in it is passed over,
//! and it never goes back.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Instant;

use openraft::storage::EntryResponder;
use tokio::sync::oneshot;

use crate::domain::refusal::RefusalKind;
use crate::domain::{Refusal, Timestamp};
use crate::replication::operation::Operation;
use crate::services::group::types::Types;
use crate::services::ports::WriteAnswer;
use crate::storage::workers::{Bell, Patience, Running, Step, Worker, Workers};

use super::flusher::Flusher;
use super::replica::Replica;

/// An entry on its way from the log to its answer.
pub struct Proposal {
    /// The range it belongs to.
    pub replica: Arc<Replica>,
    /// Its index there.
    pub index: u64,
    /// The leader's time in it.
    pub time: Timestamp,
    /// What is asked.
    pub operation: Operation,
    /// Who waits for the answer.
    pub reply: Reply,
}

/// The answer to a write, and when the write was durable.
pub type Answered = (Result<WriteAnswer, Refusal>, Instant);

/// Who waits for the answer to a write, and for which one.
pub struct Reply {
    /// The waiting request; gone when its connection is.
    pub sender: oneshot::Sender<Answered>,
    /// Whether it is answered when durable, before it is applied.
    pub when_durable: bool,
}

/// Committed entries of a range's group, with who waits for each.
pub struct GroupBatch {
    /// The replica they are applied to.
    pub replica: Arc<Replica>,
    /// The entries, in order.
    pub entries: Vec<EntryResponder<Types>>,
    /// When they were known to be committed.
    pub committed: Instant,
    /// Told when all are applied, or why one could not be: then none after it was.
    pub done: oneshot::Sender<io::Result<()>>,
}

enum Work {
    /// Writes that were durable at this time.
    Proposals(Vec<Proposal>, Instant),
    Group(GroupBatch),
}

/// See the module's essay.
pub struct ApplyStage {
    lanes: Vec<(Sender<Work>, Bell)>,
    running: Vec<Running>,
}

impl ApplyStage {
    /// Starts `lanes` threads.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(lanes: usize, flusher: &Arc<Flusher>, workers: &Workers) -> std::io::Result<Self> {
        let mut stage = Self { lanes: Vec::new(), running: Vec::new() };
        for lane in 0..lanes.max(1) {
            let (sender, receiver) = channel();
            let bell = workers.bell();
            let worker = Lane { work: receiver, flusher: Arc::clone(flusher) };
            stage.running.push(workers.start(&format!("apply-{lane}"), &bell, worker)?);
            stage.lanes.push((sender, bell));
        }
        Ok(stage)
    }

    /// Takes a group that is durable, in log order.
    pub fn submit(&self, group: Vec<Proposal>) {
        let durable = Instant::now();
        for proposal in &group {
            proposal.replica.note_committed(proposal.index);
        }
        if self.lanes.len() == 1 {
            send(&self.lanes[0], Work::Proposals(group, durable));
            return;
        }
        let mut split: Vec<Vec<Proposal>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for proposal in group {
            let lane = proposal.replica.number as usize % self.lanes.len();
            split[lane].push(proposal);
        }
        for (lane, part) in self.lanes.iter().zip(split).filter(|(_, part)| !part.is_empty()) {
            send(lane, Work::Proposals(part, durable));
        }
    }

    /// Takes entries of a group that a majority has.
    pub fn submit_group(&self, batch: GroupBatch) {
        let lane = batch.replica.number as usize % self.lanes.len();
        send(&self.lanes[lane], Work::Group(batch));
    }

    /// Lets the threads finish what they have and waits for them.
    pub fn stop(self) {
        drop(self.lanes);
        for lane in self.running {
            if lane.join().is_err() {
                tracing::error!("an apply thread panicked");
            }
        }
    }
}

/// A closed lane means that the process is ending: whoever waits sees that what was sent is gone.
fn send((lane, bell): &(Sender<Work>, Bell), work: Work) {
    let _ = lane.send(work);
    bell.ring();
}

struct Lane {
    work: Receiver<Work>,
    flusher: Arc<Flusher>,
}

impl Worker for Lane {
    fn step(&mut self, patience: Patience) -> Step {
        let work = match patience {
            Patience::Wait => self.work.recv().map_err(|_| TryRecvError::Disconnected),
            Patience::Look | Patience::TimeIsUp => self.work.try_recv(),
        };
        match work {
            Ok(Work::Proposals(group, durable)) => {
                group.into_iter().for_each(|proposal| apply(proposal, durable, &self.flusher));
            }
            Ok(Work::Group(batch)) => {
                let applied = apply_batch(&batch.replica, batch.entries, batch.committed);
                if !batch.replica.is_closed() {
                    self.flusher.note_dirty(&batch.replica);
                }
                let _ = batch.done.send(applied);
            }
            Err(TryRecvError::Empty) => return Step::Idle(None),
            Err(TryRecvError::Disconnected) => return Step::Ended,
        }
        Step::Worked
    }
}

fn apply_batch(replica: &Replica, entries: Vec<EntryResponder<Types>>, committed: Instant) -> io::Result<()> {
    let _alone = replica.moving();
    let before = replica.group_applied();
    for (entry, responder) in entries {
        if Some(entry.log_id.index) <= before {
            // Another instance had it applied. Who waits for its outcome here hears that it is not known.
            continue;
        }
        // One that was closed is not to be believed: the range was read from disk anew, into another object.
        let reason = replica.damage().or_else(|| replica.is_closed().then(|| "the replica was closed".to_owned()));
        if let Some(reason) = reason {
            return Err(io::Error::other(reason));
        }
        let applied = replica.apply_in_group(&entry, committed).map_err(|error| {
            let reason = format!("entry {} of range {} cannot be applied: {error}", entry.log_id, replica.name.range);
            tracing::error!(range = %replica.name.range, replica = %replica.name.replica, "{reason}");
            replica.mark_damaged(reason.clone());
            io::Error::other(reason)
        })?;
        if let Some(responder) = responder {
            responder.send(applied);
        }
    }
    Ok(())
}

fn apply(proposal: Proposal, durable: Instant, flusher: &Flusher) {
    let Proposal { replica, index, time, operation, reply } = proposal;
    let mut waiting = Some(reply.sender);
    if reply.when_durable
        && let Some(sender) = waiting.take()
    {
        let _ = sender.send((Ok(WriteAnswer::Queued), durable));
    }
    let answer = match replica.damage() {
        Some(reason) => Err(Refusal::new(RefusalKind::OutcomeUnknown, reason)),
        None => replica.apply(index, time, &operation).map(WriteAnswer::Applied).map_err(|error| {
            let reason = format!("the range {} cannot be read: {error}", replica.name.range);
            tracing::error!(range = %replica.name.range, replica = %replica.name.replica, "{reason}");
            replica.mark_damaged(reason.clone());
            Refusal::new(
                RefusalKind::OutcomeUnknown,
                format!("{reason}. The write is in the log; its outcome is not known"),
            )
        }),
    };
    flusher.note_dirty(&replica);
    replica.settle();
    if let Some(sender) = waiting {
        // The client may have gone; the write stands all the same.
        let _ = sender.send((answer, durable));
    }
}
