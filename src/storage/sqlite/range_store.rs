//! One replica's file as a [`RangeStore`].
//!
//! There is one connection that writes and a small pool of connections that read; each keeps its
//! statements prepared and its own page cache. They are made when needed and closed by
//! [`RangeStore::release`], so a file that is not used costs this struct and nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OptionalExtension, params};

use crate::crypto::Key256;
use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::ids::{FileId, PrincipalId, ReceiptId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;
use crate::replication::machine_state::MachineState;
use crate::replication::operation::Outcome;
use crate::replication::requests::Remembered;
use crate::storage::store::{
    Batch, BatchChanges, Chunk, IndexChunk, KeyInterval, RangeStore, Scrubbed, StoreError, StoreSnapshot, StoreState,
    StoredSize,
};
use crate::storage::vfs;

use super::cells;
use super::index_entries::{self, KnownIndex};
use super::migrate::{RANGE, migrate};
use super::snapshot::{OpenSnapshots, SqliteSnapshot};

mod defining;
mod scrub;
mod writing;

/// How a file is opened; shared by all files of a node.
#[derive(Debug, Clone, Copy)]
pub struct FileOptions {
    /// Pages that each connection caches at most.
    pub cache_pages: u32,
    /// Reading connections kept open for each file at most: as many as read at the same time.
    pub readers_max: usize,
}

/// Reading connections that files keep beyond their first, counted for all files of a node and bounded: a file that many
/// read at once may have several, but not all files at a time.
#[derive(Debug, Clone)]
pub struct SpareConnections {
    kept: Arc<AtomicUsize>,
    max: usize,
}

impl SpareConnections {
    /// At most so many for all who share this.
    pub fn new(max: usize) -> Self {
        Self { kept: Arc::default(), max }
    }

    fn take_place(&self) -> bool {
        self.kept.fetch_update(Relaxed, Relaxed, |kept| (kept < self.max).then_some(kept + 1)).is_ok()
    }

    fn give_back(&self, places: usize) {
        self.kept.fetch_sub(places, Relaxed);
    }
}

/// Tells the key of a file when it is opened.
pub type KeySource = Arc<dyn Fn() -> Result<(FileId, Key256), StoreError> + Send + Sync>;

/// The connection that writes, and the local indexes that it keeps.
struct Writer {
    connection: Connection,
    indexes: Vec<KnownIndex>,
}

/// See the module's essay.
pub struct SqliteRangeStore {
    path: PathBuf,
    key: KeySource,
    options: FileOptions,
    writer: Mutex<Option<Writer>>,
    readers: Mutex<Vec<Connection>>,
    spare: SpareConnections,
    /// Held shared by whoever uses a connection, alone by `release`.
    in_use: RwLock<()>,
    /// The file is known to hold everything up to this index.
    applied_at_least: AtomicU64,
    /// How large the write-ahead log was when it was last written, copied or opened.
    log_bytes: AtomicU64,
    /// A sync of the write-ahead log failed: what the kernel shows of it may not be on the disk.
    is_distrusted: AtomicBool,
    cut: Mutex<Option<String>>,
    snapshots: OpenSnapshots,
}

impl SqliteRangeStore {
    /// A store over a file that is there.
    pub fn new(path: PathBuf, key: KeySource, options: FileOptions, spare: SpareConnections) -> Self {
        let (writer, readers) = (Mutex::default(), Mutex::default());
        let (in_use, cut, snapshots) = (RwLock::default(), Mutex::default(), OpenSnapshots::default());
        let (applied_at_least, log_bytes, is_distrusted) =
            (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Self {
            path,
            key,
            options,
            writer,
            readers,
            spare,
            in_use,
            applied_at_least,
            log_bytes,
            is_distrusted,
            cut,
            snapshots,
        }
    }

    /// How large its write-ahead log is, as far as is known without asking the disk; in bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    fn note_log(&self) {
        self.log_bytes.store(self.checkpoint_backlog_bytes(), Ordering::Relaxed);
    }

    /// Closes it, unless it is in use at this moment. Whether it is closed.
    pub(super) fn release_if_idle(&self) -> bool {
        let Some(_alone) = self.in_use.try_write() else { return false };
        self.drop_readers();
        *self.writer.lock() = None;
        true
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let (file, key) = (self.key)()?;
        let options = vfs::OpenOptions { cache_pages: self.options.cache_pages, ..vfs::OpenOptions::default() };
        let connection = vfs::open(&self.path, file, &key, &options).map_err(|error| cells::vfs_failure(&error))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _in_use = self.in_use.read();
        let pooled = self.take_reader();
        let connection = match pooled {
            Some(connection) => connection,
            None => {
                self.ready()?;
                self.connect()?
            }
        };
        let result = work(&connection);
        vfs::count_cache(&connection);
        self.keep_reader(connection);
        result.map_err(|error| self.explain(error))?
    }

    fn take_reader(&self) -> Option<Connection> {
        let mut readers = self.readers.lock();
        let reader = readers.pop();
        if !readers.is_empty() {
            self.spare.give_back(1);
        }
        reader
    }

    /// Keeps a connection for the next reader, or closes it: the first of a file always, more as long as there is room.
    fn keep_reader(&self, connection: Connection) {
        let mut readers = self.readers.lock();
        if readers.is_empty() || (readers.len() < self.options.readers_max && self.spare.take_place()) {
            readers.push(connection);
        }
    }

    fn drop_readers(&self) {
        let mut readers = self.readers.lock();
        self.spare.give_back(readers.len().saturating_sub(1));
        readers.clear();
    }

    fn write_with<T>(&self, work: impl FnOnce(&mut Writer) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let _in_use = self.in_use.read();
        let mut writer = self.writer.lock();
        let writer = self.writer_in(&mut writer)?;
        work(writer).map_err(|error| self.explain(error))
    }

    /// Makes sure that the schema is there before a reader looks.
    fn ready(&self) -> Result<(), StoreError> {
        self.writer_in(&mut self.writer.lock()).map(|_| ())
    }

    fn writer_in<'a>(&self, writer: &'a mut Option<Writer>) -> Result<&'a mut Writer, StoreError> {
        if writer.is_none() {
            let mut connection = self.connect()?;
            migrate(&mut connection, RANGE).map_err(|error| self.explain_store(error))?;
            self.check_opened(&connection)?;
            let indexes = index_entries::known_indexes(&connection).map_err(|error| self.explain(error))?;
            let indexes = indexes.map_err(|error| self.explain_store(error))?;
            self.note_log();
            *writer = Some(Writer { connection, indexes });
        }
        writer.as_mut().ok_or_else(|| StoreError::Failed("no connection".to_owned()))
    }

    /// A file that holds less than is known to have been synced to it lost a part, or is an older copy: no page of it is
    /// to be believed, though each opens.
    fn check_opened(&self, connection: &Connection) -> Result<(), StoreError> {
        match vfs::take_damage(&self.path) {
            Some(damage) if damage.kind == vfs::DamageKind::LogCut => *self.cut.lock() = Some(damage.to_string()),
            Some(damage) => return Err(cells::vfs_failure(&damage.into())),
            None => {}
        }
        let found = meta(connection, "applied_index").map_err(|error| self.explain(error))?;
        let expected = self.applied_at_least.load(Ordering::Acquire);
        if found < expected {
            return Err(StoreError::Damaged(format!(
                "{}: the file ends at index {found} though index {expected} was synced to it: part of it was lost or replaced",
                self.path.display()
            )));
        }
        Ok(())
    }

    /// The true reason where the encrypting layer knows it, else SQLite's.
    fn explain(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full,
            _ => cells::vfs_failure(&vfs::explain(&self.path, error)),
        }
    }

    /// A sync failed. The kernel may have forgotten what was to be written, so no later sync proves anything.
    fn distrust(&self, error: &dyn std::error::Error) -> StoreError {
        self.is_distrusted.store(true, Ordering::Release);
        StoreError::SyncFailed(error.to_string())
    }

    fn explain_store(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Damaged(text) => StoreError::Damaged(format!("{}: {text}", self.path.display())),
            StoreError::Failed(text) => StoreError::Failed(format!("{}: {text}", self.path.display())),
            other => other,
        }
    }
}

impl Drop for SqliteRangeStore {
    fn drop(&mut self) {
        self.drop_readers();
    }
}

impl RangeStore for SqliteRangeStore {
    fn state(&self) -> Result<StoreState, StoreError> {
        self.read(read_state)
    }

    fn get(&self, key: &PackedKey) -> Result<Option<(Document, ItemVersion)>, StoreError> {
        self.read(|connection| cells::read_item(connection, key))
    }

    fn version(&self, key: &PackedKey) -> Result<Option<ItemVersion>, StoreError> {
        self.read(|connection| cells::read_version(connection, key).map(Ok))
    }

    fn scan(
        &self,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Chunk, StoreError> {
        self.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let applied_index = meta(&transaction, "applied_index")?;
            cells::scan(&transaction, interval, descending, items_max, bytes_max)
                .map(|result| result.map(|(items, complete)| Chunk { items, complete, applied_index }))
        })
    }

    fn scan_index(
        &self,
        position: u8,
        interval: &KeyInterval,
        descending: bool,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<IndexChunk, StoreError> {
        self.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let applied_index = meta(&transaction, "applied_index")?;
            index_entries::scan(&transaction, position, interval, descending, items_max, bytes_max)
                .map(|result| result.map(|(items, complete)| IndexChunk { items, complete, applied_index }))
        })
    }

    fn index_size(&self, position: u8) -> Result<StoredSize, StoreError> {
        self.read(|connection| index_entries::size(connection, position))
    }

    fn interval_size(&self, interval: &KeyInterval) -> Result<StoredSize, StoreError> {
        self.read(|connection| cells::interval_size(connection, interval).map(Ok))
    }

    fn request(&self, principal: PrincipalId, id: RequestId) -> Result<Option<Remembered>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT digest, outcome, entry_index, at FROM requests WHERE principal = ?1 AND request_id = ?2",
            )?;
            let row = statement
                .query_row(params![principal.as_bytes(), id.as_bytes()], |row| {
                    Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            Ok(row.map(|(digest, outcome, index, at)| remembered(digest, &outcome, index, at)).transpose())
        })
    }

    fn receipt(&self, id: ReceiptId) -> Result<Option<Outcome>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT outcome FROM receipts WHERE id = ?1")?;
            let row = statement.query_row([id.as_bytes()], |row| row.get::<_, Vec<u8>>(0)).optional()?;
            Ok(row.map(|outcome| kept_outcome(&outcome)).transpose())
        })
    }

    fn snapshot(&self) -> Result<Box<dyn StoreSnapshot>, StoreError> {
        let _in_use = self.in_use.read();
        self.ready()?;
        let path = self.path.clone();
        let explain = move |error| cells::vfs_failure(&vfs::explain(&path, error));
        Ok(Box::new(SqliteSnapshot::begin(self.connect()?, &self.snapshots, Box::new(explain))?))
    }

    fn write(&self, batch: &Batch) -> Result<BatchChanges, StoreError> {
        let changes = self.write_with(|writer| {
            let transaction = writer.connection.transaction()?;
            let changes = writing::write_batch(&transaction, &writer.indexes, batch)?;
            if changes.is_ok() {
                transaction.commit()?;
            }
            Ok(changes)
        })?;
        self.note_log();
        changes.map_err(|error| self.explain_store(error))
    }

    fn make_durable(&self) -> Result<u64, StoreError> {
        // The index is read before the sync begins: what is committed later may or may not be in it.
        let applied_index = self.state()?.applied_index;
        if self.is_distrusted.load(Ordering::Acquire) {
            return Err(StoreError::SyncFailed(format!("{}: an earlier one did", self.path.display())));
        }
        vfs::sync_wal(&self.path).map_err(|error| match error {
            vfs::VfsError::Io { .. } => self.distrust(&error),
            error => cells::vfs_failure(&error),
        })?;
        Ok(applied_index)
    }

    fn expect_at_least(&self, index: u64) {
        self.applied_at_least.fetch_max(index, Ordering::AcqRel);
    }

    fn take_cut(&self) -> Option<String> {
        self.cut.lock().take()
    }

    fn discard_unsynced(&self) -> Result<(), StoreError> {
        self.release();
        self.snapshots.end();
        if !self.is_distrusted.load(Ordering::Acquire) {
            return Ok(());
        }
        let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", self.path.display()));
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        super::remove_if_there(std::path::Path::new(&log))?;
        if let Some(folder) = self.path.parent() {
            std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        self.is_distrusted.store(false, Ordering::Release);
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        let _in_use = self.in_use.read();
        let mut writer = self.writer.lock();
        let copied = vfs::checkpoint(&self.writer_in(&mut writer)?.connection);
        self.note_log();
        match copied {
            Ok(_) => Ok(()),
            Err(error) if is_failed_sync(&error) => Err(self.distrust(&self.explain(error))),
            Err(error) => Err(self.explain(error)),
        }
    }

    fn checkpoint_backlog_bytes(&self) -> u64 {
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        std::fs::metadata(wal).map_or(0, |metadata| metadata.len())
    }

    fn release(&self) {
        let _alone = self.in_use.write();
        self.drop_readers();
        *self.writer.lock() = None;
    }

    fn verify(&self) -> Result<(), StoreError> {
        self.read(|connection| {
            let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            Ok(if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged(verdict)) })
        })
    }

    fn scrub(&self, first: u64, pages_max: u64) -> Result<Scrubbed, StoreError> {
        self.read_pages(first, pages_max)
    }

    fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn damaged_pages(&self, suspects: &[u64]) -> Result<Option<Vec<u64>>, StoreError> {
        self.judge_pages(suspects)
    }
}

fn is_failed_sync(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC)
}

fn meta(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    let value = statement.query_row([name], |row| row.get::<_, i64>(0)).optional()?;
    Ok(value.unwrap_or(0) as u64)
}

/// What the file knows of itself, all from one statement.
pub(super) fn read_state(connection: &Connection) -> rusqlite::Result<Result<StoreState, StoreError>> {
    let mut state = StoreState::default();
    let mut statement = connection.prepare_cached("SELECT name, value FROM meta")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match row.get_ref(0)?.as_str()? {
            "applied_index" => state.applied_index = row.get::<_, i64>(1)? as u64,
            "item_count" => state.item_count = row.get::<_, i64>(1)? as u64,
            "stored_bytes" => state.stored_bytes = row.get::<_, i64>(1)?.max(0) as u64,
            "time" => state.time = Timestamp(row.get::<_, i64>(1)? as u64),
            "machine" => match MachineState::decode(row.get_ref(1)?.as_blob()?) {
                Some(machine) => state.machine = Some(machine),
                None => return Ok(Err(StoreError::Damaged("the state of the group makes no sense".to_owned()))),
            },
            _ => {}
        }
    }
    Ok(Ok(state))
}

/// A row of `requests`.
pub(super) fn remembered(digest: [u8; 32], outcome: &[u8], index: i64, at: i64) -> Result<Remembered, StoreError> {
    let outcome = kept_outcome(outcome)?;
    Ok(Remembered { digest, outcome, index: index as u64, at: Timestamp(at as u64) })
}

/// How a write ended, as it is kept.
pub(super) fn kept_outcome(outcome: &[u8]) -> Result<Outcome, StoreError> {
    Outcome::decode(outcome).ok_or_else(|| StoreError::Damaged("a kept outcome makes no sense".to_owned()))
}
