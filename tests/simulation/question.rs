//! What is asked across the network of proxies and of nodes, and what is answered: the calls of their services as values that
//! travel.

use std::sync::Arc;

use dstore::domain::Refusal;
use dstore::domain::ids::ReceiptId;
use dstore::domain::key::PackedKey;
use dstore::domain::table::TableDefinition;
use dstore::replication::operation::Operation;
use dstore::services::ports::{Consistency, Items, ReceiptState, StoredItem, WriteAnswer};
use dstore::services::ranges::{RangeAddress, RangeService};

/// What is asked.
#[derive(Debug, Clone)]
pub enum Matter {
    /// A read.
    Read(PackedKey, Consistency),
    /// A write; whether it may be answered early.
    Write(Operation, bool),
    /// What became of a write that was answered early.
    Receipt(ReceiptId),
}

/// A question: of a range, to a node that has it, or of a table, to a proxy.
#[derive(Debug, Clone)]
pub struct Question {
    /// The range.
    pub range: Option<RangeAddress>,
    /// What is asked.
    pub matter: Matter,
}

/// What is answered.
#[derive(Debug)]
pub enum Answer {
    /// To a read.
    Read(Result<Option<StoredItem>, Refusal>),
    /// To a write.
    Write(Result<WriteAnswer, Refusal>),
    /// To a question for a receipt.
    Receipt(Result<Option<ReceiptState>, Refusal>),
    /// Nobody is there.
    Nobody,
}

/// Asks a node's service.
pub async fn ask_node(service: Arc<dyn RangeService>, question: Question) -> Answer {
    let Some(address) = question.range else { return Answer::Nobody };
    match question.matter {
        Matter::Read(key, consistency) => Answer::Read(service.read(address, key, consistency).await),
        Matter::Write(operation, early) => Answer::Write(service.write(address, operation, early).await),
        Matter::Receipt(receipt) => Answer::Receipt(service.receipt(address, receipt).await),
    }
}

/// Asks a proxy's service.
pub async fn ask_proxy(items: Arc<dyn Items>, table: Arc<TableDefinition>, matter: Matter) -> Answer {
    match matter {
        Matter::Read(key, consistency) => Answer::Read(items.read(&table, key, consistency).await),
        Matter::Write(operation, early) => Answer::Write(items.write(&table, operation, early).await),
        Matter::Receipt(receipt) => Answer::Receipt(items.receipt(&table, receipt).await),
    }
}
