//! A verdict that a person can follow. "Not linearizable" over some thousand operations helps nobody, so the history is first
//! cut to the moment at which it became impossible: the same operations up to the answer of one of them can be
//! explained, and with that answer they cannot. Then the longest order that was found is shown with the item after it, and why
//! nothing that may come next fits.
//!
//! The cut keeps the meaning: what was not yet answered at that moment is turned into an operation without an answer,
//! and reads that were not are left out. A history that cannot be explained at one moment cannot be at a later one, so the moment is found by
//! halving.

use std::fmt;

use crate::history::{Answer, NEVER, Operation};
use crate::search::{Best, Effort, Ended, search};

/// Places to try before a search gives up: some seconds, and some hundred megabytes.
const PLACES_MAX: u64 = 4_000_000;
/// Places to try for a better explanation.
const EXPLAINING_PLACES_MAX: u64 = 200_000;
/// How much of the order is shown.
const SHOWN_MAX: usize = 8;

/// Why a history cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The place in the history of the operation whose answer made it impossible; none where the search gave up, or
    /// where no single one can be named.
    pub culprit: Option<usize>,
    /// For people, in several lines.
    pub explanation: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.explanation)
    }
}

impl std::error::Error for Violation {}

/// Whether the operations of one key, in any order of the list, are linearizable.
///
/// # Errors
/// Where they are not, and where the search gave up before it knew; the explanation says which.
pub fn check_key(history: &[Operation]) -> Result<(), Violation> {
    match verdict(history) {
        Ended::Explained => Ok(()),
        Ended::GivenUp(_) => Err(Violation {
            culprit: None,
            explanation: format!(
                "not decided: {} operations, {} of them without an answer, are too tangled; use more keys or fewer clients",
                history.len(),
                history.iter().filter(|operation| operation.is_optional()).count()
            ),
        }),
        Ended::Stuck(_) => Err(explain(history)),
    }
}

fn verdict(history: &[Operation]) -> Ended {
    let mut sorted: Vec<&Operation> = history.iter().filter(|operation| operation.answer != Answer::NotDone).collect();
    sorted.sort_by_key(|operation| operation.asked);
    search(&sorted, &mut Effort { places: PLACES_MAX, foresees: true })
}

/// The history as it was known at this moment.
fn cut(history: &[Operation], at: u64) -> Vec<Operation> {
    let known = |operation: &&Operation| operation.asked <= at && (operation.answered <= at || operation.is_write());
    let as_known = |operation: &Operation| match operation.answered > at && !operation.is_optional() {
        // What never happened had not happened at that moment either, whoever knew.
        true if operation.answer != Answer::NotDone => {
            Operation { answered: NEVER, answer: Answer::Unknown, ..operation.clone() }
        }
        _ => operation.clone(),
    };
    history.iter().filter(known).map(as_known).collect()
}

fn explain(history: &[Operation]) -> Violation {
    let mut moments: Vec<u64> =
        history.iter().filter(|operation| !operation.is_optional()).map(|operation| operation.answered).collect();
    moments.sort_unstable();
    let is_explained = |at: &u64| !matches!(verdict(&cut(history, *at)), Ended::Stuck(_));
    let moment = moments[moments.partition_point(is_explained).min(moments.len() - 1)];
    let culprit = history.iter().position(|operation| operation.answered == moment && !operation.is_optional());
    let known = cut(history, moment);
    let mut sorted: Vec<&Operation> = known.iter().filter(|operation| operation.answer != Answer::NotDone).collect();
    sorted.sort_by_key(|operation| operation.asked);
    let mut lines = vec!["no order of these operations explains what was answered".to_owned()];
    if let Some(culprit) = culprit {
        lines.push(format!("until this answer there was one:\n    {}", history[culprit]));
    }
    let mut effort = Effort { places: EXPLAINING_PLACES_MAX, foresees: false };
    if let Ended::Stuck(best) | Ended::GivenUp(best) = search(&sorted, &mut effort) {
        let Best { order, state, next, .. } = best;
        let answered = sorted.iter().filter(|operation| !operation.is_optional()).count();
        let placed = order.iter().filter(|index| !sorted[**index].is_optional()).count();
        lines.push(format!("the longest order holds {placed} of {answered} answered operations; it ends with"));
        for index in &order[order.len().saturating_sub(SHOWN_MAX)..] {
            lines.push(format!("    {}", sorted[*index]));
        }
        lines.push(format!("after which the item is {}", state.describe()));
        lines.push("and nothing fits that may come next:".to_owned());
        lines.extend(next.iter().rev().map(|index| format!("    {}", sorted[*index])));
        let unanswered = sorted.len() - answered - (order.len() - placed);
        lines.push(format!("({unanswered} operations without an answer may come anywhere and do not help)"));
    }
    Violation { culprit, explanation: lines.join("\n") }
}
