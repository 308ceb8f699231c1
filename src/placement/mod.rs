//! Floor 1: where ranges live. Pure: the nodes and their load go in, a plan comes out; nothing is
//! asked and nothing is moved here.
//!
//! Three questions are answered. [`split::initial_intervals`] cuts the space of hashes (all of u32)
//! into the intervals that a new table starts with. [`assign::assign`] says which nodes hold the
//! replicas of each: first spread over zones, then over nodes by load against capacity, so that the
//! loss of one zone takes at most one replica of any range while there are zones enough. [`repair::repair`] says
//! what is to change later: copies on nodes that are gone or leaving, too few or too many of them, and who leads.
//!
//! The same input always gives the same plan: ties are broken by the node's id, never by dice or by
//! the order in which a map happens to be walked. A reconciler that is run twice then does nothing
//! the second time, and a test can pin what it did the first time.
//!
//! Rejected: consistent hashing with virtual nodes. Routes are looked up in a table here, so there
//! is nothing to gain from a placement that a client could compute, and it places by chance what
//! can be placed by load.

pub mod assign;
pub mod repair;
pub mod split;

pub use assign::{Candidate, Shortage, assign};
pub use split::{initial_intervals, initial_ranges_default};
