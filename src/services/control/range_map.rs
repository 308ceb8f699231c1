//! The whole cluster as placement looks at it: nodes, and for each range what its leader published (the route), what
//! control wants (the assignments), what its table asks for, and what nodes reported lost.
//!
//! It is read in a few listings, not at one revision. That is enough: whatever is written because of it is compared with
//! what was read ([`RangeRow::write`]), route and every assignment, so a range that changed in between is left for the
//! next round.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordination::values::{
    AssignedRange, AssignedReplica, RangeWish, ReplicaState, Route, RouteReplica, TableAtNode, from_json, to_json,
};
use crate::coordination::{Compare, KeyValue, Operation, layout};
use crate::domain::ids::{NodeId, RangeId, ReplicaId, Role, TableId};
use crate::domain::table::TableDefinition;
use crate::domain::{Refusal, Timestamp};
use crate::placement::repair::{PlacedCopy, RepairNode, RepairRange, Standing};

use super::history::refusal;
use super::plane::ControlPlane;
use super::ranges::{Group, NodeRow, REPLICATION_FACTOR_DEFAULT, weight};

/// Free bytes below which a node is given no more copies: room for what it has to grow.
const ROOM_BYTES_MIN: u64 = 1 << 30;

/// What stands in the coordinator about one range.
#[derive(Debug, Clone)]
pub(super) struct RangeRow {
    pub(super) key: layout::RouteKey,
    pub(super) entry: KeyValue,
    pub(super) route: Route,
    /// Whether its table's record is there; else the table is being made or removed, and the range is left alone.
    pub(super) has_table: bool,
    /// How many copies its table asks for, where it does.
    pub(super) asked: Option<usize>,
    /// How many it has otherwise: as many as there are nodes, and not more than three.
    pub(super) copies_default: usize,
    /// How many the cluster allows.
    pub(super) copies_max: usize,
    pub(super) assigned: BTreeMap<NodeId, (KeyValue, AssignedRange)>,
    /// Assignments under the same hash of another range: of the one that this one was split from.
    pub(super) stale: BTreeMap<NodeId, (KeyValue, AssignedRange)>,
    /// Where it is about to be split.
    pub(super) split_at: Option<u32>,
    pub(super) lost: BTreeSet<ReplicaId>,
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub(super) struct RangeMap {
    pub(super) rows: BTreeMap<NodeId, NodeRow>,
    pub(super) ranges: Vec<RangeRow>,
    /// What is asked of leaders, by range.
    pub(super) wishes: BTreeMap<RangeId, (KeyValue, RangeWish)>,
}

impl ControlPlane {
    /// Reads everything that placement looks at.
    pub(super) async fn range_map(&self) -> Result<RangeMap, Refusal> {
        let members = self.member_records(Role::Node).await?;
        // Before the routes: a wish is looked at with routes that are not older than it.
        let wishes = self.coordinator.list(layout::CONTROL_RANGES).await.map_err(refusal)?.entries;
        let wishes: BTreeMap<RangeId, (KeyValue, RangeWish)> = wishes.into_iter().filter_map(wish_in).collect();
        let tables = self.records::<TableDefinition>(layout::CONTROL_TABLES).await?;
        let nodes = self.coordinator.list(layout::NODES).await.map_err(refusal)?.entries;
        let routes = self.coordinator.list(layout::ROUTES).await.map_err(refusal)?.entries;
        let rows = super::ranges::rows_of(&nodes, &members)?;
        let expected = rows.values().filter(|row| matches!(row.standing(), Standing::Okay | Standing::Stopped));
        let copies_default = expected.count().clamp(1, usize::from(REPLICATION_FACTOR_DEFAULT));
        let copies_max = usize::from(self.options.replicas_max.max(1));
        let asked: BTreeMap<TableId, Option<usize>> = tables
            .into_iter()
            .map(|(_, table)| (table.id, table.specification.replication_factor.map(usize::from)))
            .collect();
        let (mut assigned, lost) = assignments_of(nodes);
        let mut ranges = Vec::with_capacity(routes.len());
        for entry in routes {
            let Some(key) = layout::RouteKey::parse(&entry.key) else { continue };
            let Ok(route) = from_json::<Route>(&entry.value) else {
                tracing::error!(key = entry.key, "a route cannot be read; its range is left alone");
                continue;
            };
            let of_key = assigned.remove(&key).unwrap_or_default();
            let (of_range, stale): (BTreeMap<_, _>, BTreeMap<_, _>) =
                of_key.into_iter().partition(|(_, (_, assigned))| assigned.range == Some(route.range));
            ranges.push(RangeRow {
                asked: asked.get(&route.table_uuid).copied().flatten(),
                copies_default,
                copies_max,
                has_table: asked.contains_key(&route.table_uuid),
                lost: of_range.keys().filter_map(|node| lost.get(node)).flatten().copied().collect(),
                assigned: of_range,
                stale,
                split_at: wishes.get(&route.range).map(|(_, wish)| wish.split.at),
                key,
                entry,
                route,
            });
        }
        Ok(RangeMap { rows, ranges, wishes })
    }
}

/// What is asked of a range's leader; none where a newer version wrote it.
fn wish_in(entry: KeyValue) -> Option<(RangeId, (KeyValue, RangeWish))> {
    let (range, wish) = (layout::parse_control_range(&entry.key)?, from_json(&entry.value).ok()?);
    Some((range, (entry, wish)))
}

type Assigned = BTreeMap<layout::RouteKey, BTreeMap<NodeId, (KeyValue, AssignedRange)>>;

/// The assignments by range, and the copies that each node reported lost.
fn assignments_of(entries: Vec<KeyValue>) -> (Assigned, BTreeMap<NodeId, BTreeSet<ReplicaId>>) {
    let mut assigned = Assigned::new();
    let mut lost: BTreeMap<NodeId, BTreeSet<ReplicaId>> = BTreeMap::new();
    for entry in entries {
        match layout::NodeKey::parse(&entry.key) {
            Some(layout::NodeKey::Range(node, key)) => match from_json::<AssignedRange>(&entry.value) {
                Ok(value) => drop(assigned.entry(key).or_default().insert(node, (entry, value))),
                Err(problem) => tracing::error!(key = entry.key, %problem, "an assignment cannot be read"),
            },
            Some(layout::NodeKey::Table(node, ..)) => match from_json::<TableAtNode>(&entry.value) {
                Ok(said) => lost.entry(node).or_default().extend(said.lost),
                Err(problem) => {
                    tracing::error!(key = entry.key, %problem, "what a node says of a table cannot be read")
                }
            },
            _ => {}
        }
    }
    (assigned, lost)
}

impl RangeMap {
    /// The nodes for placement. `silent_seconds` says for how long each has been watched in silence.
    pub(super) fn repair_nodes(&self, now: Timestamp, silent_seconds: impl Fn(NodeId) -> u64) -> Vec<RepairNode> {
        let one = |(node, row): (&NodeId, &NodeRow)| RepairNode {
            node: *node,
            zone: row.details.zone.clone().unwrap_or_default(),
            standing: row.standing(),
            silent_seconds: (!row.alive).then(|| silent_seconds(*node)),
            capacity: weight(&row.details),
            has_room: row.details.free_bytes.is_none_or(|free| free >= ROOM_BYTES_MIN),
            may_lead: row.hand_over_until.is_none_or(|until| until <= now),
        };
        self.rows.iter().map(one).collect()
    }

    /// The ranges for placement.
    pub(super) fn repair_ranges(&self) -> Vec<RepairRange> {
        self.ranges.iter().filter_map(RangeRow::repair_range).collect()
    }
}

impl RangeRow {
    /// The copies that control wants.
    pub(super) fn wanted(&self) -> Vec<AssignedReplica> {
        let listed = self.assigned.values().map(|(_, assigned)| &assigned.replicas).find(|list| !list.is_empty());
        if let Some(listed) = listed {
            return listed.clone();
        }
        // An earlier version wrote no list: what is assigned is what is wanted.
        let each = self.assigned.iter().filter_map(|(node, (_, assigned))| Some((*node, assigned.replica?)));
        each.map(|(node, replica)| AssignedReplica { node, replica }).collect()
    }

    /// The node that control wants to lead.
    pub(super) fn wished_leader(&self) -> Option<NodeId> {
        self.assigned.values().find_map(|(_, assigned)| assigned.leader)
    }

    /// The node that control wanted to lead the range that this one was split from.
    pub(super) fn stale_leader(&self) -> Option<NodeId> {
        self.stale.values().find_map(|(_, assigned)| assigned.leader)
    }

    /// The members as published. A route that names no replicas means those that are assigned.
    fn members(&self, is_voter: bool) -> Vec<PlacedCopy> {
        let assigned = |node: NodeId| self.assigned.get(&node).and_then(|(_, assigned)| assigned.replica);
        let members = self.route.replicas.iter().filter(|member| (member.state == ReplicaState::Voter) == is_voter);
        let copy = |member: &RouteReplica| {
            let replica = member.replica.or_else(|| assigned(member.node))?;
            Some(PlacedCopy { node: member.node, replica })
        };
        members.filter_map(copy).collect()
    }

    /// The range for placement; none where too little is known of it, or its table is being made or removed.
    pub(super) fn repair_range(&self) -> Option<RepairRange> {
        if !self.has_table || self.assigned.is_empty() {
            return None;
        }
        let voters = self.members(true);
        let wanted = self.wanted();
        // Only a table's own wish takes copies away. Fewer nodes, or a lower bound, make nothing grow any more.
        let default = self.copies_default.max(wanted.len().min(usize::from(REPLICATION_FACTOR_DEFAULT)));
        let factor = self.asked.unwrap_or(default).min(self.copies_max.max(wanted.len())).max(1);
        let wanted = wanted.into_iter().map(|copy| PlacedCopy { node: copy.node, replica: copy.replica });
        (!voters.is_empty()).then(|| RepairRange {
            range: self.route.range,
            factor,
            is_served: self.route.epoch > 0,
            leader: self.route.node,
            voters,
            learners: self.members(false),
            wanted: wanted.collect(),
            wished_leader: self.wished_leader(),
            lost: self.lost.clone(),
        })
    }

    /// What writes another list of wanted copies under every node of the range, those that are leaving included: they have to
    /// know that they are, and a leader among them takes itself out.
    pub(super) fn write(&self, wanted: &[AssignedReplica], leader: Option<NodeId>) -> Group {
        let key_of = |node: NodeId| layout::node_range(node, &self.key.tenant, &self.key.table, self.key.low_hash);
        let value = |replica: Option<ReplicaId>| AssignedRange {
            low_hash: self.key.low_hash,
            high_hash: self.route.high_hash,
            range: Some(self.route.range),
            replica,
            table_uuid: Some(self.route.table_uuid),
            replicas: wanted.to_vec(),
            leader,
            is_new: false,
        };
        let mut group = Group { compares: self.compares(), operations: Vec::new() };
        for copy in wanted {
            if !self.assigned.contains_key(&copy.node) {
                group.compares.push(Compare::absent(key_of(copy.node)));
            }
            group.operations.push(Operation::put(key_of(copy.node), to_json(&value(Some(copy.replica)))));
        }
        for (node, (entry, assigned)) in &self.assigned {
            if !wanted.iter().any(|copy| copy.node == *node) {
                group.operations.push(Operation::put(&entry.key, to_json(&value(assigned.replica))));
            }
        }
        group
    }

    /// What removes the assignments of copies that have left the group; none where there are none.
    pub(super) fn forget_departed(&self) -> Option<Group> {
        let departed = self.departed();
        (!departed.is_empty()).then(|| Group {
            compares: self.compares(),
            operations: departed.into_iter().map(Operation::delete).collect(),
        })
    }

    /// Keys of assignments that are neither wanted nor of members any more. Only of a range whose members, as its leader
    /// published them, are exactly the wanted copies, all voting: the leader that published them has seen the list without
    /// the others, so it takes none of them in again.
    fn departed(&self) -> Vec<&str> {
        let wanted: BTreeSet<ReplicaId> = self.wanted().iter().map(|copy| copy.replica).collect();
        let voters: BTreeSet<ReplicaId> = self.members(true).iter().map(|copy| copy.replica).collect();
        if self.route.epoch == 0 || !self.members(false).is_empty() || voters != wanted || wanted.is_empty() {
            return Vec::new();
        }
        let is_named = |node: NodeId| self.route.replicas.iter().any(|member| member.node == node);
        let departed = self.assigned.iter().filter(|(node, (_, assigned))| {
            let is_wanted = assigned.replica.is_some_and(|replica| wanted.contains(&replica));
            !is_wanted && !is_named(**node)
        });
        departed.map(|(_, (entry, _))| entry.key.as_str()).collect()
    }

    /// That nothing has changed since it was read.
    pub(super) fn compares(&self) -> Vec<Compare> {
        let assigned = self.assigned.values().map(|(entry, _)| Compare::unchanged(&entry.key, Some(entry)));
        std::iter::once(Compare::unchanged(&self.entry.key, Some(&self.entry))).chain(assigned).collect()
    }
}
