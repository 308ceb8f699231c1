//! A thousand tables on one node: files, threads and memory stay bounded, and a table that nobody uses costs
//! nothing. `DSTORE_BOUNDS_REPLICAS=10000` asks for as many as the measurements do.

use std::sync::Arc;

use dstore::domain::ids::{RangeId, ReplicaId, TableId};
use dstore::replication::operation::{Change, Operation, Outcome};
use dstore::services::engine::EngineOptions;
use dstore::services::engine::flusher::FlushBudget;
use dstore::services::ranges::{RangeAddress, RangeService};

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
    // Twice: a round that was under way already does not count.
    for _ in 0..2 {
        let done = rounds(&node);
        node.engine.flusher().ask_for_durability();
        let deadline = std::time::Instant::now() + 4 * crate::process::DEADLINE;
        while rounds(&node) == done {
            assert!(std::time::Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(node.engine.flusher().bytes(), 0);
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

/// Past the memory budget writers wait, reads and deletes go on, and it was told before.
#[tokio::test]
async fn memory_that_is_full_holds_writers_back_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let flush = FlushBudget { memory_bytes_soft: 64 << 10, memory_bytes_hard: 256 << 10, checkpoint_bytes: 1 << 20 };
    let node = Arc::new(try_open(folder.path(), EngineOptions { flush, ..small() }, fixed_keys(), |_| {}).unwrap());
    let address = create(&node, 1);
    // As a disk that takes nothing: no flush begins while this is held.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (held, is_held) = std::sync::mpsc::channel();
    let engine = node.engine.clone();
    let holder = std::thread::spawn(move || {
        let _stuck = engine.flusher().quiesce();
        held.send(()).unwrap();
        // Until the other end is dropped.
        let _ = released.recv();
    });
    is_held.recv().unwrap();
    let mut written = 0;
    while !node.engine.flusher().is_over_hard_budget() {
        apply(&node, address, put(&format!("k{written}"), &format!(r#"{{"pad":"{}"}}"#, "x".repeat(5000)))).await;
        written += 1;
        assert!(written < 1000);
    }
    let notices = node.notices.take();
    assert!(notices.iter().any(|notice| notice.details.contains("wait in memory")), "{notices:?}");
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { node.engine.write(address, put("late", "{}"), false).await }
    });
    assert!(read(&node, address, "k0").await.is_some(), "reads go on");
    let delete = Operation { change: Change::Delete, ..put("k0", "{}") };
    assert_eq!(apply(&node, address, delete).await, Outcome::Deleted, "deletes go on");
    assert!(!waiting.is_finished(), "the write waits");
    drop(release);
    holder.join().unwrap();
    waiting.await.unwrap().expect("taken when there is room again, by itself");
    assert!(read(&node, address, "late").await.is_some());
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
