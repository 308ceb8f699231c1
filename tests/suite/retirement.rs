//! Replicas whose table was dropped: brought back with all they had, or removed for good, and never on a
//! plan that was not read twice; and tenants whose keys are destroyed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use dstore::config::Config;
use dstore::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use dstore::coordination::{Coordinator, Writer, layout};
use dstore::domain::ids::TenantId;
use dstore::domain::refusal::RefusalKind;
use dstore::domain::{Clock, Refusal, TableName, TenantName, Timestamp};
use dstore::replication::operation::Outcome;
use dstore::roles::{ambient, lifecycle, one_process};
use dstore::services::assignments::{HandedPart, HandedParts, KeyParts};
use dstore::services::engine::EngineOptions;
use dstore::services::engine::flusher::FlushBudget;
use dstore::services::ports::{Caller, Catalog, Consistency};
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::services::retirement::Retirement;

use crate::engine::{
    NODE, Node, PLANE, apply, create, fixed_keys, open, packed, plane_folder, put, read, record, small, table, tenant,
    try_open,
};
use crate::process::DevProcess;

const WEEK_SECONDS: u64 = 7 * 24 * 3600;

/// Control, as a node sees it: silent, or without the key, or with it.
pub struct Control {
    pub answer: Option<RefusalKind>,
    pub asked: AtomicUsize,
}

#[async_trait]
impl KeyParts for Control {
    async fn node_part(&self) -> Result<Vec<HandedPart>, Refusal> {
        Ok(Vec::new())
    }
    async fn tenant_part(&self, _tenant: TenantId) -> Result<Vec<HandedPart>, Refusal> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.answer {
            Some(kind) => Err(Refusal::new(kind, "no")),
            None => Ok(Vec::new()),
        }
    }
    async fn all(&self) -> Result<HandedParts, Refusal> {
        Ok(HandedParts::default())
    }
    async fn in_use(&self, _tenant: Option<TenantId>, _version_min: u32) -> Result<(), Refusal> {
        Ok(())
    }
}

/// The system's clock, and so many seconds.
struct LaterClock(Arc<AtomicU64>);

impl Clock for LaterClock {
    fn now(&self) -> Timestamp {
        Timestamp(ambient::clock().now().0 + self.0.load(Ordering::Relaxed) * 1_000_000)
    }
}

/// What looks after a node's retired replicas, over a coordinator of its own.
struct Keeper {
    retirement: Retirement,
    later_seconds: Arc<AtomicU64>,
    control: Arc<dyn Coordinator>,
    parts: Arc<Control>,
    _store: EmbeddedStore,
    _folder: tempfile::TempDir,
}

impl Keeper {
    fn new(node: &Node, answer: Option<RefusalKind>) -> Keeper {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let later_seconds = Arc::new(AtomicU64::new(0));
        let parts = Arc::new(Control { answer, asked: AtomicUsize::new(0) });
        let retirement = Retirement::new(
            PLANE,
            Arc::new(store.handle(Writer::Node(NODE))),
            node.engine.clone(),
            node.keys.clone(),
            node.database.clone(),
            parts.clone(),
            Arc::new(LaterClock(later_seconds.clone())),
        );
        let control = Arc::new(store.handle(Writer::Control));
        Keeper { retirement, later_seconds, control, parts, _store: store, _folder: folder }
    }

    async fn put(&self, key: &str, value: serde_json::Value) {
        self.control.put(key, value.to_string().into(), None).await.unwrap();
    }
}

fn files_of(folder: &Path, number: u8) -> Vec<String> {
    let of_table = plane_folder(folder).join(tenant(number).to_string()).join(table(number).id.to_string());
    let entries = std::fs::read_dir(of_table).map(|entries| entries.collect::<Vec<_>>()).unwrap_or_default();
    entries.into_iter().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn refusal(node: &Node, address: RangeAddress) -> RefusalKind {
    node.engine.read(address, packed("a"), Consistency::Strong).await.unwrap_err().kind
}

#[tokio::test]
async fn a_table_brought_back_has_all_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = open(folder.path(), small());
    let address = create(&node, 1);
    let Outcome::Created(first) = apply(&node, address, put("a", r#"{"x":1}"#)).await else { panic!() };
    for is_restarted in [false, true] {
        node.engine.retire_replica(address.range).unwrap();
        assert_eq!(refusal(&node, address).await, RefusalKind::WrongNode);
        if is_restarted {
            node.engine.stop();
            drop(node);
            node = open(folder.path(), small());
            assert_eq!(refusal(&node, address).await, RefusalKind::WrongNode);
        }
        let mut again = record(1);
        again.table.name = TableName::new("renamed").unwrap();
        again.table.version = 7;
        node.engine.create_replica(&again).unwrap();
        assert_eq!(read(&node, address, "a").await.as_deref(), Some(r#"{"x":1}"#));
        assert_eq!(node.engine.replicas()[0].table().version, 7);
        let known = node.database.replicas().unwrap();
        assert!(known.len() == 1 && known[0].table.name.as_str() == "renamed", "{known:?}");
    }
    let Outcome::Updated(version) = apply(&node, address, put("a", r#"{"x":2}"#)).await else { panic!() };
    assert!(version > first, "versions go on");
    node.engine.stop();
}

#[tokio::test]
async fn a_purged_range_leaves_nothing_and_hinders_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let lazy = FlushBudget { memory_bytes_soft: 64 << 20, memory_bytes_hard: 128 << 20, checkpoint_bytes: 64 << 20 };
    let node = open(folder.path(), EngineOptions { flush: lazy, ..small() });
    let (gone, stays) = (create(&node, 1), create(&node, 2));
    let pad = "x".repeat(10_000);
    for number in 0..300 {
        let text = format!(r#"{{"n":{number},"pad":"{pad}"}}"#);
        apply(&node, gone, put(&format!("k{number}"), &text)).await;
        if number % 100 == 0 {
            apply(&node, stays, put(&format!("k{number}"), &text)).await;
        }
    }
    assert!(node.engine.log().stats().segments > 2);
    node.engine.retire_replica(gone.range).unwrap();
    assert!(!files_of(folder.path(), 1).is_empty());
    node.engine.purge_replica(gone.range).unwrap();
    node.engine.purge_replica(gone.range).unwrap();
    assert_eq!(files_of(folder.path(), 1), Vec::<String>::new());
    assert!(!plane_folder(folder.path()).join(tenant(1).to_string()).exists(), "nor an empty folder");
    assert_eq!(node.database.replicas().unwrap().len(), 1);
    // What the other range has in the first segments is copied to the head, and they go.
    node.engine.log().drop_segments().unwrap();
    assert_eq!(node.engine.log().stats().segments, 1, "no segment is kept for it");
    node.engine.stop();
    drop(node);
    let node = open(folder.path(), small());
    assert!(read(&node, stays, "k200").await.is_some());
    assert_eq!(node.engine.retired().len(), 0);
    // The same range again is a new one.
    let again = create(&node, 1);
    assert_eq!(read(&node, again, "k1").await, None);
    let Outcome::Created(version) = apply(&node, again, put("k1", "{}")).await else { panic!() };
    assert_eq!(version.0, 1);
    node.engine.stop();
}

#[tokio::test]
async fn a_purge_cut_short_is_finished_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    apply(&node, address, put("a", "{}")).await;
    node.engine.retire_replica(address.range).unwrap();
    node.engine.log().remove_range(address.range).unwrap();
    // As after a power cut: nothing is stopped in order.
    node.engine.log().close().unwrap();
    drop(node);
    let node = open(folder.path(), small());
    assert_eq!((files_of(folder.path(), 1).len(), node.database.replicas().unwrap().len()), (0, 0));
    assert_eq!(node.engine.retired().len(), 0);
    node.engine.stop();
}

#[tokio::test]
async fn files_go_after_a_week_when_control_forgot_the_table_twice() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    apply(&node, address, put("a", "{}")).await;
    node.engine.retire_replica(address.range).unwrap();
    let mut keeper = Keeper::new(&node, None);
    let dropped = layout::control_table_deleted(address.table);
    let rounds = async |keeper: &mut Keeper| {
        for _ in 0..4 {
            keeper.retirement.purge_forgotten().await;
        }
        node.engine.retired().len()
    };
    keeper.later_seconds.store(WEEK_SECONDS - 60, Ordering::Relaxed);
    keeper.put(layout::CONTROL_CLUSTER, serde_json::json!({ "plane": PLANE })).await;
    assert_eq!(rounds(&mut keeper).await, 1, "not before a week has passed");
    keeper.later_seconds.store(WEEK_SECONDS + 60, Ordering::Relaxed);
    keeper.put(&dropped, serde_json::json!({})).await;
    assert_eq!(rounds(&mut keeper).await, 1, "it can be brought back still");
    keeper.control.delete(&dropped).await.unwrap();
    keeper.put("control/table/acme/things", serde_json::to_value(table(1)).unwrap()).await;
    assert_eq!(rounds(&mut keeper).await, 1, "it is there");
    keeper.control.delete("control/table/acme/things").await.unwrap();
    keeper.control.delete(layout::CONTROL_CLUSTER).await.unwrap();
    assert_eq!(rounds(&mut keeper).await, 1, "an empty coordinator says nothing");
    keeper.put(layout::CONTROL_CLUSTER, serde_json::json!({ "plane": tenant(3) })).await;
    assert_eq!(rounds(&mut keeper).await, 1, "nor does another cluster's");
    keeper.put(layout::CONTROL_CLUSTER, serde_json::json!({ "plane": PLANE })).await;
    keeper.retirement.purge_forgotten().await;
    assert_eq!(node.engine.retired().len(), 1, "not on one reading");
    keeper.put(&dropped, serde_json::json!({})).await;
    keeper.retirement.purge_forgotten().await;
    keeper.control.delete(&dropped).await.unwrap();
    keeper.retirement.purge_forgotten().await;
    assert_eq!(node.engine.retired().len(), 1, "two readings in a row");
    keeper.retirement.purge_forgotten().await;
    assert_eq!((node.engine.retired().len(), files_of(folder.path(), 1).len()), (0, 0));
    node.engine.stop();
}

#[tokio::test]
async fn keys_are_destroyed_only_when_control_says_that_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let (gone, stays) = (create(&node, 1), create(&node, 2));
    apply(&node, gone, put("a", "{}")).await;
    apply(&node, stays, put("a", "{}")).await;
    let part = dstore::storage::node_database::TenantKeyPart {
        tenant: tenant(1),
        version: 1,
        uuid: uuid::Uuid::from_bytes([4; 16]),
        part: crate::engine::key(4),
    };
    node.database.add_tenant_key(&part).unwrap();
    node.engine.retire_replica(gone.range).unwrap();
    for answer in [None, Some(RefusalKind::Denied), Some(RefusalKind::Unavailable)] {
        let mut keeper = Keeper::new(&node, answer);
        keeper.retirement.destroy_tenants().await;
        assert!(keeper.parts.asked.load(Ordering::Relaxed) == 1 && node.keys.has_tenant(tenant(1)), "{answer:?}");
    }
    let mut keeper = Keeper::new(&node, Some(RefusalKind::NotFound));
    keeper.retirement.destroy_tenants().await;
    assert_eq!(keeper.parts.asked.load(Ordering::Relaxed), 2, "asked twice");
    assert!(!node.keys.has_tenant(tenant(1)) && node.keys.has_tenant(tenant(2)));
    assert_eq!(node.database.tenant_keys().unwrap().len(), 0);
    assert_eq!((node.engine.retired().len(), files_of(folder.path(), 1).len()), (0, 0));
    assert!(matches!(apply(&node, stays, put("a", r#"{"x":1}"#)).await, Outcome::Updated(_)));
    node.engine.stop();
}

/// In a process: deleting a tenant removes its files at once.
#[tokio::test]
async fn deleting_a_tenant_removes_its_files_and_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let dev = DevProcess::start(folder.path(), &[]);
    for tenant in ["acme", "other"] {
        assert_eq!(dev.put(&format!("/v1/tenant/{tenant}"), "").await.0, 201);
        assert_eq!(dev.put(&format!("/v1/tenant/{tenant}/table/things"), r#"{"id_type":"String"}"#).await.0, 201);
        assert_eq!(dev.put(&format!("/v1/tenant/{tenant}/table/things/id/a"), r#"{"x":1}"#).await.0, 201);
    }
    let tenant_folders = || {
        let mut planes = std::fs::read_dir(folder.path().join("node-1")).unwrap().map(|entry| entry.unwrap().path());
        let plane = planes.find(|path| path.is_dir()).expect("a control plane's folder");
        let entries = std::fs::read_dir(plane).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir() && !path.ends_with("log") && !path.ends_with("usage")).count()
    };
    assert_eq!(tenant_folders(), 2);
    let deleted = dev.request(reqwest::Method::DELETE, "/v1/tenant/acme?recursive=true").send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    let deadline = std::time::Instant::now() + crate::process::DEADLINE;
    while tenant_folders() != 1 {
        assert!(std::time::Instant::now() < deadline, "its files are still there");
        tokio::task::yield_now().await;
    }
    assert_eq!(dev.get("/v1/tenant/other/table/things/id/a").await.0, 200);
}

/// The whole way, by control's own calls: what was in a table is in it again after it was dropped and brought back,
/// also under another name.
#[tokio::test]
async fn a_table_dropped_and_brought_back_by_control_has_its_items() {
    let folder = tempfile::tempdir().unwrap();
    let (config, origins) = Config::load(None, [], Vec::new()).unwrap();
    let mut options = lifecycle::one_process_options("dstore dev", &config, &origins, 1).unwrap();
    options.data = folder.path().to_owned();
    options.listen = "127.0.0.1:0".parse().unwrap();
    options.admin_listen = options.listen;
    let dev = one_process::start(options).await.unwrap();
    let root = dev.control.principal_root().await.unwrap();
    let caller = Caller { principal: root.id, name: "test".into(), tenant: None, capabilities: vec![] };
    let (default, things) = (TenantName::new("default").unwrap(), TableName::new("things").unwrap());
    dev.control.create_table(&caller, &default, &things, table(1).specification).await.unwrap();
    let client = crate::process::client();
    let item = |name: &str| format!("{}/v1/tenant/default/table/{name}/id/a", dev.credentials.url);
    let put = client.put(item("things")).bearer_auth(&dev.credentials.token);
    let put = put.header("content-type", "application/json").body(r#"{"x":1}"#).send().await.unwrap();
    assert_eq!(put.status(), 201);
    dev.control.delete_table(&caller, &default, &things).await.unwrap();
    let get = async |name: &str| client.get(item(name)).bearer_auth(&dev.credentials.token).send().await.unwrap();
    assert_eq!(get("things").await.status(), 404);
    let renamed = TableName::new("renamed").unwrap();
    // The node takes the range out of service after two looks; whether it has done so by now makes no difference.
    dev.control.table_undelete(&caller, &default, &things, None, Some(renamed)).await.unwrap();
    let deadline = std::time::Instant::now() + crate::process::DEADLINE;
    loop {
        let answer = get("renamed").await;
        if answer.status() == 200 {
            assert_eq!(answer.text().await.unwrap(), r#"{"x":1}"#);
            break;
        }
        assert!(
            answer.status().is_server_error(),
            "{}: an item that was there is not answered as missing",
            answer.status()
        );
        assert!(std::time::Instant::now() < deadline, "{}", answer.status());
        tokio::task::yield_now().await;
    }
    dev.stop().await;
}

/// A tenant whose key is not to be had is out of service by itself; everyone else's entries are replayed.
#[tokio::test]
async fn an_unavailable_key_hinders_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let (without, with) = (create(&node, 1), create(&node, 2));
    for number in 0..10 {
        apply(&node, without, put(&format!("k{number}"), "{}")).await;
        apply(&node, with, put(&format!("k{number}"), "{}")).await;
    }
    // Nothing of it is in files yet.
    node.engine.log().close().unwrap();
    drop(node);
    let keys = fixed_keys();
    keys.forget_tenant(tenant(1));
    let node = try_open(folder.path(), small(), keys, |_| {}).expect("the node opens all the same");
    for number in 0..10 {
        assert!(read(&node, with, &format!("k{number}")).await.is_some());
    }
    assert_eq!(refusal(&node, without).await, RefusalKind::Damaged);
    let notices = node.notices.take();
    assert!(notices.iter().any(|notice| notice.details.contains("out of service")), "{notices:?}");
    node.engine.stop();
    drop(node);
    let node = open(folder.path(), small());
    assert!(read(&node, without, "k9").await.is_some(), "with its key back, nothing is lost");
    node.engine.stop();
}
