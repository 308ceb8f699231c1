//! What a thief of a node's whole folder sees, while it runs and after: no key, value, column name or word of
//! the schema, in no file and no name of one.

use std::path::Path;

use dstore::domain::ids::ReceiptId;
use dstore::replication::operation::Operation;
use dstore::services::ranges::RangeService;

use crate::engine::{apply, create, open, put, small};

/// Words that are in items, in definitions, or in SQLite's and our own schema.
const WORDS: &[&str] = &[
    "sentinel",
    "secret-id",
    "tenant-1",
    "things",
    "CREATE TABLE",
    "CREATE INDEX",
    "CREATE VIEW",
    "PRIMARY KEY",
    "WITHOUT ROWID",
    "SQLite format",
    "sqlite_",
    "tenant_keys",
    "large_values",
    "applied_index",
    "durable_index",
    "RID_TENANT",
    "c_col",
];

fn read_all(folder: &Path, seen: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            seen.push((name.clone(), name.into_bytes()));
            read_all(&path, seen);
        } else {
            let mut bytes = name.clone().into_bytes();
            bytes.extend(std::fs::read(&path).unwrap());
            seen.push((path.display().to_string(), bytes));
        }
    }
}

/// Looks for all words at once: an automaton would be quicker, but first bytes are rare enough.
fn assert_nothing_readable(folder: &Path, when: &str) -> u64 {
    let mut seen = Vec::new();
    read_all(folder, &mut seen);
    let mut starts = [false; 256];
    WORDS.iter().for_each(|word| starts[word.as_bytes()[0] as usize] = true);
    let mut total = 0;
    for (path, bytes) in &seen {
        total += bytes.len() as u64;
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| starts[**byte as usize]) {
            let found = WORDS.iter().find(|word| bytes[at..].starts_with(word.as_bytes()));
            assert!(found.is_none(), "{found:?} can be read in {path} {when}");
        }
    }
    total
}

#[tokio::test]
async fn nothing_is_readable_in_a_nodes_folder_while_it_runs_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    create(&node, 2);
    let part = dstore::storage::node_database::TenantKeyPart {
        tenant: crate::engine::tenant(1),
        version: 2,
        uuid: uuid::Uuid::from_bytes([4; 16]),
        part: dstore::crypto::Key256::new(*b"sentinel key of thirty-two bytes"),
    };
    node.database.add_tenant_key(&part).unwrap();
    for number in 0..200 {
        let text = format!(r#"{{"sentinel-name":"sentinel value {number}","long":"{}"}}"#, "sentinel".repeat(300));
        let receipt = Some(ReceiptId::from_bytes([number; 16]));
        apply(&node, address, Operation { receipt, ..put(&format!("secret-id-{number}"), &text) }).await;
        if number % 50 == 0 {
            assert_nothing_readable(folder.path(), "while it is written to");
        }
    }
    node.engine.replicas().iter().for_each(|replica| assert!(replica.flush().is_ok()));
    assert_nothing_readable(folder.path(), "after a flush");
    let rounds = node.engine.flusher().rounds_done();
    node.engine.flusher().ask_for_durability();
    let deadline = std::time::Instant::now() + crate::process::DEADLINE;
    while node.engine.flusher().rounds_done() == rounds {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_nothing_readable(folder.path(), "after a checkpoint");
    assert!(node.engine.receipt(address, ReceiptId::from_bytes([7; 16])).await.unwrap().is_some());
    node.engine.retire_replica(address.range).unwrap();
    assert_nothing_readable(folder.path(), "after its table was dropped");
    node.engine.stop();
    let total = assert_nothing_readable(folder.path(), "after it was stopped");
    assert!(total > 1 << 20, "there was something to look at: {total} bytes");
}
