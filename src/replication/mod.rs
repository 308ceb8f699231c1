//! Floor 1: what is decided when an entry is applied, purely. An entry comes in with its index and
//! the item as it stands; an outcome and an effect come out. Each replica that applies the same
//! entries to the same state comes to the same bytes: there is no clock here (the leader's time
//! travels in the entry), no dice and no order that a hash map could change.
//!
//! - [`operation`]: what a write asks for, and how it can end.
//! - [`entry`]: the same as bytes, as it stands in the commit log.
//! - [`command`]: what an entry of a range's log may be besides an operation, as bytes.
//! - [`membership`]: which replicas vote in a range's group, and where they are.
//! - [`machine_state`]: how far a replica's file has applied its group's log.
//! - [`apply`]: item + operation → outcome + effect, and what the indexes of a table refuse; of writes with conditions,
//!   expressions and images in `conditional`.
//! - [`outcome`]: how a write ended, as bytes.
//! - [`requests`]: the window in which a request id is answered as before.
//! - [`request_id`]: the same for the ids that proxies make, which carry their time.
//! - [`receipt`]: what became of a write that was answered early.
//! - [`publish`]: what a group's leader writes under its route.
//! - [`replacement`]: the next step from the copies there are to the copies that are wanted; when a copy may go, and when
//!   one that comes back is no voter.
//! - [`split`]: one range becomes two.
//! - [`digest`]: comparing the copies of a range, and which of them is given up.
//! - [`boots`]: whether a data folder is an older copy of itself.

pub mod apply;
pub mod boots;
pub mod command;
mod conditional;
pub mod digest;
pub mod entry;
pub mod machine_state;
pub mod membership;
pub mod operation;
pub mod outcome;
pub mod publish;
pub mod receipt;
pub mod replacement;
pub mod request_id;
pub mod requests;
pub mod split;
