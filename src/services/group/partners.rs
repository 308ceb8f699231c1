//! With which nodes this one shares groups: those are sent beacons and listened for.
//!
//! What each group's members said when it was last awake is kept, so that a look costs nothing for each group that sleeps: nodes
//! are counted as groups come and go. Groups on the same nodes, which are most, share one list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::ids::{NodeId, RangeId};

/// The nodes of a group's members, in order.
type NodeSet = Arc<[NodeId]>;

/// See the module's essay.
#[derive(Debug, Default)]
pub struct Partners {
    of: BTreeMap<RangeId, NodeSet>,
    sets: BTreeSet<NodeSet>,
    counts: BTreeMap<NodeId, usize>,
}

impl Partners {
    /// The range's group has members on these nodes, and on no others.
    pub fn note(&mut self, range: RangeId, nodes: impl IntoIterator<Item = NodeId>) {
        let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
        if self.of.get(&range).is_some_and(|known| known.iter().eq(&nodes)) {
            return;
        }
        self.forget(range);
        nodes.iter().for_each(|node| *self.counts.entry(*node).or_default() += 1);
        let nodes: NodeSet = nodes.into_iter().collect();
        let nodes = self.sets.get(&nodes).cloned().unwrap_or(nodes);
        self.sets.insert(Arc::clone(&nodes));
        self.of.insert(range, nodes);
    }

    /// Nothing is known of the range's group any more.
    pub fn forget(&mut self, range: RangeId) {
        let Some(nodes) = self.of.remove(&range) else { return };
        for node in nodes.iter() {
            if let Some(count) = self.counts.get_mut(node) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(node);
                }
            }
        }
        // This one and that in the set: no other group has it.
        if Arc::strong_count(&nodes) == 2 {
            self.sets.remove(&nodes);
        }
    }

    /// The nodes that groups are shared with, this one included.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.counts.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn groups_on(partners: &Partners, node: NodeId) -> usize {
        partners.counts.get(&node).copied().unwrap_or_default()
    }

    fn range(number: u8) -> RangeId {
        RangeId::from_bytes([number; 16])
    }

    #[test]
    fn ten_thousand_groups_on_the_same_nodes_share_one_list() {
        let mut partners = Partners::default();
        for number in 0..10_000_u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            partners.note(RangeId::from_bytes(id), [node(1), node(2), node(3)]);
        }
        assert_eq!((partners.sets.len(), partners.counts.len(), groups_on(&partners, node(2))), (1, 3, 10_000));
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_groups(steps in proptest::collection::vec((0u8..6, proptest::collection::btree_set(0u8..5, 0..4)), 0..60)) {
            let (mut partners, mut model) = (Partners::default(), BTreeMap::<u8, BTreeSet<u8>>::new());
            for (number, nodes) in steps {
                if nodes.is_empty() {
                    partners.forget(range(number));
                    model.remove(&number);
                } else {
                    partners.note(range(number), nodes.iter().map(|number| node(*number)));
                    model.insert(number, nodes);
                }
                for number in 0..5 {
                    let on = model.values().filter(|nodes| nodes.contains(&number)).count();
                    prop_assert_eq!(groups_on(&partners, node(number)), on);
                }
                let lists: BTreeSet<_> = model.values().collect();
                prop_assert_eq!(partners.sets.len(), lists.len());
                let all: BTreeSet<_> = model.values().flatten().map(|number| node(*number)).collect();
                prop_assert!(partners.nodes().eq(all));
            }
        }
    }
}
