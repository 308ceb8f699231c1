//! What clients ask of nodes, and what they are answered: the calls of a range service as values that travel.

use dstore::domain::Refusal;
use dstore::domain::key::PackedKey;
use dstore::replication::operation::Operation;
use dstore::services::ports::{Consistency, StoredItem, WriteAnswer};
use dstore::services::ranges::{RangeAddress, RangeService};

/// What is asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// A read.
    Read(RangeAddress, PackedKey, Consistency),
    /// A write.
    Write(RangeAddress, Operation),
}

/// What is answered.
#[derive(Debug)]
pub enum Answer {
    /// To a read.
    Read(Result<Option<StoredItem>, Refusal>),
    /// To a write.
    Write(Result<WriteAnswer, Refusal>),
    /// Nobody is there.
    Nobody,
}

/// Asks a node's service.
pub async fn ask(service: &dyn RangeService, question: Question) -> Answer {
    match question {
        Question::Read(address, key, consistency) => Answer::Read(service.read(address, key, consistency).await),
        Question::Write(address, operation) => Answer::Write(service.write(address, operation, false).await),
    }
}
