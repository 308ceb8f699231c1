//! Frames across the network: POST of each to the inside listener of the node that it is for, over mutual TLS. The answer
//! is 204 as soon as the frame is in the other node's inbox; whether its messages make sense is not part of it.
//!
//! Who is addressed is a node and not an address: where it listens, [`PeerAddresses`] says, each time. When that changes,
//! so does the client. A client accepts the certificate of the very node that is meant ([`super::dialing`]) and keeps its
//! connections, of which three are in use at most: one for each lane of the links.
//!
//! Clients of nodes that were addressed longest ago are dropped where there are too many. Whoever is using one keeps it until
//! its answer is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::{Client, StatusCode, Url};

use super::dialing::{ConnectionOptions, NodeDialer, client_over};
use super::links::{Carrier, CarryError};
use crate::domain::ids::NodeId;

/// Where a node takes frames.
pub const FRAMES_PATH: &str = "/inside/v1/frames";

/// Knows where other nodes listen.
pub trait PeerAddresses: Send + Sync + 'static {
    /// The URI of a node's inside listener; none where it is not known.
    fn inside_uri(&self, node: NodeId) -> Option<String>;
}

/// How frames are brought.
#[derive(Debug, Clone, Copy)]
pub struct FrameOptions {
    /// How connections are kept.
    pub connections: ConnectionOptions,
    /// How long a frame may take, its connection included. The largest takes some seconds on a slow network.
    pub request_timeout: Duration,
    /// Clients that are kept, at most: one for each node that is talked to.
    pub clients_max: usize,
}

impl Default for FrameOptions {
    fn default() -> Self {
        Self {
            connections: ConnectionOptions {
                connect_timeout: Duration::from_secs(1),
                idle_timeout: Duration::from_secs(30),
                idle_connections_max: 4,
            },
            request_timeout: Duration::from_secs(5),
            clients_max: 1024,
        }
    }
}

/// See the module's essay.
pub struct FrameClient {
    dialer: NodeDialer,
    addresses: Arc<dyn PeerAddresses>,
    options: FrameOptions,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    peers: BTreeMap<NodeId, Peer>,
    /// Counts frames, to know which client was used longest ago.
    uses: u64,
}

struct Peer {
    inside_uri: String,
    url: Url,
    client: Client,
    used: u64,
}

impl FrameClient {
    /// A carrier to nodes that this dialer reaches, where these addresses say.
    pub fn new(dialer: NodeDialer, addresses: Arc<dyn PeerAddresses>, options: FrameOptions) -> Self {
        Self { dialer, addresses, options, known: Mutex::default() }
    }

    /// How many clients there are.
    pub fn client_count(&self) -> usize {
        self.known.lock().peers.len()
    }

    fn meet(&self, node: NodeId) -> Result<(Client, Url), String> {
        let inside_uri = self.addresses.inside_uri(node).ok_or("its address is not known")?;
        let mut known = self.known.lock();
        known.uses += 1;
        let used = known.uses;
        if let Some(peer) = known.peers.get_mut(&node).filter(|peer| peer.inside_uri == inside_uri) {
            peer.used = used;
            return Ok((peer.client.clone(), peer.url.clone()));
        }
        let url = format!("{}{FRAMES_PATH}", inside_uri.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|problem| format!("its address {inside_uri} cannot be used: {problem}"))?;
        let tls = self.dialer.tls(node).map_err(|problem| problem.to_string())?;
        let client = client_over(tls, &self.options.connections).map_err(|problem| problem.to_string())?;
        known.peers.remove(&node);
        while known.peers.len() >= self.options.clients_max.max(1) {
            let Some(oldest) = known.peers.iter().min_by_key(|(_, peer)| peer.used).map(|(id, _)| *id) else { break };
            known.peers.remove(&oldest);
        }
        known.peers.insert(node, Peer { inside_uri, url: url.clone(), client: client.clone(), used });
        Ok((client, url))
    }
}

#[async_trait]
impl Carrier for FrameClient {
    async fn carry(&self, to: NodeId, frame: Bytes) -> Result<(), CarryError> {
        let failed = |reason: String| CarryError { node: to, reason };
        let (client, url) = self.meet(to).map_err(failed)?;
        let request = client.post(url).timeout(self.options.request_timeout).body(frame);
        let response = request.send().await.map_err(|problem| failed(innermost(&problem)))?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(()),
            status => Err(failed(format!("it answers {status}"))),
        }
    }
}

/// What lies at the bottom of an error: those around it say that something was asked and where.
fn innermost(problem: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = problem;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
