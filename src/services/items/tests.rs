//! Listings over ranges of several nodes, as a proxy serves them and as a client collects them that is sent from
//! node to node.

mod indexes;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::domain::document::Document;
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReceiptId, TableId, TenantId};
use crate::domain::key::{KeyType, KeyValue, PackedKey};
use crate::domain::refusal::MovedTo;
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::domain::table_options::OptionTimes;
use crate::domain::tenant_limits::TenantLimits;
use crate::domain::version::ItemVersion;
use crate::domain::{Clock, Refusal, RefusalKind, TableName, TenantName, Timestamp};
use crate::replication::operation::{Change, Operation, Outcome, Preconditions};
use crate::services::ports::{
    Consistency, Items, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use crate::services::ranges::{RangeAddress, RangeService};
use crate::services::tenant_limits::{Door, LimitBook, LimitedTenant, TenantLimiter};
use crate::storage::store::item_bytes;

/// A cluster in memory: ranges that stand on nodes.
#[derive(Default)]
struct Plan {
    routes: Mutex<Vec<RangeRoute>>,
    /// Ranges that were split, and into what.
    splits: Mutex<BTreeMap<RangeId, [(RangeId, HashRange); 2]>>,
    items: Mutex<BTreeMap<PackedKey, StoredItem>>,
}

/// One node of it, which serves the ranges that were its own when it was made.
struct MemoryNode {
    plan: Arc<Plan>,
    ranges: Vec<(RangeId, HashRange)>,
}

impl MemoryNode {
    fn hashes(&self, address: RangeAddress, hash: u32) -> Result<HashRange, Refusal> {
        if let Some(children) = self.plan.splits.lock().get(&address.range) {
            let (range, hashes) = *children.iter().find(|(_, hashes)| hashes.contains(hash)).unwrap();
            return Err(Refusal::moved(MovedTo { range, hashes }));
        }
        let own = self.ranges.iter().find(|(range, _)| *range == address.range);
        own.map(|(_, hashes)| *hashes).ok_or_else(|| Refusal::new(RefusalKind::WrongNode, "not here"))
    }
}

#[async_trait]
impl RangeService for MemoryNode {
    async fn read(&self, address: RangeAddress, key: PackedKey, _: Consistency) -> Result<Option<StoredItem>, Refusal> {
        self.hashes(address, key.hash())?;
        Ok(self.plan.items.lock().get(&key).cloned())
    }

    async fn write(&self, address: RangeAddress, operation: Operation, _: bool) -> Result<WriteAnswer, Refusal> {
        self.hashes(address, operation.key.hash())?;
        let Change::Put(document) = operation.change else { return Err(Refusal::internal("only puts")) };
        let item = StoredItem { document, version: ItemVersion(1) };
        self.plan.items.lock().insert(operation.key, item);
        Ok(WriteAnswer::Applied(Outcome::Created(ItemVersion(1))))
    }

    async fn list(&self, address: RangeAddress, request: ListRequest) -> Result<Page, Refusal> {
        let hashes = self.hashes(address, request.first_hash())?;
        assert!(request.limit > 0, "nobody asks for nothing");
        let items = self.plan.items.lock();
        let placed =
            items.iter().filter_map(|(key, item)| Some((indexes::place(request.index, key, item)?, key, item)));
        let wanted = placed.filter(|(place, key, _)| {
            let inside = *place >= request.start && request.end.as_ref().is_none_or(|end| place < end);
            assert!(!inside || hashes.contains(key.hash()), "nobody asks a range for what it cannot hold");
            inside
        });
        let mut wanted: Vec<_> = wanted.map(|(place, key, item)| (place, (key.clone(), item.clone()))).collect();
        wanted.sort_by(|(one, _), (other, _)| if request.descending { other.cmp(one) } else { one.cmp(other) });
        wanted.truncate(request.limit);
        let mut sizes = 0;
        let full = wanted.iter().position(|(_, (key, item))| {
            sizes += item_bytes(key, &item.document);
            request.bytes_max.is_some_and(|max| sizes >= max as usize)
        });
        wanted.truncate(full.map_or(usize::MAX, |place| place + 1));
        // Like the engine: a full page does not look whether anything follows.
        let is_full = wanted.len() == request.limit || full.is_some();
        let last = if is_full { wanted.last().map(|(place, _)| place.clone()) } else { None };
        Ok(Page { items: wanted.into_iter().map(|(_, item)| item).collect(), last })
    }

    async fn receipt(&self, address: RangeAddress, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        self.hashes(address, crate::services::engine::receipt_hash(receipt)).map(|_| None)
    }

    async fn stored(&self, address: RangeAddress, hash: u32, part: StoredPart) -> Result<Stored, Refusal> {
        let hashes = self.hashes(address, hash)?;
        let items = self.plan.items.lock();
        let own = items.iter().filter(|(key, _)| hashes.contains(key.hash()));
        let own = own.filter(|(key, item)| match &part {
            StoredPart::Table => true,
            StoredPart::Index(position) => indexes::place(Some(*position), key, item).is_some(),
            StoredPart::Collection(prefix) => {
                assert!(hashes.contains(prefix.hash()), "only its own range is asked");
                key.as_bytes().starts_with(prefix.as_bytes())
            }
        });
        let sizes = own.map(|(key, item)| item_bytes(key, &item.document) as u64);
        Ok(sizes.fold(Stored::default(), |sum, bytes| sum.plus(Stored { items: 1, bytes })))
    }
}

impl Routes for Plan {
    fn route(&self, _: &TableDefinition, hash: u32) -> Option<RangeRoute> {
        self.routes.lock().iter().find(|route| route.hashes.contains(hash)).cloned()
    }
}

/// Every node, by a call.
struct AllNodes(Vec<Arc<MemoryNode>>);

impl Nodes for AllNodes {
    fn reach(&self, route: &RangeRoute) -> Result<Arc<dyn RangeService>, Refusal> {
        Ok(self.0[number_of(&route.leader)].clone())
    }
}

fn number_of(address: &NodeAddress) -> usize {
    usize::from(address.node.as_bytes()[0])
}

fn leader(node: u8) -> Arc<NodeAddress> {
    let inside_uri = Some(format!("https://inside-{node}:8081/"));
    Arc::new(NodeAddress::new(NodeId::from_bytes([node; 16]), format!("https://node-{node}:8080/"), inside_uri))
}

fn table() -> Arc<TableDefinition> {
    Arc::new(TableDefinition {
        tenant_id: TenantId::from_bytes([1; 16]),
        tenant: TenantName::new("acme").unwrap(),
        id: TableId::from_bytes([2; 16]),
        name: TableName::new("things").unwrap(),
        specification: TableSpecification::new(KeyType::String),
        created_at: Timestamp(0),
        version: 1,
        option_times: OptionTimes::default(),
    })
}

/// Ranges that begin at 0 and at each of `cuts`, given to the nodes named beside them.
fn plan(first: u8, cuts: &BTreeMap<u32, u8>) -> Arc<Plan> {
    let mut lows = vec![(0, first)];
    lows.extend(cuts.iter().filter(|(low, _)| **low > 0).map(|(low, node)| (*low, *node)));
    let highs = lows.iter().skip(1).map(|(low, _)| low - 1).chain([u32::MAX]);
    let route = |((low, node), high): ((u32, u8), u32)| RangeRoute {
        range: RangeId(uuid::Uuid::from_u128(u128::from(low))),
        hashes: HashRange { low, high },
        leader: leader(node),
        epoch: 1,
        replicas: Arc::new([]),
    };
    let routes = lows.iter().copied().zip(highs).map(route).collect();
    Arc::new(Plan { routes: Mutex::new(routes), ..Plan::default() })
}

fn node(plan: &Arc<Plan>, number: u8) -> Arc<MemoryNode> {
    let routes = plan.routes.lock();
    let own = routes.iter().filter(|route| number_of(&route.leader) == usize::from(number));
    let ranges = own.map(|route| (route.range, route.hashes)).collect();
    Arc::new(MemoryNode { plan: plan.clone(), ranges })
}

/// The items as a node offers them that is asked directly.
fn own(plan: &Arc<Plan>, number: u8) -> RoutedItems {
    let nodes = OwnNode::new(NodeId::from_bytes([number; 16]), node(plan, number));
    RoutedItems::new(plan.clone(), Arc::new(nodes))
}

fn whole(limit: usize, descending: bool) -> ListRequest {
    let (start, consistency) = (PackedKey::hash_floor(0), Consistency::Strong);
    ListRequest { index: None, start, end: None, limit, descending, consistency, bytes_max: None }
}

/// What a client sees that follows cursors and locations from `items[at]` on.
async fn collect(items: &[RoutedItems], mut at: usize, mut request: ListRequest, steps_max: usize) -> Vec<PackedKey> {
    let mut seen = Vec::new();
    for _ in 0..steps_max {
        match items[at].list(&table(), request.clone()).await {
            Ok(page) => {
                assert!(page.items.len() <= request.limit);
                seen.extend(page.items.into_iter().map(|(key, _)| key));
                // As REST goes on from a cursor.
                match page.last {
                    None => return seen,
                    Some(last) if request.descending => request.end = Some(last),
                    Some(last) => request.start = last.successor(),
                }
            }
            Err(refusal) => {
                assert_eq!(refusal.kind, RefusalKind::WrongNode, "{refusal:?}");
                let location = refusal.location.expect("says where to ask");
                let node = location.strip_prefix("https://node-").and_then(|rest| rest.strip_suffix(":8080/"));
                let next = node.and_then(|node| node.parse().ok()).expect("the address for clients");
                assert_ne!(next, at, "nobody is sent to where it was");
                at = next;
            }
        }
    }
    panic!("the listing does not end");
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn each_item_is_listed_once_wherever_one_begins(
        ids in proptest::collection::btree_set("[a-z]{1,6}", 0..40),
        first in 0u8..3,
        cuts in proptest::collection::btree_map(any::<u32>(), 0u8..3, 0..8),
        begin in 0usize..3,
        limit in 1usize..12,
        bytes_max in 1u32..200,
        descending: bool,
    ) {
        let plan = plan(first, &cuts);
        for id in &ids {
            let item = StoredItem { document: Document::empty(), version: ItemVersion(1) };
            plan.items.lock().insert(PackedKey::new(&KeyValue::String(id.as_str().into()), None), item);
        }
        let mut expected: Vec<PackedKey> = plan.items.lock().keys().cloned().collect();
        if descending {
            expected.reverse();
        }
        let steps_max = 2 * (ids.len() + cuts.len()) + 4;
        let sizes: u64 = expected.iter().map(|key| key.len() as u64).sum();
        let each: Vec<RoutedItems> = (0..3).map(|number| own(&plan, number)).collect();
        prop_assert_eq!(&run(collect(&each, begin, whole(limit, descending), steps_max)), &expected);
        let all = AllNodes((0..3).map(|number| node(&plan, number)).collect());
        let proxy = [RoutedItems::new(plan, Arc::new(all))];
        prop_assert_eq!(&run(collect(&proxy, 0, whole(limit, descending), steps_max)), &expected);
        let stored = run(proxy[0].stored(&table(), StoredPart::Table)).unwrap();
        prop_assert_eq!(stored, Stored { items: expected.len() as u64, bytes: sizes });
        // A page that is bounded in bytes ends with the item that reaches the bound, and not before.
        let bounded = ListRequest { bytes_max: Some(bytes_max), ..whole(1000, descending) };
        prop_assert_eq!(&run(collect(&proxy, 0, bounded.clone(), steps_max)), &expected);
        let page = run(proxy[0].list(&table(), bounded)).unwrap();
        let size = |items: &[(PackedKey, StoredItem)]| items.iter().map(|(key, _)| key.len()).sum::<usize>();
        let reached = size(&page.items) >= bytes_max as usize;
        prop_assert!(reached || page.items.len() == expected.len());
        if let Some((_, before)) = page.items.split_last() {
            prop_assert!(size(before) < bytes_max as usize);
        }
    }
}

#[tokio::test]
async fn a_node_says_where_to_ask_for_what_it_does_not_hold() {
    let plan = plan(0, &BTreeMap::from([(0x8000_0000, 1)]));
    let key = |wanted: fn(u32) -> bool| {
        let keys = (0..).map(|number| PackedKey::new(&KeyValue::String(format!("{number}").into()), None));
        keys.into_iter().find(|key| wanted(key.hash())).unwrap()
    };
    let (here, there) = (key(|hash| hash < 0x8000_0000), key(|hash| hash >= 0x8000_0000));
    let items = own(&plan, 0);
    let put = |key: &PackedKey| Operation {
        key: key.clone(),
        change: Change::Put(Document::empty()),
        preconditions: Preconditions::default(),
        conditional: None,
        request: None,
        receipt: None,
    };
    items.write(&table(), put(&here), false).await.unwrap();
    assert!(items.read(&table(), here, Consistency::Strong).await.unwrap().is_some());
    let mut receipt = [0xff; 16];
    receipt[4..].fill(1);
    let refused = [
        items.write(&table(), put(&there), false).await.unwrap_err(),
        items.read(&table(), there.clone(), Consistency::Strong).await.unwrap_err(),
        items.list(&table(), ListRequest { start: there, ..whole(10, false) }).await.unwrap_err(),
        items.list(&table(), whole(10, true)).await.unwrap_err(),
        items.receipt(&table(), ReceiptId::from_bytes(receipt)).await.unwrap_err(),
    ];
    for refusal in refused {
        let location = refusal.location.as_deref();
        assert_eq!((refusal.kind, location), (RefusalKind::WrongNode, Some("https://node-1:8080/")));
    }
    // A page ends where the node's own part ends, even without an item.
    let page = items.list(&table(), whole(10, false)).await.unwrap();
    assert_eq!((page.items.len(), page.last), (1, Some(PackedKey::hash_floor(0x8000_0000))));
    plan.items.lock().clear();
    let page = items.list(&table(), whole(10, false)).await.unwrap();
    assert_eq!((page.items.len(), page.last), (0, Some(PackedKey::hash_floor(0x8000_0000))));
}

/// Routes that know better when they are asked again.
struct Corrected {
    plan: Arc<Plan>,
    old: Mutex<Option<RangeRoute>>,
}

impl Routes for Corrected {
    fn route(&self, table: &TableDefinition, hash: u32) -> Option<RangeRoute> {
        self.old.lock().take().or_else(|| self.plan.route(table, hash))
    }
}

/// It is always the beginning of time.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

/// Nothing is asked for a tenant that is over its limit, and what was answered is charged by its size.
#[tokio::test]
async fn a_tenant_is_held_to_its_limits_before_anything_is_asked() {
    let plan = plan(0, &BTreeMap::new());
    let nodes = Arc::new(AllNodes(vec![node(&plan, 0)]));
    let limits = TenantLimits { request_units: Some(30), storage_bytes: Some(7), ..TenantLimits::default() };
    let limited = |stored_bytes| LimitedTenant { name: table().tenant.clone(), limits, stored_bytes, teller: None };
    let held = |stored_bytes| {
        let book = Arc::new(LimitBook::of([(table().tenant_id, limited(stored_bytes))]));
        let limiter = TenantLimiter::new(book, Door::Alone, Arc::new(Standing), Arc::default());
        RoutedItems::new(plan.clone(), nodes.clone()).with_limits(Arc::new(limiter))
    };
    let key = PackedKey::new(&KeyValue::String("a".into()), None);
    let put = |bytes: usize| Operation {
        key: key.clone(),
        change: Change::Put(Document::from_json(format!(r#"{{"p":"{}"}}"#, "x".repeat(bytes)).as_bytes()).unwrap()),
        preconditions: Preconditions::default(),
        conditional: None,
        request: None,
        receipt: None,
    };
    let refusal = held(7).write(&table(), put(1), false).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::StorageFull);
    assert!(plan.items.lock().is_empty(), "it was not asked for");

    let items = held(6);
    items.write(&table(), put(200 << 10), false).await.unwrap();
    // Of 300 units that were saved the write takes 201, and each read 51.
    for _ in 0..2 {
        assert!(items.read(&table(), key.clone(), Consistency::Strong).await.unwrap().is_some());
    }
    let refusal = items.list(&table(), whole(1, false)).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.retry_after_seconds), (RefusalKind::Throttled, Some(1)));
    assert_eq!(items.receipt(&table(), ReceiptId::from_bytes([0; 16])).await.unwrap_err().kind, RefusalKind::Throttled);
}

#[tokio::test]
async fn a_listing_follows_a_range_that_has_moved() {
    let plan = plan(1, &BTreeMap::new());
    let key = PackedKey::new(&KeyValue::String("a".into()), None);
    let item = StoredItem { document: Document::empty(), version: ItemVersion(1) };
    plan.items.lock().insert(key, item);
    let all = || AllNodes((0..2).map(|number| node(&plan, number)).collect());
    let old = RangeRoute { leader: leader(0), ..plan.routes.lock()[0].clone() };
    let routes = Corrected { plan: plan.clone(), old: Mutex::new(Some(old.clone())) };
    let items = RoutedItems::new(Arc::new(routes), Arc::new(all()));
    assert_eq!(items.list(&table(), whole(10, false)).await.unwrap().items.len(), 1);
    // Where no better route is known, that is said, and is no mistake of the client's.
    *plan.routes.lock() = vec![old];
    let items = RoutedItems::new(
        plan.clone(),
        Arc::new(AllNodes(vec![Arc::new(MemoryNode { plan: plan.clone(), ranges: Vec::new() })])),
    );
    assert_eq!(items.list(&table(), whole(10, false)).await.unwrap_err().kind, RefusalKind::Unavailable);
}

/// The routes know the range that was split; the node says which child has each key.
#[tokio::test]
async fn a_range_that_was_split_is_asked_for_by_its_children_before_they_are_published() {
    for replicas in [1u8, 3] {
        let plan = plan(0, &BTreeMap::new());
        let copies =
            |number| RangeReplica { address: leader(number), state: crate::coordination::values::ReplicaState::Voter };
        plan.routes.lock()[0].replicas = (0..replicas).map(copies).collect();
        let parent = plan.routes.lock()[0].range;
        let halves = HashRange::FULL.split(2);
        let children = [1u8, 2].map(|number| RangeId::from_bytes([number; 16]));
        let split = [(children[0], halves[0]), (children[1], halves[1])];
        let ranges = [(parent, HashRange::FULL), split[0], split[1]].to_vec();
        let nodes = (0..3).map(|_| Arc::new(MemoryNode { plan: plan.clone(), ranges: ranges.clone() }));
        let items = RoutedItems::new(plan.clone(), Arc::new(AllNodes(nodes.collect())));
        plan.splits.lock().insert(parent, split);
        let keys: Vec<_> =
            (0..20).map(|number| PackedKey::new(&KeyValue::String(format!("{number}").into()), None)).collect();
        for key in &keys {
            let put = Operation {
                key: key.clone(),
                change: Change::Put(Document::empty()),
                preconditions: Preconditions::default(),
                conditional: None,
                request: None,
                receipt: None,
            };
            items.write(&table(), put, false).await.unwrap();
            assert!(items.read(&table(), key.clone(), Consistency::Strong).await.unwrap().is_some());
            assert!(items.read(&table(), key.clone(), Consistency::Eventual).await.unwrap().is_some());
        }
        for descending in [false, true] {
            let page = items.list(&table(), whole(100, descending)).await.unwrap();
            let mut expected = keys.clone();
            expected.sort();
            if descending {
                expected.reverse();
            }
            let seen: Vec<_> = page.items.into_iter().map(|(key, _)| key).collect();
            assert_eq!(seen, expected, "both children are listed");
        }
        assert_eq!(items.receipt(&table(), ReceiptId::from_bytes([0xff; 16])).await.unwrap(), None);
    }
}
