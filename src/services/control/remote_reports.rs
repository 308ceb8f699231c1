//! What nodes hold, asked over their inside listeners: the way of `range list` where nodes are processes of their own.
//!
//! A node is reached where it says that it is (`node/{uuid}/details`), and only if its certificate has its UUID: an old
//! address at which another node listens is no answer. People ask this now and then, so each question has a
//! connection of its own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::coordination::values::{NodeDetails, from_json};
use crate::coordination::{Coordinator, layout};
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, PlaneId, Role, TableId};
use crate::services::range_reports::{RangeReport, RangeReports};
use crate::transport::client::JsonClient;
use crate::transport::pki::PeerIdentity;
use crate::transport::tls::{Identity, client_config_of};

use super::history::refusal;
use super::sealed::unreadable;

/// See the module's text.
pub struct RemoteReports {
    plane: PlaneId,
    coordinator: Arc<dyn Coordinator>,
    identity: Arc<Identity>,
    authority_pem: String,
}

impl RemoteReports {
    /// Nodes of this control plane, asked with control's identity.
    pub fn new(
        plane: PlaneId,
        coordinator: Arc<dyn Coordinator>,
        identity: Arc<Identity>,
        authority_pem: &str,
    ) -> Self {
        Self { plane, coordinator, identity, authority_pem: authority_pem.to_owned() }
    }
}

#[async_trait]
impl RangeReports for RemoteReports {
    async fn of_table(&self, node: NodeId, table: TableId) -> Result<Vec<RangeReport>, Refusal> {
        let key = layout::node_details(node);
        let entry = self.coordinator.get(&key).await.map_err(refusal)?;
        let entry = entry.ok_or_else(|| Refusal::not_found(format!("there is no node {node}")))?;
        let details: NodeDetails = from_json(&entry.value).map_err(|_| unreadable(&key))?;
        let address = details.inside_uri.unwrap_or(details.uri);
        let peer = PeerIdentity { plane: self.plane, role: Role::Node, id: node.0 };
        let tls = client_config_of(self.identity.clone(), &self.authority_pem, peer)
            .map_err(|problem| Refusal::internal(problem.to_string()))?;
        JsonClient::new(&address, Some(tls))?.get(&format!("/inside/v1/table/{table}/range")).await
    }
}
