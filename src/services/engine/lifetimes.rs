//! Replicas come and go on a node.
//!
//! ```text
//! (nothing) --create--> serving --retire--> retired --purge--> (nothing)
//!                          ^                   |
//!                          +------create-------+     its table was brought back
//! ```
//!
//! A retired replica answers nobody. It keeps its file, its entries in the log and its place with the
//! flusher, since its table can be brought back for seven days. Then, or at once when its tenant's keys
//! are destroyed, it is purged, in an order that a crash may cut anywhere: first the log says, synced,
//! that the range left this node (so its records are void and its segments can go), then the files are
//! removed, then the node's record of it. The next start carries on where the record is still there.

use std::sync::Arc;

use crate::domain::Timestamp;
use crate::domain::ids::{RangeId, TenantId};
use crate::domain::table::TableDefinition;
use crate::storage::log::LogError;
use crate::storage::node_database::{ReplicaRecord, ReplicaState};
use crate::storage::store::{ReplicaName, StoreError};

use super::opening::Engine;
use super::replica::{Replica, StartingPoint};

/// A replica that is out of service, since its table was deleted.
pub struct RetiredReplica {
    /// It.
    pub(super) replica: Arc<Replica>,
    /// When the node learned of it.
    pub(super) at: Timestamp,
}

impl RetiredReplica {
    pub(super) fn name(&self) -> ReplicaName {
        self.replica.name
    }
}

/// What the role is told of a retired replica.
#[derive(Debug, Clone)]
pub struct RetiredRange {
    /// Its ids.
    pub name: ReplicaName,
    /// Its table, as it was.
    pub table: Arc<TableDefinition>,
    /// When the node learned that the table was deleted.
    pub at: Timestamp,
}

impl Engine {
    /// Whether this replica's file is here, in service or retired.
    pub fn has_replica(&self, name: ReplicaName) -> bool {
        self.replicas.read().get(&name.range).is_some_and(|replica| replica.name == name)
            || self.retired.read().get(&name.range).is_some_and(|retired| retired.replica.name == name)
    }

    /// Starts a range on this node: an empty one, or, where the replica was retired, the one that it was.
    /// Blocks on disk. Asked again, it does nothing.
    ///
    /// # Errors
    /// Where the file or the node's database cannot be written.
    pub fn create_replica(&self, record: &ReplicaRecord) -> Result<(), StoreError> {
        let range = record.name.range;
        if self.replicas.read().contains_key(&range) {
            return Ok(());
        }
        let retired = self.retired.read().get(&range).map(|retired| Arc::clone(&retired.replica));
        match retired {
            Some(retired) if retired.name == record.name => return self.bring_back(record, &retired),
            // Another replica of the same range: its entries would be mistaken for the new one's.
            Some(_) => self.purge_replica(range)?,
            None => {}
        }
        let _a_file_is_made = self.making_files.read();
        // A file without a record is left over from an attempt that did not end: nothing was acknowledged in it.
        self.parts.keeper.remove(record.name)?;
        let store = self.parts.keeper.create(record.name, &record.table.specification.local_indexes)?;
        self.parts.database.put_replica(record)?;
        let start = StartingPoint { last_index: 0, applied_index: 0, durable_index: 0 };
        let replica = self.make_replica(record, store, start);
        self.replicas.write().entry(range).or_insert(replica);
        self.note_change();
        Ok(())
    }

    /// Takes a range out of service and keeps its file, since its table may be brought back.
    ///
    /// # Errors
    /// Where the node's database cannot be written: the range is out of service all the same.
    pub fn retire_replica(&self, range: RangeId) -> Result<(), StoreError> {
        let Some(replica) = self.replicas.write().remove(&range) else { return Ok(()) };
        self.note_change();
        let at = self.clock().now();
        self.retired.write().insert(range, RetiredReplica { replica: Arc::clone(&replica), at });
        let record = ReplicaRecord { state: ReplicaState::Dropped(at), ..record_of(&replica) };
        self.parts.database.put_replica(&record)
    }

    /// A retired replica serves again, under its table's new definition. What was written to it until it
    /// was retired, and flushed or not since, is in it still.
    fn bring_back(&self, record: &ReplicaRecord, retired: &Arc<Replica>) -> Result<(), StoreError> {
        if let Some(reason) = retired.damage() {
            return Err(StoreError::Damaged(reason));
        }
        retired.set_table(Arc::new(record.table.clone()));
        self.parts.database.put_replica(&record_of(retired))?;
        self.replicas.write().insert(record.name.range, Arc::clone(retired));
        self.note_change();
        self.retired.write().remove(&record.name.range);
        Ok(())
    }

    /// The replicas that are retired and not purged.
    pub fn retired(&self) -> Vec<RetiredRange> {
        let told = |retired: &RetiredReplica| RetiredRange {
            name: retired.replica.name,
            table: retired.replica.table(),
            at: retired.at,
        };
        self.retired.read().values().map(told).collect()
    }

    /// Removes a retired replica for good: its entries, its files, its record. Blocks on disk.
    ///
    /// # Errors
    /// Where a step failed; asked again, or at the next start, it goes on from there.
    pub fn purge_replica(&self, range: RangeId) -> Result<(), StoreError> {
        let retired = self.retired.read().get(&range).map(|retired| Arc::clone(&retired.replica));
        let Some(replica) = retired else { return Ok(()) };
        replica.mark_damaged("the range was removed from this node".to_owned());
        replica.close();
        self.flusher().forget(&replica);
        self.log().remove_range(range).map_err(|error| match error {
            LogError::Full => StoreError::Full,
            error => StoreError::Failed(error.to_string()),
        })?;
        self.finish_purge(&record_of(&replica))?;
        self.retired.write().remove(&range);
        // What flushed it meanwhile may have noted it again.
        self.flusher().forget(&replica);
        if let Err(error) = self.log().drop_segments() {
            tracing::warn!(%error, "segments of the commit log could not be dropped");
        }
        Ok(())
    }

    /// The rest of a purge, once the log says that the range is gone.
    pub(super) fn finish_purge(&self, record: &ReplicaRecord) -> Result<(), StoreError> {
        if let Some(file) = record.group_file {
            self.remove_other_files(record.name, file)?;
        }
        self.parts.keeper.remove(record.file())?;
        self.parts.database.remove_replica(record.name.replica)
    }

    /// Takes every replica of a tenant out of service and removes it; its keys are gone already.
    ///
    /// # Errors
    /// As [`Engine::purge_replica`].
    pub fn purge_tenant(&self, tenant: TenantId) -> Result<usize, StoreError> {
        let of_tenant = |replica: &Arc<Replica>| replica.name.tenant == tenant;
        for replica in self.replicas().into_iter().filter(of_tenant) {
            self.retire_replica(replica.name.range)?;
        }
        let ranges: Vec<_> = self.retired().into_iter().filter(|retired| retired.name.tenant == tenant).collect();
        for retired in &ranges {
            self.purge_replica(retired.name.range)?;
        }
        Ok(ranges.len())
    }
}

pub(super) fn record_of(replica: &Replica) -> ReplicaRecord {
    ReplicaRecord {
        name: replica.name,
        hashes: replica.hashes,
        table: (*replica.table()).clone(),
        epoch: replica.epoch,
        durable_index: replica.durable_index(),
        quantity: replica.item_count().unwrap_or_default(),
        state: ReplicaState::Serving,
        group_file: replica.group_file(),
    }
}
