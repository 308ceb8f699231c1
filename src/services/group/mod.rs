//! One range's group: the replicas that agree on its log by Raft.
//!
//! Consensus itself is openraft's. What is ours lies around it: [`types`] says what its terms are here, [`ports`]
//! what others may ask of a group.

pub mod ports;
pub mod types;
