//! The storage engine on real files: what is written is read, survives stops, and is flattened in
//! files that show nothing.

use std::path::Path;
use std::sync::Arc;

use dstore::crypto::Key256;
use dstore::crypto::cipher::NonceSource;
use dstore::domain::document::Document;
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{NodeId, PlaneId, PrincipalId, RangeId, ReceiptId, ReplicaId, RequestId, TableId, TenantId};
use dstore::domain::key::{KeyType, KeyValue, PackedKey};
use dstore::domain::table::{TableDefinition, TableSpecification};
use dstore::domain::table_options::OptionTimes;
use dstore::domain::watermark::Watermark;
use dstore::domain::{Random, TableName, TenantName, Timestamp};
use dstore::replication::operation::{Change, ClientRequest, Operation, Outcome, Preconditions, RequestIdentity};
use dstore::roles::ambient;
use dstore::services::engine::admission::AdmissionLimits;
use dstore::services::engine::flusher::FlushBudget;
use dstore::services::engine::keys::{NodeKeys, PartVersions};
use dstore::services::engine::log_keys::CommitLogKeys;
use dstore::services::engine::notices::Notices;
use dstore::services::engine::opening::EngineError;
use dstore::services::engine::{Engine, EngineOptions, EngineParts};
use dstore::services::ports::{Consistency, ListRequest, ReceiptState, WriteAnswer};
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::storage::keys::FileKeys;
use dstore::storage::log::{Disk, LogOptions, SystemDisk};
use dstore::storage::node_database::{NodeDatabase, ReplicaRecord, ReplicaState};
use dstore::storage::sqlite::keeper::{KeeperOptions, SqliteKeeper};
use dstore::storage::sqlite::node_database::SqliteNodeDatabase;
use dstore::storage::sqlite::range_store::FileOptions;
use dstore::storage::store::ReplicaName;

pub const PLANE: PlaneId = PlaneId(uuid::Uuid::from_bytes([7; 16]));
pub const NODE: NodeId = NodeId(uuid::Uuid::from_bytes([8; 16]));

/// A node over a folder, with keys that are the same at every start.
pub struct Node {
    pub engine: Arc<Engine>,
    pub notices: Arc<Notices>,
    pub keys: Arc<NodeKeys>,
    pub database: Arc<dyn NodeDatabase>,
}

pub fn key(byte: u8) -> Key256 {
    Key256::new([byte; 32])
}

pub fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

/// Small budgets, so that tests reach every stage.
pub fn small() -> EngineOptions {
    EngineOptions {
        log_folder: "".into(),
        log: LogOptions {
            segment_bytes: 1 << 20,
            budget_bytes: 64 << 20,
            reserve_bytes: 1 << 20,
            ..LogOptions::default()
        },
        flush: FlushBudget { memory_bytes_soft: 1 << 20, memory_bytes_hard: 8 << 20, checkpoint_bytes: 1 << 20 },
        admission: AdmissionLimits {
            disk_notice: Watermark::Bytes(1),
            disk_refuse: Watermark::Bytes(1),
            ..AdmissionLimits::default()
        },
        cache_bytes: 1 << 20,
        apply_lanes: 2,
        read_threads: 2,
        reads_waiting_max: 1000,
    }
}

pub fn open(folder: &Path, options: EngineOptions) -> Node {
    try_open(folder, options, fixed_keys(), |_| {}).expect("the engine opens")
}

/// Keys that are the same at every start.
pub fn fixed_keys() -> Arc<NodeKeys> {
    let keys = Arc::new(NodeKeys::new(PartVersions::single(1, key(1)), PartVersions::single(1, key(2))));
    for number in 1..=120 {
        keys.add_tenant_at_node(tenant(number), 1, Key256::new([number; 32].map(|byte| byte | 0x80)));
        keys.add_tenant_at_control(tenant(number), 1, Key256::new(std::array::from_fn(|at| number ^ at as u8)));
    }
    keys
}

/// A node with these keys; `prepare` sees its database before the engine opens.
pub fn try_open(
    folder: &Path,
    options: EngineOptions,
    keys: Arc<NodeKeys>,
    prepare: impl FnOnce(&dyn NodeDatabase),
) -> Result<Node, EngineError> {
    try_open_on(Arc::new(SystemDisk), folder, options, keys, prepare)
}

/// The same with the commit log on this disk.
pub fn try_open_on(
    disk: Arc<dyn Disk>,
    folder: &Path,
    options: EngineOptions,
    keys: Arc<NodeKeys>,
    prepare: impl FnOnce(&dyn NodeDatabase),
) -> Result<Node, EngineError> {
    let (plane, node) = (PLANE, NODE);
    let random: Arc<dyn Random> = ambient::random();
    let file_keys: Arc<dyn FileKeys> = keys.clone();
    dstore::storage::vfs::register(random.clone()).expect("the VFS registers");
    let database: Arc<dyn NodeDatabase> =
        SqliteNodeDatabase::open(folder, plane, node, file_keys.clone(), random.clone())?;
    prepare(&*database);
    let notices = Arc::new(Notices::default());
    let keeper = KeeperOptions { open_files_max: 16, file: FileOptions { cache_pages: 200, readers_max: 4 } };
    let parts = EngineParts {
        keeper: Arc::new(SqliteKeeper::new(folder.to_owned(), plane, node, file_keys.clone(), random.clone(), keeper)),
        database: database.clone(),
        log_keys: Arc::new(CommitLogKeys::new(plane, node, file_keys, NonceSource::new(random.clone()))),
        disk,
        clock: ambient::clock(),
        random,
        notices: notices.clone(),
    };
    let options = EngineOptions { log_folder: folder.join(plane.to_string()).join("log"), ..options };
    let engine = Engine::open(parts, options)?;
    Ok(Node { engine, notices, keys, database })
}

pub fn table(number: u8) -> TableDefinition {
    TableDefinition {
        tenant_id: tenant(number),
        tenant: TenantName::new(&format!("tenant-{number}")).unwrap(),
        id: TableId::from_bytes([number; 16]),
        name: TableName::new("things").unwrap(),
        specification: TableSpecification::new(KeyType::String),
        created_at: Timestamp(0),
        version: 1,
        option_times: OptionTimes::default(),
    }
}

pub fn create(node: &Node, number: u8) -> RangeAddress {
    let record = record(number);
    node.engine.create_replica(&record).expect("the replica is made");
    RangeAddress { table: record.name.table, range: record.name.range }
}

/// The only range of a table, and its replica.
pub fn record(number: u8) -> ReplicaRecord {
    let table = table(number);
    let name = ReplicaName {
        tenant: table.tenant_id,
        table: table.id,
        range: RangeId::from_bytes([number; 16]),
        replica: ReplicaId::from_bytes([number; 16]),
    };
    ReplicaRecord {
        name,
        hashes: HashRange::FULL,
        table,
        epoch: 1,
        durable_index: 0,
        quantity: 0,
        state: ReplicaState::Serving,
        group_file: None,
    }
}

/// The folder of the node's only control plane.
pub fn plane_folder(folder: &Path) -> std::path::PathBuf {
    folder.join(PLANE.to_string())
}

pub fn packed(id: &str) -> PackedKey {
    PackedKey::new(&KeyValue::String(id.into()), None)
}

pub fn document(text: &str) -> Document {
    Document::from_json(text.as_bytes()).unwrap()
}

pub fn put(id: &str, text: &str) -> Operation {
    Operation {
        key: packed(id),
        change: Change::Put(document(text)),
        preconditions: Preconditions::default(),
        conditional: None,
        request: None,
        receipt: None,
    }
}

pub async fn apply(node: &Node, address: RangeAddress, operation: Operation) -> Outcome {
    match node.engine.write(address, operation, false).await.expect("the write is taken") {
        WriteAnswer::Applied(outcome) => outcome,
        WriteAnswer::Queued => panic!("nobody asked for that"),
    }
}

pub async fn read(node: &Node, address: RangeAddress, id: &str) -> Option<String> {
    let item = node.engine.read(address, packed(id), Consistency::Strong).await.expect("the read is answered");
    item.map(|item| item.document.to_json())
}

#[tokio::test]
async fn what_is_written_is_read_before_and_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    assert!(matches!(apply(&node, address, put("a", r#"{"x":1}"#)).await, Outcome::Created(_)));
    assert!(matches!(apply(&node, address, put("a", r#"{"x":2}"#)).await, Outcome::Updated(_)));
    assert!(matches!(apply(&node, address, put("b", r#"{"y":{"z":[1,2,{}]}}"#)).await, Outcome::Created(_)));
    assert_eq!(apply(&node, address, Operation { change: Change::Delete, ..put("b", "{}") }).await, Outcome::Deleted);
    assert_eq!(apply(&node, address, Operation { change: Change::Delete, ..put("b", "{}") }).await, Outcome::NotFound);
    assert_eq!(read(&node, address, "a").await.as_deref(), Some(r#"{"x":2}"#));
    assert_eq!(read(&node, address, "b").await, None);
    node.engine.stop();
    drop(node);

    let node = open(folder.path(), small());
    assert_eq!(read(&node, address, "a").await.as_deref(), Some(r#"{"x":2}"#));
    assert_eq!(read(&node, address, "b").await, None);
    assert!(node.notices.take().is_empty(), "a clean stop leaves nothing to tell");
    node.engine.stop();
}

#[tokio::test]
async fn pages_show_memory_and_file_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..3 {
        for number in 0..300 {
            if (number + round) % 3 == 0 {
                let text = format!(r#"{{"round":{round},"number":{number}}}"#);
                apply(&node, address, put(&format!("k{number}"), &text)).await;
                expected.insert(packed(&format!("k{number}")), document(&text));
            }
            if round == 2 && number % 7 == 0 {
                apply(&node, address, Operation { change: Change::Delete, ..put(&format!("k{number}"), "{}") }).await;
                expected.remove(&packed(&format!("k{number}")));
            }
        }
        if round < 2 {
            for replica in node.engine.replicas() {
                replica.flush().expect("the flush works");
            }
        }
    }
    for (limit, descending) in [(7, false), (100, false), (1000, false), (7, true), (1000, true)] {
        let mut seen = Vec::new();
        let mut request = ListRequest {
            index: None,
            start: PackedKey::hash_floor(0),
            end: None,
            limit,
            descending,
            consistency: Consistency::Strong,
            bytes_max: None,
        };
        loop {
            let page = node.engine.list(address, request.clone()).await.unwrap();
            assert!(page.items.len() <= limit);
            seen.extend(page.items.into_iter().map(|(key, item)| (key, item.document)));
            match page.last {
                None => break,
                Some(last) if descending => request.end = Some(last),
                Some(last) => request.start = last.successor(),
            }
        }
        let mut wanted: Vec<_> = expected.clone().into_iter().collect();
        if descending {
            wanted.reverse();
        }
        assert!(seen == wanted, "limit {limit}, descending {descending}: {} of {}", seen.len(), wanted.len());
    }
    assert_eq!(node.engine.replicas()[0].item_count().unwrap(), expected.len() as u64);
    node.engine.stop();
}

/// A flush that took in what arrives meanwhile would never end under load, and nobody after it would have a turn.
#[tokio::test]
async fn a_flush_writes_what_was_there_when_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), EngineOptions { flush: lazy(), ..small() });
    let address = create(&node, 1);
    let replica = node.engine.replicas().remove(0);
    assert_eq!(replica.freeze(), 0);
    for number in 0..5 {
        apply(&node, address, put(&format!("k{number}"), r#"{"layer":1}"#)).await;
    }
    assert_eq!(replica.freeze(), 1);
    for number in 3..8 {
        apply(&node, address, put(&format!("k{number}"), r#"{"layer":2}"#)).await;
    }
    assert!(replica.flush_layer().unwrap().is_some());
    assert!(replica.flush_layer().unwrap().is_none(), "what came later waits for a flush of its own");
    assert!(replica.is_dirty());
    for (id, layer) in [("k0", 1), ("k2", 1), ("k3", 2), ("k7", 2)] {
        assert_eq!(read(&node, address, id).await, Some(format!(r#"{{"layer":{layer}}}"#)), "{id}");
    }
    replica.flush().unwrap();
    assert!(!replica.is_dirty());
    for (id, layer) in [("k0", 1), ("k3", 2), ("k7", 2)] {
        assert_eq!(read(&node, address, id).await, Some(format!(r#"{{"layer":{layer}}}"#)), "{id}");
    }
    assert_eq!(replica.item_count().unwrap(), 8);
    node.engine.stop();
}

/// Flushes only when told to.
fn lazy() -> FlushBudget {
    FlushBudget { memory_bytes_soft: 64 << 20, memory_bytes_hard: 128 << 20, checkpoint_bytes: 64 << 20 }
}

/// Writers that are faster than the disk are slowed down, not refused, and what they wrote does not pile up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_faster_than_the_flusher_are_held_back_and_not_refused() {
    const WRITERS: u64 = 16;
    const ITEMS_EACH: u64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let flush = FlushBudget { memory_bytes_soft: 256 << 10, memory_bytes_hard: 1 << 20, checkpoint_bytes: 1 << 20 };
    let node = open(folder.path(), EngineOptions { flush, ..small() });
    let address = create(&node, 1);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let engine = node.engine.clone();
            tokio::spawn(async move {
                let mut most = 0;
                for number in 0..ITEMS_EACH {
                    let text = format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(1000));
                    let written = engine.write(address, put(&format!("{writer}-{number}"), &text), false).await;
                    assert!(matches!(written, Ok(WriteAnswer::Applied(Outcome::Created(_)))), "{written:?}");
                    most = most.max(engine.flusher().bytes());
                }
                most
            })
        })
        .collect();
    for writer in writers {
        // Each writer may be past the check with one item while others are, too.
        assert!(writer.await.unwrap() < (1 << 20) + 2 * WRITERS * 1500, "memory is bounded");
    }
    assert_eq!(node.engine.replicas()[0].item_count().unwrap(), WRITERS * ITEMS_EACH);
    node.engine.stop();
}

#[tokio::test]
async fn a_changed_leaf_rewrites_its_own_row_and_the_items_own() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let fields: Vec<String> = (0..10).map(|number| format!(r#""f{number}":"value {number}""#)).collect();
    apply(&node, address, put("a", &format!("{{{}}}", fields.join(",")))).await;
    let replica = node.engine.replicas()[0].clone();
    let changes = replica.flush().unwrap();
    assert_eq!((changes.cells_written, changes.cells_removed), (11, 0));
    let merge = Operation { change: Change::Merge(document(r#"{"f3":"other"}"#)), ..put("a", "{}") };
    assert!(matches!(apply(&node, address, merge).await, Outcome::Updated(_)));
    let changes = replica.flush().unwrap();
    assert_eq!((changes.cells_written, changes.cells_removed), (2, 0));
    let merge = Operation { change: Change::Merge(document(r#"{"f4":null}"#)), ..put("a", "{}") };
    apply(&node, address, merge).await;
    let changes = replica.flush().unwrap();
    assert_eq!((changes.cells_written, changes.cells_removed), (1, 1));
    node.engine.stop();
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_before_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let request = ClientRequest {
        principal: PrincipalId::from_bytes([1; 16]),
        request_id: RequestId::from_bytes([2; 16]),
        digest: [3; 32],
    };
    let first = Operation { request: Some(RequestIdentity::Client(request.clone())), ..put("a", r#"{"x":1}"#) };
    let outcome = apply(&node, address, first.clone()).await;
    apply(&node, address, put("a", r#"{"x":2}"#)).await;
    assert_eq!(apply(&node, address, first.clone()).await, outcome);
    let other = Operation {
        request: Some(RequestIdentity::Client(ClientRequest { digest: [4; 32], ..request })),
        ..put("a", r#"{"x":3}"#)
    };
    assert_eq!(apply(&node, address, other.clone()).await, Outcome::RequestIdReused);
    node.engine.stop();
    drop(node);
    let node = open(folder.path(), small());
    assert_eq!(apply(&node, address, first).await, outcome);
    assert_eq!(apply(&node, address, other).await, Outcome::RequestIdReused);
    assert_eq!(read(&node, address, "a").await.as_deref(), Some(r#"{"x":2}"#));
    node.engine.stop();
}

#[tokio::test]
async fn a_write_answered_early_has_a_receipt_and_is_seen_by_a_strong_read() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let receipt = ReceiptId::from_bytes([9; 16]);
    let operation = Operation { receipt: Some(receipt), ..put("a", r#"{"x":1}"#) };
    assert_eq!(node.engine.write(address, operation, true).await.unwrap(), WriteAnswer::Queued);
    assert_eq!(read(&node, address, "a").await.as_deref(), Some(r#"{"x":1}"#));
    let state = node.engine.receipt(address, receipt).await.unwrap();
    assert!(matches!(state, Some(ReceiptState::Ended(Outcome::Created(_)))), "{state:?}");
    node.engine.stop();
    drop(node);
    let node = open(folder.path(), small());
    assert!(matches!(node.engine.receipt(address, receipt).await.unwrap(), Some(ReceiptState::Ended(_))));
    assert_eq!(node.engine.receipt(address, ReceiptId::from_bytes([1; 16])).await.unwrap(), None);
    node.engine.stop();
}

#[tokio::test]
async fn a_hundred_tenants_cost_no_syncs_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(open(folder.path(), small()));
    let addresses: Vec<_> = (1..=100).map(|number| create(&node, number)).collect();
    let before = node.engine.log().stats();
    let mut tasks = Vec::new();
    for address in addresses {
        let node = node.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..10 {
                apply(&node, address, put(&format!("k{number}"), r#"{"x":"some value"}"#)).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let after = node.engine.log().stats();
    assert_eq!(after.records - before.records, 1000);
    // How many writes share a sync depends on the disk's speed; that a tenant's first write, with its
    // new data key, costs no sync beside its group's does not. One a segment rolled is allowed for.
    let syncs = after.syncs - before.syncs;
    assert!(syncs <= 1000 + after.segments, "{syncs} syncs for 1000 writes");
    node.engine.stop();
}
