//! Group commit: what waits together is written and synced together, in order, within bounded memory.

use std::sync::Arc;

use super::super::*;
use super::harness::*;

/// Makes the log's thread wait in a sync, so that what is appended meanwhile waits together.
fn while_syncing(harness: &Harness, open: &Open, action: impl FnOnce()) {
    harness.disk.hold_syncs(true);
    open.log.append_one(entry(0, 1)).unwrap();
    assert!(harness.disk.wait_for_held_sync());
    action();
    harness.disk.hold_syncs(false);
}

#[test]
fn a_hundred_owners_waiting_at_once_share_one_write_and_one_sync() {
    let harness =
        Harness::with_options(LogOptions { segment_bytes: 1 << 19, group_bytes_max: 1 << 18, ..small_options() });
    let open = harness.open();
    let before = open.log.stats();
    while_syncing(&harness, &open, || {
        for owner in 0..100 {
            let record = Record { owner: tenant(owner), ..record(owner, RecordKind::Entry, 1, 100) };
            open.log.append_one(plain(record)).unwrap();
        }
    });
    open.sink.wait_for(101);
    let after = open.log.stats();
    assert_eq!(after.syncs - before.syncs, 2, "one for the first record, one for the hundred");
    assert_eq!(after.writes - before.writes, 2);
    assert_eq!(after.groups, 2);
    assert_eq!(open.sink.groups(), 2, "the group is handed over as one");
    assert_eq!(harness.disk.counters().syncs, after.syncs + 2, "beside: the two spares made");
}

#[test]
fn threads_appending_at_once_cost_fewer_syncs_than_records() {
    let harness =
        Harness::with_options(LogOptions { segment_bytes: 1 << 19, group_bytes_max: 1 << 18, ..small_options() });
    let open = Arc::new(harness.open());
    let before = open.log.stats();
    while_syncing(&harness, &open, || {
        let threads: Vec<_> = (1..=8)
            .map(|number| {
                let open = Arc::clone(&open);
                std::thread::spawn(move || (1..=50).for_each(|i| open.log.append_one(entry(number, i)).unwrap()))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    open.sink.wait_for(401);
    assert_eq!(open.log.stats().syncs - before.syncs, 2);
    assert_eq!(open.log.stats().records, 401);
}

#[test]
fn completions_come_in_log_order_and_records_submitted_together_stay_together() {
    let harness = Harness::new();
    let open = harness.open();
    let expected: Vec<u64> = (1..=300).collect();
    for indexes in expected.chunks(7) {
        open.log.append(indexes.iter().map(|index| entry(1, *index)).collect()).unwrap();
    }
    let done: Vec<u64> = open.sink.wait_for(300).into_iter().map(|(index, _)| index).collect();
    assert_eq!(done, expected);
    open.log.close().unwrap();
    assert_eq!(harness.open().seen.indexes(range(1)), expected);
}

#[test]
fn memory_is_bounded_and_the_refused_record_comes_back() {
    let harness = Harness::with_options(LogOptions { pending_bytes_max: 1000, ..small_options() });
    let open = harness.open();
    while_syncing(&harness, &open, || {
        let mut taken = 0;
        let refused = loop {
            match open.log.append_one(entry(1, taken + 1)) {
                Ok(()) => taken += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.reason, AppendRefused::Busy);
        assert_eq!(refused.appends[0].companion, taken + 1);
        assert_eq!(taken, 4, "184 bytes each, the first one counts until it is synced");
        assert_eq!(open.log.stats().bytes_pending, 5 * 184);
    });
    open.sink.wait_for(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn room_wakes_when_there_is_room() {
    let harness = Harness::with_options(LogOptions { pending_bytes_max: 400, ..small_options() });
    let open = Arc::new(harness.open());
    harness.disk.hold_syncs(true);
    open.log.append(vec![entry(1, 1), entry(1, 2)]).unwrap();
    let waiting = Arc::clone(&open);
    let waiter = tokio::spawn(async move { waiting.log.room(184).await });
    assert!(harness.disk.wait_for_held_sync());
    assert!(!waiter.is_finished());
    harness.disk.hold_syncs(false);
    waiter.await.unwrap();
    open.log.append_one(entry(1, 3)).unwrap();
    open.sink.wait_for(3);
}

#[test]
fn a_record_larger_than_a_segment_is_refused_and_the_largest_one_fits() {
    let harness = Harness::new();
    let open = harness.open();
    let largest = 8192 - (4 * 96 + 68 + 1024 + 8) - (68 + 16);
    let refused = open.log.append_one(plain(record(1, RecordKind::Entry, 1, largest + 1))).unwrap_err();
    assert_eq!(refused.reason, AppendRefused::TooLarge);
    open.write(vec![plain(record(1, RecordKind::Entry, 1, largest)), plain(record(2, RecordKind::Entry, 2, largest))]);
    open.log.close().unwrap();
    let again = harness.open();
    assert_eq!(again.seen.entries[&(range(1), 1)], Some(payload(range(1), 1, largest)));
    assert_eq!(again.seen.entries[&(range(2), 2)], Some(payload(range(2), 2, largest)));
}

#[test]
fn a_closed_log_refuses() {
    let harness = Harness::new();
    let open = harness.open();
    open.log.append_one(entry(1, 1)).unwrap();
    open.log.close().unwrap();
    assert_eq!(open.sink.wait_for(1), [(1, Outcome::Durable)], "what waited was written");
    assert_eq!(open.log.append_one(entry(1, 2)).unwrap_err().reason, AppendRefused::Closed);
    assert!(matches!(open.log.drop_segments(), Err(LogError::Closed)));
    open.log.close().unwrap();
}

#[test]
fn nothing_of_a_payload_stands_in_clear() {
    let harness = Harness::new();
    let open = harness.open();
    let secret = b"correct horse battery staple";
    open.write(vec![plain(Record { payload: secret.to_vec().into(), ..record(1, RecordKind::Entry, 1, 0) })]);
    open.log.close().unwrap();
    for path in harness.disk.paths() {
        let bytes = harness.disk.bytes(&path).unwrap();
        assert!(!bytes.windows(8).any(|window| secret.windows(8).any(|part| part == window)), "{}", path.display());
    }
}
