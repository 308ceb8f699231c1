//! What replicas of a group say to each other about their digests: the leader has one made at a place, asks each member for
//! it, and tells a member that its own is not the majority's.
//!
//! A question is answered from what the engine's replica knows, whether the group is awake here or not, and wakes nobody.
//! A member believes its leader's node that it differs only about a place at which it has made a digest itself; what it
//! does about it is its own business ([`crate::services::scrubbing`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::domain::{Refusal, Timestamp};
use crate::replication::command::Command;
use crate::replication::machine_state::LogPlace;
use crate::services::engine::DigestState;
use crate::services::engine::replica::Replica;

use super::awake::Purpose;
use super::convert::place_of;
use super::host::Groups;
use super::questions::{Between, Unanswered};
use super::timing::OUTCOME_WAIT;
use super::types::Proposed;
use super::wire::{Envelope, Message};
use super::writes::{ended, unknown};

/// How long an answer about a digest may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// A replica on this node that was told that it differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldToDiffer {
    /// The range.
    pub range: RangeId,
    /// The replica.
    pub replica: ReplicaId,
    /// Where.
    pub parts: BTreeSet<u16>,
}

impl Groups {
    /// Has all members of a group led from this node pin their state at the same place, and digest it. Where.
    ///
    /// # Errors
    /// As for a write.
    pub async fn propose_digest(&self, range: RangeId, now: Timestamp) -> Result<LogPlace, Refusal> {
        let group = self.leading(range, Purpose::Upkeep).await?;
        let proposed = group.raft.client_write(Proposed(Command::Digest(now).encode()));
        match tokio::time::timeout(OUTCOME_WAIT, proposed).await {
            Ok(Ok(written)) => Ok(place_of(&written.log_id)),
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(unknown()),
        }
    }

    /// What a member of a group says about its digest at a place.
    ///
    /// # Errors
    /// Where it does not answer; one of a release that knows no digests does not either.
    pub async fn ask_digest(&self, between: Between, place: LogPlace) -> Result<DigestState, Unanswered> {
        match self.parts.networks.ask(between, Message::Digest(place), ANSWER_WAIT).await? {
            Message::DigestAnswer(state) => Ok(state),
            _ => Err(Unanswered::Senseless),
        }
    }

    /// Tells a member that its digest at a place differs.
    ///
    /// # Errors
    /// Where it is not known to have heard it.
    pub async fn tell_difference(
        &self,
        between: Between,
        place: LogPlace,
        parts: &BTreeSet<u16>,
    ) -> Result<(), Unanswered> {
        let told = Message::Differs { place, parts: parts.iter().copied().collect() };
        self.parts.networks.ask(between, told, ANSWER_WAIT).await.map(|_| ())
    }

    /// Replicas on this node that were told that they differ, since the last call.
    pub fn take_told_to_differ(&self) -> Vec<ToldToDiffer> {
        std::mem::take(&mut self.told_to_differ.lock())
    }

    /// Answers a question about a digest, where it is one. False: it is another question.
    pub(super) fn answer_about_digest(&self, from: NodeId, question: &Envelope) -> bool {
        let state = match &question.message {
            Message::Digest(place) => {
                self.asked_replica(from, question).map_or(DigestState::Working, |replica| replica.digest_at(*place))
            }
            Message::Differs { place, parts } => {
                let replica = self.asked_replica(from, question);
                let known = replica.filter(|replica| matches!(replica.digest_at(*place), DigestState::Ready(_)));
                if let Some(replica) = known {
                    let (range, parts) = (question.range, parts.iter().copied().collect());
                    self.told_to_differ.lock().push(ToldToDiffer { range, replica: replica.name.replica, parts });
                }
                DigestState::Missed
            }
            _ => return false,
        };
        self.parts.networks.answer(from, question.asked(), Message::DigestAnswer(state));
        true
    }

    /// The replica that is asked, where the one who asks is a member of its group and on that node.
    pub(super) fn asked_replica(&self, from: NodeId, question: &Envelope) -> Option<Arc<Replica>> {
        let replica = self.parts.engine.group_replica(question.range)?;
        let membership = replica.known_membership()?;
        let is_meant = replica.name.replica == question.to && membership.members.get(&question.from) == Some(&from);
        is_meant.then_some(replica)
    }
}
