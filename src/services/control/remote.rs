//! The control plane from another process: what a node, proxy or reporter asks over the inside listener.
//!
//! Looking up tenants and tables asks nobody: they stand in the routing table, which follows the coordinator and keeps
//! a copy on disk. Only changes travel to control. So a member goes on serving while control and the
//! coordinator are down, and says what it waits for when it is asked for a change.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde::de::DeserializeOwned;

use crate::domain::ids::{NodeId, Role, TenantId};
use crate::domain::table::{TableChange, TableDefinition, TableSpecification, Tenant};
use crate::domain::{Refusal, TableName, TenantName, Timestamp};
use crate::services::assignments::{HandedPart, HandedParts};
use crate::services::log_level::{LevelSource, WishedLevel};
use crate::services::ports::{Caller, Catalog, Creation};
use crate::services::reporting::events::{ClusterEvent, EventFeed};
use crate::services::routing::{RoutingSnapshot, RoutingTable};
use crate::transport::client::JsonClient;
use crate::transport::pki::certificate_request;
use crate::transport::tls::{Identity, client_config, joining_client};

use super::access_feed::AccessSnapshot;
use super::join::{JoinRequest, Joined, token_parts};
use super::keys::{KeyPart, KeyParts};
use super::records::RECORDS_FORMAT;
use super::sealed::SecretName;
use super::wire::{
    WireAccess, WireAddress, WireCatalogChange, WireCertificate, WireCertificateRequest, WireChange, WireKeyInUse,
    WireMade, WireMembers, WirePart, WireParts, parts_of,
};

/// What joining gave, to be kept on disk (the key with mode 0600).
pub struct Membership {
    /// What control answered.
    pub joined: Joined,
    /// The private key of the certificate, PEM.
    pub key_pem: zeroize::Zeroizing<String>,
}

/// Joins a control plane at `url` with a token. `describe` fills in what a node says of itself.
///
/// # Errors
/// `Unauthenticated` for a token that is no good; `Unavailable` where control cannot be reached or does not
/// have the certificate authority that the token names.
pub async fn join(
    url: &str,
    token: &str,
    role: Role,
    describe: impl FnOnce(&mut JoinRequest),
) -> Result<Membership, Refusal> {
    let (_, fingerprint) = token_parts(token).ok_or_else(|| Refusal::bad_input("this is not a join token"))?;
    let tls = joining_client(fingerprint).map_err(|problem| Refusal::internal(problem.to_string()))?;
    let client = JsonClient::new(url, Some(tls))?;
    let (key_pem, certificate_request_pem) =
        certificate_request().map_err(|problem| Refusal::internal(problem.to_string()))?;
    let mut request = JoinRequest {
        token: token.trim().to_owned(),
        role,
        certificate_request_pem,
        uri: None,
        inside_uri: None,
        zone: None,
        format: Some(RECORDS_FORMAT),
    };
    describe(&mut request);
    let joined = client.send(Method::POST, "/inside/v1/join", Some(&request)).await?;
    Ok(Membership { joined, key_pem })
}

/// Control, as a member reaches it.
#[derive(Clone)]
pub struct RemoteControl {
    client: JsonClient,
    identity: Arc<Identity>,
    authority_pem: Arc<str>,
}

impl RemoteControl {
    /// Control at `url`, asked with this identity.
    ///
    /// # Errors
    /// `BadInput` where TLS cannot be set up with these.
    pub fn new(url: &str, identity: Arc<Identity>, authority_pem: &str) -> Result<Self, Refusal> {
        let tls = client_config(Some(identity.clone()), authority_pem, Role::Control)
            .map_err(|problem| Refusal::bad_input(problem.to_string()))?;
        Ok(Self { client: JsonClient::new(url, Some(tls))?, identity, authority_pem: authority_pem.into() })
    }

    /// All parts that this member may have.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn key_parts(&self) -> Result<KeyParts, Refusal> {
        self.client.get::<WireParts>("/inside/v1/key-parts").await?.parts()
    }

    /// A tenant's part.
    ///
    /// # Errors
    /// `Denied` where this node has no range of the tenant; `Unavailable`.
    pub async fn tenant_key_parts(&self, tenant: TenantId) -> Result<Vec<KeyPart>, Refusal> {
        parts_of(&self.client.get::<Vec<WirePart>>(&format!("/inside/v1/tenant-key/{tenant}")).await?)
    }

    /// Says which version of a key is the lowest still used here; true where that ended a rotation.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn key_in_use(&self, name: SecretName, version_min: u32) -> Result<bool, Refusal> {
        let said = WireKeyInUse { kind: name.kind().to_owned(), owner: name.owner(), version_min };
        self.client.send(Method::POST, "/inside/v1/key-in-use", Some(&said)).await
    }

    /// What whoever checks tokens has to know.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn access_snapshot(&self) -> Result<AccessSnapshot, Refusal> {
        self.client.get::<WireAccess>("/inside/v1/access").await?.snapshot()
    }

    /// Gets a new certificate, shows it from now on, and gives it with its key, both PEM, to be kept.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`; the certificate before stays then.
    pub async fn certificate_renew(&self) -> Result<(String, zeroize::Zeroizing<String>), Refusal> {
        let (key_pem, certificate_request_pem) =
            certificate_request().map_err(|problem| Refusal::internal(problem.to_string()))?;
        let asked = WireCertificateRequest { certificate_request_pem };
        let made: WireCertificate = self.client.send(Method::POST, "/inside/v1/certificate", Some(&asked)).await?;
        self.identity
            .replace(&made.certificate_pem, &key_pem, &self.authority_pem)
            .map_err(|problem| Refusal::internal(problem.to_string()))?;
        Ok((made.certificate_pem, key_pem))
    }

    /// The components that count, and where each is asked.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn members(&self) -> Result<WireMembers, Refusal> {
        self.client.get("/inside/v1/members").await
    }

    /// Says where this member is asked.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn address(&self, inside_url: &str) -> Result<(), Refusal> {
        let said = WireAddress { inside_url: inside_url.to_owned() };
        self.client.send(Method::POST, "/inside/v1/address", Some(&said)).await
    }

    async fn change<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        change: WireCatalogChange,
    ) -> Result<T, Refusal> {
        let asked = WireChange { principal: caller.principal, tenant: tenant.clone(), change };
        self.client.send(Method::POST, "/inside/v1/catalog", Some(&asked)).await
    }
}

#[async_trait]
impl LevelSource for RemoteControl {
    async fn wished_level(&self) -> Result<Option<WishedLevel>, Refusal> {
        self.client.get("/inside/v1/log-level").await
    }
}

#[async_trait]
impl crate::services::assignments::KeyParts for RemoteControl {
    async fn node_part(&self) -> Result<Vec<HandedPart>, Refusal> {
        Ok(self.key_parts().await?.own.into_iter().map(handed).collect())
    }

    async fn tenant_part(&self, tenant: TenantId) -> Result<Vec<HandedPart>, Refusal> {
        Ok(self.tenant_key_parts(tenant).await?.into_iter().map(handed).collect())
    }

    async fn all(&self) -> Result<HandedParts, Refusal> {
        Ok(handed_parts(self.key_parts().await?))
    }

    async fn in_use(&self, tenant: Option<TenantId>, version_min: u32) -> Result<(), Refusal> {
        let name = match tenant {
            Some(tenant) => SecretName::Tenant(tenant),
            None => {
                let peer = self.identity.peer().map_err(|problem| Refusal::internal(problem.to_string()))?;
                SecretName::Node(NodeId(peer.id))
            }
        };
        self.key_in_use(name, version_min).await.map(|_| ())
    }
}

#[async_trait]
impl EventFeed for RemoteControl {
    async fn events_since(&self, since: Timestamp) -> Result<Vec<ClusterEvent>, Refusal> {
        self.client.get(&format!("/inside/v1/events?after={}", since.0)).await
    }
}

/// What a node is handed, of what control gives.
pub fn handed_parts(parts: KeyParts) -> HandedParts {
    let all = |parts: Vec<KeyPart>| parts.into_iter().map(handed).collect();
    HandedParts {
        node: all(parts.own),
        tenants: parts.tenants.into_iter().map(|(tenant, parts)| (tenant, all(parts))).collect(),
    }
}

fn handed(part: KeyPart) -> HandedPart {
    HandedPart { version: part.version, part: part.part }
}

/// How long a change made by control is waited for until it shows here.
const SHOWN_WAIT: Duration = Duration::from_secs(5);

/// [`Catalog`] for a member: looked up in its routing table, which holds tenants and tables and goes on without the
/// coordinator; changed by control.
pub struct RemoteCatalog {
    control: RemoteControl,
    routing: Arc<RoutingTable>,
}

impl RemoteCatalog {
    /// A catalogue over this routing table.
    pub fn new(control: RemoteControl, routing: Arc<RoutingTable>) -> Self {
        Self { control, routing }
    }
}

/// A page of `all` by name.
fn page<T>(mut all: Vec<T>, name: impl Fn(&T) -> &str, after: Option<&str>, limit: usize) -> Vec<T> {
    all.retain(|one| after.is_none_or(|after| name(one) > after));
    all.sort_by(|one, other| name(one).cmp(name(other)));
    all.truncate(limit);
    all
}

fn creation(created: bool) -> Creation {
    if created { Creation::Created } else { Creation::Unchanged }
}

#[async_trait]
impl Catalog for RemoteCatalog {
    fn table(&self, tenant: &TenantName, table: &TableName) -> Option<Arc<TableDefinition>> {
        self.routing.snapshot().table(tenant, table).cloned()
    }

    fn tenant(&self, tenant: &TenantName) -> Option<Arc<Tenant>> {
        self.routing.snapshot().tenant(tenant).cloned()
    }

    async fn list_tenants(&self, after: Option<&str>, limit: usize) -> Result<Vec<Tenant>, Refusal> {
        let all = self.routing.snapshot().tenants().map(|tenant| (**tenant).clone()).collect();
        Ok(page(all, |tenant: &Tenant| tenant.name.as_str(), after, limit))
    }

    async fn list_tables(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TableDefinition>, Refusal> {
        let all = self.routing.snapshot().tables(tenant).map(|table| (**table).clone()).collect();
        Ok(page(all, |table: &TableDefinition| table.name.as_str(), after, limit))
    }

    async fn create_tenant(&self, caller: &Caller, tenant: &TenantName) -> Result<(Tenant, Creation), Refusal> {
        let made: WireMade<Tenant> = self.control.change(caller, tenant, WireCatalogChange::CreateTenant).await?;
        self.routing.shows(SHOWN_WAIT, |plan| plan.tenant(tenant).is_some_and(|there| there.id == made.made.id)).await;
        Ok((made.made, creation(made.created)))
    }

    async fn delete_tenant(&self, caller: &Caller, tenant: &TenantName, recursive: bool) -> Result<(), Refusal> {
        let gone = self.tenant(tenant).map(|tenant| tenant.id);
        self.control.change::<()>(caller, tenant, WireCatalogChange::DeleteTenant { recursive }).await?;
        let is_gone = |plan: &RoutingSnapshot| gone.is_none() || plan.tenant(tenant).map(|tenant| tenant.id) != gone;
        self.routing.shows(SHOWN_WAIT, is_gone).await;
        Ok(())
    }

    async fn create_table(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        specification: TableSpecification,
    ) -> Result<(TableDefinition, Creation), Refusal> {
        let change = WireCatalogChange::CreateTable { table: table.clone(), specification };
        let made: WireMade<TableDefinition> = self.control.change(caller, tenant, change).await?;
        // With all of its ranges, so that the first write through this process finds its node.
        self.routing
            .shows(SHOWN_WAIT, |plan| {
                plan.table(tenant, table).is_some_and(|there| there.id == made.made.id) && plan.covers(&made.made)
            })
            .await;
        Ok((made.made, creation(made.created)))
    }

    async fn change_table(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        change: TableChange,
    ) -> Result<TableDefinition, Refusal> {
        let change = WireCatalogChange::ChangeTable { table: table.clone(), change };
        let made: WireMade<TableDefinition> = self.control.change(caller, tenant, change).await?;
        self.routing
            .shows(SHOWN_WAIT, |plan| plan.table(tenant, table).is_none_or(|there| there.version >= made.made.version))
            .await;
        Ok(made.made)
    }

    async fn delete_table(&self, caller: &Caller, tenant: &TenantName, table: &TableName) -> Result<(), Refusal> {
        let gone = self.table(tenant, table).map(|table| table.id);
        self.control.change::<()>(caller, tenant, WireCatalogChange::DeleteTable { table: table.clone() }).await?;
        let is_gone =
            |plan: &RoutingSnapshot| gone.is_none() || plan.table(tenant, table).map(|table| table.id) != gone;
        self.routing.shows(SHOWN_WAIT, is_gone).await;
        Ok(())
    }
}
