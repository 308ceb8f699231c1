//! The contract of a reporter's store: what it took in of whom, the records made of it, their roll-ups, and how far each sink is.
//!
//! A change answers after the disk has it, whole or not at all. [`ReportingStore::take_in`] is the one that counts: what an answer
//! of a component adds and how far that component was taken in go into one transaction, so a process that is killed anywhere
//! loses nothing and counts nothing twice.
//!
//! Records are numbered in the order in which they are added ([`Record::sequence`]); one whose id is there already is not added
//! again. Roll-ups are sums of the records' counts by minute and by hour, over all components; they go on when the records
//! they were made of are let go.

use crate::domain::usage::query::{UsageQuestion, UsageRow};
use crate::domain::usage::record::Record;
use crate::domain::usage::{Component, KeptUpTo, UsageBatch};

use super::store::StoreError;

/// What is known of a component.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The last batch that was taken in of each start of its process.
    pub kept: Vec<KeptUpTo>,
    /// Which of them to acknowledge: that of the start told last.
    pub last: Option<KeptUpTo>,
    /// How often something was taken in of it.
    pub changes: u64,
    /// The batches that stand in no record yet, in the order of their coming.
    pub open: Vec<UsageBatch>,
    /// When the last of them came, in milliseconds since 1970.
    pub heard_ms: u64,
    /// How many batches it said last that it had thrown away.
    pub dropped: u64,
}

/// What an answer of a component adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenIn {
    /// The component.
    pub component: Component,
    /// How often something was taken in of it before. Where that is another number in the store, somebody else did, and nothing
    /// of this is added.
    pub changes: u64,
    /// How far it was taken in, for each start that the answer tells of.
    pub kept: Vec<KeptUpTo>,
    /// What to acknowledge from now on.
    pub last: Option<KeptUpTo>,
    /// The batches that stood in no record do now.
    pub ended: bool,
    /// Batches that stand in no record, to be kept for it.
    pub open: Vec<UsageBatch>,
    /// How many batches it says that it has thrown away.
    pub dropped: u64,
    /// Records; the store numbers them.
    pub records: Vec<Record>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// How long things are kept: all that is older may go. In milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepFrom {
    /// Records that all sinks have, by when they were made.
    pub records_ms: u64,
    /// Roll-ups by minute.
    pub minutes_ms: u64,
    /// Roll-ups by hour, and how far components were taken in that were not heard of since.
    pub hours_ms: u64,
}

/// See the module's essay.
pub trait ReportingStore: Send + Sync + 'static {
    /// What is known of a component.
    fn standing(&self, component: Component) -> Result<Standing, StoreError>;
    /// Adds what an answer brings. The newest record's sequence.
    fn take_in(&self, taken: &TakenIn) -> Result<u64, StoreError>;
    /// Components of which batches stand in no record yet.
    fn unfinished(&self) -> Result<Vec<Component>, StoreError>;
    /// Adds records of what happened, and remembers up to when such things are known. The newest record's sequence.
    fn add_events(&self, records: &[Record], known_until: &str, at_ms: u64) -> Result<u64, StoreError>;
    /// The newest record's sequence; 0 where there never was one.
    fn newest(&self) -> Result<u64, StoreError>;
    /// Records with a higher sequence, in their order.
    fn records_after(&self, sequence: u64, limit: usize) -> Result<Vec<Record>, StoreError>;
    /// These are the sinks: records are kept for each of them, and for no other any more.
    fn sinks_are(&self, names: &[String]) -> Result<(), StoreError>;
    /// Up to which sequence a sink has taken records.
    fn sink_position(&self, sink: &str) -> Result<u64, StoreError>;
    /// A sink has taken records up to this sequence.
    fn set_sink_position(&self, sink: &str, sequence: u64) -> Result<(), StoreError>;
    /// What was used, from roll-ups; none where the answer has more rows than this. The question's ends are whole steps.
    fn usage(&self, question: &UsageQuestion, rows_max: usize) -> Result<Option<Vec<UsageRow>>, StoreError>;
    /// Lets go what is too old, so many rows of each kind at most. How many went.
    fn prune(&self, from: &KeepFrom, rows_max: usize) -> Result<usize, StoreError>;
    /// What was remembered under a name.
    fn remembered(&self, name: &str) -> Result<Option<String>, StoreError>;
    /// Remembers a text under a name.
    fn remember(&self, name: &str, text: &str) -> Result<(), StoreError>;
}

/// Under what [`ReportingStore::add_events`] remembers up to when things are known.
pub const EVENTS_KNOWN_UNTIL: &str = "events-known-until";
