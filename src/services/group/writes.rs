//! Writes: from an operation's bytes to the outcome that a majority made final.
//!
//! Whatever is answered is true of the whole group: an outcome is one that was applied after a majority had the entry;
//! "not here" and "not now" are said only where openraft refused the proposal before it had a place in the log; everything in
//! between is "unknown", also where the entry was cut off from this replica's log: another may have it and
//! may yet lead.
//!
//! While a split that was proposed here is under way no write is taken: it would stand behind it in the log, and not
//! be done. Who waits is told of the child afterwards. A write that stands behind a split all the same, proposed by
//! another leader, is told so when it is applied; it has not happened, and never will there.

use std::sync::Arc;

use bytes::Bytes;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use std::time::Duration;
use tokio::sync::RwLockReadGuard;
use tokio::time::Instant;

use super::append_times::Watch;
use super::awake::{Group, InUse, Metrics, Purpose, View};
use super::host::Groups;
use super::presence::Departure;
use super::timing::{HAND_OVER_WAIT, LEADER_WAIT, LEASE, OUTCOME_WAIT, SILENCE};
use super::types::{Applied, Proposed, Types};
use crate::domain::ids::{NodeId, RangeId, ReceiptId, ReplicaId};
use crate::domain::observed::Stage;
use crate::domain::{Refusal, RefusalKind};
use crate::services::observing;
use crate::services::ports::WriteAnswer;

/// How often a write that waits looks whether its leader is still one.
const LOOK: Duration = Duration::from_secs(1);

type Answer = OneshotReceiverOf<Types, ClientWriteResult<Types>>;

/// How a proposal ended.
enum Ended {
    /// It has an answer.
    With(Result<WriteAnswer, Refusal>),
    /// It has no place in the log.
    NotTaken(ForwardToLeader<Types>),
}

impl Groups {
    /// The range's group, awake for this purpose and led from this node; waits a while where no leader is known.
    ///
    /// # Errors
    /// `WrongNode` with the leader's node where another leads; `Unavailable` where nobody does.
    pub async fn leading(&self, range: RangeId, purpose: Purpose) -> Result<InUse, Refusal> {
        if let Some(node) = self.led_elsewhere(range) {
            return Err(elsewhere(Some(node)));
        }
        // A node that is gone does not hear any more who leads.
        let is_gone = *self.departure.lock() == Departure::Gone;
        let deadline = Instant::now() + if is_gone { Duration::ZERO } else { LEADER_WAIT };
        let group = self.wake(range, purpose).await?;
        let mut view = group.led(deadline).await;
        if !view.leads && self.is_gone(&group, &view) {
            // Its leader says nothing any more: another one is on the way.
            let term = view.term;
            group.until(deadline, |metrics| (metrics.current_term > term).then_some(())).await;
            view = group.led(deadline).await;
        }
        match (view.leads, view.leader) {
            (true, _) => Ok(group),
            (false, Some((_, node))) => Err(elsewhere(node)),
            (false, None) => Err(Refusal::unavailable("this part of the table has no leader at present", 1)),
        }
    }

    /// Whether the leader that is known has said nothing for so long that another one is on the way. One that has only just been
    /// elected is known before its first entries are synced here, so what was heard of its predecessor says nothing.
    fn is_gone(&self, group: &Group, view: &View) -> bool {
        let now = Instant::now();
        match group.heard_in(view.term) {
            Some(heard) => now > heard + SILENCE,
            None => view.leader_node().is_some_and(|node| self.presence.lock().is_silent(node, now)),
        }
    }

    /// The node that leads a group that sleeps here, where that node is there and is another.
    fn led_elsewhere(&self, range: RangeId) -> Option<NodeId> {
        let (_, node) = self.slots.lock().asleep(range)?.leader?;
        let is_there = !self.presence.lock().is_silent(node, Instant::now());
        (node != self.parts.node && is_there).then_some(node)
    }

    /// Writes an operation on a key with this hash, as its entry's bytes say it. With `when_durable` it is answered as soon as it is durable in
    /// this node's log; `receipt` is kept as queued meanwhile.
    ///
    /// # Errors
    /// `OutcomeUnknown` where it may or may not happen; else it has not happened and never will.
    pub async fn write(
        &self,
        group: InUse,
        hash: u32,
        payload: Bytes,
        receipt: Option<ReceiptId>,
        when_durable: bool,
    ) -> Result<WriteAnswer, Refusal> {
        let deadline = Instant::now() + LEADER_WAIT;
        let queued = Queued::begin(&group, receipt);
        let appends = observing::is_recorded().then(|| group.watch_appends());
        loop {
            let (responder, mut answer) = ProgressResponder::complete_only();
            {
                let _no_split = take_turn(&group, hash).await?;
                let proposed = group.raft.client_write_ff(Proposed(payload.clone()), Some(responder)).await;
                proposed.map_err(|_| ended())?;
            }
            if when_durable {
                tokio::select! {
                    biased;
                    first = outcome(&group, &mut answer, appends.as_ref()) => match first {
                        Ended::With(answer) => return answer,
                        Ended::NotTaken(forward) => lead_again(&group, &forward, deadline).await?,
                    },
                    () = durable(&group) => {
                        observing::lap(Stage::Commit);
                        self.spawn(async move {
                            let _ = answer.await;
                            drop((queued, group));
                        });
                        return Ok(WriteAnswer::Queued);
                    }
                }
            } else {
                match outcome(&group, &mut answer, appends.as_ref()).await {
                    Ended::With(answer) => return answer,
                    Ended::NotTaken(forward) => lead_again(&group, &forward, deadline).await?,
                }
            }
        }
    }
}

/// Takes the right to propose a write, before which no split can be proposed. Waits while one is under way.
async fn take_turn(group: &Group, hash: u32) -> Result<RwLockReadGuard<'_, ()>, Refusal> {
    let deadline = Instant::now() + OUTCOME_WAIT;
    loop {
        let turn = group.proposing.read().await;
        group.replica.check_split(hash)?;
        if !group.is_splitting() {
            return Ok(turn);
        }
        drop(turn);
        if !group.split_ended(deadline).await {
            return Err(Refusal::unavailable("this part of the table is being split; try again in a moment", 1));
        }
    }
}

/// A receipt that says "queued" as long as this is held.
struct Queued(Option<(Arc<Group>, ReceiptId)>);

impl Queued {
    fn begin(group: &Arc<Group>, receipt: Option<ReceiptId>) -> Self {
        Self(receipt.map(|receipt| {
            group.pending.lock().insert(receipt);
            (Arc::clone(group), receipt)
        }))
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some((group, receipt)) = &self.0 {
            group.pending.lock().remove(receipt);
        }
    }
}

/// How the proposal ended. Where its leader leads no more, or the outcome is long in coming, it is unknown.
async fn outcome(group: &Group, answer: &mut Answer, appends: Option<&Watch>) -> Ended {
    let deadline = Instant::now() + OUTCOME_WAIT;
    loop {
        match tokio::time::timeout(LOOK, &mut *answer).await {
            Ok(Ok(Ok(response))) => {
                return Ended::With(match response.data {
                    Applied::Outcome(outcome, committed) => {
                        note_stages(response.log_id.index, committed, appends);
                        Ok(WriteAnswer::Applied(outcome))
                    }
                    Applied::Moved(to) => Err(Refusal::moved(to)),
                    Applied::Nothing | Applied::Split(_) => {
                        Err(Refusal::internal("a write was applied as if it were none"))
                    }
                });
            }
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(forward)))) => return Ended::NotTaken(forward),
            Ok(Ok(Err(ClientWriteError::LogEntryDiscarded(_))) | Err(_)) => return Ended::With(Err(unknown())),
            Ok(Ok(Err(error))) => return Ended::With(Err(Refusal::internal(format!("a write was refused: {error}")))),
            Err(_) if !group.view().leads || Instant::now() >= deadline => return Ended::With(Err(unknown())),
            Err(_) => {}
        }
    }
}

/// How long it took until the entry was committed, what its members did meanwhile, and how long until it was applied.
fn note_stages(index: u64, committed: std::time::Instant, appends: Option<&Watch>) {
    let commit = observing::lap_until(Stage::Commit, Some(committed));
    for (replica, appended) in appends.into_iter().flat_map(|appends| appends.of(index)) {
        observing::replica_appended(commit, replica, (appended.sent, appended.answered));
    }
    observing::lap(Stage::Apply);
}

/// Waits until all that was proposed before is durable in this node's log; for ever where this replica leads no more.
async fn durable(group: &Group) {
    if was_made_durable(group).await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn was_made_durable(group: &Group) -> Option<()> {
    // Behind the proposal in openraft's queue; what is published from then on counts it.
    group.raft.with_raft_state(|_| ()).await.ok()?;
    let mut metrics = group.raft.metrics();
    drop(metrics.borrow_and_update());
    metrics.changed().await.ok()?;
    let (term, last, leads) =
        group.look(|metrics| (metrics.current_term, metrics.last_log_index, group_leads(metrics)));
    if !leads {
        return None;
    }
    let mut progress = group.raft.watch_log_progress();
    let point = progress.wait_until(|point| {
        point.as_ref().is_some_and(|point| {
            let index = point.last_log_id.as_ref().map(|id| id.index);
            point.vote.leader_id.term > term || point.vote.leader_id.term == term && index >= last
        })
    });
    let point = point.await.ok()??;
    (point.vote.leader_id.term == term).then_some(())
}

fn group_leads(metrics: &Metrics) -> bool {
    metrics.running_state.is_ok() && metrics.current_leader == Some(metrics.id)
}

/// After a proposal that was not taken: returns where it may be made again.
async fn lead_again(group: &Group, forward: &ForwardToLeader<Types>, deadline: Instant) -> Result<(), Refusal> {
    match forward.reason {
        ForwardReason::NotLeader => Err(elsewhere(group.view().leader_node())),
        ForwardReason::LeadershipTransfer => {
            let deadline = deadline.min(Instant::now() + HAND_OVER_WAIT);
            let next = group.until(deadline, |metrics| {
                let is_handing_over = group.is_handing_over(metrics.current_term);
                is_led_anew(is_handing_over, metrics.current_leader).then_some(())
            });
            next.await;
            let view = group.view();
            Err(elsewhere(view.leader_node().filter(|_| !view.leads)))
        }
        ForwardReason::LeaseExpired => {
            // It has only just woken, or lost the others: it asks them, and waits for a majority.
            let _ = group.raft.trigger().heartbeat().await;
            let sure = group.until(deadline, |metrics| {
                let is_sure = metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < LEASE);
                (!group_leads(metrics) || is_sure).then(|| group_leads(metrics))
            });
            match sure.await {
                Some(true) => Ok(()),
                Some(false) => Err(elsewhere(group.view().leader_node())),
                None => Err(Refusal::unavailable(
                    "this part of the table reaches no majority of its replicas at present",
                    1,
                )),
            }
        }
    }
}

/// Whether there is another leader than the one that hands over. By the time this is asked for the first time the term may be the next
/// leader's already, so one does not wait for yet another.
fn is_led_anew(is_handing_over_in_this_term: bool, leader: Option<ReplicaId>) -> bool {
    leader.is_some() && !is_handing_over_in_this_term
}

/// Another node leads.
pub(super) fn elsewhere(leader: Option<NodeId>) -> Refusal {
    Refusal::wrong_node("another node leads this part of the table", leader)
}

/// openraft has ended.
pub(super) fn ended() -> Refusal {
    Refusal::unavailable("this part of the table is being started again at this node; try again in a moment", 1)
}

pub(super) fn unknown() -> Refusal {
    Refusal::new(
        RefusalKind::OutcomeUnknown,
        "the leader of this part of the table changed, or reached no majority, while the write was under way: ask again under the same Idempotency-Key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_of_a_later_term_is_the_next_one_whenever_one_begins_to_wait_for_it() {
        let next = Some(ReplicaId::from_bytes([2; 16]));
        assert!(is_led_anew(false, next), "also where it leads already when one begins");
        assert!(!is_led_anew(false, None), "the next term, and nobody elected yet");
        assert!(!is_led_anew(true, Some(ReplicaId::from_bytes([1; 16]))), "the one that hands over");
    }
}
