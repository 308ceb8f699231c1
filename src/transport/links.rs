//! Messages between nodes: what travels from one node to another goes one way, in frames of many messages, for all
//! ranges together. An answer is a message of its own on the way back. A frame may be lost, come twice, late or out of
//! order: who sends expects nothing, and asks again.
//!
//! [`Carrier`] is the network: HTTP over mutual TLS between processes, a call within one process, a simulated
//! network in tests.

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::ids::NodeId;

/// A frame did not get through, as far as its sender can tell. It may have arrived all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node {node} cannot be reached: {reason}")]
pub struct CarryError {
    /// The node it was for.
    pub node: NodeId,
    /// What happened.
    pub reason: String,
}

/// Brings frames to other nodes.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Brings one frame to a node. Returns when it has been handed over there; it has not been acted on then.
    ///
    /// # Errors
    /// [`CarryError`] where that is not known to have happened.
    async fn carry(&self, to: NodeId, frame: Bytes) -> Result<(), CarryError>;
}

/// Takes frames that come in. `from` is the node whose certificate the peer showed. Returns at once.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one frame; one that is not understood is counted and dropped.
    fn deliver(&self, from: NodeId, frame: Bytes);
}
