//! Creation, settings, several connections, checkpoints, vacuum, counters.

use super::support::*;
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
    for (pragma, expected) in [
        ("journal_mode", "wal"),
        ("synchronous", "1"),
        ("page_size", "4096"),
        ("auto_vacuum", "2"),
        ("temp_store", "2"),
        ("wal_autocheckpoint", "0"),
        ("cell_size_check", "1"),
        ("cache_size", "256"),
    ] {
        let found: String = connection
            .query_row(&format!("PRAGMA {pragma}"), [], |row| {
                row.get::<_, rusqlite::types::Value>(0).map(|value| match value {
                    rusqlite::types::Value::Integer(number) => number.to_string(),
                    rusqlite::types::Value::Text(text) => text,
                    other => format!("{other:?}"),
                })
            })
            .unwrap();
        assert_eq!(found, expected, "{pragma}");
    }
}
