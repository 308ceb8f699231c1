//! How many items a node says a range has, after everything that can happen to items and to a node: writes, replacements,
//! deletions, conditions that fail, clean stops, and power cuts at any moment.

use std::collections::BTreeSet;
use std::path::Path;

use dstore::replication::operation::{Change, Operation, Preconditions, TagCondition};
use dstore::services::range_reports::{NodeReporter, RangeReport};
use dstore::services::ranges::{RangeAddress, RangeService};
use proptest::prelude::*;

use crate::engine::{Node, create, open, put, small};

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

/// Copies what a power cut at this moment leaves: every answered write is synced, so the files as they are.
fn copied(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &target),
                false => drop(std::fs::copy(entry.path(), target).unwrap()),
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_node_knows_how_many_items_it_has(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
