//! The coordinator: the small, strongly consistent store that every component of a cluster can see.
//! It holds what must be agreed on and is rarely changed: where ranges live, which nodes exist,
//! tables, tenants, principals, sealed keys, and who leads control. It never holds items.
//!
//! [`Coordinator`] is the promise; two implementations keep it: [`etcd`] for clusters, and
//! [`embedded`], in process and persisted in SQLite, for `dstore dev` and a node on its own. One suite,
//! `contract.rs`, runs on both, against real servers and real files. A third, in-memory one was
//! rejected: a mock would prove nothing, and the embedded store over a temporary folder is quick enough.
//!
//! | file | what |
//! |---|---|
//! | `coordinator.rs` | the trait, its words and its promises |
//! | `error.rs` | what can go wrong |
//! | `writer.rs` | who may read and write which keys; etcd's roles and the embedded store both obey it |
//! | `layout.rs` | the spelling of every key; nobody else knows one |
//! | `values.rs` | the JSON under the keys |
//! | `reflector.rs` | list, watch, list again: a copy of a prefix that stays true |
//! | `etcd/`, `embedded/` | the implementations |
//!
//! Rules for whoever changes this: revisions are of the whole store, not of a key; whatever is read by
//! a list is at one revision; an error of a write that may have happened is `OutcomeUnknown`, never
//! `Unavailable`; and nobody reads an empty or vanished listing as "delete everything".

#[cfg(test)]
mod contract;
mod coordinator;
pub mod embedded;
mod error;
pub mod etcd;
pub mod layout;
#[cfg(test)]
mod mirror_tests;
pub mod reflector;
#[doc(hidden)]
pub mod testing;
pub mod values;
mod writer;

pub use coordinator::{
    Compare, Condition, Coordinator, EventKind, KeyValue, LeaseId, Listing, OPERATIONS_PER_BATCH,
    OPERATIONS_PER_TRANSACTION_MAX, Operation, Page, REQUEST_BYTES_MAX, Revision, StoreHealth, TransactionResult,
    Watch, WatchBatch, WatchEvent, batches,
};
pub use error::{Error, Result};
pub use reflector::{Reflected, Reflector, ReflectorOptions};
pub use writer::Writer;
