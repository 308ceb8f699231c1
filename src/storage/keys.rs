//! Where storage gets keys from: by owner and version, never by how they are put together. The
//! combining of parts is done above, in the service that knows them.

use crate::crypto::Key256;
use crate::domain::ids::TenantId;

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyOwner {
    /// The node itself: its database, and records that belong to no tenant.
    Node,
    /// A tenant.
    Tenant(TenantId),
}

impl std::fmt::Display for KeyOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyOwner::Node => formatter.write_str("the node"),
            KeyOwner::Tenant(tenant) => write!(formatter, "tenant {tenant}"),
        }
    }
}

/// A key-encryption key, and its version, which is written beside whatever it wraps.
#[derive(Debug, Clone)]
pub struct VersionedKey {
    /// The version.
    pub version: u32,
    /// The key.
    pub key: Key256,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyUnavailable(pub String);

/// Gives key-encryption keys.
pub trait FileKeys: Send + Sync + 'static {
    /// The key that wraps from now on.
    fn newest(&self, owner: KeyOwner) -> Result<VersionedKey, KeyUnavailable>;
    /// The key of a version that something was wrapped by.
    fn of_version(&self, owner: KeyOwner, version: u32) -> Result<Key256, KeyUnavailable>;
}
