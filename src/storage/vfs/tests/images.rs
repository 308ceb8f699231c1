//! What a power cut leaves: all that was synced, and any subset of the sectors written since. Images
//! are put together from a state before and a state after, sector by sector, and opened.

use std::path::Path;

use proptest::prelude::*;
use rusqlite::Connection;

use super::support::*;
use crate::storage::vfs::*;

const SECTOR: usize = 512;

/// A file of which some sectors of `after` reached the disk, the others are as in `before`. Where only
/// later sectors of a longer file arrived, those in front of them are zero.
fn mix(before: &[u8], after: &[u8], arrived: &[bool]) -> Vec<u8> {
    let mut image = before.to_vec();
    for (index, sector) in after.chunks(SECTOR).enumerate() {
        if arrived[index % arrived.len()] {
            let begin = index * SECTOR;
            image.resize(image.len().max(begin + sector.len()), 0);
            image[begin..begin + sector.len()].copy_from_slice(sector);
        }
    }
    image
}

/// A file in which the log has several commits, some of which change page 1 and make the file longer.
fn with_long_log() -> (Fixture, Connection) {
    let fixture = Fixture::with_rows(20);
    let connection = fixture.open();
    insert(&connection, 20..60);
    connection.execute_batch("CREATE INDEX secret_index ON secret_table (secret_column)").unwrap();
    insert(&connection, 60..90);
    (fixture, connection)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Opens a copy made of these bytes and gives the number of rows, which are whole commits.
fn open_image(fixture: &Fixture, database: &[u8], log: &[u8]) -> usize {
    let path = fixture.folder.path().join("image.db");
    std::fs::write(&path, database).unwrap();
    std::fs::write(with_suffix(&path, "-wal"), log).unwrap();
    let connection = open(&path, fixture.identity.file, &fixture.key, &OpenOptions::default()).unwrap();
    let found = rows(&connection).unwrap();
    assert!(found.iter().copied().eq(0..found.len() as u32));
    assert_eq!(integrity(&connection), "ok");
    drop(connection);
    take_damage(&path);
    found.len()
}

#[test]
fn a_checkpoint_may_be_torn_anywhere() {
    let (fixture, connection) = with_long_log();
    let (database_before, log) = (read(&fixture.path), read(&fixture.log_path()));
    assert!(checkpoint(&connection).unwrap().truncated);
    let database_after = read(&fixture.path);
    assert!(database_after.len() > database_before.len() + 10 * 4096);
    proptest!(ProptestConfig::with_cases(100), |(arrived in prop::collection::vec(any::<bool>(), 700))| {
        // The log was synced before the first page was copied, and is cut only after the last was synced.
        prop_assert_eq!(open_image(&fixture, &mix(&database_before, &database_after, &arrived), &log), 90);
    });
}

#[test]
fn unsynced_commits_are_whole_or_gone() {
    let (fixture, connection) = with_long_log();
    sync_wal(&fixture.path).unwrap();
    let (database, log_before) = (read(&fixture.path), read(&fixture.log_path()));
    for id in 90..100 {
        insert(&connection, id..id + 1);
    }
    let log_after = read(&fixture.log_path());
    let found = std::cell::RefCell::new(std::collections::BTreeSet::new());
    // Mostly whole prefixes, so that cuts in all places are met.
    let arrivals = (0usize..2_000, prop::collection::vec(any::<bool>(), 40));
    proptest!(ProptestConfig::with_cases(100), |((sure, lucky) in arrivals)| {
        let first = log_before.len() / SECTOR;
        let arrived: Vec<bool> = (0..log_after.len().div_ceil(SECTOR))
            .map(|sector| sector < first + sure % 300 || lucky[sector % lucky.len()])
            .collect();
        let count = open_image(&fixture, &database, &mix(&log_before, &log_after, &arrived));
        prop_assert!((90..=100).contains(&count), "{} rows", count);
        found.borrow_mut().insert(count);
    });
    assert!(found.borrow().len() > 3, "cuts in several places were met: {found:?}");
}

/// After everything was copied, the log is begun anew over the old frames: SQLite syncs its new header before it
/// writes a frame. Old frames must never come back over newer pages.
#[test]
fn a_log_may_be_torn_while_it_is_begun_anew() {
    let (fixture, connection) = with_long_log();
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    let (database, log_before) = (read(&fixture.path), read(&fixture.log_path()));
    connection.execute_batch("UPDATE secret_table SET secret_column = lower(upper(secret_column))").unwrap();
    insert(&connection, 90..95);
    let log_after = read(&fixture.log_path());
    assert!(log_after.len() >= log_before.len(), "the log was not cut");
    assert!(log_before[..60] != log_after[..60], "but begun anew");
    for torn in 0..=60 {
        let mut log = log_before.clone();
        log[..torn].copy_from_slice(&log_after[..torn]);
        assert_eq!(open_image(&fixture, &database, &log), 90, "{torn} bytes of the header arrived");
    }
    let with_header = mix(&log_before, &log_after[..60], &[true]);
    proptest!(ProptestConfig::with_cases(50), |(arrived in prop::collection::vec(any::<bool>(), 300))| {
        let count = open_image(&fixture, &database, &mix(&with_header, &log_after, &arrived));
        prop_assert!(count == 90 || count == 95, "{} rows", count);
    });
}
