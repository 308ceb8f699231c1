//! One range's group: the replicas that agree on its log by Raft.
//!
//! Consensus itself is openraft's. What is ours lies around it: [`types`] says what its terms are here, [`convert`]
//! translates them into ours, and [`ports`] is what others may ask of a group. [`log`] and [`machine`] are what
//! openraft stands on: the log is kept in memory by [`kept_log`] and on disk by the node's commit log, and put together
//! by [`rebuild`] after a start; the machine is the engine's replica. [`pieces`] and [`snapshot`] bring a
//! replica's state from one node to another. [`runtime`] is what openraft runs on.
//!
//! Between nodes: [`wire`] is what replicas say to each other, as bytes; [`network`] is how openraft says it, with its
//! [`questions`] that wait for answers; [`incoming`] sorts what comes in, and an [`intake`] collects a snapshot.

pub mod convert;
pub mod incoming;
pub mod intake;
pub mod kept_log;
pub mod log;
pub mod machine;
pub mod network;
pub mod pieces;
pub mod ports;
pub mod questions;
pub mod rebuild;
pub mod runtime;
pub mod snapshot;
pub mod presence;
pub mod timing;
pub mod types;
pub mod wire;

#[cfg(test)]
mod tests;
