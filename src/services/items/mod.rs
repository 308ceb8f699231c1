//! Items by table and key, for a proxy and for a node asked directly: [`RoutedItems`] finds the
//! range of a key in the routing table, asks the node that leads it, and follows it where it has
//! moved. The same code serves `dstore dev`, where the node is in the same process, and a proxy,
//! where it is across the network: [`Nodes`] hides which.

mod routed;

pub use routed::{Nodes, RangeRoute, RoutedItems, Routes};
