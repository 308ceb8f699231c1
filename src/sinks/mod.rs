//! Floor 2: where records of usage go. A sink is one file here, behind one trait; who hands it records, keeps how far it is and tries
//! again is [`crate::services::reporting::exporter`], and which sinks there are is chosen in `roles`.
//!
//! - [`rows`]: what stands in a record, flat: the columns of tables and files, the fields of JSON.
//! - [`postgres`]: tables and views of a PostgreSQL database.
//! - [`http`]: batches posted to a receiver, signed.
//! - [`files`]: a folder of JSON lines or Parquet.
//! - [`otlp`]: metrics for OpenTelemetry.
//! - `posting`: what the two share that post.
//!
//! A sink is given records at least once: after a crash, after an answer that got lost, or because it failed half-way, the same
//! ones come again, perhaps cut into other batches. It tells them apart by [`Record::id`] and counts none twice. It need not remember
//! how far it is, and keeps nothing in memory from one batch to the next on which something depends.
//!
//! Rejected: a sink that may take records and make them durable later. Its position would be a second truth beside the exporter's,
//! and every sink would need a way to be asked. A sink that wants large pieces says so in its [`Terms`] instead, and
//! the records wait where they are safe already.

pub mod files;
pub mod http;
pub mod otlp;
pub mod postgres;
mod posting;
#[cfg(test)]
mod receiver;
pub mod rows;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod testing;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::usage::record::Record;
use rows::RecordKind;

/// What a sink wants to be given, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Its name: its position is kept under it, and it stands in metrics and logs.
    pub name: String,
    /// Records of these kinds only.
    pub kinds: Vec<RecordKind>,
    /// So many at once, at most.
    pub records_max: usize,
    /// So long fewer than that may wait for more.
    pub patience: Duration,
}

impl Terms {
    /// The terms of a sink that takes what there is, soon.
    pub fn prompt(name: &str, kinds: Vec<RecordKind>) -> Self {
        Self { name: name.to_owned(), kinds, records_max: 1000, patience: Duration::ZERO }
    }
}

/// Why a sink did not take a batch. Messages hold nothing of the records: they are logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Not now: the same batch is offered again, for as long as it takes.
    #[error("{0}")]
    Later(String),
    /// There is a record in it that this sink will never take. To be said only where that is sure, because such a record is set aside.
    #[error("{0}")]
    Unacceptable(String),
}

/// Somewhere that records go. See the module's essay for what it owes.
#[async_trait]
pub trait Sink: Send {
    /// What it wants to be given.
    fn terms(&self) -> &Terms;

    /// Its name.
    fn name(&self) -> &str {
        &self.terms().name
    }

    /// Takes these records, which are in the order of their sequence; when this returns they are durable there. It may be dropped
    /// half-way.
    async fn take(&mut self, records: &[Record]) -> Result<(), SinkError>;
}
