//! Rotating the key-encryption key: two slots, two steps, while the file is open.

use super::crash::{child, last_line};
use super::support::*;
use crate::storage::vfs::header::SLOT_OFFSETS;
use crate::storage::vfs::*;

fn step(fixture: &Fixture, old: u8, new: u8, version: u32, phase: RewrapPhase) -> Result<(), VfsError> {
    rewrap(&fixture.path, &kek(old), &kek(new), version, phase, &*random())
}

#[test]
fn keys_rotate_while_the_file_is_served() {
    let fixture = Fixture::with_rows(10);
    let connection = fixture.open();
    let image = std::fs::read(&fixture.path).unwrap();
    step(&fixture, 1, 2, 2, RewrapPhase::AddNew).unwrap();
    assert_eq!(unlock(&fixture.path, &kek(1)).unwrap(), fixture.key);
    assert_eq!(unlock(&fixture.path, &kek(2)).unwrap(), fixture.key);
    assert_eq!(key_versions(&fixture.path).unwrap(), [1, 2]);
    insert(&connection, 10..20);
    step(&fixture, 1, 2, 2, RewrapPhase::DropOld).unwrap();
    assert!(matches!(unlock(&fixture.path, &kek(1)), Err(VfsError::WrongKey { .. })));
    assert_eq!(unlock(&fixture.path, &kek(2)).unwrap(), fixture.key);
    assert_eq!(key_versions(&fixture.path).unwrap(), [2]);
    step(&fixture, 2, 3, 3, RewrapPhase::AddNew).unwrap();
    assert_eq!(key_versions(&fixture.path).unwrap(), [3, 2], "the freed slot is used");
    assert_eq!(rows(&connection).unwrap().len(), 20);
    assert_eq!(std::fs::read(&fixture.path).unwrap()[4096..], image[4096..], "no page was written");
}

#[test]
fn each_step_may_be_repeated_and_none_skipped() {
    let fixture = Fixture::new();
    assert!(
        matches!(step(&fixture, 1, 2, 2, RewrapPhase::DropOld), Err(VfsError::WrongKey { .. })),
        "the new slot is missing"
    );
    assert!(matches!(step(&fixture, 7, 2, 2, RewrapPhase::AddNew), Err(VfsError::WrongKey { .. })));
    for _ in 0..2 {
        step(&fixture, 1, 2, 2, RewrapPhase::AddNew).unwrap();
    }
    assert!(matches!(step(&fixture, 1, 3, 3, RewrapPhase::AddNew), Err(VfsError::RotationPending { .. })));
    for _ in 0..2 {
        step(&fixture, 1, 2, 2, RewrapPhase::DropOld).unwrap();
    }
    assert_eq!(key_versions(&fixture.path).unwrap(), [2]);
}

/// A crash tears the slot that is being written: the other one still opens, and the step is repeated.
#[test]
fn a_torn_slot_does_no_harm() {
    let fixture = Fixture::with_rows(3);
    step(&fixture, 1, 2, 2, RewrapPhase::AddNew).unwrap();
    flip(&fixture.path, SLOT_OFFSETS[1] as u64 + 20, 0xFF);
    assert!(matches!(unlock(&fixture.path, &kek(2)), Err(VfsError::WrongKey { .. })));
    assert_eq!(unlock(&fixture.path, &kek(1)).unwrap(), fixture.key);
    step(&fixture, 1, 2, 2, RewrapPhase::AddNew).unwrap();
    assert_eq!(unlock(&fixture.path, &kek(2)).unwrap(), fixture.key);
}

/// POSIX locks go when any descriptor of the file is closed: reading the header of an open file, or
/// rotating its key, must not let another process in.
#[test]
fn other_processes_stay_out_also_after_a_rotation() {
    let fixture = Fixture::with_rows(3);
    let connection = fixture.open();
    assert_eq!(rows(&connection).unwrap().len(), 3);
    assert_eq!(last_line(child("open", &fixture)), "refused");
    read_identity(&fixture.path).unwrap();
    unlock(&fixture.path, &fixture.kek).unwrap();
    step(&fixture, 1, 2, 2, RewrapPhase::AddNew).unwrap();
    drop(fixture.open());
    assert_eq!(last_line(child("open", &fixture)), "refused");
    drop(connection);
    assert_eq!(last_line(child("open", &fixture)), "opened");
}
