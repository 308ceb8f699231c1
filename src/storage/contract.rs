//! One suite for every store. Each case is written once and runs on encrypted files and on memory; and the two are
//! given the same random work and must agree in every answer, the rows counted included.

use std::sync::Arc;

use proptest::prelude::*;

use super::keys::{FileKeys, KeyOwner, KeyUnavailable, VersionedKey};
use super::memory::MemoryKeeper;
use super::sqlite::keeper::{KeeperOptions, SqliteKeeper};
use super::sqlite::range_store::FileOptions;
use super::store::{
    Batch, Chunk, ItemWrite, KeyInterval, RangeStore, ReplicaName, StoreError, StoreKeeper, StoreState, item_bytes,
};
use crate::crypto::Key256;
use crate::crypto::cipher::tests::SystemRandom;
use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::document::sample::of_text as document;
use crate::domain::ids::{NodeId, PlaneId, PrincipalId, RangeId, ReceiptId, ReplicaId, RequestId, TableId, TenantId};
use crate::domain::key::{KeyValue, PackedKey};
use crate::domain::limits::{RECEIPT_SECONDS, REQUEST_WINDOW_SECONDS};
use crate::domain::version::ItemVersion;
use crate::replication::machine_state::{LogPlace, MachineState};
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;

/// A keeper with nothing in it.
struct Fixture {
    keeper: Arc<dyn StoreKeeper>,
    _folder: Option<tempfile::TempDir>,
}

pub(super) struct OneKey;

impl FileKeys for OneKey {
    fn newest(&self, _owner: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        Ok(VersionedKey { version: 1, key: Key256::new([7; 32]) })
    }
    fn of_version(&self, _owner: KeyOwner, _version: u32) -> Result<Key256, KeyUnavailable> {
        Ok(Key256::new([7; 32]))
    }
}

fn memory() -> Fixture {
    Fixture { keeper: Arc::new(MemoryKeeper::default()), _folder: None }
}

fn sqlite() -> Fixture {
    let random = Arc::new(SystemRandom::default());
    super::vfs::register(random.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = KeeperOptions { open_files_max: 4, file: FileOptions { cache_pages: 50, readers_max: 2 } };
    let (plane, node) = (PlaneId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
    let keeper = SqliteKeeper::new(folder.path().to_owned(), plane, node, Arc::new(OneKey), random, options);
    Fixture { keeper: Arc::new(keeper), _folder: Some(folder) }
}

pub(super) fn name(number: u8) -> ReplicaName {
    ReplicaName {
        tenant: TenantId::from_bytes([1; 16]),
        table: TableId::from_bytes([2; 16]),
        range: RangeId::from_bytes([number; 16]),
        replica: ReplicaId::from_bytes([number; 16]),
    }
}

fn key(id: &str) -> PackedKey {
    PackedKey::new(&KeyValue::String(id.into()), None)
}

pub(super) fn batch(index: u64, items: &[(&str, Option<&str>)]) -> Batch {
    let write = |(id, text): &(&str, Option<&str>)| ItemWrite {
        key: key(id),
        version: ItemVersion(index),
        document: text.map(document),
    };
    let mut items: Vec<_> = items.iter().map(write).collect();
    items.sort_by(|one, other| one.key.cmp(&other.key));
    Batch { items, applied_index: index, item_count: index, now: Timestamp(1_000_000 * index), ..Batch::default() }
}

fn everything() -> KeyInterval {
    KeyInterval { start: PackedKey::hash_floor(0), end: None }
}

fn ids(chunk: &Chunk) -> Vec<PackedKey> {
    chunk.items.iter().map(|(key, ..)| key.clone()).collect()
}

fn what_is_written_is_read(fixture: &Fixture) {
    let store = fixture.keeper.create(name(1), &[]).unwrap();
    assert_eq!(store.state().unwrap(), StoreState::default());
    assert!(store.get(&key("a")).unwrap().is_none() && store.version(&key("a")).unwrap().is_none());
    store.write(&batch(3, &[("a", Some(r#"{"x":1}"#)), ("b", Some(r#"{"y":[1,{}]}"#))])).unwrap();
    store.write(&batch(5, &[("a", Some(r#"{"x":2,"z":null}"#)), ("b", None), ("c", None)])).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), Some((document(r#"{"x":2,"z":null}"#), ItemVersion(5))));
    assert_eq!(store.version(&key("a")).unwrap(), Some(ItemVersion(5)));
    assert!(store.get(&key("b")).unwrap().is_none() && store.version(&key("b")).unwrap().is_none());
    assert_eq!(
        store.state().unwrap(),
        StoreState {
            applied_index: 5,
            item_count: 5,
            stored_bytes: item_bytes(&key("a"), &document(r#"{"x":2,"z":null}"#)) as u64,
            time: Timestamp(5_000_000),
            machine: None
        }
    );
    assert_eq!(store.make_durable().unwrap(), 5);
    store.checkpoint().unwrap();
    store.release();
    assert_eq!(store.version(&key("a")).unwrap(), Some(ItemVersion(5)), "it opens again by itself");
    store.verify().unwrap();
    let again = fixture.keeper.open(name(1)).unwrap();
    assert_eq!(again.state().unwrap().applied_index, 5);
}

fn a_changed_leaf_is_one_row_and_the_items_own(fixture: &Fixture) {
    let store = fixture.keeper.create(name(1), &[]).unwrap();
    let write = |index, text: Option<&str>| {
        let changes = store.write(&batch(index, &[("a", text)])).unwrap();
        let bytes = text.map_or(0, |text| item_bytes(&key("a"), &document(text)));
        assert_eq!(store.state().unwrap().stored_bytes, bytes as u64);
        (changes.cells_written, changes.cells_removed)
    };
    assert_eq!(write(1, Some(r#"{"a":1,"b":{"c":[1,2,3],"d":"x"}}"#)), (6, 0));
    assert_eq!(write(2, Some(r#"{"a":1,"b":{"c":[1,9,3],"d":"x"}}"#)), (2, 0));
    assert_eq!(write(3, Some(r#"{"a":1,"b":{"c":[1,9],"d":"x"}}"#)), (1, 1));
    assert_eq!(write(4, Some(r#"{"a":1,"b":{}}"#)), (2, 3));
    assert_eq!(write(5, None), (0, 3));
    assert_eq!(write(6, None), (0, 0));
}

fn scans_keep_order_and_bounds(fixture: &Fixture) {
    let store = fixture.keeper.create(name(1), &[]).unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("k{number}")).collect();
    let text = format!(r#"{{"pad":"{}"}}"#, "x".repeat(100));
    let items: Vec<_> = names.iter().map(|id| (id.as_str(), Some(text.as_str()))).collect();
    store.write(&batch(1, &items)).unwrap();
    let mut sorted: Vec<_> = names.iter().map(|id| key(id)).collect();
    sorted.sort();
    let all = store.scan(&everything(), false, 100, 1 << 20).unwrap();
    assert_eq!((ids(&all), all.complete, all.applied_index), (sorted.clone(), true, 1));
    let first = store.scan(&everything(), false, 7, 1 << 20).unwrap();
    assert_eq!((ids(&first), first.complete), (sorted[..7].to_vec(), false));
    assert!(!store.scan(&everything(), false, 40, 1 << 20).unwrap().complete, "there might be more: nobody looked");
    let bytes = store.scan(&everything(), false, 100, 1).unwrap();
    assert_eq!((bytes.items.len(), bytes.complete), (1, false), "at least one");
    let inner = KeyInterval { start: sorted[5].clone(), end: Some(sorted[9].clone()) };
    assert_eq!(ids(&store.scan(&inner, false, 100, 1 << 20).unwrap()), sorted[5..9]);
    let mut backwards = sorted[5..9].to_vec();
    backwards.reverse();
    assert_eq!(ids(&store.scan(&inner, true, 100, 1 << 20).unwrap()), backwards);
    assert_eq!(ids(&store.scan(&inner, true, 2, 1 << 20).unwrap()), backwards[..2]);
    let nothing = KeyInterval { start: sorted[9].clone(), end: Some(sorted[5].clone()) };
    assert!(store.scan(&nothing, false, 100, 1 << 20).unwrap().items.is_empty());
}

fn requests_and_receipts_are_kept_for_their_time(fixture: &Fixture) {
    let store = fixture.keeper.create(name(1), &[]).unwrap();
    let (principal, request, receipt) =
        (PrincipalId::from_bytes([1; 16]), RequestId::from_bytes([2; 16]), ReceiptId::from_bytes([3; 16]));
    let at = |seconds: u64| Timestamp(seconds * 1_000_000);
    let known = |seconds| Remembered { digest: [4; 32], outcome: Outcome::Deleted, index: 1, at: at(seconds) };
    let write = |index, seconds: u64, id: RequestId, kept: ReceiptId| {
        let requests = vec![(principal, id, known(seconds))];
        let receipts = vec![(kept, Outcome::NotFound, at(seconds))];
        store.write(&Batch { requests, receipts, now: at(seconds), ..batch(index, &[]) }).unwrap();
    };
    write(1, 1000, request, receipt);
    assert_eq!(store.request(principal, request).unwrap(), Some(known(1000)));
    assert_eq!(store.receipt(receipt).unwrap(), Some(Outcome::NotFound));
    assert_eq!(store.request(PrincipalId::from_bytes([9; 16]), request).unwrap(), None);
    let other = (RequestId::from_bytes([5; 16]), ReceiptId::from_bytes([6; 16]));
    write(2, 1000 + REQUEST_WINDOW_SECONDS, other.0, other.1);
    assert!(store.request(principal, request).unwrap().is_some(), "within the window");
    write(3, 1001 + REQUEST_WINDOW_SECONDS, other.0, other.1);
    assert!(store.request(principal, request).unwrap().is_none(), "past it");
    assert!(store.receipt(receipt).unwrap().is_some());
    write(4, 1001 + RECEIPT_SECONDS, other.0, other.1);
    assert!(store.receipt(receipt).unwrap().is_none());
    assert!(store.receipt(other.1).unwrap().is_some());
}

/// A snapshot shows one moment, whatever is written and brought back into the file meanwhile.
fn a_snapshot_stays_as_it_was(fixture: &Fixture) {
    let store = fixture.keeper.create(name(1), &[]).unwrap();
    let machine = MachineState { applied: LogPlace { term: 2, index: 3 }, ..MachineState::default() };
    let (principal, at) = (PrincipalId::from_bytes([1; 16]), Timestamp(3_000_000));
    let known = Remembered { digest: [4; 32], outcome: Outcome::Deleted, index: 1, at };
    let request = |number: u8| (principal, RequestId::from_bytes([number; 16]), known.clone());
    let receipt = |number: u8| (ReceiptId::from_bytes([number; 16]), Outcome::NotFound, at);
    store
        .write(&Batch {
            requests: vec![request(2), request(1)],
            receipts: vec![receipt(7), receipt(6)],
            machine: Some(machine.clone()),
            ..batch(3, &[("a", Some("{}")), ("b", Some(r#"{"x":[1]}"#))])
        })
        .unwrap();
    let stored_bytes =
        (item_bytes(&key("a"), &document("{}")) + item_bytes(&key("b"), &document(r#"{"x":[1]}"#))) as u64;
    let before = StoreState { applied_index: 3, item_count: 3, stored_bytes, time: at, machine: Some(machine) };
    assert_eq!(store.state().unwrap(), before);
    let mut snapshot = store.snapshot().unwrap();
    store.write(&Batch { requests: vec![request(3)], ..batch(4, &[("a", None), ("c", Some("{}"))]) }).unwrap();
    assert_eq!(store.state().unwrap().machine, before.machine, "kept where a batch says nothing of it");
    store.make_durable().unwrap();
    store.checkpoint().unwrap();
    store.release();
    assert_eq!(*snapshot.state(), before);
    let chunk = snapshot.items(&everything(), 10, 1 << 20).unwrap();
    let mut keys = [key("a"), key("b")];
    keys.sort();
    assert_eq!((ids(&chunk), chunk.complete, chunk.applied_index), (keys.to_vec(), true, 3));
    let rest = KeyInterval { start: keys[0].successor(), end: None };
    assert_eq!(ids(&snapshot.items(&rest, 10, 1 << 20).unwrap()), [keys[1].clone()]);
    assert_eq!(snapshot.requests(None, 10).unwrap(), [request(1), request(2)]);
    assert_eq!(snapshot.requests(Some((principal, request(1).1)), 10).unwrap(), [request(2)]);
    assert_eq!(snapshot.receipts(None, 1).unwrap(), [receipt(6)]);
    assert_eq!(snapshot.receipts(Some(receipt(6).0), 10).unwrap(), [receipt(7)]);
    assert!(store.snapshot().unwrap().requests(Some((principal, request(2).1)), 10).unwrap() == [request(3)]);
}

fn names_are_taken_and_freed(fixture: &Fixture) {
    let keeper = &fixture.keeper;
    let store = keeper.create(name(1), &[]).unwrap();
    store.write(&batch(1, &[("a", Some("{}"))])).unwrap();
    assert!(keeper.create(name(1), &[]).is_err(), "taken");
    let other = keeper.create(name(2), &[]).unwrap();
    assert_eq!(other.state().unwrap().applied_index, 0, "stores do not see each other");
    assert!(keeper.open(name(3)).unwrap().state().is_err(), "what is not there says so when it is used");
    keeper.set_aside(name(1)).unwrap();
    let fresh = keeper.create(name(1), &[]).unwrap();
    assert_eq!(fresh.get(&key("a")).unwrap(), None);
    keeper.remove(name(1)).unwrap();
    keeper.remove(name(1)).unwrap();
    assert!(matches!(keeper.open(name(1)).unwrap().state(), Err(StoreError::Failed(_))));
    keeper.create(name(1), &[]).unwrap();
}

macro_rules! contract {
    ($($case:ident)*) => {
        mod on_memory {
            $(#[test] fn $case() { super::$case(&super::memory()) })*
        }
        mod on_sqlite {
            $(#[test] fn $case() { super::$case(&super::sqlite()) })*
        }
    };
}

contract! {
    what_is_written_is_read
    a_changed_leaf_is_one_row_and_the_items_own
    scans_keep_order_and_bounds
    requests_and_receipts_are_kept_for_their_time
    a_snapshot_stays_as_it_was
    names_are_taken_and_freed
}

mod index_tests;

/// What is made durable outlives a power cut in memory, too, and nothing else does.
#[test]
fn memory_forgets_what_a_power_cut_takes() {
    let keeper = MemoryKeeper::default();
    let store = keeper.create(name(1), &[]).unwrap();
    store.write(&batch(1, &[("a", Some("{}"))])).unwrap();
    assert_eq!(store.make_durable().unwrap(), 1);
    store.write(&batch(2, &[("b", Some("{}"))])).unwrap();
    keeper.cut_power();
    assert_eq!(store.state().unwrap().applied_index, 1);
    assert!(store.get(&key("a")).unwrap().is_some() && store.get(&key("b")).unwrap().is_none());
}

/// A leaf, a map or a list under few names, so that changes meet.
fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        (0u8..4).prop_map(serde_json::Value::from),
        "[a-c]{0,3}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-c.]", inner, 0..3).prop_map(serde_json::Value::from_iter),
        ]
    })
}

fn any_work() -> impl Strategy<Value = Vec<Vec<(u8, Option<serde_json::Value>)>>> {
    let item = prop::collection::btree_map("[a-c]", any_value(), 0..4).prop_map(serde_json::Value::from_iter);
    let write = (0u8..5, prop::option::weighted(0.8, item));
    prop::collection::vec(prop::collection::vec(write, 0..4), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn both_give_the_same_answers(work in any_work()) {
        let (memory, sqlite) = (memory(), sqlite());
        let (one, other) = (memory.keeper.create(name(1), &[]).unwrap(), sqlite.keeper.create(name(1), &[]).unwrap());
        for (number, writes) in work.iter().enumerate() {
            // Each key once, in order: the last write of a key stands.
            let last: std::collections::BTreeMap<_, _> = writes.iter().map(|(id, text)| (id, text)).collect();
            let texts: Vec<_> =
                last.iter().map(|(id, text)| (id.to_string(), text.as_ref().map(|text| text.to_string()))).collect();
            let items: Vec<_> = texts.iter().map(|(id, text)| (id.as_str(), text.as_deref())).collect();
            let batch = batch(number as u64 + 1, &items);
            prop_assert_eq!(one.write(&batch).unwrap(), other.write(&batch).unwrap());
            prop_assert_eq!(one.state().unwrap(), other.state().unwrap());
            for descending in [false, true] {
                let scan = |store: &Arc<dyn RangeStore>| store.scan(&everything(), descending, 3, 1 << 20).unwrap();
                let (left, right) = (scan(&one), scan(&other));
                prop_assert_eq!((left.items, left.complete), (right.items, right.complete));
            }
        }
    }
}
