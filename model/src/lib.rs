//! The protocols that are dStore's own, given to a model checker: every order in which messages, crashes and wishes
//! can come, within bounds, is tried, and in every state that can be reached the promises must hold.
//!
//! What decides in these worlds is the code that decides in a node: `dstore::replication::{publish, replacement, split,
//! receipt, request_id}`. Only what lies around it is made up here: the coordinator, the network, the disks, and a
//! small sound Raft ([`raft`]).
//!
//! | model | what it is about |
//! |---|---|
//! | [`publish`] | leaders that come and go write one route |
//! | [`replacement`] | copies are exchanged, taken back, and lost |
//! | [`split`] | a range is split while proxies ask again |
//! | [`receipts`] | writes that were answered early, and leaders that are lost |
//!
//! A checker that has never failed proves nothing. So each model can be told to make a mistake (its `Mistake`), and the tests
//! demand that a counterexample is found for each. Bounds are small on purpose: nearly every fault of such a protocol shows with
//! three copies, two leaders and one fault. They are fields of each model; the tests name the sets of bounds, and pin how many states
//! each set has, so that a change that cuts the world in half is seen.
//!
//! It is a package of its own because the library is compiled without optimisation in tests, and a million states
//! would take minutes then.

pub mod names;
pub mod publish;
pub mod raft;
pub mod receipts;
pub mod replacement;
pub mod split;
