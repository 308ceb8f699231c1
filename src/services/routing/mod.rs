//! Who serves which hash: the whole plan of the cluster in memory, at every proxy and node.
//!
//! ```text
//! tenant/          ─ Reflector ─┐
//! control/table/   ─ Reflector ─┼─▶ feed ─▶ Plan ─▶ ArcSwap<RoutingSnapshot> ◀─ every request
//! control/tenant/  ─ Reflector ─┘             │
//!                                 disk copy ◀─┘ (sealed, at most every few seconds)
//! ```
//!
//! * `ranges.rs`: the ranges of one table in order of hash; a look-up is two short binary searches.
//! * `snapshot.rs`: everything at one moment; never changed, only replaced, so that a request sees one plan from
//!   its beginning to its end and takes no lock.
//! * `plan.rs`: how a snapshot becomes the next one, and what is not obeyed.
//! * `feed.rs`: follows the coordinator and saves the copy.
//! * `disk_copy.rs`: what the copy holds; `sealed_copy.rs` above: how it is sealed.
//!
//! What is not obeyed, because a coordinator may be restored from a backup or lose its data, while the
//! nodes still have theirs:
//!
//! * **an empty listing** where there was something: the old plan stays, and the status says so. Single
//!   deletions, told by a watch, are obeyed down to the last.
//! * **an older plan**: a listing at a revision below one seen before adds what is unknown and takes
//!   nothing away.
//! * **an older route**: of one range, only a higher epoch replaces a lower.
//!
//! A route is a hint all the same. A proxy that asks the wrong node is told, and asks the right one;
//! [`RoutingTable::learn`] remembers that until the leader's own publication arrives.
//!
//! With the coordinator away, look-ups go on from memory, and after a restart from the copy on disk;
//! [`RoutingTable::status`] tells from what and since when. The addresses stand in the routes as their
//! leaders published them; `node/…/details` is not followed here, since at a million ranges that prefix
//! holds millions of keys that no proxy needs.

mod disk_copy;
mod feed;
mod plan;
mod ranges;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

pub use super::sealed_copy::{DiskCopyError, DiskCopyOptions};
pub use disk_copy::fuzz_routing_copy;
pub use plan::Distrust;
pub use ranges::{RangeRoute, TableRoutes};
pub use snapshot::{Revisions, RoutingSnapshot};
pub use table::{RoutingOptions, RoutingSource, RoutingStatus, RoutingTable};
