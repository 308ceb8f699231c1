//! Ranges of tables: planned when a table is made, and described for people.
//!
//! A range stands in the coordinator as one route (`tenant/…`) and one assignment per replica
//! (`node/…/hash/…`). They are made and removed together, a range never being torn between two
//! transactions. In between they part: an assignment says what control wants ([`super::reconcile`]), a route what the
//! range's leader has published. Nobody assigns a range that has no route.
//!
//! A new route has epoch 0: nobody has served the range yet, and it starts empty. The leader
//! publishes 1 or more when its file is there. From then on a node that finds no file for it has lost
//! data and must say so; it may never start empty again.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordination::values::{
    AssignedRange, AssignedReplica, NodeDetails, NodeStatus, ReplicaState, Route, RouteReplica, from_json, to_json,
};
use crate::coordination::{Compare, KeyValue, OPERATIONS_PER_BATCH, Operation, layout};
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReplicaId, Role, TableId};
use crate::domain::table::TableSpecification;
use crate::domain::{Random, Refusal, TableName, TenantName, Timestamp};
use crate::placement::repair::{RangeHealth, Standing};
use crate::placement::{Candidate, assign, initial_intervals, initial_ranges_default};
use crate::replication::split::SplitFrom;

use super::history::{ATTEMPTS_MAX, contended, refusal};
use super::plane::ControlPlane;
use super::records::{DeletedRange, MemberRecord, NodeWish};
use super::sealed::unreadable;
use crate::services::range_reports::RangeReport;

/// Replicas asked for where a table's maker did not say.
pub(super) const REPLICATION_FACTOR_DEFAULT: u8 = 3;
const GIBIBYTE: u64 = 1 << 30;

/// A range for people: where it is and who serves it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RangeDescription {
    /// The range.
    pub range: RangeId,
    /// Its table's id.
    pub table_uuid: TableId,
    /// The first hash.
    pub low_hash: u32,
    /// The last hash.
    pub high_hash: u32,
    /// The configuration's number; 0 until a node serves it.
    pub epoch: u64,
    /// The node that leads it.
    pub leader: NodeId,
    /// The node that is to lead it, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wished_leader: Option<NodeId>,
    /// How it stands.
    pub health: RangeHealth,
    /// Copies that are wanted of it and are no members yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coming: Vec<AssignedReplica>,
    /// Items, about, as the leader's node counts them; none where it does not answer.
    pub quantity: Option<u64>,
    /// Every copy.
    pub replicas: Vec<ReplicaDescription>,
    /// The hash at which it is about to be split, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_at: Option<u32>,
    /// Where it comes from, if it is a child of a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_from: Option<SplitFrom>,
}

/// One copy of a range.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReplicaDescription {
    /// Its node.
    pub node: NodeId,
    /// Where the node is reached.
    pub uri: String,
    /// What it may do.
    pub state: ReplicaState,
    /// The copy's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// Whether it is to go: control does not want it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_leaving: bool,
    /// How many entries of the log the leader has committed and this copy has not applied, as both say; none where one of
    /// them says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// What its node says of it; none where the node does not answer, or does not serve it.
    pub table: Option<RangeReport>,
}

/// A node as the coordinator shows it.
#[derive(Debug, Clone)]
pub(super) struct NodeRow {
    pub(super) details: NodeDetails,
    /// What its operator wants of it.
    pub(super) wish: NodeWish,
    /// Until when it is given no leaderships.
    pub(super) hand_over_until: Option<Timestamp>,
    pub(super) alive: bool,
    pub(super) ranges: Vec<layout::RouteKey>,
}

impl NodeRow {
    /// What was said of the node: by its operator first, then by itself.
    pub(super) fn standing(&self) -> Standing {
        match (self.wish, self.details.status) {
            (NodeWish::GiveUp, _) => Standing::GivenUp,
            (NodeWish::Drain, _) | (_, NodeStatus::Draining) => Standing::Draining,
            (NodeWish::Serve, NodeStatus::Okay) => Standing::Okay,
            // A node that was stopped says so itself; what a newer version says is no reason to move data.
            (NodeWish::Serve, NodeStatus::Down | NodeStatus::Unknown) => Standing::Stopped,
        }
    }

    /// The same in the words of its details.
    pub(super) fn status(&self) -> NodeStatus {
        match self.wish {
            NodeWish::GiveUp => NodeStatus::Down,
            NodeWish::Drain => NodeStatus::Draining,
            NodeWish::Serve => self.details.status,
        }
    }
}

/// A range that is about to be written: new, or brought back.
#[derive(Debug, Clone)]
pub(super) struct PlannedRange {
    pub(super) range: RangeId,
    pub(super) interval: HashRange,
    pub(super) epoch: u64,
    /// The leader's first.
    pub(super) replicas: Vec<(NodeId, Option<ReplicaId>)>,
    /// Those of them that are being filled.
    pub(super) learners: Vec<ReplicaId>,
    /// The copies that are wanted, where these are others.
    pub(super) wanted: Vec<AssignedReplica>,
    /// Whether it was never given to anybody.
    pub(super) is_new: bool,
}

impl PlannedRange {
    /// A range that nobody has served yet. Of the founders of a group the one with the lowest id stands first, so the first node gets
    /// that: else two of three ranges would begin with a hand-over.
    pub(super) fn new(interval: HashRange, nodes: Vec<NodeId>, random: &dyn Random) -> Self {
        let range = RangeId::random(random);
        let ids: BTreeSet<ReplicaId> = nodes.iter().map(|_| ReplicaId::random(random)).collect();
        Self {
            range,
            interval,
            epoch: 0,
            replicas: nodes.into_iter().zip(ids.into_iter().map(Some)).collect(),
            learners: Vec::new(),
            wanted: Vec::new(),
            is_new: true,
        }
    }
}

/// Compares and operations that must happen together.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) compares: Vec<Compare>,
    pub(super) operations: Vec<Operation>,
}

impl ControlPlane {
    /// All nodes with what they hold.
    pub(super) async fn node_rows(&self) -> Result<BTreeMap<NodeId, NodeRow>, Refusal> {
        let members = self.member_records(Role::Node).await?;
        let listing = self.coordinator.list(layout::NODES).await.map_err(refusal)?;
        rows_of(&listing.entries, &members)
    }

    /// Says where the ranges of a new table go.
    pub(super) fn plan(
        &self,
        specification: &TableSpecification,
        rows: &BTreeMap<NodeId, NodeRow>,
    ) -> Result<Vec<PlannedRange>, Refusal> {
        let candidates = candidates(rows);
        if candidates.is_empty() {
            return Err(Refusal::unavailable(
                "no node can take a table now: start one with `dstore node`, or look at `dstore control node list`",
                5,
            ));
        }
        let count = specification.initial_ranges.unwrap_or_else(|| initial_ranges_default(candidates.len()));
        let intervals = initial_intervals(count);
        let wanted =
            specification.replication_factor.unwrap_or(REPLICATION_FACTOR_DEFAULT).min(self.options.replicas_max);
        let replicas = match usize::from(wanted.max(1)).min(candidates.len()) {
            // Four bear the loss of no more nodes than three do.
            4 => 3,
            replicas => replicas,
        };
        let sets = assign(&candidates, intervals.len(), replicas)
            .map_err(|shortage| Refusal::unavailable(shortage.to_string(), 5))?;
        let random = self.random.as_ref();
        let planned = |(interval, nodes)| PlannedRange::new(interval, nodes, random);
        Ok(intervals.into_iter().zip(sets).map(planned).collect())
    }

    /// The ranges of a table that has this id, as they were last published.
    pub(super) async fn routes_of(
        &self,
        tenant: &TenantName,
        table: &TableName,
        id: TableId,
    ) -> Result<Vec<(KeyValue, layout::RouteKey, Route)>, Refusal> {
        let listing = self.coordinator.list(&layout::table_routes(tenant, table)).await.map_err(refusal)?;
        let mut routes = Vec::with_capacity(listing.entries.len());
        for entry in listing.entries {
            let Some(key) = layout::RouteKey::parse(&entry.key) else { continue };
            let route: Route = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
            if route.table_uuid == id {
                routes.push((entry, key, route));
            }
        }
        Ok(routes)
    }

    /// The ranges of a table with the replicas on their nodes, fit for bringing them back.
    pub(super) async fn ranges_remember(
        &self,
        tenant: &TenantName,
        table: &TableName,
        id: TableId,
    ) -> Result<Vec<DeletedRange>, Refusal> {
        let routes = self.routes_of(tenant, table, id).await?;
        let mut assigned: BTreeMap<(NodeId, u32), AssignedRange> = BTreeMap::new();
        for (node, entry, value) in self.assignments_of_table(tenant, table, id).await? {
            let range =
                routes.iter().find(|(_, key, _)| key.low_hash == value.low_hash).map(|(_, _, route)| route.range);
            if value.range == range {
                assigned.insert((node, value.low_hash), value);
            } else {
                tracing::warn!(key = entry.key, "an assignment without a route is not remembered");
            }
        }
        let remember = |(_, key, route): (KeyValue, layout::RouteKey, Route)| {
            let members: Vec<(NodeId, Option<ReplicaId>)> = holders(&route)
                .map(|node| {
                    let named =
                        route.replicas.iter().find(|member| member.node == node).and_then(|member| member.replica);
                    (node, named.or_else(|| assigned.get(&(node, key.low_hash)).and_then(|assigned| assigned.replica)))
                })
                .collect();
            let is_learner = |member: &&RouteReplica| member.state != ReplicaState::Voter;
            let listed = assigned.iter().filter(|((_, low), _)| *low == key.low_hash).map(|(_, assigned)| assigned);
            let wanted =
                listed.map(|assigned| assigned.replicas.clone()).find(|list| !list.is_empty()).unwrap_or_default();
            let same = wanted.len() == members.len()
                && wanted.iter().all(|copy| members.contains(&(copy.node, Some(copy.replica))));
            DeletedRange {
                range: route.range,
                low: key.low_hash,
                high: route.high_hash,
                epoch: route.epoch,
                learners: route.replicas.iter().filter(is_learner).filter_map(|member| member.replica).collect(),
                wanted: if same { Vec::new() } else { wanted },
                replicas: members,
            }
        };
        Ok(routes.into_iter().map(remember).collect())
    }

    /// Removes the routes and assignments of a table's id. Safe to run again, and against others who
    /// run it: what is of another table is not touched.
    pub(super) async fn ranges_remove(
        &self,
        tenant: &TenantName,
        table: &TableName,
        id: TableId,
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let routes = self.routes_of(tenant, table, id).await?;
            // Nobody assigns a range without its route, so once the routes are gone no assignment comes any more.
            let assigned = self.assignments_of_table(tenant, table, id).await?;
            if routes.is_empty() && assigned.is_empty() {
                return Ok(());
            }
            let mut of_range: BTreeMap<u32, Group> = BTreeMap::new();
            let routes = routes.into_iter().map(|(entry, key, _)| (key.low_hash, entry));
            let assigned = assigned.into_iter().map(|(_, entry, assigned)| (assigned.low_hash, entry));
            for (low_hash, entry) in routes.chain(assigned) {
                let group = of_range.entry(low_hash).or_default();
                // A leader may publish in between: then the whole piece is read and tried again.
                group.compares.push(Compare::unchanged(&entry.key, Some(&entry)));
                group.operations.push(Operation::delete(entry.key));
            }
            for piece in pieces(of_range.into_values()) {
                self.coordinator.transact(piece.compares, piece.operations).await.map_err(refusal)?;
            }
        }
        Err(contended())
    }

    /// What nodes were given of a table that has this id.
    pub(super) async fn assignments_of_table(
        &self,
        tenant: &TenantName,
        table: &TableName,
        id: TableId,
    ) -> Result<Vec<(NodeId, KeyValue, AssignedRange)>, Refusal> {
        let mut all = Vec::new();
        for entry in self.coordinator.list(layout::NODES).await.map_err(refusal)?.entries {
            let Some(layout::NodeKey::Range(node, key)) = layout::NodeKey::parse(&entry.key) else { continue };
            if key.tenant == *tenant && key.table == *table {
                let assigned: AssignedRange = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
                if assigned.table_uuid == Some(id) {
                    all.push((node, entry, assigned));
                }
            }
        }
        Ok(all)
    }
}

/// Nodes with what they hold, from all keys under `node/`.
pub(super) fn rows_of(entries: &[KeyValue], members: &[MemberRecord]) -> Result<BTreeMap<NodeId, NodeRow>, Refusal> {
    let mut rows: BTreeMap<NodeId, NodeRow> = BTreeMap::new();
    let mut alive = BTreeSet::new();
    let mut held: BTreeMap<NodeId, Vec<layout::RouteKey>> = BTreeMap::new();
    for entry in entries {
        match layout::NodeKey::parse(&entry.key) {
            Some(layout::NodeKey::Details(node)) => {
                let details = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
                let member = members.iter().find(|member| member.id == node.0);
                let row = NodeRow {
                    details,
                    wish: member.map(|member| member.wish).unwrap_or_default(),
                    hand_over_until: member.and_then(|member| member.hand_over_until),
                    alive: false,
                    ranges: Vec::new(),
                };
                rows.insert(node, row);
            }
            Some(layout::NodeKey::Alive(node)) => {
                alive.insert(node);
            }
            Some(layout::NodeKey::Range(node, range)) => held.entry(node).or_default().push(range),
            Some(layout::NodeKey::Table(..)) | None => {}
        }
    }
    for (node, row) in &mut rows {
        row.alive = alive.contains(node);
        row.ranges = held.remove(node).unwrap_or_default();
    }
    Ok(rows)
}

/// What a node can carry in comparison with others.
pub(super) fn weight(details: &NodeDetails) -> u64 {
    details.free_bytes.or(details.capacity_bytes).unwrap_or(GIBIBYTE) / GIBIBYTE
}

/// What writes a range: its assignments and its route, which must not be there yet.
pub(super) fn group_of(
    tenant: &TenantName,
    table: &TableName,
    id: TableId,
    planned: &PlannedRange,
    rows: &BTreeMap<NodeId, NodeRow>,
) -> Group {
    let HashRange { low, high } = planned.interval;
    let addresses = |node: &NodeId| match rows.get(node) {
        Some(row) => (row.details.uri.clone(), row.details.inside_uri.clone()),
        None => Default::default(),
    };
    let mut wanted: Vec<AssignedReplica> = planned.wanted.clone();
    let members = planned.replicas.iter().map(|(node, replica)| (*node, *replica));
    if wanted.is_empty() {
        wanted.extend(members.clone().filter_map(|(node, replica)| Some(AssignedReplica { node, replica: replica? })));
    }
    // Who is wanted and no member yet, or is made anew on its node, is assigned what is wanted.
    let mut holds: BTreeMap<NodeId, Option<ReplicaId>> = members.collect();
    holds.extend(wanted.iter().map(|copy| (copy.node, Some(copy.replica))));
    // The first copies are all alike; without a wish, whoever is quickest would lead.
    let leader = planned.replicas.first().map(|(node, _)| *node).filter(|_| wanted.len() > 1);
    let assigned = holds.into_iter().map(|(node, replica)| {
        let value = AssignedRange {
            low_hash: low,
            high_hash: high,
            range: Some(planned.range),
            replica,
            table_uuid: Some(id),
            replicas: wanted.clone(),
            leader,
            is_new: planned.is_new,
        };
        Operation::put(layout::node_range(node, tenant, table, low), to_json(&value))
    });
    let mut operations: Vec<Operation> = assigned.collect();
    let route_key = layout::route(tenant, table, low);
    if let Some((leader, _)) = planned.replicas.first() {
        let replica = |(node, replica): &(NodeId, Option<ReplicaId>)| {
            let (uri, inside_uri) = addresses(node);
            let is_learner = replica.is_some_and(|replica| planned.learners.contains(&replica));
            let state = if is_learner { ReplicaState::Learner } else { ReplicaState::Voter };
            RouteReplica { node: *node, uri, inside_uri, state, replica: *replica }
        };
        let (uri, inside_uri) = addresses(leader);
        let route = Route {
            node: *leader,
            uri,
            inside_uri,
            high_hash: high,
            range: planned.range,
            epoch: planned.epoch,
            table_uuid: id,
            replicas: planned.replicas.iter().map(replica).collect(),
            split_from: None,
        };
        operations.push(Operation::put(&route_key, to_json(&route)));
    }
    Group { compares: vec![Compare::absent(route_key)], operations }
}

/// Groups put together to pieces of a transaction each; a group is never torn.
pub(super) fn pieces(groups: impl IntoIterator<Item = Group>) -> Vec<Group> {
    let mut pieces: Vec<Group> = Vec::new();
    for group in groups {
        match pieces.last_mut() {
            Some(piece) if piece.operations.len() + group.operations.len() <= OPERATIONS_PER_BATCH => {
                piece.compares.extend(group.compares);
                piece.operations.extend(group.operations);
            }
            _ => pieces.push(group),
        }
    }
    pieces
}

/// The nodes that hold a replica, the leader first.
pub(super) fn holders(route: &Route) -> impl Iterator<Item = NodeId> + use<> {
    let leader = route.node;
    let others: Vec<NodeId> =
        route.replicas.iter().map(|replica| replica.node).filter(|node| *node != leader).collect();
    std::iter::once(leader).chain(others)
}

/// Nodes that may be given ranges: those that serve and are alive; where none is alive, all that
/// serve, because leases that vanish all at once are the coordinator's fault and not the nodes'.
pub(super) fn candidates(rows: &BTreeMap<NodeId, NodeRow>) -> Vec<Candidate> {
    let any_alive = rows.values().any(|row| row.alive);
    rows.iter()
        .filter(|(_, row)| row.standing() == Standing::Okay && (row.alive || !any_alive))
        .map(|(node, row)| Candidate {
            node: *node,
            zone: row.details.zone.clone().unwrap_or_default(),
            replicas: row.ranges.len() as u64,
            capacity: weight(&row.details),
        })
        .collect()
}
