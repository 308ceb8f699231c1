//! The commit log's keys: each of its data keys is wrapped under the key-encryption key of its
//! owner, by the same combination of parts as files are.

use std::sync::Arc;

use crate::crypto::Key256;
use crate::crypto::cipher::NonceSource;
use crate::crypto::envelope::{WRAPPED_KEY_LENGTH, WrapContext, WrappedKey, unwrap, wrap};
use crate::domain::ids::{LogKeyId, NodeId, PlaneId};
use crate::storage::keys::{FileKeys, KeyOwner};
use crate::storage::log::{self, LogKeyError, LogKeys, WrappedLogKey};

/// See the module's essay.
pub struct CommitLogKeys {
    plane: PlaneId,
    node: NodeId,
    keys: Arc<dyn FileKeys>,
    nonces: NonceSource,
}

impl CommitLogKeys {
    /// Keys of the commit log of one node at one control plane.
    pub fn new(plane: PlaneId, node: NodeId, keys: Arc<dyn FileKeys>, nonces: NonceSource) -> Self {
        Self { plane, node, keys, nonces }
    }

    fn context(&self, owner: log::KeyOwner, key: LogKeyId, version: u32) -> WrapContext {
        let tenant = match owner {
            log::KeyOwner::Node => None,
            log::KeyOwner::Tenant(tenant) => Some(tenant),
        };
        WrapContext { plane: self.plane, node: self.node.0, tenant, table: None, file: key.0, version }
    }
}

fn owner_of(owner: log::KeyOwner) -> KeyOwner {
    match owner {
        log::KeyOwner::Node => KeyOwner::Node,
        log::KeyOwner::Tenant(tenant) => KeyOwner::Tenant(tenant),
    }
}

impl LogKeys for CommitLogKeys {
    fn wrap(&self, owner: log::KeyOwner, key_id: LogKeyId, data_key: &Key256) -> Result<WrappedLogKey, LogKeyError> {
        let newest = self.keys.newest(owner_of(owner)).map_err(|_| LogKeyError::Unavailable)?;
        let context = self.context(owner, key_id, newest.version);
        let wrapped = wrap(&newest.key, data_key, &context, self.nonces.next());
        Ok(WrappedLogKey { version: newest.version, bytes: wrapped.0.to_vec() })
    }

    fn unwrap(&self, owner: log::KeyOwner, key_id: LogKeyId, wrapped: &WrappedLogKey) -> Result<Key256, LogKeyError> {
        let key = self.keys.of_version(owner_of(owner), wrapped.version).map_err(|_| LogKeyError::Unavailable)?;
        let bytes: [u8; WRAPPED_KEY_LENGTH] = wrapped.bytes.as_slice().try_into().map_err(|_| LogKeyError::Wrong)?;
        unwrap(&key, &WrappedKey(bytes), &self.context(owner, key_id, wrapped.version)).map_err(|_| LogKeyError::Wrong)
    }
}
