//! A control plane for tests: a real embedded coordinator in a folder of its own, a clock that is moved
//! by hand, and nodes that are only records.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::values::{NodeDetails, NodeStatus, to_json};
use crate::coordination::{Coordinator, Writer, layout};
use crate::crypto::Key256;
use crate::domain::ids::{NodeId, PrincipalId};
use crate::domain::table::TableSpecification;
use crate::domain::{Clock, Random, TableName, TenantName, Timestamp};
use crate::services::ports::Caller;

use super::plane::{ControlOptions, ControlPlane};

/// A clock that stands still until it is moved.
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// The system's random bytes.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the system has random bytes");
    }
}

/// A cluster under test.
pub(crate) struct Cluster {
    pub(crate) plane: Arc<ControlPlane>,
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) control_key: Key256,
    pub(crate) root: Caller,
    pub(crate) store: EmbeddedStore,
    _folder: tempfile::TempDir,
}

pub(crate) const CONTROL_KEY: [u8; 32] = [0xc0; 32];

impl Cluster {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("coordinator.db"), EmbeddedOptions::default()).unwrap();
        let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
        let clock = Arc::new(HandClock(AtomicU64::new(1_800_000_000_000_000)));
        let control_key = Key256::new(CONTROL_KEY);
        let (dyn_clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (clock.clone(), Arc::new(SystemRandom));
        let created = ControlPlane::create(&coordinator, &control_key, None, &dyn_clock, &random).await.unwrap();
        let plane = open(&coordinator, &control_key, &clock).await.unwrap();
        Self { plane, coordinator, clock, control_key, root: root(created.root), store, _folder: folder }
    }

    /// Another instance over the same coordinator.
    pub(crate) async fn another(&self) -> Arc<ControlPlane> {
        open(&self.coordinator, &self.control_key, &self.clock).await.unwrap()
    }

    /// An instance that waits for new tables to be served.
    pub(crate) async fn patient(&self) -> Arc<ControlPlane> {
        let options = ControlOptions { table_ready_wait_ms: 60_000, ..ControlOptions::default() };
        let (clock, random) = (self.clock.clone(), Arc::new(SystemRandom));
        ControlPlane::open(self.coordinator.clone(), &self.control_key, options, clock, random).await.unwrap()
    }

    /// A node that says okay, and does nothing.
    pub(crate) async fn node(&self, number: u8, zone: &str) -> NodeId {
        let node = NodeId::from_bytes([number; 16]);
        self.plane.node_register_local(node, Some(format!("node-{number}"))).await.unwrap();
        let details = NodeDetails {
            status: NodeStatus::Okay,
            uri: format!("http://node-{number}:8080/"),
            inside_uri: Some(format!("https://node-{number}:8081/")),
            zone: Some(zone.to_owned()),
            incarnation: None,
            boot: None,
            capacity_bytes: None,
            free_bytes: None,
            version: None,
            format: None,
        };
        self.coordinator.put(&layout::node_details(node), to_json(&details), None).await.unwrap();
        node
    }

    /// Whether a node gives a sign of life from now on.
    pub(crate) async fn alive(&self, node: NodeId, is_alive: bool) {
        let key = layout::node_alive(node);
        if is_alive {
            self.coordinator.put(&key, "{}".into(), None).await.unwrap();
        } else {
            self.coordinator.delete(&key).await.unwrap();
        }
    }

    /// An instance with these options over the same coordinator.
    pub(crate) async fn with(&self, options: ControlOptions) -> Arc<ControlPlane> {
        let options = ControlOptions { table_ready_wait_ms: 0, ..options };
        open_with(&self.coordinator, &self.control_key, &self.clock, options).await.unwrap()
    }

    pub(crate) async fn tenant(&self, name: &str) -> TenantName {
        use crate::services::ports::Catalog;
        let tenant = TenantName::new(name).unwrap();
        self.plane.create_tenant(&self.root, &tenant).await.unwrap();
        tenant
    }

    /// All keys under a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        self.coordinator.list(prefix).await.unwrap().entries.into_iter().map(|entry| entry.key).collect()
    }
}

pub(crate) async fn open(
    coordinator: &Arc<dyn Coordinator>,
    control_key: &Key256,
    clock: &Arc<HandClock>,
) -> Result<Arc<ControlPlane>, crate::domain::Refusal> {
    // Nobody serves the tables of these tests, so nobody is waited for.
    let options = ControlOptions { table_ready_wait_ms: 0, replicas_max: 5, ..ControlOptions::default() };
    open_with(coordinator, control_key, clock, options).await
}

pub(crate) async fn open_with(
    coordinator: &Arc<dyn Coordinator>,
    control_key: &Key256,
    clock: &Arc<HandClock>,
    options: ControlOptions,
) -> Result<Arc<ControlPlane>, crate::domain::Refusal> {
    ControlPlane::open(coordinator.clone(), control_key, options, clock.clone(), Arc::new(SystemRandom)).await
}

pub(crate) fn root(principal: PrincipalId) -> Caller {
    Caller { principal, name: "root".to_owned(), tenant: None, capabilities: Vec::new() }
}

pub(crate) fn table(name: &str) -> TableName {
    TableName::new(name).unwrap()
}

/// A specification of so many ranges, with this factor.
pub(crate) fn specification(ranges: u16, replication_factor: u8) -> TableSpecification {
    let json = serde_json::json!({
        "id_type": "String", "initial_ranges": ranges, "replication_factor": replication_factor
    });
    serde_json::from_value(json).unwrap()
}
