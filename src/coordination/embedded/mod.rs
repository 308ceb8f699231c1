//! The coordinator for `dstore dev` and for a node on its own: in this process, kept in one SQLite
//! file, with etcd's semantics.
//!
//! ```text
//! EmbeddedCoordinator (a handle, one writer each) ─┐
//! EmbeddedCoordinator ─────────────────────────────┼─ jobs ─▶ the store's thread ─▶ SQLite
//! a watch's task ──────────────────────────────────┘                │
//!        ▲                                                          │
//!        └────────── "the revision is now n" ◀──────────────────────┘
//! ```
//!
//! * `store.rs` is the store itself: plain functions over a connection, no threads.
//! * `worker.rs` is the thread that owns it. Changes that wait at the same time share one SQLite
//!   transaction and one sync; each is answered only after it. Lease expiry happens there, too.
//! * `handle.rs` is the [`Coordinator`](super::Coordinator) face. It refuses what etcd's roles would refuse.
//!
//! Every change is kept in a history table until compaction, so a watch is a query that is asked
//! again whenever the revision grows. That was chosen over handing events to the watchers' queues as
//! they happen: a slow watcher costs nothing, none can miss anything, and resuming from a revision is
//! not another path through the code.
//!
//! `synchronous=FULL` on a WAL: a commit is synced before it is answered. After a commit whose outcome
//! is unknown the store answers nothing more until it is opened again, because the kernel forgets which
//! pages it failed to write. The file is opened exclusively: a second process is refused, not corrupted.
//!
//! Values are stored as they are given. What is secret among them arrives sealed (`control/key/…`).

mod handle;
mod store;
#[cfg(test)]
mod tests;
mod worker;

pub use handle::{EmbeddedCoordinator, EmbeddedOptions, EmbeddedStore};
