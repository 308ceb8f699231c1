//! A writer, a checkpointer and readers on connections of their own.

use std::sync::atomic::{AtomicBool, Ordering};

use super::support::*;
use crate::storage::vfs::*;

#[test]
fn scans_and_checkpoints_run_beside_a_writer() {
    let fixture = Fixture::with_rows(50);
    let done = AtomicBool::new(false);
    let (scans, checkpoints) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let connection = fixture.open();
                    let (mut scans, mut seen) = (0, 0);
                    while !done.load(Ordering::Relaxed) || scans == 0 {
                        let found = rows(&connection).unwrap();
                        assert!(found.len() >= seen, "commits do not vanish");
                        assert!(found.iter().copied().eq(0..found.len() as u32), "commits are whole and in order");
                        (scans, seen) = (scans + 1, found.len());
                    }
                    scans
                })
            })
            .collect();
        let checkpointer = scope.spawn(|| {
            let connection = fixture.open();
            let mut emptied = 0;
            while !done.load(Ordering::Relaxed) || emptied == 0 {
                emptied += u32::from(checkpoint(&connection).unwrap().truncated);
            }
            emptied
        });
        let writer = fixture.open();
        for number in 0..100 {
            insert(&writer, 50 + number * 3..53 + number * 3);
            sync_wal(&fixture.path).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let scans: u32 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        (scans, checkpointer.join().unwrap())
    });
    assert!(scans >= 2 && checkpoints >= 1);
    let connection = fixture.open();
    assert_eq!(rows(&connection).unwrap().len(), 350);
    assert_eq!(integrity(&connection), "ok");
    assert_eq!(take_damage(&fixture.path), None);
}

/// Opening and closing the last connection races with opening the next: descriptors, keys and locks
/// must not be lost on the way.
#[test]
fn opening_and_closing_race_without_harm() {
    let fixture = Fixture::with_rows(10);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let connection = fixture.open();
                    assert_eq!(rows(&connection).unwrap().len(), 10);
                    drop(connection);
                    assert_eq!(read_identity(&fixture.path).unwrap(), fixture.identity);
                }
            });
        }
    });
    assert!(counters(&fixture.path).is_none(), "the registry forgot the file");
}
