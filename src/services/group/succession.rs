//! Who leads next, where the node of a leader has fallen silent.
//!
//! A group that is awake would notice it by itself: heartbeats end, and after a lease and a random time more its members campaign.
//! The random time is there because they do not know of each other. Here it is not needed: silence of a node is noticed for all
//! its groups at once, and each member knows which other voters' nodes are there. So they stand one after the other, in the order of their ids,
//! the first as soon as nobody is bound by a promise any more; the next one only if nothing has come of that.
//!
//! Two may campaign at once all the same: a vote takes a sync, and where a thousand groups look for leaders at the same time that is longer than
//! a turn. Each has voted for itself then, nobody is elected, and the random times after which they try again are short beside such
//! syncs: it may happen several times in a row. So who campaigns says no to the question of one behind it in the line, before
//! that one has a term of its own: the first of them is alone the next time.
//!
//! Nothing here makes a leader: a member asks whether it would be elected, and those who heard the leader within a lease say no.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::raft::{VoteRequest, VoteResponse};
use tokio::time::Instant;

use super::awake::{Group, Metrics};
use super::convert::place_of;
use super::host::Groups;
use super::timing::LEASE;
use super::types::Types;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::replication::machine_state::LogPlace;

/// Behind the lease: others may have heard the leader a little later, or count from a little later.
const GUARD: Duration = Duration::from_millis(50);
/// How long the next one waits for the one before it: an election takes some messages and a sync.
const TURN: Duration = Duration::from_millis(300);

/// The place of a member among the voters that may lead next; none where it is none of them.
fn place_in_line(member: ReplicaId, voters: &BTreeSet<ReplicaId>, is_gone: impl Fn(&ReplicaId) -> bool) -> Option<u32> {
    if !voters.contains(&member) {
        return None;
    }
    Some(voters.iter().take_while(|voter| **voter < member).filter(|voter| !is_gone(voter)).count() as u32)
}

/// How a member stands that asks, or is asked, whether it would be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidacy {
    member: ReplicaId,
    /// The last entry of its log.
    last: Option<LogPlace>,
}

impl Candidacy {
    /// Whether this one, which campaigns, is to be elected rather than the other: it comes before it in the line, and lacks nothing that
    /// the other has.
    fn comes_before(&self, other: &Candidacy) -> bool {
        let place = |candidacy: &Candidacy| candidacy.last.map(|last| (last.term, last.index));
        self.member < other.member && place(self) >= place(other)
    }
}

/// The no to a member that asks whether it would be elected, where this one campaigns and comes before it.
pub(super) fn stands_before(
    group: &Group,
    asker: ReplicaId,
    request: &VoteRequest<Types>,
) -> Option<VoteResponse<Types>> {
    if !group.look(|metrics| metrics.state == ServerState::Candidate) {
        return None;
    }
    let last = group.replica.group_log().ok()?.bounds().1;
    let own = Candidacy { member: group.member(), last: last.as_ref().map(place_of) };
    let other = Candidacy { member: asker, last: request.last_log_id.as_ref().map(place_of) };
    own.comes_before(&other).then(|| VoteResponse::new(group.look(|metrics| metrics.vote), last, false))
}

impl Groups {
    /// The groups that are awake and were led from this node look for another leader.
    pub(super) fn stand_for(&self, node: NodeId) {
        for (range, group) in self.slots.lock().all_awake() {
            let view = group.view();
            if view.leads || view.leader_node() != Some(node) {
                continue;
            }
            let (Some(heard), Some(place)) = (group.heard(), self.place_of(&group)) else { continue };
            let at = group.quiet_until.max(heard + LEASE) + GUARD + TURN * place;
            self.spawn(stand(range, group, view.term, at));
        }
    }

    fn place_of(&self, group: &Group) -> Option<u32> {
        let (presence, now) = (self.presence.lock(), Instant::now());
        group.look(|metrics: &Metrics| {
            let membership = metrics.membership_config.membership();
            let voters = membership.voter_ids().collect();
            let node = |voter: &ReplicaId| membership.get_node(voter).copied();
            place_in_line(group.member(), &voters, |voter| {
                *voter != group.member() && node(voter).is_none_or(|node| presence.is_silent(node, now))
            })
        })
    }
}

async fn stand(range: RangeId, group: Arc<Group>, term: u64, at: Instant) {
    let is_over = |metrics: &Metrics| (metrics.current_term > term).then_some(());
    if group.until(at, is_over).await.is_some() || group.view().is_stopped {
        return;
    }
    // It is there after all.
    if group.heard().is_some_and(|heard| heard + LEASE > Instant::now()) {
        return;
    }
    tracing::debug!(%range, "a group whose leader is silent looks for another");
    if let Err(error) = group.raft.trigger().elect(true).await {
        tracing::debug!(%error, "a group ended before it campaigned");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(number: u8) -> ReplicaId {
        ReplicaId::from_bytes([number; 16])
    }

    #[test]
    fn of_two_that_campaign_one_gives_way_and_never_both() {
        let places = [None, Some((1, 5)), Some((2, 4)), Some((2, 5))];
        let place = |at: Option<(u64, u64)>| at.map(|(term, index)| LogPlace { term, index });
        for (first, second) in places.iter().flat_map(|first| places.iter().map(move |second| (*first, *second))) {
            let lower = Candidacy { member: replica(1), last: place(first) };
            let higher = Candidacy { member: replica(2), last: place(second) };
            assert!(!higher.comes_before(&lower), "the one behind says yes");
            assert_eq!(lower.comes_before(&higher), first >= second, "unless the first lacks what the other has");
        }
    }

    #[test]
    fn voters_that_are_there_stand_in_the_order_of_their_ids() {
        let voters: BTreeSet<_> = [1, 3, 5, 7].map(replica).into();
        let place = |number: u8, gone: &[u8]| {
            let gone: Vec<_> = gone.iter().map(|number| replica(*number)).collect();
            place_in_line(replica(number), &voters, |voter| gone.contains(voter))
        };
        assert_eq!([1, 3, 5, 7].map(|number| place(number, &[])), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(
            [3, 5, 7].map(|number| place(number, &[1])),
            [Some(0), Some(1), Some(2)],
            "nobody waits for who is gone"
        );
        assert_eq!([3, 7].map(|number| place(number, &[1, 5])), [Some(0), Some(1)]);
        assert_eq!(place(4, &[]), None, "one that only listens leads nothing");
    }
}
