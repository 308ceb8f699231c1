//! What nodes carry while a plan is made: copies, copies being filled, and leaderships. What the plan has given so far
//! counts, so that a plan of many moves comes out even.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::NodeId;

use super::{PlacedCopy, RepairRange, Step, View};

#[derive(Debug, Clone, Copy, Default)]
struct Carried {
    copies: u64,
    fills: usize,
    leads: u64,
}

pub(super) struct Load<'a> {
    carried: BTreeMap<NodeId, Carried>,
    fills: usize,
    limits: &'a super::RepairLimits,
}

impl<'a> Load<'a> {
    pub(super) fn of(view: &View<'a>, ranges: &[RepairRange]) -> Self {
        let mut load = Self { carried: BTreeMap::new(), fills: 0, limits: view.limits };
        for range in ranges {
            let members = range.voters.iter().chain(&range.learners).chain(&range.wanted);
            let nodes: BTreeSet<NodeId> = members.map(|copy| copy.node).collect();
            for node in nodes {
                load.carried.entry(node).or_default().copies += 1;
            }
            load.carried.entry(preferred_leader(range)).or_default().leads += 1;
            if view.can_change(range) {
                // A copy that cannot come holds nobody up.
                for copy in view.incoming(range).filter(|copy| view.answers(range, copy)) {
                    load.fill(copy.node);
                }
            }
        }
        load
    }

    fn fill(&mut self, node: NodeId) {
        self.fills += 1;
        self.carried.entry(node).or_default().fills += 1;
    }

    fn carried(&self, node: NodeId) -> Carried {
        self.carried.get(&node).copied().unwrap_or_default()
    }

    /// How many ranges it leads, or shall lead.
    pub(super) fn leads(&self, node: NodeId) -> u64 {
        self.carried(node).leads
    }

    /// Copies against capacity, compared without division.
    pub(super) fn compare(&self, view: &View<'_>, left: NodeId, right: NodeId) -> Ordering {
        let capacity = |node: NodeId| u128::from(view.nodes.get(&node).map_or(1, |node| node.capacity.max(1)));
        let copies = |node: NodeId| u128::from(self.carried(node).copies);
        (copies(left) * capacity(right)).cmp(&(copies(right) * capacity(left)))
    }

    /// Where a new copy of the range goes, in place of another or besides all, and besides one that is planned already: to a zone with few of its copies, and there to
    /// the node that carries least.
    pub(super) fn place(
        &self,
        view: &View<'_>,
        range: &RepairRange,
        instead: Option<&PlacedCopy>,
        besides: Option<NodeId>,
    ) -> Option<NodeId> {
        if self.fills + usize::from(besides.is_some()) >= self.limits.fills_max {
            return None;
        }
        let goes = |copy: &&PlacedCopy| Some(copy.replica) != instead.map(|copy| copy.replica);
        let staying: Vec<&PlacedCopy> = range.wanted.iter().filter(goes).collect();
        // One that is lost makes room on its own node; one that is there keeps its place until it has left the group.
        let still_there = |copy: &&PlacedCopy| goes(copy) || !range.lost.contains(&copy.replica);
        let members = range.voters.iter().chain(&range.learners).chain(&range.wanted).filter(still_there);
        let taken: BTreeSet<NodeId> = members.map(|copy| copy.node).chain(besides).collect();
        let mut in_zone: BTreeMap<&str, usize> = BTreeMap::new();
        for node in staying.iter().map(|copy| copy.node).chain(besides) {
            let zone = view.nodes.get(&node).map_or("", |node| node.zone.as_str());
            *in_zone.entry(zone).or_default() += 1;
        }
        let able = view.nodes.values().filter(|node| {
            node.takes_copies()
                && !taken.contains(&node.node)
                && self.carried(node.node).fills < self.limits.fills_per_node_max
        });
        let best = able.min_by(|left, right| {
            let zones = |zone: &str| in_zone.get(zone).copied().unwrap_or(0);
            zones(&left.zone)
                .cmp(&zones(&right.zone))
                .then_with(|| self.compare(view, left.node, right.node))
                .then(left.node.cmp(&right.node))
        });
        best.map(|node| node.node)
    }

    /// Counts what a step will make of the load.
    pub(super) fn count(&mut self, range: &RepairRange, step: Step, leader: Option<NodeId>) {
        let new = match step {
            Step::Add(node) | Step::Replace(_, node) => [Some(node), None],
            Step::AddTwo(one, other) => [Some(one), Some(other)],
            Step::Remove(_) | Step::Lead => [None, None],
        };
        for node in new.into_iter().flatten() {
            self.carried.entry(node).or_default().copies += 1;
            self.fill(node);
        }
        if let Some(leader) = leader {
            self.lead(preferred_leader(range), leader);
        }
    }

    /// Counts a leadership over.
    pub(super) fn lead(&mut self, from: NodeId, to: NodeId) {
        let from = self.carried.entry(from).or_default();
        from.leads = from.leads.saturating_sub(1);
        self.carried.entry(to).or_default().leads += 1;
    }
}

/// Who leads the range, or shall: the wish counts before what is published, or a wish that is not fulfilled yet would be
/// made again elsewhere.
pub(super) fn preferred_leader(range: &RepairRange) -> NodeId {
    range.wished_leader.unwrap_or(range.leader)
}
