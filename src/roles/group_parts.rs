//! A node's groups put together: links over a carrier, openraft's network over them, the host, and the range service
//! over that.
//!
//! Within one process a frame is brought by a call; between processes by HTTP over mutual TLS, to where the node
//! directory says.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::memory;
use super::node_parts::StartError;
use crate::domain::Random;
use crate::domain::ids::NodeId;
use crate::services::engine::Engine;
use crate::services::group::host::{Groups, GroupsParts};
use crate::services::group::incoming::Incoming;
use crate::services::group::network::{GroupNetworks, NetworkOptions};
use crate::services::node_directory::NodeDirectory;
use crate::services::ranges::RangeService;
use crate::services::replicated::ReplicatedRanges;
use crate::services::rolled_back::OwnBoots;
use crate::transport::dialing::NodeDialer;
use crate::transport::frame_client::{FrameClient, FrameOptions, PeerAddresses};
use crate::transport::links::{Carrier, Inbox, LinkOptions, Links};
use crate::transport::memory::MemoryNetwork;

/// How long a planned stop may take to hand leadership over.
const HAND_OVER_TIME: Duration = Duration::from_secs(5);

/// How long one waits then for requests that wait for a group.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// How a node's frames get to other nodes.
pub enum Wires {
    /// They are in the same process.
    Within(MemoryNetwork),
    /// They are anywhere.
    Across(NodeDialer),
}

/// See the module's essay.
pub struct NodeGroups {
    /// The groups.
    pub groups: Arc<Groups>,
    /// The node's ranges, with and without groups.
    pub ranges: Arc<dyn RangeService>,
    /// Takes frames of other nodes.
    pub incoming: Arc<Incoming>,
    /// Brings frames to them.
    pub links: Arc<Links>,
}

impl NodeGroups {
    /// Puts them together and starts them, in the runtime it is called in.
    ///
    /// # Errors
    /// Where openraft does not accept its settings.
    pub fn start(
        node: NodeId,
        engine: &Arc<Engine>,
        wires: Wires,
        directory: &Arc<NodeDirectory>,
        random: &Arc<dyn Random>,
        boots: &Arc<OwnBoots>,
    ) -> Result<Self, StartError> {
        let (within, carrier): (_, Arc<dyn Carrier>) = match wires {
            Wires::Within(network) => (Some(network.clone()), network.carrier(node)),
            Wires::Across(dialer) => {
                let addresses = Arc::new(Addresses(Arc::clone(directory)));
                (None, Arc::new(FrameClient::new(dialer, addresses, FrameOptions::default())))
            }
        };
        let links = Arc::new(Links::new(carrier, Handle::current(), LinkOptions::default()));
        let networks = GroupNetworks::new(Arc::clone(&links), &**random, NetworkOptions::default());
        let parts = GroupsParts {
            node,
            engine: Arc::clone(engine),
            networks: Arc::clone(&networks),
            random: Arc::clone(random),
        };
        let groups = Groups::new(parts).map_err(|error| StartError(format!("the groups of the node: {error}")))?;
        groups.set_boots(Arc::clone(boots));
        let incoming = Arc::new(Incoming::new(networks, Arc::clone(&groups) as _));
        if let Some(network) = within {
            network.attach(node, &(Arc::clone(&incoming) as Arc<dyn Inbox>));
        }
        groups.start();
        drop(tokio::spawn(memory::give_back_after_sleep(Arc::downgrade(&groups))));
        let ranges = Arc::new(ReplicatedRanges::new(Arc::clone(engine), Arc::clone(&groups)));
        Ok(Self { groups, ranges, incoming, links })
    }

    /// Before a planned stop, while requests are still answered: others lead from now on.
    pub async fn hand_over(&self) {
        self.groups.hand_over_all(Instant::now() + HAND_OVER_TIME).await;
    }

    /// The last before other nodes are heard no more: what woke meanwhile is handed over, whoever waits is answered, and the others
    /// are told.
    pub async fn depart(&self) {
        self.hand_over().await;
        self.groups.until_unused(Instant::now() + ANSWER_TIME).await;
        self.groups.depart();
    }
}

struct Addresses(Arc<NodeDirectory>);

impl PeerAddresses for Addresses {
    fn inside_uri(&self, node: NodeId) -> Option<String> {
        self.0.address(node).map(|address| address.inside().to_owned())
    }
}
