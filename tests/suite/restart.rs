//! The disk under the commit log fails at a sync: what waited is told so, and the node starts again from disk
//! within the process, with everything it had acknowledged.

use std::sync::Arc;

use dstore::domain::refusal::RefusalKind;
use dstore::services::ports::Consistency;
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::storage::log::disk_simulated::SimulatedDisk;

use crate::engine::{Node, apply, create, fixed_keys, packed, put, read, small, try_open_on};

fn open(folder: &std::path::Path, disk: &SimulatedDisk) -> Node {
    try_open_on(Arc::new(disk.clone()), folder, small(), fixed_keys(), |_| {}).expect("the engine opens")
}

async fn refused(node: &Node, address: RangeAddress, id: &str) -> RefusalKind {
    node.engine.write(address, put(id, "{}"), false).await.unwrap_err().kind
}

#[tokio::test]
async fn after_a_failed_sync_the_node_starts_again_from_disk_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new();
    let node = open(folder.path(), &disk);
    let address = create(&node, 1);
    for number in 0..20 {
        apply(&node, address, put(&format!("k{number}"), r#"{"x":1}"#)).await;
        if number == 10 {
            node.engine.replicas()[0].flush().unwrap();
        }
    }
    node.engine.readiness().unwrap();
    disk.fail_sync_after(0);
    assert_eq!(refused(&node, address, "lost?").await, RefusalKind::OutcomeUnknown);
    assert_eq!(refused(&node, address, "k1").await, RefusalKind::Unavailable, "nothing is taken any more");
    assert!(node.engine.readiness().is_err());
    let before = node.engine.replicas()[0].clone();
    node.engine.look_after();
    node.engine.readiness().unwrap();
    let notices = node.notices.take();
    assert!(notices.iter().any(|notice| notice.details.contains("started again")), "{notices:?}");
    for number in 0..20 {
        assert_eq!(read(&node, address, &format!("k{number}")).await.as_deref(), Some(r#"{"x":1}"#));
    }
    // Whoever still holds what was there before the restart gets no index from it.
    assert!(before.sequence(None, |_| Ok::<(), ()>(())).is_none());
    assert!(!Arc::ptr_eq(&before, &node.engine.replicas()[0]));
    apply(&node, address, put("k1", r#"{"x":2}"#)).await;
    node.engine.stop();
    drop(node);
    let node = open(folder.path(), &disk);
    assert_eq!(read(&node, address, "k1").await.as_deref(), Some(r#"{"x":2}"#));
    node.engine.stop();
}

#[tokio::test]
async fn a_disk_that_cannot_be_opened_again_either_is_tried_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new();
    let node = open(folder.path(), &disk);
    let address = create(&node, 1);
    apply(&node, address, put("a", "{}")).await;
    disk.fail_sync_after(0);
    assert_eq!(refused(&node, address, "b").await, RefusalKind::OutcomeUnknown);
    for _ in 0..3 {
        disk.fail_sync_after(0);
        node.engine.look_after();
        assert!(node.engine.readiness().is_err());
        let answer = node.engine.read(address, packed("a"), Consistency::Strong).await;
        assert_eq!(answer.unwrap_err().kind, RefusalKind::Unavailable, "neither wrong nor lost: not now");
    }
    node.engine.look_after();
    assert!(read(&node, address, "a").await.is_some());
    apply(&node, address, put("c", "{}")).await;
    node.engine.stop();
}

/// Many writers, and a sync that fails somewhere among theirs, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new();
    let node = Arc::new(open(folder.path(), &disk));
    let address = create(&node, 1);
    let mut acknowledged = [0u64; 16];
    for round in 0..10 {
        disk.fail_sync_after(5 + round);
        let mut tasks = Vec::new();
        for (writer, known) in acknowledged.into_iter().enumerate() {
            let node = node.clone();
            tasks.push(tokio::spawn(async move {
                let mut number = known;
                loop {
                    let text = format!(r#"{{"n":{}}}"#, number + 1);
                    match node.engine.write(address, put(&format!("w{writer}"), &text), false).await {
                        Ok(_) => number += 1,
                        Err(_) => return number,
                    }
                }
            }));
        }
        for (writer, task) in tasks.into_iter().enumerate() {
            acknowledged[writer] = task.await.unwrap();
        }
        node.engine.look_after();
        node.engine.readiness().unwrap();
        for (writer, known) in acknowledged.iter_mut().enumerate() {
            let stored = read(&node, address, &format!("w{writer}")).await;
            let stored = stored
                .map_or(0, |text| serde_json::from_str::<serde_json::Value>(&text).unwrap()["n"].as_u64().unwrap());
            assert!(stored == *known || stored == *known + 1, "round {round}, writer {writer}: {stored} of {known}");
            *known = stored;
        }
    }
    node.engine.stop();
}

/// A sync of a replica's file fails: what only the kernel remembers of it is thrown away, and the commit log has it.
#[tokio::test]
async fn a_file_whose_sync_failed_is_brought_back_from_the_commit_log() {
    let folder = tempfile::tempdir().unwrap();
    let node = crate::engine::open(folder.path(), small());
    let address = create(&node, 1);
    let durable = |node: &Node| {
        let rounds = node.engine.flusher().rounds_done();
        node.engine.flusher().ask_for_durability();
        let deadline = std::time::Instant::now() + crate::process::DEADLINE;
        while node.engine.flusher().rounds_done() == rounds {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        node.database.replicas().unwrap()[0].durable_index
    };
    apply(&node, address, put("a", r#"{"x":1}"#)).await;
    assert_eq!(durable(&node), 1);
    apply(&node, address, put("a", r#"{"x":2}"#)).await;
    apply(&node, address, put("b", "{}")).await;
    let replica = node.engine.replicas()[0].clone();
    let of_tenant = crate::engine::plane_folder(folder.path()).join(replica.name.tenant.to_string());
    let path = of_tenant.join(replica.name.table.to_string()).join(format!("{}.db", replica.name.replica));
    let log = path.with_extension("db-wal");
    dstore::storage::vfs::fail_next_sync(&path);
    assert_eq!(durable(&node), 1, "what was not synced is not said to be");
    assert!(std::fs::metadata(&log).unwrap().len() > 4096, "it was written, and may be forgotten");
    assert!(node.engine.readiness().is_err());
    assert_eq!(durable(&node), 1, "nor when it is asked for again, though that sync would do");
    node.engine.look_after();
    node.engine.readiness().unwrap();
    assert!(
        !log.exists() || std::fs::metadata(&log).unwrap().len() < 100,
        "what the kernel may have forgotten is gone"
    );
    assert_eq!(read(&node, address, "a").await.as_deref(), Some(r#"{"x":2}"#));
    assert_eq!(read(&node, address, "b").await.as_deref(), Some("{}"));
    assert_eq!(durable(&node), 3);
    node.engine.stop();
}
