//! What can go wrong between us and the coordinator. Few kinds, because a caller can do few different
//! things: try again, list again, find out what happened, ask for less, or give up.

/// The result of asking the coordinator.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the coordinator did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Not reachable, or without a majority. Nothing was changed; try again later.
    #[error("the coordinator cannot be reached: {0}")]
    Unavailable(String),
    /// A write was sent and no answer came: it may or may not have happened. Read before doing it again.
    #[error("the coordinator did not tell whether the change was made: {0}")]
    OutcomeUnknown(String),
    /// The revision asked for is no longer kept; list again and go on from there.
    #[error("revisions before {compacted_revision} are compacted away")]
    Compacted {
        /// The oldest revision still kept; 0 where the server did not tell.
        compacted_revision: i64,
    },
    /// More operations or bytes than one transaction may hold.
    #[error("the transaction is too large: {0}")]
    TooLarge(String),
    /// This writer may not read or write that key.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The lease has expired, or never was.
    #[error("the lease does not exist (any more)")]
    LeaseNotFound,
    /// The coordinator's disk quota is used up: compact, defragment, or make room. Reads still work.
    #[error("the coordinator has no space left: {0}")]
    NoSpace(String),
    /// The request makes no sense (an empty key, the same key put twice).
    #[error("the coordinator does not understand the request: {0}")]
    BadRequest(String),
    /// The embedded store's file cannot be read or written.
    #[error("the embedded coordinator's file is unusable: {0}")]
    Storage(String),
}

impl Error {
    /// Whether the same request may be sent again as it is, after a while.
    pub fn may_retry(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }
}
