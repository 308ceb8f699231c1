//! Whatever way batches come, in whatever pieces and however often, over any restarts: the same records, and every count once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::ids::{PrincipalId, Role, TableId, TenantId};
use crate::domain::usage::{BatchId, EarlierStart, UsageOperation, UsageResult};

const PROXY: Component = Component { role: Role::Proxy, id: Uuid::from_u128(7) };

/// A store in memory, with the rules of the real one.
#[derive(Default, Clone)]
struct Stored {
    standing: Standing,
    records: Vec<Record>,
}

impl Stored {
    fn intake(&self) -> Intake {
        Intake::resume(PROXY, self.standing.clone())
    }

    fn store(&mut self, taken: Option<TakenIn>) {
        let Some(taken) = taken else { return };
        let standing = &mut self.standing;
        assert_eq!(taken.changes, standing.changes, "nobody else took in");
        standing.changes += 1;
        for kept in &taken.kept {
            standing.kept.retain(|other| other.boot != kept.boot);
            standing.kept.push(*kept);
        }
        (standing.last, standing.dropped, standing.heard_ms) = (taken.last, taken.dropped, taken.at_ms);
        if taken.ended {
            standing.open.clear();
        }
        standing.open.extend(taken.open);
        self.records.extend(taken.records);
    }
}

fn key(number: u8) -> UsageKey {
    UsageKey {
        tenant: TenantId::from_bytes([number % 2; 16]),
        table: (!number.is_multiple_of(3)).then(|| TableId::from_bytes([number; 16])),
        principal: Some(PrincipalId::from_bytes([1; 16])),
        operation: UsageOperation::ALL[usize::from(number) % UsageOperation::ALL.len()],
        result: UsageResult::Ok,
    }
}

fn counts(requests: u64) -> UsageCounts {
    let mut counts = UsageCounts { requests, written_bytes: 10 * requests, ..UsageCounts::default() };
    counts.latency.add(requests);
    counts
}

fn batch(boot: u128, interval: u64, began_ms: u64, counted: &[(u8, u64)]) -> UsageBatch {
    UsageBatch {
        id: BatchId { component: PROXY, boot: Uuid::from_u128(boot), interval },
        began_ms,
        ended_ms: began_ms + 999,
        before: None,
        is_last: false,
        counts: counted.iter().map(|(number, requests)| (key(*number), counts(*requests))).collect(),
        ranges: Vec::new(),
        node: None,
        names: BTreeMap::from([(Uuid::from_bytes([0; 16]), "acme".to_owned())]),
    }
}

fn pulled(batches: &[UsageBatch]) -> UsagePulled {
    UsagePulled { component: PROXY, batches: batches.to_vec(), dropped: 0 }
}

/// What one component counts: some starts, each with batches a second or more apart, whose clock may be put back.
fn histories() -> impl Strategy<Value = Vec<UsageBatch>> {
    let second = (proptest::collection::btree_map(0u8..6, 1u64..50, 0..4), 0u64..15, any::<bool>());
    let start = (proptest::collection::vec(second, 1..25), any::<bool>());
    proptest::collection::vec(start, 1..4).prop_map(|starts| {
        let (mut batches, mut now_ms) = (Vec::new(), 1_800_000_000_000u64);
        for (number, (seconds, is_planned)) in starts.into_iter().enumerate() {
            let count = seconds.len();
            for (index, (counted, pause, goes_back)) in seconds.into_iter().enumerate() {
                now_ms = if goes_back && pause == 0 { now_ms - 7_000 } else { now_ms + 1_000 * pause.max(1) };
                let counted: Vec<(u8, u64)> = counted.into_iter().collect();
                let mut next = batch(number as u128 + 1, index as u64 + 1, now_ms, &counted);
                next.is_last = is_planned && index + 1 == count;
                batches.push(next);
            }
        }
        batches
    })
}

fn sums(records: &[Record]) -> BTreeMap<UsageKey, UsageCounts> {
    let mut sums: BTreeMap<UsageKey, UsageCounts> = BTreeMap::new();
    for record in records {
        if let RecordBody::Usage(usage) = &record.body {
            sums.entry(usage.key).or_default().merge(&usage.counts);
        }
    }
    sums
}

fn counted(batches: &[UsageBatch]) -> BTreeMap<UsageKey, UsageCounts> {
    let mut sums: BTreeMap<UsageKey, UsageCounts> = BTreeMap::new();
    batches
        .iter()
        .flat_map(|batch| &batch.counts)
        .for_each(|(key, counts)| sums.entry(*key).or_default().merge(counts));
    sums
}

fn ids(records: &[Record]) -> BTreeSet<Uuid> {
    records.iter().map(|record| record.id).collect()
}

/// All at once, and the end of it.
fn at_once(batches: &[UsageBatch]) -> Stored {
    let mut stored = Stored::default();
    stored.store(stored.intake().take(pulled(batches), 1).unwrap());
    let ended = stored.intake().end_overdue(false, 1 + SILENCE_MS);
    stored.store(ended);
    stored
}

proptest! {
    #[test]
    fn the_same_records_come_of_any_pieces(
        batches in histories(),
        // How many are told at once, how many of those before are told again, and whether the process is killed after
        // (1: having stored it, 2: before).
        pieces in proptest::collection::vec((1usize..8, 0usize..5, 0u8..3), 1..200),
    ) {
        let expected = at_once(&batches);
        prop_assert_eq!(sums(&expected.records), counted(&batches));
        prop_assert_eq!(ids(&expected.records).len(), expected.records.len(), "each has an id of its own");

        let (mut stored, mut told, mut was_killed) = (Stored::default(), 0, false);
        let mut intake = stored.intake();
        let mut pieces = pieces.into_iter().cycle();
        while told < batches.len() {
            let (more, again, killed) = pieces.next().unwrap_or((1, 0, 0));
            let piece = &batches[told.saturating_sub(again)..(told + more).min(batches.len())];
            let taken = intake.take(pulled(piece), 1).unwrap();
            if killed == 2 && !std::mem::replace(&mut was_killed, true) {
                intake = stored.intake();
                continue;
            }
            was_killed = false;
            stored.store(taken);
            told = (told + more).min(batches.len());
            if killed == 1 {
                intake = stored.intake();
            }
        }
        prop_assert_eq!(&intake, &stored.intake(), "memory and disk know the same");
        let ended = intake.end_overdue(false, 1 + SILENCE_MS);
        stored.store(ended);
        prop_assert_eq!(&stored.records, &expected.records);
        // Everything once more, as to one whose name the component does not know.
        let again = stored.intake().take(pulled(&batches), 2).unwrap();
        prop_assert!(again.is_none_or(|again| again.records.is_empty() && again.open.is_empty()));
    }

    #[test]
    fn waiting_may_cut_runs_and_loses_nothing(batches in histories(), waits in proptest::collection::vec(any::<bool>(), 100)) {
        let mut stored = Stored::default();
        for (batch, waits) in batches.iter().zip(waits) {
            stored.store(stored.intake().take(pulled(std::slice::from_ref(batch)), 1).unwrap());
            if waits {
                let ended = stored.intake().end_overdue(true, u64::MAX);
                stored.store(ended);
            }
        }
        let ended = stored.intake().end_overdue(false, u64::MAX);
        stored.store(ended);
        prop_assert_eq!(sums(&stored.records), counted(&batches));
        prop_assert_eq!(ids(&stored.records).len(), stored.records.len());
    }

    #[test]
    fn any_answer_is_taken_in_or_refused(batches in histories(), at: usize, byte: u8) {
        let mut text = serde_json::to_vec(&pulled(&batches)).unwrap();
        let at = at % text.len();
        text[at] = byte;
        fuzz_usage_pulled(&text);
    }
}

#[test]
fn a_run_ends_when_its_time_is_over_and_all_is_told() {
    let mut intake = Stored::default().intake();
    intake.take(pulled(&[batch(1, 1, 20_500, &[(1, 1)])]), 21_600).unwrap();
    assert_eq!(intake.clone().end_overdue(true, 34_999), None, "more may be on its way");
    assert_eq!(intake.clone().end_overdue(false, 40_000), None, "it was not asked");
    let ended = intake.clone().end_overdue(true, 35_000).unwrap();
    assert_eq!((ended.records.len(), ended.records[0].at_ms, ended.ended), (1, 20_000, true));
    assert!(intake.end_overdue(false, 21_600 + SILENCE_MS).is_some());
    assert_eq!(intake.end_overdue(true, u64::MAX), None, "once");
}

#[test]
fn what_is_missing_is_a_notice() {
    let messages = |taken: &TakenIn| -> Vec<String> {
        let notices = taken.records.iter().filter_map(|record| match &record.body {
            RecordBody::Notice(event) => Some(event.message.clone()),
            _ => None,
        });
        notices.collect()
    };
    let start = |was_planned| {
        let before = EarlierStart { boot: Uuid::from_u128(1), interval: 9, ended_ms: 1_767_225_600_000, was_planned };
        UsageBatch { before: Some(before), ..batch(2, 1, 1_767_225_700_000, &[]) }
    };
    let mut intake = Stored::default().intake();
    let cut = intake.take(pulled(&[start(false)]), 1).unwrap().unwrap();
    let expected = format!(
        "up to one second of counts of proxy {} is missing: its process was cut off after 2026-01-01T00:00:00Z",
        PROXY.id
    );
    assert_eq!(messages(&cut), [expected]);
    assert!(messages(&Stored::default().intake().take(pulled(&[start(true)]), 1).unwrap().unwrap()).is_empty());

    let told = |intake: &mut Intake, dropped| intake.take(UsagePulled { dropped, ..pulled(&[]) }, 1).unwrap();
    let first = messages(&told(&mut intake, 5).unwrap());
    assert!(first[0].starts_with("5 batches of counts"), "{first:?}");
    assert_eq!(told(&mut intake, 5), None);
    assert!(messages(&told(&mut intake, 7).unwrap())[0].starts_with("2 batches"));
    assert!(messages(&told(&mut intake, 1).unwrap())[0].starts_with("1 batches"), "its spool began anew");
}

#[test]
fn gauges_are_those_of_the_end_and_names_those_told_last() {
    let mut first = batch(1, 1, 20_000, &[(2, 1)]);
    first.node = Some(NodeGauge { syncs: 1, ..NodeGauge::default() });
    let mut second = batch(1, 2, 21_000, &[]);
    second.node = Some(NodeGauge { syncs: 5, ..NodeGauge::default() });
    second.names.insert(Uuid::from_bytes([0; 16]), "renamed".to_owned());
    second.is_last = true;
    let taken = Stored::default().intake().take(pulled(&[first, second]), 1).unwrap().unwrap();
    let [usage, node] = &taken.records[..] else { panic!("{:?}", taken.records) };
    let (RecordBody::Usage(usage), RecordBody::Node(node)) = (&usage.body, &node.body) else { panic!("{taken:?}") };
    assert_eq!((usage.tenant_name.as_deref(), node.gauge.syncs), (Some("renamed"), 5));
}

#[test]
fn another_ones_answer_is_refused() {
    let other = Component { role: Role::Node, ..PROXY };
    let mut intake = Stored::default().intake();
    assert!(intake.take(UsagePulled { component: other, batches: Vec::new(), dropped: 0 }, 1).is_err());
    let mut foreign = batch(1, 1, 1, &[]);
    foreign.id.component = other;
    assert!(intake.take(pulled(&[foreign]), 1).is_err());
}
