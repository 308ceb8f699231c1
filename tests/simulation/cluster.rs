//! What there is of a cluster before a simulation begins: control's records, a table, and assignments of its ranges to nodes that
//! have never run. The real control plane makes it.

use std::sync::Arc;

use dstore::coordination::values::{NodeDetails, NodeStatus, to_json};
use dstore::coordination::{Coordinator, layout};
use dstore::crypto::Key256;
use dstore::domain::ids::PlaneId;
use dstore::domain::table::{TableDefinition, TableSpecification};
use dstore::domain::{Clock, Random, TableName, TenantName};
use dstore::services::control::{ControlOptions, ControlPlane};
use dstore::services::ports::{Caller, Catalog};
use parking_lot::Mutex;

use crate::clock::NodeClock;
use crate::coordinator::Store;
use crate::coordinator_client::CoordinatorClient;
use crate::dice::{Dice, SharedDice};
use crate::node::{node_id, paused_runtime};
use crate::randomness::on_a_thread_of_its_own;
use crate::trace::Now;

/// How large a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Ranges of the table.
    pub ranges: u16,
    /// Copies of each.
    pub copies: u8,
}

/// A cluster that was founded.
#[derive(Clone)]
pub struct Founded {
    /// What the coordinator holds.
    pub store: Store,
    /// The control plane.
    pub plane: PlaneId,
    /// Who may do everything.
    pub root: Caller,
    /// The table.
    pub table: Arc<TableDefinition>,
}

/// The key that control seals its secrets with.
pub fn control_key() -> Key256 {
    Key256::new([0xc0; 32])
}

/// A cluster of this size; always the same.
pub fn found(size: Size) -> Founded {
    let founded = on_a_thread_of_its_own(7, || {
        let runtime = paused_runtime().unwrap_or_else(|error| panic!("no runtime: {error}"));
        runtime.block_on(make(size))
    });
    founded.unwrap_or_else(|_| panic!("a cluster could not be founded"))
}

async fn make(size: Size) -> Founded {
    let store = Arc::new(Mutex::new(Store::default()));
    let coordinator: Arc<dyn Coordinator> = Arc::new(CoordinatorClient::direct(Arc::clone(&store)));
    let clock: Arc<dyn Clock> = Arc::new(NodeClock::new(Now::default()));
    let random: Arc<dyn Random> = Arc::new(SharedDice(Mutex::new(Dice::new(7))));
    let created = ControlPlane::create(&coordinator, &control_key(), None, &clock, &random).await;
    let created = created.unwrap_or_else(|refusal| panic!("{refusal}"));
    let root = Caller { principal: created.root, name: "root".to_owned(), tenant: None, capabilities: Vec::new() };
    let options = ControlOptions { table_ready_wait_ms: 0, ..ControlOptions::default() };
    let opened = ControlPlane::open(Arc::clone(&coordinator), &control_key(), options, clock, random).await;
    let plane = opened.unwrap_or_else(|refusal| panic!("{refusal}"));
    for place in 0..size.nodes {
        let node = node_id(place);
        let registered = plane.node_register_local(node, Some(format!("node-{place}"))).await;
        registered.unwrap_or_else(|refusal| panic!("{refusal}"));
        put(&*coordinator, &layout::node_details(node), to_json(&details(place))).await;
        put(&*coordinator, &layout::node_alive(node), "{}".into()).await;
    }
    let tenant = TenantName::new("tenant").unwrap_or_else(|error| panic!("{error}"));
    let name = TableName::new("things").unwrap_or_else(|error| panic!("{error}"));
    plane.create_tenant(&root, &tenant).await.unwrap_or_else(|refusal| panic!("{refusal}"));
    let wanted = specification(size);
    let (table, _) =
        plane.create_table(&root, &tenant, &name, wanted).await.unwrap_or_else(|refusal| panic!("{refusal}"));
    for place in 0..size.nodes {
        let gone = coordinator.delete(&layout::node_alive(node_id(place))).await;
        gone.unwrap_or_else(|error| panic!("{error}"));
    }
    drop(plane);
    let store = store.lock().clone();
    Founded { store, plane: created.plane, root, table: Arc::new(table) }
}

async fn put(coordinator: &dyn Coordinator, key: &str, value: bytes::Bytes) {
    coordinator.put(key, value, None).await.unwrap_or_else(|error| panic!("{error}"));
}

fn specification(size: Size) -> TableSpecification {
    let json = serde_json::json!({
        "id_type": "String", "initial_ranges": size.ranges, "replication_factor": size.copies
    });
    serde_json::from_value(json).unwrap_or_else(|error| panic!("{error}"))
}

/// What the node at this place says of itself.
pub fn details(place: usize) -> NodeDetails {
    NodeDetails {
        status: NodeStatus::Okay,
        uri: format!("http://node-{place}:8080/"),
        inside_uri: None,
        zone: Some(["a", "b", "c"][place % 3].to_owned()),
        incarnation: None,
        boot: None,
        capacity_bytes: Some(1 << 40),
        free_bytes: Some(1 << 39),
        version: None,
        format: None,
    }
}
