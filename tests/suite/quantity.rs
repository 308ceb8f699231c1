//! How many items a node says a range has, after everything that can happen to items and to a node: writes, replacements,
//! deletions, conditions that fail, clean stops, and power cuts at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use dstore::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use dstore::coordination::values::{NodeDetails, NodeStatus, to_json};
use dstore::coordination::{Coordinator, Writer, layout};
use dstore::domain::RefusalKind;
use dstore::domain::ids::{Role, TableId};
use dstore::replication::operation::{Change, Operation, Preconditions, TagCondition};
use dstore::services::control::RemoteReports;
use dstore::services::range_reports::{NodeReporter, OwnRanges, RangeReport, RangeReports};
use dstore::services::ranges::{RangeAddress, RangeService};
use proptest::prelude::*;

use crate::engine::{Node, create, open, put, small};
use crate::process::DEADLINE;
use crate::ranges::{Cluster, NODE, PLANE};

/// What is done to a range, or to its node.
#[derive(Debug, Clone)]
enum Step {
    Put(u16),
    PutIfAbsent(u16),
    Merge(u16),
    Delete(u16),
    Flush,
    Stop,
    PowerCut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (0u16..60).prop_map(Step::Put),
        5 => (0u16..60).prop_map(Step::PutIfAbsent),
        5 => (0u16..60).prop_map(Step::Merge),
        20 => (0u16..60).prop_map(Step::Delete),
        2 => Just(Step::Flush),
        1 => Just(Step::Stop),
        2 => Just(Step::PowerCut),
    ];
    prop::collection::vec(step, 1..120)
}

/// Everything below a folder, by path.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn look(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => look(&path, root, found),
                false => drop(found.insert(path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap())),
            }
        }
    }
    let mut found = BTreeMap::new();
    look(folder, folder, &mut found);
    found
}

/// What a power cut leaves: every answered write is synced, so the files as they are. A cut is a moment, and reading is not:
/// what is read twice the same was like that between the two.
fn copied(from: &Path) -> tempfile::TempDir {
    let mut before = contents(from);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let now = contents(from);
        if now == before {
            break;
        }
        assert!(Instant::now() < deadline, "the node never rests");
        before = now;
    }
    let to = tempfile::tempdir().unwrap();
    for (path, bytes) in before {
        let target = to.path().join(path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, bytes).unwrap();
    }
    to
}

async fn told(node: &Node, address: RangeAddress) -> RangeReport {
    let reporter = NodeReporter::new(node.engine.clone(), node.database.clone());
    let mut reports = reporter.of_table(address.table).await.expect("the node tells");
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

async fn run(steps: Vec<Step>) {
    let mut folder = tempfile::tempdir().unwrap();
    let mut node = open(folder.path(), small());
    let address = create(&node, 1);
    let mut there: BTreeSet<u16> = BTreeSet::new();
    for step in steps {
        let id = |number: u16| format!("k{number}");
        let operation = match step {
            Step::Put(number) => {
                there.insert(number);
                put(&id(number), r#"{"n":1}"#)
            }
            Step::PutIfAbsent(number) => {
                there.insert(number);
                let preconditions =
                    Preconditions { if_none_match: Some(TagCondition::Any), ..Preconditions::default() };
                Operation { preconditions, ..put(&id(number), r#"{"n":2}"#) }
            }
            Step::Merge(number) => {
                let document = crate::engine::document(r#"{"m":1}"#);
                Operation { change: Change::Merge(document), ..put(&id(number), "{}") }
            }
            Step::Delete(number) => {
                there.remove(&number);
                Operation { change: Change::Delete, ..put(&id(number), "{}") }
            }
            Step::Flush => {
                node.engine.replicas()[0].flush().expect("the flush works");
                continue;
            }
            Step::Stop => {
                node.engine.stop();
                drop(node);
                node = open(folder.path(), small());
                continue;
            }
            Step::PowerCut => {
                let image = copied(folder.path());
                node.engine.stop();
                drop(node);
                folder = image;
                node = open(folder.path(), small());
                continue;
            }
        };
        node.engine.write(address, operation, false).await.expect("the write is taken");
    }
    let report = told(&node, address).await;
    // Within a tenth is what is promised of an estimate; one replica that applies everything counts exactly.
    assert_eq!(report.quantity, there.len() as u64);
    assert_eq!((report.rid_tenant.as_str(), report.rid_table.as_str()), ("tenant-1", "things"));
    assert_eq!((report.hash_start, report.hash_end, report.table_version), (0, u32::MAX, 1));
    node.engine.stop();
    // What rests in the node's own database after a clean stop is the same.
    assert_eq!(node.database.table_ranges(address.table).unwrap()[0].quantity, there.len() as u64);
}

/// Puts the node's details where control finds them.
async fn published(store: &EmbeddedStore, address: SocketAddr) {
    let details = NodeDetails {
        status: NodeStatus::Okay,
        uri: "http://127.0.0.1:1/".to_owned(),
        inside_uri: Some(format!("https://{address}")),
        zone: None,
        incarnation: None,
        boot: None,
        capacity_bytes: None,
        free_bytes: None,
        version: None,
        format: None,
    };
    let control = store.handle(Writer::Control);
    control.put(&layout::node_details(NODE), to_json(&details), None).await.unwrap();
}

#[tokio::test]
async fn control_asks_a_node_over_mutual_tls_and_nobody_else_may() {
    let (folder, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    for number in 0..7 {
        node.engine.write(address, put(&format!("k{number}"), "{}"), false).await.expect("the write is taken");
    }
    let cluster = Cluster::new();
    let own = Arc::new(NodeReporter::new(node.engine.clone(), node.database.clone()));
    let server = cluster.serve_reporting(8, node.engine.clone(), own.clone());
    let store = EmbeddedStore::open(&place.path().join("db"), EmbeddedOptions::default()).unwrap();
    published(&store, server.addresses()[0]).await;
    let reports = |role: Role| {
        let identity = cluster.identity(PLANE, role, 5);
        RemoteReports::new(PLANE, Arc::new(store.handle(Writer::Control)), identity, &cluster.authority_pem)
    };
    let control = reports(Role::Control);
    let told = control.of_table(NODE, address.table).await.unwrap();
    assert_eq!(told, OwnRanges::of_table(&*own, address.table).await.unwrap());
    assert_eq!((told.len(), told[0].quantity), (1, 7));
    assert!(control.of_table(NODE, TableId::from_bytes([9; 16])).await.unwrap().is_empty());
    for role in [Role::Node, Role::Proxy, Role::Reporting] {
        assert_eq!(reports(role).of_table(NODE, address.table).await.unwrap_err().kind, RefusalKind::Denied, "{role}");
    }
    // Another node at the same address is not taken for it.
    server.stop().await.unwrap();
    let other = cluster.serve_reporting(9, node.engine.clone(), own);
    published(&store, other.addresses()[0]).await;
    assert_eq!(control.of_table(NODE, address.table).await.unwrap_err().kind, RefusalKind::Denied);
    other.stop().await.unwrap();
    node.engine.stop();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_node_knows_how_many_items_it_has(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
