//! The storage engine of a node: the life of a write and of a read, within one process.
//!
//! A write comes in as an [`crate::replication::operation::Operation`] for one range
//! ([`service`]), passes admission ([`admission`]: bounded queues, watermarks), gets the range's
//! next index and goes to the commit log, where it shares one write and one sync with everything
//! else that waits. The log hands the synced group to the apply stage ([`apply_stage`]), which
//! evaluates each entry against the item as it stands and puts the result into the range's
//! in-memory table ([`memory_layers`], [`memory_table`], [`replica`]); only then is it answered. Much later, and many
//! at a time, the flusher ([`flusher`]) writes memory to the range's file and lets the log go.
//!
//! A read looks into memory, then into a cache ([`item_cache`]), and only then, on one of the threads
//! for it ([`readers`]), into the file; pages are merged from both ([`scan`]; in the order of a local index: `index_scan`).
//! How much is stored of a part of a range: `stored_parts`.
//!
//! A start ([`opening`]), also one within the process after the disk failed (`restart`), replays from the log what the files do not have. Replicas are made, taken out
//! of service, brought back and removed for good in [`lifetimes`]. The keys of all that is sealed are
//! put together in [`keys`], and rotated in [`rotation`].
//!
//! A range with one replica has no group: an entry is committed when it is durable. The records, their order and the apply
//! path are those of a replicated range, so it can become a group of one and grow (`members`). A replica that is a
//! member of a group is written and asked through its group (`services::group`); what it is besides its items
//! stands in `group_side`, and what goes along with its records in [`companion`]. How its range is split: `splitting`.

pub mod admission;
pub mod apply_stage;
pub mod companion;
mod digests;
pub mod flusher;
mod flushing;
mod group_side;
mod index_scan;
pub mod item_cache;
pub mod keys;
pub mod lifetimes;
pub mod log_keys;
mod log_opening;
mod members;
pub mod memory_layers;
pub mod memory_table;
pub mod notices;
pub mod opening;
mod pausing;
pub mod readers;
pub mod replica;
mod restart;
pub mod rotation;
pub mod scan;
mod scrubbing;
pub mod service;
mod splitting;
mod stored_parts;

pub use digests::{DigestRun, DigestState};
pub use group_side::StateDigest;
pub use members::{GroupParts, MemberStart};
pub use opening::{Engine, EngineOptions, EngineParts};
pub use scrubbing::{FileToScrub, PagesJudged};
pub use splitting::{Origin, receipt_hash};
