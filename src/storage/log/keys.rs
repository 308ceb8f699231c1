//! Who holds the keys of the log: the engine, behind [`LogKeys`].
//!
//! The log makes one random data key per segment and owner and never keeps it in clear on disk: it asks the
//! engine to wrap it under the owner's key-encryption key and writes the wrapped form as a record of its own.
//! So rotating a tenant's key rewraps a few bytes (see `CommitLog::rewrap`), and a destroyed tenant's records
//! are unreadable from the moment its key is gone, without touching the log.

use crate::crypto::Key256;
use crate::domain::ids::{LogKeyId, TenantId};

/// Whose key seals a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyOwner {
    /// The node itself: votes, removals, whatever is no tenant's.
    Node,
    /// A tenant at this node.
    Tenant(TenantId),
}

/// A data key of the log, wrapped by the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedLogKey {
    /// The version of the key-encryption key it is wrapped under, as the engine counts.
    pub version: u32,
    /// What the engine made of it; at most 65,535 bytes. Opaque to the log.
    pub bytes: Vec<u8>,
}

/// Why a data key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum LogKeyError {
    /// The key-encryption key is not there: the tenant was destroyed, or its plane is away. Replay of the rest
    /// goes on.
    #[error("the owner's key is not available")]
    Unavailable,
    /// The key-encryption key is there, and does not open the wrapped key: a wrong key, or bytes that were changed.
    #[error("the owner's key does not open the wrapped key")]
    Wrong,
}

/// Wraps and unwraps data keys. Called from the log's thread, while opening from the opener's, and from whoever verifies
/// segments: it must not wait for the network.
pub trait LogKeys: Send + Sync + 'static {
    /// Wraps a data key under the owner's newest key-encryption key; `key_id` and the owner belong in the
    /// associated data.
    fn wrap(&self, owner: KeyOwner, key_id: LogKeyId, data_key: &Key256) -> Result<WrappedLogKey, LogKeyError>;

    /// Gives back the data key.
    fn unwrap(&self, owner: KeyOwner, key_id: LogKeyId, wrapped: &WrappedLogKey) -> Result<Key256, LogKeyError>;
}
