//! One range's group: the replicas that agree on its log by Raft. Consensus itself is openraft's; what is ours lies around
//! it, and is told here by what becomes of a write, a read, a leader that dies, and a group that nobody uses.
//!
//! A **write** comes to the range's node as an operation ([`crate::services::replicated`]) and passes the engine's admission.
//! The group is found or woken ([`host`], [`slots`]); where this replica does not lead, the answer is the
//! leader's node. Else the operation is proposed ([`writes`]): openraft gives it a place, and the log ([`log`],
//! [`kept_log`]) hands it to the node's commit log, where it shares a sync with whatever else is written, while it is
//! on its way to the other members ([`network`], [`wire`]). When a majority has synced it, the machine
//! ([`machine`]) has the engine apply it, and what that came to is the answer, on every replica the same.
//! A refusal is final like any other outcome. Where it is not known how a write ended, that is said.
//!
//! A **read** that must see everything is answered by the leader, without a message as long as a majority has promised not to
//! elect another ([`awake`]), else after asking it ([`reads`]). Other reads are answered by any member that
//! has heard its leader.
//!
//! A **leader that dies** is missed by the members: a group that is awake hears no heartbeat, one that sleeps is woken because
//! the beacons of the leader's node have ended ([`presence`]). After the lease one of them asks whether it
//! would be elected, then is. It applies all that its predecessors can have acknowledged before it answers anything;
//! a write that comes again is answered from the remembered requests, as before. A replica that was away is sent what
//! it lacks, or a snapshot in pieces where the log has been cut ([`pieces`], [`snapshot`], [`intake`]).
//!
//! A **group that nobody uses** falls asleep ([`sleep`]): nothing of it is left but a few bytes and its place in the
//! files.
//!
//! | file | what |
//! |---|---|
//! | [`types`], [`convert`] | openraft's words, and ours |
//! | [`ports`], [`operations`] | what others may ask of a group: how it stands, its members, who leads |
//! | [`digests`] | comparing the members' states |
//! | [`boots`] | whether a node's folder is an older copy of itself |
//! | [`host`], [`slots`], [`sleep`], [`presence`], `partners`, `succession`, `leaving`, [`standing`] | all groups of a node |
//! | [`awake`], [`acknowledged`], [`append_times`], `lease`, `dispatch`, `held_back`, `watching`, [`reads`], [`writes`] | one that is awake |
//! | `splitting` | a range that is split |
//! | [`log`], [`kept_log`], [`rebuild`], [`machine`] | what openraft stands on: memory and the node's commit log; the engine's replica |
//! | [`network`], [`questions`], [`wire`], [`incoming`] | from node to node |
//! | [`snapshot`], [`pieces`], [`intake`] | a replica's state from node to node |
//! | [`timing`], [`runtime`] | how long things take; what openraft runs on |

pub mod acknowledged;
pub mod append_times;
pub mod awake;
pub mod boots;
pub mod convert;
pub mod digests;
mod dispatch;
mod held_back;
pub mod host;
pub mod incoming;
pub mod intake;
pub mod kept_log;
mod lease;
mod leaving;
pub mod log;
pub mod machine;
pub mod network;
pub mod operations;
mod partners;
pub mod pieces;
pub mod ports;
pub mod presence;
pub mod questions;
pub mod reads;
pub mod rebuild;
pub mod runtime;
mod seams;
pub mod sleep;
pub mod slots;
pub mod snapshot;
mod splitting;
pub mod standing;
mod succession;
pub mod timing;
pub mod types;
mod watching;
pub mod wire;
pub mod writes;

#[cfg(test)]
mod tests;
