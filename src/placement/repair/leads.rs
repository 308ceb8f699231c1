//! Who leads what: leaderships leave nodes that shall not lead, and are spread where one node leads two more than another
//! that could. Each such change makes the numbers more even, so that this comes to an end.
//!
//! A node that is only silent keeps the wishes for it: its ranges have found other leaders by themselves, and go back to
//! it when it comes back.

use std::collections::BTreeSet;

use crate::domain::ids::{NodeId, RangeId};

use super::load::{Load, preferred_leader};
use super::{RepairMove, RepairNode, RepairRange, Standing, Step, View};

/// Changes of leaderships for ranges that nothing else is planned for.
pub(super) fn spread(
    view: &View<'_>,
    ranges: &[RepairRange],
    moved: &BTreeSet<RangeId>,
    load: &mut Load<'_>,
) -> Vec<RepairMove> {
    let mut ordered: Vec<&RepairRange> = ranges
        .iter()
        .filter(|range| range.wanted.len() > 1 && range.is_settled() && !moved.contains(&range.range))
        .collect();
    ordered.sort_by_key(|range| range.range);
    let mut moves = Vec::new();
    // Those that must, before those that may.
    for is_must in [true, false] {
        for range in &ordered {
            if moves.len() >= view.limits.leads_max {
                return moves;
            }
            let from = preferred_leader(range);
            if must_leave(view, range, from) == is_must
                && let Some(to) = better(view, range, from, is_must, load)
            {
                load.lead(from, to);
                moves.push(RepairMove { range: range.range, step: Step::Lead, leader: Some(to) });
            }
        }
    }
    moves
}

/// Whether the node is not to lead the range: it holds no copy, is leaving, or was asked to hand over.
fn must_leave(view: &View<'_>, range: &RepairRange, leader: NodeId) -> bool {
    let holds = range.wanted.iter().any(|copy| copy.node == leader);
    let is_asked_to = |node: &&RepairNode| {
        matches!(node.standing, Standing::Draining | Standing::GivenUp) || node.is_alive() && !node.may_lead
    };
    !holds || view.nodes.get(&leader).is_none_or(is_asked_to)
}

/// The node that should rather lead.
fn better(view: &View<'_>, range: &RepairRange, from: NodeId, is_must: bool, load: &Load<'_>) -> Option<NodeId> {
    let able = range
        .voters
        .iter()
        .filter(|copy| copy.node != from && view.may_lead(copy.node) && view.answers(range, copy))
        .map(|copy| copy.node);
    let best = able.min_by_key(|node| (load.leads(*node), *node))?;
    (is_must || view.is_alive(from) && load.leads(from) >= load.leads(best) + 2).then_some(best)
}
