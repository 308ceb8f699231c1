//! What became of a write that was answered when it was durable in the leader's log alone: queued, ended (done or
//! refused), or lost.
//!
//! A receipt is given for one entry at one place of the log. If the write is tried again it is another entry with
//! another receipt, so a receipt ends as its entry ends:
//!
//! - **ended** when the entry is applied. The outcome is kept with the range's data, in the same transaction, goes by its hash
//!   through a split, and is in snapshots; it is forgotten after 24 hours.
//! - **lost** when the entry can never be applied any more: something else is committed at its place, or a later term is
//!   committed before it ([`fate`]). That one replica cut it off is **not** enough: another may still have it, lead, and
//!   commit it.
//! - **queued** in between.
//!
//! Who is asked may have neither: a new leader knows only what it applied and what waits in its own log. It may say
//! *lost* of a receipt it does not know ([`answer`]) only as the leader of its term, confirmed after the question came, and
//! after an entry of its own term was applied: then every entry of an earlier term is either in its log or never will be,
//! and an entry of a later term would have cost it the confirmation. Everyone else says so and names the leader.
//!
//! What the next author must keep: *lost* and *ended* are final, to everyone who asks.

use super::machine_state::LogPlace;
use super::operation::Outcome;

/// How the entry of a receipt stands in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It may be committed or not.
    Open,
    /// It is committed.
    Committed,
    /// It can never be committed.
    Lost,
}

/// The fate of the entry at `place`, where `committed` is the last committed entry, and `term_at` gives the term of a
/// committed entry by its index: none where the log does not go back that far.
///
/// Where a log begins behind `place` there is nothing to compare with: [`Fate::Open`] is said, and the kept outcomes
/// decide ([`answer`]).
pub fn fate(place: LogPlace, committed: LogPlace, term_at: impl Fn(u64) -> Option<u64>) -> Fate {
    if committed.index < place.index {
        // What is committed in a later term is in the log of every later leader, and the entry cannot come behind it.
        return if committed.term > place.term { Fate::Lost } else { Fate::Open };
    }
    match term_at(place.index) {
        Some(term) if term == place.term => Fate::Committed,
        Some(_) => Fate::Lost,
        None => Fate::Open,
    }
}

/// What a replica knows when it is asked about a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Knowledge<'a> {
    /// The outcome, where it is kept with the data.
    pub kept: Option<&'a Outcome>,
    /// Whether the entry waits in this replica's own log, behind what is applied.
    pub waits_in_own_log: bool,
    /// Whether this replica leads, and a majority confirmed it **after** the question came, or its lease covers that moment.
    pub is_confirmed_leader: bool,
    /// Whether an entry of its own term has been applied here, and all that was committed when the question came.
    pub has_applied_own_term: bool,
}

/// What is answered about a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The write ended so. Final.
    Ended(Outcome),
    /// It is in the leader's log and not yet applied.
    Queued,
    /// It was never applied and never will be. Final. A receipt that was forgotten after its time, or never given, looks
    /// the same from here.
    Lost,
    /// This replica cannot know: the leader is to be asked, or the question asked again.
    AskLeader,
}

/// What a replica answers about a receipt.
pub fn answer(knowledge: &Knowledge<'_>) -> Answer {
    if let Some(outcome) = knowledge.kept {
        return Answer::Ended(outcome.clone());
    }
    if !knowledge.is_confirmed_leader {
        return Answer::AskLeader;
    }
    if knowledge.waits_in_own_log {
        return Answer::Queued;
    }
    if knowledge.has_applied_own_term { Answer::Lost } else { Answer::AskLeader }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::version::ItemVersion;
    use proptest::prelude::*;

    const fn place(term: u64, index: u64) -> LogPlace {
        LogPlace { term, index }
    }

    #[test]
    fn an_entry_is_lost_when_another_is_committed_in_its_way() {
        let terms = [0, 1, 1, 3, 3];
        let term_at = |index: u64| terms.get(index as usize).copied();
        let ask = |entry, committed| fate(entry, committed, term_at);
        assert_eq!(ask(place(1, 2), place(3, 4)), Fate::Committed);
        assert_eq!(ask(place(2, 3), place(3, 4)), Fate::Lost, "another entry stands there");
        assert_eq!(ask(place(2, 9), place(3, 4)), Fate::Lost, "a later term is committed before it");
        assert_eq!(ask(place(3, 9), place(3, 4)), Fate::Open);
        assert_eq!(ask(place(5, 9), place(3, 4)), Fate::Open);
        assert_eq!(fate(place(1, 2), place(3, 4), |_| None), Fate::Open, "the log was purged");
    }

    #[test]
    fn only_a_confirmed_leader_says_lost() {
        let outcome = Outcome::Updated(ItemVersion(4));
        let knows = |kept, waits_in_own_log, is_confirmed_leader, has_applied_own_term| {
            answer(&Knowledge { kept, waits_in_own_log, is_confirmed_leader, has_applied_own_term })
        };
        assert_eq!(knows(Some(&outcome), true, false, false), Answer::Ended(outcome.clone()));
        assert_eq!(knows(None, true, true, false), Answer::Queued);
        assert_eq!(knows(None, false, true, true), Answer::Lost);
        assert_eq!(knows(None, false, true, false), Answer::AskLeader);
        assert_eq!(knows(None, true, false, true), Answer::AskLeader, "its log may be cut off");
    }

    proptest! {
        /// Whatever is committed next in a log whose terms never fall, what is lost stays lost, and what is committed
        /// stays so.
        #[test]
        fn a_fate_is_final(steps in proptest::collection::vec(0u64..2, 1..12), term in 0u64..6, index in 1u64..14) {
            let mut terms = vec![0];
            let mut before = Fate::Open;
            for step in steps {
                terms.push(terms[terms.len() - 1] + step);
                let committed = place(terms[terms.len() - 1], terms.len() as u64 - 1);
                let now = fate(place(term, index), committed, |index| terms.get(index as usize).copied());
                prop_assert!(before == Fate::Open || now == before, "{before:?} became {now:?}");
                before = now;
            }
        }
    }
}
