//! What tenants use and how nodes are, in the words in which it is counted, told and kept.
//!
//! A proxy, and a node that clients ask directly, adds up what it serves for one second ([`UsageBatch`]) and keeps that on disk
//! until reporting has taken it. A batch is named by its component, the start of its process and its number within
//! that start; whoever has it already knows it by that name, so it may be told any number of times and counts once.
//!
//! Reporting adds the batches of a component up to intervals of ten seconds and makes records of them
//! ([`record::Record`]), which never change any more: what comes later for the same interval is a record of its own. So totals are
//! sums over records, and sinks that know a record's id count none twice.

pub mod cost;
pub mod counts;
pub mod latency;
pub mod pull;
pub mod query;
pub mod record;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::{RangeId, Role, TableId, TenantId};

pub use cost::Cost;
pub use counts::{UsageCounts, UsageKey, UsageOperation, UsageResult};
pub use latency::LatencyHistogram;
pub use pull::{KeptUpTo, UsagePull, UsagePulled};

/// Who counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Component {
    /// Its role: a proxy or a node.
    pub role: Role,
    /// Its id.
    pub id: Uuid,
}

/// The name of a batch: nothing else has it, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchId {
    /// Who counted.
    pub component: Component,
    /// This start of its process; random.
    pub boot: Uuid,
    /// Its number within the start, from 1, without gaps.
    pub interval: u64,
}

/// What a component counted in one second. It does not reach over the end of a second of the wall clock, unless its disk took
/// nothing meanwhile: then the next one that it takes holds everything since the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBatch {
    /// Its name.
    pub id: BatchId,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// How the start of the process before this one ended; only in the first batch of a start.
    pub before: Option<EarlierStart>,
    /// The process ended as planned after this one.
    pub is_last: bool,
    /// What was served, each key once.
    pub counts: Vec<(UsageKey, UsageCounts)>,
    /// How the ranges led from here are; empty in most batches. Up to 256 in one batch: those told the longest time ago, and those
    /// that have changed first. The last gauge of each range counts.
    pub ranges: Vec<RangeGauge>,
    /// How the node is; none in most batches.
    pub node: Option<NodeGauge>,
    /// The names of tenants and tables that stand in it, as they were.
    pub names: BTreeMap<Uuid, String>,
}

/// What a process found of the one before it on the same disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierStart {
    /// That start.
    pub boot: Uuid,
    /// The last of its batches that was kept.
    pub interval: u64,
    /// When that ended, in milliseconds since 1970.
    pub ended_ms: u64,
    /// Whether that was its last: else what it counted after it is lost.
    pub was_planned: bool,
}

/// How a range is, told by the node that leads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeGauge {
    /// The range.
    pub range: RangeId,
    /// Its table.
    pub table: TableId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Items.
    pub items: u64,
    /// Bytes of its items, as their size is defined for limits.
    pub stored_bytes: u64,
    /// Bytes of its file on this node.
    pub file_bytes: u64,
    /// Bytes in the commit log that are not in its file yet.
    pub log_bytes: u64,
    /// How many entries the copy that is furthest behind lacks.
    pub lag_entries: u64,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeGauge {
    /// Pages of files found in memory, since the start of the process.
    pub cache_hits: u64,
    /// Pages that had to be read, since then.
    pub cache_misses: u64,
    /// How old the oldest write is that waits for the log, in microseconds.
    pub queue_age_us: u64,
    /// Writes refused because the node was too busy or its disk too full, since the start of the process.
    pub rejections: u64,
    /// Syncs of the commit log, since then.
    pub syncs: u64,
    /// How long they took together, in microseconds.
    pub sync_us: u64,
    /// Bytes of the commit log.
    pub log_bytes: u64,
    /// Free bytes of the disk.
    pub disk_free_bytes: u64,
    /// Bytes of the disk.
    pub disk_bytes: u64,
    /// Entries that the copies led from here lack, all together.
    pub lag_entries: u64,
}
