//! A small sound Raft, by which the models' groups agree. It is not openraft, which is tested elsewhere; it is what
//! openraft promises: terms with one leader, logs that agree where they have the same term at the same index, a membership
//! that holds from the moment it stands in a log, decisions by majorities (of both sets while voters are exchanged).
//!
//! A step is one exchange of messages that got through: an election with exactly the votes it needs, a log brought to one
//! follower. Messages that are lost, late or doubled are steps that do not happen, happen later or happen twice; an
//! answer that is lost is a replication that the leader does not count. What every copy has on disk (log, term) outlives a
//! crash; that it leads, and what it knows of others, does not.
//!
//! Beside the copies stands what an observer outside sees: the entries that were ever committed. When a leader commits
//! something else in their place, or is elected without them, consensus was broken from outside, by a copy that forgot;
//! [`Raft::is_broken`] says so.

use std::collections::{BTreeMap, BTreeSet};

use dstore::domain::ids::ReplicaId;
use dstore::replication::machine_state::LogPlace;
use dstore::replication::membership::Membership;

/// What stands in a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// A new leader's first entry.
    Blank,
    /// New members.
    Members(Membership),
    /// A write, by its number.
    Write(u8),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The term of the leader that made it.
    pub term: u64,
    /// What it asks for.
    pub command: Command,
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Copy {
    /// Its log, from index 1 on.
    pub log: Vec<Slot>,
    /// The latest term it has heard of, in which it has voted.
    pub term: u64,
    /// Whether it leads in that term, as far as it knows.
    pub leads: bool,
    /// How many entries it knows to be committed.
    pub committed: usize,
    /// How far it knows the others to be, while it leads.
    pub matched: BTreeMap<ReplicaId, usize>,
    /// The members before its first entry; none where it joins.
    pub founding: Option<Membership>,
}

impl Copy {
    /// The membership in force and its place: the last one in the log.
    pub fn membership(&self) -> Option<(LogPlace, Membership)> {
        let in_log = self.log.iter().enumerate().rev().find_map(|(at, slot)| match &slot.command {
            Command::Members(members) => Some((LogPlace { term: slot.term, index: at as u64 + 1 }, members.clone())),
            Command::Blank | Command::Write(_) => None,
        });
        // A copy that joined is filled from the log's beginning, and so knows the first members too.
        in_log.or_else(|| self.founding.clone().map(|members| (LogPlace::default(), members)))
    }

    /// The place of its last entry.
    pub fn last(&self) -> LogPlace {
        LogPlace { term: self.log.last().map_or(0, |slot| slot.term), index: self.log.len() as u64 }
    }

    /// The write with this number, where it stands in the log.
    pub fn position_of(&self, write: u8) -> Option<usize> {
        self.log.iter().position(|slot| slot.command == Command::Write(write))
    }
}

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Raft {
    /// The copies there are.
    pub copies: BTreeMap<ReplicaId, Copy>,
    /// Every entry that was ever committed.
    pub committed: Vec<Slot>,
    /// Whether something that was committed was lost.
    pub is_broken: bool,
}

impl Raft {
    /// A group whose founding members all have nothing.
    pub fn founded(members: &Membership) -> Self {
        let copy = Copy { founding: Some(members.clone()), ..Copy::default() };
        let copies = members.members.keys().map(|replica| (*replica, copy.clone())).collect();
        Self { copies, committed: Vec::new(), is_broken: false }
    }

    /// The same, led by its first member by the vote of its second: all that could come before is the same again by
    /// other names.
    pub fn led(members: &Membership) -> Self {
        let mut raft = Self::founded(members);
        let first: BTreeSet<ReplicaId> = members.members.keys().take(2).copied().collect();
        if let Some(leader) = first.first() {
            raft.elect(*leader, &first);
        }
        raft
    }

    /// The membership that the observer knows to be committed.
    pub fn committed_membership(&self) -> Option<Membership> {
        let in_log = self.committed.iter().rev().find_map(|slot| match &slot.command {
            Command::Members(members) => Some(members.clone()),
            Command::Blank | Command::Write(_) => None,
        });
        in_log.or_else(|| self.copies.values().find_map(|copy| copy.founding.clone()))
    }

    /// The smallest sets of copies whose votes would make `candidate` leader.
    pub fn elections(&self, candidate: ReplicaId) -> Vec<BTreeSet<ReplicaId>> {
        let Some((own, (_, membership))) = self.copies.get(&candidate).and_then(|own| Some((own, own.membership()?)))
        else {
            return Vec::new();
        };
        if own.leads || !membership.is_voter(candidate) {
            return Vec::new();
        }
        let grants = |replica: &ReplicaId| {
            let copy = self.copies.get(replica)?;
            (*replica == candidate || copy.last() <= own.last()).then_some(*replica)
        };
        let willing: Vec<ReplicaId> =
            membership.members.keys().filter(|replica| membership.is_voter(**replica)).filter_map(grants).collect();
        let subset = |mask: u32| -> BTreeSet<ReplicaId> {
            willing.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0).map(|(_, replica)| *replica).collect()
        };
        let mut enough: Vec<BTreeSet<ReplicaId>> = (0..1 << willing.len())
            .map(subset)
            .filter(|votes| votes.contains(&candidate) && is_majority(&membership, votes))
            .collect();
        let all = enough.clone();
        enough.retain(|votes| !all.iter().any(|other| other != votes && other.is_subset(votes)));
        enough
    }

    /// The candidate is elected with these votes, and puts its first entry into its log.
    pub fn elect(&mut self, candidate: ReplicaId, votes: &BTreeSet<ReplicaId>) {
        let term = 1 + votes.iter().filter_map(|vote| self.copies.get(vote)).map(|copy| copy.term).max().unwrap_or(0);
        for vote in votes {
            if let Some(copy) = self.copies.get_mut(vote) {
                (copy.term, copy.leads) = (term, false);
                copy.matched.clear();
            }
        }
        if let Some(copy) = self.copies.get_mut(&candidate) {
            copy.leads = true;
            copy.log.push(Slot { term, command: Command::Blank });
            self.is_broken |= copy.log.len() <= self.committed.len() || !copy.log.starts_with(&self.committed);
        }
        self.commit(candidate);
    }

    /// A leader puts something into its log.
    pub fn append(&mut self, leader: ReplicaId, command: Command) {
        if let Some(copy) = self.copies.get_mut(&leader).filter(|copy| copy.leads) {
            copy.log.push(Slot { term: copy.term, command });
        }
        self.commit(leader);
    }

    /// Whether a leader may bring its log to another copy, and that would change anything.
    pub fn may_replicate(&self, leader: ReplicaId, to: ReplicaId) -> bool {
        let (Some(from), Some(follower)) = (self.copies.get(&leader), self.copies.get(&to)) else { return false };
        let is_member = from.membership().is_some_and(|(_, members)| members.members.contains_key(&to));
        let is_news = follower.log != from.log
            || follower.term != from.term
            || follower.committed != from.committed
            || from.matched.get(&to) != Some(&from.log.len());
        leader != to && from.leads && from.term >= follower.term && is_member && is_news
    }

    /// A leader brings its log to another copy, which cuts off what contradicts it; `is_heard` where the answer arrives.
    pub fn replicate(&mut self, leader: ReplicaId, to: ReplicaId, is_heard: bool) {
        let Some(from) = self.copies.get(&leader).cloned() else { return };
        let Some(follower) = self.copies.get_mut(&to) else { return };
        follower.leads = false;
        follower.matched.clear();
        (follower.term, follower.log) = (from.term, from.log.clone());
        follower.committed = follower.committed.max(from.committed);
        if follower.founding.is_none() {
            follower.founding.clone_from(&from.founding);
        }
        if is_heard {
            if let Some(copy) = self.copies.get_mut(&leader) {
                copy.matched.insert(to, from.log.len());
            }
            self.commit(leader);
        }
    }

    /// A copy's process starts again.
    pub fn restart(&mut self, replica: ReplicaId) {
        if let Some(copy) = self.copies.get_mut(&replica) {
            copy.leads = false;
            copy.matched.clear();
        }
    }

    /// A leader learns that nobody of a majority has heard of a later term: so it still leads.
    pub fn is_confirmed(&self, leader: ReplicaId) -> bool {
        let Some(own) = self.copies.get(&leader).filter(|copy| copy.leads) else { return false };
        let agrees = |(replica, copy): (&ReplicaId, &Copy)| (copy.term <= own.term).then_some(*replica);
        let agreeing: BTreeSet<ReplicaId> = self.copies.iter().filter_map(agrees).collect();
        own.membership().is_some_and(|(_, membership)| is_majority(&membership, &agreeing))
    }

    /// Commits what a majority has, in the leader's own term.
    fn commit(&mut self, leader: ReplicaId) {
        let Some(own) = self.copies.get_mut(&leader).filter(|copy| copy.leads) else { return };
        let Some((_, membership)) = own.membership() else { return };
        for length in (own.committed + 1..=own.log.len()).rev() {
            let mut have: BTreeSet<ReplicaId> =
                own.matched.iter().filter(|(_, matched)| **matched >= length).map(|(replica, _)| *replica).collect();
            have.insert(leader);
            if own.log[length - 1].term == own.term && is_majority(&membership, &have) {
                own.committed = length;
                break;
            }
        }
        let known = &own.log[..own.committed];
        let common = known.len().min(self.committed.len());
        self.is_broken |= known[..common] != self.committed[..common];
        if known.len() > self.committed.len() {
            self.committed = known.to_vec();
        }
    }
}

/// Whether these are a majority of each set of voters.
pub fn is_majority(membership: &Membership, replicas: &BTreeSet<ReplicaId>) -> bool {
    let holds = |set: &BTreeSet<ReplicaId>| 2 * set.intersection(replicas).count() > set.len();
    !membership.voters.is_empty() && membership.voters.iter().all(holds)
}
