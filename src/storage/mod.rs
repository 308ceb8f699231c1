//! Floor 2: what rests on disk. [`log`] is the node's commit log, [`vfs`] encrypts SQLite files a
//! page at a time, [`sqlite`] keeps one range's items in one such file, [`memory`] in memory for tests. [`workers`] says
//! whether the lasting work runs on threads or, in simulations, as tasks.

#[cfg(test)]
mod contract;
pub mod keys;
pub mod log;
pub mod memory;
pub mod node_database;
pub mod reporting;
pub mod sqlite;
pub mod store;
pub mod vfs;
pub mod workers;
