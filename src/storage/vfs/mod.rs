//! Encrypted SQLite files: a shim over SQLite's own `unix-excl` VFS that seals every page on its way
//! to the disk and opens it on its way back, with AES-256-GCM-SIV. SQLite is not patched.
//!
//! A database file on disk:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4096 | header block in clear: identity, wrapped data key ([`header`]) |
//! | 4096 n | 4064 | page n, from 1, encrypted |
//! | 4096 n + 4064 | 32 | its nonce, tag, four zeroes ([`crate::crypto::page`]) |
//!
//! Its write-ahead log, `-wal`:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 60 | header of the log, sealed |
//! | 60 + 4148 i | 52 | header of frame i, from 0, sealed |
//! | 112 + 4148 i | 4096 | page of frame i, sealed like a page of the database |
//!
//! There is no `-shm` file and no rollback journal, and temporary files are refused.
//!
//! **The life of a file.** [`create_file`] makes it whole, with a random data key wrapped under a key-encryption
//! key; [`unlock`] unwraps that key, and finds a wrong one; [`open`] gives connections; commits
//! go to the log, which [`sync_wal`] makes durable and [`checkpoint`] copies into the database; [`rewrap`]
//! rotates the key-encryption key while all this goes on. When SQLite says "disk I/O error", [`explain`] or
//! [`take_damage`] tells which page of which file.
//!
//! **Modules.** [`shim`] is the C boundary, [`file`] what reading and writing mean, [`pages`] the
//! mapping of offsets, [`registry`] which files are open with which keys, [`keys`] the header block on disk,
//! [`connection`] settings and checkpoints, [`scrub`](mod@scrub) reading pages beside SQLite.
//!
//! **What it holds against**: a thief of the disk, who learns sizes and times of writing only; flipped
//! bits, swapped pages and files, each an error with a name. **What it does not**: a page, or
//! the whole file with its log, replaced by an older version of itself. Where a file must not be older than
//! something, whoever owns it compares (the node keeps each file's durable index elsewhere).
//!
//! **Rejected**: SQLCipher (another cipher mode, a patched SQLite, no key envelope); the checksum VFS of
//! SQLite's own plus an encrypted disk (one key for all tenants); larger pages (cold reads and
//! batched writes became 1.3 to 3 times dearer) and smaller ones (scans 2.7 times); sealing values instead of pages
//! (a message's fixed cost is half that of a page, and keys, indexes and schema would stay in clear).
//!
//! **What the next author must keep**: open served files by no other descriptor ([`registry`]); never
//! claim more device characteristics than the shim does; a new SQLite may read or write in
//! new ways, which the tests here are meant to show.

pub mod connection;
pub mod error;
mod file;
#[doc(hidden)]
pub mod fuzz;
pub mod header;
mod initial;
mod inner;
pub mod keys;
pub mod pages;
mod registry;
mod scrub;
mod shim;
#[cfg(test)]
mod tests;

pub use connection::{
    CheckpointResult, OpenOptions, checkpoint, count_cache, counters, counters_total, explain, fail_next_sync, open,
    register, sync_wal, take_damage,
};
pub use error::{Damage, DamageKind, VfsError};
pub use header::FileIdentity;
pub use keys::{RewrapPhase, create_file, key_versions, read_identity, rewrap, unlock};
pub use registry::Counters;
pub use scrub::{Scrubbed, damaged_pages, scrub};
