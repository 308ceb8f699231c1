//! Two nodes that are asked directly, each holding half of a table: a client that follows `Location` and
//! cursors gets everything, wherever it begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::api::body::Limits;
use crate::api::testing::{MemoryCatalog, MemoryItems};
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, RangeId, ReceiptId};
use crate::domain::key::PackedKey;
use crate::domain::table::TableDefinition;
use crate::domain::{Refusal, TableName, TenantName};
use crate::replication::operation::Operation;
use crate::services::items::{NodeAddress, OwnNode, RangeRoute, RoutedItems, Routes};
use crate::services::ports::{
    Catalog, Consistency, Items, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};
use crate::services::ranges::{RangeAddress, RangeService};

/// Where the hashes of the second node begin.
const HALF: u32 = 0x8000_0000;

/// Where each node listens, once that is known.
#[derive(Default)]
struct Halves(Mutex<Vec<String>>);

impl Routes for Halves {
    fn route(&self, _: &TableDefinition, hash: u32) -> Option<RangeRoute> {
        let number = u8::from(hash >= HALF);
        let (low, high) = if number == 0 { (0, HALF - 1) } else { (HALF, u32::MAX) };
        let uri = self.0.lock().get(usize::from(number)).cloned()?;
        Some(RangeRoute {
            range: RangeId::from_bytes([number; 16]),
            hashes: HashRange { low, high },
            leader: Arc::new(NodeAddress::new(node(number), uri, Some("https://inside.invalid/".to_owned()))),
            epoch: 1,
            replicas: Arc::new([]),
        })
    }
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

/// The items of one node as its range.
struct Held {
    items: Arc<MemoryItems>,
    catalog: Arc<MemoryCatalog>,
}

impl Held {
    fn table(&self, address: RangeAddress) -> Arc<TableDefinition> {
        let names = (TenantName::new("acme").unwrap(), TableName::new("plain").unwrap());
        let table = self.catalog.table(&names.0, &names.1).unwrap();
        assert_eq!(table.id, address.table);
        table
    }
}

#[async_trait]
impl RangeService for Held {
    async fn read(
        &self,
        address: RangeAddress,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal> {
        self.items.read(&self.table(address), key, consistency).await
    }

    async fn write(
        &self,
        address: RangeAddress,
        operation: Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal> {
        self.items.write(&self.table(address), operation, respond_async).await
    }

    async fn list(&self, address: RangeAddress, request: ListRequest) -> Result<Page, Refusal> {
        self.items.list(&self.table(address), request).await
    }

    async fn receipt(&self, address: RangeAddress, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        self.items.receipt(&self.table(address), receipt).await
    }

    async fn stored(&self, address: RangeAddress, _: u32, part: StoredPart) -> Result<Stored, Refusal> {
        self.items.stored(&self.table(address), part).await
    }
}

async fn two_nodes() -> [Fixture; 2] {
    let halves = Arc::new(Halves::default());
    let start = async |number| {
        let routes = halves.clone();
        let over = move |items, catalog| {
            let own = OwnNode::new(node(number), Arc::new(Held { items, catalog }));
            Arc::new(RoutedItems::new(routes, Arc::new(own))) as Arc<dyn Items>
        };
        Fixture::start_over(Limits::default(), over).await
    };
    let nodes = [start(0).await, start(1).await];
    *halves.0.lock() = nodes.iter().map(|node| format!("http://{}/", node.address)).collect();
    nodes
}

/// Asks node `at`, and the other one where that says so; the answer, and the `Location` that was followed.
async fn ask(nodes: &[Fixture; 2], at: usize, method: &str, path: &str, body: &str) -> (Answer, Option<String>) {
    let answer = nodes[at].ask(method, path, &[], body).await;
    if answer.status != 421 {
        return (answer, None);
    }
    let location = answer.header("location").to_owned();
    let there = location.strip_prefix(&format!("http://{}", nodes[1 - at].address)).expect("the other node");
    assert_eq!(there, path);
    let answer = nodes[1 - at].ask(method, there, &[], body).await;
    assert_ne!(answer.status, 421, "nobody is sent to and fro");
    (answer, Some(location))
}

#[tokio::test]
async fn a_client_that_follows_locations_finds_everything() {
    let nodes = two_nodes().await;
    let ids: BTreeSet<String> = (0..20).map(|number| format!("id{number}")).collect();
    let mut sent_on = 0;
    for id in &ids {
        let (answer, location) = ask(&nodes, 0, "PUT", &format!("{PLAIN}{id}"), "{}").await;
        assert_eq!(answer.status, 201);
        sent_on += usize::from(location.is_some());
    }
    assert!(0 < sent_on && sent_on < ids.len(), "both nodes hold some: {sent_on}");
    for at in [0, 1] {
        for id in &ids {
            assert_eq!(ask(&nodes, at, "GET", &format!("{PLAIN}{id}"), "").await.0.status, 200);
        }
    }
    // A table is listed in the order of hashes: the first page is node 0's, whoever is asked.
    for (begin, limit) in [(0, 3), (1, 3), (0, 1000), (1, 1000)] {
        let (mut seen, mut cursor, mut locations) = (Vec::new(), String::new(), Vec::new());
        loop {
            let path = format!("{}?limit={limit}{cursor}", PLAIN.trim_end_matches('/'));
            let (answer, location) = ask(&nodes, begin, "GET", &path, "").await;
            locations.extend(location);
            let page = answer.json();
            let items = page["items"].as_array().unwrap().iter();
            seen.extend(items.map(|item| item["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen.len(), ids.len(), "nothing twice");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), ids);
        if begin == 0 {
            assert!(locations.iter().all(|location| location.contains("&cursor=")) && !locations.is_empty());
        }
    }
}
