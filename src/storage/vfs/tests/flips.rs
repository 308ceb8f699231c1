//! Every byte of a small database and of its log is changed, once in one bit and once in all: an
//! error that names the place, or nothing changed, or (in the log) fewer commits and a notice.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::support::*;
use crate::storage::vfs::header::{SLOT_LENGTH, SLOT_OFFSETS};
use crate::storage::vfs::*;

/// Calls `check` with every position of the file, while the byte there is changed; `check` must leave the file alone.
fn with_every_flip(path: &std::path::Path, mut check: impl FnMut(u64)) {
    let image = std::fs::read(path).unwrap();
    for (position, byte) in image.iter().enumerate() {
        let flip = if position % 2 == 0 { 1 << (position / 2 % 8) } else { 0xFF };
        // A descriptor of our own is opened only while nobody else has the file open.
        let write = |byte: u8| {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&[byte], position as u64).unwrap();
        };
        write(byte ^ flip);
        check(position as u64);
        write(*byte);
    }
    assert!(std::fs::read(path).unwrap() == image, "nothing was written meanwhile");
}

fn unlock_and_read(fixture: &Fixture) -> Result<(Vec<u32>, Option<Damage>), VfsError> {
    let key = unlock(&fixture.path, &fixture.kek)?;
    let connection = open(&fixture.path, fixture.identity.file, &key, &OpenOptions::default())?;
    let found = rows(&connection).map_err(|error| explain(&fixture.path, error))?;
    pages(&connection);
    match take_damage(&fixture.path) {
        Some(damage) if damage.kind != DamageKind::LogCut => Err(damage.into()),
        cut => Ok((found, cut)),
    }
}

#[test]
fn every_byte_of_a_database_is_checked() {
    let fixture = Fixture::with_rows(3);
    assert_eq!(unlock_and_read(&fixture).unwrap(), (vec![0, 1, 2], None));
    let spare = SLOT_OFFSETS[1] as u64..(SLOT_OFFSETS[1] + SLOT_LENGTH) as u64;
    with_every_flip(&fixture.path, |position| match unlock_and_read(&fixture) {
        Ok(found) => {
            assert!(spare.contains(&position), "byte {position} was changed unnoticed");
            assert_eq!(found, (vec![0, 1, 2], None));
        }
        Err(VfsError::Damaged(damage)) => {
            assert_eq!((damage.page, damage.kind), (position / 4096, DamageKind::Page), "byte {position}");
            assert_eq!(damage.file, fixture.path);
        }
        Err(error) => {
            assert!(position < 4096, "byte {position}: {error}");
            assert!(
                matches!(error, VfsError::HeaderDamaged { .. } | VfsError::NotDstore { .. }),
                "byte {position}: {error:?}"
            );
            assert!(error.to_string().contains("items.db"));
        }
    });
}

#[test]
fn every_byte_of_a_log_is_checked() {
    let fixture = Fixture::with_rows(3);
    let connection = fixture.open();
    for id in 3..6 {
        insert(&connection, id..id + 1);
    }
    drop(connection);
    let commits = (std::fs::metadata(fixture.log_path()).unwrap().len() - 60) / 4148;
    assert_eq!(commits, 3, "a frame for each");
    with_every_flip(&fixture.log_path(), |position| {
        let frame = position.saturating_sub(60) / 4148;
        let (found, cut) = unlock_and_read(&fixture).unwrap();
        assert_eq!(found, (0..3 + frame as u32).collect::<Vec<_>>(), "byte {position}: the commits before");
        let damage = cut.expect("the cut is noted");
        assert_eq!((damage.page, damage.kind), (frame, DamageKind::LogCut), "byte {position}");
    });
}

/// A log may end anywhere after a crash.
#[test]
fn every_length_of_a_log_gives_the_commits_before() {
    let fixture = Fixture::with_rows(3);
    let connection = fixture.open();
    for id in 3..6 {
        insert(&connection, id..id + 1);
    }
    drop(connection);
    let image = std::fs::read(fixture.log_path()).unwrap();
    for length in (0..image.len()).step_by(61).chain([59, 60, 61, 60 + 4147, 60 + 4148, image.len()]) {
        std::fs::write(fixture.log_path(), &image[..length]).unwrap();
        let whole = length.saturating_sub(60) / 4148;
        assert_eq!(unlock_and_read(&fixture).unwrap().0.len(), 3 + whole, "{length} bytes");
    }
}
