//! Creation, settings, several connections, checkpoints, vacuum, counters.

use rusqlite::types::Value;

use super::support::*;
use crate::storage::vfs::connection::check_version;
use crate::storage::vfs::*;

#[test]
fn rows_come_back_through_checkpoint_and_reopening() {
    let fixture = Fixture::with_rows(200);
    let connection = fixture.open();
    assert_eq!(rows(&connection).unwrap().len(), 200);
    insert(&connection, 200..300);
    drop(connection);
    assert_eq!(rows(&fixture.open()).unwrap().len(), 300, "commits in the log are found again");
    assert_eq!(integrity(&fixture.open()), "ok");
}

#[test]
fn every_connection_has_the_settings() {
    let fixture = Fixture::with_rows(1);
    let connection = fixture.open();
    let settings = [
        ("journal_mode", Value::Text("wal".into())),
        ("synchronous", Value::Integer(1)),
        ("page_size", Value::Integer(4096)),
        ("auto_vacuum", Value::Integer(2)),
        ("temp_store", Value::Integer(2)),
        ("wal_autocheckpoint", Value::Integer(0)),
        ("cell_size_check", Value::Integer(1)),
        ("cache_size", Value::Integer(256)),
    ];
    for (pragma, expected) in settings {
        let found: Value = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap();
        assert_eq!(found, expected, "{pragma}");
    }
    let options = OpenOptions { read_only: true, synchronous_full: true, cache_pages: 7, busy_timeout_ms: 77 };
    let reader = open(&fixture.path, fixture.identity.file, &fixture.key, &options).unwrap();
    assert_eq!(reader.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    assert_eq!(reader.query_row("PRAGMA busy_timeout", [], |row| row.get::<_, i64>(0)).unwrap(), 77);
    assert!(reader.execute("DELETE FROM secret_table", []).is_err(), "read-only");
    assert_eq!(rows(&reader).unwrap(), [0]);
}

#[test]
fn creation_is_whole_and_never_over_something() {
    let fixture = Fixture::new();
    assert_eq!(std::fs::metadata(&fixture.path).unwrap().len(), 8192, "header block and page 1");
    assert_eq!(read_identity(&fixture.path).unwrap(), fixture.identity);
    assert_eq!(key_versions(&fixture.path).unwrap(), [1]);
    let again = create_file(&fixture.path, &fixture.identity, 1, &fixture.kek, &*random());
    assert!(matches!(again, Err(VfsError::Exists { .. })));
    let names: Vec<_> =
        std::fs::read_dir(fixture.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["items.db"], "nothing is left beside it");
}

/// A crash in the middle of creation, or an older file, leaves things behind; they do no harm.
#[test]
fn leftovers_of_another_file_are_removed_at_creation() {
    let fixture = Fixture::with_rows(1);
    insert(&fixture.open(), 1..5);
    std::fs::rename(&fixture.path, with_suffix(&fixture.path, ".new")).unwrap();
    let key = create_file(&fixture.path, &fixture.identity, 1, &fixture.kek, &*random()).unwrap();
    let connection = open(&fixture.path, fixture.identity.file, &key, &OpenOptions::default()).unwrap();
    assert!(rows(&connection).is_err(), "no such table: the file is new");
    assert!(take_damage(&fixture.path).is_none());
}

#[test]
fn vacuum_and_incremental_vacuum_work() {
    let fixture = Fixture::with_rows(1_000);
    let connection = fixture.open();
    connection.execute("DELETE FROM secret_table WHERE id >= 100", []).unwrap();
    connection.execute_batch("PRAGMA incremental_vacuum(50)").unwrap();
    assert!(checkpoint(&connection).unwrap().truncated);
    let before = std::fs::metadata(&fixture.path).unwrap().len();
    connection.execute_batch("VACUUM").unwrap();
    assert!(checkpoint(&connection).unwrap().truncated);
    let after = std::fs::metadata(&fixture.path).unwrap().len();
    assert!(after * 3 < before, "{after} of {before} bytes remain");
    assert_eq!(rows(&connection).unwrap().len(), 100);
    assert_eq!(integrity(&connection), "ok");
    drop(connection);
    assert_eq!(rows(&fixture.open()).unwrap().len(), 100);
}

#[test]
fn large_values_sorts_and_savepoints_work_with_a_tiny_cache() {
    let fixture = Fixture::with_rows(500);
    let options = OpenOptions { cache_pages: 5, ..OpenOptions::default() };
    let connection = open(&fixture.path, fixture.identity.file, &fixture.key, &options).unwrap();
    let large = "x".repeat(100_000);
    connection.execute("INSERT INTO secret_table VALUES (1000, ?1)", [&large]).unwrap();
    connection.execute_batch("CREATE INDEX by_text ON secret_table (secret_column, id)").unwrap();
    connection
        .execute_batch("BEGIN; SAVEPOINT s; DELETE FROM secret_table WHERE id < 400; ROLLBACK TO s; COMMIT")
        .unwrap();
    let found: String =
        connection.query_row("SELECT secret_column FROM secret_table WHERE id = 1000", [], |row| row.get(0)).unwrap();
    assert_eq!(found, large);
    let sorted: Vec<i64> = connection
        .prepare("SELECT a.id FROM secret_table a JOIN secret_table b ON b.id = a.id + 1 ORDER BY length(a.secret_column) + random() % 2, a.id DESC")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(sorted.len(), 499);
    assert_eq!(integrity(&connection), "ok");
}

#[test]
fn counters_pin_what_a_commit_and_a_checkpoint_cost() {
    let fixture = Fixture::with_rows(1);
    let connection = fixture.open();
    let before = counters(&fixture.path).unwrap();
    connection.execute("INSERT INTO secret_table VALUES (1, ?1)", [text(1)]).unwrap();
    let committed = counters(&fixture.path).unwrap();
    assert_eq!(committed.pages_sealed - before.pages_sealed, 1, "one leaf");
    // The first commit after a reset syncs the log's new header, see SQLite's walFrames.
    assert_eq!(committed.log_syncs - before.log_syncs, 1);
    connection.execute("INSERT INTO secret_table VALUES (2, ?1)", [text(2)]).unwrap();
    let second = counters(&fixture.path).unwrap();
    assert_eq!((second.pages_sealed - committed.pages_sealed, second.log_syncs - committed.log_syncs), (1, 0));
    sync_wal(&fixture.path).unwrap();
    assert_eq!(counters(&fixture.path).unwrap().log_syncs - second.log_syncs, 1);
    let result = checkpoint(&connection).unwrap();
    assert_eq!(result, CheckpointResult { log_frames: 2, copied_frames: 2, truncated: true });
    let after = counters(&fixture.path).unwrap();
    assert_eq!(after.pages_sealed - second.pages_sealed, 1, "the same leaf twice in the log is written once");
    assert_eq!(after.database_syncs - second.database_syncs, 1);
    assert_eq!(std::fs::metadata(fixture.log_path()).unwrap().len(), 0);
    assert!(counters_total().pages_sealed >= after.pages_sealed);
    drop(connection);
    assert!(counters(&fixture.path).is_none());
    assert!(matches!(sync_wal(&fixture.path), Err(VfsError::NotOpen { .. })));
}

#[test]
fn a_checkpoint_says_what_a_reader_holds_back() {
    let fixture = Fixture::with_rows(10);
    let (writer, reader) = (fixture.open(), fixture.open());
    insert(&writer, 10..11);
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(rows(&reader).unwrap().len(), 11);
    insert(&writer, 11..40);
    let held = checkpoint(&writer).unwrap();
    assert!(!held.is_complete() && !held.truncated, "{held:?}");
    assert_eq!(rows(&reader).unwrap().len(), 11, "the reader's snapshot stands");
    reader.execute_batch("COMMIT").unwrap();
    assert!(checkpoint(&writer).unwrap().truncated);
    assert_eq!(rows(&reader).unwrap().len(), 40);
}

#[test]
fn sqlite_before_3_51_3_is_refused() {
    assert!(matches!(check_version(3_051_002), Err(VfsError::SqliteTooOld { found: 3_051_002 })));
    check_version(3_051_003).unwrap();
    check_version(rusqlite::version_number()).unwrap();
}
