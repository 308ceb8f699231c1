//! What control and its members say to each other over the inside listener. The parts of keys in here travel
//! inside mutual TLS only, to the role and UUID of the peer's certificate; none of these types has a `Debug` that
//! shows one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::domain::ids::{PrincipalId, SessionId, TenantId};
use crate::domain::table::{TableChange, TableSpecification};
use crate::domain::usage::Component;
use crate::domain::{Refusal, TableName, TenantName};
use crate::services::access::{ClaimedTenant, TokenKey};
use crate::services::ports::{Caller, Capability};

use super::access_feed::AccessSnapshot;
use super::access_keys::AccessKeySecret;
use super::keys::{KeyPart, KeyParts};
use super::sealed::key_of;

/// One version of a part.
#[derive(Serialize, Deserialize)]
pub struct WirePart {
    version: u32,
    part: String,
}

impl Drop for WirePart {
    fn drop(&mut self) {
        self.part.zeroize();
    }
}

impl WirePart {
    /// The part for the wire.
    pub fn new(part: &KeyPart) -> Self {
        Self { version: part.version, part: BASE64.encode(part.part.expose()) }
    }

    /// The part from the wire.
    ///
    /// # Errors
    /// `Internal` where it is not 256 bits.
    pub fn part(&self) -> Result<KeyPart, Refusal> {
        let bytes =
            BASE64.decode(&self.part).map_err(|_| Refusal::internal("control sent a part that is not base64"))?;
        let bytes = zeroize::Zeroizing::new(bytes);
        Ok(KeyPart { version: self.version, part: key_of(&bytes)? })
    }
}

/// All that a member is given.
#[derive(Serialize, Deserialize)]
pub struct WireParts {
    own: Vec<WirePart>,
    #[serde(default)]
    tenants: Vec<(TenantId, Vec<WirePart>)>,
    #[serde(default)]
    token_keys: Vec<WirePart>,
}

impl WireParts {
    /// For the wire.
    pub fn new(parts: &KeyParts) -> Self {
        let wire = |parts: &[KeyPart]| parts.iter().map(WirePart::new).collect::<Vec<_>>();
        Self {
            own: wire(&parts.own),
            tenants: parts.tenants.iter().map(|(tenant, parts)| (*tenant, wire(parts))).collect(),
            token_keys: wire(&parts.token_keys),
        }
    }

    /// From the wire.
    ///
    /// # Errors
    /// `Internal` where a part is not 256 bits.
    pub fn parts(&self) -> Result<KeyParts, Refusal> {
        Ok(KeyParts {
            own: parts_of(&self.own)?,
            tenants: self
                .tenants
                .iter()
                .map(|(tenant, parts)| Ok((*tenant, parts_of(parts)?)))
                .collect::<Result<_, Refusal>>()?,
            token_keys: parts_of(&self.token_keys)?,
        })
    }
}

/// Parts from the wire.
///
/// # Errors
/// `Internal` where one is not 256 bits.
pub fn parts_of(parts: &[WirePart]) -> Result<Vec<KeyPart>, Refusal> {
    parts.iter().map(WirePart::part).collect()
}

/// An access key with its secret.
#[derive(Serialize, Deserialize)]
struct WireAccessKey {
    id: String,
    secret: String,
    principal: PrincipalId,
    name: String,
    tenant: Option<ClaimedTenant>,
    capabilities: Vec<Capability>,
}

impl Drop for WireAccessKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl WireAccessKey {
    fn new(key: &AccessKeySecret) -> Self {
        let caller = &key.caller;
        Self {
            id: key.access_key_id.clone(),
            secret: key.secret_access_key.to_string(),
            principal: caller.principal,
            name: caller.name.clone(),
            tenant: caller.tenant.clone().map(|(id, name)| ClaimedTenant { id, name }),
            capabilities: caller.capabilities.clone(),
        }
    }

    fn key(&self) -> AccessKeySecret {
        AccessKeySecret {
            access_key_id: self.id.clone(),
            secret_access_key: Zeroizing::new(self.secret.clone()),
            caller: Caller {
                principal: self.principal,
                name: self.name.clone(),
                tenant: self.tenant.clone().map(|tenant| (tenant.id, tenant.name)),
                capabilities: self.capabilities.clone(),
            },
        }
    }
}

/// What whoever checks tokens and signatures has to know.
#[derive(Serialize, Deserialize)]
pub struct WireAccess {
    token_keys: Vec<WirePart>,
    revoked_sessions: Vec<SessionId>,
    principals: Vec<PrincipalId>,
    /// None from a control that is older than they are.
    #[serde(default)]
    access_keys: Vec<WireAccessKey>,
}

impl WireAccess {
    /// For the wire.
    pub fn new(snapshot: &AccessSnapshot) -> Self {
        let part = |key: &TokenKey| KeyPart { version: key.id().parse().unwrap_or(0), part: key.key().clone() };
        // Sorted, so that the same content is the same JSON.
        let mut revoked_sessions: Vec<SessionId> = snapshot.revoked_sessions.iter().copied().collect();
        let mut principals: Vec<PrincipalId> = snapshot.principals.iter().copied().collect();
        revoked_sessions.sort_unstable();
        principals.sort_unstable();
        Self {
            token_keys: snapshot.token_keys.iter().map(|key| WirePart::new(&part(key))).collect(),
            revoked_sessions,
            principals,
            access_keys: snapshot.access_keys.iter().map(WireAccessKey::new).collect(),
        }
    }

    /// From the wire.
    ///
    /// # Errors
    /// `Internal` where a key is not 256 bits.
    pub fn snapshot(self) -> Result<AccessSnapshot, Refusal> {
        let keys = parts_of(&self.token_keys)?;
        Ok(AccessSnapshot {
            token_keys: keys.into_iter().map(|part| TokenKey::new(part.version.to_string(), part.part)).collect(),
            revoked_sessions: self.revoked_sessions.into_iter().collect(),
            principals: self.principals.into_iter().collect(),
            access_keys: self.access_keys.iter().map(WireAccessKey::key).collect(),
        })
    }
}

/// A certificate request of a member.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireCertificateRequest {
    /// PEM.
    pub certificate_request_pem: String,
}

/// A certificate.
#[derive(Serialize, Deserialize)]
pub struct WireCertificate {
    /// PEM.
    pub certificate_pem: String,
}

/// The lowest version of a key that a holder still uses.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireKeyInUse {
    /// The kind of key.
    pub kind: String,
    /// Whose key it is.
    #[serde(default)]
    pub owner: Option<Uuid>,
    /// The version.
    pub version_min: u32,
}

/// What a proxy asks of the catalogue for one of its callers. Control looks the principal up itself and
/// checks what it may do: a proxy's word about that counts for nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireChange {
    /// Who asked the proxy.
    pub principal: PrincipalId,
    /// The tenant.
    pub tenant: TenantName,
    /// What to do.
    pub change: WireCatalogChange,
}

/// A change of the catalogue.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WireCatalogChange {
    /// Makes the tenant.
    CreateTenant,
    /// Removes the tenant.
    DeleteTenant {
        /// With its tables.
        recursive: bool,
    },
    /// Makes a table.
    CreateTable {
        /// Its name.
        table: TableName,
        /// What it is to be.
        specification: TableSpecification,
    },
    /// Changes a table.
    ChangeTable {
        /// Its name.
        table: TableName,
        /// What is to be otherwise.
        change: TableChange,
    },
    /// Drops a table.
    DeleteTable {
        /// Its name.
        table: TableName,
    },
}

/// Those who count, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireMembers {
    /// All that are alive.
    pub members: Vec<WireMember>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireMember {
    /// Who it is.
    pub component: Component,
    /// Where it is reached by mutual TLS.
    pub inside_url: String,
}

/// Where a reporter is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireAddress {
    /// Its inside listener.
    pub inside_url: String,
}

/// What a change made.
#[derive(Serialize, Deserialize)]
pub struct WireMade<T> {
    /// Whether it is new.
    pub created: bool,
    /// What is there now.
    pub made: T,
}
