//! Pages in the order of a local index, of a table with two ranges that a proxy asks over mutual TLS.

use std::collections::BTreeMap;
use std::sync::Arc;

use dstore::domain::RefusalKind;
use dstore::domain::document::Document;
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{RangeId, ReplicaId};
use dstore::domain::key::{KeyType, KeyValue, PackedKey, index_value_interval};
use dstore::domain::local_index::{IndexProjection, LocalIndex};
use dstore::domain::table::TableDefinition;
use dstore::replication::operation::{Change, Operation};
use dstore::services::items::{NodeAddress, RangeRoute, RoutedItems, Routes};
use dstore::services::ports::{Consistency, Items, ListRequest, Stored, StoredPart};
use dstore::storage::node_database::ReplicaRecord;
use dstore::storage::store::{ReplicaName, item_bytes};

use super::{Cluster, NODE};
use crate::engine::{document, open, put, record, small, table};

/// The ranges of the table: half of all hashes each, both at one node.
struct Halves(Arc<NodeAddress>);

fn range(number: u8) -> (RangeId, HashRange) {
    (RangeId::from_bytes([number + 1; 16]), HashRange::FULL.split(2)[usize::from(number)])
}

impl Routes for Halves {
    fn route(&self, _: &TableDefinition, hash: u32) -> Option<RangeRoute> {
        let (range, hashes) = [0, 1].map(range).into_iter().find(|(_, hashes)| hashes.contains(hash))?;
        Some(RangeRoute { range, hashes, leader: self.0.clone(), epoch: 1, replicas: Arc::new([]) })
    }
}

fn by_n() -> LocalIndex {
    let (name, attribute) = ("by-n".to_owned(), "n".to_owned());
    LocalIndex { name, attribute, key_type: KeyType::Integer, projection: IndexProjection::KeysOnly }
}

fn indexed() -> TableDefinition {
    let mut table = table(1);
    table.specification.sort_type = Some(KeyType::Integer);
    table.specification.local_indexes = vec![by_n()];
    table
}

fn id(number: i64) -> KeyValue {
    KeyValue::String(format!("id-{number}").into())
}

fn key(number: i64, sort: i64) -> PackedKey {
    PackedKey::new(&id(number), Some(&KeyValue::Integer(sort.into())))
}

type Model = BTreeMap<PackedKey, Document>;

/// Writes it both here and there; none: deletes it.
async fn write(
    items: &RoutedItems,
    table: &Arc<TableDefinition>,
    model: &mut Model,
    key: PackedKey,
    json: Option<&str>,
) {
    let change = json.map_or(Change::Delete, |json| Change::Put(document(json)));
    items.write(table, Operation { key: key.clone(), change, ..put("", "{}") }, false).await.unwrap();
    match json {
        Some(json) => model.insert(key, document(json)),
        None => model.remove(&key),
    };
}

/// What is in the index within the interval, in its order.
fn expected(model: &Model, request: &ListRequest) -> Vec<(PackedKey, Document)> {
    let entries = model.iter().filter_map(|(key, document)| {
        let entry = by_n().entry(key, document)?;
        let is_in = entry >= request.start && request.end.as_ref().is_none_or(|end| entry < *end);
        is_in.then(|| (entry, (key.clone(), document.clone())))
    });
    let entries: BTreeMap<_, _> = entries.collect();
    if request.descending { entries.into_values().rev().collect() } else { entries.into_values().collect() }
}

/// All pages, and how many they were.
async fn pages(
    items: &RoutedItems,
    table: &Arc<TableDefinition>,
    mut request: ListRequest,
) -> (Vec<(PackedKey, Document)>, usize) {
    let (mut seen, mut count) = (Vec::new(), 0);
    loop {
        let page = items.list(table, request.clone()).await.unwrap();
        assert!(page.items.len() <= request.limit);
        seen.extend(page.items.into_iter().map(|(key, item)| (key, item.document)));
        count += 1;
        match page.last {
            None => return (seen, count),
            Some(last) if request.descending => request.end = Some(last),
            Some(last) => request.start = last.successor(),
        }
    }
}

/// In both directions, in pages of several sizes.
async fn all_is_listed(items: &RoutedItems, table: &Arc<TableDefinition>, model: &Model) {
    let (from, to) = index_value_interval(&id(3), &KeyValue::Integer(2i64.into()));
    let intervals = [(PackedKey::hash_floor(0), None), (from, Some(to))];
    for (start, end) in intervals {
        for (limit, descending, consistency) in [
            (3, false, Consistency::Strong),
            (3, true, Consistency::Eventual),
            (1000, false, Consistency::Eventual),
            (1000, true, Consistency::Strong),
        ] {
            let (start, end, index) = (start.clone(), end.clone(), Some(0));
            let request = ListRequest { index, start, end, limit, descending, consistency, bytes_max: None };
            let (seen, count) = pages(items, table, request.clone()).await;
            assert!(seen == expected(model, &request), "limit {limit}, descending {descending}: {}", seen.len());
            assert!(limit < 1000 || count == 1, "a page goes over both ranges");
        }
    }
}

#[tokio::test]
async fn pages_of_an_index_go_over_both_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path(), small());
    let table = Arc::new(indexed());
    for number in 0..2 {
        let (range, hashes) = range(number);
        let own = record(1);
        let name = ReplicaName { range, replica: ReplicaId::from_bytes([number + 1; 16]), ..own.name };
        node.engine.create_replica(&ReplicaRecord { name, hashes, table: indexed(), ..own }).unwrap();
    }
    let cluster = Cluster::new();
    let server = cluster.serve(8, node.engine.clone());
    let inside = Some(format!("https://{}/", server.addresses()[0]));
    let leader = Arc::new(NodeAddress::new(NODE, "https://clients-only.invalid/".to_owned(), inside));
    let items = RoutedItems::new(Arc::new(Halves(leader)), Arc::new(cluster.proxy()));
    let mut model = Model::new();
    for number in 0..60 {
        let json = if number % 7 == 0 { "{}".to_owned() } else { format!(r#"{{"n":{},"more":true}}"#, number % 4) };
        write(&items, &table, &mut model, key(number % 12, number / 12), Some(&json)).await;
    }
    assert!((0..2).all(|number| model.keys().any(|key| range(number).1.contains(key.hash()))), "both ranges have some");
    all_is_listed(&items, &table, &model).await;
    let flush = || {
        for replica in node.engine.replicas() {
            replica.flush().unwrap();
        }
    };
    flush();
    all_is_listed(&items, &table, &model).await;
    // Some go to another place in the index, some into it or out of it, and some go altogether.
    for number in (0..60).step_by(3) {
        let json = [Some("{}"), Some(r#"{"n":2}"#), Some(r#"{"n":-7,"more":false}"#), None][number as usize / 3 % 4];
        write(&items, &table, &mut model, key(number % 12, number / 12), json).await;
    }
    all_is_listed(&items, &table, &model).await;
    flush();
    all_is_listed(&items, &table, &model).await;

    let entries = model.values().filter(|document| by_n().value(document).is_some()).count() as u64;
    assert_eq!(items.stored(&table, StoredPart::Index(0)).await.unwrap().items, entries);
    let own = model.iter().filter(|(key, _)| key.decode().unwrap().0 == id(3));
    let bytes = own.clone().map(|(key, document)| item_bytes(key, document) as u64).sum();
    let collection = StoredPart::Collection(PackedKey::id_prefix(&id(3)));
    let stored = items.stored(&table, collection).await.unwrap();
    assert_eq!(stored, Stored { items: own.count() as u64, bytes });
    assert_eq!(items.stored(&table, StoredPart::Table).await.unwrap().items, model.len() as u64);

    let refused = items.stored(&table, StoredPart::Index(1)).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::BadInput, "{refused:?}");
    let (start, consistency) = (PackedKey::hash_floor(0), Consistency::Strong);
    let unknown =
        ListRequest { index: Some(1), start, end: None, limit: 1, descending: false, consistency, bytes_max: None };
    assert_eq!(items.list(&table, unknown).await.unwrap_err().kind, RefusalKind::BadInput);
    server.stop().await.unwrap();
    node.engine.stop();
}
