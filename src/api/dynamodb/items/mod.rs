//! The operations on items: PutItem, GetItem, UpdateItem, DeleteItem, BatchGetItem, BatchWriteItem.
//!
//! Each reads its parameters in AWS's order: the JSON as a whole (SerializationException), what the service model does not allow
//! (all of it at once), values, expressions, then the table, and the key by the table's schema. Only then is the service asked.
//! Values whose JSON cannot be such are told before any of this all the same (`malformed`, beside this folder).
//! Answers are written straight into one buffer.
//!
//! | file | what |
//! |---|---|
//! | `put`, `update`, `delete` | writes of one item, through `write` |
//! | `get` | reading one |
//! | `batch`, `batch_get`, `batch_write` | several at once, in parallel |
//! | `indexed` | what local secondary indexes ask of a write, and what they consume |
//! | `collections` | how large item collections are |
//! | `choices` | words that writes take |
//! | `body` | the JSON of answers |
//!
//! A PutItem that asks for nothing but the item to be stored becomes the same operation as a PUT of REST, whose outcome
//! is a version and no more. Only what asks of the item as it stands (a condition, attributes or sizes in the answer) makes the
//! range read it. Local secondary indexes alone make no write ask: only where the answer tells what was consumed is the item as it
//! was looked at (`indexed`).
//!
//! Item collections are those of local secondary indexes: where a table has none, ReturnItemCollectionMetrics is checked
//! and brings nothing, as at AWS.

mod batch;
mod batch_get;
mod batch_write;
mod body;
mod choices;
mod collections;
mod delete;
mod get;
mod indexed;
mod put;
mod update;
mod write;

#[cfg(test)]
mod tests;

pub use batch_get::batch_get_item;
pub use batch_write::batch_write_item;
pub use delete::delete_item;
pub use get::get_item;
pub use put::put_item;
pub use update::update_item;

// For the fuzzer, by the name of the operation.
pub(super) use batch_get::rehearse as rehearse_batch_get_item;
pub(super) use batch_write::rehearse as rehearse_batch_write_item;
pub(super) use delete::rehearse as rehearse_delete_item;
pub(super) use get::rehearse as rehearse_get_item;
pub(super) use put::rehearse as rehearse_put_item;
pub(super) use update::rehearse as rehearse_update_item;
