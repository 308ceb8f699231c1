//! Ids and other small things that all models use: a number stands for a copy, its node and its address.

use std::collections::BTreeMap;

use dstore::domain::hash::HashRange;
use dstore::domain::ids::{NodeId, RangeId, ReplicaId, TableId};
use dstore::replication::membership::Membership;
use dstore::replication::publish::{Address, GroupView, RouteView};

use crate::raft::Copy;

/// The range that most models are about.
pub const RANGE: RangeId = RangeId(uuid::Uuid::from_u128(1));
/// Its table.
pub const TABLE: TableId = TableId(uuid::Uuid::from_u128(2));
/// Its hashes.
pub const HASHES: HashRange = HashRange { low: 0, high: 99 };

/// A copy.
pub fn replica(number: u8) -> ReplicaId {
    ReplicaId(uuid::Uuid::from_u128(u128::from(number)))
}

/// A node.
pub fn node(number: u8) -> NodeId {
    NodeId(uuid::Uuid::from_u128(u128::from(number)))
}

/// The membership in which the copies with these numbers vote, each on the node with its number.
pub fn members(numbers: &[u8]) -> Membership {
    Membership::founding(numbers.iter().map(|number| (replica(*number), node(*number))))
}

/// An address that says nothing: addresses play no part here.
pub fn nowhere() -> Address {
    Address { uri: String::new(), inside_uri: None }
}

/// Where the nodes with numbers below 16 are reached.
pub fn addresses() -> BTreeMap<NodeId, Address> {
    (0..16).map(|number| (node(number), nowhere())).collect()
}

/// What a copy says of its group; none where it knows no members yet.
pub fn view(copy: &Copy, at: NodeId) -> Option<GroupView> {
    let (place, membership) = copy.membership()?;
    Some(GroupView {
        range: RANGE,
        table: TABLE,
        hashes: HASHES,
        node: at,
        leads: copy.leads,
        term: copy.term,
        membership,
        membership_at: place,
        committed: copy.committed as u64,
        matched: BTreeMap::new(),
    })
}

/// The route as control makes it.
pub fn first_route(leader: u8) -> RouteView {
    RouteView {
        range: RANGE,
        table: TABLE,
        hashes: HASHES,
        epoch: 0,
        leader: node(leader),
        address: nowhere(),
        copies: Vec::new(),
        split_from: None,
    }
}
