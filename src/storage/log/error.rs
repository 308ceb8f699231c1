//! What can go wrong with the log as a whole. What is refused for one record is `AppendRefused`.

use std::path::PathBuf;

use super::keys::{KeyOwner, LogKeyError};
use crate::domain::ids::{LogId, LogKeyId, RangeId};

/// Why the log could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk answered with an error.
    #[error("{action} {path}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What had been synced is not there any more: never cut silently. The range needs another replica or a backup.
    #[error("the log is damaged in segment {segment} at offset {offset}, {detail} (first record lost: {first_lost})")]
    Damaged {
        /// Number of the segment.
        segment: u64,
        /// Offset in bytes of the batch that does not read.
        offset: u64,
        /// What is wrong with it.
        detail: String,
        /// The first record lost, as far as its header could be read.
        first_lost: FirstLost,
    },
    /// A segment file that should be there is not.
    #[error("the log's segment {segment} is missing")]
    SegmentMissing {
        /// Number of the segment.
        segment: u64,
    },
    /// A segment file is shorter than it was made.
    #[error("{path} was cut: {length} bytes of {expected}")]
    SegmentTruncated {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The length in bytes it must have at least.
        expected: u64,
    },
    /// A log was expected, and there is none.
    #[error("there is no log {expected} in {folder}")]
    LogMissing {
        /// The id expected.
        expected: LogId,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file belongs to another log.
    #[error("{path} belongs to log {found}, not {expected}")]
    WrongLog {
        /// The file.
        path: PathBuf,
        /// The id found.
        found: LogId,
        /// The id expected.
        expected: LogId,
    },
    /// Written by a version of the format that is not known here.
    #[error("{path} has format version {version}, which this version of dStore does not know")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The version found.
        version: u16,
    },
    /// The owner's key is not the one that wrapped this data key.
    #[error("data key {key_id} of {owner:?} does not unwrap")]
    WrongKey {
        /// Whose key.
        owner: KeyOwner,
        /// Which data key.
        key_id: LogKeyId,
        /// What the engine said.
        source: LogKeyError,
    },
    /// The checksum is right, yet the record does not open under its key: it was changed by someone who can count.
    #[error("record {index} of range {range} in segment {segment} at offset {offset} does not open under its key")]
    RecordForged {
        /// Number of the segment.
        segment: u64,
        /// Offset of its batch.
        offset: u64,
        /// Its range.
        range: RangeId,
        /// Its index.
        index: u64,
    },
    /// Another process has this log open.
    #[error("the log in {folder} is in use")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The options contradict each other.
    #[error("log options: {0}")]
    Options(&'static str),
    /// The disk is full, the reserve too.
    #[error("the disk is full")]
    Full,
    /// A sync or write failed before; the log must be opened anew from disk.
    #[error("the log has failed and must be opened anew")]
    Failed,
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

/// The first record that is lost, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstLost {
    /// Its header could be read, though not checked.
    Record {
        /// Its range.
        range: RangeId,
        /// Its index.
        index: u64,
    },
    /// Not even its header is readable.
    Unreadable,
}

impl std::fmt::Display for FirstLost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FirstLost::Record { range, index } => write!(formatter, "index {index} of range {range}"),
            FirstLost::Unreadable => formatter.write_str("unreadable"),
        }
    }
}
