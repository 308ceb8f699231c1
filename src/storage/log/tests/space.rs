//! A full disk: ordinary records are refused while there is still room for those that free space.

use super::super::*;
use super::harness::*;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 4096,
        budget_bytes: 1 << 20,
        spare_segments: 2,
        reserve_bytes: 8192,
        retry_ms: 1,
        ..small_options()
    }
}

/// Fills the disk until ordinary records are refused; the index refused.
fn fill(open: &Open) -> u64 {
    for index in 1..1000 {
        let count = open.sink.so_far().len() + 1;
        let append = plain(record(1, RecordKind::Entry, index, 900));
        match open.log.append_one(append) {
            Ok(()) => match open.sink.wait_for(count).last().unwrap().1 {
                Outcome::Durable => {}
                Outcome::Refused(AppendRefused::DiskFull) => return index,
                outcome => panic!("{outcome:?}"),
            },
            Err(refused) => {
                assert_eq!(refused.reason, AppendRefused::DiskFull);
                return index;
            }
        }
    }
    panic!("the disk is never full");
}

#[test]
fn a_full_disk_refuses_ordinary_records_and_takes_urgent_ones() {
    let harness = Harness::with_options(options());
    // Lock, reserve, and eight files of 4 KiB.
    harness.disk.set_capacity(Some(8192 + 8 * 4096));
    let open = harness.open();
    let refused = fill(&open);
    assert!(open.log.stats().disk_full && !open.log.stats().failed);
    let mut urgent_taken = 0;
    loop {
        let count = open.sink.so_far().len() + 1;
        let append = urgent(record(2, RecordKind::Entry, urgent_taken + 1, 900));
        open.log.append_one(append).unwrap();
        match open.sink.wait_for(count).last().unwrap().1 {
            Outcome::Durable => urgent_taken += 1,
            Outcome::Refused(AppendRefused::DiskFull) => break,
            outcome => panic!("{outcome:?}"),
        }
    }
    assert!(urgent_taken >= 6, "a spare and the reserve give three segments: {urgent_taken}");
    assert!(!open.log.stats().failed, "full is not failed");
    let crashed = harness.on(harness.disk.crash(&mut || false)).open();
    assert_eq!(crashed.seen.indexes(range(1)), (1..refused).collect::<Vec<_>>());
    assert_eq!(crashed.seen.indexes(range(2)), (1..=urgent_taken).collect::<Vec<_>>());
    // Even now there is room for the mark that lets segments go.
    open.log.set_durable(range(1), refused);
    open.log.set_durable(range(2), urgent_taken);
    open.log.drop_segments().unwrap();
    let stats = open.log.stats();
    assert!(stats.segments_dropped >= 5 && !stats.disk_full, "{stats:?}");
    let count = open.sink.so_far().len() + 1;
    open.log.append_one(plain(record(1, RecordKind::Entry, refused, 900))).unwrap();
    assert_eq!(open.sink.wait_for(count).last().unwrap(), &(refused, Outcome::Durable));
    open.log.close().unwrap();
    assert!(harness.open().seen.indexes(range(1)).contains(&refused));
}

#[test]
fn a_full_disk_recovers_by_itself_when_space_returns() {
    let harness = Harness::with_options(options());
    harness.disk.set_capacity(Some(8192 + 8 * 4096));
    let open = harness.open();
    let refused = fill(&open);
    harness.disk.set_capacity(None);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while open.log.stats().disk_full {
        assert!(std::time::Instant::now() < deadline, "the disk stays full");
        std::thread::yield_now();
    }
    let count = open.sink.so_far().len() + 1;
    open.log.append_one(plain(record(1, RecordKind::Entry, refused, 900))).unwrap();
    assert_eq!(open.sink.wait_for(count).last().unwrap(), &(refused, Outcome::Durable));
}

#[test]
fn a_full_disk_recovers_when_segments_are_dropped() {
    let harness = Harness::with_options(options());
    harness.disk.set_capacity(Some(8192 + 8 * 4096));
    let open = harness.open();
    let refused = fill(&open);
    open.log.set_durable(range(1), refused - 1);
    open.log.drop_segments().unwrap();
    assert!(open.log.stats().segments_dropped > 0);
    assert!(!open.log.stats().disk_full);
    let count = open.sink.so_far().len() + 1;
    open.log.append_one(plain(record(1, RecordKind::Entry, refused, 900))).unwrap();
    assert_eq!(open.sink.wait_for(count).last().unwrap(), &(refused, Outcome::Durable));
}

#[test]
fn a_full_disk_still_opens() {
    let harness = Harness::with_options(options());
    harness.disk.set_capacity(Some(8192 + 8 * 4096));
    let open = harness.open();
    let refused = fill(&open);
    open.log.close().unwrap();
    let again = harness.open();
    assert_eq!(again.seen.indexes(range(1)).len() as u64, refused - 1);
    assert!(again.log.stats().disk_full);
    again.write(vec![urgent(record(1, RecordKind::Vote, 1, 10))]);
}

#[test]
fn the_log_works_on_a_real_disk() {
    use std::sync::Arc;
    let folder = tempfile::tempdir().unwrap();
    let sink = Arc::new(Remembering::default());
    let path = folder.path().join("deep/log");
    let open = |sink: &Arc<Remembering>, seen: &mut Seen| {
        let options = LogOptions { segment_bytes: 65536, budget_bytes: 1 << 20, ..small_options() };
        CommitLog::open(
            &path,
            options,
            Arc::new(TestKeys::default()),
            Arc::new(SystemDisk),
            Arc::new(SeededRandom::new(7)),
            Arc::clone(sink) as Arc<dyn GroupSink<u64>>,
            &mut |event| seen.take(event),
        )
        .unwrap()
    };
    let (log, summary) = open(&sink, &mut Seen::default());
    assert!(summary.created);
    for index in 1..=2000 {
        log.append_one(entry(1, index)).unwrap();
    }
    assert!(sink.wait_for(2000).iter().all(|(_, outcome)| *outcome == Outcome::Durable));
    log.set_durable(range(1), 1000);
    log.drop_segments().unwrap();
    assert!(log.stats().segments_dropped >= 1);
    log.close().unwrap();
    let mut seen = Seen::default();
    let (_log, summary) = open(&sink, &mut seen);
    assert_eq!((summary.log_id, summary.end, summary.created), (log.id(), LogEnd::Marked, false));
    let shown = seen.indexes(range(1));
    assert!(shown[0] <= 1001);
    assert_eq!(shown, (shown[0]..=2000).collect::<Vec<_>>());
}
