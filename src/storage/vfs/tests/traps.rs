//! How SQLite uses a VFS, where that could go wrong: what it reads before it can know, what it writes
//! again, what it would do with capabilities, files and descriptors that it must not have.

use std::os::unix::fs::FileExt;
use std::ptr;

use rusqlite::{Connection, ffi};

use super::support::*;
use crate::crypto::Aead;
use crate::crypto::page::{PAGE_LENGTH, PageKind, PagePlace, open_page, seal_page};
use crate::storage::vfs::*;

fn with_cache(fixture: &Fixture, cache_pages: u32) -> Connection {
    let options = OpenOptions { cache_pages, ..OpenOptions::default() };
    open(&fixture.path, fixture.identity.file, &fixture.key, &options).unwrap()
}

/// When a transaction spills and changes spilled pages again, SQLite overwrites frames and later writes all
/// frame headers anew: salts or neighbours must not be bound to a frame.
#[test]
fn frames_that_are_written_again_are_recovered() {
    let fixture = Fixture::with_rows(300);
    let connection = with_cache(&fixture, 5);
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    for round in 0..3 {
        connection.execute("UPDATE secret_table SET secret_column = upper(secret_column)", []).unwrap();
        connection.execute("UPDATE secret_table SET secret_column = lower(secret_column)", []).unwrap();
        connection.execute("DELETE FROM secret_table WHERE id = ?1", [round]).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    let frames = (std::fs::metadata(fixture.log_path()).unwrap().len() - 60) / 4148;
    let sealed = counters(&fixture.path).unwrap().pages_sealed;
    assert!(sealed > frames + 50, "{sealed} pages were sealed for {frames} frames: some were overwritten");
    drop(connection);
    let connection = fixture.open();
    assert_eq!(take_damage(&fixture.path), None);
    assert_eq!(rows(&connection).unwrap(), (3..300).collect::<Vec<_>>());
}

/// A crash tore page 1 while a checkpoint wrote it; the log still has it.
#[test]
fn a_torn_first_page_is_recovered_from_the_log() {
    let fixture = Fixture::with_rows(20);
    let connection = fixture.open();
    connection.execute_batch("CREATE TABLE another (x)").unwrap();
    drop(connection);
    let file = std::fs::File::options().write(true).open(&fixture.path).unwrap();
    file.write_all_at(&[0xAA; 2048], 4096).unwrap();
    let connection = fixture.open();
    assert_eq!(rows(&connection).unwrap().len(), 20);
    assert!(checkpoint(&connection).unwrap().truncated);
    drop(connection);
    assert_eq!(integrity(&fixture.open()), "ok");
}

#[test]
fn a_torn_first_page_without_a_log_is_an_error() {
    let fixture = Fixture::with_rows(20);
    let file = std::fs::File::options().write(true).open(&fixture.path).unwrap();
    file.write_all_at(&[0xAA; 2048], 4096).unwrap();
    match fixture.try_open() {
        Err(VfsError::Damaged(damage)) => assert_eq!((damage.page, damage.kind), (1, DamageKind::Page)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reserved_bytes_are_ours_and_read_back_as_zero() {
    let fixture = Fixture::with_rows(100);
    let connection = fixture.open();
    insert(&connection, 100..120);
    let pages = pages(&connection);
    assert_eq!(pages[20], 32);
    assert!(pages.len() > 10 * PAGE_LENGTH);
    for page in pages.chunks_exact(PAGE_LENGTH) {
        assert_eq!(page[PAGE_LENGTH - 32..], [0; 32]);
    }
}

/// A database laid out without room for tag and nonce is refused when read, and never written.
#[test]
fn another_layout_is_refused() {
    let fixture = Fixture::with_rows(5);
    let place = PagePlace { kind: PageKind::Database, file: fixture.identity.file, position: 1 };
    let aead = Aead::new(&fixture.key);
    let file = std::fs::File::options().read(true).write(true).open(&fixture.path).unwrap();
    let mut page = [0; PAGE_LENGTH];
    file.read_exact_at(&mut page, 4096).unwrap();
    open_page(&aead, &place, &mut page).unwrap();
    page[20] = 0;
    seal_page(&aead, &place, [1; 12], &mut page).unwrap();
    file.write_all_at(&page, 4096).unwrap();
    drop(file);
    match fixture.try_open() {
        Err(VfsError::Damaged(damage)) => assert_eq!(damage.kind, DamageKind::ForeignPage),
        other => panic!("{other:?}"),
    }

    let fixture = Fixture::with_rows(5);
    let connection = fixture.open();
    let mut reserved: std::ffi::c_int = 64;
    // SAFETY: the handle is open; the argument of this operation is a C int.
    unsafe {
        let argument = (&raw mut reserved).cast();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_RESERVE_BYTES, argument);
    }
    assert!(connection.execute_batch("VACUUM").is_err(), "a new layout is not written");
    drop(connection);
    let connection = fixture.open();
    assert_eq!(pages(&connection)[20], 32);
    assert_eq!(rows(&connection).unwrap().len(), 5);
}

/// What SQLite is told of the file decides how it reads and writes.
#[test]
fn no_capability_is_claimed_that_sealed_pages_cannot_keep() {
    let fixture = Fixture::with_rows(5);
    let connection = fixture.open();
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is open; the file's methods are called with the file.
    let (version, characteristics, chunk) = unsafe {
        let (database, argument) = (connection.handle(), (&raw mut file).cast());
        ffi::sqlite3_file_control(database, c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, argument);
        let methods = &*(*file).pMethods;
        let mut size: std::ffi::c_int = 1 << 20;
        let argument = (&raw mut size).cast();
        ffi::sqlite3_file_control(database, c"main".as_ptr(), ffi::SQLITE_FCNTL_CHUNK_SIZE, argument);
        (methods.iVersion, methods.xDeviceCharacteristics.unwrap()(file), methods.xFetch)
    };
    assert_eq!(version, 2, "no memory mapping");
    assert!(chunk.is_none());
    assert_eq!(characteristics, ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE, "no part-page reads, no atomic writes");
    let mapped: i64 = connection.query_row("PRAGMA mmap_size = 1000000", [], |row| row.get(0)).unwrap();
    assert_eq!(mapped, 0);
    insert(&connection, 5..50);
    assert!(checkpoint(&connection).unwrap().truncated);
    let length = std::fs::metadata(&fixture.path).unwrap().len();
    assert!(length < 200_000, "{length}: no preallocation of pages that were never sealed");
}

#[test]
fn no_journal_no_temporary_and_no_strange_file_is_opened() {
    let fixture = Fixture::with_rows(500);
    let connection = with_cache(&fixture, 5);
    connection.execute_batch("PRAGMA temp_store = FILE").unwrap();
    let sorted =
        connection.execute_batch("CREATE TEMP TABLE copy AS SELECT * FROM secret_table a, secret_table b LIMIT 20000");
    assert!(sorted.is_err(), "a temporary file would hold rows in clear");
    let other = fixture.folder.path().join("other.db");
    assert!(connection.execute("ATTACH ?1 AS other", [other.to_str().unwrap()]).is_err());
    let left = connection.execute_batch("PRAGMA journal_mode = DELETE; DELETE FROM secret_table");
    assert!(left.is_err(), "a rollback journal would hold pages in clear");
    drop(connection);
    assert!(!other.exists() && !with_suffix(&fixture.path, "-journal").exists());
    assert_eq!(rows(&fixture.open()).unwrap().len(), 500);
}

#[test]
fn a_journal_beside_the_file_is_refused_by_name() {
    let fixture = Fixture::with_rows(5);
    let journal = with_suffix(&fixture.path, "-journal");
    std::fs::write(&journal, [0xd9; 9000]).unwrap();
    match fixture.try_open() {
        Err(VfsError::Damaged(damage)) => assert_eq!(damage.kind, DamageKind::Journal),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(journal).unwrap();
    assert_eq!(rows(&fixture.open()).unwrap().len(), 5);
}

#[test]
fn connections_share_one_file_and_one_key() {
    let fixture = Fixture::with_rows(5);
    let connections: Vec<Connection> = (0..5).map(|_| fixture.open()).collect();
    insert(&connections[0], 5..6);
    for connection in &connections {
        assert_eq!(rows(connection).unwrap().len(), 6);
    }
    let wrong = open(&fixture.path, fixture.identity.file, &kek(9), &OpenOptions::default());
    assert!(matches!(wrong, Err(VfsError::WrongKey { .. })));
    let wrong = open(&fixture.path, identity().file, &fixture.key, &OpenOptions::default());
    assert!(matches!(wrong, Err(VfsError::Swapped { .. })));
}
