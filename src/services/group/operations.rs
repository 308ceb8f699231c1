//! Changes to a group, by its leader: members, voters, and who leads.
//!
//! A hand-over ends the leader's reads by its lease before openraft hears of it, and for the rest of the term, also where it
//! comes to nothing: the members were told that they may vote although the lease is not over. So openraft's
//! own hand-over, by a leader that was removed from its group, is turned off; a leader is never removed here, it is to
//! hand over first.
//!
//! In that term openraft takes no write any more either, and says nothing to the members. Those that are awake miss their
//! leader, and elect one after the lease. Those that sleep miss nothing, for the node of their leader is there: they may have
//! agreed to that just before, and if the word of the hand-over is lost on its way to them, nobody ever takes a write again.
//! So a leader that nobody has relieved after [`HAND_OVER_END`] ends, and is woken anew: then it leads no more, and asks for
//! votes, which wakes the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::awake::{Group, Metrics, Purpose};
use super::convert::{membership_of, place_of};
use super::host::Groups;
use super::ports::{GroupOperations, GroupStatus};
use super::timing::{HAND_OVER_END, HAND_OVER_WAIT, OUTCOME_WAIT};
use super::types::Types;
use super::writes::{elsewhere, ended};
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};

type Changed = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

#[async_trait]
impl GroupOperations for Groups {
    fn status(&self, range: RangeId) -> Option<GroupStatus> {
        let (awake, asleep) = {
            let slots = self.slots.lock();
            (slots.awake(range), slots.asleep(range))
        };
        if let Some(group) = awake {
            return Some(group.look(|metrics| status_of(&group, metrics)));
        }
        let replica = self.parts.engine.replica_of(range).filter(|replica| replica.is_grouped())?;
        let machine = replica.machine_state().ok().flatten().unwrap_or_default();
        let applied = replica.applied_index();
        let leader = asleep.and_then(|asleep| asleep.leader).map(|(leader, _)| leader);
        // A group falls asleep together only where all members have all entries.
        let is_even = asleep.is_some_and(|asleep| asleep.agreed) && leader == Some(replica.name.replica);
        let others = machine.membership.members.keys().filter(|member| **member != replica.name.replica);
        let matched = others.filter(|_| is_even).map(|member| (*member, applied)).collect();
        Some(GroupStatus {
            range,
            replica: replica.name.replica,
            term: asleep.map_or(0, |asleep| asleep.term),
            leader,
            is_leader: leader == Some(replica.name.replica),
            is_awake: false,
            membership: machine.membership,
            membership_at: machine.membership_at,
            last_index: applied,
            committed: applied,
            applied,
            matched,
        })
    }

    fn changes(&self) -> broadcast::Receiver<RangeId> {
        self.subscribe()
    }

    async fn add_learner(&self, range: RangeId, replica: ReplicaId, node: NodeId) -> Result<(), Refusal> {
        let group = self.leading(range, Purpose::Upkeep).await?;
        if group.look(|metrics| metrics.membership_config.get_node(&replica).is_some()) {
            return Ok(());
        }
        check_whole(&group)?;
        settle(&group, group.raft.add_learner(replica, node, false)).await
    }

    async fn change_voters(&self, range: RangeId, voters: BTreeSet<ReplicaId>) -> Result<(), Refusal> {
        let group = self.leading(range, Purpose::Upkeep).await?;
        check_whole(&group)?;
        if !voters.contains(&group.member()) {
            return Err(Refusal::conflict("the leader cannot leave its group: hand leadership over first"));
        }
        let (is_done, strangers) = group.look(|metrics| {
            let membership = metrics.membership_config.membership();
            let strangers = voters.iter().filter(|voter| membership.get_node(voter).is_none()).count();
            (*membership.get_joint_config() == [voters.clone()], strangers)
        });
        if strangers > 0 {
            return Err(Refusal::conflict(
                "a voter must be a member of the group already: take it in as a learner first",
            ));
        }
        if !is_done {
            settle(&group, group.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters.clone()), false))
                .await?;
        }
        let learners: BTreeSet<ReplicaId> =
            group.look(|metrics| metrics.membership_config.membership().learner_ids().collect());
        if learners.is_empty() {
            return Ok(());
        }
        settle(&group, group.raft.change_membership(ChangeMembers::RemoveNodes(learners), false)).await
    }

    async fn hand_over(&self, range: RangeId, to: ReplicaId) -> Result<(), Refusal> {
        let group = self.leading(range, Purpose::Upkeep).await?;
        if to == group.member() {
            return Ok(());
        }
        let term = until_near(&group, to).await?;
        let attempt = group.begin_hand_over(term);
        self.end_unless_relieved(range, &group, term, attempt);
        group.raft.trigger().transfer_leader(to).await.map_err(|_| ended())?;
        until_relieved(&group, to, term).await
    }
}

impl Groups {
    /// Ends this leader, which hands over in this term, and wakes it anew where nobody relieves it. Where another attempt was
    /// begun meanwhile, that one's time counts.
    fn end_unless_relieved(&self, range: RangeId, group: &Arc<Group>, term: u64, attempt: u64) {
        let Some(me) = self.me() else { return };
        let (group, deadline) = (Arc::clone(group), Instant::now() + HAND_OVER_END);
        // A task of its own: who asked for the hand-over may go away, and the range must not stay as it is then.
        self.spawn(async move {
            group.until(deadline, |metrics| (metrics.current_term > term).then_some(())).await;
            // What is published says nothing new while openraft waits for its disk, and its end would wait for that, too: so
            // it is asked, and answers when it goes on. An error says that it has ended.
            let asked = group.raft.with_raft_state(|state| state.vote_ref().leader_id.term).await;
            let is_relieved = !asked.is_ok_and(|now| now == term) || !group.view().leads;
            if is_relieved || !group.is_last_hand_over(attempt) {
                return;
            }
            if me.end_group(range, &group).await {
                tracing::warn!(%range, term, "nobody has taken leadership over: the group begins anew");
                me.wake_later(range);
            }
        });
    }
}

/// Waits until a voter has nearly all that this leader has; the term.
async fn until_near(group: &Group, to: ReplicaId) -> Result<u64, Refusal> {
    let deadline = Instant::now() + HAND_OVER_WAIT;
    let is_voter = group.look(|metrics| metrics.membership_config.voter_ids().any(|voter| voter == to));
    if !is_voter {
        return Err(Refusal::conflict("leadership goes only to a voter of the group"));
    }
    // No write is taken while it is handed over, so it is not begun before the other is nearly there.
    let is_near = group.until(deadline, |metrics| {
        let matched = metrics.replication.as_ref()?.get(&to)?.as_ref()?.index;
        (matched + NEAR >= metrics.last_log_index?).then_some(metrics.current_term)
    });
    is_near.await.ok_or_else(|| Refusal::unavailable("that replica is too far behind to lead", 1))
}

/// Waits until somebody else leads in a later term than this one.
async fn until_relieved(group: &Group, to: ReplicaId, term: u64) -> Result<(), Refusal> {
    let deadline = Instant::now() + HAND_OVER_WAIT;
    let next = group.until(deadline, |metrics| {
        metrics.current_leader.filter(|leader| metrics.current_term > term && *leader != group.member())
    });
    match next.await {
        Some(leader) if leader == to => Ok(()),
        Some(_) => Err(Refusal::unavailable("another replica has taken leadership", 1)),
        None => Err(Refusal::unavailable("that replica did not take leadership in time", 1)),
    }
}

/// Entries that a replica may lack when leadership is handed to it.
const NEAR: u64 = 64;

/// Waits for a change to be committed.
async fn settle(group: &Group, change: impl Future<Output = Changed>) -> Result<(), Refusal> {
    let busy = |message: &str| Err(Refusal::unavailable(message, 1));
    match tokio::time::timeout(OUTCOME_WAIT, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(error))) => match error {
            ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
                let view = group.view();
                Err(elsewhere(view.leader_node().filter(|_| !view.leads)))
            }
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                busy("another change of the group's members is under way")
            }
            other => Err(Refusal::conflict(format!("the group's members cannot be changed so: {other}"))),
        },
        Ok(Err(RaftError::Fatal(_))) => Err(ended()),
        Err(_) => busy("the change of the group's members was not committed in time"),
    }
}

/// That the range was not split: its group changes no more.
fn check_whole(group: &Group) -> Result<(), Refusal> {
    match group.replica.split() {
        Some(_) => Err(Refusal::conflict("the range was split; its members change no more")),
        None => Ok(()),
    }
}

fn status_of(group: &Group, metrics: &Metrics) -> GroupStatus {
    let membership = &metrics.membership_config;
    let index = |id: Option<u64>| id.unwrap_or_default();
    let matched = metrics.replication.iter().flatten().filter(|(member, _)| **member != group.member());
    GroupStatus {
        range: group.replica.name.range,
        replica: group.member(),
        term: metrics.current_term,
        leader: metrics.current_leader,
        is_leader: metrics.running_state.is_ok() && metrics.current_leader == Some(group.member()),
        is_awake: true,
        membership: membership_of(membership.membership()),
        membership_at: membership.log_id().as_ref().map(place_of).unwrap_or_default(),
        last_index: index(metrics.last_log_index),
        committed: index(metrics.local_committed.as_ref().map(|id| id.index)),
        applied: index(metrics.last_applied.as_ref().map(|id| id.index)),
        matched: matched.map(|(member, id)| (*member, index(id.as_ref().map(|id| id.index)))).collect(),
    }
}
