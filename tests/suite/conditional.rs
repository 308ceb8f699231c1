//! Writes with conditions, updates by expressions and images, on a node with real files: what is answered, that a repeat is
//! answered the same, and that the log says it again after a crash.

use std::path::Path;

use dstore::domain::document::Document;
use dstore::domain::ids::{PrincipalId, RequestId};
use dstore::domain::key::PackedKey;
use dstore::expression::{Condition, Path as DocumentPath, Update, Value};
use dstore::replication::operation::{
    Change, Changed, ClientRequest, ConditionFailed, Conditional, Images, Operation, Outcome, RequestIdentity,
};
use dstore::services::ports::{Consistency, ListRequest, Stored, StoredPart};
use dstore::services::ranges::{RangeAddress, RangeService};

use crate::engine::{Node, apply, create, document, open, packed, put, read, small};

pub fn path(name: &str) -> DocumentPath {
    DocumentPath { attribute: name.into(), steps: Vec::new() }
}

/// A write of this item with all that may be asked beside.
pub fn asking(id: &str, change: Change, condition: Option<Condition>, images: Images) -> Operation {
    let keys = document(&format!(r#"{{"id":"{id}"}}"#));
    let key_bytes = keys.item_size() as u32;
    let conditional = Conditional { condition, keys, images, key_bytes };
    Operation { change, conditional: Some(Box::new(conditional)), ..put(id, "{}") }
}

const AFTER: Images = Images { before: false, after: true, before_on_failure: false, touched_only: false };

/// Adds a number to an attribute, and wants the item as it is then.
pub fn count(id: &str, number: u32) -> Operation {
    let one = document(&format!(r#"{{"v":{number}}}"#));
    let value = Value::new(one.get("v").unwrap()).unwrap();
    let update = Update { adds: vec![(path("n"), value)], ..Update::default() };
    asking(id, Change::Update(Box::new(update)), None, AFTER)
}

fn under(number: u8, operation: Operation) -> Operation {
    let request = ClientRequest {
        principal: PrincipalId::from_bytes([1; 16]),
        request_id: RequestId::from_bytes([number; 16]),
        digest: [number; 32],
    };
    Operation { request: Some(RequestIdentity::Client(request)), ..operation }
}

async fn changed(node: &Node, address: RangeAddress, operation: Operation) -> Changed {
    match apply(node, address, operation).await {
        Outcome::Changed(changed) => *changed,
        other => panic!("{other:?}"),
    }
}

/// The folder as a killed process leaves it: nothing is flushed, only what the log has is there.
fn killed(node: Node, folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder, copy.path());
    node.engine.stop();
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.unwrap().path(), to.to_owned());
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy_folder(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_repeat_is_told_the_same_item_also_when_the_log_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let first = changed(&node, address, under(1, count("a", 5))).await;
    assert_eq!((first.existed, &first.after), (false, &Some(document(r#"{"n":5}"#))));
    assert_eq!(changed(&node, address, count("a", 1)).await.after, Some(document(r#"{"n":6}"#)));
    assert_eq!(changed(&node, address, under(1, count("a", 5))).await, first);
    assert_eq!(read(&node, address, "a").await.as_deref(), Some(r#"{"n":6}"#));
    let copy = killed(node, folder.path());

    let node = open(copy.path(), small());
    assert_eq!(read(&node, address, "a").await.as_deref(), Some(r#"{"n":6}"#));
    assert_eq!(changed(&node, address, under(1, count("a", 5))).await, first);
    let replica = node.engine.replicas().remove(0);
    assert_eq!(replica.item_count().unwrap(), 1);
    replica.flush().unwrap();
    assert_eq!(changed(&node, address, under(1, count("a", 5))).await, first, "and from the file");
    let third = changed(&node, address, count("a", 1)).await;
    assert_eq!((third.existed, third.after), (true, Some(document(r#"{"n":7}"#))));
    node.engine.stop();
}

#[tokio::test]
async fn a_repeat_of_a_write_with_a_large_image_is_known_as_one_and_happens_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    apply(&node, address, put("a", &format!(r#"{{"n":1,"pad":"{}"}}"#, "x".repeat(100_000)))).await;
    let first = changed(&node, address, under(1, count("a", 5))).await;
    assert!(first.after.unwrap().get("n") == document(r#"{"n":6}"#).get("n"));
    assert_eq!(apply(&node, address, under(1, count("a", 5))).await, Outcome::RequestIdExpired);
    let now = changed(&node, address, count("a", 0)).await.after.unwrap();
    assert!(now.get("n") == document(r#"{"n":6}"#).get("n"));
    node.engine.stop();
}

#[tokio::test]
async fn conditions_are_checked_against_memory_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let replica = node.engine.replicas().remove(0);
    let told = Images { before: true, after: false, before_on_failure: true, ..Images::default() };
    let new =
        |id: &str, text: &str| asking(id, Change::Put(document(text)), Some(Condition::NotExists(path("id"))), told);
    let first = changed(&node, address, new("a", r#"{"x":1}"#)).await;
    assert_eq!((first.existed, first.before, first.before_bytes), (false, None, 0));
    for is_flushed in [false, true] {
        if is_flushed {
            replica.flush().unwrap();
        }
        let failed = ConditionFailed { before: Some(document(r#"{"x":1}"#)), before_bytes: 6 };
        assert_eq!(apply(&node, address, new("a", r#"{"x":2}"#)).await, Outcome::ConditionFailed(Box::new(failed)));
    }
    assert_eq!(replica.item_count().unwrap(), 1);
    let gone = changed(&node, address, asking("a", Change::Remove, None, told)).await;
    assert_eq!((gone.version, gone.before), (None, Some(document(r#"{"x":1}"#))));
    let nothing = changed(&node, address, asking("a", Change::Remove, None, told)).await;
    assert_eq!((nothing.version, nothing.existed, nothing.before), (None, false, None));
    assert_eq!(replica.item_count().unwrap(), 0);
    assert_eq!(read(&node, address, "a").await, None);
    replica.flush().unwrap();
    assert_eq!(node.engine.stored(address, 7, StoredPart::Table).await.unwrap(), Stored::default());
    node.engine.stop();
}

#[tokio::test]
async fn pages_may_be_bounded_in_bytes_and_what_is_stored_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let text = format!(r#"{{"pad":"{}"}}"#, "x".repeat(997));
    let ids: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    for id in &ids {
        apply(&node, address, put(id, &text)).await;
    }
    let replica = node.engine.replicas().remove(0);
    replica.flush().unwrap();
    let keys: usize = ids.iter().map(|id| packed(id).len()).sum();
    let bytes = (20 * 1000 + keys) as u64;
    let stored = node.engine.stored(address, u32::MAX, StoredPart::Table).await.unwrap();
    assert_eq!(stored, Stored { items: 20, bytes });
    for (bytes_max, items) in [(1, 1), (1000, 1), (1100, 2), (5000, 5), (u32::MAX, 20)] {
        let request = ListRequest {
            index: None,
            start: PackedKey::hash_floor(0),
            end: None,
            limit: 100,
            descending: false,
            consistency: Consistency::Strong,
            bytes_max: Some(bytes_max),
        };
        let page = node.engine.list(address, request).await.unwrap();
        assert_eq!((page.items.len(), page.last.is_some()), (items, items < 20), "{bytes_max}");
    }
    node.engine.stop();
}

/// What cannot be read again must not come into a log.
#[tokio::test]
async fn what_is_beyond_the_limits_of_expressions_is_refused_before_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let address = create(&node, 1);
    let mut condition = Condition::Exists(path("a"));
    for _ in 0..1000 {
        condition = Condition::Not(Box::new(condition));
    }
    let deep = asking("a", Change::Put(Document::empty()), Some(condition), Images::default());
    let refusal = node.engine.write(address, deep, false).await.unwrap_err();
    assert_eq!(refusal.kind, dstore::domain::RefusalKind::BadInput);
    assert_eq!(read(&node, address, "a").await, None);
    node.engine.stop();
}
