//! Placement with nodes that obey: copies grow, shrink, move, are made anew, and nothing that is needed goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

use super::node_side::NodeSide;
use crate::coordination::values::{Route, from_json};
use crate::coordination::{
    Compare, Coordinator, Error, LeaseId, Operation, Page, Revision, StoreHealth, TransactionResult, Watch, layout,
};
use crate::domain::ids::NodeId;
use crate::domain::table::TableChange;
use crate::domain::{RefusalKind, TenantName};
use crate::placement::repair::RangeHealth;
use crate::services::control::testing::{Cluster, open, specification, table};
use crate::services::control::{ControlPlane, PlacementReport};
use crate::services::ports::Catalog;

/// A cluster of so many nodes, all alive, each in one of three zones; with a tenant.
pub(super) async fn cluster(nodes: u8) -> (Cluster, TenantName, Vec<NodeId>) {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let mut all = Vec::new();
    for number in 1..=nodes {
        let node = cluster.node(number, ["a", "b", "c"][usize::from(number) % 3]).await;
        cluster.alive(node, true).await;
        all.push(node);
    }
    (cluster, acme, all)
}

/// Rounds of control and steps of nodes in turn until neither does anything.
pub(super) async fn settle(plane: &ControlPlane, side: &mut NodeSide<'_>) {
    for _ in 0..400 {
        let report = plane.reconcile().await.unwrap();
        if !side.step().await && report == PlacementReport::default() {
            return;
        }
    }
    panic!("it does not come to an end");
}

pub(super) async fn routes(cluster: &Cluster) -> Vec<Route> {
    let listing = cluster.coordinator.list(layout::ROUTES).await.unwrap();
    listing.entries.into_iter().map(|entry| from_json(&entry.value).unwrap()).collect()
}

fn on(route: &Route) -> BTreeSet<NodeId> {
    route.replicas.iter().map(|replica| replica.node).collect()
}

/// How many copies each range has, and that assignments are exactly those.
async fn copies(cluster: &Cluster) -> BTreeSet<usize> {
    let routes = routes(cluster).await;
    let assigned = cluster.keys("node/").await.iter().filter(|key| key.contains("/hash/")).count();
    assert_eq!(assigned, routes.iter().map(|route| route.replicas.len()).sum::<usize>());
    routes.iter().map(|route| on(route).len()).collect()
}

async fn wait_silent(cluster: &Cluster, plane: &ControlPlane, seconds: u64) {
    plane.reconcile().await.unwrap();
    for _ in 0..seconds / 60 {
        cluster.clock.forward(60);
        plane.reconcile().await.unwrap();
    }
}

#[tokio::test]
async fn the_factor_goes_up_and_down_while_serving() {
    let (cluster, acme, _) = cluster(5).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    cluster.plane.create_table(&cluster.root, &acme, &users, specification(6, 1)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    assert_eq!(copies(&cluster).await, [1].into());
    let mut version = 1;
    for factor in [3u8, 5, 3, 1, 5, 1] {
        let change = TableChange { replication_factor: Some(factor), ..TableChange::default() };
        let changed = cluster.plane.change_table(&cluster.root, &acme, &users, change).await.unwrap();
        version += 1;
        assert_eq!((changed.version, changed.specification.replication_factor), (version, Some(factor)));
        settle(&cluster.plane, &mut side).await;
        assert_eq!(copies(&cluster).await, [usize::from(factor)].into());
        for route in routes(&cluster).await {
            let zones: BTreeSet<u8> = on(&route).iter().map(|node| node.as_bytes()[0] % 3).collect();
            assert_eq!(zones.len(), usize::from(factor.min(3)), "over zones first");
        }
    }
    let page = cluster.plane.history("table/acme/users", None, 1).await.unwrap();
    assert_eq!(page.versions[0].before.as_ref().unwrap()["replication_factor"], 5);
    assert_eq!(page.versions[0].after.as_ref().unwrap()["replication_factor"], 1);
    for factor in [0, 2, 4, 6] {
        let change = TableChange { replication_factor: Some(factor), ..TableChange::default() };
        let refused = cluster.plane.change_table(&cluster.root, &acme, &users, change).await.unwrap_err();
        assert_eq!(refused.kind, RefusalKind::BadInput);
    }
    let missing = cluster.plane.change_table(&cluster.root, &acme, &table("others"), TableChange::default()).await;
    assert_eq!(missing.unwrap_err().kind, RefusalKind::NotFound);
}

#[tokio::test]
async fn a_table_without_a_wish_has_as_many_copies_as_nodes_up_to_three() {
    let (cluster, acme, _) = cluster(1).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    let plain = serde_json::from_str(r#"{"id_type":"String","initial_ranges":2}"#).unwrap();
    cluster.plane.create_table(&cluster.root, &acme, &users, plain).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    assert_eq!(copies(&cluster).await, [1].into());
    assert_eq!(cluster.plane.placement_summary().await.unwrap().under_replicated, 0, "one node, one copy");
    for (number, expected) in [(2, 2), (3, 3), (4, 3)] {
        let node = cluster.node(number, "b").await;
        cluster.alive(node, true).await;
        settle(&cluster.plane, &mut side).await;
        assert_eq!(copies(&cluster).await, [expected].into());
    }
}

#[tokio::test]
async fn leaderships_are_even_and_new_tables_start_with_three() {
    let (cluster, acme, nodes) = cluster(3).await;
    let mut side = NodeSide::new(&cluster);
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(9, 3)).await.unwrap();
    assert_eq!(copies(&cluster).await, [3].into());
    settle(&cluster.plane, &mut side).await;
    side.fall_silent(nodes[0]).await;
    settle(&cluster.plane, &mut side).await;
    assert!(routes(&cluster).await.iter().all(|route| route.node != nodes[0]), "others lead at once");
    side.come_back(nodes[0]).await;
    settle(&cluster.plane, &mut side).await;
    let led = routes(&cluster).await.iter().filter(|route| route.node == nodes[0]).count();
    assert_eq!(led, 3, "and its leaderships come back to it");
}

#[tokio::test]
async fn a_silent_node_is_replaced_after_the_delay_and_not_before() {
    let (cluster, acme, nodes) = cluster(4).await;
    let mut side = NodeSide::new(&cluster);
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(8, 3)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    let before = routes(&cluster).await;
    side.fall_silent(nodes[1]).await;
    wait_silent(&cluster, &cluster.plane, 540).await;
    assert_eq!(before.iter().map(on).collect::<Vec<_>>(), routes(&cluster).await.iter().map(on).collect::<Vec<_>>());
    let summary = cluster.plane.placement_summary().await.unwrap();
    assert!(summary.under_replicated > 0 && summary.unavailable == 0, "{summary:?}");
    // Back in time: nothing has happened, and its silence is forgotten.
    side.come_back(nodes[1]).await;
    settle(&cluster.plane, &mut side).await;
    side.fall_silent(nodes[1]).await;
    wait_silent(&cluster, &cluster.plane, 540).await;
    assert!(routes(&cluster).await.iter().any(|route| on(route).contains(&nodes[1])));
    wait_silent(&cluster, &cluster.plane, 60).await;
    settle(&cluster.plane, &mut side).await;
    assert_eq!(copies(&cluster).await, [3].into());
    assert!(routes(&cluster).await.iter().all(|route| !on(route).contains(&nodes[1])));
    // Back too late: it holds nothing, and is given what is short only.
    side.come_back(nodes[1]).await;
    settle(&cluster.plane, &mut side).await;
    assert!(routes(&cluster).await.iter().all(|route| !on(route).contains(&nodes[1])));
    assert!(cluster.keys(&layout::node_tables(nodes[1])).await.is_empty());
}

#[tokio::test]
async fn a_jump_of_the_clock_is_no_silence() {
    let (cluster, acme, nodes) = cluster(4).await;
    let mut side = NodeSide::new(&cluster);
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(4, 3)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    side.fall_silent(nodes[1]).await;
    cluster.plane.reconcile().await.unwrap();
    cluster.clock.forward(24 * 3600);
    settle(&cluster.plane, &mut side).await;
    assert!(routes(&cluster).await.iter().any(|route| on(route).contains(&nodes[1])));
}

#[tokio::test]
async fn when_most_are_silent_nothing_moves() {
    let (cluster, acme, nodes) = cluster(5).await;
    let mut side = NodeSide::new(&cluster);
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(8, 3)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    for node in &nodes[2..] {
        side.fall_silent(*node).await;
    }
    let before: Vec<_> = routes(&cluster).await.iter().map(on).collect();
    wait_silent(&cluster, &cluster.plane, 3600).await;
    assert_eq!(cluster.plane.reconcile().await.unwrap(), PlacementReport::default());
    assert_eq!(routes(&cluster).await.iter().map(on).collect::<Vec<_>>(), before);
}

#[tokio::test]
async fn a_lost_copy_is_made_anew_under_another_id() {
    let (cluster, acme, nodes) = cluster(3).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    cluster.plane.create_table(&cluster.root, &acme, &users, specification(1, 3)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    let old = side.lose(nodes[1], &acme, &users, 0).await;
    settle(&cluster.plane, &mut side).await;
    let route = routes(&cluster).await.remove(0);
    assert_eq!(on(&route), nodes.iter().copied().collect());
    assert!(route.replicas.iter().all(|replica| replica.replica != Some(old)), "never the same again");
    // Of a single copy there is no other to make it from.
    cluster.plane.create_table(&cluster.root, &acme, &table("single"), specification(1, 1)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    let single = cluster.plane.range_list(&acme, &table("single")).await.unwrap().remove(0);
    side.lose(single.leader, &acme, &table("single"), 0).await;
    settle(&cluster.plane, &mut side).await;
    let after = cluster.plane.range_list(&acme, &table("single")).await.unwrap().remove(0);
    assert_eq!((after.replicas, after.health), (single.replicas, RangeHealth::Unavailable));
}

#[tokio::test]
async fn two_instances_that_both_believe_to_lead_do_no_harm() {
    let (cluster, acme, _) = cluster(5).await;
    let (users, mut side, other) = (table("users"), NodeSide::new(&cluster), cluster.another().await);
    cluster.plane.create_table(&cluster.root, &acme, &users, specification(12, 1)).await.unwrap();
    side.step().await;
    for factor in [5, 1, 3] {
        let change = TableChange { replication_factor: Some(factor), ..TableChange::default() };
        cluster.plane.change_table(&cluster.root, &acme, &users, change).await.unwrap();
        for _ in 0..60 {
            let (one, two) = tokio::join!(cluster.plane.reconcile(), other.reconcile());
            side.step().await;
            let (one, two) = (one.unwrap(), two.unwrap());
            assert!(one.moves + two.moves <= 12 + 64, "each change is made once");
        }
        settle(&other, &mut side).await;
        assert_eq!(copies(&cluster).await, [usize::from(factor)].into());
    }
}

/// A coordinator that is gone for this process after so many transactions.
struct Dying {
    inner: Arc<dyn Coordinator>,
    left: AtomicI64,
}

#[async_trait]
impl Coordinator for Dying {
    async fn get(&self, key: &str) -> Result<Option<crate::coordination::KeyValue>, Error> {
        self.inner.get(key).await
    }
    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Option<Revision>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.inner.list_page(prefix, after, revision, limit).await
    }
    async fn transact(&self, compares: Vec<Compare>, operations: Vec<Operation>) -> Result<TransactionResult, Error> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            ..=0 => Err(Error::Unavailable("killed".to_owned())),
            // The last one happens, and nobody learns of it.
            1 => {
                self.inner.transact(compares, operations).await?;
                Err(Error::OutcomeUnknown("killed".to_owned()))
            }
            _ => self.inner.transact(compares, operations).await,
        }
    }
    async fn lease_grant(&self, ttl_seconds: u32) -> Result<LeaseId, Error> {
        self.inner.lease_grant(ttl_seconds).await
    }
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<u32, Error> {
        self.inner.lease_keep_alive(lease).await
    }
    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.lease_revoke(lease).await
    }
    async fn watch(&self, prefix: &str, from_revision: Revision) -> Result<Watch, Error> {
        self.inner.watch(prefix, from_revision).await
    }
    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
    async fn health(&self) -> Result<StoreHealth, Error> {
        self.inner.health().await
    }
}

#[tokio::test]
async fn killed_between_any_two_writes_another_goes_on() {
    let (cluster, acme, nodes) = cluster(5).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    cluster.plane.create_table(&cluster.root, &acme, &users, specification(3, 1)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    let mut survived = 0;
    for writes in 1..=40 {
        // Each time there is something to do: copies come, go, and move.
        let factor = [3u8, 5, 1][writes % 3];
        let change = TableChange { replication_factor: Some(factor), ..TableChange::default() };
        cluster.plane.change_table(&cluster.root, &acme, &users, change).await.unwrap();
        let dying: Arc<dyn Coordinator> =
            Arc::new(Dying { inner: cluster.coordinator.clone(), left: AtomicI64::new(writes as i64 / 2 + 1) });
        let doomed = open(&dying, &cluster.control_key, &cluster.clock).await.unwrap();
        let mut rounds = 0;
        while doomed.reconcile().await.is_ok() && rounds < 30 {
            side.step().await;
            rounds += 1;
        }
        survived += usize::from(rounds == 30);
        drop(doomed);
        side.step().await;
        settle(&cluster.plane, &mut side).await;
        assert_eq!(copies(&cluster).await, [usize::from(factor)].into());
    }
    assert!(survived < 40, "some were killed at work");
    assert_eq!(nodes.len(), 5);
}

#[tokio::test]
async fn a_table_dropped_in_the_middle_of_a_change_leaves_nothing_and_comes_back_whole() {
    let (cluster, acme, _) = cluster(5).await;
    let (users, mut side) = (table("users"), NodeSide::new(&cluster));
    cluster.plane.create_table(&cluster.root, &acme, &users, specification(4, 3)).await.unwrap();
    settle(&cluster.plane, &mut side).await;
    let change = TableChange { replication_factor: Some(5), ..TableChange::default() };
    cluster.plane.change_table(&cluster.root, &acme, &users, change).await.unwrap();
    cluster.plane.reconcile().await.unwrap();
    side.step().await;
    let before = cluster.plane.range_list(&acme, &users).await.unwrap();
    assert!(before.iter().all(|range| range.replicas.len() == 4 && range.health == RangeHealth::UnderReplicated));
    cluster.plane.delete_table(&cluster.root, &acme, &users).await.unwrap();
    assert!(cluster.keys(layout::ROUTES).await.is_empty());
    assert!(cluster.keys("node/").await.iter().all(|key| !key.contains("/hash/")));
    assert_eq!(cluster.plane.reconcile().await.unwrap(), PlacementReport::default());
    cluster.plane.table_undelete(&cluster.root, &acme, &users, None, None).await.unwrap();
    let after = cluster.plane.range_list(&acme, &users).await.unwrap();
    for (before, after) in before.iter().zip(&after) {
        let ids = |range: &crate::services::control::RangeDescription| {
            range
                .replicas
                .iter()
                .map(|copy| (copy.node, copy.replica, format!("{:?}", copy.state)))
                .collect::<BTreeSet<_>>()
        };
        assert_eq!((ids(before), before.epoch, before.range), (ids(after), after.epoch, after.range));
    }
    settle(&cluster.plane, &mut side).await;
    assert_eq!(copies(&cluster).await, [5].into());
}

/// Of the founders of a group the one with the lowest id stands for election first.
#[tokio::test]
async fn of_a_new_range_the_copy_on_the_node_that_is_to_lead_has_the_lowest_id() {
    let (cluster, acme, _) = cluster(3).await;
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(20, 3)).await.unwrap();
    for route in routes(&cluster).await {
        let first = route.replicas.iter().min_by_key(|copy| copy.replica).unwrap();
        assert_eq!((first.node, route.replicas.len()), (route.node, 3));
    }
}
