//! A planned stop: others lead what was led from here before this node is gone, and no client notices.
//!
//! ```text
//! this node                                     the others
//! says that it leaves                     ->    give it no leadership any more, whatever control wishes
//! hands over what is awake, in rounds     ->    lead that
//! answers what is under way
//! hands over what woke meanwhile          ->
//! hears how the last of its writes ended  <-
//! says that it is gone                    ->    take it for silent at once; what sleeps finds another leader when
//! wakes nothing, and stops                      it is asked for, or in its turn
//! ```
//!
//! That it leaves has to be said first. Control may wish that it leads, and goes on wishing so while it is away for a
//! short time; without the word each new leader would hand its range straight back, to a node that is about to stop.
//!
//! A write that was proposed here just before its group was handed over is decided by the next leader. Whoever waits for it here
//! learns that from that one's messages, so these are listened to until nobody waits any more.
//!
//! Groups that sleep are not woken to be handed over: a node may lead thousands, and nobody uses them. Nobody is bound by a promise to the
//! leader of a group that has slept for longer than a lease, so that an election takes no longer than a hand-over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use super::awake::{Group, Metrics};
use super::host::Groups;
use super::ports::GroupOperations;
use super::presence::Departure;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};

/// A flag of a beacon: its sender hands its leaderships over, and is to be given none.
const BEACON_IS_LEAVING: u32 = 4;
/// A flag of a beacon: it is the last one of this start of its sender's process, which leads nothing any more.
const BEACON_IS_LAST: u32 = 8;
/// Hand-overs at once: a range takes no write while it is handed over, and the more are, the longer that is.
const HAND_OVERS_AT_ONCE: usize = 8;
/// Between two looks whether somebody still waits.
const LOOK: Duration = Duration::from_millis(5);
/// What the word that this node leaves is ahead of the first hand-over.
const HEAD_START: Duration = Duration::from_millis(50);

/// What a beacon says of this.
pub(super) fn flags_of(departure: Departure) -> u32 {
    match departure {
        Departure::Stays => 0,
        Departure::Leaves => BEACON_IS_LEAVING,
        Departure::Gone => BEACON_IS_LEAVING | BEACON_IS_LAST,
    }
}

/// What these flags of a beacon say.
pub(super) fn departure_in(flags: u32) -> Departure {
    match (flags & BEACON_IS_LAST != 0, flags & BEACON_IS_LEAVING != 0) {
        (true, _) => Departure::Gone,
        (false, true) => Departure::Leaves,
        (false, false) => Departure::Stays,
    }
}

impl Groups {
    /// Hands the leadership of every group that is awake over, to the member that has most of its log among those whose nodes stay; in
    /// rounds, until none is left that can be handed over, or the deadline. From the first call on this node is given no leadership.
    pub async fn hand_over_all(&self, deadline: Instant) {
        if self.say(Departure::Leaves) {
            tokio::time::sleep(HEAD_START).await;
        }
        let rounds = async { while self.hand_over_round().await {} };
        if tokio::time::timeout_at(deadline, rounds).await.is_err() {
            tracing::warn!("not all leadership was handed over in time; the others elect");
        }
    }

    /// Waits until nobody waits for anything of a group of this node, or the deadline.
    pub async fn until_unused(&self, deadline: Instant) {
        while Instant::now() < deadline {
            let awake = self.slots.lock().all_awake();
            if awake.iter().all(|(_, group)| group.unused_since().is_some()) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::warn!("requests still wait for groups of this node; they will be asked for elsewhere");
    }

    /// This node wakes no group any more, and the others need not wait for it.
    pub fn depart(&self) {
        self.say(Departure::Gone);
    }

    /// Tells the others; whether it is news.
    fn say(&self, departure: Departure) -> bool {
        let is_news = {
            let mut said = self.departure.lock();
            let is_news = *said < departure;
            *said = departure.max(*said);
            is_news
        };
        if is_news {
            self.send_beacons(Instant::now());
        }
        is_news
    }

    /// Whether something was handed over: then there may be more, which woke meanwhile.
    async fn hand_over_round(&self) -> bool {
        let awake = self.slots.lock().all_awake();
        let led: Vec<(RangeId, ReplicaId)> = {
            let (presence, now) = (self.presence.lock(), Instant::now());
            let stays = |node: NodeId| presence.stays(node, now);
            awake.iter().filter_map(|(range, group)| Some((*range, next_leader(group, &stays)?))).collect()
        };
        let handed_over = stream::iter(led).map(|(range, to)| async move {
            let outcome = self.hand_over(range, to).await;
            if let Err(refusal) = &outcome {
                tracing::debug!(%range, %refusal, "leadership was not handed over");
            }
            outcome.is_ok()
        });
        handed_over.buffer_unordered(HAND_OVERS_AT_ONCE).fold(false, async |any, done| any || done).await
    }
}

fn next_leader(group: &Arc<Group>, stays: &dyn Fn(NodeId) -> bool) -> Option<ReplicaId> {
    group.look(|metrics| successor(group.member(), metrics, stays))
}

/// Who is to lead next, where this member leads: of the other voters whose nodes stay the one with most of the log.
fn successor(own: ReplicaId, metrics: &Metrics, stays: &dyn Fn(NodeId) -> bool) -> Option<ReplicaId> {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<ReplicaId> = membership.voter_ids().collect();
    let can_lead = |member: &ReplicaId| {
        *member != own && voters.contains(member) && membership.get_node(member).is_some_and(|node| stays(*node))
    };
    let others = metrics.replication.as_ref()?.iter().filter(|(member, _)| can_lead(member));
    let best = others.max_by_key(|(_, matched)| matched.as_ref().map(|matched| matched.index))?;
    best.1.as_ref().map(|_| *best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for departure in [Departure::Stays, Departure::Leaves, Departure::Gone] {
            assert_eq!(departure_in(flags_of(departure) | 3), departure);
        }
    }
}
