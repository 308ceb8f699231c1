//! Pages of an index against a naive reading of all items, whatever of them is in memory, on its way to the file, or
//! there, and whatever happens between the look at memory and that at the file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::document::Document;
use crate::domain::document::sample::of_text as document;
use crate::domain::hash::HashRange;
use crate::domain::ids::{RangeId, ReplicaId, TableId, TenantId};
use crate::domain::key::{KeyType, KeyValue, index_prefix_interval, index_value_interval};
use crate::domain::local_index::IndexProjection;
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::domain::table_options::OptionTimes;
use crate::domain::version::ItemVersion;
use crate::domain::{TableName, TenantName, Timestamp};
use crate::replication::operation::{Change, Operation, Preconditions};
use crate::services::engine::item_cache::ItemCache;
use crate::services::engine::replica::StartingPoint;
use crate::services::ports::Consistency;
use crate::storage::memory::MemoryKeeper;
use crate::storage::store::{ReplicaName, StoreKeeper};

/// By a number, which shows all, and by a text, which shows keys only.
fn indexes() -> Vec<LocalIndex> {
    vec![
        LocalIndex::of("by-n", "n", KeyType::Integer, IndexProjection::All),
        LocalIndex::of("by-t", "t", KeyType::String, IndexProjection::KeysOnly),
    ]
}

/// An empty replica of a table with these indexes, over a store in memory.
pub(in super::super) fn replica() -> Replica {
    let specification = TableSpecification {
        sort_type: Some(KeyType::Integer),
        local_indexes: indexes(),
        ..TableSpecification::new(KeyType::String)
    };
    let table = TableDefinition {
        tenant_id: TenantId::from_bytes([1; 16]),
        tenant: TenantName::new("acme").unwrap(),
        id: TableId::from_bytes([2; 16]),
        name: TableName::new("things").unwrap(),
        specification,
        created_at: Timestamp(0),
        version: 1,
        option_times: OptionTimes::default(),
    };
    let (range, replica) = (RangeId::from_bytes([3; 16]), ReplicaId::from_bytes([4; 16]));
    let name = ReplicaName { tenant: table.tenant_id, table: table.id, range, replica };
    let store = MemoryKeeper::default().create(name, &indexes()).unwrap();
    let start = StartingPoint { last_index: 0, applied_index: 0, durable_index: 0 };
    Replica::new(name, 1, HashRange::FULL, Arc::new(table), 1, store, Arc::new(ItemCache::new(1 << 16)), start)
}

pub(in super::super) fn id(id: u8) -> KeyValue {
    KeyValue::String(format!("id-{id}").into())
}

pub(in super::super) fn key(number: u8, sort: u8) -> PackedKey {
    PackedKey::new(&id(number), Some(&KeyValue::Integer(i64::from(sort).into())))
}

/// Applies the next entry: this document under the key, or its deletion.
pub(in super::super) fn apply(replica: &Replica, key: &PackedKey, document: Option<&Document>) -> ItemVersion {
    let index = replica.applied_index() + 1;
    let operation = Operation {
        key: key.clone(),
        change: document.map_or(Change::Delete, |document| Change::Put(document.clone())),
        preconditions: Preconditions::default(),
        conditional: None,
        request: None,
        receipt: None,
    };
    replica.apply(index, Timestamp(index), &operation).unwrap();
    ItemVersion(index)
}

#[derive(Debug, Clone)]
enum Work {
    Put(PackedKey, Document),
    Remove(PackedKey),
    Freeze,
    Flush,
}

impl Work {
    fn key(&self) -> Option<&PackedKey> {
        match self {
            Work::Put(key, _) | Work::Remove(key) => Some(key),
            Work::Freeze | Work::Flush => None,
        }
    }
}

fn work(steps_max: usize) -> impl Strategy<Value = Vec<Work>> {
    let keys = || (0u8..4, 0u8..6).prop_map(|(id, sort)| key(id, sort));
    let text = prop_oneof![Just("a"), Just("aa"), Just("a\\u0000b"), Just("b")];
    let attributes = (proptest::option::of(0u8..4), proptest::option::of(text));
    let documents = attributes.prop_map(|(n, t)| {
        let n = n.map(|n| format!(r#""n":{n}"#));
        let t = t.map(|t| format!(r#""t":"{t}""#));
        document(&format!("{{{}}}", n.into_iter().chain(t).collect::<Vec<_>>().join(",")))
    });
    let step = prop_oneof![
        12 => (keys(), documents).prop_map(|(key, document)| Work::Put(key, document)),
        3 => keys().prop_map(Work::Remove),
        2 => Just(Work::Freeze),
        2 => Just(Work::Flush),
    ];
    proptest::collection::vec(step, 0..steps_max)
}

type Items = BTreeMap<PackedKey, (Document, ItemVersion)>;
type Shown = Vec<(PackedKey, Document, ItemVersion)>;

/// Does it, and tells the model.
fn carry_out(replica: &Replica, work: &Work, model: &mut Items) {
    match work {
        Work::Put(key, document) => {
            let version = apply(replica, key, Some(document));
            model.insert(key.clone(), (document.clone(), version));
        }
        Work::Remove(key) => {
            apply(replica, key, None);
            model.remove(key);
        }
        Work::Freeze => {
            replica.freeze();
        }
        Work::Flush => {
            replica.flush_layer().unwrap();
        }
    }
}

/// An interval of entries, of one of five kinds.
fn interval(kind: u8, position: u8, number: u8) -> (PackedKey, Option<PackedKey>) {
    let id = id(number);
    let floor = PackedKey::hash_floor(id.hash());
    let (start, end) = match (kind, position) {
        (0, _) => return (PackedKey::hash_floor(0), None),
        (1, _) => return (floor, None),
        (2, _) => return (PackedKey::hash_floor(0), Some(floor)),
        (3, _) => PackedKey::id_interval(&id),
        (_, 0) => index_value_interval(&id, &KeyValue::Integer(1i64.into())),
        _ => index_prefix_interval(&id, &KeyValue::String("a".into())),
    };
    (start, Some(end))
}

/// What a reading of all items gives.
fn naive(model: &Items, index: &LocalIndex, request: &ListRequest) -> Shown {
    let entries = model.iter().filter_map(|(key, (document, version))| {
        let entry = index.entry(key, document)?;
        let is_in = entry >= request.start && request.end.as_ref().is_none_or(|end| entry < *end);
        is_in.then(|| (entry, (key.clone(), document.clone(), *version)))
    });
    let entries: BTreeMap<_, _> = entries.collect();
    if request.descending { entries.into_values().rev().collect() } else { entries.into_values().collect() }
}

/// All pages, one after the other.
fn pages(mut request: ListRequest, mut page: impl FnMut(&ListRequest) -> Page) -> Shown {
    let mut shown = Vec::new();
    loop {
        let page = page(&request);
        assert!(page.items.len() <= request.limit);
        shown.extend(page.items.into_iter().map(|(key, item)| (key, item.document, item.version)));
        match page.last {
            None => return shown,
            Some(last) if request.descending => request.end = Some(last),
            Some(last) => request.start = last.successor(),
        }
    }
}

/// How a page is read: so many keys of memory and items of the file in a step, at the least and at the most.
#[derive(Debug, Clone, Copy)]
struct Pace {
    keys: usize,
    items: usize,
}

/// One page in small steps, with something done between the look at memory and that at the file.
fn page_in(pace: Pace, replica: &Replica, position: u8, request: &ListRequest, between: &mut dyn FnMut()) -> Page {
    let (index, descending) = (replica.index(position).unwrap(), request.descending);
    let page = in_steps(request, |rest, _| {
        let pinned = pin(replica, rest, descending, pace.keys);
        let interval = pinned.interval(rest, descending);
        between();
        let chunk =
            replica.read_with(|store| store.scan_index(position, &interval, descending, pace.items, usize::MAX))?;
        let step = pinned.merge(index, rest, chunk, descending);
        let keys: BTreeSet<_> = step.items.iter().map(|found| found.key.clone()).collect();
        assert_eq!(keys.len(), step.items.len(), "a step shows no item twice");
        Ok(step)
    });
    page.unwrap()
}

fn asked() -> impl Strategy<Value = ListRequest> {
    (0u8..2, 0u8..5, 0u8..4, 1usize..6, any::<bool>()).prop_map(|(position, kind, number, limit, descending)| {
        let (start, end) = interval(kind, position, number);
        let (index, consistency) = (Some(position), Consistency::Strong);
        ListRequest { index, start, end, limit, descending, consistency, bytes_max: None }
    })
}

proptest! {
    #[test]
    fn pages_are_what_a_reading_of_all_items_gives(
        before in work(80),
        during in work(12),
        request in asked(),
        (keys, items) in (1usize..6, 1usize..5),
    ) {
        let (replica, mut model) = (replica(), Items::new());
        for work in &before {
            carry_out(&replica, work, &mut model);
        }
        let position = request.index.unwrap();
        let index = &indexes()[usize::from(position)];
        let expected = naive(&model, index, &request);
        prop_assert_eq!(&pages(request.clone(), |request| page(&replica, position, request).unwrap()), &expected);
        let pace = Pace { keys, items };
        let read = |between: &mut dyn FnMut()| {
            pages(request.clone(), |request| page_in(pace, &replica, position, request, between))
        };
        prop_assert_eq!(&read(&mut || ()), &expected);
        // Flushes are not seen.
        let mut is_turn = false;
        let shown = read(&mut || {
            is_turn = !is_turn;
            if is_turn {
                replica.freeze();
            }
            replica.flush_layer().unwrap();
        });
        prop_assert_eq!(&shown, &expected);
        // With writes meanwhile, what is left alone is shown as it is, and all else in a state that it had.
        let mut states: BTreeSet<_> = model.iter().map(|(key, (_, version))| (key.clone(), *version)).collect();
        let (mut now, mut left) = (model.clone(), during.iter());
        let shown = read(&mut || {
            for work in left.by_ref().take(2) {
                carry_out(&replica, work, &mut now);
                states.extend(now.iter().map(|(key, (_, version))| (key.clone(), *version)));
            }
        });
        let touched: BTreeSet<_> = during.iter().filter_map(Work::key).collect();
        let alone = |all: &Shown| all.iter().filter(|(key, ..)| !touched.contains(key)).cloned().collect::<Shown>();
        prop_assert_eq!(alone(&shown), alone(&expected));
        for (key, _, version) in shown {
            prop_assert!(states.contains(&(key, version)));
        }
    }
}

/// A step of memory ends between hashes, and takes as much as the first hash has, however little it was to take.
#[test]
fn a_step_takes_whole_hashes_of_memory() {
    let replica = replica();
    for number in 0..4 {
        for sort in 0..10 {
            apply(&replica, &key(number, sort), Some(&document(r#"{"n":1}"#)));
        }
    }
    let mut hashes: Vec<_> = (0..4).map(|number| id(number).hash()).collect();
    hashes.sort_unstable();
    let rest = KeyInterval { start: PackedKey::hash_floor(0), end: None };
    for (descending, first, bound) in [(false, hashes[0], hashes[1]), (true, hashes[3], hashes[2] + 1)] {
        for length in 1..=10 {
            let pinned = pin(&replica, &rest, descending, length);
            assert!(pinned.memory.len() == 10 && pinned.memory.iter().all(|(key, _)| key.hash() == first));
            assert_eq!(pinned.covered, Some(PackedKey::hash_floor(bound)));
        }
        let pinned = pin(&replica, &rest, descending, 40);
        assert_eq!((pinned.memory.len(), pinned.covered.is_some()), (30, true), "there may be more");
        let pinned = pin(&replica, &rest, descending, 41);
        assert_eq!((pinned.memory.len(), pinned.covered), (40, None));
        // Of one ID's entries nothing but its hash is looked at.
        let (start, end) = PackedKey::id_interval(&id(2));
        let pinned = pin(&replica, &KeyInterval { start, end: Some(end) }, descending, 1);
        assert_eq!((pinned.memory.len(), pinned.covered), (10, None));
    }
}

#[test]
fn pages_end_by_sizes_and_with_an_entry() {
    let replica = replica();
    let pad = "x".repeat(1000);
    for sort in 0..6 {
        apply(&replica, &key(0, sort), Some(&document(&format!(r#"{{"n":{},"pad":"{pad}"}}"#, 10 - sort))));
        if sort == 3 {
            replica.flush().unwrap();
        }
    }
    let (start, end) = PackedKey::id_interval(&id(0));
    for (bytes_max, items) in [(1, 1), (1000, 1), (2500, 3), (u32::MAX, 6)] {
        let request = ListRequest {
            index: Some(0),
            start: start.clone(),
            end: Some(end.clone()),
            limit: 100,
            descending: false,
            consistency: Consistency::Strong,
            bytes_max: Some(bytes_max),
        };
        let page = super::super::scan::page(&replica, &request).unwrap();
        let sorts: Vec<_> = page.items.iter().map(|(key, _)| key.clone()).collect();
        let expected: Vec<_> = (0..6).rev().take(items).map(|sort| key(0, sort)).collect();
        assert_eq!(sorts, expected, "{bytes_max}");
        let last = page.items.last().map(|(key, item)| indexes()[0].entry(key, &item.document).unwrap());
        assert_eq!(page.last, last.filter(|_| items < 6));
    }
}

#[test]
fn an_index_that_the_table_does_not_have_is_said() {
    let (start, consistency) = (PackedKey::hash_floor(0), Consistency::Strong);
    let request =
        ListRequest { index: Some(2), start, end: None, limit: 1, descending: false, consistency, bytes_max: None };
    let error = super::super::scan::page(&replica(), &request).unwrap_err();
    assert!(matches!(&error, StoreError::Failed(words) if words.contains("no local index")), "{error}");
}
