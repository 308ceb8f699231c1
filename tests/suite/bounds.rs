//! A thousand tables on one node: files, threads and memory stay bounded, and a table that nobody uses costs
//! nothing. `DSTORE_BOUNDS_REPLICAS=10000` asks for as many as the measurements do.

use std::sync::Arc;

use dstore::domain::ids::{RangeId, ReplicaId, TableId};
use dstore::services::engine::EngineOptions;
use dstore::services::engine::flusher::FlushBudget;
use dstore::services::ranges::RangeAddress;

use crate::engine::{Node, apply, fixed_keys, plane_folder, put, read, record, small, try_open};

fn count(path: &str) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// The names of this process's threads that belong to an engine.
fn engine_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| ["apply", "flush", "commit", "read"].iter().any(|known| name.starts_with(known))).count()
}

fn create(node: &Node, number: u32) -> RangeAddress {
    let mut record = record(1 + (number % 100) as u8);
    let mut id = [0xab; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    record.name.table = TableId::from_bytes(id);
    record.table.id = record.name.table;
    record.name.range = RangeId::from_bytes(id);
    record.name.replica = ReplicaId::from_bytes(id);
    node.engine.create_replica(&record).unwrap();
    RangeAddress { table: record.name.table, range: record.name.range }
}

/// In memory where that can be had: a thousand files cost thousands of syncs, which are not what is looked at.
fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[tokio::test]
async fn a_thousand_replicas_need_a_few_files_and_threads_and_a_bounded_memory() {
    let wanted = std::env::var("DSTORE_BOUNDS_REPLICAS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000u32);
    let folder = quick_folder();
    let options = EngineOptions {
        flush: FlushBudget { memory_bytes_soft: 256 << 10, memory_bytes_hard: 4 << 20, checkpoint_bytes: 1 << 20 },
        ..small()
    };
    let node = Arc::new(try_open(folder.path(), options.clone(), fixed_keys(), |_| {}).unwrap());
    let (threads, files) = (engine_threads(), count("/proc/self/fd"));
    let mut files_most = 0;
    let mut addresses = Vec::new();
    for number in 0..wanted {
        let address = create(&node, number);
        apply(&node, address, put("a", &format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(1000)))).await;
        addresses.push(address);
        files_most = files_most.max(count("/proc/self/fd"));
        assert!(node.engine.flusher().bytes() < 6 << 20, "memory is bounded by its budget, not by tables");
    }
    // Sixteen stores may be open, each with its file, its log and a few connections; other tests run beside.
    assert!(files_most < files + 16 * 12 + 200, "{files_most} files were open, {files} before");
    for (number, address) in addresses.iter().enumerate().step_by(37) {
        let stored = read(&node, *address, "a").await.unwrap();
        assert!(stored.contains(&format!("\"n\":{number},")), "{stored}");
    }
    // Other tests of this process have engines of their own, so only what this one adds with tables can be told.
    assert!(engine_threads() <= threads + 40, "no thread comes with a table");

    // A table that nobody uses costs no timer: nothing happens while nobody asks.
    let rounds = |node: &Node| node.engine.flusher().rounds_done();
    node.engine.flusher().ask_for_durability();
    let deadline = std::time::Instant::now() + crate::process::DEADLINE;
    while node.engine.flusher().bytes() > 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let (before, syncs) = (rounds(&node), node.engine.log().stats().syncs);
    for _ in 0..3 {
        node.engine.look_after();
    }
    assert!(rounds(&node) <= before + 1, "no round of the flusher without work");
    assert!(node.engine.log().stats().syncs <= syncs + 2, "a mark at the most");
    node.engine.stop();
    drop(node);

    let began = std::time::Instant::now();
    let node = try_open(folder.path(), options, fixed_keys(), |_| {}).unwrap();
    assert_eq!(node.engine.replicas().len(), wanted as usize);
    eprintln!("{wanted} replicas opened in {} ms, {files_most} files open at the most", began.elapsed().as_millis());
    assert!(read(&node, addresses[addresses.len() - 1], "a").await.is_some());
    node.engine.stop();
}

/// Counts that a change of the code may not raise unseen.
#[tokio::test]
async fn what_a_write_costs_is_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let node = try_open(folder.path(), small(), fixed_keys(), |_| {}).unwrap();
    let address = {
        let record = record(1);
        node.engine.create_replica(&record).unwrap();
        RangeAddress { table: record.name.table, range: record.name.range }
    };
    apply(&node, address, put("first", "{}")).await;
    let before = node.engine.log().stats();
    let path =
        plane_folder(folder.path()).join(record(1).name.tenant.to_string()).join(record(1).name.table.to_string());
    let path = path.join(format!("{}.db", record(1).name.replica));
    let file_before = dstore::storage::vfs::counters(&path);
    for number in 0..10 {
        apply(&node, address, put(&format!("k{number}"), r#"{"a":1,"b":2}"#)).await;
    }
    let after = node.engine.log().stats();
    let per_write = |before: u64, after: u64| (after - before) / 10;
    assert_eq!(after.records - before.records, 10);
    assert_eq!(per_write(before.syncs, after.syncs), 1, "one sync for a write that waits alone");
    assert_eq!(per_write(before.writes, after.writes), 1, "and one write");
    assert!(
        after.bytes_written - before.bytes_written < 10 * 512,
        "{} bytes",
        after.bytes_written - before.bytes_written
    );
    assert_eq!(dstore::storage::vfs::counters(&path), file_before, "an acknowledgement waits for no page of any file");
    let changes = node.engine.replicas()[0].flush().unwrap();
    assert_eq!(changes.cells_written, 1 + 10 * 3, "a row for a leaf, and one for the item");
    apply(&node, address, put("k3", r#"{"a":1,"b":3}"#)).await;
    assert_eq!(node.engine.replicas()[0].flush().unwrap().cells_written, 2, "the changed leaf and the item's own row");
    node.engine.stop();
}
