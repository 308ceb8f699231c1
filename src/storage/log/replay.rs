//! Reading the log back.

use super::keys::KeyOwner;
use super::record::{Record, RecordKind};
use crate::domain::ids::{LogId, RangeId};

/// What replay hands to the engine, one at a time, in the log's order. Only what survives: entries cut off by a
/// truncation or purge, superseded votes, and all of removed ranges are left out.
///
/// Records that were copied to the head come later than entries with greater indexes, and may come twice (with the
/// same content): keep them by index.
#[derive(Debug)]
pub enum ReplayEvent {
    /// A record that survives: an [`RecordKind::Entry`], or the last vote, purge or commit point of its range.
    Record(Record),
    /// A record that survives and whose key is not available (tenant destroyed, plane away).
    Unreadable {
        /// Its range.
        range: RangeId,
        /// Whose key is missing.
        owner: KeyOwner,
        /// Its kind.
        kind: RecordKind,
        /// Its term.
        term: u64,
        /// Its index.
        index: u64,
    },
    /// The log holds the removal of this range: what is left of it elsewhere can go.
    RangeRemoved(RangeId),
}

/// How the log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEnd {
    /// With a mark: all that was ever written before it is there.
    Marked,
    /// Without a mark, and nothing recognisable after the last batch.
    Unmarked,
    /// With a batch that had not been synced and is not whole. It was dropped; nothing in it was acknowledged.
    Torn {
        /// Segment of the torn batch.
        segment: u64,
        /// Offset of the torn batch.
        offset: u64,
        /// The first index lost per range, as far as readable.
        lost: Vec<(RangeId, u64)>,
    },
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySummary {
    /// The log's id.
    pub log_id: LogId,
    /// Whether the log was made just now.
    pub created: bool,
    /// Segments read.
    pub segments: u64,
    /// Batches read.
    pub batches: u64,
    /// Records handed over.
    pub records: u64,
    /// Records handed over as unreadable.
    pub records_unreadable: u64,
    /// How it ended.
    pub end: LogEnd,
}
