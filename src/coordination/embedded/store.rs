//! The embedded store's tables and what is done with them. Plain functions over one connection, called
//! by one thread, inside a transaction that the caller begins and commits.
//!
//! Invariants: `revision` is in `meta` what it is here after each commit; every row of `present` has
//! its last change in `history`; `history` can tell the state at any revision from `compacted` on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};

use crate::coordination::coordinator::prefix_end;
use crate::coordination::{
    Compare, Condition, Error, EventKind, KeyValue, LeaseId, Operation, Page, Result, Revision, StoreHealth,
    TransactionResult, WatchBatch, WatchEvent, Writer,
};

/// "dStC": so that another program's file is not taken for ours.
const APPLICATION_ID: i64 = 0x6453_7443;
const MIGRATIONS: [&str; 1] = [include_str!("../../../migrations/coordinator/0001_initial.sql")];

/// A lease that has not ended.
struct LeaseClock {
    ttl_seconds: u32,
    ends: Instant,
}

/// The store: a connection and what is kept in memory of it.
pub(super) struct Store {
    pub(super) connection: Connection,
    revision: Revision,
    compacted: Revision,
    leases: BTreeMap<i64, LeaseClock>,
}

/// Whatever SQLite says, as ours. A full disk is told apart: it is the one that room can mend.
pub(super) fn storage_error(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::NoSpace(error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Storage(format!("another process has it open ({error})"))
        }
        _ => Error::Storage(error.to_string()),
    }
}

impl Store {
    /// Opens the file, makes it where there is none, and takes it for this process alone.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let fresh = !path.exists();
        if fresh {
            create_private(path).map_err(|error| Error::Storage(format!("{}: {error}", path.display())))?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(storage_error)?;
        connection
            .execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
            .map_err(storage_error)?;
        migrate(&connection)?;
        let mut store = Self { connection, revision: 0, compacted: 0, leases: BTreeMap::new() };
        store.reload()?;
        Ok(store)
    }

    /// Takes the numbers from the file; after opening, and after a transaction that was rolled back.
    /// Leases known already keep their clocks; the others begin anew.
    pub(super) fn reload(&mut self) -> Result<()> {
        self.revision = self.meta("revision")?;
        self.compacted = self.meta("compacted")?;
        let mut statement = self.connection.prepare("SELECT id, ttl_seconds FROM lease").map_err(storage_error)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(storage_error)?;
        let mut leases = BTreeMap::new();
        for row in rows {
            let (id, ttl_seconds): (i64, u32) = row.map_err(storage_error)?;
            let clock = self.leases.remove(&id);
            leases.insert(id, clock.unwrap_or_else(|| LeaseClock { ttl_seconds, ends: lease_end(ttl_seconds) }));
        }
        drop(statement);
        self.leases = leases;
        Ok(())
    }

    /// The revision of the last change.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// How many revisions are kept.
    pub(super) fn history_revisions(&self) -> i64 {
        self.revision - self.compacted
    }

    /// Begins, commits or rolls back; see the worker.
    pub(super) fn execute(&self, sql: &str) -> Result<()> {
        self.connection.execute_batch(sql).map_err(storage_error)
    }

    /// Whether a transaction is open; SQLite ends one itself on some errors.
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn meta(&self, name: &str) -> Result<i64> {
        let mut statement =
            self.connection.prepare_cached("SELECT value FROM meta WHERE name = ?1").map_err(storage_error)?;
        statement.query_row([name], |row| row.get(0)).map_err(storage_error)
    }

    fn set_meta(&self, name: &str, value: i64) -> Result<()> {
        self.run("UPDATE meta SET value = ?2 WHERE name = ?1", params![name, value])
    }

    fn run(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql).map_err(storage_error)?;
        statement.execute(parameters).map(drop).map_err(storage_error)
    }

    /// One key, as it is.
    pub(super) fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        let sql = "SELECT key, value, create_revision, mod_revision, version, lease FROM present WHERE key = ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(storage_error)?;
        statement.query_row([key.as_bytes()], key_value).optional().map_err(storage_error)
    }

    /// A page of a listing; see [`Coordinator::list_page`](crate::coordination::Coordinator::list_page).
    pub(super) fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Option<Revision>,
        limit: usize,
    ) -> Result<Page> {
        let at = revision.unwrap_or(self.revision);
        if at < self.compacted || at > self.revision {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        // A key after `after` is one not below it with a zero byte added.
        let from = after.map_or_else(|| prefix.as_bytes().to_vec(), |after| [after.as_bytes(), &[0]].concat());
        let end = prefix_end(prefix.as_bytes());
        let sql = if at == self.revision { LIST_PRESENT } else { LIST_PAST };
        let mut statement = self.connection.prepare_cached(sql).map_err(storage_error)?;
        let limit_and_one = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let rows = statement.query_map(params![from, end, limit_and_one, at], key_value).map_err(storage_error)?;
        let mut entries = rows.collect::<rusqlite::Result<Vec<_>>>().map_err(storage_error)?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok(Page { entries, revision: at, more })
    }

    /// Changes under a prefix from `from` on: whole transactions, about `limit` events.
    pub(super) fn events(&self, prefix: &str, from: Revision, limit: usize) -> Result<WatchBatch> {
        if from <= self.compacted {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        let end = prefix_end(prefix.as_bytes());
        let mut statement = self.connection.prepare_cached(EVENTS).map_err(storage_error)?;
        let mut rows = statement.query(params![from, prefix.as_bytes(), end]).map_err(storage_error)?;
        let mut events: Vec<WatchEvent> = Vec::new();
        while let Some(row) = rows.next().map_err(storage_error)? {
            let event = watch_event(row).map_err(storage_error)?;
            if let Some(last) = events.last()
                && events.len() >= limit
                && last.revision != event.revision
            {
                let revision = last.revision;
                return Ok(WatchBatch { events, revision });
            }
            events.push(event);
        }
        Ok(WatchBatch { events, revision: self.revision.max(from - 1) })
    }

    /// A transaction; the caller has checked limits and rights.
    pub(super) fn transact(&mut self, compares: &[Compare], operations: &[Operation]) -> Result<TransactionResult> {
        for compare in compares {
            if !holds(&compare.condition, self.get(&compare.key)?.as_ref()) {
                return Ok(TransactionResult { succeeded: false, revision: self.revision });
            }
        }
        for operation in operations {
            if let Operation::Put { lease: Some(lease), .. } = operation
                && !self.leases.contains_key(&lease.0)
            {
                return Err(Error::LeaseNotFound);
            }
        }
        let revision = self.revision + 1;
        let mut sequence = 0;
        for operation in operations {
            sequence += i64::from(self.change(operation, revision, sequence)?);
        }
        if sequence > 0 {
            self.advance(revision)?;
        }
        Ok(TransactionResult { succeeded: true, revision: self.revision })
    }

    /// Does one operation; whether it changed anything (removing what is not there does not).
    fn change(&self, operation: &Operation, revision: Revision, sequence: i64) -> Result<bool> {
        let before = self.get(operation.key())?;
        let key = operation.key().as_bytes();
        match operation {
            Operation::Put { value, lease, .. } => {
                let created = before.as_ref().map_or(revision, |entry| entry.create_revision);
                let version = before.as_ref().map_or(1, |entry| entry.version + 1);
                let lease = lease.map(|lease| lease.0);
                self.run(PUT, params![key, value.as_ref(), created, revision, version, lease])?;
                self.run(RECORD, params![revision, sequence, key, Some(value.as_ref()), created, version, lease])?;
            }
            Operation::Delete { .. } if before.is_none() => return Ok(false),
            Operation::Delete { .. } => {
                self.run("DELETE FROM present WHERE key = ?1", params![key])?;
                self.run(RECORD, params![revision, sequence, key, None::<&[u8]>, 0, 0, None::<i64>])?;
            }
        }
        Ok(true)
    }

    fn advance(&mut self, revision: Revision) -> Result<()> {
        self.set_meta("revision", revision)?;
        self.revision = revision;
        Ok(())
    }

    /// A new lease. Numbers are never used again, so that a late keep-alive cannot meet another's lease.
    pub(super) fn lease_grant(&mut self, ttl_seconds: u32) -> Result<LeaseId> {
        let id = self.meta("lease_next")?;
        let ttl_seconds = ttl_seconds.max(1);
        self.set_meta("lease_next", id + 1)?;
        self.run("INSERT INTO lease (id, ttl_seconds) VALUES (?1, ?2)", params![id, ttl_seconds])?;
        self.leases.insert(id, LeaseClock { ttl_seconds, ends: lease_end(ttl_seconds) });
        Ok(LeaseId(id))
    }

    /// Starts a lease's time anew. Touches no disk: a restart does the same.
    pub(super) fn lease_keep_alive(&mut self, lease: LeaseId) -> Result<u32> {
        let clock = self.leases.get_mut(&lease.0).ok_or(Error::LeaseNotFound)?;
        clock.ends = lease_end(clock.ttl_seconds);
        Ok(clock.ttl_seconds)
    }

    /// Ends a lease: removes its keys in one revision. The writer must be allowed to write each.
    pub(super) fn lease_revoke(&mut self, lease: LeaseId, writer: &Writer) -> Result<()> {
        let keys = self.keys_of_lease(lease.0)?;
        if let Some(key) = keys.iter().find(|key| !writer.may_write(key)) {
            return Err(Error::Denied(format!("{} may not end a lease that holds {key}", writer.name())));
        }
        self.end_lease(lease.0, &keys)
    }

    /// Ends every lease whose time is over.
    pub(super) fn expire_leases(&mut self, now: Instant) -> Result<()> {
        let ended: Vec<i64> =
            self.leases.iter().filter(|(_, clock)| clock.ends <= now).map(|(lease, _)| *lease).collect();
        for lease in ended {
            let keys = self.keys_of_lease(lease)?;
            self.end_lease(lease, &keys)?;
        }
        Ok(())
    }

    fn keys_of_lease(&self, lease: i64) -> Result<Vec<String>> {
        let sql = "SELECT key FROM present WHERE lease = ?1 ORDER BY key";
        let mut statement = self.connection.prepare_cached(sql).map_err(storage_error)?;
        let rows = statement.query_map([lease], |row| text(row, 0)).map_err(storage_error)?;
        rows.collect::<rusqlite::Result<_>>().map_err(storage_error)
    }

    fn end_lease(&mut self, lease: i64, keys: &[String]) -> Result<()> {
        self.leases.remove(&lease);
        self.run("DELETE FROM lease WHERE id = ?1", params![lease])?;
        let operations: Vec<Operation> = keys.iter().map(Operation::delete).collect();
        self.transact(&[], &operations).map(drop)
    }

    /// When the next lease ends, if there is any.
    pub(super) fn next_lease_end(&self) -> Option<Instant> {
        self.leases.values().map(|clock| clock.ends).min()
    }

    /// How large the file is; a full disk is its only limit.
    pub(super) fn health(&self) -> Result<StoreHealth> {
        let number = |name: &str| {
            let value = self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            value.map(|value| u64::try_from(value).unwrap_or(0)).map_err(storage_error)
        };
        let (page_bytes, pages, free) = (number("page_size")?, number("page_count")?, number("freelist_count")?);
        Ok(StoreHealth {
            revision: self.revision,
            bytes: pages * page_bytes,
            bytes_in_use: pages.saturating_sub(free) * page_bytes,
            quota_bytes: None,
            no_space: false,
        })
    }

    /// Forgets what was before `revision`: changes that a later one, at or before it, has overwritten.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision <= self.compacted {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        if revision > self.revision {
            return Err(Error::BadRequest(format!("revision {revision} is not reached yet")));
        }
        self.run(COMPACT, params![revision])?;
        self.set_meta("compacted", revision)?;
        self.compacted = revision;
        Ok(())
    }
}

const LIST_PRESENT: &str = "SELECT key, value, create_revision, mod_revision, version, lease FROM present
    WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) AND ?4 >= 0 ORDER BY key LIMIT ?3";
const LIST_PAST: &str = "SELECT key, value, create_revision, revision, version, lease FROM history AS this
    WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) AND value IS NOT NULL AND revision =
        (SELECT max(revision) FROM history AS other WHERE other.key = this.key AND other.revision <= ?4)
    ORDER BY key LIMIT ?3";
const EVENTS: &str = "SELECT revision, key, value, create_revision, version, lease FROM history
    WHERE revision >= ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) ORDER BY revision, sequence";
const PUT: &str = "INSERT OR REPLACE INTO present (key, value, create_revision, mod_revision, version, lease)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const RECORD: &str = "INSERT INTO history (revision, sequence, key, value, create_revision, version, lease)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const COMPACT: &str = "DELETE FROM history AS this WHERE revision <= ?1 AND (value IS NULL OR EXISTS
    (SELECT 1 FROM history AS later WHERE later.key = this.key AND later.revision > this.revision
        AND later.revision <= ?1))";

fn lease_end(ttl_seconds: u32) -> Instant {
    Instant::now() + Duration::from_secs(u64::from(ttl_seconds))
}

fn holds(condition: &Condition, entry: Option<&KeyValue>) -> bool {
    match (condition, entry) {
        (Condition::Absent, entry) => entry.is_none(),
        (Condition::Present, entry) => entry.is_some(),
        (Condition::ModRevision(revision), Some(entry)) => entry.mod_revision == *revision,
        (Condition::Version(version), Some(entry)) => entry.version == *version,
        (Condition::Value(value), Some(entry)) => entry.value == *value,
        // As in etcd, the version of what is not there is 0.
        (Condition::Version(version), None) => *version == 0,
        (Condition::ModRevision(_) | Condition::Value(_), None) => false,
    }
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes: Vec<u8> = row.get(column)?;
    String::from_utf8(bytes)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, error.into()))
}

fn key_value(row: &Row<'_>) -> rusqlite::Result<KeyValue> {
    Ok(KeyValue {
        key: text(row, 0)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        create_revision: row.get(2)?,
        mod_revision: row.get(3)?,
        version: row.get(4)?,
        lease: row.get::<_, Option<i64>>(5)?.map(LeaseId),
    })
}

fn watch_event(row: &Row<'_>) -> rusqlite::Result<WatchEvent> {
    let revision = row.get(0)?;
    let key = text(row, 1)?;
    let kind = match row.get::<_, Option<Vec<u8>>>(2)? {
        None => EventKind::Delete { key },
        Some(value) => EventKind::Put(KeyValue {
            key,
            value: value.into(),
            create_revision: row.get(3)?,
            mod_revision: revision,
            version: row.get(4)?,
            lease: row.get::<_, Option<i64>>(5)?.map(LeaseId),
        }),
    };
    Ok(WatchEvent { kind, revision })
}

fn migrate(connection: &Connection) -> Result<()> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let version = number("user_version").map_err(storage_error)?;
    let application = number("application_id").map_err(storage_error)?;
    if (version != 0 && application != APPLICATION_ID)
        || usize::try_from(version).unwrap_or(usize::MAX) > MIGRATIONS.len()
    {
        return Err(Error::Storage("not an embedded coordinator's file, or one of a newer version".into()));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version as usize) {
        let sql = format!(
            "BEGIN IMMEDIATE; {migration}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={}; COMMIT;",
            index + 1
        );
        connection.execute_batch(&sql).map_err(storage_error)?;
    }
    Ok(())
}

/// An empty file that only its owner may read, whose name is on disk.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.sync_all()?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
