//! A keeper of stores whose next new store can be held up, as by a slow disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use dstore::domain::ids::TenantId;
use dstore::domain::local_index::LocalIndex;
use dstore::storage::store::{RangeStore, ReplicaName, RewrapStep, StoreError, StoreKeeper};
use parking_lot::{Condvar, Mutex};

/// Holds up whoever makes a store, while it is closed.
#[derive(Default)]
pub struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub fn close(&self) {
        *self.is_closed.lock() = true;
    }

    pub fn open(&self) {
        *self.is_closed.lock() = false;
        self.changed.notify_all();
    }

    fn wait_until_open(&self) {
        let mut is_closed = self.is_closed.lock();
        while *is_closed {
            self.changed.wait(&mut is_closed);
        }
    }
}

/// See the module's essay.
pub struct GatedKeeper {
    pub inner: Arc<dyn StoreKeeper>,
    pub gate: Arc<Gate>,
}

impl StoreKeeper for GatedKeeper {
    fn create(&self, name: ReplicaName, indexes: &[LocalIndex]) -> Result<Arc<dyn RangeStore>, StoreError> {
        self.gate.wait_until_open();
        self.inner.create(name, indexes)
    }

    fn open(&self, name: ReplicaName) -> Result<Arc<dyn RangeStore>, StoreError> {
        self.inner.open(name)
    }

    fn remove(&self, name: ReplicaName) -> Result<(), StoreError> {
        self.inner.remove(name)
    }

    fn set_aside(&self, name: ReplicaName) -> Result<String, StoreError> {
        self.inner.set_aside(name)
    }

    fn rewrap(&self, tenant: TenantId, step: RewrapStep) -> Result<usize, StoreError> {
        self.inner.rewrap(tenant, step)
    }

    fn key_versions(&self, tenant: TenantId) -> Result<BTreeSet<u32>, StoreError> {
        self.inner.key_versions(tenant)
    }
}
