//! The node's own database as an encrypted SQLite file, with `synchronous=FULL`: every call answers
//! after the disk has it.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, Row, params};

use crate::crypto::Key256;
use crate::domain::Random;
use crate::domain::hash::HashRange;
use crate::domain::ids::{FileId, NodeId, PlaneId, RangeId, ReplicaId, TableId, TenantId};
use crate::domain::table::TableDefinition;
use crate::storage::keys::{FileKeys, KeyOwner};
use crate::storage::node_database::{DurableMark, NodeDatabase, ReplicaRecord, ReplicaState, TenantKeyPart};
use crate::storage::store::{ReplicaName, StoreError};
use crate::storage::vfs;

use super::cells::vfs_failure;
use super::keeper::unlock;
use super::migrate::{NODE, migrate};

/// See the module's essay.
pub struct SqliteNodeDatabase {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteNodeDatabase {
    /// Opens the database of a node at one control plane, or makes it.
    ///
    /// # Errors
    /// Where it is damaged, or the node's keys do not open it.
    pub fn open(
        folder: &std::path::Path,
        plane: PlaneId,
        node: NodeId,
        keys: &dyn FileKeys,
        random: &dyn Random,
    ) -> Result<Arc<Self>, StoreError> {
        let folder_of_plane = folder.join(plane.to_string());
        super::make_folders(folder, &folder_of_plane)?;
        let path = folder_of_plane.join("node.db");
        let file = FileId(node.0);
        if !path.exists() {
            let newest = keys.newest(KeyOwner::Node).map_err(|error| StoreError::Key(error.to_string()))?;
            let identity = vfs::FileIdentity { plane, node, tenant: None, table: None, file };
            vfs::create_file(&path, &identity, newest.version, &newest.key, random)
                .map_err(|error| vfs_failure(&error))?;
        }
        let (file, key) = unlock(&path, file, KeyOwner::Node, keys)?;
        let options = vfs::OpenOptions { cache_pages: 256, synchronous_full: true, ..vfs::OpenOptions::default() };
        let mut connection = vfs::open(&path, file, &key, &options).map_err(|error| vfs_failure(&error))?;
        migrate(&mut connection, NODE)?;
        Ok(Arc::new(Self { path, connection: Mutex::new(connection) }))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut connection = self.connection.lock();
        work(&mut connection).map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
            _ => vfs_failure(&vfs::explain(&self.path, error)),
        })
    }
}

impl NodeDatabase for SqliteNodeDatabase {
    fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT replica, range, tenant, table_id, hash_low, hash_high, epoch, durable_index, quantity, state, definition FROM replicas",
            )?;
            statement.query_map([], replica_record)?.collect()
        })
    }

    fn put_replica(&self, record: &ReplicaRecord) -> Result<(), StoreError> {
        let definition = serde_json::to_string(&record.table).map_err(|error| StoreError::Failed(error.to_string()))?;
        self.with(|connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO replicas (replica, range, tenant, table_id, hash_low, hash_high, epoch, durable_index, quantity, state, definition)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    record.name.replica.as_bytes(),
                    record.name.range.as_bytes(),
                    record.name.tenant.as_bytes(),
                    record.name.table.as_bytes(),
                    record.hashes.low,
                    record.hashes.high,
                    record.epoch as i64,
                    record.durable_index as i64,
                    record.quantity as i64,
                    state_name(record.state),
                    definition,
                ])
                .map(|_| ())
        })
    }

    fn remove_replica(&self, replica: ReplicaId) -> Result<(), StoreError> {
        self.with(|connection| {
            connection.execute("DELETE FROM replicas WHERE replica = ?1", [replica.as_bytes()]).map(|_| ())
        })
    }

    fn record_durable(&self, marks: &[DurableMark]) -> Result<(), StoreError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            {
                let mut statement = transaction.prepare_cached(
                    "UPDATE replicas SET durable_index = max(durable_index, ?2), quantity = ?3 WHERE replica = ?1",
                )?;
                for mark in marks {
                    statement.execute(params![
                        mark.replica.as_bytes(),
                        mark.durable_index as i64,
                        mark.quantity as i64
                    ])?;
                }
            }
            transaction.commit()
        })
    }

    fn tenant_keys(&self) -> Result<Vec<TenantKeyPart>, StoreError> {
        self.with(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT tenant, version, uuid, part FROM tenant_keys ORDER BY version")?;
            statement
                .query_map([], |row| {
                    Ok(TenantKeyPart {
                        tenant: TenantId::from_bytes(row.get(0)?),
                        version: row.get(1)?,
                        uuid: uuid::Uuid::from_bytes(row.get(2)?),
                        part: Key256::new(row.get(3)?),
                    })
                })?
                .collect()
        })
    }

    fn add_tenant_key(&self, part: &TenantKeyPart) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute(
                    "INSERT INTO tenant_keys (tenant, version, uuid, part, state) VALUES (?1, ?2, ?3, ?4, 'in use')",
                    params![part.tenant.as_bytes(), part.version, part.uuid.as_bytes(), part.part.expose()],
                )
                .map(|_| ())
        })
    }

    fn remove_tenant_keys(&self, tenant: TenantId, below_version: Option<u32>) -> Result<(), StoreError> {
        self.with(|connection| {
            connection
                .execute(
                    "DELETE FROM tenant_keys WHERE tenant = ?1 AND version < ?2",
                    params![tenant.as_bytes(), below_version.map_or(i64::MAX, i64::from)],
                )
                .map(|_| ())
        })
    }
}

fn state_name(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Serving => "serving",
        ReplicaState::Dropped => "dropped",
        ReplicaState::Damaged => "damaged",
    }
}

fn replica_record(row: &Row<'_>) -> rusqlite::Result<ReplicaRecord> {
    let definition: String = row.get(10)?;
    let table: TableDefinition = serde_json::from_str(&definition)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(10, rusqlite::types::Type::Text, Box::new(error)))?;
    let state: String = row.get(9)?;
    Ok(ReplicaRecord {
        name: ReplicaName {
            replica: ReplicaId::from_bytes(row.get(0)?),
            range: RangeId::from_bytes(row.get(1)?),
            tenant: TenantId::from_bytes(row.get(2)?),
            table: TableId::from_bytes(row.get(3)?),
        },
        hashes: HashRange { low: row.get(4)?, high: row.get(5)? },
        table,
        epoch: row.get::<_, i64>(6)? as u64,
        durable_index: row.get::<_, i64>(7)? as u64,
        quantity: row.get::<_, i64>(8)? as u64,
        state: match state.as_str() {
            "serving" => ReplicaState::Serving,
            "dropped" => ReplicaState::Dropped,
            _ => ReplicaState::Damaged,
        },
    })
}
