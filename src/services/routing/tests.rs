//! The routing table against real coordinators: what it obeys, what it does not, and what it does
//! while they are away.

use std::sync::Arc;
use std::time::Duration;

use super::plan::{Distrust, Kind, Plan};
use super::{DiskCopyOptions, RoutingOptions, RoutingSource, RoutingStatus, RoutingTable};
use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::etcd::{EtcdCoordinator, EtcdOptions};
use crate::coordination::testing::EtcdServer;
use crate::coordination::values::{ReplicaState, Route, RouteReplica, to_json};
use crate::coordination::{
    Coordinator, EventKind, KeyValue, Listing, Operation, ReflectorOptions, WatchBatch, WatchEvent, Writer, layout,
};
use crate::crypto::Key256;
use crate::domain::ids::{NodeId, PlaneId, ProxyId, RangeId, TableId, TenantId};
use crate::domain::key::KeyType;
use crate::domain::table::{TableDefinition, TableSpecification, Tenant};
use crate::domain::table_options::OptionTimes;
use crate::domain::tenant_limits::TenantLimits;
use crate::domain::{Clock, Random, TableName, TenantName, Timestamp};
use crate::services::items::NodeAddress;

const DEADLINE: Duration = Duration::from_secs(30);

/// A clock that stands still, and dice that count.
struct Still(std::sync::atomic::AtomicU8);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000)
    }
}

impl Random for Still {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    }
}

pub(super) fn tenant(name: &str) -> Tenant {
    let name = TenantName::new(name).unwrap();
    Tenant { id: TenantId::from_bytes([1; 16]), name, created_at: Timestamp(1), limits: TenantLimits::default() }
}

pub(super) fn definition(tenant: &str, table: &str, id: u8) -> TableDefinition {
    TableDefinition {
        tenant_id: TenantId::from_bytes([1; 16]),
        tenant: TenantName::new(tenant).unwrap(),
        id: TableId::from_bytes([id; 16]),
        name: TableName::new(table).unwrap(),
        specification: TableSpecification { replication_factor: Some(3), ..TableSpecification::new(KeyType::String) },
        created_at: Timestamp(1),
        version: 1,
        option_times: OptionTimes::default(),
    }
}

fn uri(node: u8) -> String {
    format!("https://node-{node}:8080/")
}

/// What a leader publishes: the range `range` of `users` from `low` to `high`.
fn publish(low: u32, high: u32, range: u128, epoch: u64, leader: u8) -> Operation {
    let users = definition("acme", "users", 7);
    let node = NodeId::from_bytes([leader; 16]);
    let inside_uri = Some(format!("https://node-{leader}:8081/"));
    let route = Route {
        node,
        uri: uri(leader),
        inside_uri: inside_uri.clone(),
        high_hash: high,
        range: RangeId(uuid::Uuid::from_u128(range)),
        epoch,
        table_uuid: users.id,
        replicas: vec![RouteReplica { node, uri: uri(leader), inside_uri, state: ReplicaState::Voter, replica: None }],
        split_from: None,
    };
    Operation::put(layout::route(&users.tenant, &users.name, low), to_json(&route))
}

/// What control writes when tenant and table are made.
fn found() -> Vec<Operation> {
    let (acme, users) = (tenant("acme"), definition("acme", "users", 7));
    vec![
        Operation::put(layout::control_tenant(&acme.name), to_json(&acme)),
        Operation::put(layout::control_table(&users.tenant, &users.name), to_json(&users)),
    ]
}

fn start(coordinator: Arc<dyn Coordinator>, folder: &tempfile::TempDir) -> RoutingTable {
    let options = RoutingOptions {
        disk_copy: Some(DiskCopyOptions {
            path: folder.path().join("routing"),
            key: Key256::new([3; 32]),
            plane: PlaneId::from_bytes([4; 16]),
        }),
        reflector: ReflectorOptions { backoff_ms_min: 10, backoff_ms_max: 100, ..ReflectorOptions::default() },
        save_pause_ms: 1,
    };
    let still = Arc::new(Still(0.into()));
    RoutingTable::start(coordinator, options, still.clone(), still)
}

async fn until(table: &RoutingTable, what: &str, holds: impl FnMut(&RoutingStatus) -> bool) {
    let mut status = table.subscribe();
    let outcome = tokio::time::timeout(DEADLINE, status.wait_for(holds)).await;
    assert!(outcome.is_ok(), "in vain: {what}; {:?}", table.status());
}

/// Which node leads the range of a hash of `users`, as its bytes' first.
fn leader(table: &RoutingTable, hash: u32) -> Option<u8> {
    let users = definition("acme", "users", 7);
    table.snapshot().route(&users, hash).map(|route| route.leader.node.as_bytes()[0])
}

async fn until_leader(table: &RoutingTable, hash: u32, expected: Option<u8>) {
    until(table, "a leader", |_| leader(table, hash) == expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_ups_go_on_without_etcd_and_catch_up_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = EtcdServer::start().unwrap();
    let coordinator = || Arc::new(EtcdCoordinator::new(EtcdOptions::plain(server.endpoint(), "dstore/")));
    let control = coordinator();
    control.transact(vec![], found()).await.unwrap();
    control.transact(vec![], vec![publish(0, 99, 1, 1, 1), publish(100, u32::MAX, 2, 1, 2)]).await.unwrap();

    let table = start(coordinator(), &folder);
    until(&table, "live", |status| status.source == RoutingSource::Live).await;
    assert_eq!((leader(&table, 99), leader(&table, 100)), (Some(1), Some(2)));
    control.transact(vec![], vec![publish(0, 99, 1, 2, 3)]).await.unwrap();
    until_leader(&table, 5, Some(3)).await;
    until(&table, "all saved", |status| status.saved_generation == status.generation).await;

    let (later, away) = (coordinator(), coordinator());
    server.kill().unwrap();
    until(&table, "etcd is missed", |status| status.source == RoutingSource::Memory).await;
    assert_eq!((leader(&table, 5), leader(&table, 100)), (Some(3), Some(2)), "memory serves");
    drop(table);

    let table = start(away, &folder);
    assert_eq!(table.status().source, RoutingSource::DiskCopy);
    assert_eq!(table.status().since, Timestamp(1_000_000));
    assert_eq!((leader(&table, 5), leader(&table, 100)), (Some(3), Some(2)), "the copy on disk serves");
    let names = (TenantName::new("acme").unwrap(), TableName::new("users").unwrap());
    assert_eq!(**table.snapshot().table(&names.0, &names.1).unwrap(), definition("acme", "users", 7));
    assert_eq!(**table.snapshot().tenant(&names.0).unwrap(), tenant("acme"));

    server.restart().unwrap();
    until(&table, "live again", |status| status.source == RoutingSource::Live).await;
    later.transact(vec![], vec![publish(100, u32::MAX, 2, 2, 4)]).await.unwrap();
    until_leader(&table, 100, Some(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_change_whole_and_drop_what_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("db"), EmbeddedOptions::default()).unwrap();
    let control = store.handle(Writer::Control);
    let table = start(Arc::new(store.handle(Writer::Proxy(ProxyId::from_bytes([1; 16])))), &folder);
    until(&table, "live", |status| status.source == RoutingSource::Live).await;
    assert_eq!(leader(&table, 5), None);
    control.transact(vec![], found()).await.unwrap();
    control.transact(vec![], vec![publish(0, u32::MAX, 1, 1, 1)]).await.unwrap();
    until_leader(&table, 5, Some(1)).await;

    // A split: the lower half keeps the key, the upper gets one; both are new ranges.
    control.transact(vec![], vec![publish(0, 999, 2, 5, 1), publish(1_000, u32::MAX, 3, 5, 2)]).await.unwrap();
    until_leader(&table, 1_000, Some(2)).await;
    assert_eq!((leader(&table, 999), table.snapshot().range_count()), (Some(1), 2));

    // The table is made anew under its name: the old routes do not serve the new table, nor the new the old.
    let users = definition("acme", "users", 7);
    let anew = definition("acme", "users", 8);
    assert!(table.snapshot().route(&anew, 5).is_none());

    table.learn(&users, 5, NodeAddress::new(NodeId::from_bytes([6; 16]), uri(6), None));
    assert_eq!(leader(&table, 5), Some(6), "what a node said is used at once");
    control.transact(vec![], vec![publish(0, 999, 2, 5, 5)]).await.unwrap();
    until_leader(&table, 5, Some(5)).await;

    let drop = vec![
        Operation::delete(layout::route(&users.tenant, &users.name, 0)),
        Operation::delete(layout::route(&users.tenant, &users.name, 1_000)),
        Operation::delete(layout::control_table(&users.tenant, &users.name)),
        Operation::delete(layout::control_tenant(&users.tenant)),
    ];
    control.transact(vec![], drop).await.unwrap();
    until(&table, "all gone", |_| {
        let snapshot = table.snapshot();
        snapshot.range_count() == 0 && snapshot.tenants().count() == 0 && snapshot.tables(&users.tenant).count() == 0
    })
    .await;
    assert!(table.status().distrusted.is_empty(), "deletions that are told are obeyed to the last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_lost_everything_is_not_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| EmbeddedStore::open(&folder.path().join(name), EmbeddedOptions::default()).unwrap();
    let store = open("db");
    let control = store.handle(Writer::Control);
    control.transact(vec![], found()).await.unwrap();
    control.transact(vec![], vec![publish(0, u32::MAX, 1, 1, 1)]).await.unwrap();
    let table = start(Arc::new(control), &folder);
    until(&table, "live and saved", |status| {
        status.source == RoutingSource::Live && status.generation > 0 && status.saved_generation == status.generation
    })
    .await;
    drop((table, store));

    let empty = open("empty");
    let control = empty.handle(Writer::Control);
    let table = start(Arc::new(control.clone()), &folder);
    until(&table, "distrust", |status| status.distrusted.len() == 3).await;
    assert!(table.status().distrusted.iter().all(|(_, distrust)| *distrust == Distrust::Empty));
    assert_eq!(leader(&table, 5), Some(1), "the nodes still have their data");
    // The leader publishes again, and that is obeyed.
    control.transact(vec![], vec![publish(0, u32::MAX, 1, 2, 9)]).await.unwrap();
    until_leader(&table, 5, Some(9)).await;
}

/// On one thread: nothing is replaced before the test looks.
#[tokio::test]
async fn a_damaged_copy_is_reported_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("routing"), "not a copy").unwrap();
    let store = EmbeddedStore::open(&folder.path().join("db"), EmbeddedOptions::default()).unwrap();
    let control = store.handle(Writer::Control);
    control.transact(vec![], vec![publish(0, u32::MAX, 1, 1, 1)]).await.unwrap();
    let table = start(Arc::new(control), &folder);
    assert!(table.status().copy_problem.is_some_and(|problem| problem.contains("damaged")));
    until(&table, "a new copy", |status| status.saved_generation > 0 && status.copy_problem.is_none()).await;
    table.save();
    drop(table);
    let table = start(Arc::new(store.handle(Writer::Control)), &folder);
    assert_eq!(leader(&table, 5), Some(1));
}

fn entry(operation: Operation, revision: i64) -> KeyValue {
    let Operation::Put { key, value, .. } = operation else { panic!("a put") };
    KeyValue { key, value, mod_revision: revision, create_revision: revision, version: 1, lease: None }
}

fn listing(revision: i64, operations: impl IntoIterator<Item = Operation>) -> Listing {
    Listing { entries: operations.into_iter().map(|operation| entry(operation, revision)).collect(), revision }
}

/// Low hash, epoch and leader of each range of `users`.
fn plan_of(plan: &Plan) -> Vec<(u32, u64, u8)> {
    let users = definition("acme", "users", 7);
    let snapshot = plan.snapshot();
    let routes = snapshot.table_routes(&users.tenant, &users.name);
    let tell = |route: &super::RangeRoute| (route.low, route.epoch, route.leader.node.as_bytes()[0]);
    routes.map(|routes| routes.iter().map(tell).collect()).unwrap_or_default()
}

#[test]
fn an_older_plan_adds_and_takes_nothing_away() {
    let mut plan = Plan::default();
    let now = listing(50, [publish(0, 99, 1, 7, 1), publish(100, 199, 2, 3, 2), publish(200, 299, 3, 3, 2)]);
    assert_eq!(plan.replace(Kind::Routes, &now), None);
    let older = listing(
        40,
        [
            publish(0, 99, 1, 5, 9),    // an earlier epoch of the same range
            publish(100, 199, 2, 4, 9), // a later epoch: the leader has published again since the restore
            publish(200, 249, 8, 9, 9), // another range under the same key: from before a merge
            publish(250, 299, 9, 9, 9), // and its other half, which we have served by the merged one
            publish(300, 399, 4, 1, 9), // something we know nothing of
        ],
    );
    assert_eq!(plan.replace(Kind::Routes, &older), Some(Distrust::Older));
    assert_eq!(plan_of(&plan), [(0, 7, 1), (100, 4, 9), (200, 3, 2), (300, 1, 9)]);
    assert_eq!(plan.snapshot().revisions().routes, 50);
    assert_eq!(plan.replace(Kind::Routes, &listing(60, [publish(0, 99, 1, 8, 1)])), None);
    assert_eq!(plan_of(&plan), [(0, 8, 1)], "a newer plan is obeyed");
}

#[test]
fn epochs_of_a_range_only_grow() {
    let mut plan = Plan::default();
    assert_eq!(plan.replace(Kind::Routes, &listing(1, [publish(0, 99, 1, 7, 1)])), None);
    let told = |operation, revision| WatchBatch {
        events: vec![WatchEvent { kind: EventKind::Put(entry(operation, revision)), revision }],
        revision,
    };
    assert!(plan.change(Kind::Routes, &told(publish(0, 99, 1, 6, 2), 2)));
    assert_eq!(plan_of(&plan), [(0, 7, 1)]);
    assert_eq!(plan.replace(Kind::Routes, &listing(3, [publish(0, 99, 1, 6, 2)])), None);
    assert_eq!(plan_of(&plan), [(0, 7, 1)], "nor by a listing");
    plan.change(Kind::Routes, &told(publish(0, 99, 1, 7, 3), 4));
    assert_eq!(plan_of(&plan), [(0, 7, 3)], "the same epoch may correct an address");
    plan.change(Kind::Routes, &told(publish(0, 99, 2, 1, 4), 5));
    assert_eq!(plan_of(&plan), [(0, 1, 4)], "another range counts for itself");
}

#[test]
fn what_cannot_be_read_leaves_what_was() {
    let mut plan = Plan::default();
    plan.replace(Kind::Routes, &listing(1, [publish(0, 99, 1, 7, 1), publish(100, 199, 2, 7, 1)]));
    let users = definition("acme", "users", 7);
    let bad = Operation::put(layout::route(&users.tenant, &users.name, 0), "{}");
    let backwards = publish(100, 50, 2, 8, 1);
    let foreign = Operation::put("tenant/acme/users/7", "{}");
    assert_eq!(plan.replace(Kind::Routes, &listing(2, [bad, backwards, foreign])), None);
    assert_eq!(plan_of(&plan), [(0, 7, 1), (100, 7, 1)]);
    assert_eq!(plan.replace(Kind::Tables, &listing(1, found().split_off(1))), None);
    let renamed = definition("acme", "other", 7);
    let lie = Operation::put(layout::control_table(&users.tenant, &users.name), to_json(&renamed));
    assert_eq!(plan.replace(Kind::Tables, &listing(2, [lie])), None);
    assert_eq!(plan.snapshot().table(&users.tenant, &users.name).map(|table| table.id), Some(users.id));
}

#[test]
fn ranges_share_their_addresses() {
    const RANGES: u32 = 20_000;
    let mut plan = Plan::default();
    let width = u32::MAX / RANGES;
    let routes = (0..RANGES)
        .map(|number| publish(number * width, number * width + (width - 1), u128::from(number), 1, (number % 5) as u8));
    assert_eq!(plan.replace(Kind::Routes, &listing(1, routes)), None);
    let snapshot = plan.snapshot();
    assert_eq!(snapshot.range_count(), RANGES as usize);
    let users = definition("acme", "users", 7);
    let one = snapshot.route(&users, 0).unwrap();
    let other = snapshot.route(&users, width * 5).unwrap();
    assert!(Arc::ptr_eq(&one.leader, &other.leader) && Arc::ptr_eq(&one.leader, &one.replicas[0].address));
}
