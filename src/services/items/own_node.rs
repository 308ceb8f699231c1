//! The nodes as one node sees them that clients ask directly: itself by a call, and the others not at
//! all. It passes nothing on, because then a client that knows its way would pay for a detour that
//! nobody sees; it says where to ask instead (421 with `Location`).

use std::sync::Arc;

use super::routed::{Nodes, RangeRoute};
use crate::domain::ids::NodeId;
use crate::domain::{Refusal, RefusalKind};
use crate::services::ranges::RangeService;

/// See the module's essay.
pub struct OwnNode {
    node: NodeId,
    service: Arc<dyn RangeService>,
}

impl OwnNode {
    /// The node of this id, whose ranges `service` serves.
    pub fn new(node: NodeId, service: Arc<dyn RangeService>) -> Self {
        Self { node, service }
    }
}

impl Nodes for OwnNode {
    fn reach(&self, route: &RangeRoute) -> Result<Arc<dyn RangeService>, Refusal> {
        if route.leader.node == self.node {
            return Ok(self.service.clone());
        }
        let message = "another node holds this part of the table; Location says where to ask";
        let location = Some(route.leader.uri.clone());
        Err(Refusal { location, ..Refusal::new(RefusalKind::WrongNode, message) })
    }

    fn own(&self) -> Option<NodeId> {
        Some(self.node)
    }
}
