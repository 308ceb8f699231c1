//! From the copies a range has to the copies that control wants: the next single step that the group's leader takes
//! ([`next_step`]); when control may take an assignment back ([`assignment_may_go`]) and a node may remove its copy
//! ([`removal`]); and what a copy is that a node finds, or does not find, when it starts ([`standing`]).
//!
//! # Steps
//! One at a time, and each only when the one before is committed:
//!
//! 1. an exchange of voters that was begun is finished first, whatever is wanted now;
//! 2. learners that nobody wants go;
//! 3. wanted copies come as learners, which count for nothing;
//! 4. when **all** of them have caught up, and a majority of the wanted set has, the voters are exchanged at once through
//!    joint consensus: the old set's majority decides up to the end, so nothing is ever safe on fewer than before;
//! 5. a leader that is to go hands leadership over before that. Where no voter is to stay, the new ones become voters beside
//!    it first.
//!
//! Copies one after the other (two of three, then three of three) were rejected: a range that goes from one copy to three
//! would pass through two, where any failure stops it.
//!
//! # Taking back
//! A copy is removed by three parties in this order: the leader takes it out of the group and publishes the route; control sees
//! the route without it and takes the assignment back; the node sees both, twice, and removes the file. The node decides
//! last and knows best: **its own log** may hold a later membership that names the copy, made by a leader that had not heard of control's
//! change of mind. So a route counts only when its epoch is greater than that of the membership in the copy's own log,
//! and the copy must answer nothing any more from before that log is looked at until it is gone.
//! An id that was taken back is never given again.
//!
//! # Coming back
//! A voter that has forgotten what it promised is worse than none: a majority may count on what it acknowledged. So a
//! copy that was begun and is missing, cut, or of another incarnation of the data folder is lost whatever a list says:
//! control gives the range a new copy, under a new id.
//!
//! What the next author must keep: everything here is asked again from scratch after each change; nothing is remembered
//! between two answers, so that a new leader goes on where the old one stopped.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::{NodeId, RangeId, ReplicaId};

use super::machine_state::LogPlace;
use super::membership::Membership;
use super::publish::{RouteView, epoch_of};

/// How many entries a learner may be behind and still become a voter.
pub const CAUGHT_UP_ENTRIES_MAX: u64 = 64;

/// The copies that control wants a range to have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Desired {
    /// The copies and their nodes. Empty says nothing, and is not obeyed.
    pub copies: BTreeMap<ReplicaId, NodeId>,
    /// The node that is to lead, where it can.
    pub leader: Option<NodeId>,
}

/// How the group stands, as this node's copy knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupNow {
    /// This node's copy.
    pub own: ReplicaId,
    /// Whether it leads, as far as it knows.
    pub leads: bool,
    /// The membership in force: the last one in the log.
    pub membership: Membership,
    /// Whether that is committed.
    pub membership_is_committed: bool,
    /// The last entry in this copy's log.
    pub last_index: u64,
    /// How far each other member's log is known to go.
    pub matched: BTreeMap<ReplicaId, u64>,
}

/// The next step. The shell takes it, waits until it is committed, and asks again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// This copy does not lead: nothing to do here.
    Follow,
    /// Nothing is wanted, or what is wanted contradicts what there is: a copy that is a member on another node.
    Refuse,
    /// The last change is not committed yet.
    WaitForCommit,
    /// Take this copy in, without a vote.
    AddLearner {
        /// The copy.
        replica: ReplicaId,
        /// Its node.
        node: NodeId,
    },
    /// Wait until this copy, which is wanted, has caught up.
    WaitForCopy {
        /// The copy that is furthest behind.
        replica: ReplicaId,
        /// By how many entries.
        behind: u64,
    },
    /// Make these the voters, and these alone the members.
    ChangeVoters(BTreeSet<ReplicaId>),
    /// Let another voter lead.
    HandOver(ReplicaId),
    /// Take these out, which do not vote. By the group's operations: the present voters alone are the members; a learner
    /// that is wanted is taken in again afterwards.
    RemoveLearners(BTreeSet<ReplicaId>),
    /// All is as wanted.
    Done,
}

/// The next step from `now` to `desired`; a copy has caught up when it is at most `behind_max` entries behind.
pub fn next_step(desired: &Desired, now: &GroupNow, behind_max: u64) -> Step {
    if !now.leads {
        return Step::Follow;
    }
    if !now.membership_is_committed {
        return Step::WaitForCommit;
    }
    if let [_, newer] = now.membership.voters.as_slice() {
        return Step::ChangeVoters(newer.clone());
    }
    let members = &now.membership.members;
    let elsewhere = |(replica, node)| members.get(replica).is_some_and(|at| at != node);
    if desired.copies.is_empty() || desired.copies.iter().any(elsewhere) {
        return Step::Refuse;
    }
    let is_unwanted =
        |replica: &&ReplicaId| !desired.copies.contains_key(*replica) && !now.membership.is_voter(**replica);
    let unwanted: BTreeSet<ReplicaId> = members.keys().filter(is_unwanted).copied().collect();
    if !unwanted.is_empty() {
        return Step::RemoveLearners(unwanted);
    }
    if let Some((replica, node)) = desired.copies.iter().find(|(replica, _)| !members.contains_key(replica)) {
        return Step::AddLearner { replica: *replica, node: *node };
    }
    exchange(desired, now, behind_max)
}

/// All wanted copies are members: make them the voters, and the right one the leader.
fn exchange(desired: &Desired, now: &GroupNow, behind_max: u64) -> Step {
    let wanted: BTreeSet<ReplicaId> = desired.copies.keys().copied().collect();
    let voters = now.membership.voters.first().cloned().unwrap_or_default();
    let next = successor(desired, now, behind_max);
    if wanted != voters {
        // Where nobody who votes is to stay, the new ones vote beside the present ones first.
        let may_leave = wanted.contains(&now.own) || next.is_some();
        let target = if may_leave { wanted } else { voters.union(&wanted).copied().collect() };
        if let Some(replica) = late(&target, &voters, now, behind_max) {
            return Step::WaitForCopy { replica, behind: now.behind(replica) };
        }
        return match next {
            Some(next) if !target.contains(&now.own) => Step::HandOver(next),
            _ => Step::ChangeVoters(target),
        };
    }
    let own_node = now.membership.members.get(&now.own);
    let elsewhere = desired.leader.as_ref().filter(|wished| own_node != Some(*wished));
    let wished = elsewhere.and_then(|wished| desired.copies.iter().find(|(_, node)| *node == wished));
    match wished.map(|(replica, _)| *replica) {
        None => Step::Done,
        Some(wished) if next == Some(wished) => Step::HandOver(wished),
        // A node that has come back is behind where its ranges are written to, until it has caught up.
        Some(wished) => Step::WaitForCopy { replica: wished, behind: now.behind(wished) },
    }
}

/// The copy to wait for before these become the voters: a new one that has not caught up, or one of those without which
/// there would be no majority of them.
fn late(
    target: &BTreeSet<ReplicaId>,
    voters: &BTreeSet<ReplicaId>,
    now: &GroupNow,
    behind_max: u64,
) -> Option<ReplicaId> {
    let late: BTreeSet<ReplicaId> =
        target.iter().filter(|replica| now.behind(**replica) > behind_max).copied().collect();
    let new = late.difference(voters).max_by_key(|replica| now.behind(**replica));
    let has_majority = 2 * (target.len() - late.len()) > target.len();
    new.or(if has_majority { None } else { late.first() }).copied()
}

/// Who may lead next: a voter that is wanted and has caught up, on the wished node where there is one.
fn successor(desired: &Desired, now: &GroupNow, behind_max: u64) -> Option<ReplicaId> {
    let fit = |(replica, _): &(&ReplicaId, &NodeId)| {
        **replica != now.own && now.membership.is_voter(**replica) && now.behind(**replica) <= behind_max
    };
    let is_wished = |(_, node): &(&ReplicaId, &NodeId)| Some(**node) == desired.leader;
    let wished = desired.copies.iter().filter(fit).find(is_wished);
    let ahead = || desired.copies.iter().filter(fit).min_by_key(|(replica, _)| now.behind(**replica));
    wished.or_else(ahead).map(|(replica, _)| *replica)
}

impl GroupNow {
    /// How many entries this member is behind; all of them where it was not heard of.
    fn behind(&self, replica: ReplicaId) -> u64 {
        if replica == self.own {
            return 0;
        }
        self.matched.get(&replica).map_or(u64::MAX, |matched| self.last_index.saturating_sub(*matched))
    }
}

/// Whether control may take back the assignment of `replica`: it is not wanted any more, and the range's route, as a
/// leader published it, does not name it. A leader that has not heard of control's change of mind may take it in all the
/// same; that is why the node decides too ([`removal`]).
pub fn assignment_may_go(desired: &Desired, range: RangeId, replica: ReplicaId, route: Option<&RouteView>) -> bool {
    let published = route.is_some_and(|route| route.range == range && route.epoch > 0 && !route.names(replica));
    !desired.copies.is_empty() && !desired.copies.contains_key(&replica) && published
}

/// What a node reads of the plan about one of its copies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Whether the copy is assigned to the node.
    pub is_assigned: bool,
    /// The route under the range's key; none where there is none.
    pub route: Option<RouteView>,
}

/// A copy that might go, as its own log knows it. To be looked at after the copy has stopped answering.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnCopy {
    /// The copy.
    pub replica: ReplicaId,
    /// The range.
    pub range: RangeId,
    /// The last membership in its log, committed or not, and its place; none where it never had one.
    pub membership: Option<(LogPlace, Membership)>,
}

/// Whether a copy may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Removal {
    /// Keep it: it is wanted, or the plan cannot be read as saying otherwise.
    Keep,
    /// Keep it for now: read the plan once more, later.
    ReadAgain,
    /// The copy may go.
    Remove,
}

/// Decides about a copy by the last reading and the one before it; both must have been read one after the other, from the coordinator
/// and not from a copy of it.
pub fn removal(own: &OwnCopy, before: Option<&Reading>, last: &Reading) -> Removal {
    if !says_gone(own, last) {
        return Removal::Keep;
    }
    let epoch = |reading: &Reading| reading.route.as_ref().map(|route| route.epoch);
    match before {
        Some(before) if says_gone(own, before) && epoch(before) <= epoch(last) => Removal::Remove,
        _ => Removal::ReadAgain,
    }
}

/// Whether one reading says that the copy is neither assigned nor in the group any more.
fn says_gone(own: &OwnCopy, reading: &Reading) -> bool {
    let Some(route) = reading.route.as_ref().filter(|route| route.range == own.range && route.epoch > 0) else {
        return false;
    };
    let is_later = own.membership.as_ref().is_none_or(|(place, membership)| {
        !membership.members.contains_key(&own.replica) || route.epoch > epoch_of(place.term, place.index)
    });
    !reading.is_assigned && !route.names(own.replica) && is_later
}

/// What a node finds of a copy that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Found {
    /// The end of the copy's log, where its file and its part of the log are there and whole.
    pub last: Option<LogPlace>,
    /// Whether the node's own database says that the copy was begun. That is written, and synced, before it is.
    pub was_begun: bool,
    /// Whether the copy was assigned before this data folder was made. So it is for everything that is assigned
    /// when a node comes with another incarnation than the coordinator knows of it.
    pub was_assigned_to_another_folder: bool,
    /// The highest index that a peer says this copy has acknowledged.
    pub acknowledged: Option<u64>,
    /// Whether the copy is among those that the range is founded with, and no leader has published its route yet.
    pub is_founding: bool,
}

/// What a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It goes on as the member it was.
    Continue,
    /// It starts empty, as one of the range's first.
    StartFounding,
    /// It starts with nothing and is filled by the group.
    StartJoining,
    /// It is lost: it never votes again, and is reported so that control gives the range another.
    Lost,
}

/// Decides what a copy is that a node is given.
pub fn standing(found: &Found) -> Standing {
    let is_short = found.acknowledged.unwrap_or(0) > found.last.map_or(0, |last| last.index);
    if found.was_assigned_to_another_folder || is_short {
        return Standing::Lost;
    }
    match (found.last, found.was_begun) {
        (Some(_), true) => Standing::Continue,
        // A file that the database knows nothing of was put there by someone, or the database is an older one.
        (Some(_), false) | (None, true) => Standing::Lost,
        (None, false) if found.is_founding => Standing::StartFounding,
        (None, false) => Standing::StartJoining,
    }
}

#[cfg(test)]
mod tests;
