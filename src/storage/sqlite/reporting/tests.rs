//! The store on real files: what was answered is there after a kill, what was not is not, in part never.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::crypto::Key256;
use crate::crypto::cipher::tests::SystemRandom;
use crate::domain::ids::{PrincipalId, Role, TableId, TenantId};
use crate::domain::usage::query::{UsageBy, UsageStep};
use crate::domain::usage::record::{EventRecord, RecordBody, UsageRecord};
use crate::domain::usage::{BatchId, UsageBatch, UsageCounts, UsageKey, UsageOperation, UsageResult};
use crate::storage::keys::{KeyUnavailable, VersionedKey};

const PROXY: Component = Component { role: Role::Proxy, id: Uuid::from_u128(7) };
const PLANE: PlaneId = PlaneId(Uuid::from_u128(1));
const REPORTER: ReporterId = ReporterId(Uuid::from_u128(2));
const HOUR_MS: u64 = 3_600_000;

/// Versions of the reporter's key by number.
struct Keys(Vec<u32>);

impl FileKeys for Keys {
    fn newest(&self, owner: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        let version = *self.0.last().unwrap();
        Ok(VersionedKey { version, key: self.of_version(owner, version)? })
    }

    fn of_version(&self, _: KeyOwner, version: u32) -> Result<Key256, KeyUnavailable> {
        let is_there = self.0.contains(&version);
        is_there.then(|| Key256::new([version as u8; 32])).ok_or_else(|| KeyUnavailable("gone".to_owned()))
    }
}

fn try_open(folder: &Path, versions: &[u32]) -> Result<Arc<SqliteReportingStore>, StoreError> {
    let random = Arc::new(SystemRandom::default());
    vfs::register(random.clone()).unwrap();
    SqliteReportingStore::open(folder, PLANE, REPORTER, Arc::new(Keys(versions.to_vec())), random)
}

fn open(folder: &Path) -> Arc<SqliteReportingStore> {
    try_open(folder, &[1]).unwrap()
}

/// What a kill at this moment leaves: the files as they are.
fn killed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn counts(requests: u64) -> UsageCounts {
    let mut counts = UsageCounts { requests, read_half_units: 3 * requests, ..UsageCounts::default() };
    counts.latency.add(requests * 700);
    counts
}

fn usage(number: u128, at_ms: u64, tenant: u8, table: u8, requests: u64) -> Record {
    let key = UsageKey {
        tenant: TenantId::from_bytes([tenant; 16]),
        table: (table > 0).then(|| TableId::from_bytes([100 + table; 16])),
        principal: Some(PrincipalId::from_bytes([tenant; 16])),
        operation: UsageOperation::ALL[number as usize % 3],
        result: UsageResult::ALL[number as usize % 2],
    };
    let body = UsageRecord {
        component: PROXY,
        key,
        tenant_name: Some(format!("tenant-{tenant}")),
        table_name: (table > 0).then(|| format!("table-{table}")),
        counts: counts(requests),
    };
    Record { sequence: 0, id: Uuid::from_u128(number), at_ms, body: RecordBody::Usage(body) }
}

fn batch(interval: u64) -> UsageBatch {
    UsageBatch {
        id: BatchId { component: PROXY, boot: Uuid::from_u128(5), interval },
        began_ms: interval * 1000,
        ended_ms: interval * 1000 + 999,
        before: None,
        is_last: false,
        counts: Vec::new(),
        ranges: Vec::new(),
        node: None,
        names: BTreeMap::from([(Uuid::from_u128(9), "acme".to_owned())]),
    }
}

/// The step of this number: a batch is added to those that are open, and with every third all open ones end in two records.
fn step(number: u64) -> TakenIn {
    let ended = number % 3 == 2;
    let kept = KeptUpTo { boot: Uuid::from_u128(5), interval: number + 1 };
    let record = |part: u64| usage(u128::from(number * 2 + part), number * 20_000, part as u8, 1, number + 1);
    TakenIn {
        component: PROXY,
        changes: number,
        kept: vec![kept],
        last: Some(kept),
        ended,
        open: if ended { Vec::new() } else { vec![batch(number + 1)] },
        dropped: number / 2,
        records: if ended { vec![record(0), record(1)] } else { Vec::new() },
        at_ms: 1_000 + number,
    }
}

fn question(from_ms: u64, to_ms: u64, step: UsageStep, by: UsageBy) -> UsageQuestion {
    UsageQuestion { from_ms, to_ms, step, by, tenant: None, table: None }.aligned().unwrap()
}

fn total(rows: &[UsageRow]) -> UsageCounts {
    let mut total = UsageCounts::default();
    rows.iter().for_each(|row| total.merge(&row.counts));
    total
}

fn of_records(records: &[Record]) -> UsageCounts {
    let mut total = UsageCounts::default();
    for record in records {
        if let RecordBody::Usage(usage) = &record.body {
            total.merge(&usage.counts);
        }
    }
    total
}

/// What the store has to know after so many steps.
fn assert_knows(store: &SqliteReportingStore, steps: u64) {
    let standing = store.standing(PROXY).unwrap();
    let last = (steps > 0).then(|| KeptUpTo { boot: Uuid::from_u128(5), interval: steps });
    assert_eq!((standing.changes, standing.last), (steps, last));
    assert_eq!(standing.kept, last.into_iter().collect::<Vec<_>>());
    let open: Vec<UsageBatch> = (steps - steps % 3..steps).map(|number| batch(number + 1)).collect();
    assert_eq!(standing.open, open);
    assert_eq!(standing.dropped, steps.saturating_sub(1) / 2);
    assert_eq!(store.unfinished().unwrap(), if open.is_empty() { vec![] } else { vec![PROXY] });
    let records = store.records_after(0, 1000).unwrap();
    assert_eq!(records.len() as u64, steps / 3 * 2);
    assert!(records.iter().map(|record| record.sequence).eq(1..=store.newest().unwrap()));
    for step in [UsageStep::Minute, UsageStep::Hour] {
        let rows = store.usage(&question(0, 100 * HOUR_MS, step, UsageBy::Table), 1000).unwrap().unwrap();
        assert_eq!(total(&rows), of_records(&records), "roll-ups are the sums of records");
    }
}

#[test]
fn after_a_kill_at_any_step_all_that_was_answered_is_there_and_nothing_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..100 {
        // In the middle of a step, before it is committed.
        {
            let mut writer = store.writer.lock();
            let transaction = writer.transaction().unwrap();
            take_in(&transaction, &step(number)).unwrap();
            if number % 7 == 0 {
                let copy = killed(folder.path());
                assert_knows(&open(copy.path()), number);
            }
        }
        store.take_in(&step(number)).unwrap();
        assert_eq!(
            store.take_in(&step(number)).unwrap_err().to_string(),
            "something else took in what a component told"
        );
        if number % 7 == 3 {
            let copy = killed(folder.path());
            assert_knows(&open(copy.path()), number + 1);
        }
    }
    assert_knows(&store, 100);
    drop(store);
    assert_knows(&open(folder.path()), 100);
}

#[test]
fn a_record_that_is_there_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut taken = step(0);
    taken.records = vec![usage(1, 0, 1, 1, 5), usage(1, 0, 1, 1, 5)];
    assert_eq!(store.take_in(&taken).unwrap(), 1);
    let event = EventRecord { what: "x".to_owned(), subject: "y".to_owned(), message: "z".to_owned() };
    let event = Record { sequence: 0, id: Uuid::from_u128(50), at_ms: 3, body: RecordBody::AdminEvent(event) };
    for _ in 0..2 {
        assert_eq!(store.add_events(std::slice::from_ref(&event), "3", 9).unwrap(), 2);
    }
    assert_eq!(store.remembered(EVENTS_KNOWN_UNTIL).unwrap().as_deref(), Some("3"));
    let records = store.records_after(1, 10).unwrap();
    assert_eq!(records, [Record { sequence: 2, ..event }]);
    let all = question(0, HOUR_MS, UsageStep::Hour, UsageBy::Tenant);
    assert_eq!(total(&store.usage(&all, 10).unwrap().unwrap()), counts(5));
}

#[test]
fn usage_is_told_by_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut taken = step(0);
    taken.records = (0..60)
        .map(|number: u64| {
            usage(u128::from(number) + 1, number * 10 * 60_000, (number % 2) as u8, (number % 3) as u8, number + 1)
        })
        .collect();
    store.take_in(&taken).unwrap();
    let everything = of_records(&taken.records);
    for by in [UsageBy::Tenant, UsageBy::Table, UsageBy::Operation, UsageBy::Principal, UsageBy::Result] {
        for step in [UsageStep::Minute, UsageStep::Hour, UsageStep::Day] {
            let rows = store.usage(&question(0, 24 * HOUR_MS, step, by), 1000).unwrap().unwrap();
            assert_eq!(total(&rows), everything, "{by:?} {step:?}");
            assert!(rows.iter().all(|row| row.at_ms % step.length_ms() == 0));
            let keys: BTreeSet<_> = rows.iter().map(|row| (row.at_ms, row.of.clone())).collect();
            assert_eq!(keys.len(), rows.len(), "each kind once in each step");
        }
    }
    let of = |question: UsageQuestion| store.usage(&question, 1000).unwrap().unwrap();
    let base = question(0, 24 * HOUR_MS, UsageStep::Day, UsageBy::Table);
    let rows = of(UsageQuestion { tenant: Some(TenantId::from_bytes([1; 16])), ..base.clone() });
    assert_eq!(rows.len(), 3, "two tables, and requests that name none");
    assert!(rows.iter().all(|row| row.of.tenant_name.as_deref() == Some("tenant-1")));
    let names: BTreeSet<_> = rows.iter().map(|row| row.of.table_name.clone()).collect();
    assert_eq!(names, [None, Some("table-1".to_owned()), Some("table-2".to_owned())].into());
    let rows = of(UsageQuestion { table: Some(TableId::from_bytes([102; 16])), ..base.clone() });
    let expected: u64 = (0..60).filter(|number| number % 3 == 2).map(|number| number + 1).sum();
    assert_eq!(total(&rows).requests, expected);
    let hour = of(question(2 * HOUR_MS, 3 * HOUR_MS, UsageStep::Minute, UsageBy::Operation));
    assert_eq!(total(&hour).requests, (13..=18).sum::<u64>());
    assert_eq!(store.usage(&base, 3).unwrap(), None, "too many rows are no answer");
}

#[test]
fn what_is_too_old_goes_unless_a_sink_lacks_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut taken = TakenIn { at_ms: HOUR_MS, ..step(0) };
    taken.records = (0..50).map(|number| usage(number, number as u64 * HOUR_MS, 1, 1, 1)).collect();
    store.take_in(&taken).unwrap();
    let from =
        |hours: u64| KeepFrom { records_ms: hours * HOUR_MS, minutes_ms: hours * HOUR_MS, hours_ms: hours * HOUR_MS };
    let left = || store.records_after(0, 100).unwrap().len();
    assert_eq!(store.prune(&from(0), 1000).unwrap(), 0);
    store.sinks_are(&["files".to_owned(), "postgres".to_owned()]).unwrap();
    store.set_sink_position("files", 50).unwrap();
    store.set_sink_position("postgres", 20).unwrap();
    let records = KeepFrom { minutes_ms: 0, hours_ms: 0, ..from(2) };
    assert_eq!((store.prune(&records, 15).unwrap(), left()), (15, 35), "a piece at a time");
    assert_eq!((store.prune(&records, 15).unwrap(), left()), (5, 30), "those that all have");
    store.sinks_are(&["files".to_owned(), "new".to_owned()]).unwrap();
    assert_eq!((store.sink_position("files").unwrap(), store.sink_position("postgres").unwrap()), (50, 0));
    assert_eq!(store.prune(&records, 100).unwrap(), 0, "the new one wants what there is");
    store.sinks_are(&["files".to_owned()]).unwrap();
    assert_eq!((store.prune(&records, 100).unwrap(), left()), (30, 0));
    assert_eq!(store.newest().unwrap(), 50, "no sequence is given again");

    let requests =
        |step| total(&store.usage(&question(0, 50 * HOUR_MS, step, UsageBy::Tenant), 100).unwrap().unwrap()).requests;
    assert_eq!(requests(UsageStep::Minute), 50);
    let minutes = KeepFrom { records_ms: 0, minutes_ms: 30 * HOUR_MS, hours_ms: 10 * HOUR_MS };
    let mut gone = 0;
    while let more @ 1.. = store.prune(&minutes, 7).unwrap() {
        gone += more;
    }
    assert_eq!((requests(UsageStep::Minute), requests(UsageStep::Hour)), (20, 40));
    assert_eq!(gone, 30 + 10 + 1, "and how far a component was taken in that was not heard of for so long");
}

#[test]
fn what_no_honest_component_counts_does_not_break_the_sums() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut taken = step(0);
    taken.records = (0..100).map(|number| usage(number, 0, 1, 1, 1)).collect();
    for record in &mut taken.records {
        if let RecordBody::Usage(usage) = &mut record.body {
            usage.counts.requests = u64::MAX;
        }
    }
    store.take_in(&taken).unwrap();
    let rows = store.usage(&question(0, HOUR_MS, UsageStep::Hour, UsageBy::Tenant), 10).unwrap().unwrap();
    assert_eq!(total(&rows).requests, 100 << 42);
}

#[test]
fn the_file_is_sealed_and_follows_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.take_in(&step(0)).unwrap();
    store.remember("members", "a-secret-address").unwrap();
    drop(store);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for clear in [&b"a-secret-address"[..], b"acme", b"CREATE TABLE"] {
            assert!(!bytes.windows(clear.len()).any(|window| window == clear));
        }
    }
    assert_eq!(
        try_open(folder.path(), &[1, 2]).unwrap().remembered("members").unwrap().as_deref(),
        Some("a-secret-address")
    );
    assert!(
        matches!(try_open(folder.path(), &[1]).err().unwrap(), StoreError::Key(_)),
        "the old version opens it no more"
    );
    assert_knows(&try_open(folder.path(), &[2]).unwrap(), 1);
}
