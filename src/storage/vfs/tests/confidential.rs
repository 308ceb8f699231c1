//! What a thief of the disk sees: no value, no name, no word of the schema, in no file, at no time;
//! nor SQLite's checksums over them.

use rusqlite::Connection;

use super::support::*;
use crate::crypto::Aead;
use crate::crypto::page::{PageKind, PagePlace, open_header};
use crate::storage::vfs::*;

/// All that lies in the folder, names and contents.
fn everything(fixture: &Fixture) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(fixture.folder.path()).unwrap() {
        let entry = entry.unwrap();
        all.extend_from_slice(entry.file_name().as_encoded_bytes());
        all.extend(std::fs::read(entry.path()).unwrap());
    }
    all
}

fn assert_nothing_readable(fixture: &Fixture, when: &str) {
    let all = everything(fixture);
    let words = [
        "sentinel",
        "secret_table",
        "secret_column",
        "secret_index",
        "CREATE TABLE",
        "CREATE INDEX",
        "PRIMARY",
        "SQLite format",
        "sqlite_",
    ];
    for word in words {
        assert!(!contains(&all, word.as_bytes()), "{word} can be read {when}");
    }
    assert!(!contains(&all, fixture.key.expose()), "the data key can be read {when}");
}

fn work(connection: &Connection) {
    connection.execute_batch("CREATE TABLE secret_table (id INTEGER PRIMARY KEY, secret_column TEXT)").unwrap();
    connection.execute_batch("CREATE INDEX secret_index ON secret_table (secret_column)").unwrap();
    insert(connection, 0..300);
    connection
        .execute_batch("BEGIN IMMEDIATE; UPDATE secret_table SET secret_column = secret_column || 'sentinel'")
        .unwrap();
}

#[test]
fn nothing_is_readable_on_disk_at_any_time() {
    let fixture = Fixture::new();
    let options = OpenOptions { cache_pages: 5, ..OpenOptions::default() };
    let connection = open(&fixture.path, fixture.identity.file, &fixture.key, &options).unwrap();
    work(&connection);
    assert!(std::fs::metadata(fixture.log_path()).unwrap().len() > 500_000, "the transaction spilled");
    assert_nothing_readable(&fixture, "in the middle of a transaction");
    connection.execute_batch("COMMIT").unwrap();
    assert_nothing_readable(&fixture, "after a commit");
    connection.query_row("SELECT count(DISTINCT secret_column) FROM secret_table", [], |_| Ok(())).unwrap();
    assert!(checkpoint(&connection).unwrap().is_complete());
    assert_nothing_readable(&fixture, "after a checkpoint");
    connection.execute_batch("VACUUM").unwrap();
    assert_nothing_readable(&fixture, "after a vacuum");
    drop(connection);
    assert_nothing_readable(&fixture, "after closing");
    let mut names: Vec<_> =
        std::fs::read_dir(fixture.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["items.db", "items.db-wal"], "no journal, no shared memory, no temporary file");
}

/// SQLite's frame checksums cover the page in clear: whoever reads one can check a guess of the page.
#[test]
fn the_logs_checksums_and_salts_are_sealed() {
    let fixture = Fixture::with_rows(3);
    let connection = fixture.open();
    insert(&connection, 3..6);
    let log = std::fs::read(fixture.log_path()).unwrap();
    let aead = Aead::new(&fixture.key);
    let open_at = |kind, position, at: usize, length: usize| {
        let mut sealed = log[at..at + length].to_vec();
        open_header(&aead, &PagePlace { kind, file: fixture.identity.file, position }, &mut sealed).unwrap().to_vec()
    };
    let header = open_at(PageKind::LogHeader, 0, 0, 60);
    assert_eq!(header[..3], [0x37, 0x7f, 0x06], "it is SQLite's log");
    let frame = open_at(PageKind::FrameHeader, 0, 60, 52);
    assert_eq!(frame[8..16], header[16..24], "the frame has the log's salts");
    for secret in [&header[..4], &header[16..20], &header[20..24], &header[24..28], &frame[16..20], &frame[20..24]] {
        assert!(!contains(&log, secret), "can be read: {secret:02x?}");
    }
}

/// The same page written twice gives different bytes, all over.
#[test]
fn equal_pages_look_different() {
    let fixture = Fixture::with_rows(3);
    let connection = fixture.open();
    for _ in 0..2 {
        connection.execute_batch("UPDATE secret_table SET secret_column = secret_column || 'x' WHERE id = 1; UPDATE secret_table SET secret_column = rtrim(secret_column, 'x')").unwrap();
    }
    let log = std::fs::read(fixture.log_path()).unwrap();
    let frames: Vec<&[u8]> = log[60..].chunks_exact(4148).map(|frame| &frame[52..]).collect();
    assert!(frames.len() >= 4);
    let equal = frames[1].iter().zip(frames[3]).filter(|(one, other)| one == other).count();
    assert!(equal < 100, "{equal} of 4096 bytes are equal; chance gives 16");
}

#[test]
fn nothing_secret_is_in_errors() {
    let fixture = Fixture::with_rows(1);
    flip(&fixture.path, 4096 + 8, 1);
    let error = fixture.try_open().unwrap_err();
    let shown = format!("{error} {error:?} {:?}", fixture.key);
    assert!(shown.contains("items.db") && shown.contains("page 1"), "{shown}");
    for secret in [fixture.key.expose(), fixture.kek.expose()] {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!shown.contains(&hex) && !shown.contains(&format!("{secret:?}")));
    }
}
