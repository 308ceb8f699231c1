//! When the members of a group had which entries, as their leader knows it: for traces.
//!
//! Nothing is remembered while nobody traces a write of the group, which is nearly always: then an answer costs a look at a
//! counter. Somebody who does takes a [`Watch`] before the write is proposed, and asks it afterwards, when the
//! write's place in the log is known. What is remembered is bounded, and goes with the last watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::domain::ids::ReplicaId;

/// Answers that are remembered, at most.
const ANSWERS_MAX: usize = 256;

/// See the module's essay.
#[derive(Debug, Default)]
pub struct AppendTimes {
    watches: AtomicUsize,
    answers: Mutex<Vec<(ReplicaId, Appended)>>,
}

/// An append that a member acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The last entry that it has since.
    pub last: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When its answer came.
    pub answered: Instant,
}

impl AppendTimes {
    /// Whether anybody wants to know.
    pub fn is_watched(&self) -> bool {
        self.watches.load(Ordering::Relaxed) > 0
    }

    /// A member has acknowledged an append.
    pub fn note(&self, member: ReplicaId, appended: Appended) {
        let mut answers = self.answers.lock();
        if answers.len() < ANSWERS_MAX {
            answers.push((member, appended));
        }
    }

    /// Remembers answers from now on, as long as this is held.
    pub fn watch(self: Arc<Self>) -> Watch {
        self.watches.fetch_add(1, Ordering::Relaxed);
        Watch(self)
    }
}

/// Somebody who wants to know.
pub struct Watch(Arc<AppendTimes>);

impl Watch {
    /// The append with which each member got this entry, of those that have answered.
    pub fn of(&self, index: u64) -> BTreeMap<ReplicaId, Appended> {
        let mut first = BTreeMap::new();
        for (member, appended) in self.0.answers.lock().iter().filter(|(_, appended)| appended.last >= index) {
            first.entry(*member).or_insert(*appended);
        }
        first
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.0.watches.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.0.answers.lock() = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_had_the_entry_with_its_first_answer_that_goes_so_far() {
        let times: Arc<AppendTimes> = Arc::default();
        let member = |number: u8| ReplicaId::from_bytes([number; 16]);
        let at = Instant::now();
        let note = |number, last| times.note(member(number), Appended { last, sent: at, answered: at });
        assert!(!times.is_watched());
        let (watch, other) = (times.clone().watch(), times.clone().watch());
        assert!(times.is_watched());
        for (number, last) in [(1, 6), (2, 9), (1, 7), (1, 8)] {
            note(number, last);
        }
        let known = |index| watch.of(index).into_iter().map(|(member, appended)| (member, appended.last));
        assert_eq!(known(7).collect::<Vec<_>>(), [(member(1), 7), (member(2), 9)]);
        assert_eq!(known(9).collect::<Vec<_>>(), [(member(2), 9)], "the other one has not said so yet");
        drop(other);
        assert_eq!(watch.of(6).len(), 2, "another watch takes nothing away");
        (0..2 * ANSWERS_MAX as u64).for_each(|last| note(3, last));
        assert_eq!(times.answers.lock().len(), ANSWERS_MAX);
        drop(watch);
        assert!(!times.is_watched() && times.answers.lock().is_empty());
    }
}
