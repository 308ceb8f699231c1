//! Scrubbing: every flipped byte of a page is found, and nothing else is.

use std::os::unix::fs::FileExt;

use super::super::scrub::{Scrubbed, damaged_pages, scrub};
use super::support::*;
use crate::storage::vfs::*;

fn all(fixture: &Fixture) -> Scrubbed {
    scrub(&fixture.path, fixture.identity.file, &fixture.key, 1, u64::MAX - 1).unwrap()
}

fn page_count(fixture: &Fixture) -> u64 {
    std::fs::metadata(&fixture.path).unwrap().len() / 4096 - 1
}

#[test]
fn a_file_is_read_in_steps_of_any_length_and_each_page_once() {
    let fixture = Fixture::with_rows(200);
    let count = page_count(&fixture);
    assert!(count > 20);
    for step in [1, 7, count - 1, count, count + 1] {
        let (mut next, mut pages, mut steps) = (Some(1), 0, 0);
        while let Some(first) = next {
            let found = scrub(&fixture.path, fixture.identity.file, &fixture.key, first, step).unwrap();
            assert!(found.suspects.is_empty() && found.pages <= step);
            (next, pages, steps) = (found.next, pages + found.pages, steps + 1);
        }
        assert_eq!((pages, steps), (count, count.div_ceil(step)));
    }
}

#[test]
fn a_flipped_byte_anywhere_in_a_page_is_found_and_no_other_page_is_blamed() {
    let fixture = Fixture::with_rows(50);
    for (page, position) in [(1, 0), (2, 100), (5, 4063), (6, 4064), (7, 4075), (8, 4091), (3, 4095)] {
        flip(&fixture.path, page * 4096 + position, 0x10);
        assert_eq!(all(&fixture).suspects, [page], "byte {position} of page {page}");
        flip(&fixture.path, page * 4096 + position, 0x10);
    }
    assert!(all(&fixture).suspects.is_empty());
}

#[test]
fn what_a_file_lacks_at_its_end_is_damage_and_what_it_has_beyond_is_not() {
    let fixture = Fixture::with_rows(50);
    let connection = fixture.open();
    let count = page_count(&fixture);
    let file = std::fs::File::options().write(true).open(&fixture.path).unwrap();
    file.write_all_at(&[7; 4096], (count + 1) * 4096).unwrap();
    let found = all(&fixture);
    assert_eq!((found.pages, found.suspects.clone()), (count + 1, vec![count + 1]));
    assert_eq!(damaged_pages(&fixture.path, &found.suspects).unwrap(), [0u64; 0]);
    file.set_len(count * 4096).unwrap();
    assert!(all(&fixture).suspects.is_empty(), "it looks whole");
    assert_eq!(damaged_pages(&fixture.path, &[]).unwrap(), [count]);
    drop(connection);
}

#[test]
fn a_file_in_use_is_read_without_closing_the_locks_of_those_who_use_it() {
    let fixture = Fixture::with_rows(50);
    let connection = fixture.open();
    connection.execute("UPDATE secret_table SET secret_column = upper(secret_column) WHERE id = 7", []).unwrap();
    assert!(all(&fixture).suspects.is_empty());
    assert!(checkpoint(&connection).unwrap().is_complete());
    assert!(all(&fixture).suspects.is_empty());
    assert_eq!(integrity(&connection), "ok");
    drop(connection);
    assert_eq!(counters(&fixture.path), None, "nothing is left open");
}

#[test]
fn the_header_block_of_an_open_file_is_looked_at_where_it_is_asked_for() {
    let fixture = Fixture::with_rows(5);
    let connection = fixture.open();
    let look = |first| scrub(&fixture.path, fixture.identity.file, &fixture.key, first, 3);
    assert_eq!(look(0).unwrap(), look(1).unwrap());
    // What it begins with, whose file it is, and the wrapped key.
    for position in [3, 90, 1024, 1040, 1535] {
        flip(&fixture.path, position, 0x10);
        let found = look(0);
        let is_told = matches!(found, Err(VfsError::NotDstore { .. } | VfsError::HeaderDamaged { .. }));
        assert!(is_told, "byte {position}: {found:?}");
        assert!(look(1).unwrap().suspects.is_empty());
        flip(&fixture.path, position, 0x10);
    }
    assert_eq!(look(0).unwrap(), look(1).unwrap());
    drop(connection);
}

#[test]
fn another_file_in_its_place_is_no_page_of_it() {
    let (one, other) = (Fixture::with_rows(5), Fixture::with_rows(7));
    std::fs::copy(&other.path, &one.path).unwrap();
    let found = scrub(&one.path, one.identity.file, &one.key, 1, 10);
    assert!(matches!(found, Err(VfsError::Swapped { .. })), "{found:?}");
}
