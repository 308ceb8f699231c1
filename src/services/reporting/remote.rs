//! Components of a cluster, as a reporter reaches them: control says which there are and where, and each is asked over mutual TLS. Only
//! the one with the UUID that is meant is heard: an old address at which another listens now is no answer.
//!
//! The list is remembered in the store, so that a start without control goes on with the one told last.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Method;
use uuid::Uuid;

use super::Reporting;
use super::puller::Components;
use crate::domain::Refusal;
use crate::domain::ids::PlaneId;
use crate::domain::usage::{Component, UsagePull, UsagePulled};
use crate::services::control::remote::RemoteControl;
use crate::services::control::wire::WireMembers;
use crate::services::usage::UsageSource;
use crate::transport::client::JsonClient;
use crate::transport::pki::PeerIdentity;
use crate::transport::tls::{Identity, client_config_of};

/// Under what the store remembers the list.
const MEMBERS: &str = "members";

/// See the module's essay.
pub struct RemoteComponents {
    /// Says which there are.
    pub control: RemoteControl,
    /// Remembers it.
    pub reporting: Arc<Reporting>,
    /// The control plane.
    pub plane: PlaneId,
    /// The certificate that is shown.
    pub identity: Arc<Identity>,
    /// Who signed the certificates of others.
    pub authority_pem: String,
}

impl RemoteComponents {
    async fn told(&self) -> Result<WireMembers, Refusal> {
        let remembered = self.reporting.on_store(|store| store.remembered(MEMBERS)).await?;
        match self.control.members().await {
            Ok(members) => {
                let text = serde_json::to_string(&members).unwrap_or_default();
                if remembered.as_ref() != Some(&text) {
                    self.reporting.on_store(move |store| store.remember(MEMBERS, &text)).await?;
                }
                Ok(members)
            }
            Err(refusal) => remembered.and_then(|text| serde_json::from_str(&text).ok()).ok_or(refusal),
        }
    }
}

#[async_trait]
impl Components for RemoteComponents {
    async fn list(&self) -> Result<Vec<(Component, String)>, Refusal> {
        Ok(self.told().await?.members.into_iter().map(|member| (member.component, member.inside_url)).collect())
    }

    fn reach(&self, component: Component, address: &str) -> Result<Arc<dyn UsageSource>, Refusal> {
        let peer = PeerIdentity { plane: self.plane, role: component.role, id: component.id };
        let tls = client_config_of(self.identity.clone(), &self.authority_pem, peer)
            .map_err(|problem| Refusal::internal(problem.to_string()))?;
        Ok(Arc::new(RemoteSource(JsonClient::new(address, Some(tls))?)))
    }
}

/// A component across the network.
struct RemoteSource(JsonClient);

#[async_trait]
impl UsageSource for RemoteSource {
    /// Who asks is told by the certificate.
    async fn pull(&self, _reporter: Uuid, pull: UsagePull) -> Result<UsagePulled, Refusal> {
        self.0.send(Method::POST, "/inside/v1/usage", Some(&pull)).await
    }
}
