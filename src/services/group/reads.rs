//! Reads: which replica may answer, and when.
//!
//! A strong read is answered by the leader. Where its lease holds before the data is read and after, nobody else has led
//! meanwhile, and no message is needed. Else a majority is asked whether it still follows (a read index). Readers
//! that come at the same time share a round: openraft sends one heartbeat for all that wait.
//!
//! An eventual read is answered by any member that has heard its leader lately, or sleeps while the node of its leader is
//! there. It shows what is applied, which may lag; a replica that is still being filled shows nothing.

use std::sync::Arc;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::Instant;

use super::awake::{Group, Purpose};
use super::host::Groups;
use super::timing::{LEADER_WAIT, LEASE};
use super::writes::{elsewhere, ended};
use crate::domain::Refusal;
use crate::domain::ids::{RangeId, ReceiptId};
use crate::domain::mutation::{Mutation, is_on};
use crate::services::engine::replica::Replica;

impl Groups {
    /// Reads what is up to date. `read` may be called twice.
    ///
    /// # Errors
    /// As [`Groups::leading`], and those of `read`.
    pub async fn strongly<T, F>(&self, range: RangeId, read: impl Fn(Arc<Replica>) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let group = self.leading(range, Purpose::Request).await?;
        if is_on(Mutation::ReadWithoutLease) {
            return read(Arc::clone(&group.replica)).await;
        }
        if group.holds_lease() {
            let found = read(Arc::clone(&group.replica)).await?;
            if group.holds_lease() {
                return Ok(found);
            }
        }
        confirm(&group).await?;
        read(Arc::clone(&group.replica)).await
    }

    /// Waits until this node may answer from what `replica` has applied, however much that lags.
    ///
    /// # Errors
    /// `WrongNode` or `Unavailable` where the replica does not know how much that is.
    pub async fn eventually(&self, replica: &Replica) -> Result<(), Refusal> {
        let range = replica.name.range;
        // One that was opened anew since its group fell asleep may have less than it had then.
        let asleep = self.slots.lock().asleep(range).filter(|asleep| asleep.number == replica.number);
        if let Some((_, node)) = asleep.and_then(|asleep| asleep.leader)
            && (node == self.parts.node || !self.presence.lock().is_silent(node, Instant::now()))
        {
            return shows_something(replica);
        }
        let group = self.wake(range, Purpose::Request).await?;
        let deadline = Instant::now() + LEADER_WAIT;
        let knows = |group: &Group| {
            let now = Instant::now();
            let heard = group.heard().is_some_and(|heard| now < heard + LEASE);
            heard || group.holds_lease()
        };
        // openraft publishes something after each message that it takes.
        group.until(deadline, |_| knows(&group).then_some(())).await;
        if knows(&group) { shows_something(replica) } else { Err(elsewhere(group.view().leader_node())) }
    }

    /// Whether a write under this receipt is on its way here.
    pub fn is_queued(&self, range: RangeId, receipt: ReceiptId) -> bool {
        self.slots.lock().awake(range).is_some_and(|group| group.pending.lock().contains(&receipt))
    }
}

/// Whether the replica has been filled. Only after its group was awake: then this costs nothing.
fn shows_something(replica: &Replica) -> Result<(), Refusal> {
    let machine = replica.machine_state().map_err(|_| ended())?;
    let is_member = machine.is_some_and(|machine| machine.membership.members.contains_key(&replica.name.replica));
    if is_member { Ok(()) } else { Err(elsewhere(None)) }
}

/// Asks a majority whether this replica still leads, and waits until it has applied all that was committed when it was
/// asked.
async fn confirm(group: &Group) -> Result<(), Refusal> {
    let not_sure = || Refusal::unavailable("this part of the table reaches no majority of its replicas at present", 1);
    let linearizer = match group.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => linearizer,
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
            let view = group.view();
            return Err(elsewhere(view.leader_node().filter(|_| !view.leads)));
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => return Err(not_sure()),
        Err(RaftError::Fatal(_)) => return Err(ended()),
    };
    match linearizer.try_await_ready(&group.raft, Some(LEADER_WAIT)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(not_sure()),
        Err(_) => Err(ended()),
    }
}
