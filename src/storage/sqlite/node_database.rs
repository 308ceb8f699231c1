//! The node's own database as an encrypted SQLite file, with `synchronous=FULL`: every call answers
//! after the disk has it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, Row, params};

use crate::crypto::Key256;
use crate::domain::hash::HashRange;
use crate::domain::ids::{FileId, NodeId, PlaneId, RangeId, ReplicaId, TableId, TenantId};
use crate::domain::table::TableDefinition;
use crate::domain::{Random, Refusal, TableName, TenantName, Timestamp};
use crate::replication::split::SplitDone;
use crate::storage::keys::{FileKeys, KeyOwner};
use crate::storage::node_database::{
    DurableMark, NodeDatabase, ReplicaRecord, ReplicaState, ScrubProgress, ScrubRecord, TableRange, TenantKeyPart,
};
use crate::storage::store::{ReplicaName, RewrapStep, Scrubbed, StoreError};
use crate::storage::vfs;

use super::cells::vfs_failure;
use super::keeper::unlock;
use super::migrate::{NODE, migrate};
use super::rewrap::{rewrap_file, versions_of};

mod scrubs;

/// See the module's essay.
pub struct SqliteNodeDatabase {
    path: PathBuf,
    file: FileId,
    data_key: Key256,
    connection: Mutex<Connection>,
    keys: Arc<dyn FileKeys>,
    random: Arc<dyn Random>,
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
        keys: Arc<dyn FileKeys>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Self>, StoreError> {
        let folder_of_plane = folder.join(plane.to_string());
        super::make_folders(folder, &folder_of_plane)?;
        let path = folder_of_plane.join("node.db");
        let file = FileId(node.0);
        if !path.exists() {
            let newest = keys.newest(KeyOwner::Node).map_err(|error| StoreError::Key(error.to_string()))?;
            let identity = vfs::FileIdentity { plane, node, tenant: None, table: None, file };
            vfs::create_file(&path, &identity, newest.version, &newest.key, &*random)
                .map_err(|error| vfs_failure(&error))?;
        }
        let (file, data_key) = unlock(&path, file, KeyOwner::Node, &*keys)?;
        let options = vfs::OpenOptions { cache_pages: 256, synchronous_full: true, ..vfs::OpenOptions::default() };
        let mut connection = vfs::open(&path, file, &data_key, &options).map_err(|error| vfs_failure(&error))?;
        migrate(&mut connection, NODE)?;
        // What is deleted is overwritten: a destroyed key must not rest in a free part of a page.
        connection.pragma_update(None, "secure_delete", true).map_err(super::failure)?;
        // It is small: every page is looked at now, rather than found damaged when it is needed.
        let told: rusqlite::Result<String> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        match told.map_err(|error| vfs_failure(&vfs::explain(&path, error)))? {
            told if told == "ok" => {}
            told => return Err(StoreError::Damaged(format!("{}: {told}", path.display()))),
        }
        Ok(Arc::new(Self { path, file, data_key, connection: Mutex::new(connection), keys, random }))
    }

    /// Changes something, and brings it from the write-ahead log into the file at once: a log that is cut by damage
    /// looks like one that was torn by a crash, a page of the file that was changed does not.
    fn change<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.with(|connection| {
            let done = work(connection)?;
            // It is durable in the log already.
            if let Err(error) = vfs::checkpoint(connection) {
                tracing::warn!(%error, "the node's database could not be checkpointed; the next change does it");
            }
            Ok(done)
        })
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
                "SELECT replica, range, tenant, table_id, hash_low, hash_high, epoch, durable_index, quantity, state, definition, dropped_at, group_file FROM replicas",
            )?;
            statement.query_map([], replica_record)?.collect()
        })
    }

    fn table_ranges(&self, table: TableId) -> Result<Vec<TableRange>, StoreError> {
        self.with(|connection| {
            connection.prepare_cached(TABLE_RANGES)?.query_map([table.as_bytes()], table_range)?.collect()
        })
    }

    fn put_replica(&self, record: &ReplicaRecord) -> Result<(), StoreError> {
        let definition = definition_of(record)?;
        self.change(|connection| put_record(connection, record, &definition))
    }

    fn put_split(
        &self,
        parent: &ReplicaRecord,
        split: &SplitDone,
        children: &[ReplicaRecord],
    ) -> Result<(), StoreError> {
        let records = std::iter::once(parent).chain(children);
        let records = records.map(|record| Ok((record, definition_of(record)?))).collect::<Result<Vec<_>, _>>()?;
        self.change(|connection| {
            let transaction = connection.transaction()?;
            for (record, definition) in &records {
                put_record(&transaction, record, definition)?;
            }
            transaction.execute(
                "INSERT OR REPLACE INTO splits (replica, split) VALUES (?1, ?2)",
                params![parent.name.replica.as_bytes(), &split.encode()[..]],
            )?;
            transaction.commit()
        })
    }

    fn splits(&self) -> Result<Vec<(ReplicaId, SplitDone)>, StoreError> {
        let rows: Vec<([u8; 16], Vec<u8>)> = self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT replica, split FROM splits")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let read = |(replica, bytes): ([u8; 16], Vec<u8>)| {
            let split = SplitDone::decode(&bytes);
            let split = split.ok_or_else(|| StoreError::Damaged("a split makes no sense".to_owned()))?;
            Ok((ReplicaId::from_bytes(replica), split))
        };
        rows.into_iter().map(read).collect()
    }

    fn remove_replica(&self, replica: ReplicaId) -> Result<(), StoreError> {
        self.change(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM replicas WHERE replica = ?1", [replica.as_bytes()])?;
            transaction.execute("DELETE FROM splits WHERE replica = ?1", [replica.as_bytes()])?;
            scrubs::remove(&transaction, replica)?;
            transaction.commit()
        })
    }

    fn record_durable(&self, marks: &[DurableMark]) -> Result<(), StoreError> {
        self.change(|connection| {
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
        self.change(|connection| {
            connection
                .execute(
                    "INSERT INTO tenant_keys (tenant, version, uuid, part, state) VALUES (?1, ?2, ?3, ?4, 'in use')",
                    params![part.tenant.as_bytes(), part.version, part.uuid.as_bytes(), part.part.expose()],
                )
                .map(|_| ())
        })
    }

    fn rewrap(&self, step: RewrapStep) -> Result<(), StoreError> {
        rewrap_file(&self.path, KeyOwner::Node, step, &*self.keys, &*self.random)
    }

    fn key_versions(&self) -> Result<BTreeSet<u32>, StoreError> {
        versions_of(&self.path)
    }

    fn remove_tenant_keys(&self, tenant: TenantId, below_version: Option<u32>) -> Result<(), StoreError> {
        self.change(|connection| {
            connection
                .execute(
                    "DELETE FROM tenant_keys WHERE tenant = ?1 AND version < ?2",
                    params![tenant.as_bytes(), below_version.map_or(i64::MAX, i64::from)],
                )
                .map(|_| ())
        })
    }

    fn distrusted(&self) -> Result<Vec<(ReplicaId, String)>, StoreError> {
        self.with(|connection| scrubs::distrusted(connection))
    }

    fn distrust(&self, replicas: &[ReplicaId], reason: &str) -> Result<(), StoreError> {
        self.change(|connection| scrubs::distrust(connection, replicas, reason))
    }

    fn scrub_progress(&self) -> Result<ScrubProgress, StoreError> {
        self.with(|connection| scrubs::read(connection))
    }

    fn begin_scrub(&self, at: Timestamp) -> Result<(), StoreError> {
        self.change(|connection| scrubs::begin_round(connection, at))
    }

    fn put_scrub(&self, record: &ScrubRecord) -> Result<(), StoreError> {
        self.change(|connection| scrubs::put(connection, record))
    }

    fn scrub(&self, first: u64, pages_max: u64) -> Result<Scrubbed, StoreError> {
        vfs::scrub(&self.path, self.file, &self.data_key, first, pages_max).map_err(|error| vfs_failure(&error))
    }

    fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn damaged_pages(&self, suspects: &[u64]) -> Result<Option<Vec<u64>>, StoreError> {
        // While it is held nobody writes.
        let connection = self.connection.lock();
        let copied = vfs::checkpoint(&connection).map_err(|error| vfs_failure(&vfs::explain(&self.path, error)))?;
        if !copied.is_complete() {
            return Ok(None);
        }
        vfs::damaged_pages(&self.path, suspects).map(Some).map_err(|error| vfs_failure(&error))
    }
}

/// The columns of the view `table_ranges` for one table, with the range. The view itself has no UUID of the table to
/// ask by, and a name may belong to two tables while one replaces the other.
const TABLE_RANGES: &str = "SELECT range, json_extract(definition, '$.tenant'), json_extract(definition, '$.name'),
        hash_low, hash_high, quantity,
        (SELECT uuid FROM tenant_keys WHERE tenant_keys.tenant = replicas.tenant ORDER BY version DESC LIMIT 1),
        json_extract(definition, '$.version')
    FROM replicas WHERE table_id = ?1 AND state = 'serving' ORDER BY hash_low";

fn table_range(row: &Row<'_>) -> rusqlite::Result<TableRange> {
    let unreadable = |column: usize| {
        move |refusal: Refusal| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, refusal.to_string().into())
        }
    };
    Ok(TableRange {
        range: RangeId::from_bytes(row.get(0)?),
        tenant: TenantName::new(&row.get::<_, String>(1)?).map_err(unreadable(1))?,
        table: TableName::new(&row.get::<_, String>(2)?).map_err(unreadable(2))?,
        hashes: HashRange { low: row.get(3)?, high: row.get(4)? },
        quantity: row.get::<_, i64>(5)? as u64,
        tenant_uuid: row.get::<_, Option<[u8; 16]>>(6)?.map(uuid::Uuid::from_bytes),
        table_version: row.get::<_, i64>(7)? as u64,
    })
}

fn definition_of(record: &ReplicaRecord) -> Result<String, StoreError> {
    serde_json::to_string(&record.table).map_err(|error| StoreError::Failed(error.to_string()))
}

fn put_record(connection: &Connection, record: &ReplicaRecord, definition: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO replicas (replica, range, tenant, table_id, hash_low, hash_high, epoch, durable_index, quantity, state, definition, dropped_at, group_file)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
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
            dropped_at(record.state),
            record.group_file.map(|number| number as i64),
        ])
        .map(|_| ())
}

fn state_name(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Serving => "serving",
        ReplicaState::Dropped(_) => "dropped",
        ReplicaState::Damaged => "damaged",
    }
}

fn dropped_at(state: ReplicaState) -> Option<i64> {
    match state {
        ReplicaState::Dropped(at) => Some(at.0 as i64),
        ReplicaState::Serving | ReplicaState::Damaged => None,
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
            "dropped" => ReplicaState::Dropped(Timestamp(row.get::<_, Option<i64>>(11)?.unwrap_or(0) as u64)),
            _ => ReplicaState::Damaged,
        },
        group_file: row.get::<_, Option<i64>>(12)?.map(|number| number as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The description that people are shown is the one that the database has as a view.
    #[test]
    fn the_table_description_is_the_view_of_one_table() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, NODE).unwrap();
        let definition = |table: u8, name: &str| {
            format!(
                r#"{{"tenant_id":"{}","tenant":"acme","id":"{}","name":"{name}","id_type":"String","created_at":1,"version":{table}}}"#,
                TenantId::from_bytes([1; 16]),
                TableId::from_bytes([table; 16])
            )
        };
        let insert = |number: u8, table: u8, name: &str, low: u32, state: &str| {
            connection
                .execute(
                    "INSERT INTO replicas VALUES (?1, ?1, ?2, ?3, ?4, ?5, 1, 0, ?6, ?7, ?8, NULL, NULL)",
                    params![[number; 16], [1u8; 16], [table; 16], low, low + 9, number, state, definition(table, name)],
                )
                .unwrap();
        };
        insert(1, 1, "users", 10, "serving");
        insert(2, 1, "users", 0, "serving");
        insert(3, 1, "users", 20, "dropped");
        insert(4, 2, "users", 0, "serving");
        for version in 1..3u8 {
            let sql = "INSERT INTO tenant_keys VALUES (?1, ?2, ?3, ?3, 'in use')";
            connection.execute(sql, params![[1u8; 16], version, [version; 16]]).unwrap();
        }
        let mut statement = connection.prepare(TABLE_RANGES).unwrap();
        let rows =
            statement.query_map([[1u8; 16]], table_range).unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap();
        let row = |number: u8, low: u32| TableRange {
            range: RangeId::from_bytes([number; 16]),
            tenant: TenantName::new("acme").unwrap(),
            table: TableName::new("users").unwrap(),
            hashes: HashRange { low, high: low + 9 },
            quantity: u64::from(number),
            tenant_uuid: Some(uuid::Uuid::from_bytes([2; 16])),
            table_version: 1,
        };
        assert_eq!(rows, [row(2, 0), row(1, 10)]);
        let sql = "SELECT RID_TENANT, RID_TABLE, HASH_START, HASH_END, QUANTITY, UUID, TABLE_VERSION FROM table_ranges
            WHERE TABLE_VERSION = 1 ORDER BY HASH_START";
        let mut view = connection.prepare(sql).unwrap();
        let seen = view.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u32>(2)?, row.get::<_, i64>(4)?, row.get::<_, [u8; 16]>(5)?))
        });
        let seen = seen.unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap();
        assert_eq!(seen, [("acme".to_owned(), 0, 2, [2; 16]), ("acme".to_owned(), 10, 1, [2; 16])]);
    }
}
