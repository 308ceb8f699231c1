//! Judges of what clients saw. A test drives a store in any way it likes, through real processes or in a simulation, and writes
//! down each operation: when it was asked, when and how it was answered. The judges know nothing of how that was done;
//! they only ask whether some correct store could have answered so.
//!
//! | judge | says no when |
//! |---|---|
//! | [`check_key`] | no order of one key's operations, each at one moment between question and answer, explains every answer |
//! | [`check_versions`] | a version was given twice, or one write is seen under two versions: it was applied twice |
//! | [`check_end`] | at the end an acknowledged write is missing, or an acknowledged deletion is undone |
//! | [`check_shown`] | a read that may lag shows what nobody wrote, or a write that was answered as not done |
//!
//! The first implies the second and the third where a key was read often enough. They are kept all the same: they take one
//! pass, they say in one sentence what is wrong, and they hold where a history is too tangled for the first. Reads that may
//! lag are no part of the history, and only the last judge and the second, which looks at no times, are asked of them.
//!
//! An operation may be without an answer: it may then have happened, once, at any later time. A client that repeats a write
//! under the same Idempotency-Key writes down one operation, from the first question to the last answer.
//!
//! Rejected: checking all keys together. Linearizability is local (Herlihy and Wing, 1990): a history is linearizable
//! where each key's part of it is, and a search over one key is far smaller.
//!
//! This package is for tests alone; nothing that is shipped depends on it.

mod end;
mod explain;
mod history;
mod lagging;
mod model;
mod search;

pub use end::{check_end, check_versions};
pub use explain::{Violation, check_key};
pub use history::{Action, Answer, Condition, Document, NEVER, Operation, Patch, Stored};
pub use lagging::check_shown;
