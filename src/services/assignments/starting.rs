//! How a copy that a node was given, and has no file of, may begin. The route decides, since it is the one place that
//! all nodes of a range read alike:
//!
//! | the route's epoch | it names this copy | it begins |
//! |---|---|---|
//! | 0, nobody served the range yet | yes, alone | alone: empty, without a group |
//! | 0 | yes, with others | as a founder: empty, in a group of all copies that the route names |
//! | any | no | as a newcomer: without data and without a vote, and waits to be filled |
//! | 1 or more | yes | not at all: it was served, its file is gone, it is lost |
//!
//! Founders all begin with the same membership, because all of them read it in the same route, which control writes
//! once. The lists in the assignments are no such place: they are several keys, and change one after another.
//!
//! One exception: a copy that surely never began, because it was given while this process followed its plan, and either together with a
//! new range, or to be filled. The others may have been faster, and published the range before this node had made room: founders
//! need only a majority. It has given no vote, so it may have one: it begins as the founder that it is, as long as the list of founders
//! stands in its assignment, and takes part from the first entry on; else as a newcomer, and the leader fills it.
//! (A range that is brought back with its table is not new: its copies have been here, and are known to be or are lost.)
//!
//! A copy that was reported lost never begins again, whatever the route says: while control and the range's leader
//! have not heard of it yet, it would vote as if it had never promised anything.

use crate::coordination::values::{ReplicaState, Route};
use crate::domain::ids::{NodeId, ReplicaId};
use crate::domain::mutation::{Mutation, is_on};
use crate::replication::membership::Membership;

/// How a copy begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// Empty, without a group.
    Alone,
    /// Empty, in a group of these, who all begin so.
    Founding(Membership),
    /// Without data and without a vote, to be filled.
    Joining,
    /// It was here and is gone.
    Lost,
    /// The route does not say yet: it is not there, or not of this range.
    Unknown,
    /// The route names several copies and not all of them by their ids.
    Nameless,
}

/// Whether a route names this copy. An entry without an id means the one copy that its node had before ids were
/// written.
pub fn names(route: &Route, node: NodeId, replica: ReplicaId) -> bool {
    let mut own = route.replicas.iter().filter(|copy| copy.node == node).peekable();
    match own.peek() {
        None => route.node == node,
        Some(_) => own.any(|copy| copy.replica.is_none_or(|named| named == replica)),
    }
}

/// Whether a route names this copy as one that has no vote.
pub fn only_learns(route: Option<&Route>, replica: ReplicaId) -> bool {
    let copies = route.into_iter().flat_map(|route| &route.replicas);
    copies.filter(|copy| copy.replica == Some(replica)).any(|copy| copy.state == ReplicaState::Learner)
}

/// Decides from the range's route as it was read; none where there is none of this range. See the module's essay.
pub fn beginning(node: NodeId, replica: ReplicaId, route: Option<&Route>, was_reported_lost: bool) -> Beginning {
    let Some(route) = route else { return Beginning::Unknown };
    if was_reported_lost && !is_on(Mutation::StartLostEmpty) {
        return Beginning::Lost;
    }
    match (names(route, node, replica), route.epoch) {
        (false, _) => Beginning::Joining,
        (true, 0) if route.replicas.len() <= 1 => Beginning::Alone,
        (true, 0) => {
            let members = route.replicas.iter().map(|copy| Some((copy.replica?, copy.node)));
            match members.collect::<Option<Vec<_>>>() {
                Some(members) => Beginning::Founding(Membership::founding(members)),
                None => Beginning::Nameless,
            }
        }
        (true, _) if is_on(Mutation::StartLostEmpty) => {
            let members = route.replicas.iter().filter_map(|copy| Some((copy.replica?, copy.node)));
            Beginning::Founding(Membership::founding(members))
        }
        (true, _) => Beginning::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::values::RouteReplica;
    use crate::domain::ids::{RangeId, TableId};

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn replica(number: u8) -> ReplicaId {
        ReplicaId::from_bytes([number; 16])
    }

    /// A route led by node 1, with these copies.
    fn route(epoch: u64, copies: &[(u8, Option<u8>)]) -> Route {
        let copy = |(at, id): &(u8, Option<u8>)| RouteReplica {
            node: node(*at),
            uri: String::new(),
            inside_uri: None,
            state: ReplicaState::Voter,
            replica: id.map(replica),
        };
        Route {
            node: node(1),
            uri: String::new(),
            inside_uri: None,
            high_hash: u32::MAX,
            range: RangeId::from_bytes([1; 16]),
            epoch,
            table_uuid: TableId::from_bytes([1; 16]),
            replicas: copies.iter().map(copy).collect(),
            split_from: None,
        }
    }

    fn begins(route: &Route, at: u8, id: u8) -> Beginning {
        beginning(node(at), replica(id), Some(route), false)
    }

    #[test]
    fn new_ranges_begin_alone_or_together() {
        let three = route(0, &[(1, Some(11)), (2, Some(12)), (3, Some(13))]);
        let founders = Membership::founding([(11, 1), (12, 2), (13, 3)].map(|(id, at)| (replica(id), node(at))));
        for (at, id) in [(1, 11), (2, 12), (3, 13)] {
            assert_eq!(begins(&three, at, id), Beginning::Founding(founders.clone()), "all with the same members");
        }
        assert_eq!(begins(&route(0, &[(1, Some(11))]), 1, 11), Beginning::Alone);
        assert_eq!(begins(&route(0, &[(1, None)]), 1, 11), Beginning::Alone);
        assert_eq!(begins(&route(0, &[]), 1, 11), Beginning::Alone);
        assert_eq!(begins(&route(0, &[(1, Some(11)), (2, None)]), 1, 11), Beginning::Nameless);
    }

    #[test]
    fn who_is_not_named_joins_and_who_was_named_is_lost() {
        for epoch in [0, 1, 1 << 41] {
            let three = route(epoch, &[(1, Some(11)), (2, Some(12)), (3, Some(13))]);
            assert_eq!(begins(&three, 4, 14), Beginning::Joining);
            assert_eq!(begins(&three, 3, 23), Beginning::Joining, "a new copy in place of the one named");
        }
        let three = route(1 << 41, &[(1, Some(11)), (2, Some(12)), (3, Some(13))]);
        assert_eq!(begins(&three, 3, 13), Beginning::Lost);
        assert_eq!(begins(&route(1, &[(1, None)]), 1, 11), Beginning::Lost);
    }

    #[test]
    fn who_is_named_without_a_vote_only_learns() {
        let mut three = route(5, &[(1, Some(11)), (2, Some(12)), (3, Some(13))]);
        assert!(!only_learns(Some(&three), replica(13)) && !only_learns(None, replica(13)));
        three.replicas[2].state = ReplicaState::Learner;
        assert!(only_learns(Some(&three), replica(13)) && !only_learns(Some(&three), replica(12)));
        assert!(!only_learns(Some(&three), replica(14)), "it is not named");
    }

    #[test]
    fn what_was_reported_lost_never_begins() {
        for route in [route(0, &[(1, Some(11)), (2, Some(12))]), route(5, &[(2, Some(12))])] {
            assert_eq!(beginning(node(1), replica(11), Some(&route), true), Beginning::Lost);
        }
        assert_eq!(beginning(node(1), replica(11), None, true), Beginning::Unknown);
    }
}
