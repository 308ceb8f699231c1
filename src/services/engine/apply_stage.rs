//! The apply stage: committed entries come in groups from the commit log's thread and are applied by
//! a few threads of their own, so that a slow read of one range's file neither holds up the log nor
//! an async worker. A range always goes to the same thread, which keeps its entries in order.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::domain::refusal::RefusalKind;
use crate::domain::{Refusal, Timestamp};
use crate::replication::operation::Operation;
use crate::services::ports::WriteAnswer;

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

/// Who waits for the answer to a write, and for which one.
pub struct Reply {
    /// The waiting request; gone when its connection is.
    pub sender: oneshot::Sender<Result<WriteAnswer, Refusal>>,
    /// Whether it is answered when durable, before it is applied.
    pub when_durable: bool,
}

/// See the module's essay.
pub struct ApplyStage {
    lanes: Vec<Sender<Vec<Proposal>>>,
    threads: Vec<JoinHandle<()>>,
}

impl ApplyStage {
    /// Starts `lanes` threads.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(lanes: usize, flusher: &Arc<Flusher>) -> std::io::Result<Self> {
        let mut stage = Self { lanes: Vec::new(), threads: Vec::new() };
        for lane in 0..lanes.max(1) {
            let (sender, receiver) = channel();
            let flusher = Arc::clone(flusher);
            let thread =
                std::thread::Builder::new().name(format!("apply-{lane}")).spawn(move || run(&receiver, &flusher))?;
            stage.lanes.push(sender);
            stage.threads.push(thread);
        }
        Ok(stage)
    }

    /// Takes a group that is durable, in log order.
    pub fn submit(&self, group: Vec<Proposal>) {
        for proposal in &group {
            proposal.replica.note_committed(proposal.index);
        }
        if self.lanes.len() == 1 {
            // A closed lane means that the process is ending: whoever waits sees the reply dropped.
            let _ = self.lanes[0].send(group);
            return;
        }
        let mut split: Vec<Vec<Proposal>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for proposal in group {
            let lane = proposal.replica.number as usize % self.lanes.len();
            split[lane].push(proposal);
        }
        for (lane, part) in self.lanes.iter().zip(split).filter(|(_, part)| !part.is_empty()) {
            let _ = lane.send(part);
        }
    }

    /// Lets the threads finish what they have and waits for them.
    pub fn stop(self) {
        drop(self.lanes);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("an apply thread panicked");
            }
        }
    }
}

fn run(receiver: &Receiver<Vec<Proposal>>, flusher: &Flusher) {
    while let Ok(group) = receiver.recv() {
        for proposal in group {
            apply(proposal, flusher);
        }
    }
}

fn apply(proposal: Proposal, flusher: &Flusher) {
    let Proposal { replica, index, time, operation, reply } = proposal;
    let mut waiting = Some(reply.sender);
    if reply.when_durable
        && let Some(sender) = waiting.take()
    {
        let _ = sender.send(Ok(WriteAnswer::Queued));
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
    if let Some(sender) = waiting {
        // The client may have gone; the write stands all the same.
        let _ = sender.send(answer);
    }
}
