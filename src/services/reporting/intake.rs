//! From the batches that a component tells to records that never change: a pure function of what is known of the component and
//! what it answers.
//!
//! # Runs
//! Batches of one start of a process that follow each other within one interval of ten seconds are a run; a run becomes records, one
//! for each key, range and node in it. It ends with the first batch that does not belong to it (of a later interval, or of
//! another start), with the last batch of a planned stop, when the component had nothing to add [`LATE_MS`] after the interval, or
//! when nothing was heard of it for [`SILENCE_MS`]. What comes for the same interval after that, as from a clock that was put back or
//! a network that was cut, is a run and records of its own: they add up.
//!
//! So which records there are depends on the batches and their order alone, not on how they were spread over answers, how often
//! they were told or when this process was killed; only waiting can cut a run in two. A record's id is a digest of
//! the component, the start, the first and last batch of its run, the interval and the key: told again it is the same, and no two
//! are alike, because no batch is in two runs.
//!
//! # What counts once
//! Of each start it is kept up to which number its batches were taken in ([`Standing::kept`]); whatever is not above that was counted.
//! That holds also where a component tells everything from its oldest batch on, because it does not know the name that was
//! acknowledged to it.
//!
//! # What is missing
//! A start that found the one before it cut off lost what that had counted since its last batch: at most a second. And a
//! component whose spool was full threw batches away. Both become notices among the records.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::ids::RangeId;
use crate::domain::usage::record::{
    EventRecord, NodeRecord, RECORD_INTERVAL_MS, RangeRecord, Record, RecordBody, UsageRecord,
};
use crate::domain::usage::{
    Component, KeptUpTo, NodeGauge, RangeGauge, UsageBatch, UsageCounts, UsageKey, UsagePulled,
};
use crate::domain::{Refusal, Timestamp};
use crate::storage::reporting::{Standing, TakenIn};

/// After how long without a new batch a run ends.
pub const SILENCE_MS: u64 = 60_000;
/// How long after its interval a run ends whose component has told all that it has.
pub const LATE_MS: u64 = 5_000;

/// What is known of a component, and its open run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intake {
    component: Component,
    known: HashMap<Uuid, u64>,
    last: Option<KeptUpTo>,
    run: Option<Run>,
    heard_ms: u64,
    dropped: u64,
    changes: u64,
}

impl Intake {
    /// Goes on from what was stored.
    pub fn resume(component: Component, standing: Standing) -> Self {
        let mut run = None;
        for batch in &standing.open {
            run.get_or_insert_with(|| Run::begin(batch)).add(batch);
        }
        Self {
            component,
            known: standing.kept.iter().map(|kept| (kept.boot, kept.interval)).collect(),
            last: standing.last,
            run,
            heard_ms: standing.heard_ms,
            dropped: standing.dropped,
            changes: standing.changes,
        }
    }

    /// The name to acknowledge.
    pub fn acknowledged(&self) -> Option<KeptUpTo> {
        self.last
    }

    /// Takes an answer in. What it adds, if anything, has to be stored before anything else is taken in.
    ///
    /// # Errors
    /// `Internal` where another component answers.
    pub fn take(&mut self, pulled: UsagePulled, now_ms: u64) -> Result<Option<TakenIn>, Refusal> {
        let component = self.component;
        if pulled.component != component || pulled.batches.iter().any(|batch| batch.id.component != component) {
            return Err(Refusal::internal(format!("{} answers for {}", of(pulled.component), of(component))));
        }
        let mut taken = self.begin(now_ms);
        self.note_dropped(pulled.dropped, &mut taken);
        for batch in pulled.batches {
            let known = self.known.entry(batch.id.boot).or_default();
            let is_new = batch.id.interval > *known;
            *known = batch.id.interval.max(*known);
            let kept = KeptUpTo { boot: batch.id.boot, interval: *known };
            taken.kept.retain(|other| other.boot != kept.boot);
            taken.kept.push(kept);
            self.last = Some(kept);
            if is_new {
                self.heard_ms = now_ms;
                self.add(batch, &mut taken);
            }
        }
        let is_nothing = taken.kept.is_empty() && taken.records.is_empty();
        Ok((!is_nothing).then(|| self.end(taken)))
    }

    /// Ends a run that has waited long enough. `is_told_all`: the component was just asked, and has nothing after it.
    pub fn end_overdue(&mut self, is_told_all: bool, now_ms: u64) -> Option<TakenIn> {
        let over_ms = self.run.as_ref()?.at_ms.saturating_add(RECORD_INTERVAL_MS + LATE_MS);
        let is_overdue = (is_told_all && now_ms >= over_ms) || now_ms.saturating_sub(self.heard_ms) >= SILENCE_MS;
        is_overdue.then(|| {
            let mut taken = self.begin(now_ms);
            self.end_run(&mut taken);
            self.end(taken)
        })
    }

    fn begin(&self, at_ms: u64) -> TakenIn {
        TakenIn {
            component: self.component,
            changes: self.changes,
            kept: Vec::new(),
            last: None,
            ended: false,
            open: Vec::new(),
            dropped: self.dropped,
            records: Vec::new(),
            at_ms,
        }
    }

    fn end(&mut self, taken: TakenIn) -> TakenIn {
        self.changes += 1;
        TakenIn { last: self.last, ..taken }
    }

    fn add(&mut self, batch: UsageBatch, taken: &mut TakenIn) {
        if let Some(before) = batch.before.filter(|before| !before.was_planned) {
            let id = Name::new(self.component, "cut").part(batch.id.boot.as_bytes()).part(before.boot.as_bytes());
            let since = Timestamp(before.ended_ms.saturating_mul(1000));
            let message = format!(
                "up to one second of counts of {} is missing: its process was cut off after {since}",
                of(self.component)
            );
            taken.records.push(notice(self.component, id.id(), before.ended_ms, message));
        }
        if self.run.as_ref().is_some_and(|run| !run.goes_on_with(&batch)) {
            self.end_run(taken);
        }
        self.run.get_or_insert_with(|| Run::begin(&batch)).add(&batch);
        let is_last = batch.is_last;
        taken.open.push(batch);
        if is_last {
            self.end_run(taken);
        }
    }

    fn end_run(&mut self, taken: &mut TakenIn) {
        if let Some(run) = self.run.take() {
            taken.records.extend(run.records(self.component));
        }
        taken.ended = true;
        taken.open.clear();
    }

    fn note_dropped(&mut self, dropped: u64, taken: &mut TakenIn) {
        // A smaller number is that of a spool that began anew.
        let more = dropped.checked_sub(self.dropped).unwrap_or(dropped);
        (self.dropped, taken.dropped) = (dropped, dropped);
        if more == 0 {
            return;
        }
        let boot = self.last.as_ref().map_or(Uuid::nil(), |last| last.boot);
        let id = Name::new(self.component, "dropped").part(boot.as_bytes()).part(&dropped.to_be_bytes());
        let message = format!(
            "{more} batches of counts of {} are missing: its spool was full, because reporting was away for too long",
            of(self.component)
        );
        taken.records.push(notice(self.component, id.id(), taken.at_ms, message));
    }
}

/// A component, for people.
fn of(component: Component) -> String {
    format!("{} {}", component.role, component.id)
}

fn notice(component: Component, id: Uuid, at_ms: u64, message: String) -> Record {
    let body = EventRecord { what: "counts-missing".to_owned(), subject: of(component), message };
    Record { sequence: 0, id, at_ms, body: RecordBody::Notice(body) }
}

/// A name in the making: a digest of parts, each with its length before it.
struct Name(Sha256);

impl Name {
    fn new(component: Component, kind: &str) -> Self {
        let role = component.role.to_string();
        Self(Sha256::new())
            .part(b"dstore/record/v1")
            .part(kind.as_bytes())
            .part(role.as_bytes())
            .part(component.id.as_bytes())
    }

    fn part(mut self, part: &[u8]) -> Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn id(self) -> Uuid {
        id_of_digest(&self.0.finalize())
    }
}

/// The id of what has this SHA-256 digest.
fn id_of_digest(digest: &[u8]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::new_v8(bytes)
}

/// The id of something that has a name of its own.
pub fn id_of_name(name: &str) -> Uuid {
    id_of_digest(&Sha256::digest(name))
}

/// Batches of one start and one interval that follow each other, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    boot: Uuid,
    at_ms: u64,
    first: u64,
    last: u64,
    counts: BTreeMap<UsageKey, UsageCounts>,
    ranges: BTreeMap<RangeId, RangeGauge>,
    node: Option<NodeGauge>,
    names: BTreeMap<Uuid, String>,
}

/// The interval of a batch.
fn interval_of(batch: &UsageBatch) -> u64 {
    batch.began_ms - batch.began_ms % RECORD_INTERVAL_MS
}

impl Run {
    fn begin(batch: &UsageBatch) -> Self {
        Self {
            boot: batch.id.boot,
            at_ms: interval_of(batch),
            first: batch.id.interval,
            last: batch.id.interval,
            counts: BTreeMap::new(),
            ranges: BTreeMap::new(),
            node: None,
            names: BTreeMap::new(),
        }
    }

    fn goes_on_with(&self, batch: &UsageBatch) -> bool {
        self.boot == batch.id.boot && self.at_ms == interval_of(batch)
    }

    fn add(&mut self, batch: &UsageBatch) {
        self.last = batch.id.interval;
        for (key, counts) in &batch.counts {
            self.counts.entry(*key).or_default().merge(counts);
        }
        self.ranges.extend(batch.ranges.iter().map(|gauge| (gauge.range, gauge.clone())));
        self.node = batch.node.or(self.node);
        self.names.extend(batch.names.iter().map(|(id, name)| (*id, name.clone())));
    }

    fn records(self, component: Component) -> Vec<Record> {
        let name = |kind: &str| {
            Name::new(component, kind)
                .part(self.boot.as_bytes())
                .part(&self.first.to_be_bytes())
                .part(&self.last.to_be_bytes())
                .part(&self.at_ms.to_be_bytes())
        };
        let record = |id: Name, body| Record { sequence: 0, id: id.id(), at_ms: self.at_ms, body };
        let named = |id: Uuid| self.names.get(&id).cloned();
        let usage = self.counts.iter().map(|(key, counts)| {
            let body = UsageRecord {
                component,
                key: *key,
                tenant_name: named(key.tenant.0),
                table_name: key.table.and_then(|table| named(table.0)),
                counts: *counts,
            };
            record(of_key(name("usage"), key), RecordBody::Usage(body))
        });
        let ranges = self.ranges.values().map(|gauge| {
            let body = RangeRecord {
                component,
                gauge: gauge.clone(),
                tenant_name: named(gauge.tenant.0),
                table_name: named(gauge.table.0),
            };
            record(name("range").part(gauge.range.as_bytes()), RecordBody::Range(body))
        });
        let node = self.node.map(|gauge| record(name("node"), RecordBody::Node(NodeRecord { component, gauge })));
        usage.chain(ranges).chain(node).collect()
    }
}

fn of_key(name: Name, key: &UsageKey) -> Name {
    name.part(key.tenant.as_bytes())
        .part(key.table.as_ref().map_or(&[][..], |table| &table.as_bytes()[..]))
        .part(key.principal.as_ref().map_or(&[][..], |principal| &principal.as_bytes()[..]))
        .part(key.operation.word().as_bytes())
        .part(key.result.word().as_bytes())
}

/// For the fuzzer: any answer is taken in or refused, and twice counts once.
#[doc(hidden)]
pub fn fuzz_usage_pulled(data: &[u8]) {
    let Ok(pulled) = serde_json::from_slice::<UsagePulled>(data) else { return };
    let mut intake = Intake::resume(pulled.component, Standing::default());
    if intake.take(pulled.clone(), 1).is_ok() {
        let again = intake.take(pulled, 2).unwrap_or_else(|refusal| panic!("it was taken in before: {refusal}"));
        assert!(again.is_none_or(|again| again.open.is_empty() && again.records.is_empty()));
    }
}

#[cfg(test)]
mod tests;
