//! Ranges of tables: planned when a table is made, and described for people.
//!
//! A range stands in the coordinator as one route (`tenant/…`) and one assignment per replica
//! (`node/…/hash/…`). They are written and removed together, a range never being torn between two
//! transactions, so the replicas named in a route are exactly the assignments there are.
//!
//! A new route has epoch 0: nobody has served the range yet, and it starts empty. The leader
//! publishes 1 or more when its file is there. From then on a node that finds no file for it has lost
//! data and must say so; it may never start empty again.

use std::collections::BTreeMap;

use crate::coordination::values::{
    AssignedRange, AssignedReplica, NodeDetails, NodeStatus, ReplicaState, Route, RouteReplica, from_json, to_json,
};
use crate::coordination::{Compare, KeyValue, OPERATIONS_PER_BATCH, Operation, layout};
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReplicaId, TableId};
use crate::domain::table::TableSpecification;
use crate::domain::{Refusal, TableName, TenantName};
use crate::placement::{Candidate, assign, initial_intervals, initial_ranges_default};

use super::history::{ATTEMPTS_MAX, contended, refusal};
use super::plane::ControlPlane;
use super::records::DeletedRange;
use super::sealed::unreadable;
use crate::services::range_reports::RangeReport;

/// Replicas asked for where a table's maker did not say.
const REPLICATION_FACTOR_DEFAULT: u8 = 3;
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
    /// Items, about, as the leader's node counts them; none where it does not answer.
    pub quantity: Option<u64>,
    /// Every copy.
    pub replicas: Vec<ReplicaDescription>,
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
    /// What its node says of it; none where the node does not answer, or does not serve it.
    pub table: Option<RangeReport>,
}

/// A node as the coordinator shows it.
#[derive(Debug, Clone)]
pub(super) struct NodeRow {
    pub(super) details: NodeDetails,
    pub(super) alive: bool,
    pub(super) ranges: Vec<layout::RouteKey>,
}

/// A range that is about to be written: new, or brought back.
#[derive(Debug, Clone)]
pub(super) struct PlannedRange {
    pub(super) range: RangeId,
    pub(super) interval: HashRange,
    pub(super) epoch: u64,
    /// The leader's first.
    pub(super) replicas: Vec<(NodeId, Option<ReplicaId>)>,
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
        let listing = self.coordinator.list(layout::NODES).await.map_err(refusal)?;
        let mut rows: BTreeMap<NodeId, NodeRow> = BTreeMap::new();
        let mut alive = Vec::new();
        let mut held: BTreeMap<NodeId, Vec<layout::RouteKey>> = BTreeMap::new();
        for entry in listing.entries {
            match layout::NodeKey::parse(&entry.key) {
                Some(layout::NodeKey::Details(node)) => {
                    let details = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
                    rows.insert(node, NodeRow { details, alive: false, ranges: Vec::new() });
                }
                Some(layout::NodeKey::Alive(node)) => alive.push(node),
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
        let replicas = usize::from(wanted.max(1)).min(candidates.len());
        let sets = assign(&candidates, intervals.len(), replicas)
            .map_err(|shortage| Refusal::unavailable(shortage.to_string(), 5))?;
        let random = self.random.as_ref();
        let planned = |(interval, nodes): (HashRange, Vec<NodeId>)| PlannedRange {
            range: RangeId::random(random),
            interval,
            epoch: 0,
            replicas: nodes.into_iter().map(|node| (node, Some(ReplicaId::random(random)))).collect(),
        };
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
        let mut nodes: Vec<NodeId> = routes.iter().flat_map(|(_, _, route)| holders(route)).collect();
        nodes.sort();
        nodes.dedup();
        let mut replicas: BTreeMap<(NodeId, u32), ReplicaId> = BTreeMap::new();
        for node in nodes {
            let listing =
                self.coordinator.list(&layout::node_table_ranges(node, tenant, table)).await.map_err(refusal)?;
            for entry in listing.entries {
                let assigned: AssignedRange = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
                if let Some(replica) = assigned.replica {
                    replicas.insert((node, assigned.low_hash), replica);
                }
            }
        }
        let remember = |(_, key, route): (KeyValue, layout::RouteKey, Route)| DeletedRange {
            range: route.range,
            low: key.low_hash,
            high: route.high_hash,
            epoch: route.epoch,
            replicas: holders(&route).map(|node| (node, replicas.get(&(node, key.low_hash)).copied())).collect(),
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
            if routes.is_empty() {
                return Ok(());
            }
            let groups = routes.into_iter().map(|(entry, key, route)| Group {
                // A leader may publish in between: then the whole piece is read and tried again.
                compares: vec![Compare::unchanged(&entry.key, Some(&entry))],
                operations: holders(&route)
                    .map(|node| layout::node_range(node, tenant, table, key.low_hash))
                    .chain([entry.key.clone()])
                    .map(Operation::delete)
                    .collect(),
            });
            for piece in pieces(groups) {
                self.coordinator.transact(piece.compares, piece.operations).await.map_err(refusal)?;
            }
        }
        Err(contended())
    }
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
    let wanted: Vec<AssignedReplica> = planned
        .replicas
        .iter()
        .filter_map(|(node, replica)| replica.map(|replica| AssignedReplica { node: *node, replica }))
        .collect();
    let assigned = planned.replicas.iter().map(|(node, replica)| {
        let value = AssignedRange {
            low_hash: low,
            high_hash: high,
            range: Some(planned.range),
            replica: *replica,
            table_uuid: Some(id),
            replicas: wanted.clone(),
            leader: None,
        };
        Operation::put(layout::node_range(*node, tenant, table, low), to_json(&value))
    });
    let mut operations: Vec<Operation> = assigned.collect();
    let route_key = layout::route(tenant, table, low);
    if let Some((leader, _)) = planned.replicas.first() {
        let replica = |(node, replica): &(NodeId, Option<ReplicaId>)| {
            let (uri, inside_uri) = addresses(node);
            RouteReplica { node: *node, uri, inside_uri, state: ReplicaState::Voter, replica: *replica }
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
        .filter(|(_, row)| row.details.status == NodeStatus::Okay && (row.alive || !any_alive))
        .map(|(node, row)| Candidate {
            node: *node,
            zone: row.details.zone.clone().unwrap_or_default(),
            replicas: row.ranges.len() as u64,
            capacity: row.details.free_bytes.or(row.details.capacity_bytes).unwrap_or(GIBIBYTE) / GIBIBYTE,
        })
        .collect()
}
