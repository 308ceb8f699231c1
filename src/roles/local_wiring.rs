//! What stands between the parts when they share a process: key parts come from control by a call,
//! and nodes are reached by a call, and looked at as one.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;

use super::node_parts::RunningNode;
use crate::api::health::{Condition, Health};
use crate::api::rest::Readiness;
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, Role, TableId, TenantId};
use crate::domain::usage::Component;
use crate::services::assignments::{HandedPart, HandedParts, KeyParts};
use crate::services::control::remote::handed_parts;
use crate::services::control::{ControlPlane, KeyOwner, SecretName};
use crate::services::items::{Nodes, RangeRoute};
use crate::services::range_reports::{NodeReporter, OwnRanges, RangeReport, RangeReports};
use crate::services::ranges::RangeService;
use crate::services::usage::{Meter, UsageSource};

/// The key parts of one node, from the control plane in this process.
pub struct LocalKeyParts {
    /// Control.
    pub control: Arc<ControlPlane>,
    /// The node that asks.
    pub node: NodeId,
}

#[async_trait]
impl KeyParts for LocalKeyParts {
    async fn node_part(&self) -> Result<Vec<HandedPart>, Refusal> {
        let versions = self.control.node_key_local(self.node).await?;
        Ok(versions.into_iter().map(|(version, part)| HandedPart { version, part }).collect())
    }

    async fn tenant_part(&self, tenant: TenantId) -> Result<Vec<HandedPart>, Refusal> {
        let versions = self.control.tenant_key_local(tenant).await?;
        Ok(versions.into_iter().map(|part| HandedPart { version: part.version, part: part.part }).collect())
    }

    async fn all(&self) -> Result<HandedParts, Refusal> {
        let peer = KeyOwner { role: Role::Node, id: self.node.0 };
        Ok(handed_parts(self.control.key_parts(peer).await?))
    }

    async fn in_use(&self, tenant: Option<TenantId>, version_min: u32) -> Result<(), Refusal> {
        let peer = KeyOwner { role: Role::Node, id: self.node.0 };
        let name = tenant.map_or(SecretName::Node(self.node), SecretName::Tenant);
        self.control.key_in_use(peer, name, version_min).await.map(|_| ())
    }
}

/// The nodes of this process.
#[derive(Default)]
pub struct LocalNodes {
    nodes: RwLock<HashMap<NodeId, Arc<dyn RangeService>>>,
    reporters: RwLock<HashMap<NodeId, NodeReporter>>,
}

impl LocalNodes {
    /// Adds a node.
    pub fn add(&self, node: NodeId, service: Arc<dyn RangeService>) {
        self.nodes.write().insert(node, service);
    }

    /// Adds what a node says of itself.
    pub fn add_reporter(&self, node: NodeId, reporter: NodeReporter) {
        self.reporters.write().insert(node, reporter);
    }
}

#[async_trait]
impl RangeReports for LocalNodes {
    async fn of_table(&self, node: NodeId, table: TableId) -> Result<Vec<RangeReport>, Refusal> {
        let reporter = self.reporters.read().get(&node).cloned();
        match reporter {
            Some(reporter) => reporter.of_table(table).await,
            None => Err(Refusal::unavailable(format!("node {node} is not running in this process"), 5)),
        }
    }
}

impl Nodes for LocalNodes {
    fn reach(&self, route: &RangeRoute) -> Result<Arc<dyn RangeService>, Refusal> {
        let node = self.nodes.read().get(&route.leader.node).cloned();
        node.ok_or_else(|| {
            Refusal::unavailable(
                format!(
                    "node {} is not running in this process; start with as many nodes as before",
                    route.leader.node
                ),
                5,
            )
        })
    }
}

/// Those that count in this process: its nodes.
pub(super) fn sources(nodes: &[RunningNode]) -> Vec<(Component, Arc<dyn UsageSource>)> {
    let source = |node: &RunningNode| {
        let component = Component { role: Role::Node, id: node.node.0 };
        (component, Arc::clone(&node.usage) as Arc<dyn UsageSource>)
    };
    nodes.iter().map(source).collect()
}

/// Tells whether the data of all nodes in the process can be used, and has `health` tell it.
pub(super) fn watch_storage(health: &Health, nodes: &[RunningNode]) -> Readiness {
    let engines: Vec<_> = nodes.iter().map(|node| Arc::clone(&node.engine)).collect();
    let readiness: Readiness = Arc::new(move || engines.iter().try_for_each(|engine| engine.readiness()));
    let storage = Arc::clone(&readiness);
    health.watch("storage", move || match storage() {
        Ok(()) => Condition::Good,
        Err(refusal) => Condition::Waiting(refusal.to_string()),
    });
    readiness
}

/// All nodes answer through one listener, so the first one counts for all.
pub(super) fn counted(nodes: &[RunningNode]) -> Arc<Meter> {
    nodes.first().map_or_else(Arc::default, |node| Arc::clone(node.usage.meter()))
}

/// The only instance of control that there is leads.
pub(super) async fn place(control: Arc<ControlPlane>) {
    let (_leads, always) = tokio::sync::watch::channel(true);
    control.place_while_leading(always).await;
}
