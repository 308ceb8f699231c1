//! Connections to encrypted files: the settings every one of them has, checkpoints, syncing the
//! log, and the true reason behind SQLite's errors.
//!
//! | setting | value | why |
//! |---|---|---|
//! | `journal_mode` | WAL | readers do not wait for the writer; nothing else is allowed by the shim |
//! | `synchronous` | NORMAL, or FULL | the commit log makes writes durable; the node's own database asks for FULL |
//! | `wal_autocheckpoint` | 0 | a checkpoint belongs to a background thread, not into a commit |
//! | checkpoint on close | no | the last connection would do it in the way of whoever closes |
//! | `temp_store` | MEMORY | sorts and statement journals never touch the disk; the shim refuses files |
//! | `mmap_size` | 0 | mapped pages would be read encrypted |
//! | `cell_size_check` | on | a page that opens but is nonsense is found early |
//! | defensive | on | no SQL can write to the schema's table or switch the journal off |
//!
//! Connections meant for reading only are opened for writing too, with `query_only`: a WAL's index
//! is shared memory that every reader writes its marks to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::error::{Damage, DamageKind, VfsError};
use super::keys::{canonical, io, read_header};
use super::registry::{Counters, FileState, REGISTRY};
use super::shim;
use crate::crypto::page::{PAGE_LENGTH, PageKind, PagePlace, open_page};
use crate::crypto::{Key256, NonceSource};
use crate::domain::Random;
use crate::domain::ids::FileId;

/// Versions before it lose commits when a log is reset (<https://sqlite.org/releaselog/3_51_3.html>).
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Pages of 4 KiB that this connection may keep in clear in memory.
    pub cache_pages: u32,
    /// Refuse every change.
    pub read_only: bool,
    /// Sync the log at every commit (`synchronous=FULL`), not only before checkpoints.
    pub synchronous_full: bool,
    /// How long a statement waits for another connection's write lock, in milliseconds. Opening waits as
    /// long for another process that has the file.
    pub busy_timeout_ms: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { cache_pages: 256, read_only: false, synchronous_full: false, busy_timeout_ms: 5_000 }
    }
}

/// What a checkpoint achieved. SQLite's OK alone proves nothing while a reader is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointResult {
    /// Frames in the log before it was emptied.
    pub log_frames: u32,
    /// How many of them have been copied to the database file and synced.
    pub copied_frames: u32,
    /// Whether the log is empty now.
    pub truncated: bool,
}

impl CheckpointResult {
    /// Whether all commits up to the checkpoint's beginning rest in the database file.
    pub fn is_complete(&self) -> bool {
        self.log_frames == self.copied_frames
    }
}

/// Makes the VFS known to SQLite. To be called before files are opened; the first caller's source of
/// randomness serves the process, later calls change nothing.
///
/// # Errors
/// [`VfsError::SqliteTooOld`].
pub fn register(random: Arc<dyn Random>) -> Result<(), VfsError> {
    check_version(rusqlite::version_number())?;
    without_memory_statistics();
    REGISTRY.register_once(NonceSource::new(random), shim::register)
}

/// Keeps SQLite from counting every allocation under one lock of the whole process, which all readers would wait for
/// (<https://sqlite.org/c3ref/c_config_covering_index_scan.html#sqliteconfigmemstatus>). Nothing here asks for the counts.
fn without_memory_statistics() {
    // SAFETY: the option takes one int. Where SQLite was used before, it refuses, and counts go on.
    let code = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0) };
    if code != ffi::SQLITE_OK {
        tracing::debug!(code, "SQLite counts its memory");
    }
}

pub(super) fn check_version(found: i32) -> Result<(), VfsError> {
    if found < SQLITE_VERSION_MIN { Err(VfsError::SqliteTooOld { found }) } else { Ok(()) }
}

/// Opens a connection to the file at `path`, which must be `expected` and have this data key (see [`super::unlock`]).
/// Several connections may be open in one process; another process is kept out.
///
/// # Errors
/// [`VfsError::Swapped`], [`VfsError::Truncated`], [`VfsError::NotDstore`], [`VfsError::NewerFormat`],
/// [`VfsError::Damaged`] if page 1 does not open, and what the operating system and SQLite say.
pub fn open(path: &Path, expected: FileId, data_key: &Key256, options: &OpenOptions) -> Result<Connection, VfsError> {
    if !REGISTRY.is_registered() {
        return Err(VfsError::NotRegistered);
    }
    let path = &canonical(path)?;
    let _file = REGISTRY.acquire(path, expected, data_key, || {
        let file = std::fs::File::options().read(true).write(true).open(path).map_err(io(path, "opening"))?;
        let found = read_header(path, &file)?.identity.file;
        if found != expected {
            return Err(VfsError::Swapped { path: path.to_owned(), expected, found });
        }
        Ok(file)
    })?;
    connect(path, options).map_err(|error| explain(path, error))
}

fn connect(path: &Path, options: &OpenOptions) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, shim::VFS_NAME)?;
    connection.busy_timeout(Duration::from_millis(options.busy_timeout_ms.into()))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.execute_batch(&format!(
        "PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 0;
         PRAGMA cache_size = {}; PRAGMA synchronous = {}; PRAGMA query_only = {};",
        options.cache_pages.max(1),
        if options.synchronous_full { "FULL" } else { "NORMAL" },
        if options.read_only { "ON" } else { "OFF" },
    ))?;
    // Reads page 1 and recovers the log: what is wrong shows here and not at the first query.
    connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

/// Copies the log into the database file and empties it, as far as other connections let it: first
/// without waiting for anybody, then, if all was copied and nobody reads from the log, cutting it
/// to nothing. Runs on any connection, best on one of its own in a background thread.
pub fn checkpoint(connection: &Connection) -> rusqlite::Result<CheckpointResult> {
    let (_, log_frames, copied_frames) = run_checkpoint(connection, ffi::SQLITE_CHECKPOINT_PASSIVE)?;
    let mut result = CheckpointResult { log_frames, copied_frames, truncated: log_frames == 0 };
    if result.is_complete() && log_frames > 0 {
        let patience_ms: u32 = connection.query_row("PRAGMA busy_timeout", [], |row| row.get(0))?;
        connection.busy_timeout(Duration::ZERO)?;
        let truncated = run_checkpoint(connection, ffi::SQLITE_CHECKPOINT_TRUNCATE);
        connection.busy_timeout(Duration::from_millis(patience_ms.into()))?;
        result.truncated = !truncated?.0;
    }
    Ok(result)
}

/// Whether it was busy, frames in the log, frames copied.
fn run_checkpoint(connection: &Connection, mode: i32) -> rusqlite::Result<(bool, u32, u32)> {
    let (mut in_log, mut copied) = (0, 0);
    // SAFETY: the handle is open and both numbers have a place to go.
    let code = unsafe {
        let database = connection.handle();
        ffi::sqlite3_wal_checkpoint_v2(database, c"main".as_ptr(), mode, &mut in_log, &mut copied)
    };
    match code & 0xFF {
        ffi::SQLITE_OK | ffi::SQLITE_BUSY => Ok((code != ffi::SQLITE_OK, in_log.max(0) as u32, copied.max(0) as u32)),
        _ => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// Makes every commit so far durable: fdatasync of the file's log. The file must be open; its
/// connections may be busy meanwhile.
pub fn sync_wal(path: &Path) -> Result<(), VfsError> {
    let path = canonical(path)?;
    let state = REGISTRY.find(&path).ok_or_else(|| VfsError::NotOpen { path: path.clone() })?;
    let Some(log) = state.log.get() else { return Ok(()) };
    state.count(|counters| &counters.log_syncs);
    if state.fail_next_sync.swap(false, Ordering::Relaxed) {
        return Err(io(&path, "syncing the write-ahead log")(std::io::Error::other("told to fail")));
    }
    log.sync_data().map_err(io(&path, "syncing the write-ahead log"))
}

/// The next [`sync_wal`] of this open file fails. For tests only.
#[doc(hidden)]
pub fn fail_next_sync(path: &Path) {
    if let Some(state) = canonical(path).ok().and_then(|path| REGISTRY.find(&path)) {
        state.fail_next_sync.store(true, Ordering::Relaxed);
    }
}

/// Adds to the counters of the process how often this connection found pages in its cache since the last call.
pub fn count_cache(connection: &Connection) {
    let totals = REGISTRY.cells();
    for (what, counter) in
        [(ffi::SQLITE_DBSTATUS_CACHE_HIT, &totals.cache_hits), (ffi::SQLITE_DBSTATUS_CACHE_MISS, &totals.cache_misses)]
    {
        let (mut now, mut highest) = (0, 0);
        // SAFETY: the handle is open, both numbers have a place to go, and the count begins anew.
        let code = unsafe { ffi::sqlite3_db_status(connection.handle(), what, &mut now, &mut highest, 1) };
        if code == ffi::SQLITE_OK {
            counter.fetch_add(now.max(0) as u64, Ordering::Relaxed);
        }
    }
}

/// What was done to an open file since it was opened; `None` if it is not open.
pub fn counters(path: &Path) -> Option<Counters> {
    REGISTRY.find(&canonical(path).ok()?).map(|state| state.counters.read())
}

/// What was done to all files since the process began.
pub fn counters_total() -> Counters {
    REGISTRY.totals()
}

/// Takes the first damage noted for a file since the last call.
pub fn take_damage(path: &Path) -> Option<Damage> {
    REGISTRY.take_damage(&canonical(path).unwrap_or_else(|_| path.to_owned()), |_| true)
}

/// Puts the true reason in the place of SQLite's: damage noted for the file, or that it is shorter
/// than its page 1 says.
pub fn explain(path: &Path, error: rusqlite::Error) -> VfsError {
    let path = canonical(path).unwrap_or_else(|_| path.to_owned());
    let (is_suspect, is_nonsense) = match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => (true, false),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (true, true),
        _ => (false, false),
    };
    if is_suspect {
        if let Some(found) = REGISTRY.find(&path).and_then(|state| missing_tail(&state)) {
            return found;
        }
        // A cut log explains pages that do not fit each other, but not a failing disk.
        if let Some(damage) = REGISTRY.take_damage(&path, |kind| kind != DamageKind::LogCut || is_nonsense) {
            return VfsError::Damaged(damage);
        }
    }
    VfsError::Sqlite { path, source: error }
}

/// Whether the file is shorter than the page count in its first page.
fn missing_tail(state: &FileState) -> Option<VfsError> {
    use std::os::unix::fs::FileExt;
    let mut page = [0; PAGE_LENGTH];
    state.header.read_exact_at(&mut page, PAGE_LENGTH as u64).ok()?;
    open_page(&state.aead, &PagePlace { kind: PageKind::Database, file: state.file, position: 1 }, &mut page).ok()?;
    let pages = u32::from_be_bytes(page[28..32].try_into().ok()?);
    let expected = (u64::from(pages) + 1) * PAGE_LENGTH as u64;
    let found = state.header.metadata().ok()?.len();
    // While the log is being copied the file may lag behind its page 1; the log then has the rest.
    let is_log_empty = state.log.get().is_none_or(|log| log.metadata().is_ok_and(|log| log.len() == 0));
    (found < expected && is_log_empty && !state.recovering.load(Ordering::Acquire)).then(|| VfsError::Truncated {
        path: state.path.clone(),
        expected,
        found,
    })
}
