//! Damage and torn tails: what was synced is never cut silently, what was not is dropped with a notice.

use std::path::Path;

use super::super::disk_simulated::SimulatedDisk;
use super::super::format::{BATCH_HEADER_BYTES, BatchHeader, RECORD_HEADER_BYTES};
use super::super::*;
use super::harness::*;
use crate::domain::ids::LogId;

fn change(harness: &Harness, path: &Path, action: impl FnOnce(&mut Vec<u8>)) -> Harness {
    let disk = harness.disk.fork();
    let mut bytes = disk.bytes(path).unwrap();
    action(&mut bytes);
    disk.set_bytes(path, bytes);
    harness.on(disk)
}

fn flip(harness: &Harness, segment: u64, at: usize, mask: u8) -> Harness {
    change(harness, &segment_path(segment), |bytes| bytes[at] ^= mask)
}

/// A log over two segments with five batches of entries of range 1, closed in order.
fn two_segments() -> Harness {
    let harness = Harness::with_options(LogOptions { segment_bytes: 4096, group_bytes_max: 4096, ..small_options() });
    let open = harness.open();
    for index in 1..=5 {
        open.write(vec![plain(record(1, RecordKind::Entry, index, 900))]);
    }
    open.log.close().unwrap();
    assert!(harness.disk.bytes(&segment_path(2)).is_some());
    harness
}

#[test]
fn a_flipped_bit_in_the_middle_is_an_error_naming_segment_offset_and_record() {
    let harness = two_segments();
    let third = &batches(&harness.disk, 1)[2];
    assert_eq!(third.record_count, 1, "the second entry alone; the mark and the first entry with its key come before");
    let offset = third.place.offset;
    let payload_at = offset as usize + BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + 10;
    for at in [offset as usize + 3, offset as usize + 90, payload_at] {
        let error = flip(&harness, 1, at, 0x10).refused();
        let LogError::Damaged { segment: 1, offset: found, first_lost, .. } = &error else { panic!("{error}") };
        assert_eq!(*found, offset);
        assert_eq!(*first_lost, FirstLost::Record { range: range(1), index: 2 });
        assert!(error.to_string().contains("index 2 of range 01010101"), "{error}");
    }
}

/// Every byte of every segment, one bit and all bits. What is allowed depends on where the byte stands.
#[test]
fn every_flipped_byte_is_an_error_or_in_the_last_batch_or_in_unused_space() {
    let harness = two_segments();
    let last = batches(&harness.disk, 2).pop().unwrap();
    let (mark_at, mark_end) = (last.place.offset as usize, (last.place.offset + last.batch_bytes()) as usize);
    let mut errors = 0;
    for segment in [1, 2] {
        // A segment ends with its end batch; what follows in the file is never read.
        let used = batches(&harness.disk, segment).last().map(|header| header.place.offset + header.batch_bytes());
        for at in 0..4096 {
            for mask in [1 << (at % 8), 0xff] {
                let flipped = flip(&harness, segment, at, mask);
                let is_unused = at >= used.unwrap() as usize;
                let is_in_mark = segment == 2 && (mark_at..mark_end).contains(&at);
                match flipped.try_open() {
                    Ok(open) => {
                        assert!(is_unused || is_in_mark, "byte {at} of segment {segment}");
                        assert_eq!(open.seen.indexes(range(1)), [1, 2, 3, 4, 5]);
                        // Right behind the last batch 96 zeros are part of what was written.
                        let is_watched = segment == 2 && (mark_at..mark_end + BATCH_HEADER_BYTES).contains(&at);
                        assert_eq!(matches!(open.summary.end, LogEnd::Torn { .. }), is_watched, "byte {at}");
                    }
                    Err(LogError::Damaged { segment: found, .. }) => {
                        errors += 1;
                        assert_eq!(found, segment);
                        assert!(!is_unused && !is_in_mark, "byte {at} of segment {segment}");
                    }
                    Err(error) => panic!("byte {at} of segment {segment}: {error}"),
                }
            }
        }
    }
    assert!(errors > 10_000, "{errors}");
}

/// The same where the log was not closed: only the last group can be taken for torn.
#[test]
fn a_flip_in_an_unmarked_last_group_is_a_torn_tail_that_names_what_is_lost() {
    let harness = Harness::new();
    let open = harness.open();
    open.write(vec![entry(1, 1)]);
    open.write(vec![entry(2, 8), entry(1, 2), entry(1, 3)]);
    let crashed = harness.on(harness.disk.fork());
    let last = batches(&crashed.disk, 1).pop().unwrap();
    for at in last.place.offset..last.place.offset + last.batch_bytes() {
        let again = flip(&crashed, 1, at as usize, 4).open();
        assert_eq!(again.seen.indexes(range(1)), [1]);
        let LogEnd::Torn { segment: 1, offset, lost } = &again.summary.end else { panic!("{:?}", again.summary) };
        assert_eq!(*offset, last.place.offset);
        let is_in_payload = at >= last.place.offset + last.batch_bytes() - 100;
        if is_in_payload || at < last.place.offset + BATCH_HEADER_BYTES as u64 {
            assert_eq!(*lost, [(range(1), 2), (range(2), 8)], "byte {at}");
        }
    }
}

#[test]
fn a_torn_tail_is_overwritten_and_stays_gone() {
    let harness = Harness::new();
    let open = harness.open();
    open.write(vec![entry(1, 1)]);
    open.write(vec![entry(1, 2)]);
    let crashed = harness.on(harness.disk.fork());
    let last = batches(&crashed.disk, 1).pop().unwrap();
    let torn = flip(&crashed, 1, last.place.offset as usize + 120, 1);
    let again = torn.open();
    assert_eq!(again.seen.indexes(range(1)), [1]);
    again.write(vec![entry(1, 2), entry(1, 3)]);
    again.log.close().unwrap();
    let last = torn.open();
    assert_eq!(last.seen.indexes(range(1)), [1, 2, 3]);
    assert_eq!(last.summary.end, LogEnd::Marked);
}

#[test]
fn an_idle_log_is_marked_once_and_a_clean_stop_is_marked() {
    let harness = Harness::with_options(LogOptions { idle_mark_ms: 1, ..small_options() });
    let open = harness.open();
    open.write(vec![entry(1, 1)]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while open.log.stats().marks < 2 {
        assert!(std::time::Instant::now() < deadline, "no mark");
        std::thread::yield_now();
    }
    let crashed = harness.on(harness.disk.fork());
    let last_entry = &batches(&crashed.disk, 1)[1];
    assert!(matches!(flip(&crashed, 1, last_entry.place.offset as usize + 100, 1).refused(), LogError::Damaged { .. }));
    assert_eq!(crashed.open().summary.end, LogEnd::Marked);
    open.log.close().unwrap();
    assert_eq!(open.log.stats().marks, 3, "at the start, when idle, at the end");
    assert_eq!(harness.open().summary.end, LogEnd::Marked);
    let unmarked = Harness::new();
    let open = unmarked.open();
    open.write(vec![entry(1, 1)]);
    assert_eq!(unmarked.on(unmarked.disk.fork()).open().summary.end, LogEnd::Unmarked);
}

#[test]
fn zeros_where_a_synced_batch_was_are_damage() {
    let harness = two_segments();
    let third = batches(&harness.disk, 1)[2].clone();
    let range = third.place.offset as usize..(third.place.offset + third.batch_bytes()) as usize;
    let error = change(&harness, &segment_path(1), |bytes| bytes[range].fill(0)).refused();
    assert!(matches!(error, LogError::Damaged { segment: 1, offset, .. } if offset == third.place.offset), "{error}");
    let error = change(&harness, &segment_path(2), |bytes| bytes.fill(0)).refused();
    assert!(matches!(error, LogError::Damaged { segment: 2, offset: 0, .. }), "{error}");
    // The whole log as zeros is none: then only the id that is expected tells.
    let id = harness.open().log.id();
    let options = LogOptions { log_id: Some(id), ..harness.options.clone() };
    let emptied = change(&harness, &segment_path(1), |bytes| bytes.fill(0));
    emptied.disk.remove(&segment_path(2)).unwrap();
    assert!(matches!(Harness { options, ..emptied }.refused(), LogError::LogMissing { .. }));
}

#[test]
fn a_truncated_file_is_an_error_of_its_own() {
    let harness = two_segments();
    for segment in [1, 2] {
        for length in [0, 50, 96, 200, 4095] {
            let error = change(&harness, &segment_path(segment), |bytes| bytes.truncate(length)).refused();
            let LogError::SegmentTruncated { path, length: found, expected } = &error else { panic!("{error}") };
            assert_eq!((path.as_path(), *found), (segment_path(segment).as_path(), length as u64));
            assert!(*expected > length as u64);
        }
    }
}

#[test]
fn a_missing_file_is_an_error_of_its_own() {
    let harness = Harness::with_options(LogOptions { segment_bytes: 4096, ..small_options() });
    let open = harness.open();
    open.write_singly(1, 1..40);
    open.log.close().unwrap();
    let count = open.summary.segments + open.log.stats().segments;
    assert!(count > 3);
    for segment in 1..count {
        let disk = harness.disk.fork();
        disk.remove(&segment_path(segment)).unwrap();
        let error = harness.on(disk).refused();
        assert!(matches!(error, LogError::SegmentMissing { segment: found } if found == segment), "{error}");
    }
}

#[test]
fn another_logs_segment_is_an_error_of_its_own() {
    let harness = two_segments();
    let other = Harness { disk: SimulatedDisk::new(), ..harness.on(SimulatedDisk::new()) };
    let open = other.open();
    for index in 1..=5 {
        open.write(vec![plain(record(1, RecordKind::Entry, index, 900))]);
    }
    open.log.close().unwrap();
    let disk = harness.disk.fork();
    disk.set_bytes(&segment_path(2), other.disk.bytes(&segment_path(2)).unwrap());
    let error = harness.on(disk).refused();
    assert!(matches!(error, LogError::WrongLog { .. }), "{error}");
}

#[test]
fn the_log_must_be_the_one_expected() {
    let harness = two_segments();
    let id = harness.open().log.id();
    let expecting = |log_id| {
        let options = LogOptions { log_id: Some(log_id), ..harness.options.clone() };
        Harness { options, ..harness.on(harness.disk.fork()) }
    };
    assert_eq!(expecting(id).open().log.id(), id);
    let other = LogId::from_bytes([9; 16]);
    let error = expecting(other).refused();
    assert!(matches!(error, LogError::WrongLog { found, expected, .. } if found == id && expected == other), "{error}");
    let empty = Harness { disk: SimulatedDisk::new(), ..expecting(id) };
    assert!(matches!(empty.refused(), LogError::LogMissing { expected, .. } if expected == id));
}

#[test]
fn a_newer_format_is_an_error_of_its_own() {
    let harness = two_segments();
    let newer = change(&harness, &segment_path(1), |bytes| {
        let header = BatchHeader { version: 2, ..BatchHeader::decode(bytes).unwrap() };
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
    });
    assert!(matches!(newer.refused(), LogError::UnknownFormat { version: 2, .. }));
}

#[test]
fn two_at_once_are_refused() {
    let harness = Harness::new();
    let open = harness.open();
    assert!(matches!(harness.refused(), LogError::InUse { .. }));
    open.log.close().unwrap();
    harness.open();
}

#[test]
fn a_failed_sync_is_never_retried_and_fails_the_log() {
    let harness = Harness::new();
    let open = harness.open();
    open.write(vec![entry(1, 1)]);
    harness.disk.fail_sync_after(0);
    harness.disk.hold_syncs(true);
    open.log.append_one(entry(1, 2)).unwrap();
    assert!(harness.disk.wait_for_held_sync());
    open.log.append_one(entry(1, 3)).unwrap();
    harness.disk.hold_syncs(false);
    let fates = open.sink.wait_for(3);
    assert_eq!(fates[1], (2, Outcome::Unknown), "what was in flight may be there or not");
    assert_eq!(fates[2], (3, Outcome::Refused(AppendRefused::Failed)), "what waited surely is not");
    let syncs = harness.disk.counters().syncs;
    assert_eq!(open.log.append_one(entry(1, 4)).unwrap_err().reason, AppendRefused::Failed);
    assert!(open.log.drop_segments().is_err());
    assert!(matches!(open.log.close(), Err(LogError::Failed)));
    assert!(open.log.stats().failed);
    assert_eq!(harness.disk.counters().syncs, syncs, "no sync after the failed one");
}

/// The kernel shows what it failed to write, and holds it for written.
#[test]
fn what_is_shown_after_a_failed_sync_is_made_durable_first() {
    let harness = Harness::new();
    let open = harness.open();
    open.write(vec![entry(1, 1)]);
    harness.disk.fail_sync_after(0);
    open.log.append_one(entry(1, 2)).unwrap();
    open.sink.wait_for(2);
    drop(open);
    let again = harness.open();
    assert_eq!(again.seen.indexes(range(1)), [1, 2], "it is in the page cache");
    let crashed = harness.on(harness.disk.crash(&mut || false));
    assert_eq!(crashed.open().seen.indexes(range(1)), [1, 2], "what was shown must not go away");
}
