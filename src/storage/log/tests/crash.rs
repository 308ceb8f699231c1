//! Power cuts: whatever was on its way to the disk, what was acknowledged is there and the rest is whole or absent.
//!
//! Each case runs a random script on a disk that loses power at a random change, keeps a random part of what was
//! not synced, and opens again; several times in a row, so that torn tails are overwritten and segments recycled
//! between crashes. The model is a map: at most one step is in doubt when the power goes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::super::*;
use super::harness::*;
use crate::domain::ids::RangeId;

#[derive(Debug, Clone)]
enum Step {
    /// Entries of two ranges in one go.
    Append {
        range: u8,
        count: u8,
        length: u16,
    },
    Truncate {
        range: u8,
        back: u8,
    },
    Vote {
        range: u8,
    },
    Remove {
        range: u8,
    },
    Flush {
        range: u8,
    },
    Drop,
    Rewrap {
        range: u8,
    },
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let range = 1u8..5;
    prop_oneof![
        12 => (range.clone(), 1u8..6, 0u16..1200).prop_map(|(range, count, length)| Step::Append { range, count, length }),
        2 => (range.clone(), 0u8..6).prop_map(|(range, back)| Step::Truncate { range, back }),
        2 => range.clone().prop_map(|range| Step::Vote { range }),
        1 => range.clone().prop_map(|range| Step::Remove { range }),
        4 => range.clone().prop_map(|range| Step::Flush { range }),
        3 => Just(Step::Drop),
        1 => range.prop_map(|range| Step::Rewrap { range }),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: BTreeMap<(RangeId, u64), Bytes>,
    votes: BTreeMap<RangeId, u64>,
    durable: BTreeMap<RangeId, u64>,
    /// Indexes grow for ever, so that each payload ever written differs.
    next: BTreeMap<RangeId, u64>,
}

impl Model {
    fn last(&self, range: RangeId) -> Option<u64> {
        self.entries.range((range, 0)..=(range, u64::MAX)).next_back().map(|((_, index), _)| *index)
    }

    /// The records of a step, applied to the model.
    fn step(&mut self, step: &Step, salt: u64) -> Vec<Append<u64>> {
        match *step {
            Step::Append { range: number, count, length } => {
                let mut appends = Vec::new();
                for number in [number, number % 4 + 1] {
                    for _ in 0..count {
                        let range = range(number);
                        let index = self.next.get(&range).copied().unwrap_or(1);
                        let mut record = record(number, RecordKind::Entry, index, length.into());
                        record.payload = payload(range, index * 1_000_000 + salt, length.into());
                        self.entries.insert((range, index), record.payload.clone());
                        self.next.insert(range, index + 1);
                        appends.push(plain(record));
                    }
                }
                appends
            }
            Step::Truncate { range: number, back } => {
                let range = range(number);
                let Some(last) = self.last(range) else { return Vec::new() };
                let floor = self.durable.get(&range).copied().unwrap_or(0);
                let from = last.saturating_sub(back.into()).max(floor + 1);
                self.entries.retain(|(of, index), _| *of != range || *index < from);
                self.next.insert(range, from);
                vec![urgent(record(number, RecordKind::Truncate, from, 0))]
            }
            Step::Vote { range: number } => {
                self.votes.insert(range(number), salt);
                vec![urgent(record(number, RecordKind::Vote, salt, 20))]
            }
            Step::Remove { range: number } => {
                let range = range(number);
                self.entries.retain(|(of, _), _| *of != range);
                self.votes.remove(&range);
                self.durable.remove(&range);
                self.next.remove(&range);
                vec![urgent(record(number, RecordKind::RangeRemoved, 0, 0))]
            }
            Step::Flush { .. } | Step::Drop | Step::Rewrap { .. } | Step::Reopen => Vec::new(),
        }
    }
}

/// Checks what a log shows against what was before the step in doubt and what would be after.
fn check(seen: &Seen, before: &Model, after: &Model) {
    let keys: BTreeSet<_> = before.entries.keys().chain(after.entries.keys()).copied().collect();
    for key in &keys {
        let (old, new) = (before.entries.get(key), after.entries.get(key));
        let shown = seen.entries.get(key).map(|payload| payload.as_ref().expect("all keys are there"));
        let is_flushed = before.durable.get(&key.0).is_some_and(|durable| key.1 <= *durable);
        match shown {
            None => assert!(old != new || is_flushed, "an acknowledged entry is lost: {key:?}"),
            Some(shown) => assert!(Some(shown) == old || Some(shown) == new, "entry {key:?} is not what was written"),
        }
    }
    let strange: Vec<_> = seen.entries.keys().filter(|key| !keys.contains(key)).collect();
    assert!(strange.is_empty(), "entries came back: {strange:?}");
    for range in (1..5).map(range) {
        let shown = seen.last(range, RecordKind::Vote).map(|vote| vote.index);
        let (old, new) = (before.votes.get(&range).copied(), after.votes.get(&range).copied());
        assert!(shown == old || shown == new, "vote {shown:?} of {range}, not {old:?} or {new:?}");
    }
}

/// What is shown is durable, so it is the state from here on.
fn adopt(seen: &Seen, before: &Model) -> Model {
    let mut model = Model { durable: before.durable.clone(), ..Model::default() };
    for (key, payload) in &seen.entries {
        model.entries.insert(*key, payload.clone().unwrap());
        let next = model.next.entry(key.0).or_default();
        *next = (*next).max(key.1 + 1);
    }
    // What is flushed is not in the log any more, and its indexes are not used again.
    for (range, durable) in &before.durable {
        let next = model.next.entry(*range).or_default();
        *next = (*next).max(durable + 1);
    }
    for vote in seen.others.iter().filter(|record| record.kind == RecordKind::Vote) {
        model.votes.insert(vote.range, vote.index);
    }
    model
}

struct Round<'a> {
    steps: &'a [Step],
    cut_after: u64,
}

/// Runs steps until the power goes; the states before and after the step in doubt.
fn run(harness: &Harness, round: &Round<'_>, mut model: Model, salt: &mut u64) -> (Model, Model) {
    harness.disk.cut_power_after(round.cut_after);
    let Ok(mut open) = harness.try_open() else {
        return (model.clone(), model);
    };
    check(&open.seen, &model, &model);
    model.durable.iter().for_each(|(range, index)| open.log.set_durable(*range, *index));
    for step in round.steps {
        *salt += 1;
        let mut after = model.clone();
        let appends = after.step(step, *salt);
        match step {
            Step::Flush { range: number } => {
                if let Some(last) = model.last(range(*number)) {
                    open.log.set_durable(range(*number), last);
                    model.durable.insert(range(*number), last);
                }
                continue;
            }
            Step::Drop => {
                if open.log.drop_segments().is_err() {
                    return (model, after);
                }
                continue;
            }
            Step::Rewrap { range: number } => {
                harness.keys.rotate(tenant(number % 4));
                if open.log.rewrap(tenant(number % 4)).is_err() {
                    return (model, after);
                }
                continue;
            }
            Step::Reopen => {
                let closed = open.log.close();
                drop(open);
                match harness.try_open() {
                    Ok(again) if closed.is_ok() => open = again,
                    _ => return (model, after),
                }
                check(&open.seen, &model, &model);
                model.durable.iter().for_each(|(range, index)| open.log.set_durable(*range, *index));
                continue;
            }
            _ => {}
        }
        let count = open.sink.so_far().len() + appends.len();
        let is_durable = open.log.append(appends).is_ok()
            && open.sink.wait_for(count).iter().all(|(_, outcome)| *outcome == Outcome::Durable);
        if !is_durable {
            return (model, after);
        }
        model = after;
    }
    (model.clone(), model)
}

fn rounds(rounds: Vec<(Vec<Step>, u64, u64)>) {
    let options = LogOptions { segment_bytes: 8192, budget_bytes: 32768, ..small_options() };
    let mut harness = Harness::with_options(options);
    let mut model = Model::default();
    let mut salt = 0;
    for (steps, cut_after, keep_seed) in &rounds {
        let round = Round { steps, cut_after: *cut_after };
        let (before, after) = run(&harness, &round, model, &mut salt);
        let random = SeededRandom::new(*keep_seed);
        let mut keep = || {
            let mut byte = [0];
            crate::domain::Random::fill(&random, &mut byte);
            byte[0] & 1 == 0
        };
        harness = harness.on(harness.disk.crash(&mut keep));
        let open = harness.open();
        check(&open.seen, &before, &after);
        model = adopt(&open.seen, &before);
        drop(open);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_crash_leaves_acknowledged_records_are_there_and_others_whole_or_absent(
        script in proptest::collection::vec((proptest::collection::vec(any_step(), 1..40), 0u64..250, any::<u64>()), 1..5)
    ) {
        rounds(script);
    }
}
