//! Local indexes, on every store: against a naive reading of all items, through all that can happen to a file.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::domain::document::Node;
use crate::domain::key::KeyType;
use crate::domain::local_index::{IndexProjection, LocalIndex};
use crate::storage::store::{IndexChunk, IndexedItem, StoredSize};

/// Of each type, and of each way to show an item.
fn indexes() -> Vec<LocalIndex> {
    vec![
        LocalIndex::of("by-n", "n", KeyType::Integer, IndexProjection::All),
        LocalIndex::of("by-t", "t", KeyType::String, IndexProjection::KeysOnly),
        LocalIndex::of("by-t-with-x", "t", KeyType::String, IndexProjection::Include(vec!["x".to_owned()])),
        LocalIndex::of("by-b", "b", KeyType::Bytes, IndexProjection::All),
    ]
}

fn id(number: u8) -> KeyValue {
    KeyValue::String(format!("id-{number}").into())
}

fn sorted_key(number: u8, sort: u8) -> PackedKey {
    PackedKey::new(&id(number), Some(&KeyValue::Integer(i64::from(sort).into())))
}

/// A batch of items, of which a later one of the same key stands.
fn batch_of(index: u64, items: &[((u8, u8), Option<Document>)]) -> Batch {
    let last: BTreeMap<_, _> = items.iter().map(|((id, sort), document)| (sorted_key(*id, *sort), document)).collect();
    let write = |(key, document): (PackedKey, &Option<Document>)| ItemWrite {
        key,
        version: ItemVersion(index),
        document: document.clone(),
    };
    let items = last.into_iter().map(write).collect();
    Batch { items, applied_index: index, now: Timestamp(1_000_000 * index), ..Batch::default() }
}

fn of_id(number: u8) -> KeyInterval {
    let (start, end) = PackedKey::id_interval(&id(number));
    KeyInterval { start, end: Some(end) }
}

/// All of an interval, read in pieces.
fn read_all(
    store: &dyn RangeStore,
    position: u8,
    mut interval: KeyInterval,
    descending: bool,
    items_max: usize,
) -> Vec<IndexedItem> {
    let mut found = Vec::new();
    loop {
        let chunk = store.scan_index(position, &interval, descending, items_max, 1 << 20).unwrap();
        assert!(chunk.items.len() <= items_max && (chunk.complete || !chunk.items.is_empty()));
        match chunk.items.last() {
            Some(last) if descending => interval.end = Some(last.entry.clone()),
            Some(last) => interval.start = last.entry.successor(),
            None => {}
        }
        found.extend(chunk.items);
        if chunk.complete {
            return found;
        }
    }
}

/// The items that a store should have.
type Model = BTreeMap<PackedKey, (Document, ItemVersion)>;

/// What an index should have of them, in its order.
fn naive(index: &LocalIndex, model: &Model) -> Vec<PackedKey> {
    let value = |document: &Document| match (index.key_type, document.get(&index.attribute)?) {
        (KeyType::Integer, Node::Number(text)) => Some(KeyValue::Integer(text.parse().unwrap())),
        (KeyType::String, Node::String(text)) if (1..=1024).contains(&text.len()) => {
            Some(KeyValue::String(text.into()))
        }
        (KeyType::Bytes, Node::Binary(bytes)) if (1..=1024).contains(&bytes.len()) => {
            Some(KeyValue::Bytes(Bytes::copy_from_slice(bytes)))
        }
        _ => None,
    };
    let place = |(key, (document, _)): (&PackedKey, &(Document, ItemVersion))| {
        let (id, sort) = key.decode().unwrap();
        Some(((id.hash(), id, value(document)?, sort), key.clone()))
    };
    let mut found: Vec<_> = model.iter().filter_map(place).collect();
    found.sort();
    found.into_iter().map(|(_, key)| key).collect()
}

/// The bytes of what an index should show of an item.
fn shown_bytes(index: &LocalIndex, key: &PackedKey, item: &Document) -> u64 {
    let mut shown: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&item.to_json()).unwrap();
    match &index.projection {
        IndexProjection::All => {}
        IndexProjection::KeysOnly => shown.retain(|name, _| *name == index.attribute),
        IndexProjection::Include(names) => shown.retain(|name, _| *name == index.attribute || names.contains(name)),
    }
    item_bytes(key, &document(&serde_json::Value::from(shown).to_string())) as u64
}

fn check(store: &dyn RangeStore, model: &Model, applied_index: u64) {
    for (position, index) in (0..).zip(&indexes()) {
        let expected = naive(index, model);
        let keys = |items: &[IndexedItem]| items.iter().map(|item| item.key.clone()).collect::<Vec<_>>();
        for (descending, items_max) in [(false, 1), (false, 100), (true, 3), (true, 100)] {
            let found = read_all(store, position, everything(), descending, items_max);
            let mut wanted = expected.clone();
            if descending {
                wanted.reverse();
            }
            assert_eq!(keys(&found), wanted, "{}, {descending}, {items_max}", index.name);
            for item in found {
                assert_eq!(Some(&item.entry), index.entry(&item.key, &item.document).as_ref());
                assert_eq!((&item.document, item.version), (&model[&item.key].0, model[&item.key].1));
            }
            for number in 0..3 {
                let own = |key: &&PackedKey| key.hash() == id(number).hash();
                let wanted: Vec<_> = wanted.iter().filter(own).cloned().collect();
                assert_eq!(keys(&read_all(store, position, of_id(number), descending, items_max)), wanted);
            }
            let first = store.scan_index(position, &everything(), descending, items_max, 1 << 20).unwrap();
            assert_eq!((first.complete, first.applied_index), (expected.len() < items_max, applied_index));
        }
        let least = store.scan_index(position, &everything(), false, 100, 1).unwrap();
        assert_eq!((least.items.len(), least.complete), (expected.len().min(1), expected.len() < 2));
        let bytes = expected.iter().map(|key| shown_bytes(index, key, &model[key].0)).sum();
        assert_eq!(store.index_size(position).unwrap(), StoredSize { items: expected.len() as u64, bytes });
    }
    for number in 0..3 {
        let own = model.iter().filter(|(key, _)| key.hash() == id(number).hash());
        let bytes: Vec<_> = own.map(|(key, (document, _))| item_bytes(key, document) as u64).collect();
        let expected = StoredSize { items: bytes.len() as u64, bytes: bytes.iter().sum() };
        assert_eq!(store.interval_size(&of_id(number)).unwrap(), expected);
    }
}

/// Values that an index takes, long ones among them, others, and none.
fn any_document() -> impl Strategy<Value = Document> {
    let number = prop_oneof![(0u8..4).prop_map(|number| json!(number)), Just(json!("1")), Just(json!(null))];
    let text = prop_oneof![
        "[ab]{0,2}".prop_map(|text| json!(text)),
        Just(json!("l".repeat(900))),
        Just(json!("l".repeat(1025))),
        Just(json!(1)),
    ];
    let binary = prop_oneof![Just(json!({"$binary": "AP8="})), Just(json!({"$binary": "AA=="})), Just(json!("AA=="))];
    let other = "[a-c]{0,3}".prop_map(|text| json!(text));
    let attributes =
        (prop::option::of(number), prop::option::of(text), prop::option::of(binary), prop::option::of(other));
    attributes.prop_map(|(number, text, binary, other)| {
        let named = [("n", number), ("t", text), ("b", binary), ("x", other)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        document(&named.collect::<serde_json::Value>().to_string())
    })
}

/// Items (ID and sort key, and what becomes of it), and whether the store is opened anew after them.
type DrawnBatch = (Vec<((u8, u8), Option<Document>)>, bool);

/// Batches, and whether the file is closed and opened again after each.
fn any_batches() -> impl Strategy<Value = Vec<DrawnBatch>> {
    let write = ((0u8..3, 0u8..4), prop::option::weighted(0.8, any_document()));
    prop::collection::vec((prop::collection::vec(write, 0..6), any::<bool>()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn an_index_has_what_a_naive_reading_finds(batches in any_batches()) {
        let fixtures = [memory(), sqlite()];
        let mut stores: Vec<_> =
            fixtures.iter().map(|fixture| fixture.keeper.create(name(1), &indexes()).unwrap()).collect();
        let plain = fixtures[0].keeper.create(name(2), &[]).unwrap();
        let mut model = Model::new();
        for (number, (items, is_reopened)) in (1u64..).zip(&batches) {
            let batch = batch_of(number, items);
            let changes: Vec<_> = stores.iter().map(|store| store.write(&batch).unwrap()).collect();
            // Entries are not counted among cells.
            prop_assert_eq!(changes, vec![plain.write(&batch).unwrap(); 2]);
            for item in batch.items {
                match item.document {
                    Some(document) => model.insert(item.key, (document, item.version)),
                    None => model.remove(&item.key),
                };
            }
            if *is_reopened {
                stores.iter().for_each(|store| store.release());
                stores = fixtures.iter().map(|fixture| fixture.keeper.open(name(1)).unwrap()).collect();
            }
            stores.iter().for_each(|store| check(&**store, &model, number));
        }
    }
}

fn an_index_that_is_not_there_says_so(fixture: &Fixture) {
    let indexed = fixture.keeper.create(name(1), &indexes()).unwrap();
    let plain = fixture.keeper.create(name(2), &[]).unwrap();
    for store in [&indexed, &plain] {
        store.write(&batch_of(1, &[((1, 1), Some(document(r#"{"n":1}"#)))])).unwrap();
    }
    assert_eq!(indexed.scan_index(0, &everything(), false, 10, 10).unwrap().items.len(), 1);
    let IndexChunk { items, complete, .. } = indexed.scan_index(3, &everything(), false, 10, 10).unwrap();
    assert!(items.is_empty() && complete, "nothing is in it, but it is there");
    for (store, position) in [(&indexed, 4), (&plain, 0)] {
        let scanned = store.scan_index(position, &everything(), false, 10, 10);
        assert!(matches!(scanned, Err(StoreError::Failed(_))));
        assert!(matches!(store.index_size(position), Err(StoreError::Failed(_))));
    }
}

contract! {
    an_index_that_is_not_there_says_so
}

/// The definitions are part of the store from its first moment on, and entries go with their items.
#[test]
fn memory_keeps_its_indexes_through_a_power_cut() {
    let keeper = MemoryKeeper::default();
    let store = keeper.create(name(1), &indexes()).unwrap();
    store.write(&batch_of(1, &[((1, 1), Some(document(r#"{"n":1}"#)))])).unwrap();
    keeper.cut_power();
    assert_eq!(store.index_size(0).unwrap(), StoredSize::default());
}

/// Nothing says how far a new file's write-ahead log should reach, so what is in it may be lost without a trace.
#[test]
fn a_file_knows_its_indexes_without_its_log() {
    let random = Arc::new(SystemRandom::default());
    crate::storage::vfs::register(random.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = KeeperOptions { open_files_max: 4, file: FileOptions { cache_pages: 50, readers_max: 2 } };
    let (plane, node) = (PlaneId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
    let keeper = SqliteKeeper::new(folder.path().to_owned(), plane, node, Arc::new(OneKey), random, options);
    keeper.create(name(1), &indexes()).unwrap().release();
    let mut log = keeper.path(name(1)).into_os_string();
    log.push("-wal");
    if std::fs::exists(&log).unwrap() {
        std::fs::remove_file(&log).unwrap();
    }
    let store = keeper.open(name(1)).unwrap();
    let item = document(r#"{"b":{"$binary":"AA=="}}"#);
    store.write(&batch_of(1, &[((1, 1), Some(item.clone()))])).unwrap();
    let bytes = item_bytes(&sorted_key(1, 1), &item) as u64;
    assert_eq!(store.index_size(3).unwrap(), StoredSize { items: 1, bytes });
}
