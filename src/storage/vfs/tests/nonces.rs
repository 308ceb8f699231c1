//! A nonce that comes twice under one key opens both pages. All that a million page writes put on disk are looked at.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::support::*;
use crate::crypto::page::{CONTENT_LENGTH, PAGE_LENGTH};
use crate::storage::vfs::*;

/// Page writes looked at.
const WRITES: u64 = 1_000_000;
/// Pages rewritten in each round.
const ROWS: u32 = 1000;
const FRAME: usize = 52 + PAGE_LENGTH;

fn nonce_at(file: &File, at: usize) -> u128 {
    let mut nonce = [0; 16];
    file.read_exact_at(&mut nonce[..12], at as u64).unwrap();
    u128::from_le_bytes(nonce)
}

#[test]
fn nonces_never_repeat_in_a_million_page_writes() {
    let mut fixture = Fixture::new();
    // In memory, where that can be had: four gigabytes are written.
    if let Ok(folder) = tempfile::tempdir_in("/dev/shm") {
        let path = folder.path().canonicalize().unwrap().join("items.db");
        fixture.key = create_file(&path, &fixture.identity, 1, &kek(1), &*random()).unwrap();
        (fixture.folder, fixture.path) = (folder, path);
    }
    let options = OpenOptions { cache_pages: 4 * ROWS, ..OpenOptions::default() };
    let connection = open(&fixture.path, fixture.identity.file, &fixture.key, &options).unwrap();
    connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB)").unwrap();
    // Opened once: closing one would let go of SQLite's locks.
    let (file, log) = (File::open(&fixture.path).unwrap(), File::open(fixture.log_path()).unwrap());
    let mut of_pages = vec![nonce_at(&file, PAGE_LENGTH + CONTENT_LENGTH)];
    let (mut of_headers, mut before) = (Vec::new(), of_pages.clone());
    let mut round = 0u32;
    loop {
        let statement = if round == 0 {
            format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
                 INSERT INTO t SELECT i, zeroblob(3500) FROM n"
            )
        } else {
            // The same bytes would not be written again.
            format!("UPDATE t SET content = zeroblob(3500 - {})", round % 2)
        };
        connection.execute_batch(&statement).unwrap();
        of_headers.push(nonce_at(&log, 0));
        for frame in (60..log.metadata().unwrap().len() as usize).step_by(FRAME) {
            of_headers.push(nonce_at(&log, frame));
            of_pages.push(nonce_at(&log, frame + 52 + CONTENT_LENGTH));
        }
        assert!(checkpoint(&connection).unwrap().truncated);
        let pages = file.metadata().unwrap().len() as usize / PAGE_LENGTH;
        let now: Vec<_> = (1..pages).map(|page| nonce_at(&file, page * PAGE_LENGTH + CONTENT_LENGTH)).collect();
        let is_new = |(at, nonce): (usize, &u128)| (before.get(at) != Some(nonce)).then_some(*nonce);
        of_pages.extend(now.iter().enumerate().filter_map(is_new));
        before = now;
        round += 1;
        if of_pages.len() as u64 > WRITES {
            break;
        }
    }
    // Page 1 was sealed when the file was made, before there were counters.
    assert_eq!(of_pages.len() as u64, counters(&fixture.path).unwrap().pages_sealed + 1, "each write was looked at");
    let writes = of_pages.len() + of_headers.len();
    let mut all = of_pages;
    all.append(&mut of_headers);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), writes, "a nonce came twice");
}
