//! Listings in the order of a local index over ranges of several nodes: entries and bounds between them where keys and
//! bounds between keys are else.

use super::*;
use crate::domain::limits::PAGE_BYTES_MAX;
use crate::domain::local_index::{IndexProjection, LocalIndex};

/// The only index.
fn by_n() -> LocalIndex {
    LocalIndex::of("by-n", "n", KeyType::Integer, IndexProjection::All)
}

/// Where an item lies: at its key, or at its entry in the index, where it has one.
pub(super) fn place(index: Option<u8>, key: &PackedKey, item: &StoredItem) -> Option<PackedKey> {
    match index {
        None => Some(key.clone()),
        Some(0) => by_n().entry(key, &item.document),
        Some(other) => panic!("there is no index at position {other}"),
    }
}

fn key(id: &str, sort: i64) -> PackedKey {
    PackedKey::new(&KeyValue::String(id.into()), Some(&KeyValue::Integer(sort.into())))
}

fn item(json: &str) -> StoredItem {
    StoredItem { document: Document::from_json(json.as_bytes()).unwrap(), version: ItemVersion(1) }
}

fn indexed(limit: usize, descending: bool) -> ListRequest {
    ListRequest { index: Some(0), ..whole(limit, descending) }
}

/// The keys of all items in the index, in its order.
fn in_order(plan: &Plan, descending: bool) -> Vec<PackedKey> {
    let items = plan.items.lock();
    let mut all: Vec<_> =
        items.iter().filter_map(|(key, item)| Some((place(Some(0), key, item)?, key.clone()))).collect();
    all.sort();
    if descending {
        all.reverse();
    }
    all.into_iter().map(|(_, key)| key).collect()
}

proptest! {
    #[test]
    fn each_entry_is_listed_once_wherever_one_begins(
        held in proptest::collection::btree_map(("[a-z]{1,2}", 0i64..4), proptest::option::of(0i64..4), 0..40),
        first in 0u8..3,
        cuts in proptest::collection::btree_map(any::<u32>(), 0u8..3, 0..8),
        begin in 0usize..3,
        limit in 1usize..12,
        bytes_max in 1u32..200,
        descending: bool,
    ) {
        let plan = plan(first, &cuts);
        for ((id, sort), n) in &held {
            let json = n.map_or("{}".to_owned(), |n| format!(r#"{{"n":{n}}}"#));
            plan.items.lock().insert(key(id, *sort), item(&json));
        }
        let expected = in_order(&plan, descending);
        let steps_max = 2 * (held.len() + cuts.len()) + 4;
        let each: Vec<RoutedItems> = (0..3).map(|number| own(&plan, number)).collect();
        prop_assert_eq!(&run(collect(&each, begin, indexed(limit, descending), steps_max)), &expected);
        let all = AllNodes((0..3).map(|number| node(&plan, number)).collect());
        let proxy = [RoutedItems::new(plan, Arc::new(all))];
        prop_assert_eq!(&run(collect(&proxy, 0, indexed(limit, descending), steps_max)), &expected);
        let bounded = ListRequest { bytes_max: Some(bytes_max), ..indexed(1000, descending) };
        prop_assert_eq!(&run(collect(&proxy, 0, bounded, steps_max)), &expected);
        // What is stored of a part.
        let stored = |part| run(proxy[0].stored(&table(), part)).unwrap().items;
        prop_assert_eq!(stored(StoredPart::Table), held.len() as u64);
        prop_assert_eq!(stored(StoredPart::Index(0)), expected.len() as u64);
        if let Some(((id, _), _)) = held.first_key_value() {
            let items = held.keys().filter(|(other, _)| other == id).count() as u64;
            let prefix = PackedKey::id_prefix(&KeyValue::String(id.as_str().into()));
            prop_assert_eq!(stored(StoredPart::Collection(prefix)), items);
        }
    }
}

/// Keys of items say nothing of a place in an index: a page that is full where a range ends tells the bound.
#[tokio::test]
async fn a_page_that_is_full_where_a_range_ends_tells_the_bound() {
    let lows = [0, 0x5000_0000, 0xa000_0000u32];
    let plan = plan(0, &BTreeMap::from([(lows[1], 0), (lows[2], 0)]));
    let large = item(&format!(r#"{{"n":1,"pad":"{}"}}"#, "x".repeat(PAGE_BYTES_MAX * 6 / 10)));
    for low in lows {
        let ids = (0..).map(|number| key(&number.to_string(), 1));
        let own = ids.into_iter().find(|key| key.hash() >= low && key.hash() - low < 0x5000_0000).unwrap();
        plan.items.lock().insert(own, large.clone());
    }
    let items = RoutedItems::new(plan.clone(), Arc::new(AllNodes(vec![node(&plan, 0)])));
    for (descending, bound) in [(false, lows[2]), (true, lows[1])] {
        let expected = in_order(&plan, descending);
        let mut request = indexed(10, descending);
        let page = items.list(&table(), request.clone()).await.unwrap();
        let keys = |page: &Page| page.items.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert_eq!((keys(&page), &page.last), (expected[..2].to_vec(), &Some(PackedKey::hash_floor(bound))));
        if descending {
            request.end = page.last;
        } else {
            request.start = page.last.unwrap().successor();
        }
        let page = items.list(&table(), request).await.unwrap();
        assert_eq!((keys(&page), page.last), (expected[2..].to_vec(), None));
    }
}
