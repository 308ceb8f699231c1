//! Histories made by a store that is known to be correct: each operation takes effect at one moment between question and
//! answer, some lose their answer. They pass. With one answer changed to what such a store never gives, they fail.

use proptest::prelude::*;

use super::{Effort, Ended, search};
use crate::history::{Action, Answer, Condition, Document, NEVER, Operation, Patch, Stored};
use crate::{check_end, check_key, check_versions};

/// Numbers from a seed: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// The store.
#[derive(Default)]
struct Store {
    item: Option<Stored>,
    version: u64,
}

impl Store {
    /// Does it now.
    fn take(&mut self, action: &Action, condition: Condition) -> Answer {
        if *action == Action::Read {
            return Answer::Item(self.item.clone());
        }
        let holds = match (condition, &self.item) {
            (Condition::Always, _) | (Condition::IfAbsent, None) => true,
            (Condition::IfVersion(version), Some(item)) => version == item.version,
            (Condition::IfVersion(_), None) | (Condition::IfAbsent, Some(_)) => false,
        };
        let was = self.item.take();
        if was.is_none() && !matches!(action, Action::Put(_)) {
            let failed = matches!(condition, Condition::IfVersion(_));
            return if failed { Answer::PreconditionFailed } else { Answer::NotFound };
        }
        if !holds {
            self.item = was;
            return Answer::PreconditionFailed;
        }
        self.version += 1;
        let document = match action {
            Action::Put(document) => document.clone(),
            Action::Merge(patch) => was.as_ref().expect("it is there").document.merged(patch),
            Action::Delete | Action::Read => return Answer::Deleted,
        };
        self.item = Some(Stored { version: self.version, document });
        if was.is_some() { Answer::Updated(self.version) } else { Answer::Created(self.version) }
    }
}

/// One client's operation under way.
struct UnderWay {
    operation: Operation,
    answer: Option<Answer>,
    forgotten: bool,
}

/// A history of so many operations by so many clients; one in `lost_one_in` loses its answer.
fn history(seed: u64, count: usize, clients: usize, lost_one_in: u64) -> Vec<Operation> {
    let (mut dice, mut store, mut now) = (Dice(seed), Store::default(), 0);
    let mut under_way: Vec<UnderWay> = Vec::new();
    let mut ended: Vec<Operation> = Vec::new();
    let mut asked = 0;
    while asked < count || under_way.iter().any(|one| !one.forgotten) {
        now += 1;
        let waiting = under_way.iter().filter(|one| !one.forgotten).count();
        if asked < count && waiting < clients && dice.roll(2) == 0 {
            asked += 1;
            let (action, condition) = chosen(&mut dice, asked as u64, &store);
            let operation = Operation {
                client: asked as u64,
                action,
                condition,
                asked: now,
                answered: NEVER,
                answer: Answer::Unknown,
            };
            under_way.push(UnderWay { operation, answer: None, forgotten: false });
        } else if !under_way.is_empty() {
            let at = dice.roll(under_way.len() as u64) as usize;
            let one = &mut under_way[at];
            match &one.answer {
                None if one.operation.is_write() && !one.forgotten && dice.roll(lost_one_in) == 0 => {
                    // Nobody hears of it any more, but it may still happen.
                    one.forgotten = true;
                    ended.push(one.operation.clone());
                }
                None => one.answer = Some(store.take(&one.operation.action, one.operation.condition)),
                Some(_) => {
                    let UnderWay { operation, answer, forgotten } = under_way.swap_remove(at);
                    if !forgotten {
                        ended.push(Operation { answered: now, answer: answer.expect("it has one"), ..operation });
                    }
                }
            }
        }
    }
    ended
}

fn chosen(dice: &mut Dice, number: u64, store: &Store) -> (Action, Condition) {
    let known = store.item.as_ref().map(|item| item.version);
    let condition = match (dice.roll(4), known) {
        (0, Some(version)) => Condition::IfVersion(version - u64::from(version > 1 && dice.roll(3) == 0)),
        (1, _) if dice.roll(3) == 0 => Condition::IfAbsent,
        _ => Condition::Always,
    };
    match dice.roll(10) {
        0..=3 => (Action::Read, Condition::Always),
        4..=6 => (Action::Put(Document::of(&[("a", number)])), condition),
        7 | 8 => (Action::Merge(Patch([("b".to_owned(), Some(number))].into())), condition),
        _ => (Action::Delete, if condition == Condition::IfAbsent { Condition::Always } else { condition }),
    }
}

fn last(history: &[Operation]) -> Option<&Operation> {
    history
        .iter()
        .filter(|operation| operation.acknowledged_version().is_some())
        .max_by_key(|operation| operation.asked)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_correct_store_answers_passes(seed: u64, clients in 1usize..12, lost_one_in in 5u64..40) {
        let history = history(seed, 200, clients, lost_one_in);
        prop_assert!(check_key(&history).is_ok(), "{}", check_key(&history).unwrap_err());
        prop_assert_eq!(check_versions(&history), Ok(()));
    }

    /// A read that ended before this write was asked is moved behind its answer.
    #[test]
    fn a_stale_read_fails(seed: u64, clients in 1usize..8) {
        let mut history = history(seed, 150, clients, 20);
        let Some(write) = last(&history).cloned() else { return Ok(()) };
        let old = history.iter().position(|read| matches!(read.answer, Answer::Item(Some(_))) && read.is_before(&write));
        let Some(old) = old else { return Ok(()) };
        let end = history.iter().filter(|one| one.answered != NEVER).map(|one| one.answered).max().unwrap_or(0);
        history.push(Operation { asked: end + 1, answered: end + 2, ..history[old].clone() });
        prop_assert!(check_key(&history).is_err());
    }

    /// An acknowledged write never reached the store.
    #[test]
    fn a_lost_write_fails(seed: u64, clients in 1usize..8) {
        let mut history = history(seed, 150, clients, 20);
        let seen = history.iter().rev().find_map(|read| match &read.answer {
            Answer::Item(Some(item)) => Some((read.clone(), item.clone())),
            _ => None,
        });
        let Some((read, item)) = seen else { return Ok(()) };
        let end = history.iter().filter(|one| one.answered != NEVER).map(|one| one.answered).max().unwrap_or(0);
        let version = end + 1000;
        let put = Action::Put(Document::of(&[("a", version)]));
        let (asked, answered) = (end + 1, end + 2);
        history.push(Operation { action: put, asked, answered, answer: Answer::Updated(version), ..read.clone() });
        history.push(Operation { asked: end + 3, answered: end + 4, ..read });
        prop_assert!(check_key(&history).is_err());
        prop_assert!(check_end(&history, Some(&item)).is_err());
    }

    /// Somebody read what nobody wrote, because the write that wrote it was refused for good.
    #[test]
    fn a_read_of_what_was_refused_fails(seed: u64, clients in 1usize..8) {
        let mut history = history(seed, 150, clients, 20);
        let written = history.iter().position(|write| {
            let Action::Put(document) = &write.action else { return false };
            let reads = |read: &Operation| matches!(&read.answer, Answer::Item(Some(item)) if item.document == *document);
            history.iter().any(reads)
        });
        let Some(written) = written else { return Ok(()) };
        history[written].answer = Answer::NotDone;
        prop_assert!(check_key(&history).is_err());
    }
}

/// Some thousand operations of one key take a few places each: counted, because a slow search looks like a slow machine.
#[test]
fn long_histories_take_a_few_steps_for_each_operation() {
    for (seed, lost_one_in) in [(1, 1000), (2, 100), (3, 30)] {
        let history = history(seed, 10_000, 16, lost_one_in);
        let mut sorted: Vec<&Operation> = history.iter().collect();
        sorted.sort_by_key(|operation| operation.asked);
        let mut effort = Effort { places: 100 * 10_000, foresees: true };
        assert!(matches!(search(&sorted, &mut effort), Ended::Explained), "seed {seed}");
    }
}
