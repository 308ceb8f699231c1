//! Segments go when nobody needs them, and no range keeps them for ever.

use super::super::*;
use super::harness::*;

/// Segments of 4 KiB, of which four may be live.
fn small_budget() -> Harness {
    Harness::with_options(LogOptions { segment_bytes: 4096, budget_bytes: 16384, ..small_options() })
}

/// Entries of some 900 bytes: three fill a segment.
fn large(range: u8, index: u64) -> Append<u64> {
    plain(record(range, RecordKind::Entry, index, 900))
}

#[test]
fn a_segment_goes_only_when_all_its_records_are_flushed_truncated_or_of_removed_ranges() {
    let harness = small_budget();
    let open = harness.open();
    // The first segments hold entries of three ranges, in turn.
    for index in 1..=3 {
        open.write((1..=3).map(|range| large(range, index)).collect());
    }
    let segments = open.log.stats().segments;
    assert!(segments >= 3, "{segments}");
    assert_eq!(open.log.drop_segments().unwrap(), 0, "everything is live");
    open.log.set_durable(range(1), 3);
    assert_eq!(open.log.drop_segments().unwrap(), 0, "two ranges are live");
    open.write(vec![urgent(record(2, RecordKind::Truncate, 1, 0))]);
    assert_eq!(open.log.drop_segments().unwrap(), 0, "one range is live");
    assert_eq!(harness.on(harness.disk.fork()).open().seen.indexes(range(3)), [1, 2, 3]);
    open.write(vec![urgent(record(3, RecordKind::RangeRemoved, 0, 0))]);
    open.log.drop_segments().unwrap();
    assert!(open.log.stats().segments_dropped >= segments - 1);
    assert_eq!(open.log.stats().segments, 1);
    assert_eq!(open.log.stats().bytes_live, 0);
    let again = harness.on(harness.disk.fork()).open();
    assert_eq!(again.seen.removed, [range(3)], "so that what else is left of it can go");
}

#[test]
fn an_entry_one_above_durable_keeps_its_segment() {
    let harness = small_budget();
    let open = harness.open();
    (1..=12).for_each(|index| open.write(vec![large(1, index)]));
    open.log.set_durable(range(1), 5);
    open.log.drop_segments().unwrap();
    assert!(open.log.stats().segments_dropped >= 1);
    open.log.close().unwrap();
    let shown = harness.open().seen.indexes(range(1));
    assert!(shown[0] > 1 && shown[0] <= 6, "{shown:?}");
    assert_eq!(shown, (shown[0]..=12).collect::<Vec<_>>());
}

#[test]
fn a_purge_frees_nothing_for_only_flushing_does() {
    let harness = small_budget();
    let open = harness.open();
    (1..=9).for_each(|index| open.write(vec![large(1, index)]));
    open.write(vec![urgent(record(1, RecordKind::Purge, 9, 0))]);
    assert_eq!(open.log.drop_segments().unwrap(), 0);
    open.log.close().unwrap();
    let again = harness.open();
    assert_eq!(again.seen.indexes(range(1)), (1..=9).collect::<Vec<_>>());
    assert_eq!(again.seen.last(range(1), RecordKind::Purge).unwrap().index, 9);
}

#[test]
fn recycled_segments_never_show_old_records_as_new() {
    let harness = small_budget();
    let open = harness.open();
    (1..=3).for_each(|index| open.write(vec![large(1, index)]));
    let old = harness.disk.bytes(&segment_path(1)).unwrap();
    let mut index = 3;
    // Until the first segment's file is the head again.
    let recycled = loop {
        index += 1;
        open.write(vec![large(1, index)]);
        open.log.set_durable(range(1), index);
        open.log.drop_segments().unwrap();
        let head = harness.disk.paths().into_iter().rfind(|path| path.to_str().unwrap().contains("/000")).unwrap();
        let bytes = harness.disk.bytes(&head).unwrap();
        if bytes[2900..3400].iter().any(|byte| *byte != 0) && bytes[2900..3400] == old[2900..3400] {
            break head;
        }
        assert!(index < 200, "no segment is ever used again");
    };
    // As if the zeros behind the last batch had not reached the disk: old batches stand where the next would.
    let crashed = harness.on(harness.disk.fork());
    let mut bytes = crashed.disk.bytes(&recycled).unwrap();
    let mut offset = 0;
    while let Some(header) = super::super::format::BatchHeader::decode(&bytes[offset..]) {
        offset += header.batch_bytes() as usize;
    }
    bytes[offset..].copy_from_slice(&old[offset..]);
    crashed.disk.set_bytes(&recycled, bytes);
    let again = crashed.open();
    assert!(matches!(again.summary.end, LogEnd::Torn { .. } | LogEnd::Marked));
    assert!(again.seen.indexes(range(1)).iter().all(|shown| *shown > 3), "{:?}", again.seen.indexes(range(1)));
    assert!(again.seen.indexes(range(1)).iter().all(|shown| *shown <= index));
}

#[test]
fn no_range_pins_the_log_and_its_records_are_copied_still_sealed() {
    let harness = small_budget();
    let open = harness.open();
    open.write(vec![large(9, 1), large(9, 2)]);
    let syncs = open.log.stats().syncs;
    // Not even the key is there while the records are copied.
    harness.keys.destroy(tenant(9 % 4));
    for index in 1..=60 {
        open.write(vec![large(2, index)]);
        open.log.set_durable(range(2), index);
        open.log.drop_segments().unwrap();
        let stats = open.log.stats();
        assert!(stats.bytes_total <= 2 * 16384, "{stats:?}");
    }
    let stats = open.log.stats();
    assert!(stats.records_carried >= 2 && stats.segments_dropped > 10, "{stats:?}");
    assert!(stats.records_carried < 40, "copied far more often than needed: {stats:?}");
    assert!(stats.syncs - syncs < 60 * 6, "{stats:?}");
    open.log.close().unwrap();
    harness.keys.restore();
    let again = harness.open();
    for index in [1, 2] {
        assert_eq!(again.seen.entries[&(range(9), index)], Some(payload(range(9), index, 900)));
    }
}

#[test]
fn the_last_vote_purge_and_commit_point_are_copied_to_the_head() {
    let harness = small_budget();
    let open = harness.open();
    for index in 1..=3 {
        for kind in [RecordKind::Vote, RecordKind::Purge, RecordKind::Committed] {
            open.write(vec![urgent(record(1, kind, index, 10))]);
        }
    }
    for index in 1..=12 {
        open.write(vec![large(1, index)]);
        open.log.set_durable(range(1), index);
    }
    open.log.drop_segments().unwrap();
    assert!(open.log.stats().segments_dropped >= 3);
    assert_eq!(open.log.stats().segments, 1);
    open.log.close().unwrap();
    let seen = harness.open().seen;
    for kind in [RecordKind::Vote, RecordKind::Purge, RecordKind::Committed] {
        let found: Vec<_> = seen.others.iter().filter(|record| record.kind == kind).collect();
        assert_eq!(found, [&record(1, kind, 3, 10)], "the last one only");
    }
}

#[test]
fn what_was_truncated_does_not_come_back_by_copying_or_replay() {
    let harness = small_budget();
    let open = harness.open();
    open.write((1..=6).map(|index| large(1, index)).collect());
    open.write(vec![urgent(record(1, RecordKind::Truncate, 3, 0))]);
    let other = |index| Record { payload: b"the second".to_vec().into(), ..record(1, RecordKind::Entry, index, 0) };
    open.write(vec![plain(other(3))]);
    for index in 1..=30 {
        open.write(vec![large(2, index)]);
        open.log.set_durable(range(2), index);
        open.log.drop_segments().unwrap();
    }
    assert!(open.log.stats().records_carried >= 3);
    open.log.close().unwrap();
    let seen = harness.open().seen;
    assert_eq!(seen.indexes(range(1)), [1, 2, 3]);
    assert_eq!(seen.entries[&(range(1), 3)].as_deref(), Some(&b"the second"[..]));
}

#[test]
fn an_entry_at_an_old_index_replaces_it_and_all_after_it() {
    let harness = small_budget();
    let open = harness.open();
    open.write((1..=5).map(|index| entry(1, index)).collect());
    let other = Record { payload: b"the second".to_vec().into(), ..record(1, RecordKind::Entry, 4, 0) };
    open.write(vec![plain(other)]);
    open.log.close().unwrap();
    let seen = harness.open().seen;
    assert_eq!(seen.indexes(range(1)), [1, 2, 3, 4]);
    assert_eq!(seen.entries[&(range(1), 4)].as_deref(), Some(&b"the second"[..]));
}

#[test]
fn a_range_may_come_back_after_its_removal() {
    let harness = small_budget();
    let open = harness.open();
    open.write((1..=5).map(|index| entry(1, index)).collect());
    open.write(vec![urgent(record(1, RecordKind::RangeRemoved, 0, 0)), entry(1, 2)]);
    open.log.close().unwrap();
    assert_eq!(harness.open().seen.indexes(range(1)), [2]);
}

#[test]
fn live_records_past_the_budget_refuse_ordinary_records_until_they_are_flushed() {
    let harness = small_budget();
    let open = harness.open();
    let mut index = 0;
    let refused = loop {
        index += 1;
        let count = open.sink.so_far().len() + 1;
        match open.log.append_one(large(1, index)) {
            Ok(()) => assert_eq!(open.sink.wait_for(count).last().unwrap().1, Outcome::Durable),
            Err(refused) => break refused,
        }
        // Answers after the log's thread has seen to its segments.
        open.log.drop_segments().unwrap();
        assert!(index < 100, "never refused");
    };
    assert_eq!(refused.reason, AppendRefused::OverBudget);
    assert!(open.log.stats().bytes_total <= 2 * 16384);
    open.write(vec![urgent(record(1, RecordKind::Vote, 1, 10))]);
    open.log.set_durable(range(1), index);
    open.write(vec![large(1, index)]);
    open.log.drop_segments().unwrap();
    assert!(open.log.stats().segments_dropped > 3);
}

/// Waits until the log's thread has seen to its segments, which it does behind its answers: not to meet what a test is
/// about to do to them.
fn settle(open: &Open) {
    open.log.drop_segments().unwrap();
}

/// A log with a vote and then six large entries of a range; its first segment is closed.
fn voted() -> (Harness, Open) {
    let harness = small_budget();
    let open = harness.open();
    open.write(vec![urgent(record(1, RecordKind::Vote, 1, 10))]);
    (1..=6).for_each(|index| open.write(vec![large(1, index)]));
    assert!(open.log.closed_segments().contains(&1));
    settle(&open);
    (harness, open)
}

/// Flips a byte of a batch of the first segment: of its header, or of its body.
fn flip(harness: &Harness, batch: usize, in_header: bool) {
    let place = batches(&harness.disk, 1)[batch].place;
    let mut bytes = harness.disk.bytes(&segment_path(1)).unwrap();
    bytes[place.offset as usize + if in_header { 33 } else { 120 }] ^= 1;
    harness.disk.set_bytes(&segment_path(1), bytes);
}

#[test]
fn a_damaged_segment_goes_when_nothing_in_the_damaged_place_is_needed() {
    // The mark and the vote come before the entries, the end of the segment behind them.
    let last = batches(&voted().0.disk, 1).len() - 1;
    for (batch, in_header) in [(0, true), (2, true), (2, false), (3, false), (last, true)] {
        let (harness, open) = voted();
        flip(&harness, batch, in_header);
        assert_eq!(open.log.drop_segments().unwrap(), 0, "its entries are needed");
        open.log.set_durable(range(1), 6);
        assert!(open.log.drop_segments().unwrap() >= 1, "batch {batch}");
        assert!(!open.log.closed_segments().contains(&1));
        open.log.close().unwrap();
        let seen = harness.open().seen;
        assert_eq!(seen.last(range(1), RecordKind::Vote), Some(&record(1, RecordKind::Vote, 1, 10)));
    }
}

#[test]
fn a_segment_stays_that_is_damaged_where_a_last_vote_stands_and_is_copied_once() {
    let (harness, open) = voted();
    flip(&harness, 1, false);
    open.log.set_durable(range(1), 6);
    let error = open.log.drop_segments().unwrap_err();
    assert!(matches!(error, LogError::Damaged { segment: 1, offset: 96, .. }), "{error}");
    let stats = open.log.stats();
    assert_eq!(open.log.drop_segments().unwrap(), 0);
    assert_eq!(open.log.stats().writes, stats.writes);
    open.write(vec![urgent(record(1, RecordKind::Vote, 2, 10))]);
    assert!(open.log.drop_segments().unwrap() >= 1);
    open.log.close().unwrap();
    let seen = harness.open().seen;
    assert_eq!(seen.last(range(1), RecordKind::Vote), Some(&record(1, RecordKind::Vote, 2, 10)));
}

#[test]
fn what_was_copied_before_damage_does_not_void_what_came_later() {
    let harness = small_budget();
    let open = harness.open();
    let small = |index| plain(record(1, RecordKind::Entry, index, 10));
    open.write(vec![small(1)]);
    open.write(vec![urgent(record(2, RecordKind::Vote, 1, 10))]);
    (1..=6).for_each(|index| open.write(vec![large(3, index)]));
    open.write(vec![small(2)]);
    assert!(open.log.closed_segments().contains(&1));
    settle(&open);
    flip(&harness, 2, false);
    open.log.set_durable(range(3), 6);
    // The entry is copied, then comes the damage, and then an entry that is new.
    open.log.drop_segments().unwrap_err();
    open.write(vec![small(3)]);
    open.write(vec![urgent(record(2, RecordKind::Vote, 2, 10))]);
    open.log.set_durable(range(1), 1);
    assert!(open.log.drop_segments().unwrap() >= 1);
    open.log.close().unwrap();
    assert_eq!(harness.open().seen.indexes(range(1)), [1, 2, 3]);
}

#[test]
fn damage_goes_as_far_as_the_next_batch_that_reads() {
    let (harness, open) = voted();
    // The mark and the vote: one place that swallows both.
    flip(&harness, 1, true);
    flip(&harness, 0, true);
    open.log.set_durable(range(1), 6);
    let error = open.log.drop_segments().unwrap_err();
    assert!(matches!(error, LogError::Damaged { segment: 1, offset: 0, .. }), "{error}");
    assert!(open.log.closed_segments().contains(&1));
}

#[test]
fn what_stands_before_damage_is_copied_once_while_an_entry_lives_behind_it() {
    let harness = small_budget();
    let open = harness.open();
    open.write(vec![plain(record(1, RecordKind::Entry, 1, 10))]);
    open.write(vec![large(3, 1)]);
    open.write(vec![urgent(record(2, RecordKind::Vote, 1, 10))]);
    (2..=6).for_each(|index| open.write(vec![large(3, index)]));
    assert!(open.log.closed_segments().contains(&1));
    settle(&open);
    flip(&harness, 2, false);
    open.log.set_durable(range(3), 6);
    open.log.drop_segments().unwrap_err();
    assert_eq!(open.log.stats().records_carried, 1, "the entry");
    // What lives changes, and the entry is needed still.
    open.write(vec![urgent(record(2, RecordKind::Vote, 2, 10))]);
    assert_eq!(open.log.drop_segments().unwrap(), 0);
    assert_eq!(open.log.drop_segments_through(1).unwrap(), 0);
    assert_eq!(open.log.stats().records_carried, 1);
    open.log.set_durable(range(1), 1);
    assert!(open.log.drop_segments().unwrap() >= 1);
    open.log.close().unwrap();
    let seen = harness.open().seen;
    assert_eq!(seen.last(range(2), RecordKind::Vote), Some(&record(2, RecordKind::Vote, 2, 10)));
}

#[test]
fn a_segment_before_a_damaged_one_goes_however_much_lives_in_it() {
    let harness = small_budget();
    let open = harness.open();
    open.write(vec![large(1, 1)]);
    (1..=6).for_each(|index| open.write(vec![large(3, index)]));
    assert!(open.log.closed_segments().contains(&2));
    open.log.set_durable(range(3), 6);
    assert_eq!(open.log.drop_segments().unwrap(), 0, "copying would not be worth it");
    assert_eq!(open.log.drop_segments_through(1).unwrap(), open.log.closed_segments().start - 1);
    assert!(!open.log.closed_segments().contains(&1));
    assert_eq!(open.log.stats().records_carried, 1);
    open.log.close().unwrap();
    let seen = harness.open().seen;
    assert_eq!(seen.entries[&(range(1), 1)], Some(payload(range(1), 1, 900)));
}

/// A log with a vote and then twenty large entries, whose first segment is closed and of some blocks.
fn voted_in_blocks() -> (Harness, Open) {
    let options = LogOptions { segment_bytes: 16384, budget_bytes: 65536, ..small_options() };
    let harness = Harness::with_options(options);
    let open = harness.open();
    open.write(vec![urgent(record(1, RecordKind::Vote, 1, 10))]);
    (1..=20).for_each(|index| open.write(vec![large(1, index)]));
    assert_eq!(open.log.closed_segments(), 1..2);
    settle(&open);
    (harness, open)
}

#[test]
fn a_segment_that_the_disk_gives_in_part_goes_when_nothing_in_the_rest_is_needed() {
    let (harness, open) = voted_in_blocks();
    harness.disk.fail_reads(&segment_path(1), 8192..8704);
    assert!(matches!(open.log.verify(1, 0, 1 << 20), Err(LogError::Damaged { segment: 1, .. })));
    open.log.set_durable(range(1), 20);
    assert_eq!(open.log.drop_segments().unwrap(), 1);
    assert_eq!(open.log.stats().records_carried, 1, "the vote");
    open.log.close().unwrap();
    let seen = harness.open().seen;
    assert_eq!(seen.last(range(1), RecordKind::Vote), Some(&record(1, RecordKind::Vote, 1, 10)));
}

#[test]
fn a_segment_stays_whose_last_vote_the_disk_does_not_give() {
    let (harness, open) = voted_in_blocks();
    harness.disk.fail_reads(&segment_path(1), 0..512);
    open.log.set_durable(range(1), 20);
    let error = open.log.drop_segments().unwrap_err();
    assert!(matches!(error, LogError::Damaged { segment: 1, offset: 0, .. }), "{error}");
    assert_eq!(open.log.drop_segments().unwrap(), 0);
    open.write(vec![urgent(record(1, RecordKind::Vote, 2, 10))]);
    assert_eq!(open.log.drop_segments().unwrap(), 1);
}

#[test]
fn a_missing_segment_stays_in_use_while_it_is_needed_and_then_keeps_no_other() {
    let harness = small_budget();
    let open = harness.open();
    open.write(vec![urgent(record(1, RecordKind::Vote, 1, 10))]);
    (1..=9).for_each(|index| open.write(vec![large(1, index)]));
    assert_eq!(open.log.closed_segments(), 1..3);
    harness.disk.remove(&segment_path(1)).unwrap();
    assert_eq!(open.log.drop_segments().unwrap(), 0, "its entries are needed");
    open.log.set_durable(range(1), 9);
    assert!(matches!(open.log.drop_segments(), Err(LogError::SegmentMissing { segment: 1 })));
    assert!(open.log.closed_segments().contains(&1), "the last vote stands in it");
    open.write(vec![urgent(record(1, RecordKind::Vote, 2, 10))]);
    assert_eq!(open.log.drop_segments().unwrap(), 2);
    assert_eq!(harness.disk.bytes(&segment_path(2)), None, "the one behind it has gone, too");
    open.log.close().unwrap();
    let seen = harness.open().seen;
    assert_eq!(seen.last(range(1), RecordKind::Vote), Some(&record(1, RecordKind::Vote, 2, 10)));
}
