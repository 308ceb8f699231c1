//! Which nodes hold the replicas of new ranges.
//!
//! Range by range, replica by replica, the next node is the one that comes first by: its zone
//! already holds fewer replicas of this range; its load against its capacity is lower; it leads
//! fewer of the ranges placed in this call (first replica only); its id. A node holds at most one
//! replica of a range. What this call has placed counts as load for what it places next, so a
//! table of many ranges comes out even.
//!
//! The first replica of each set is the one that starts as leader.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::domain::ids::NodeId;

/// A node that may be given ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its zone; nodes that name none share the empty one.
    pub zone: String,
    /// Replicas it holds already.
    pub replicas: u64,
    /// What it can carry in comparison with others, for example gigabytes of disk. Zero counts as one.
    pub capacity: u64,
}

/// There are fewer nodes than replicas asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} nodes are needed for so many replicas, and {usable} can take ranges now")]
pub struct Shortage {
    /// Nodes needed.
    pub needed: usize,
    /// Nodes there are.
    pub usable: usize,
}

/// For each of `ranges` ranges the nodes of its `replicas` replicas, the leader's first.
///
/// # Errors
/// [`Shortage`] where there are fewer candidates than replicas; nothing is placed then.
pub fn assign(candidates: &[Candidate], ranges: usize, replicas: usize) -> Result<Vec<Vec<NodeId>>, Shortage> {
    let mut nodes: Vec<Load<'_>> = candidates.iter().map(Load::new).collect();
    nodes.sort_by_key(|load| load.candidate.node);
    nodes.dedup_by_key(|load| load.candidate.node);
    if nodes.len() < replicas {
        return Err(Shortage { needed: replicas, usable: nodes.len() });
    }
    Ok((0..ranges).map(|_| place_one(&mut nodes, replicas)).collect())
}

/// A candidate with what this call has given it.
struct Load<'a> {
    candidate: &'a Candidate,
    replicas: u64,
    leads: u64,
}

impl<'a> Load<'a> {
    fn new(candidate: &'a Candidate) -> Self {
        Self { candidate, replicas: candidate.replicas, leads: 0 }
    }

    /// Load against capacity, compared without division so that no rounding makes a tie.
    fn compare(&self, other: &Load<'_>) -> Ordering {
        let left = u128::from(self.replicas) * u128::from(other.candidate.capacity.max(1));
        let right = u128::from(other.replicas) * u128::from(self.candidate.capacity.max(1));
        left.cmp(&right)
    }
}

/// Places the replicas of one range and counts them as load.
fn place_one(nodes: &mut [Load<'_>], replicas: usize) -> Vec<NodeId> {
    let mut chosen: Vec<usize> = Vec::with_capacity(replicas);
    let mut in_zone: BTreeMap<&str, usize> = BTreeMap::new();
    while chosen.len() < replicas {
        let next = (0..nodes.len()).filter(|index| !chosen.contains(index)).min_by(|&left, &right| {
            let (left, right) = (&nodes[left], &nodes[right]);
            let zones = |load: &Load<'_>| in_zone.get(load.candidate.zone.as_str()).copied().unwrap_or(0);
            zones(left)
                .cmp(&zones(right))
                .then_with(|| left.compare(right))
                .then_with(|| left.leads.cmp(&right.leads))
                .then_with(|| left.candidate.node.cmp(&right.candidate.node))
        });
        let Some(next) = next else { break };
        *in_zone.entry(nodes[next].candidate.zone.as_str()).or_default() += 1;
        chosen.push(next);
    }
    // The one that leads least leads this one too: load alone would let the first of a zone lead all.
    chosen.sort_by_key(|&index| (nodes[index].leads, nodes[index].candidate.node));
    if let Some(&leader) = chosen.first() {
        nodes[leader].leads += 1;
    }
    for &index in &chosen {
        nodes[index].replicas += 1;
    }
    chosen.into_iter().map(|index| nodes[index].candidate.node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn node(number: u8, zone: &str, replicas: u64, capacity: u64) -> Candidate {
        Candidate { node: NodeId::from_bytes([number; 16]), zone: zone.to_owned(), replicas, capacity }
    }

    #[test]
    fn too_few_nodes_are_a_shortage() {
        let one = [node(1, "", 0, 1)];
        assert_eq!(assign(&one, 4, 3), Err(Shortage { needed: 3, usable: 1 }));
        assert_eq!(assign(&[], 1, 1), Err(Shortage { needed: 1, usable: 0 }));
    }

    #[test]
    fn the_same_node_twice_is_one_node() {
        let twice = [node(1, "", 0, 1), node(1, "", 0, 1)];
        assert_eq!(assign(&twice, 1, 2), Err(Shortage { needed: 2, usable: 1 }));
    }

    #[test]
    fn zones_come_before_load() {
        // Zone b is busier, and still gets its replica.
        let nodes = [node(1, "a", 0, 1), node(2, "a", 0, 1), node(3, "b", 50, 1)];
        let sets = assign(&nodes, 10, 2).unwrap();
        assert!(sets.iter().all(|set| set.contains(&NodeId::from_bytes([3; 16]))));
    }

    #[test]
    fn load_is_counted_against_capacity() {
        let nodes = [node(1, "", 0, 1), node(2, "", 0, 3)];
        let sets = assign(&nodes, 40, 1).unwrap();
        let large = sets.iter().filter(|set| set[0] == NodeId::from_bytes([2; 16])).count();
        assert_eq!(large, 30);
    }

    #[test]
    fn a_busy_node_is_spared_until_others_caught_up() {
        let nodes = [node(1, "", 4, 1), node(2, "", 0, 1)];
        let sets = assign(&nodes, 4, 1).unwrap();
        assert!(sets.iter().all(|set| set == &[NodeId::from_bytes([2; 16])]));
    }

    #[test]
    fn leadership_is_spread_too() {
        let nodes: Vec<Candidate> = (0..16).map(|number| node(number, "", 0, 1)).collect();
        let sets = assign(&nodes, 160, 3).unwrap();
        for node in &nodes {
            let led = sets.iter().filter(|set| set[0] == node.node).count();
            assert!((8..=12).contains(&led), "{} leads {led}", node.node);
        }
    }

    proptest! {
        #[test]
        fn plans_are_even_distinct_and_spread(zones in proptest::collection::vec(0u8..4, 3..24), ranges in 1usize..200, replicas in 1usize..=3) {
            let nodes: Vec<Candidate> =
                zones.iter().enumerate().map(|(index, zone)| node(index as u8, &format!("zone-{zone}"), 0, 1)).collect();
            let zone_count = zones.iter().collect::<BTreeSet<_>>().len();
            let sets = assign(&nodes, ranges, replicas).unwrap();
            prop_assert_eq!(sets.len(), ranges);
            for set in &sets {
                prop_assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), replicas);
                let spread: BTreeSet<&str> = set.iter().map(|id| nodes[usize::from(id.as_bytes()[0])].zone.as_str()).collect();
                prop_assert!(spread.len() >= replicas.min(zone_count));
            }
            // The plan does not depend on the order in which the nodes were listed.
            let mut turned = nodes.clone();
            turned.reverse();
            prop_assert_eq!(assign(&turned, ranges, replicas).unwrap(), sets);
        }

        #[test]
        fn equal_nodes_get_equally_many(count in 1u8..20, ranges in 1usize..200, replicas in 1usize..=3) {
            prop_assume!(usize::from(count) >= replicas);
            let nodes: Vec<Candidate> = (0..count).map(|number| node(number, "", 0, 1)).collect();
            let sets = assign(&nodes, ranges, replicas).unwrap();
            let held = |id: NodeId| sets.iter().filter(|set| set.contains(&id)).count();
            let spread = |counts: Vec<usize>| counts.iter().max().unwrap() - counts.iter().min().unwrap();
            prop_assert!(spread(nodes.iter().map(|node| held(node.node)).collect()) <= 1);
        }
    }
}
