//! A node's database in memory. It answers after the disk has it, as the real one does, so a crash takes nothing; a wiped
//! folder takes it all.

use std::collections::{BTreeMap, BTreeSet};

use dstore::domain::ids::{ReplicaId, TableId, TenantId};
use dstore::replication::split::SplitDone;
use dstore::storage::node_database::{DurableMark, NodeDatabase, ReplicaRecord, TableRange, TenantKeyPart};
use dstore::storage::store::{RewrapStep, StoreError};
use parking_lot::Mutex;

/// See the module's essay.
#[derive(Default)]
pub struct SimulatedDatabase {
    replicas: Mutex<BTreeMap<ReplicaId, ReplicaRecord>>,
    splits: Mutex<BTreeMap<ReplicaId, SplitDone>>,
    keys: Mutex<Vec<TenantKeyPart>>,
    distrusted: Mutex<BTreeMap<ReplicaId, String>>,
}

impl SimulatedDatabase {
    /// Another one that holds the same.
    pub fn fork(&self) -> SimulatedDatabase {
        SimulatedDatabase {
            replicas: Mutex::new(self.replicas.lock().clone()),
            splits: Mutex::new(self.splits.lock().clone()),
            keys: Mutex::new(self.keys.lock().clone()),
            distrusted: Mutex::new(self.distrusted.lock().clone()),
        }
    }
}

impl NodeDatabase for SimulatedDatabase {
    fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        Ok(self.replicas.lock().values().cloned().collect())
    }

    fn table_ranges(&self, _table: TableId) -> Result<Vec<TableRange>, StoreError> {
        Ok(Vec::new())
    }

    fn put_replica(&self, record: &ReplicaRecord) -> Result<(), StoreError> {
        self.replicas.lock().insert(record.name.replica, record.clone());
        Ok(())
    }

    fn put_split(
        &self,
        parent: &ReplicaRecord,
        split: &SplitDone,
        children: &[ReplicaRecord],
    ) -> Result<(), StoreError> {
        let mut replicas = self.replicas.lock();
        for record in std::iter::once(parent).chain(children) {
            replicas.insert(record.name.replica, record.clone());
        }
        self.splits.lock().insert(parent.name.replica, split.clone());
        Ok(())
    }

    fn splits(&self) -> Result<Vec<(ReplicaId, SplitDone)>, StoreError> {
        Ok(self.splits.lock().iter().map(|(replica, split)| (*replica, split.clone())).collect())
    }

    fn remove_replica(&self, replica: ReplicaId) -> Result<(), StoreError> {
        self.splits.lock().remove(&replica);
        self.replicas.lock().remove(&replica);
        Ok(())
    }

    fn record_durable(&self, marks: &[DurableMark]) -> Result<(), StoreError> {
        let mut replicas = self.replicas.lock();
        for mark in marks {
            if let Some(record) = replicas.get_mut(&mark.replica) {
                record.durable_index = mark.durable_index;
                record.quantity = mark.quantity;
            }
        }
        Ok(())
    }

    fn distrusted(&self) -> Result<Vec<(ReplicaId, String)>, StoreError> {
        Ok(self.distrusted.lock().iter().map(|(replica, reason)| (*replica, reason.clone())).collect())
    }

    fn distrust(&self, replicas: &[ReplicaId], reason: &str) -> Result<(), StoreError> {
        self.distrusted.lock().extend(replicas.iter().map(|replica| (*replica, reason.to_owned())));
        Ok(())
    }

    fn tenant_keys(&self) -> Result<Vec<TenantKeyPart>, StoreError> {
        Ok(self.keys.lock().clone())
    }

    fn add_tenant_key(&self, part: &TenantKeyPart) -> Result<(), StoreError> {
        self.keys.lock().push(part.clone());
        Ok(())
    }

    fn rewrap(&self, _step: RewrapStep) -> Result<(), StoreError> {
        Ok(())
    }

    fn key_versions(&self) -> Result<BTreeSet<u32>, StoreError> {
        Ok(BTreeSet::new())
    }

    fn remove_tenant_keys(&self, tenant: TenantId, below_version: Option<u32>) -> Result<(), StoreError> {
        self.keys
            .lock()
            .retain(|part| part.tenant != tenant || below_version.is_some_and(|below| part.version >= below));
        Ok(())
    }
}
