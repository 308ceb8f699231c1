//! Where sinks get what they are given: records in an order, after a position, kept until each sink has taken them.
//!
//! This is the place for a further stream, as of the changes of a table: whoever can say what comes after a position, in an order that
//! stays, and keep positions durably, implements [`RecordSource`], and every sink works on it unchanged.

use async_trait::async_trait;

use crate::domain::Refusal;
use crate::domain::usage::record::Record;

/// Where records are read from, and how far each sink is.
#[async_trait]
pub trait RecordSource: Send + Sync + 'static {
    /// Records with a higher sequence than this, in their order, at most so many.
    async fn records_after(&self, sequence: u64, limit: usize) -> Result<Vec<Record>, Refusal>;
    /// How far this sink is: everything up to this sequence was taken by it. 0 for a new one.
    async fn position(&self, sink: &str) -> Result<u64, Refusal>;
    /// The sink has taken everything up to this sequence; durable when it returns.
    async fn set_position(&self, sink: &str, sequence: u64) -> Result<(), Refusal>;
    /// Waits until there may be records after this sequence.
    async fn until_more(&self, sequence: u64);
}
