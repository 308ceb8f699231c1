//! A node says under `tenant/…` that it serves its ranges, who votes in them, and where all of them are reached.
//!
//! Control makes a route with epoch 0: nobody has served the range yet. The range's leader publishes a greater one, and
//! from then on no copy of it starts empty again but as a new one that is filled from the others
//! ([`super::assignments`]).
//!
//! | range | epoch | who publishes |
//! |---|---|---|
//! | one copy that never was a group | 1, as long as it is none | the node that holds it |
//! | a child of a split, not published yet | the same | the leader of either child writes the routes of both, over the parent's |
//! | a group | made of term and place of the membership: at least 2^40 | the group's leader, what [`crate::replication::publish`] decides |
//!
//! Addresses are no configuration: after a restart on another port they are published anew under the same epoch.
//!
//! Each route is changed by compare-and-set on what was read, some 60 in a transaction. Where a compare fails
//! each of the piece is tried by itself, so that one route that control changes in the same moment does not hold up
//! the others. What is not ours is left alone: a route of another range, table or leader, and one of a greater epoch.
//!
//! What was published is remembered by a fingerprint, so that nothing is read as long as nothing changes; it is forgotten
//! now and then ([`rounds`]), because a coordinator may have been brought back from an older copy meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::coordination::values::{Route, RouteReplica, from_json, to_json};
use crate::coordination::{Compare, Coordinator, KeyValue, OPERATIONS_PER_BATCH, Operation, layout};
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReplicaId, TableId};
use crate::domain::{Refusal, TableName, TenantName};
use crate::replication::publish::{self, Address, EPOCH_INDEX_BITS, GroupView, Publication, Reason};

use super::engine::Origin;
use super::group::ports::GroupStatus;
use super::node_directory::NodeDirectory;

pub mod rounds;
mod splits;
mod views;

use views::route_from;
pub(super) use views::view_of;

/// The epoch of a range with one copy that never was a group.
const EPOCH_ALONE: u64 = 1;
/// The least epoch of a group: its first term.
const EPOCH_GROUPED_MIN: u64 = 1 << EPOCH_INDEX_BITS;
/// Up to so many ranges of a table are read one by one; more are listed together.
const READ_SINGLY_MAX: usize = 4;

/// Where a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedAddress {
    /// By clients.
    pub uri: String,
    /// By other components, where that is another address.
    pub inside_uri: Option<String>,
}

/// A range of which this node has a copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServedRange {
    /// The tenant's name.
    pub tenant: TenantName,
    /// The table's name.
    pub table: TableName,
    /// The table.
    pub table_id: TableId,
    /// The range.
    pub range: RangeId,
    /// Its hashes.
    pub hashes: HashRange,
    /// This node's copy.
    pub replica: ReplicaId,
}

impl ServedRange {
    /// The key of its route.
    pub fn route_key(&self) -> String {
        layout::route(&self.tenant, &self.table, self.hashes.low)
    }

    /// What stands there, where it is a route of this range.
    pub(super) fn route_in(&self, entry: &KeyValue) -> Option<Route> {
        let route = from_json::<Route>(&entry.value).ok()?;
        (route.range == self.range && route.table_uuid == self.table_id).then_some(route)
    }
}

/// Whose word a range's route is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// This node's alone: the range has one copy and is no group.
    Alone,
    /// Its group's, as this node's copy knows it.
    Group(GroupStatus),
    /// The same of a child of a split, whose parent this node has a copy of; of one that is alone, as a group of it would stand.
    Child(GroupStatus, Box<Origin>),
}

/// How publishing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Routes written.
    pub written: usize,
    /// Ranges whose route is not (or no longer) this node's to write: nothing was written for them.
    pub not_ours: usize,
    /// Routes to be tried again soon: they changed in the same moment, their group is not ready, or not all of its members
    /// have begun.
    pub contended: usize,
}

/// See the module's essay.
pub struct RoutePublisher {
    node: NodeId,
    address: PublishedAddress,
    coordinator: Arc<dyn Coordinator>,
    directory: Arc<NodeDirectory>,
    /// Of each range, a fingerprint of what was last found right or published.
    done: Mutex<HashMap<RangeId, u64>>,
}

/// A route to be written over one that was read.
struct Change {
    range: RangeId,
    fingerprint: u64,
    entry: KeyValue,
    route: Route,
}

impl Change {
    /// Whether its route has nothing more to say: that of a child of a split has, until all members have begun.
    fn has_begun(&self) -> bool {
        self.route.split_from.is_none_or(|from| from.begun)
    }
}

/// What is to be done about a route.
enum Verdict {
    /// It is right, or a greater one stands there.
    Done,
    /// It is another's.
    NotOurs,
    /// It can be told soon.
    Later,
    /// This goes there.
    Write(Route),
}

impl RoutePublisher {
    /// A publisher for this node, reached at this address for as long as it runs. The directory tells where others are.
    pub fn new(
        node: NodeId,
        address: PublishedAddress,
        coordinator: Arc<dyn Coordinator>,
        directory: Arc<NodeDirectory>,
    ) -> Self {
        Self { node, address, coordinator, directory, done: Mutex::default() }
    }

    /// Publishes those of `served` that changed since they were last published.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked; what was not written is tried again by the next call.
    pub async fn publish(&self, served: &[(ServedRange, Standing)]) -> Result<Published, Refusal> {
        let mut tables: BTreeMap<(&TenantName, &TableName), Vec<(&ServedRange, &Standing, u64)>> = BTreeMap::new();
        for (range, standing) in served {
            let fingerprint = self.fingerprint(range, standing);
            if self.done.lock().get(&range.range) != Some(&fingerprint) {
                let of_table = tables.entry((&range.tenant, &range.table)).or_default();
                of_table.push((range, standing, fingerprint));
            }
        }
        let mut published = Published::default();
        let mut changes = Vec::new();
        for ((tenant, table), ranges) in tables {
            let keys: Vec<String> = ranges.iter().map(|(range, _, _)| range.route_key()).collect();
            let entries = self.read(tenant, table, &keys).await?;
            for ((range, standing, fingerprint), key) in ranges.into_iter().zip(keys) {
                let entry = entries.get(&key);
                match self.verdict(range, standing, entry) {
                    Verdict::Done => drop(self.done.lock().insert(range.range, fingerprint)),
                    Verdict::NotOurs => match standing {
                        Standing::Child(status, origin) => {
                            self.publish_split(range, status, origin, &mut published).await?;
                        }
                        _ => published.not_ours += 1,
                    },
                    Verdict::Later => published.contended += 1,
                    Verdict::Write(route) => {
                        let change =
                            |entry: &KeyValue| Change { range: range.range, fingerprint, entry: entry.clone(), route };
                        changes.extend(entry.map(change));
                    }
                }
            }
        }
        self.write_all(&changes, &mut published).await?;
        Ok(published)
    }

    /// Those of these ranges, of one table, that no leader has published yet: they might still start empty.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn unserved(&self, ranges: &[ServedRange]) -> Result<Vec<RangeId>, Refusal> {
        let Some(first) = ranges.first() else { return Ok(Vec::new()) };
        let keys: Vec<String> = ranges.iter().map(ServedRange::route_key).collect();
        let entries = self.read(&first.tenant, &first.table, &keys).await?;
        let is_unserved = |(range, key): &(&ServedRange, &String)| {
            let route = entries.get(*key).and_then(|entry| range.route_in(entry));
            route.is_none_or(|route| route.epoch == 0)
        };
        Ok(ranges.iter().zip(&keys).filter(is_unserved).map(|(range, _)| range.range).collect())
    }

    /// Forgets that a range was published: it is no longer this node's.
    pub fn forget(&self, range: RangeId) {
        self.done.lock().remove(&range);
    }

    /// Forgets what was published of all groups: everything is compared with the coordinator again.
    pub fn forget_all(&self) {
        self.done.lock().clear();
    }

    async fn read(
        &self,
        tenant: &TenantName,
        table: &TableName,
        keys: &[String],
    ) -> Result<HashMap<String, KeyValue>, Refusal> {
        let mut entries = Vec::new();
        if keys.len() <= READ_SINGLY_MAX {
            for key in keys {
                entries.extend(self.coordinator.get(key).await.map_err(unreachable)?);
            }
        } else {
            let prefix = layout::table_routes(tenant, table);
            entries = self.coordinator.list(&prefix).await.map_err(unreachable)?.entries;
        }
        Ok(entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect())
    }

    fn verdict(&self, range: &ServedRange, standing: &Standing, entry: Option<&KeyValue>) -> Verdict {
        let Some(entry) = entry else { return Verdict::NotOurs };
        let Ok(route) = from_json::<Route>(&entry.value) else {
            tracing::error!(key = entry.key, "a route cannot be read; it is left alone");
            return Verdict::NotOurs;
        };
        match standing {
            Standing::Alone => match renewed(self.node, &self.address, range, &route) {
                None => Verdict::NotOurs,
                Some(new) if new == route => Verdict::Done,
                Some(new) => Verdict::Write(new),
            },
            Standing::Group(status) | Standing::Child(status, _) => self.group_verdict(range, status, &route),
        }
    }

    fn group_verdict(&self, range: &ServedRange, status: &GroupStatus, route: &Route) -> Verdict {
        let group = group_view(self.node, range, status);
        let addresses = self.addresses_of(status);
        match publish::publication(Some(&view_of(range.hashes.low, route)), &group, &addresses) {
            Publication::Write(view) => Verdict::Write(route_from(&view)),
            Publication::Leave(Reason::Same | Reason::Newer) => Verdict::Done,
            Publication::Leave(Reason::NotCommitted | Reason::NotBegun | Reason::AddressUnknown(_)) => Verdict::Later,
            Publication::Leave(Reason::Contradiction) => {
                tracing::error!(range = %range.range, epoch = route.epoch, "the route says something else under the same epoch; it is left alone");
                Verdict::NotOurs
            }
            Publication::Leave(Reason::NotLeader | Reason::NoRoute | Reason::OtherRange) => Verdict::NotOurs,
        }
    }

    fn addresses_of(&self, status: &GroupStatus) -> BTreeMap<NodeId, Address> {
        let nodes = status.membership.members.values();
        nodes.filter_map(|node| Some((*node, self.address_of(*node)?))).collect()
    }

    /// Where a node is, as far as is known here.
    fn address_of(&self, node: NodeId) -> Option<Address> {
        if node == self.node {
            return Some(Address { uri: self.address.uri.clone(), inside_uri: self.address.inside_uri.clone() });
        }
        let known = self.directory.address(node)?;
        Some(Address { uri: known.uri, inside_uri: known.inside_uri })
    }

    /// Changes whenever something else would be published.
    fn fingerprint(&self, range: &ServedRange, standing: &Standing) -> u64 {
        let mut hasher = DefaultHasher::new();
        range.hash(&mut hasher);
        if let Standing::Group(status) | Standing::Child(status, _) = standing {
            let committed = status.membership_at.index <= status.committed;
            (status.is_leader, status.epoch(), committed, &status.membership).hash(&mut hasher);
            status.membership.members.values().for_each(|node| self.address_of(*node).hash(&mut hasher));
        }
        hasher.finish()
    }

    async fn write_all(&self, changes: &[Change], published: &mut Published) -> Result<(), Refusal> {
        for piece in changes.chunks(OPERATIONS_PER_BATCH) {
            if self.write(piece).await? {
                published.written += piece.len();
                published.contended += piece.iter().filter(|change| !change.has_begun()).count();
                continue;
            }
            for one in piece.chunks(1) {
                match self.write(one).await? {
                    true => published.written += 1,
                    false => published.contended += 1,
                }
            }
        }
        Ok(())
    }

    async fn write(&self, piece: &[Change]) -> Result<bool, Refusal> {
        let compares = piece.iter().map(|change| Compare::unchanged(&change.entry.key, Some(&change.entry))).collect();
        let operations = piece.iter().map(|change| Operation::put(&change.entry.key, to_json(&change.route))).collect();
        let succeeded = self.coordinator.transact(compares, operations).await.map_err(unreachable)?.succeeded;
        if succeeded {
            let begun = piece.iter().filter(|change| change.has_begun());
            self.done.lock().extend(begun.map(|change| (change.range, change.fingerprint)));
        }
        Ok(succeeded)
    }
}

/// What a group says on this node.
fn group_view(node: NodeId, range: &ServedRange, status: &GroupStatus) -> GroupView {
    GroupView {
        range: range.range,
        table: range.table_id,
        hashes: range.hashes,
        node,
        leads: status.is_leader,
        term: status.term,
        membership: status.membership.clone(),
        membership_at: status.membership_at,
        committed: status.committed,
        matched: matched_of(status),
    }
}

/// How far each member's log is known to go, the leader's own included.
fn matched_of(status: &GroupStatus) -> BTreeMap<ReplicaId, u64> {
    let mut matched = status.matched.clone();
    matched.insert(status.replica, status.last_index);
    matched
}

/// The route of a range that is no group, as this node publishes it; none where it is of another range, table, leader or
/// copy, or a group's.
fn renewed(node: NodeId, address: &PublishedAddress, range: &ServedRange, route: &Route) -> Option<Route> {
    let is_other_copy = |copy: &RouteReplica| copy.replica.is_some_and(|replica| replica != range.replica);
    let is_of_group = route.epoch >= EPOCH_GROUPED_MIN || route.replicas.iter().any(is_other_copy);
    if route.node != node || route.range != range.range || route.table_uuid != range.table_id || is_of_group {
        return None;
    }
    let replica = |copy: &RouteReplica| match copy.node == node {
        true => RouteReplica {
            uri: address.uri.clone(),
            inside_uri: address.inside_uri.clone(),
            replica: Some(range.replica),
            ..copy.clone()
        },
        false => copy.clone(),
    };
    Some(Route {
        uri: address.uri.clone(),
        inside_uri: address.inside_uri.clone(),
        epoch: route.epoch.max(EPOCH_ALONE),
        replicas: route.replicas.iter().map(replica).collect(),
        ..route.clone()
    })
}

/// The refusal for a coordinator that cannot be asked.
pub(super) fn unreachable(error: crate::coordination::Error) -> Refusal {
    Refusal::unavailable(error.to_string(), 1)
}

#[cfg(test)]
pub(super) mod tests;
