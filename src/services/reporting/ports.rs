//! The two ends between which records are carried: the log of what is to be exported, and sinks.

use async_trait::async_trait;

use super::record::ExportRecord;

/// How far a sink has got: the place of the last record that it has for sure. 0 is before the first.
pub type Position = u64;

/// A run of records, in the order of their places.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// The records that the sink is to have.
    pub records: Vec<ExportRecord>,
    /// Where the run ends: the sink has everything up to here when it has taken these. Without records in it, those there were are not for this sink.
    pub end: Position,
}

/// Which records a sink is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Kinds, as [`super::record::Content::kind`] names them.
    pub kinds: Vec<String>,
    /// Of `usage`: the lengths of intervals, in seconds.
    pub resolutions: Vec<u32>,
}

impl Selection {
    /// Whether a record is among these.
    pub fn has(&self, record: &ExportRecord) -> bool {
        use super::record::Content;
        let kind = record.content.kind();
        let resolution = match &record.content {
            Content::Usage(usage) => self.resolutions.contains(&usage.resolution_seconds),
            _ => true,
        };
        resolution && self.kinds.iter().any(|known| known == kind)
    }
}

/// Records that wait to be exported, on disk. Records stay until every sink has them, or they are too old.
#[async_trait]
pub trait ExportLog: Send + Sync + 'static {
    /// Records after this place that are among these, at most about `limit`; an empty run that ends at `after` where there are no more.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    async fn read(&self, after: Position, selection: &Selection, limit: usize) -> Result<Run, ExportError>;

    /// How far the sink of this name has got.
    ///
    /// # Errors
    /// Where the disk cannot be read.
    async fn position(&self, sink: &str) -> Result<Position, ExportError>;

    /// The sink of this name has everything up to here, durably. Synced when this returns.
    ///
    /// # Errors
    /// Where the disk cannot be written: the sink may get again what it has.
    async fn set_position(&self, sink: &str, position: Position) -> Result<(), ExportError>;

    /// Waits until there may be records after this place.
    async fn until_after(&self, position: Position);
}

/// Why records could not be carried on. Says what to do, and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExportError {
    /// For people.
    pub message: String,
    /// Whether the same may work later. Where it will not, somebody has to change a setting; it is tried again all the same, seldom.
    pub may_pass: bool,
}

/// Where records go. One file for each kind of sink.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// What makes it ready: connects, makes tables. Asked again after every error.
    ///
    /// # Errors
    /// Where it is away, or set up wrong.
    async fn prepare(&self) -> Result<(), ExportError>;

    /// Takes records. When this returns, the sink has them durably; a record that it has already changes nothing.
    ///
    /// # Errors
    /// Then none, some or all may be there: all are sent again.
    async fn take(&self, records: &[ExportRecord]) -> Result<(), ExportError>;
}
