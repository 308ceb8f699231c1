//! Real files, real SQLite, real processes. Each trap that was found before this was written has
//! a test: [`confidential`] what may be seen on disk, [`damage`] what may happen to it, [`traps`]
//! how SQLite uses a VFS, [`crash`] processes that are killed and [`images`] what a power cut leaves,
//! [`concurrent`] many at once, [`rotation`] keys, [`nonces`] a million of them.

mod basics;
mod concurrent;
mod confidential;
mod crash;
mod damage;
mod flips;
mod images;
mod nonces;
mod rotation;
mod scrub;
mod support;
mod traps;
