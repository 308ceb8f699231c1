//! The parts of tenants' keys that a node needs before it can make a replica's file. The tenant's part at this node is
//! made here, once, and kept in the node's database; its part at the control plane is fetched, and is kept in memory only.

use std::sync::Arc;

use async_trait::async_trait;

use crate::crypto::Key256;
use crate::domain::ids::TenantId;
use crate::domain::{Random, Refusal};
use crate::services::engine::keys::NodeKeys;
use crate::storage::node_database::{NodeDatabase, TenantKeyPart};

use super::blocking;

/// A part of a key that the control plane hands out.
#[derive(Debug, Clone)]
pub struct HandedPart {
    /// Its version, from 1.
    pub version: u32,
    /// The part.
    pub part: Key256,
}

/// All parts that control hands to a node, each with all versions that are in use.
#[derive(Debug, Clone, Default)]
pub struct HandedParts {
    /// The node's own part.
    pub node: Vec<HandedPart>,
    /// Those of the tenants it holds ranges of.
    pub tenants: Vec<(TenantId, Vec<HandedPart>)>,
}

/// Where the parts at the control plane come from: control itself in one process, its inside
/// listener across processes. Control hands a node only what is the node's.
#[async_trait]
pub trait KeyParts: Send + Sync + 'static {
    /// This node's own part, all versions that are in use.
    async fn node_part(&self) -> Result<Vec<HandedPart>, Refusal>;
    /// A tenant's part, all versions that are in use. `NotFound` says that control has none (any more).
    async fn tenant_part(&self, tenant: TenantId) -> Result<Vec<HandedPart>, Refusal>;
    /// All of them at once.
    async fn all(&self) -> Result<HandedParts, Refusal>;
    /// Says which version of a part is the lowest that anything at this node is still wrapped by: where all
    /// holders have moved on, control destroys the version before. The node's own part, or a tenant's.
    async fn in_use(&self, tenant: Option<TenantId>, version_min: u32) -> Result<(), Refusal>;
}

/// A tenant's parts, made ready: the one at this node and those at the control plane.
///
/// # Errors
/// Where control cannot be reached or the node's database not written.
pub async fn ready_tenant(
    tenant: TenantId,
    keys: &NodeKeys,
    database: &Arc<dyn NodeDatabase>,
    parts: &dyn KeyParts,
    random: &dyn Random,
) -> Result<(), Refusal> {
    if keys.has_tenant(tenant) {
        return Ok(());
    }
    for handed in parts.tenant_part(tenant).await? {
        keys.add_tenant_at_control(tenant, handed.version, handed.part);
    }
    if keys.tenant_at_node_version(tenant) == 0 {
        let part = TenantKeyPart {
            tenant,
            version: 1,
            uuid: crate::domain::ambient::random_uuid(random),
            part: Key256::random(random),
        };
        let kept = part.clone();
        let database = Arc::clone(database);
        blocking(move || database.add_tenant_key(&kept)).await?;
        keys.add_tenant_at_node(tenant, part.version, part.part);
    }
    Ok(())
}
