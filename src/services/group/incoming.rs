//! What comes in from other nodes, sorted: answers go to whoever asked, all else to the groups' host.
//!
//! A frame or a message that is not understood is counted and dropped, and so is a kind that only a later release knows.
//! Nothing here waits: an inbox is called by the listener's threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::network::GroupNetworks;
use super::wire::{Envelope, NodeMessage, Received};
use crate::domain::ids::NodeId;
use crate::transport::frames;
use crate::transport::links::Inbox;

/// Takes what is asked of this node's groups. `from` is the node whose certificate the peer showed: whether the replica that
/// a message names as its sender is on that node, the group's membership says. Returns at once.
pub trait GroupMessages: Send + Sync + 'static {
    /// A replica asks, or tells, one of this node.
    fn asked(&self, from: NodeId, question: Envelope);

    /// A node speaks of itself.
    fn told(&self, from: NodeId, message: NodeMessage);
}

/// What has come in since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IncomingCounts {
    /// Frames.
    pub frames: u64,
    /// Messages that were understood.
    pub messages: u64,
    /// Messages of a kind that this release does not know.
    pub unknown: u64,
    /// Frames and messages that make no sense.
    pub senseless: u64,
}

/// See the module's essay.
pub struct Incoming {
    networks: Arc<GroupNetworks>,
    host: Arc<dyn GroupMessages>,
    frames: AtomicU64,
    messages: AtomicU64,
    unknown: AtomicU64,
    senseless: AtomicU64,
}

impl Incoming {
    /// An inbox that sorts for these.
    pub fn new(networks: Arc<GroupNetworks>, host: Arc<dyn GroupMessages>) -> Self {
        let zero = AtomicU64::default;
        Self { networks, host, frames: zero(), messages: zero(), unknown: zero(), senseless: zero() }
    }

    /// What has come in.
    pub fn counts(&self) -> IncomingCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IncomingCounts {
            frames: read(&self.frames),
            messages: read(&self.messages),
            unknown: read(&self.unknown),
            senseless: read(&self.senseless),
        }
    }

    fn sort(&self, from: NodeId, message: &Bytes) {
        let counter = match Received::decode(message) {
            Ok(Received::Group(envelope)) => {
                if envelope.message.is_answer() {
                    self.networks.answered(from, envelope);
                } else {
                    self.host.asked(from, envelope);
                }
                &self.messages
            }
            Ok(Received::Node(message)) => {
                self.host.told(from, message);
                &self.messages
            }
            Ok(Received::Unknown(_)) => &self.unknown,
            Err(problem) => {
                tracing::debug!(%from, %problem, "a message is not understood");
                &self.senseless
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Inbox for Incoming {
    fn deliver(&self, from: NodeId, frame: Bytes) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        match frames::decode(&frame) {
            Ok(messages) => messages.iter().for_each(|message| self.sort(from, message)),
            Err(problem) => {
                tracing::debug!(%from, %problem, "a frame is not understood");
                self.senseless.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
