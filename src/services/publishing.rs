//! A node says under `tenant/…` that it serves its ranges, and where it is reached.
//!
//! Control makes a route with epoch 0: nobody has served the range yet, and it starts empty. The range's leader
//! publishes 1 or more when its file is there. From then on a node that finds no file for the range has lost
//! data and never starts it empty again ([`may_start_empty`]). With one replica the node that holds it leads it, and
//! its term is the first: the epoch stays 1 as long as nothing about the range's configuration changes. Addresses
//! are no configuration: after a restart on another port they are published anew under the same epoch.
//!
//! Each route is changed by compare-and-set on what was read, some 60 in a transaction. Where a compare fails
//! each of the piece is tried by itself, so that one route that control changes in the same moment does not hold up
//! the others. What is not ours is left alone: a route of another range, table or leader.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::coordination::values::{Route, RouteReplica, from_json, to_json};
use crate::coordination::{Compare, Coordinator, KeyValue, OPERATIONS_PER_BATCH, Operation, layout};
use crate::domain::ids::{NodeId, RangeId, TableId};
use crate::domain::{Refusal, TableName, TenantName};

/// The first epoch that a leader publishes: of the first term, before any change.
const EPOCH_FIRST: u64 = 1;

/// Where a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedAddress {
    /// By clients.
    pub uri: String,
    /// By other components, where that is another address.
    pub inside_uri: Option<String>,
}

/// A range that this node serves.
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
    /// Where it begins.
    pub low_hash: u32,
}

/// How publishing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Routes written.
    pub written: usize,
    /// Ranges whose route is not (or no longer) there as this node's: nothing was written for them.
    pub not_ours: usize,
    /// Routes that changed in the same moment; to be tried again.
    pub contended: usize,
}

/// See the module's essay.
pub struct RoutePublisher {
    node: NodeId,
    address: PublishedAddress,
    coordinator: Arc<dyn Coordinator>,
    done: Mutex<HashSet<RangeId>>,
}

impl RoutePublisher {
    /// A publisher for this node, reached at this address for as long as it runs.
    pub fn new(node: NodeId, address: PublishedAddress, coordinator: Arc<dyn Coordinator>) -> Self {
        Self { node, address, coordinator, done: Mutex::default() }
    }

    /// Publishes those of `served` that were not published since the start.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked; what was not written is tried again by the next call.
    pub async fn publish(&self, served: &[ServedRange]) -> Result<Published, Refusal> {
        let mut tables: BTreeMap<(TenantName, TableName), Vec<&ServedRange>> = BTreeMap::new();
        {
            let done = self.done.lock();
            for range in served.iter().filter(|range| !done.contains(&range.range)) {
                tables.entry((range.tenant.clone(), range.table.clone())).or_default().push(range);
            }
        }
        let mut published = Published::default();
        let mut changes = Vec::new();
        for ((tenant, table), ranges) in tables {
            let listing = self.coordinator.list(&layout::table_routes(&tenant, &table)).await.map_err(unreachable)?;
            let routes: HashMap<&str, &KeyValue> =
                listing.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
            for range in ranges {
                let entry = routes.get(layout::route(&tenant, &table, range.low_hash).as_str());
                match entry.and_then(|entry| self.renewed(range, entry).map(|route| (*entry, route))) {
                    None => published.not_ours += 1,
                    Some((_, None)) => drop(self.done.lock().insert(range.range)),
                    Some((entry, Some(route))) => changes.push((range.range, entry.clone(), route)),
                }
            }
        }
        self.write_all(&changes, &mut published).await?;
        Ok(published)
    }

    async fn write_all(
        &self,
        changes: &[(RangeId, KeyValue, Route)],
        published: &mut Published,
    ) -> Result<(), Refusal> {
        for piece in changes.chunks(OPERATIONS_PER_BATCH) {
            if self.write(piece).await? {
                published.written += piece.len();
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

    /// Forgets that a range was published: it is no longer this node's.
    pub fn forget(&self, range: RangeId) {
        self.done.lock().remove(&range);
    }

    /// What the route is to become; none where it is not this node's to write, and none inside where it is right already.
    fn renewed(&self, range: &ServedRange, entry: &KeyValue) -> Option<Option<Route>> {
        let Ok(route) = from_json::<Route>(&entry.value) else {
            tracing::error!(key = entry.key, "a route cannot be read; it is left alone");
            return None;
        };
        renewed(self.node, &self.address, range, &route).map(|new| (new != route).then_some(new))
    }

    async fn write(&self, piece: &[(RangeId, KeyValue, Route)]) -> Result<bool, Refusal> {
        let compares = piece.iter().map(|(_, entry, _)| Compare::unchanged(&entry.key, Some(entry))).collect();
        let operations = piece.iter().map(|(_, entry, route)| Operation::put(&entry.key, to_json(route))).collect();
        let succeeded = self.coordinator.transact(compares, operations).await.map_err(unreachable)?.succeeded;
        if succeeded {
            self.done.lock().extend(piece.iter().map(|(range, _, _)| *range));
        }
        Ok(succeeded)
    }
}

/// The route as this node publishes it; none where it is of another range, table or leader.
fn renewed(node: NodeId, address: &PublishedAddress, range: &ServedRange, route: &Route) -> Option<Route> {
    if route.node != node || route.range != range.range || route.table_uuid != range.table_id {
        return None;
    }
    let replica = |replica: &RouteReplica| match replica.node == node {
        true => RouteReplica { uri: address.uri.clone(), inside_uri: address.inside_uri.clone(), ..replica.clone() },
        false => replica.clone(),
    };
    Some(Route {
        uri: address.uri.clone(),
        inside_uri: address.inside_uri.clone(),
        epoch: route.epoch.max(EPOCH_FIRST),
        replicas: route.replicas.iter().map(replica).collect(),
        ..route.clone()
    })
}

/// Whether a range that this node was given, and has no file of, may start empty: only where its route says that nobody
/// has served it yet.
///
/// # Errors
/// `Unavailable` where the route is not there, or not to be read, at present; `Damaged` where the range was served
/// before, so that starting it empty would hide that its data is gone.
pub async fn may_start_empty(coordinator: &dyn Coordinator, range: &ServedRange) -> Result<(), Refusal> {
    let key = layout::route(&range.tenant, &range.table, range.low_hash);
    let entry = coordinator.get(&key).await.map_err(unreachable)?;
    let route = entry.and_then(|entry| from_json::<Route>(&entry.value).ok());
    match route.filter(|route| route.range == range.range && route.table_uuid == range.table_id) {
        None => Err(Refusal::unavailable(format!("the route of range {} is not there yet", range.range), 1)),
        Some(route) if route.epoch == 0 => Ok(()),
        Some(route) => Err(Refusal::new(
            crate::domain::RefusalKind::Damaged,
            format!(
                "range {} of table {} was served before (epoch {}), and its file is not here. It is not started empty: restore the node's data folder, or remove the node with --lose-data",
                range.range, range.table, route.epoch
            ),
        )),
    }
}

fn unreachable(error: crate::coordination::Error) -> Refusal {
    Refusal::unavailable(error.to_string(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::Writer;
    use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
    use crate::coordination::values::ReplicaState;
    use crate::domain::RefusalKind;

    fn address(port: u16) -> PublishedAddress {
        PublishedAddress {
            uri: format!("http://node:{port}/"),
            inside_uri: Some(format!("https://node:{}/", port + 1)),
        }
    }

    fn served(number: u8) -> ServedRange {
        ServedRange {
            tenant: TenantName::new("acme").unwrap(),
            table: TableName::new("users").unwrap(),
            table_id: TableId::from_bytes([7; 16]),
            range: RangeId::from_bytes([number; 16]),
            low_hash: u32::from(number) * 100,
        }
    }

    fn own() -> NodeId {
        NodeId::from_bytes([1; 16])
    }

    fn route(range: &ServedRange, node: NodeId, epoch: u64) -> Route {
        let uri = "http://before:1/".to_owned();
        Route {
            node,
            uri: uri.clone(),
            inside_uri: None,
            high_hash: range.low_hash + 99,
            range: range.range,
            epoch,
            table_uuid: range.table_id,
            replicas: vec![RouteReplica { node, uri, inside_uri: None, state: ReplicaState::Voter, replica: None }],
        }
    }

    struct Fixture {
        coordinator: Arc<dyn Coordinator>,
        _store: EmbeddedStore,
        _folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
            Self { coordinator: Arc::new(store.handle(Writer::Control)), _store: store, _folder: folder }
        }

        fn publisher(&self, port: u16) -> RoutePublisher {
            RoutePublisher::new(own(), address(port), self.coordinator.clone())
        }

        async fn put(&self, range: &ServedRange, route: &Route) {
            let key = layout::route(&range.tenant, &range.table, range.low_hash);
            self.coordinator.put(&key, to_json(route), None).await.unwrap();
        }

        async fn get(&self, range: &ServedRange) -> (Route, i64) {
            let key = layout::route(&range.tenant, &range.table, range.low_hash);
            let entry = self.coordinator.get(&key).await.unwrap().unwrap();
            (from_json(&entry.value).unwrap(), entry.version)
        }
    }

    #[tokio::test]
    async fn a_served_range_gets_an_epoch_and_later_another_address() {
        let fixture = Fixture::new();
        let ranges: Vec<ServedRange> = (0..150).map(served).collect();
        for range in &ranges {
            fixture.put(range, &route(range, own(), 0)).await;
        }
        let publisher = fixture.publisher(8080);
        assert_eq!(publisher.publish(&ranges).await.unwrap(), Published { written: 150, ..Published::default() });
        assert_eq!(publisher.publish(&ranges).await.unwrap(), Published::default());
        let (first, version) = fixture.get(&ranges[0]).await;
        assert_eq!((first.epoch, first.uri.as_str(), version), (1, "http://node:8080/", 2));
        assert_eq!(first.replicas[0].inside_uri.as_deref(), Some("https://node:8081/"));

        let again = fixture.publisher(8080);
        assert_eq!(again.publish(&ranges).await.unwrap(), Published::default(), "nothing to say after a restart");
        let moved = fixture.publisher(9090);
        assert_eq!(moved.publish(&ranges).await.unwrap().written, 150);
        let (first, _) = fixture.get(&ranges[0]).await;
        assert_eq!((first.epoch, first.uri.as_str()), (1, "http://node:9090/"));
    }

    #[tokio::test]
    async fn what_is_not_ours_is_left_alone_and_epochs_never_fall() {
        let fixture = Fixture::new();
        let (high, foreign, replaced, absent) = (served(1), served(2), served(3), served(4));
        fixture.put(&high, &route(&high, own(), 9)).await;
        fixture.put(&foreign, &route(&foreign, NodeId::from_bytes([2; 16]), 3)).await;
        let other = Route { range: RangeId::from_bytes([99; 16]), ..route(&replaced, own(), 0) };
        fixture.put(&replaced, &other).await;
        let asked = [high.clone(), foreign.clone(), replaced.clone(), absent];
        let published = fixture.publisher(8080).publish(&asked).await.unwrap();
        assert_eq!(published, Published { written: 1, not_ours: 3, contended: 0 });
        assert_eq!(fixture.get(&high).await.0.epoch, 9);
        assert_eq!(fixture.get(&foreign).await.1, 1);
        assert_eq!(fixture.get(&replaced).await.0, other);
    }

    #[tokio::test]
    async fn one_changed_route_does_not_hold_up_the_others() {
        let fixture = Fixture::new();
        let ranges: Vec<ServedRange> = (0..10).map(served).collect();
        let mut read = Vec::new();
        for range in &ranges {
            fixture.put(range, &route(range, own(), 0)).await;
            let key = layout::route(&range.tenant, &range.table, range.low_hash);
            let entry = fixture.coordinator.get(&key).await.unwrap().unwrap();
            let new = renewed(own(), &address(8080), range, &route(range, own(), 0)).unwrap();
            read.push((range.range, entry, new));
        }
        // Changed after it was read.
        fixture.put(&ranges[4], &route(&ranges[4], own(), 5)).await;
        let publisher = fixture.publisher(8080);
        let mut published = Published::default();
        publisher.write_all(&read, &mut published).await.unwrap();
        assert_eq!(published, Published { written: 9, not_ours: 0, contended: 1 });
        assert_eq!(fixture.get(&ranges[4]).await.0, route(&ranges[4], own(), 5));
        assert_eq!(publisher.publish(&ranges).await.unwrap().written, 1);
        assert_eq!(fixture.get(&ranges[4]).await.0.epoch, 5);
    }

    #[tokio::test]
    async fn only_what_nobody_served_starts_empty() {
        let fixture = Fixture::new();
        let (new, served_before, unknown) = (served(1), served(2), served(3));
        fixture.put(&new, &route(&new, own(), 0)).await;
        fixture.put(&served_before, &route(&served_before, own(), 1)).await;
        let ask = async |range: &ServedRange| may_start_empty(&*fixture.coordinator, range).await;
        assert_eq!(ask(&new).await, Ok(()));
        assert_eq!(ask(&served_before).await.unwrap_err().kind, RefusalKind::Damaged);
        assert_eq!(ask(&unknown).await.unwrap_err().kind, RefusalKind::Unavailable);
    }
}
