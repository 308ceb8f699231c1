//! What must be so when all is well again and nobody asks for anything: every range is served by the copies that its group has,
//! and they are equal. Which copies that are, the routes say; one that a route names as a voter and that does not run at its node
//! is wrong, for all others together would still look equal.

use std::collections::{BTreeMap, BTreeSet};

use dstore::coordination::values::{ReplicaState, Route, RouteReplica};
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{NodeId, RangeId, ReplicaId, TableId};
use dstore::services::engine::StateDigest;
use dstore::services::engine::replica::Replica;

use crate::node::node_id;
use crate::world::World;

/// Nearly all hashes: of all of them the digest has more in it than the items.
const ITEMS: HashRange = HashRange { low: 0, high: u32::MAX - 1 };

/// A copy as it stands.
struct Standing {
    place: usize,
    applied: u64,
    /// All that its file holds.
    whole: StateDigest,
    /// The items alone.
    items: StateDigest,
}

impl Standing {
    fn of(place: usize, replica: &Replica) -> Result<Standing, String> {
        if let Some(damage) = replica.damage() {
            return Err(format!("is out of service: {damage}"));
        }
        let digest = |hashes| replica.digest(hashes).map_err(|error| format!("cannot be read: {error}"));
        let (whole, items) = (digest(&HashRange::FULL)?, digest(&ITEMS)?);
        Ok(Standing { place, applied: replica.applied_index(), whole, items })
    }

    /// Whether both hold the same. A file may not tell yet that entries were applied which changed nothing in it; then
    /// what stands beside the items cannot be compared.
    fn is_as(&self, other: &Standing) -> bool {
        let is_same_place = self.whole.place == other.whole.place;
        let rest = !is_same_place || self.whole == other.whole;
        self.applied == other.applied && self.items.sum == other.items.sum && rest
    }
}

/// Copies that run: at which node, of which range.
type Runs = BTreeSet<(NodeId, RangeId, ReplicaId)>;

/// What is not so.
pub fn differences(world: &World) -> Vec<String> {
    let mut all: BTreeMap<RangeId, Vec<Standing>> = BTreeMap::new();
    let (mut runs, mut wrong) = (Runs::new(), Vec::new());
    for node in &world.nodes {
        let Some(running) = node.running() else { continue };
        for replica in running.engine.replicas() {
            let range = replica.name.range;
            runs.insert((node_id(node.place), range, replica.name.replica));
            match Standing::of(node.place, &replica) {
                Ok(standing) => all.entry(range).or_default().push(standing),
                Err(what) => wrong.push(format!("range {range} {what}, at {}", node.place)),
            }
        }
    }
    for (range, copies) in all {
        let Some(first) = copies.first() else { continue };
        for copy in copies.iter().filter(|copy| !copy.is_as(first)) {
            let [one, other] = [first, copy].map(|copy| format!("{} {:?}", copy.applied, copy.whole));
            wrong.push(format!("range {range}: {one} at {}, but {other} at {}", first.place, copy.place));
        }
    }
    wrong.extend(missing(&world.coordinator.routes(), &runs));
    wrong
}

/// Copies that vote, as the routes say, and do not run where they should.
fn missing(routes: &[Route], runs: &Runs) -> Vec<String> {
    let mut wrong = Vec::new();
    if routes.is_empty() {
        wrong.push("no range has a route".to_owned());
    }
    for route in routes {
        let voters = route.replicas.iter().filter(|copy| copy.state == ReplicaState::Voter);
        let mut voters: Vec<(NodeId, Option<ReplicaId>)> = voters.map(|copy| (copy.node, copy.replica)).collect();
        // Whoever leads serves the range, whatever the route tells of its copies.
        if voters.iter().all(|(node, _)| *node != route.node) {
            voters.push((route.node, None));
        }
        for (node, replica) in voters {
            let is_it = |(at, range, own): &(NodeId, RangeId, ReplicaId)| {
                *at == node && *range == route.range && replica.is_none_or(|replica| replica == *own)
            };
            if !runs.iter().any(is_it) {
                let copy = replica.map_or("a copy".to_owned(), |replica| format!("the copy {replica}"));
                wrong.push(format!("range {}: {copy} does not run at the node {node}", route.range));
            }
        }
    }
    wrong
}

#[test]
fn a_copy_that_a_route_names_and_that_runs_nowhere_is_found() {
    let ids = [1, 2, 3].map(|number| (node_id(number), ReplicaId::from_bytes([number as u8; 16])));
    let [range, other] = [7, 8].map(|number| RangeId::from_bytes([number; 16]));
    let copies = |replica: fn(ReplicaId) -> Option<ReplicaId>| {
        let copy = |(node, id)| {
            let (uri, inside_uri, state) = (String::new(), None, ReplicaState::Voter);
            RouteReplica { node, uri, inside_uri, state, replica: replica(id) }
        };
        ids.map(copy).to_vec()
    };
    let route = |replicas: Vec<RouteReplica>| Route {
        node: ids[0].0,
        uri: String::new(),
        inside_uri: None,
        high_hash: u32::MAX,
        range,
        epoch: 1,
        table_uuid: TableId::from_bytes([9; 16]),
        replicas,
        split_from: None,
    };
    let runs =
        |copies: &[(NodeId, ReplicaId)]| copies.iter().map(|(node, copy)| (*node, range, *copy)).collect::<Runs>();
    let count = |route: &Route, runs: &Runs| missing(std::slice::from_ref(route), runs).len();
    let whole = route(copies(Some));
    assert_eq!(count(&whole, &runs(&ids)), 0);
    assert_eq!(count(&whole, &runs(&ids[..2])), 1, "its third copy is nowhere");
    // At its node there is an older copy, and one of another range.
    let mut others = runs(&ids[..2]);
    others.extend([(ids[2].0, range, ids[1].1), (ids[2].0, other, ids[2].1)]);
    assert_eq!(count(&whole, &others), 1);
    assert_eq!(count(&route(copies(|_| None)), &others), 0, "where no id is told, any copy of the range will do");
    let mut filling = whole;
    filling.replicas[2].state = ReplicaState::Learner;
    assert_eq!(count(&filling, &runs(&ids[..2])), 0, "one that is being filled may be missing");
    assert_eq!(count(&route(Vec::new()), &runs(&ids[1..])), 1, "its leader is nowhere");
    assert_eq!(missing(&[], &runs(&ids)).len(), 1, "a cluster without a route");
}
