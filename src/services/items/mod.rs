//! Items by table and key, for a proxy and for a node asked directly: [`RoutedItems`] finds the
//! range of a key in the routing table, asks the node that leads it, and follows it where it has
//! moved. [`Nodes`] hides how a node is reached:
//!
//! | who asks | [`Nodes`] | a range of another node |
//! |---|---|---|
//! | `dstore dev` | all nodes in the process | a call |
//! | a proxy | [`RemoteNodes`] | the node's inside listener |
//! | a node asked by a client | [`OwnNode`] | refused, with that node's address for clients |
//!
//! [`LivingItems`] stands before them and hides what has expired.

mod address;
mod attempts;
mod expiry;
mod own_node;
mod remote;
mod routed;
#[cfg(test)]
mod tests;

pub use address::{NodeAddress, RangeReplica};
pub use expiry::LivingItems;
pub use own_node::OwnNode;
pub use remote::{RemoteNodes, RemoteOptions};
pub use routed::{Nodes, RangeRoute, RoutedItems, Routes};
