//! Page 1 of an empty database, made by SQLite itself in memory: 4,096-byte pages, 32 reserved bytes,
//! incremental vacuum, WAL. A page written by hand was rejected: SQLite knows its format better.

use std::ffi::c_int;
use std::path::Path;

use rusqlite::{Connection, ffi};

use super::error::VfsError;
use super::file::synthetic_header;
use crate::crypto::page::{PAGE_LENGTH, RESERVED_LENGTH};

/// The page in clear, its reserved bytes zero. `path` is only for errors.
pub(super) fn initial_page(path: &Path) -> Result<[u8; PAGE_LENGTH], VfsError> {
    let failed = |source| VfsError::Sqlite { path: path.to_owned(), source };
    let database = Connection::open_in_memory().map_err(failed)?;
    database.execute_batch("PRAGMA page_size = 4096").map_err(failed)?;
    reserve_bytes(&database);
    // Beginning to write is what lays out page 1.
    database.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; BEGIN IMMEDIATE; COMMIT").map_err(failed)?;
    let mut page = serialized_page(&database)
        .filter(|page| page[16..18] == [0x10, 0x00] && usize::from(page[20]) == RESERVED_LENGTH)
        .ok_or_else(|| VfsError::HeaderDamaged {
            path: path.to_owned(),
            what: "SQLite laid out page 1 in another way",
        })?;
    // A database in memory has no log; these two bytes say that ours has (file format, section 1.3.3).
    page[18..20].copy_from_slice(&synthetic_header()[18..20]);
    Ok(page)
}

fn reserve_bytes(database: &Connection) {
    let mut reserved = RESERVED_LENGTH as c_int;
    // SAFETY: the handle is open, and this operation's argument is a C int. A refusal shows in page 1.
    unsafe {
        ffi::sqlite3_file_control(
            database.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_RESERVE_BYTES,
            (&raw mut reserved).cast(),
        );
    }
}

fn serialized_page(database: &Connection) -> Option<[u8; PAGE_LENGTH]> {
    let mut length = 0;
    // SAFETY: the handle is open; what SQLite allocated is copied and given back.
    unsafe {
        let bytes = ffi::sqlite3_serialize(database.handle(), c"main".as_ptr(), &mut length, 0);
        if bytes.is_null() {
            return None;
        }
        let page = std::slice::from_raw_parts(bytes, length as usize).try_into().ok();
        ffi::sqlite3_free(bytes.cast());
        page
    }
}
