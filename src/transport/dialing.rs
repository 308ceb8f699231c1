//! How a component reaches single nodes: TLS that accepts the certificate of that very node and no other, and clients
//! over it. Where another node listens at an old address, the handshake fails and nothing is asked of it.
//!
//! They speak HTTP/1.1, a request at a time on each connection: a node serves each connection on one thread, so that
//! many connections spread over its threads where the streams of one HTTP/2 connection would not, and a lost packet
//! holds up one request. Nothing is asked twice here. A connection that turns out to be closed before a byte of the request
//! was written to it is replaced by another one; that is no second try.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use rustls::ClientConfig;

use super::pki::PeerIdentity;
use super::tls::{Identity, TlsError, client_config_of};
use crate::domain::ids::{NodeId, PlaneId, Role};

/// Reaches the nodes of one control plane, showing one identity.
pub struct NodeDialer {
    plane: PlaneId,
    identity: Arc<Identity>,
    authority_pem: String,
}

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionOptions {
    /// How long one may take to be made, the handshake included.
    pub connect_timeout: Duration,
    /// How long an unused one is kept. Shorter than the node's own patience, or a request might meet its goodbye
    /// half-way and nobody would know whether it happened.
    pub idle_timeout: Duration,
    /// Unused ones of one client that are kept, at most.
    pub idle_connections_max: usize,
}

impl NodeDialer {
    /// Nodes of this control plane, reached with this identity.
    pub fn new(plane: PlaneId, identity: Arc<Identity>, authority_pem: &str) -> Self {
        Self { plane, identity, authority_pem: authority_pem.to_owned() }
    }

    /// TLS that accepts this node and no other.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn tls(&self, node: NodeId) -> Result<ClientConfig, TlsError> {
        let peer = PeerIdentity { plane: self.plane, role: Role::Node, id: node.0 };
        client_config_of(self.identity.clone(), &self.authority_pem, peer)
    }
}

/// A client over this TLS. Its connections are driven by the runtime that first uses each.
///
/// # Errors
/// Where it cannot be made of these.
pub fn client_over(tls: ClientConfig, options: &ConnectionOptions) -> Result<Client, reqwest::Error> {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .http1_only()
        .no_proxy()
        .referer(false)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(options.idle_timeout)
        .pool_max_idle_per_host(options.idle_connections_max)
        .build()
}
