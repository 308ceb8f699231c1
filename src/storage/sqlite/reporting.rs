//! A reporter's store as an encrypted SQLite file, with `synchronous=FULL`: every change answers after the disk has it.
//!
//! One connection changes, another one reads, so that a question over a year of usage does not hold up what is pulled. The file is
//! the reporter's alone; its data key is wrapped under the reporter's key (its own part and control's), under the newest
//! version whenever the file is opened or the key was rotated.
//!
//! What comes in is brought from the write-ahead log into the file every [`CHANGES_PER_CHECKPOINT`] changes. A page that records gave
//! back is used again: the file does not shrink, it stops growing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use crate::domain::Random;
use crate::domain::ids::{FileId, NodeId, PlaneId, ReporterId};
use crate::domain::usage::query::{UsageQuestion, UsageRow};
use crate::domain::usage::record::Record;
use crate::domain::usage::{Component, KeptUpTo};
use crate::storage::keys::{FileKeys, KeyOwner};
use crate::storage::reporting::{EVENTS_KNOWN_UNTIL, KeepFrom, ReportingStore, Standing, TakenIn};
use crate::storage::store::{RewrapStep, StoreError};
use crate::storage::vfs;

use super::cells::vfs_failure;
use super::keeper::unlock;
use super::migrate::{REPORTING, migrate};
use super::rewrap::rewrap_file;

mod rollups;
#[cfg(test)]
mod tests;

/// After how many changes the log is brought into the file.
const CHANGES_PER_CHECKPOINT: u32 = 32;
/// Pages of 4 KiB that each connection keeps in memory.
const CACHE_PAGES: u32 = 2048;

/// See the module's essay.
pub struct SqliteReportingStore {
    path: PathBuf,
    keys: Arc<dyn FileKeys>,
    random: Arc<dyn Random>,
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    changes: AtomicU32,
}

impl SqliteReportingStore {
    /// Opens a reporter's store in a folder, or makes it. `keys` gives the reporter's key, as that of [`KeyOwner::Node`]: the
    /// process itself.
    ///
    /// # Errors
    /// Where it is damaged, or the keys do not open it.
    pub fn open(
        folder: &Path,
        plane: PlaneId,
        reporter: ReporterId,
        keys: Arc<dyn FileKeys>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Self>, StoreError> {
        super::make_folders(folder, folder)?;
        let path = folder.join("reporting.db");
        let file = FileId(reporter.0);
        if !path.exists() {
            let newest = keys.newest(KeyOwner::Node).map_err(|error| StoreError::Key(error.to_string()))?;
            let identity = vfs::FileIdentity { plane, node: NodeId(reporter.0), tenant: None, table: None, file };
            vfs::create_file(&path, &identity, newest.version, &newest.key, &*random)
                .map_err(|error| vfs_failure(&error))?;
        }
        let (file, key) = unlock(&path, file, KeyOwner::Node, &*keys)?;
        let options =
            vfs::OpenOptions { cache_pages: CACHE_PAGES, synchronous_full: true, ..vfs::OpenOptions::default() };
        let open =
            |options: &vfs::OpenOptions| vfs::open(&path, file, &key, options).map_err(|error| vfs_failure(&error));
        let mut writer = open(&options)?;
        migrate(&mut writer, REPORTING)?;
        let reader = open(&vfs::OpenOptions { read_only: true, ..options })?;
        let (writer, reader, changes) = (Mutex::new(writer), Mutex::new(reader), AtomicU32::new(0));
        let store = Self { path, keys, random, writer, reader, changes };
        store.wrap_anew()?;
        Ok(Arc::new(store))
    }

    /// Has the file's key wrapped under the newest version of the reporter's key, and under no other.
    ///
    /// # Errors
    /// Where no key that is here opens it, or its header cannot be written.
    pub fn wrap_anew(&self) -> Result<(), StoreError> {
        [RewrapStep::AddNew, RewrapStep::DropOld]
            .into_iter()
            .try_for_each(|step| rewrap_file(&self.path, KeyOwner::Node, step, &*self.keys, &*self.random))
    }

    fn with<T>(
        &self,
        connection: &Mutex<Connection>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&mut connection.lock()).map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
            _ => vfs_failure(&vfs::explain(&self.path, error)),
        })
    }

    fn read<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.with(&self.reader, work)
    }

    /// Changes something in one transaction.
    fn change<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.with(&self.writer, |connection| {
            let transaction = connection.transaction()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            let is_due = self.changes.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHANGES_PER_CHECKPOINT);
            // It is durable in the log already.
            if is_due && let Err(error) = vfs::checkpoint(connection) {
                tracing::warn!(%error, "the store could not be checkpointed; a later change does it");
            }
            Ok(done)
        })
    }
}

impl ReportingStore for SqliteReportingStore {
    fn standing(&self, component: Component) -> Result<Standing, StoreError> {
        let of = (component.role.to_string(), *component.id.as_bytes());
        self.with(&self.writer, |connection| {
            let mut standing = Standing::default();
            let sql = "SELECT changes, dropped, boot, interval FROM components WHERE role = ?1 AND component = ?2";
            let known = |row: &Row<'_>| {
                let last = row.get::<_, Option<[u8; 16]>>(2)?.map(Uuid::from_bytes);
                let interval = row.get::<_, Option<i64>>(3)?.unwrap_or(0) as u64;
                standing.changes = row.get::<_, i64>(0)? as u64;
                standing.dropped = row.get::<_, i64>(1)? as u64;
                standing.last = last.map(|boot| KeptUpTo { boot, interval });
                Ok(())
            };
            connection.prepare_cached(sql)?.query_row(params![of.0, of.1], known).optional()?;
            let sql = "SELECT boot, interval FROM positions WHERE role = ?1 AND component = ?2";
            let kept = |row: &Row<'_>| {
                Ok(KeptUpTo { boot: Uuid::from_bytes(row.get(0)?), interval: row.get::<_, i64>(1)? as u64 })
            };
            standing.kept =
                connection.prepare_cached(sql)?.query_map(params![of.0, of.1], kept)?.collect::<Result<_, _>>()?;
            let sql = "SELECT batch, at_ms FROM open_batches WHERE role = ?1 AND component = ?2 ORDER BY number";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![of.0, of.1])?;
            while let Some(row) = rows.next()? {
                standing.open.push(json_of(row, 0)?);
                standing.heard_ms = row.get::<_, i64>(1)? as u64;
            }
            Ok(standing)
        })
    }

    fn take_in(&self, taken: &TakenIn) -> Result<u64, StoreError> {
        let added = self.change(|transaction| take_in(transaction, taken));
        added?.ok_or_else(|| StoreError::Failed("something else took in what a component told".to_owned()))
    }

    fn unfinished(&self) -> Result<Vec<Component>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT DISTINCT role, component FROM open_batches")?;
            let component = |row: &Row<'_>| {
                let role: String = row.get(0)?;
                let role = serde_json::from_value(role.into()).map_err(|error| not_understood(0, error))?;
                Ok(Component { role, id: Uuid::from_bytes(row.get(1)?) })
            };
            statement.query_map([], component)?.collect()
        })
    }

    fn add_events(&self, records: &[Record], known_until: &str, at_ms: u64) -> Result<u64, StoreError> {
        self.change(|transaction| {
            put_meta(transaction, EVENTS_KNOWN_UNTIL, known_until)?;
            add(transaction, records, at_ms)
        })
    }

    fn newest(&self) -> Result<u64, StoreError> {
        self.read(|connection| newest(connection))
    }

    fn records_after(&self, sequence: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT sequence, id, at_ms, body FROM records WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
            let record = |row: &Row<'_>| {
                Ok(Record {
                    sequence: row.get::<_, i64>(0)? as u64,
                    id: Uuid::from_bytes(row.get(1)?),
                    at_ms: row.get::<_, i64>(2)? as u64,
                    body: json_of(row, 3)?,
                })
            };
            let after = i64::try_from(sequence).unwrap_or(i64::MAX);
            connection.prepare_cached(sql)?.query_map(params![after, limit as i64], record)?.collect()
        })
    }

    fn sinks_are(&self, names: &[String]) -> Result<(), StoreError> {
        self.change(|transaction| {
            let known = transaction
                .prepare_cached("SELECT name FROM sinks")?
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            for gone in known.iter().filter(|name| !names.contains(name)) {
                transaction.execute("DELETE FROM sinks WHERE name = ?1", [gone])?;
            }
            for name in names {
                transaction
                    .execute("INSERT INTO sinks (name, sequence) VALUES (?1, 0) ON CONFLICT DO NOTHING", [name])?;
            }
            Ok(())
        })
    }

    fn sink_position(&self, sink: &str) -> Result<u64, StoreError> {
        let sql = "SELECT sequence FROM sinks WHERE name = ?1";
        let position =
            self.read(|connection| connection.query_row(sql, [sink], |row| row.get::<_, i64>(0)).optional())?;
        Ok(position.unwrap_or(0) as u64)
    }

    fn set_sink_position(&self, sink: &str, sequence: u64) -> Result<(), StoreError> {
        let sql = "INSERT INTO sinks (name, sequence) VALUES (?1, ?2)
            ON CONFLICT DO UPDATE SET sequence = excluded.sequence";
        let values = params![sink, i64::try_from(sequence).unwrap_or(i64::MAX)];
        self.change(|transaction| transaction.prepare_cached(sql)?.execute(values).map(|_| ()))
    }

    fn usage(&self, question: &UsageQuestion, rows_max: usize) -> Result<Option<Vec<UsageRow>>, StoreError> {
        self.read(|connection| rollups::usage(connection, question, rows_max))
    }

    fn prune(&self, from: &KeepFrom, rows_max: usize) -> Result<usize, StoreError> {
        // The oldest first; those that are too young, or wanted by a sink, end it.
        let records = "DELETE FROM records WHERE taken_ms < ?1 AND sequence IN (SELECT sequence FROM records
            WHERE sequence <= (SELECT coalesce(min(sequence), 9223372036854775807) FROM sinks)
            ORDER BY sequence LIMIT ?2)";
        let sums = "DELETE FROM sums WHERE step_ms = ?3 AND at_ms < ?1 AND at_ms <= (SELECT max(at_ms) FROM
            (SELECT at_ms FROM sums WHERE step_ms = ?3 ORDER BY at_ms LIMIT ?2))";
        let positions = "DELETE FROM positions WHERE at_ms < ?1";
        let limit = rows_max as u64;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let steps: [(&str, &[u64]); 4] = [
            (records, &[from.records_ms, limit]),
            (sums, &[from.minutes_ms, limit, rollups::MINUTE_MS]),
            (sums, &[from.hours_ms, limit, rollups::HOUR_MS]),
            (positions, &[from.hours_ms]),
        ];
        let mut gone = 0;
        for (sql, values) in steps {
            let values = rusqlite::params_from_iter(values.iter().copied().map(number));
            gone += self.change(|transaction| transaction.prepare_cached(sql)?.execute(values))?;
        }
        Ok(gone)
    }

    fn remembered(&self, name: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        self.read(|connection| connection.query_row(sql, [name], |row| row.get(0)).optional())
    }

    fn remember(&self, name: &str, text: &str) -> Result<(), StoreError> {
        self.change(|transaction| put_meta(transaction, name, text))
    }
}

fn put_meta(transaction: &Transaction<'_>, name: &str, value: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    transaction.prepare_cached(sql)?.execute([name, value]).map(|_| ())
}

fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'records'";
    let newest = connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0)).optional()?;
    Ok(newest.unwrap_or(0) as u64)
}

/// None where something else took in meanwhile: then nothing was changed.
fn take_in(transaction: &Transaction<'_>, taken: &TakenIn) -> rusqlite::Result<Option<u64>> {
    let of = (taken.component.role.to_string(), *taken.component.id.as_bytes());
    let (boot, interval) =
        (taken.last.as_ref().map(|last| *last.boot.as_bytes()), taken.last.as_ref().map(|last| last.interval as i64));
    let values = params![of.0, of.1, taken.changes as i64, taken.dropped as i64, boot, interval];
    let sql = if taken.changes == 0 {
        "INSERT INTO components (role, component, changes, dropped, boot, interval)
         VALUES (?1, ?2, ?3 + 1, ?4, ?5, ?6) ON CONFLICT DO NOTHING"
    } else {
        "UPDATE components SET changes = ?3 + 1, dropped = ?4, boot = ?5, interval = ?6
         WHERE role = ?1 AND component = ?2 AND changes = ?3"
    };
    if transaction.prepare_cached(sql)?.execute(values)? == 0 {
        return Ok(None);
    }
    for kept in &taken.kept {
        let sql = "INSERT INTO positions (role, component, boot, interval, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT DO UPDATE SET interval = excluded.interval, at_ms = excluded.at_ms";
        let values = params![of.0, of.1, kept.boot.as_bytes(), kept.interval as i64, taken.at_ms as i64];
        transaction.prepare_cached(sql)?.execute(values)?;
    }
    if taken.ended {
        let sql = "DELETE FROM open_batches WHERE role = ?1 AND component = ?2";
        transaction.prepare_cached(sql)?.execute(params![of.0, of.1])?;
    }
    for batch in &taken.open {
        let sql = "INSERT INTO open_batches (role, component, at_ms, batch) VALUES (?1, ?2, ?3, ?4)";
        let values = params![of.0, of.1, taken.at_ms as i64, json_text(batch)?];
        transaction.prepare_cached(sql)?.execute(values)?;
    }
    add(transaction, &taken.records, taken.at_ms).map(Some)
}

/// Adds records that are not there yet, and what they tell to the roll-ups.
fn add(transaction: &Transaction<'_>, records: &[Record], at_ms: u64) -> rusqlite::Result<u64> {
    for record in records {
        // Not by a conflict, which would use up a sequence: whoever waits for it would wait for nothing.
        let sql = "INSERT INTO records (id, at_ms, taken_ms, body) SELECT ?1, ?2, ?3, ?4
            WHERE NOT EXISTS (SELECT 1 FROM records WHERE id = ?1)";
        let values = params![record.id.as_bytes(), record.at_ms as i64, at_ms as i64, json_text(&record.body)?];
        if transaction.prepare_cached(sql)?.execute(values)? > 0 {
            rollups::add(transaction, record)?;
        }
    }
    newest(transaction)
}

fn json_text<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn json_of<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| not_understood(column, error))
}

fn not_understood(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
