//! One request's way through the copies of a range: whom to ask first, whom next, and when to give up.
//!
//! The leader is asked first. A node that does not lead says who does, as far as it knows, and that one is asked at
//! once. Where nobody can say, since the leader's node has just gone, the other copies are asked one after the
//! other, with pauses, until one of them leads: an election takes a second or two, and the client shall hardly notice.
//!
//! | what came back | a range with one copy | with several |
//! |---|---|---|
//! | not here, another leads | | that one, at once |
//! | moved: the range was split | the child, at the same node, at once | the same |
//! | not here | the route, if it has changed meanwhile | the next copy, after a pause |
//! | not reached: nothing happened | it is told | the next copy, after a pause |
//! | no answer to a write | it is told | the next copy, where a repeat is known as one (`can_repeat`) |
//! | not now (the node is busy, or starts) | it is told | again, a few times |
//! | anything else | it is told | it is told |
//!
//! What the next author must keep: once an attempt of a write may have happened, no later refusal to begin may be told
//! as if nothing had; the answer is then "outcome unknown".

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::address::{NodeAddress, RangeReplica};
use super::routed::RangeRoute;
use crate::coordination::values::ReplicaState;
use crate::domain::ids::NodeId;
use crate::domain::mutation::{Mutation, is_on};
use crate::domain::{Refusal, RefusalKind};

/// How long a request for a range of several copies is tried, in all.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Pauses while nobody leads.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How often a node that says "not now" is asked.
const BUSY_MAX: u32 = 3;
/// How often leaders that were named are followed without a pause.
const HOPS_MAX: u32 = 3;

/// What to do after an attempt.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask this node, after the pause.
    Ask(Arc<NodeAddress>, Duration),
    /// Tell the client.
    Tell(Refusal),
}

/// See the module's essay.
pub(super) struct Attempts {
    /// Whether the same write asked twice happens once. Reads always may be repeated.
    can_repeat: bool,
    deadline: Option<Instant>,
    pause: Duration,
    hops: u32,
    busy: u32,
    /// The number of the copy that is asked next where nobody is named.
    turn: usize,
    has_moved: bool,
    may_have_happened: bool,
}

impl Attempts {
    /// Nothing was asked yet.
    pub(super) fn new(can_repeat: bool) -> Self {
        Self {
            can_repeat,
            deadline: None,
            pause: PAUSE_FIRST,
            hops: 0,
            busy: 0,
            turn: 0,
            has_moved: false,
            may_have_happened: false,
        }
    }

    /// Whether more than one was asked.
    pub(super) fn were_many(&self) -> bool {
        self.deadline.is_some()
    }

    /// Whether an attempt may have done something, though nobody said so.
    pub(super) fn may_have_happened(&self) -> bool {
        self.may_have_happened
    }

    /// What follows from this refusal. `used` is the route that was asked, its leader the node; `now` the one known by now.
    pub(super) fn after(&mut self, used: &RangeRoute, now: Option<&RangeRoute>, refusal: Refusal) -> Next {
        let asked = used.leader.node;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + TIME_MAX);
        self.may_have_happened |= refusal.kind == RefusalKind::OutcomeUnknown;
        let route = now.unwrap_or(used);
        if refusal.location.is_some() || Instant::now() >= deadline {
            return Next::Tell(self.told(refusal));
        }
        if refusal.kind == RefusalKind::WrongNode && has_changed(used, route) && !self.has_moved {
            self.has_moved = true;
            return Next::Ask(route.leader.clone(), Duration::ZERO);
        }
        if !is_replicated(route) {
            return Next::Tell(self.told(refusal));
        }
        match refusal.kind {
            RefusalKind::WrongNode => {
                let named = refusal.leader.filter(|leader| *leader != asked && self.hops < HOPS_MAX);
                match named.and_then(|leader| address_of(route, leader)) {
                    Some(leader) => {
                        self.hops += 1;
                        Next::Ask(leader, Duration::ZERO)
                    }
                    None => self.next_copy(route, asked),
                }
            }
            RefusalKind::Unavailable if refusal.unreached => self.next_copy(route, asked),
            RefusalKind::OutcomeUnknown if self.can_repeat => self.next_copy(route, asked),
            RefusalKind::Unavailable if self.busy < BUSY_MAX => {
                self.busy += 1;
                self.next_copy(route, asked)
            }
            _ => Next::Tell(self.told(refusal)),
        }
    }

    /// The next copy in turn, and a pause that grows.
    fn next_copy(&mut self, route: &RangeRoute, asked: NodeId) -> Next {
        self.hops = 0;
        let copies: Vec<&RangeReplica> = voters(route).filter(|copy| copy.address.node != asked).collect();
        let next = copies.get(self.turn % copies.len().max(1)).map_or(&route.leader, |copy| &copy.address);
        self.turn += 1;
        let pause = self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Next::Ask(next.clone(), pause)
    }

    /// The refusal as the client may be told it.
    fn told(&self, refusal: Refusal) -> Refusal {
        let before_it_began = matches!(
            refusal.kind,
            RefusalKind::WrongNode | RefusalKind::Unavailable | RefusalKind::Throttled | RefusalKind::StorageFull
        );
        if self.may_have_happened && before_it_began && !is_on(Mutation::ForgetAttempts) {
            return unknown();
        }
        refusal
    }
}

/// Nobody knows whether the write happened.
pub(super) fn unknown() -> Refusal {
    Refusal::new(
        RefusalKind::OutcomeUnknown,
        "the write may have happened: the node that was asked gave no answer, and the others none in time. Ask again under the same Idempotency-Key",
    )
}

/// Whether the route is another than the one used. Who was asked may have been chosen among its copies, so where there
/// are several the leader says nothing.
fn has_changed(used: &RangeRoute, now: &RangeRoute) -> bool {
    let same = used.range == now.range && used.epoch == now.epoch && used.hashes == now.hashes;
    !same || (!is_replicated(now) && used.leader != now.leader)
}

/// Whether another copy may be asked at all.
pub(super) fn is_replicated(route: &RangeRoute) -> bool {
    voters(route).nth(1).is_some()
}

/// The copies that may lead or answer eventual reads.
pub(super) fn voters(route: &RangeRoute) -> impl Iterator<Item = &RangeReplica> {
    route.replicas.iter().filter(|replica| replica.state == ReplicaState::Voter)
}

/// Where a node is reached that has a copy.
pub(super) fn address_of(route: &RangeRoute, node: NodeId) -> Option<Arc<NodeAddress>> {
    route.replicas.iter().find(|replica| replica.address.node == node).map(|replica| replica.address.clone())
}

#[cfg(test)]
mod tests;
