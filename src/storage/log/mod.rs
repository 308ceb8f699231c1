//! The node's commit log: one per node, for all its ranges and tenants.

mod batch;
mod cleaning;
mod commit_log;
mod disk;
#[doc(hidden)]
pub mod disk_simulated;
mod disk_system;
mod error;
mod format;
mod group_commit;
mod keys;
mod live;
mod open;
mod options;
mod queue;
mod record;
mod replay;
mod scan;
mod segment;

pub use commit_log::{Append, AppendRefused, CommitLog, Committed, GroupSink, LogStats, Outcome, Refused};
pub use disk::{Disk, DiskFile};
pub use disk_system::SystemDisk;
pub use error::{FirstLost, LogError};
pub use format::{FORMAT_VERSION, fuzz_batch};
pub use keys::{KeyOwner, LogKeyError, LogKeys, WrappedLogKey};
pub use options::LogOptions;
pub use record::{Record, RecordKind};
pub use replay::{LogEnd, ReplayEvent, ReplaySummary};

#[cfg(test)]
mod tests;
