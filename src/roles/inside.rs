//! The socket of a serving role for other components: taken at the start, served with mutual TLS when it is known who this is.

use std::net::SocketAddr;
use std::sync::Arc;

use super::node_parts::StartError;
use super::serving::uri;
use crate::api::server::Listener;
use crate::transport::tls::{ClientCertificates, Identity, server_config};

/// A socket that is taken and not yet served.
pub struct InsideSocket {
    listener: std::net::TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
    /// The URL under which others reach it.
    pub uri: String,
}

impl InsideSocket {
    /// Takes an address, which others know as `advertise` where that is another.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn take(listen: SocketAddr, advertise: Option<&str>) -> Result<Self, StartError> {
        let failed = |error: std::io::Error| {
            StartError(format!("cannot listen on {listen}: {error}. Choose another with inside.listen"))
        };
        let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let uri = uri(advertise, "https", &[address]);
        Ok(Self { listener, address, uri })
    }

    /// Shows this certificate of a member, and lets nobody in without one of the same control plane.
    ///
    /// # Errors
    /// Where TLS cannot be set up with it.
    pub fn secured(self, identity: &Arc<Identity>, authority_pem: &str) -> Result<Listener, StartError> {
        let tls = server_config(identity.clone(), authority_pem, ClientCertificates::Required)
            .map_err(|error| failed(&error))?;
        Ok(Listener::over(self.listener, Some(tls)))
    }
}

/// The listener does not start.
pub fn failed(error: &dyn std::fmt::Display) -> StartError {
    StartError(format!("the inside listener: {error}"))
}
