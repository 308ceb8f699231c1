//! Sizes and budgets of the log.

use crate::domain::ids::LogId;
use crate::storage::workers::Workers;

/// How the log is to be kept. Sizes are in bytes.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The id the log must have. `None`: take what is found, and make a new log in an empty folder. `Some`: an
    /// empty folder or another id is an error, for then the data folder is not the one that was left.
    pub log_id: Option<LogId>,
    /// Size of one segment file, preallocated. A record must fit in one.
    pub segment_bytes: u64,
    /// Past this size of all segments live records of the oldest are copied to the head; past this size of live
    /// records ordinary appends are refused.
    pub budget_bytes: u64,
    /// The most that waits in memory to be written; past it appends are refused as [`super::AppendRefused::Busy`].
    pub pending_bytes_max: usize,
    /// The most that is written at once, where several records wait.
    pub group_bytes_max: usize,
    /// Preallocated segments kept ahead, for records that free space when the disk is full.
    pub spare_segments: usize,
    /// Size of the file given up for spare segments when the disk is full.
    pub reserve_bytes: u64,
    /// How often to look whether a full disk has space again.
    pub retry_ms: u64,
    /// After this time without a write a mark says that all before it was synced.
    pub idle_mark_ms: u64,
    /// Whether it writes on a thread.
    pub workers: Workers,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            log_id: None,
            segment_bytes: 64 << 20,
            budget_bytes: 1 << 30,
            pending_bytes_max: 64 << 20,
            group_bytes_max: 4 << 20,
            spare_segments: 1,
            reserve_bytes: 64 << 20,
            retry_ms: 1000,
            idle_mark_ms: 1000,
            workers: Workers::Threads,
        }
    }
}
