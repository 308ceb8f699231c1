//! An exporter that is killed at any step and started again, with a source and a sink that fail in every way, in time that passes
//! only when nothing else does.

use std::collections::BTreeSet;
use std::future::pending;

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::*;
use crate::domain::Refusal;
use crate::sinks::Terms;
use crate::sinks::samples::record;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(7)
    }
}

impl Random for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(0x5a);
    }
}

fn state() -> Arc<SinkState> {
    SinkState::new("test", Arc::new(Fixed), Arc::new(Fixed))
}

/// What happens at each call of a source or a sink, one after the other: 0 that it fails, 1 that it fails after it was done, 2 that it
/// panics. Behind the end nothing fails.
#[derive(Default)]
struct Fate {
    failures: Mutex<Vec<u8>>,
    /// Steps until the process is killed.
    steps: Mutex<Option<usize>>,
    killed: Notify,
}

#[derive(PartialEq)]
enum Fails {
    Never,
    Before,
    After,
}

impl Fate {
    async fn step(&self) {
        let is_last = {
            let mut steps = self.steps.lock();
            let is_last = *steps == Some(0);
            *steps = steps.map(|steps| steps.saturating_sub(1));
            is_last
        };
        if is_last {
            self.killed.notify_one();
            pending::<()>().await;
        }
    }

    async fn call(&self) -> Fails {
        self.step().await;
        match self.failures.lock().pop() {
            Some(0) => Fails::Before,
            Some(1) => Fails::After,
            // Without a word on stderr, where it would look like a failed test.
            Some(2) => std::panic::resume_unwind(Box::new("as the test wants")),
            _ => Fails::Never,
        }
    }
}

/// A source in memory. It does not let a position pass a record that the sink should have and has not.
struct Memory {
    records: Mutex<Vec<Record>>,
    last: watch::Sender<u64>,
    position: Mutex<u64>,
    fate: Arc<Fate>,
    held: Arc<Held>,
}

/// What sinks hold, by name: the sequences in the order in which they first came.
#[derive(Default)]
struct Held {
    sequences: Mutex<Vec<u64>>,
    refused: BTreeSet<u64>,
    kinds: Vec<RecordKind>,
}

impl Held {
    fn wants(&self, record: &Record) -> bool {
        self.kinds.contains(&RecordKind::of(record)) && !self.refused.contains(&record.sequence)
    }
}

impl Memory {
    fn add(&self, records: impl IntoIterator<Item = Record>) {
        self.records.lock().extend(records);
        self.last.send_replace(self.records.lock().last().map_or(0, |record| record.sequence));
    }

    async fn until_position(&self, position: u64) {
        until(|| *self.position.lock() == position).await;
    }
}

/// Waits until it holds; a day of a time that passes by itself is long enough for anything here.
async fn until(holds: impl Fn() -> bool) {
    let there = async {
        while !holds() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(86_400), there).await.expect("it holds in the end");
}

fn refusal() -> Refusal {
    Refusal::unavailable("not now", 1)
}

#[async_trait]
impl RecordSource for Memory {
    async fn records_after(&self, sequence: u64, limit: usize) -> Result<Vec<Record>, Refusal> {
        if self.fate.call().await != Fails::Never {
            return Err(refusal());
        }
        let records = self.records.lock();
        Ok(records.iter().filter(|record| record.sequence > sequence).take(limit).cloned().collect())
    }

    async fn position(&self, _sink: &str) -> Result<u64, Refusal> {
        if self.fate.call().await != Fails::Never {
            return Err(refusal());
        }
        Ok(*self.position.lock())
    }

    async fn set_position(&self, _sink: &str, sequence: u64) -> Result<(), Refusal> {
        let fails = self.fate.call().await;
        if fails == Fails::Before {
            return Err(refusal());
        }
        {
            let held: BTreeSet<u64> = self.held.sequences.lock().iter().copied().collect();
            let records = self.records.lock();
            let mut passed = records.iter().filter(|record| record.sequence <= sequence && self.held.wants(record));
            assert!(passed.all(|record| held.contains(&record.sequence)), "moved to {sequence} with {held:?}");
            let mut position = self.position.lock();
            assert!(sequence >= *position, "from {position} back to {sequence}");
            *position = sequence;
        }
        self.fate.step().await;
        if fails == Fails::After { Err(refusal()) } else { Ok(()) }
    }

    async fn until_more(&self, sequence: u64) {
        let mut last = self.last.subscribe();
        last.wait_for(|last| *last > sequence).await.expect("the source lives");
    }
}

struct Scripted {
    terms: Terms,
    fate: Arc<Fate>,
    held: Arc<Held>,
}

#[async_trait]
impl Sink for Scripted {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn take(&mut self, records: &[Record]) -> Result<(), SinkError> {
        assert!(!records.is_empty() && records.len() <= self.terms.records_max);
        let fails = self.fate.call().await;
        if fails == Fails::Before {
            return Err(SinkError::Later("not now".to_owned()));
        }
        if records.iter().any(|record| self.held.refused.contains(&record.sequence)) {
            return Err(SinkError::Unacceptable("never".to_owned()));
        }
        {
            let mut held = self.held.sequences.lock();
            for record in records {
                if !held.contains(&record.sequence) {
                    held.push(record.sequence);
                }
            }
        }
        self.fate.step().await;
        if fails == Fails::After { Err(SinkError::Later("lost".to_owned())) } else { Ok(()) }
    }
}

fn world(fate: Fate, held: Held) -> (Arc<Memory>, impl Fn(usize, Duration) -> Box<dyn Sink>) {
    let (fate, held) = (Arc::new(fate), Arc::new(held));
    let memory = Arc::new(Memory {
        records: Mutex::default(),
        last: watch::Sender::new(0),
        position: Mutex::default(),
        fate: Arc::clone(&fate),
        held: Arc::clone(&held),
    });
    let sink = move |records_max, patience| -> Box<dyn Sink> {
        let terms = Terms { records_max, patience, ..Terms::prompt("test", held.kinds.clone()) };
        Box::new(Scripted { terms, fate: Arc::clone(&fate), held: Arc::clone(&held) })
    };
    (memory, sink)
}

fn records(sequences: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    // Sequences may have gaps.
    sequences.map(|number| record(RecordKind::ALL[number as usize % 3], 2 * number)).collect()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

proptest! {
    #[test]
    fn every_record_arrives_in_order_whatever_happens(
        lives in proptest::collection::vec((0u64..60, 0usize..60, 1usize..20, 0u64..3), 0..8),
        failures in proptest::collection::vec(0u8..6, 0..120),
        refused in proptest::collection::btree_set(1u64..400, 0..6),
    ) {
        let fate = Fate { failures: Mutex::new(failures), ..Fate::default() };
        let kinds = vec![RecordKind::Usage, RecordKind::Node];
        let (memory, sink) = world(fate, Held { refused, kinds, ..Held::default() });
        run(async {
            let mut made = 0;
            for (more, steps, records_max, hours) in lives {
                memory.add(records(made + 1..=made + more));
                made += more;
                *memory.fate.steps.lock() = Some(steps);
                let sink = sink(records_max, Duration::from_secs(3600 * hours));
                let life = async {
                    tokio::select! {
                        () = run_sink(memory.clone(), sink, state()) => {}
                        () = memory.fate.killed.notified() => {}
                    }
                };
                // One that finds nothing more to do is ended, too.
                let _ = timeout(Duration::from_secs(5000), life).await;
            }
            memory.add(records(made + 1..=made + 5));
            *memory.fate.steps.lock() = None;
            let last = *memory.last.borrow();
            tokio::select! {
                () = run_sink(memory.clone(), sink(7, Duration::ZERO), state()) => {}
                () = memory.until_position(last) => {}
            }
        });
        let all = memory.records.lock();
        let wanted: Vec<u64> =
            all.iter().filter(|record| memory.held.wants(record)).map(|record| record.sequence).collect();
        prop_assert_eq!(&*memory.held.sequences.lock(), &wanted);
    }
}

#[test]
fn a_record_that_is_never_taken_is_set_aside_alone() {
    let held = Held { refused: [34, 40].into(), kinds: RecordKind::ALL.to_vec(), ..Held::default() };
    let (memory, sink) = world(Fate::default(), held);
    memory.add(records(1..=100));
    let state = state();
    run(async {
        tokio::select! {
            () = run_sink(memory.clone(), sink(1000, Duration::ZERO), Arc::clone(&state)) => {}
            () = memory.until_position(200) => {}
        }
    });
    let report = SinkReport { position: 200, sent: 98, set_aside: 2, ..SinkReport::default() };
    assert_eq!(state.report(), report);
    assert_eq!(memory.held.sequences.lock().len(), 98);
}

#[test]
fn a_sink_that_fails_says_so_and_is_nobody_elses_matter() {
    let everything = || Held { kinds: RecordKind::ALL.to_vec(), ..Held::default() };
    let (failing, failing_sink) = world(Fate { failures: Mutex::new(vec![0; 1_000]), ..Fate::default() }, everything());
    let (other, other_sink) = world(Fate::default(), everything());
    let (failing_state, other_state) = (state(), state());
    run(async {
        let first = tokio::spawn(run_sink(failing.clone(), failing_sink(10, Duration::ZERO), failing_state.clone()));
        let second = tokio::spawn(run_sink(other.clone(), other_sink(10, Duration::ZERO), other_state.clone()));
        failing.add(records(1..=20));
        other.add(records(1..=20));
        other.until_position(40).await;
        // What the first one lacks is not forgotten, and when it can again it gets all of it.
        let report = failing_state.report();
        assert_eq!((report.position, report.behind_since), (0, Some(Timestamp(7))));
        assert_eq!(report.last_error.as_deref(), Some("not now"));
        assert_eq!(other_state.report(), SinkReport { position: 40, sent: 20, ..SinkReport::default() });
        failing.fate.failures.lock().clear();
        failing.until_position(40).await;
        until(|| failing_state.report().behind_since.is_none()).await;
        let report = failing_state.report();
        assert!(report.errors > 0 && report.last_error.is_none());
        assert_eq!((report.position, report.sent, report.set_aside), (40, 20, 0));
        first.abort();
        second.abort();
    });
}

#[test]
fn a_sink_that_panics_is_told_and_goes_on() {
    let fate = Fate { failures: Mutex::new(vec![2; 5]), ..Fate::default() };
    let (memory, sink) = world(fate, Held { kinds: RecordKind::ALL.to_vec(), ..Held::default() });
    let state = state();
    run(async {
        let running = tokio::spawn(run_sink(memory.clone(), sink(10, Duration::ZERO), state.clone()));
        memory.add(records(1..=20));
        until(|| state.report().last_error.is_some()).await;
        let why = state.report().last_error.unwrap_or_default();
        assert!(why.contains("panicked"), "{why}");
        memory.until_position(40).await;
        running.abort();
    });
    assert_eq!(memory.held.sequences.lock().len(), 20);
}

#[test]
fn a_sink_that_is_patient_gets_large_pieces() {
    let (memory, sink) = world(Fate::default(), Held { kinds: RecordKind::ALL.to_vec(), ..Held::default() });
    run(async {
        let began = Instant::now();
        let patience = Duration::from_secs(3600);
        let running = tokio::spawn(run_sink(memory.clone(), sink(10, patience), state()));
        memory.add(records(1..=14));
        memory.until_position(20).await;
        assert!(began.elapsed() < Duration::from_secs(10), "a full piece does not wait");
        memory.until_position(28).await;
        assert!(began.elapsed() >= patience, "a smaller one does");
        running.abort();
    });
}

#[test]
fn back_off_grows_to_a_minute() {
    let state = state();
    let waits: Vec<u128> = (0..9).map(|failures| state.back_off(failures).as_millis()).collect();
    for (failures, wait) in waits.iter().enumerate() {
        let longest = (1000u128 << failures).min(60_000);
        assert!((longest / 2..=longest).contains(wait), "{failures}: {wait}");
    }
    assert!(state.back_off(u32::MAX) <= Duration::from_secs(60));
}
