//! Swapped, foreign, shortened, and damaged in the middle: each its own clear error.

use std::os::unix::fs::FileExt;

use super::support::*;
use crate::storage::vfs::*;

fn read_at(path: &std::path::Path, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    std::fs::File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

fn write_at(path: &std::path::Path, offset: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// Reads every page; the damage that this meets.
fn damage_of(fixture: &Fixture) -> Damage {
    match fixture.try_open() {
        Err(VfsError::Damaged(damage)) => damage,
        Err(other) => panic!("{other:?}"),
        Ok(connection) => {
            pages(&connection);
            take_damage(&fixture.path).expect("the page is named")
        }
    }
}

#[test]
fn swapped_pages_are_named() {
    let fixture = Fixture::with_rows(50);
    let (third, fourth) = (read_at(&fixture.path, 3 * 4096, 4096), read_at(&fixture.path, 4 * 4096, 4096));
    write_at(&fixture.path, 3 * 4096, &fourth);
    write_at(&fixture.path, 4 * 4096, &third);
    let damage = damage_of(&fixture);
    assert_eq!((damage.page, damage.kind, &damage.file), (3, DamageKind::Page, &fixture.path));
}

#[test]
fn a_page_of_the_log_does_not_pass_for_one_of_the_database() {
    let fixture = Fixture::with_rows(50);
    let connection = fixture.open();
    connection.execute("UPDATE secret_table SET secret_column = upper(secret_column) WHERE id = 49", []).unwrap();
    drop(connection);
    let frame = read_at(&fixture.log_path(), 112, 4096);
    let last = std::fs::metadata(&fixture.path).unwrap().len() - 4096;
    write_at(&fixture.path, last, &frame);
    std::fs::remove_file(fixture.log_path()).unwrap();
    assert_eq!(damage_of(&fixture).page, last / 4096);
}

#[test]
fn swapped_files_say_who_they_are() {
    let (one, other) = (Fixture::with_rows(5), Fixture::with_rows(7));
    std::fs::copy(&other.path, &one.path).unwrap();
    match one.try_open() {
        Err(VfsError::Swapped { expected, found, .. }) => {
            assert_eq!((expected, found), (one.identity.file, other.identity.file))
        }
        result => panic!("{result:?}"),
    }
    // A page of another file at its own place.
    let (one, other) = (Fixture::with_rows(50), Fixture::with_rows(50));
    write_at(&one.path, 3 * 4096, &read_at(&other.path, 3 * 4096, 4096));
    assert_eq!(damage_of(&one).page, 3);
}

/// Another file's log is like no log: it is noted, and the database stays as it is.
#[test]
fn another_files_log_is_not_read() {
    let (one, other) = (Fixture::with_rows(5), Fixture::with_rows(5));
    insert(&other.open(), 5..9);
    std::fs::copy(other.log_path(), one.log_path()).unwrap();
    let connection = one.open();
    assert_eq!(rows(&connection).unwrap().len(), 5);
    let damage = take_damage(&one.path).unwrap();
    assert_eq!((damage.page, damage.kind), (0, DamageKind::LogCut));
}

#[test]
fn truncated_files_say_so() {
    let fixture = Fixture::with_rows(100);
    let image = std::fs::read(&fixture.path).unwrap();
    for length in [0, 1, 7, 8, 100, 4095, 4096, 8191, 8192, image.len() - 5000, image.len() - 4096, image.len() - 1] {
        std::fs::write(&fixture.path, &image[..length]).unwrap();
        match fixture.try_open() {
            Err(VfsError::Truncated { found, .. }) => assert_eq!(found, length as u64),
            result => panic!("{length} bytes: {result:?}"),
        }
    }
    std::fs::write(&fixture.path, &image).unwrap();
    assert_eq!(rows(&fixture.open()).unwrap().len(), 100);
}

#[test]
fn a_file_cut_while_it_is_open_is_an_error_not_zeroes() {
    let fixture = Fixture::with_rows(100);
    let connection = fixture.open();
    std::fs::File::options().write(true).open(&fixture.path).unwrap().set_len(5 * 4096).unwrap();
    let error = explain(&fixture.path, rows(&connection).unwrap_err());
    assert!(matches!(error, VfsError::Damaged(_) | VfsError::Truncated { .. }), "{error:?}");
}

#[test]
fn a_wrong_key_is_found_before_opening() {
    let fixture = Fixture::with_rows(5);
    assert!(matches!(unlock(&fixture.path, &kek(2)), Err(VfsError::WrongKey { .. })));
    assert_eq!(unlock(&fixture.path, &kek(1)).unwrap(), fixture.key);
    let result = open(&fixture.path, fixture.identity.file, &kek(2), &OpenOptions::default());
    assert!(matches!(result, Err(VfsError::Damaged(Damage { page: 1, kind: DamageKind::Page, .. }))));
}

#[test]
fn strange_and_newer_files_are_told_apart() {
    let fixture = Fixture::new();
    let image = std::fs::read(&fixture.path).unwrap();
    std::fs::write(&fixture.path, b"just a text, but a long one. ".repeat(500)).unwrap();
    assert!(matches!(fixture.try_open(), Err(VfsError::NotDstore { .. })));
    assert!(matches!(unlock(&fixture.path, &kek(1)), Err(VfsError::NotDstore { .. })));
    let mut newer = image;
    newer[8] = 2;
    let checksum = crc32c::crc32c(&newer[..508]);
    newer[508..512].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&fixture.path, newer).unwrap();
    assert!(matches!(read_identity(&fixture.path), Err(VfsError::NewerFormat { found: 2, known: 1, .. })));
}

/// Recovery must be able to end a log anywhere; a read of the same frame at any other time must fail.
#[test]
fn a_damaged_frame_is_an_error_while_the_file_is_open() {
    let fixture = Fixture::with_rows(5);
    let writer = fixture.open();
    insert(&writer, 5..6);
    insert(&writer, 6..60);
    // Frames 1 and 2 are page 1 and the pointer map; frame 3 is the table's root, which every scan reads.
    write_at(&fixture.log_path(), 112 + 4148 * 3 + 100, &[1, 2, 3, 4]);
    let reader = fixture.open();
    let error = explain(&fixture.path, rows(&reader).unwrap_err());
    match error {
        VfsError::Damaged(damage) => assert_eq!((damage.page, damage.kind), (3, DamageKind::Frame)),
        other => panic!("{other:?}"),
    }
    drop((writer, reader));
    // After reopening, the log ends before the damage, and that is said.
    let connection = fixture.open();
    assert_eq!(rows(&connection).unwrap().len(), 6);
    let damage = take_damage(&fixture.path).unwrap();
    assert_eq!((damage.page, damage.kind), (3, DamageKind::LogCut));
}

/// A checkpoint stops at the damage, having copied newer pages; then the log is cut below them.
#[test]
fn a_log_cut_below_copied_pages_is_an_error() {
    let fixture = Fixture::with_rows(5);
    let writer = fixture.open();
    insert(&writer, 5..6);
    insert(&writer, 6..60);
    write_at(&fixture.log_path(), 112 + 4148 * 3 + 100, &[1, 2, 3, 4]);
    assert!(checkpoint(&writer).is_err(), "damage is not copied");
    drop(writer);
    assert_eq!(take_damage(&fixture.path).unwrap().kind, DamageKind::Frame);
    match fixture.try_open() {
        Err(VfsError::Damaged(damage)) => assert_eq!((damage.page, damage.kind), (3, DamageKind::LogCut)),
        other => panic!("{other:?}"),
    }
}
