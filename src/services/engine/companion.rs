//! What goes along with a record through the commit log, and is handed back when its fate is known: who waits for it.
//!
//! A record of a group carries the group's log, which keeps count of what is synced ([`KeptLog::settled`]); so a
//! group's entries wait for no sync, and those of all groups share one with all that is written at the same time.

use std::sync::Arc;

use crate::services::group::kept_log::KeptLog;
use crate::storage::log::Outcome;

use super::apply_stage::Proposal;

/// See the module's essay.
#[allow(clippy::large_enum_variant, reason = "a box for each write would cost more than the room does")]
pub enum Companion {
    /// A write of a range with one replica: it is applied when it is durable.
    Proposal(Proposal),
    /// An entry of a group's log.
    Group {
        /// The log.
        log: Arc<KeptLog>,
        /// Which attempt to write this entry and those after it: what became of an earlier one is of no interest.
        attempt: u64,
    },
    /// A record that someone waits for: told from the log's thread, so it must return at once.
    Answer(Box<dyn FnOnce(Outcome) + Send>),
}
