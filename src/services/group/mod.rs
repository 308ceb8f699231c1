//! One range's group: the replicas that agree on its log by Raft.
//!
//! Consensus itself is openraft's. What is ours lies around it: [`types`] says what its terms are here, [`convert`]
//! translates them into ours, and [`ports`] is what others may ask of a group. [`pieces`] and [`snapshot`] bring a
//! replica's state from one node to another.

pub mod convert;
pub mod pieces;
pub mod ports;
pub mod snapshot;
pub mod types;
