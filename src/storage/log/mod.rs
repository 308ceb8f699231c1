//! The node's commit log: one per node, for all its ranges and tenants.

mod commit_log;
mod disk;
mod error;
mod keys;
mod options;
mod record;
mod replay;

pub use commit_log::{Append, AppendRefused, CommitLog, Committed, GroupSink, LogStats, Outcome, Refused};
pub use disk::{Disk, DiskFile};
pub use error::{FirstLost, LogError};
pub use keys::{KeyOwner, LogKeyError, LogKeys, WrappedLogKey};
pub use options::LogOptions;
pub use record::{Record, RecordKind};
pub use replay::{LogEnd, ReplayEvent, ReplaySummary};
