//! Listings over ranges of several nodes, as a proxy serves them and as a client collects them that is sent from
//! node to node.

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
use crate::domain::version::ItemVersion;
use crate::domain::{Refusal, RefusalKind, TableName, TenantName, Timestamp};
use crate::replication::operation::{Change, Operation, Outcome, Preconditions};
use crate::services::ports::{Consistency, Items, ListRequest, Page, ReceiptState, StoredItem, WriteAnswer};
use crate::services::ranges::{RangeAddress, RangeService};

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
        let wanted = items.range(request.start.clone()..).filter(|(key, _)| {
            let inside = request.end.as_ref().is_none_or(|end| *key < end);
            assert!(!inside || hashes.contains(key.hash()), "nobody asks a range for what it cannot hold");
            inside
        });
        let mut wanted: Vec<_> = wanted.map(|(key, item)| (key.clone(), item.clone())).collect();
        if request.descending {
            wanted.reverse();
        }
        wanted.truncate(request.limit);
        // Like the engine: a full page does not look whether anything follows.
        let last = if wanted.len() == request.limit { wanted.last().map(|(key, _)| key.clone()) } else { None };
        Ok(Page { items: wanted, last })
    }

    async fn receipt(&self, address: RangeAddress, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        self.hashes(address, crate::services::engine::receipt_hash(receipt)).map(|_| None)
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
        specification: TableSpecification {
            id_type: KeyType::String,
            id_name: "id".into(),
            sort_type: None,
            sort_name: "sort".into(),
            replication_factor: None,
            initial_ranges: None,
        },
        created_at: Timestamp(0),
        version: 1,
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
    ListRequest { start, end: None, limit, descending, consistency }
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
        let each: Vec<RoutedItems> = (0..3).map(|number| own(&plan, number)).collect();
        prop_assert_eq!(&run(collect(&each, begin, whole(limit, descending), steps_max)), &expected);
        let all = AllNodes((0..3).map(|number| node(&plan, number)).collect());
        let proxy = [RoutedItems::new(plan, Arc::new(all))];
        prop_assert_eq!(&run(collect(&proxy, 0, whole(limit, descending), steps_max)), &expected);
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
