//! The node's commit log: one per node, for all its ranges and tenants. A write is durable when its record is here.
//!
//! # A record's way
//!
//! The engine calls [`CommitLog::append`], which pushes into a queue and returns. The log's thread takes all that
//! waits, seals each payload under its owner's data key into one buffer, writes that as one *batch* with one write and one
//! `fdatasync`, and hands the whole group to the engine's [`GroupSink`], in log order. While it syncs, the next group
//! gathers. So a hundred tenants that write at the same time share one sync, and nobody waits for a timer.
//!
//! # What is on disk
//!
//! A row of numbered segments, each a row of batches; the bytes stand in [`format`] and in docs/FORMATS.md. Only one
//! batch is ever in flight. Each header says through which place the log was synced when it was written, and from
//! that all else follows: reading stops at the first place where no whole batch stands, and if any later header says
//! that the place had been synced, it is damage, an error; else a torn tail, which nobody was promised.
//!
//! # Keys
//!
//! One random data key per segment and owner, wrapped by the engine ([`LogKeys`]); the wrapped form is a record of its
//! own. Rotating a tenant's key appends the wrapped keys anew ([`CommitLog::rewrap`]); destroying it makes its records
//! unreadable and hinders nobody else.
//!
//! # Space
//!
//! The engine says what is durable elsewhere ([`CommitLog::set_durable`]); segments go from the oldest on
//! ([`CommitLog::drop_segments`], and by itself with each new segment). What little still lives in the oldest is copied to
//! the head, still sealed, so no range pins the log. Past its budget of live records, and on a full disk, the log refuses
//! ordinary records and goes on taking urgent ones.
//!
//! # Where things are
//!
//! | file | |
//! |---|---|
//! | `commit_log` | what the engine sees |
//! | `queue` | what waits for the log's thread |
//! | `group_commit` | the thread: batches, groups, failure |
//! | `rolling` | from segment to segment; a full disk |
//! | `cleaning` | dropping, copying to the head, rewrapping |
//! | `batch`, `format` | a batch in the making; its bytes |
//! | `open`, `scan`, `replay` | opening: the first pass finds the end and what survives, the second hands it over |
//! | `verify` | closed segments, read while the log is in use to find damage |
//! | `live` | which records, segments and keys are still needed; pure |
//! | `segment` | the folder's files, and reading batches |
//! | `disk`, `disk_system`, `disk_simulated` | the disk as a trait, the real one, and one that loses power |
//!
//! # What is left out
//!
//! Reading entries back by index: the engine keeps in memory what is not flushed, and serves older ones by snapshot.
//! Compression: payloads are sealed one by one and small. Why no library: docs/decisions/commit-log.md.
//!
//! # What the next author must keep
//!
//! * Nothing is written behind a batch that is not synced.
//! * A failed write or sync fails the log for good. It is opened anew from disk, or not at all.
//! * What replay shows is synced before it is shown.
//! * Segments are dropped from the oldest on, after a mark that says so is synced.

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
mod rolling;
mod scan;
mod segment;
mod verify;

pub use commit_log::{Append, AppendRefused, CommitLog, Committed, GroupSink, LogStats, Outcome, Refused};
pub use disk::{Disk, DiskFile};
pub use disk_system::SystemDisk;
pub use error::{FirstLost, LogError};
pub use format::{FORMAT_VERSION, fuzz_batch};
pub use keys::{KeyOwner, LogKeyError, LogKeys, WrappedLogKey};
pub use options::LogOptions;
pub use record::{Record, RecordKind};
pub use replay::{LogEnd, ReplayEvent, ReplaySummary};
pub use verify::Verified;

#[cfg(test)]
mod tests;
