//! Where a node is reached: by clients, and by the other components.

use std::sync::Arc;

use crate::coordination::values::ReplicaState;
use crate::domain::ids::NodeId;

/// A node and where it is reached. Shared by all ranges that name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeAddress {
    /// The node.
    pub node: NodeId,
    /// Where clients reach it.
    pub uri: String,
    /// Where other components reach it by mutual TLS; none where it is the same as `uri`. Never empty.
    pub inside_uri: Option<String>,
}

impl NodeAddress {
    /// The node's addresses. An empty one for the inside is none.
    pub fn new(node: NodeId, uri: String, inside_uri: Option<String>) -> Self {
        Self { node, uri, inside_uri: inside_uri.filter(|uri| !uri.is_empty()) }
    }

    /// Where other components reach it.
    pub fn inside(&self) -> &str {
        self.inside_uri.as_deref().unwrap_or(&self.uri)
    }
}

/// One copy of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeReplica {
    /// The node that holds it.
    pub address: Arc<NodeAddress>,
    /// What it may do.
    pub state: ReplicaState,
}
