//! A split, by the leader of the range's group: it is put into the log as an entry like a write, and decided when it is
//! applied ([`crate::replication::split::check`]).
//!
//! Before it is proposed, this replica stops taking writes and reading by its lease ([`Group::set_splitting`]), until it
//! has applied the split or knows that it never will. Both because the other members may be quicker: they make the children,
//! which may elect a leader and take writes while this replica still copies. A write that was taken here meanwhile would not
//! be done; a read would be old. A later leader needs no such care: it reads by its lease only once an entry of its own term
//! is applied, and that stands behind the split.
//!
//! A child begins without a leader. The member beside the parent's leader asks to be elected at once, and again every
//! [`ASK_PAUSE`] for a while: the others may still be copying, and a group that waits for its election's time each time
//! would be away for longer than the copying took.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::awake::{Group, InUse, Purpose};
use super::convert::membership_of;
use super::host::Groups;
use super::ports::SplitOperations;
use super::types::{Applied, Proposed};
use super::writes::{elsewhere, ended};
use crate::domain::ids::RangeId;
use crate::domain::{Refusal, RefusalKind};
use crate::replication::command::Command;
use crate::replication::split::{Split, SplitRefused, check};

/// How often whoever waits for a split looks whether its leader is still one.
const LOOK: Duration = Duration::from_secs(1);
/// The pause between two attempts to lead a child that has no leader yet.
const ASK_PAUSE: Duration = Duration::from_millis(150);
/// How long it is attempted.
const ASK_TIME: Duration = Duration::from_secs(30);

#[async_trait]
impl SplitOperations for Groups {
    async fn split(&self, range: RangeId, split: Split) -> Result<(), Refusal> {
        let group = self.leading(range, Purpose::Upkeep).await?;
        self.split_led(group, split).await
    }
}

impl Groups {
    /// Splits a range that is led here.
    async fn split_led(&self, group: InUse, split: Split) -> Result<(), Refusal> {
        let range = group.replica.name.range;
        if let Some(done) = group.replica.split() {
            return if done.split == split { Ok(()) } else { Err(refused(SplitRefused::Done)) };
        }
        let membership = group.look(|metrics| membership_of(metrics.membership_config.membership()));
        check(&split, range, group.replica.hashes, &membership, None).map_err(refused)?;
        if self.parts.engine.is_near_full() {
            let message = "this node's disk is nearly full, and until a split is done its range takes its room a second time: \
                           free space, or move the range first";
            return Err(Refusal::unavailable(message, 60));
        }
        let (responder, answer) = ProgressResponder::complete_only();
        {
            let _no_write_is_proposed = group.proposing.write().await;
            if group.is_splitting() {
                return Err(Refusal::conflict("the range is being split already"));
            }
            group.set_splitting(true);
            let proposed = Proposed(Command::Split(split.clone()).encode());
            if group.raft.client_write_ff(proposed, Some(responder)).await.is_err() {
                group.set_splitting(false);
                return Err(ended());
            }
        }
        tracing::info!(%range, at = split.at, "the split of a range was proposed");
        let (told, outcome) = oneshot::channel();
        let Some(me) = self.me() else { return Err(ended()) };
        // A task of its own: who asked may go away, and the range must not stay as it is then.
        self.spawn(async move {
            let outcome = split_outcome(&group, answer).await;
            if outcome.is_ok() {
                for child in [split.lower, split.upper] {
                    me.wake_later(child);
                    // One that is alone has no group that would tell.
                    me.tell_change(child);
                }
            }
            group.set_splitting(false);
            let _ = told.send(outcome);
        });
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }
}

type Answer = openraft::type_config::alias::OneshotReceiverOf<
    super::types::Types,
    openraft::raft::ClientWriteResult<super::types::Types>,
>;

/// How a split that was proposed has ended. Waits for as long as this replica leads: it is applied when the range is copied.
async fn split_outcome(group: &Group, mut answer: Answer) -> Result<(), Refusal> {
    loop {
        match tokio::time::timeout(LOOK, &mut answer).await {
            Ok(Ok(Ok(response))) => {
                return match response.data {
                    Applied::Split(outcome) => outcome.map_err(refused),
                    _ => Err(Refusal::internal("a split was applied as if it were none")),
                };
            }
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(_)))) => return Err(elsewhere(group.view().leader_node())),
            Ok(Ok(Err(ClientWriteError::LogEntryDiscarded(_))) | Err(_)) => return Err(unknown()),
            Ok(Ok(Err(error))) => return Err(Refusal::internal(format!("a split was refused: {error}"))),
            Err(_) if !group.view().leads => return Err(unknown()),
            Err(_) => {}
        }
    }
}

/// Asks to lead a child that nobody leads, again and again for a while.
pub(super) async fn ask_to_lead(group: Arc<Group>) {
    let deadline = Instant::now() + ASK_TIME;
    while Instant::now() < deadline {
        if group.raft.trigger().elect(true).await.is_err() {
            return;
        }
        let wait = deadline.min(Instant::now() + ASK_PAUSE);
        if group.until(wait, |metrics| metrics.current_leader.map(|_| ())).await.is_some() {
            return;
        }
    }
}

impl Groups {
    /// Whether this range is a child of one that this node has a copy of.
    pub(super) fn is_child(&self, range: RangeId) -> bool {
        self.parts.engine.origin_of(range).is_some()
    }
}

fn refused(reason: SplitRefused) -> Refusal {
    Refusal::conflict(format!("the range was not split: {reason}"))
}

fn unknown() -> Refusal {
    Refusal::new(
        RefusalKind::OutcomeUnknown,
        "the leader of the range changed while it was being split: look at its ranges before asking again",
    )
}
