//! What the log holds: records, each of one range.

use bytes::Bytes;

use super::keys::KeyOwner;
use crate::domain::ids::RangeId;

/// What a record means to its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// An entry of the range's Raft log at `index`. One at or below the range's last index replaces it and all after it.
    Entry = 1,
    /// The range's vote; only the last one counts.
    Vote = 2,
    /// All entries from `index` on are void.
    Truncate = 3,
    /// The engine needs no entries up to and with `index` (a snapshot stands for them); only the last one counts. It
    /// frees nothing: that is `CommitLog::set_durable`'s to say.
    Purge = 4,
    /// The range is committed up to `index`; only the last one counts.
    Committed = 5,
    /// The range left this node; all its records before are void.
    RangeRemoved = 6,
}

/// One record, in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The range it belongs to.
    pub range: RangeId,
    /// Whose key seals the payload.
    pub owner: KeyOwner,
    /// What it means.
    pub kind: RecordKind,
    /// The Raft term.
    pub term: u64,
    /// The Raft index; see [`RecordKind`].
    pub index: u64,
    /// Opaque to the log; sealed on disk.
    pub payload: Bytes,
}
