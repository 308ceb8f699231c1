//! How the groups of a node stand, in a few numbers that an operator watches: how far behind the members on each node are,
//! which groups lack a member, which have no leader.
//!
//! Only leaders know how far others are, so each node tells of the groups that it leads; over all nodes that is every
//! group once. One that sleeps has all members even, but for those that were away when it fell asleep. What this costs
//! depends on the groups that are awake, and is paid when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::awake::{Group, Metrics, View};
use super::host::Groups;
use crate::domain::ids::{NodeId, RangeId};
use crate::replication::replacement::CAUGHT_UP_ENTRIES_MAX;

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// For each other node: entries that the furthest behind of its members lacks, of groups that are awake and led from here.
    pub lags: BTreeMap<NodeId, u64>,
    /// Groups led from here of which a voter is away or far behind.
    pub under_replicated: usize,
    /// Groups that are awake here, and of which no leader is known or its node is silent.
    pub leaderless: usize,
}

/// How one group stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OfGroup {
    /// It is led from here: entries that each other member lacks, its node, and whether it votes.
    Led(Vec<(NodeId, u64, bool)>),
    /// Another leads.
    Follows,
    /// Nobody does, as far as is known here.
    Leaderless,
}

impl Standing {
    /// Of the groups that are awake, and so many that sleep although a member was away.
    pub(super) fn of(
        awake: &[(RangeId, Arc<Group>)],
        incomplete: usize,
        is_silent: &dyn Fn(NodeId) -> bool,
    ) -> Standing {
        let mut standing = Standing { under_replicated: incomplete, ..Standing::default() };
        for (_, group) in awake {
            standing.add(&group.look(|metrics| of_group(group, metrics, is_silent)), is_silent);
        }
        standing
    }

    fn add(&mut self, group: &OfGroup, is_silent: &dyn Fn(NodeId) -> bool) {
        match group {
            OfGroup::Follows => {}
            OfGroup::Leaderless => self.leaderless += 1,
            OfGroup::Led(members) => {
                for (node, lag, _) in members {
                    let most = self.lags.entry(*node).or_default();
                    *most = lag.max(most).to_owned();
                }
                let lacks = |(node, lag, votes): &(NodeId, u64, bool)| {
                    *votes && (*lag > CAUGHT_UP_ENTRIES_MAX || is_silent(*node))
                };
                self.under_replicated += usize::from(members.iter().any(lacks));
            }
        }
    }
}

fn of_group(group: &Group, metrics: &Metrics, is_silent: &dyn Fn(NodeId) -> bool) -> OfGroup {
    let view = View::of(metrics);
    let Some(replication) = metrics.replication.as_ref().filter(|_| view.leads) else {
        let is_led = view.leader_node().is_some_and(|node| !is_silent(node));
        return if is_led && !view.is_stopped { OfGroup::Follows } else { OfGroup::Leaderless };
    };
    let last = metrics.last_log_index.unwrap_or_default();
    let membership = metrics.membership_config.membership();
    let others = membership.nodes().filter(|(member, _)| **member != group.member());
    OfGroup::Led(
        others
            .map(|(member, node)| {
                let matched = replication.get(member).and_then(|matched| matched.as_ref()).map_or(0, |id| id.index);
                let votes = membership.voter_ids().any(|voter| voter == *member);
                (*node, last.saturating_sub(matched), votes)
            })
            .collect(),
    )
}

/// A range that is led from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// The range.
    pub range: RangeId,
    /// Entries that the copy lacks that is furthest behind.
    pub lag_max: u64,
    /// Entries that all copies lack together.
    pub lag_sum: u64,
}

impl Groups {
    /// The ranges of groups led from here. One that sleeps has all members even.
    pub fn led(&self) -> Vec<Led> {
        let (awake, asleep) = {
            let slots = self.slots.lock();
            (slots.all_awake(), slots.led_from(self.parts.node))
        };
        let of_awake =
            |(range, group): (RangeId, Arc<Group>)| match group.look(|metrics| of_group(&group, metrics, &|_| false)) {
                OfGroup::Led(members) => {
                    let lags = members.iter().map(|(_, lag, _)| *lag);
                    Some(Led { range, lag_max: lags.clone().max().unwrap_or(0), lag_sum: lags.sum() })
                }
                OfGroup::Follows | OfGroup::Leaderless => None,
            };
        let of_asleep = asleep.into_iter().map(|range| Led { range, lag_max: 0, lag_sum: 0 });
        awake.into_iter().filter_map(of_awake).chain(of_asleep).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    #[test]
    fn the_furthest_behind_counts_and_only_voters_are_missed() {
        let is_silent = |asked: NodeId| asked == node(3);
        let far = CAUGHT_UP_ENTRIES_MAX + 1;
        let mut standing = Standing::default();
        standing.add(&OfGroup::Led(vec![(node(1), 2, true), (node(2), 7, true)]), &is_silent);
        standing.add(&OfGroup::Led(vec![(node(1), 5, true), (node(2), 0, true)]), &is_silent);
        assert_eq!(standing.under_replicated, 0);
        standing.add(&OfGroup::Led(vec![(node(1), far, true), (node(2), far, true)]), &is_silent);
        standing.add(&OfGroup::Led(vec![(node(1), 0, true), (node(3), 0, true)]), &is_silent);
        standing.add(&OfGroup::Led(vec![(node(1), 0, true), (node(3), 9, false)]), &is_silent);
        standing.add(&OfGroup::Follows, &is_silent);
        standing.add(&OfGroup::Leaderless, &is_silent);
        let lags = BTreeMap::from([(node(1), far), (node(2), far), (node(3), 9)]);
        assert_eq!(standing, Standing { lags, under_replicated: 2, leaderless: 1 });
    }
}
