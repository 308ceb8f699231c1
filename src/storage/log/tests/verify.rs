//! Closed segments, verified while the log is in use: all damage is found, and nothing else is taken for it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::format::{BATCH_HEADER_BYTES, BatchHeader, RECORD_HEADER_BYTES};
use super::super::*;
use super::harness::*;

/// More than a segment has.
const ALL: u64 = 1 << 20;

fn large(index: u64) -> Append<u64> {
    plain(record(1, RecordKind::Entry, index, 900))
}

/// A log in use with five entries of some 900 bytes, whose first segment is closed, and how much of that one is used.
fn one_closed() -> (Harness, Open, usize) {
    let harness = Harness::with_options(LogOptions { segment_bytes: 4096, ..small_options() });
    let open = harness.open();
    (1..=5).for_each(|index| open.write(vec![large(index)]));
    assert_eq!(open.log.closed_segments(), 1..2);
    let last = batches(&harness.disk, 1).pop().unwrap();
    (harness, open, (last.place.offset + last.batch_bytes()) as usize)
}

/// Verifies a segment in pieces of so many bytes, about; how many there were.
fn read(open: &Open, segment: u64, piece: u64) -> Result<u64, LogError> {
    let (mut next, mut bytes) = (Some(0), 0);
    while let Some(offset) = next {
        let found = open.log.verify(segment, offset, piece)?;
        (next, bytes) = (found.next, bytes + found.bytes);
    }
    Ok(bytes)
}

#[test]
fn a_segment_is_read_in_pieces_of_any_length_and_each_byte_once() {
    let (_harness, open, used) = one_closed();
    for piece in [1, 100, 1500, used as u64 - 1, used as u64, ALL] {
        assert_eq!(read(&open, 1, piece).unwrap(), used as u64);
    }
    let first = open.log.verify(1, 0, 1).unwrap();
    assert_eq!(first, Verified { bytes: BATCH_HEADER_BYTES as u64, next: Some(BATCH_HEADER_BYTES as u64) }, "the mark");
}

/// Headers of batches and records, keys, payloads, tags, padding: one bit and all bits of each byte.
#[test]
fn a_flipped_byte_anywhere_in_a_closed_segment_is_found() {
    let (harness, open, used) = one_closed();
    let whole = harness.disk.bytes(&segment_path(1)).unwrap();
    for at in 0..whole.len() {
        for mask in [1 << (at % 8), 0xff_u8] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            harness.disk.set_bytes(&segment_path(1), bytes);
            match read(&open, 1, ALL) {
                Ok(read) => assert!(at >= used && read == used as u64, "byte {at}"),
                Err(error) => {
                    let is_named = matches!(error, LogError::Damaged { segment: 1, .. });
                    assert!(at < used && is_named, "byte {at}: {error}");
                }
            }
        }
    }
    harness.disk.set_bytes(&segment_path(1), whole);
    assert_eq!(read(&open, 1, ALL).unwrap(), used as u64);
}

#[test]
fn a_record_that_was_changed_with_its_checksum_is_found_unless_it_is_void_or_its_key_is_away() {
    let (harness, open, _) = one_closed();
    let batch = batches(&harness.disk, 1)[2].clone();
    assert_eq!(batch.record_count, 1, "the second entry alone");
    let whole = harness.disk.bytes(&segment_path(1)).unwrap();
    let start = batch.place.offset as usize;
    let (body, end) = (start + BATCH_HEADER_BYTES, start + batch.batch_bytes() as usize);
    // The payload, and the tag behind it.
    for at in [RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + 900] {
        let mut bytes = whole.clone();
        bytes[body + at] ^= 1;
        let header = BatchHeader { body_crc: crc32c::crc32c(&bytes[body..end]), ..batch.clone() };
        bytes[start..body].copy_from_slice(&header.encode());
        harness.disk.set_bytes(&segment_path(1), bytes);
        let error = read(&open, 1, ALL).unwrap_err();
        assert!(matches!(error, LogError::RecordForged { segment: 1, index: 2, .. }), "byte {at}: {error}");
    }
    harness.keys.destroy(tenant(1));
    read(&open, 1, ALL).unwrap();
    harness.keys.restore();
    read(&open, 1, ALL).unwrap_err();
    open.write(vec![urgent(record(1, RecordKind::Truncate, 2, 0))]);
    read(&open, 1, ALL).unwrap();
}

#[test]
fn a_log_in_use_is_clean_whatever_is_written_dropped_and_used_again() {
    let harness = Harness::with_options(LogOptions { segment_bytes: 4096, budget_bytes: 16384, ..small_options() });
    let open = harness.open();
    // Segments that went while they were read.
    let met = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut index = 0;
            while index < 200 || met.load(Ordering::Relaxed) == 0 {
                index += 1;
                open.write(vec![large(index)]);
                open.log.set_durable(range(1), index.saturating_sub(5));
                open.log.drop_segments().unwrap();
                assert!(index < 20_000, "no segment goes while it is read");
            }
        });
        while !writing.is_finished() {
            for segment in open.log.closed_segments() {
                let mut next = Some(0);
                while let Some(offset) = next {
                    let found = open.log.verify(segment, offset, 1).unwrap();
                    met.fetch_add(u64::from(found.bytes == 0), Ordering::Relaxed);
                    next = found.next;
                }
            }
        }
        writing.join().unwrap();
    });
    assert!(open.log.stats().segments_dropped > 20, "files were used again");
    let closed: Vec<u64> = open.log.closed_segments().collect();
    assert!(!closed.is_empty() && closed.iter().all(|segment| read(&open, *segment, ALL).unwrap() > 900));
}

#[test]
fn a_segment_that_went_is_no_damage_and_one_that_is_missing_is() {
    let (harness, open, _) = one_closed();
    let whole = harness.disk.bytes(&segment_path(1)).unwrap();
    harness.disk.remove(&segment_path(1)).unwrap();
    assert!(matches!(open.log.verify(1, 0, ALL), Err(LogError::SegmentMissing { segment: 1 })));
    harness.disk.set_bytes(&segment_path(1), whole);
    open.log.set_durable(range(1), 5);
    assert_eq!(open.log.drop_segments().unwrap(), 1);
    assert!(open.log.closed_segments().is_empty());
    assert_eq!(open.log.verify(1, 0, ALL).unwrap(), Verified::default());
}

#[test]
fn a_closed_log_says_nothing_of_files_that_another_one_may_have() {
    let (harness, open, _) = one_closed();
    open.log.close().unwrap();
    harness.disk.set_bytes(&segment_path(1), vec![7; 4096]);
    assert_eq!(open.log.verify(1, 0, ALL).unwrap(), Verified::default());
}

#[test]
fn the_file_of_a_damaged_segment_is_not_written_to_again() {
    for (is_damaged, spares) in [(false, 2), (true, 1)] {
        let (harness, open, _) = one_closed();
        if is_damaged {
            let mut bytes = harness.disk.bytes(&segment_path(1)).unwrap();
            bytes[300] ^= 1;
            harness.disk.set_bytes(&segment_path(1), bytes);
            read(&open, 1, ALL).unwrap_err();
        }
        assert_eq!(open.log.stats().spares, 1);
        open.log.set_durable(range(1), 5);
        assert_eq!(open.log.drop_segments().unwrap(), 1);
        assert_eq!(open.log.stats().spares, spares);
    }
}
