//! The listener for clients, the same at the proxy and at the node, and the one for health: sockets are taken first,
//! what they serve follows when it is there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::lifecycle::client_tls;
use super::member::{Followed, Ground, Member};
use super::node_parts::StartError;
use super::{ambient, process_metrics};
use crate::api::body::Limits;
use crate::api::doors::surface;
use crate::api::dynamodb::body_budget::BodyBudget;
use crate::api::gate::{self, Gate};
use crate::api::health::{self, Health};
use crate::api::rest::RestState;
use crate::api::server::{self, Listener, RunningServer, ServerOptions};
use crate::config::Config;
use crate::domain::rid::Location;
use crate::services::access::TokenAuthenticator;
use crate::services::control::remote::RemoteCatalog;
use crate::services::items::{LivingItems, Nodes, RoutedItems};
use crate::services::tenant_limits::TenantLimiter;
use crate::services::usage::Meter;

/// Opens the listener for health, before anything else.
///
/// # Errors
/// Where the address cannot be had.
pub fn start_health(listen: SocketAddr, health: &Arc<Health>) -> Result<RunningServer, StartError> {
    let listener = bind("metrics.listen", listen, None)?;
    let options = ServerOptions { workers: 1, connections_max: 256, ..ServerOptions::default() };
    let health = health.clone();
    process_metrics::watch(&health, ambient::clock().now());
    server::start(vec![listener], &options, move || health::surface(health.clone()))
        .map_err(|error| StartError(error.to_string()))
}

/// Takes an address, or says which setting to change.
///
/// # Errors
/// Where it cannot be had.
pub fn bind(setting: &str, listen: SocketAddr, tls: Option<rustls::ServerConfig>) -> Result<Listener, StartError> {
    Listener::bind(listen, tls).map_err(|error| {
        StartError(format!(
            "cannot listen on {listen}: {error}. Choose another with {setting}, port 0 takes a free one"
        ))
    })
}

/// The listener for clients, that answers what it waits for until its gate opens.
pub struct ClientListener {
    gate: Arc<Gate<Arc<RestState>>>,
    server: RunningServer,
    uri: String,
    body_limits: Limits,
    location: Location,
    domain: Option<Arc<str>>,
}

impl ClientListener {
    /// Takes the address, with TLS where a certificate is set.
    ///
    /// # Errors
    /// Where certificate or address cannot be used.
    pub fn start(config: &Config, health: &Arc<Health>) -> Result<Self, StartError> {
        let location = Location::new(&config.node.location).map_err(|refusal| StartError(refusal.message))?;
        let tls = client_tls(config)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = bind("client.listen", config.client.listen, tls)?;
        let (gate, health) = (Arc::new(Gate::default()), health.clone());
        let waiting: Arc<dyn Fn() -> Result<(), crate::domain::Refusal> + Send + Sync> =
            Arc::new(move || health.readiness());
        let options = server_options(config);
        let behind = gate.clone();
        let server = server::start(vec![listener], &options, move || {
            gate::surface(behind.clone(), waiting.clone(), |state: Arc<RestState>| surface(state))
        });
        let server = server.map_err(|error| StartError(error.to_string()))?;
        let uri = uri(config.client.advertise.as_deref(), scheme, server.addresses());
        let body_limits = Limits { time_max: Duration::from_secs(config.limits.body_seconds), ..Limits::default() };
        let domain = config.client.domain.as_deref().map(Arc::from);
        Ok(Self { gate, server, uri, body_limits, location, domain })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// The URL under which clients reach it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Serves from now on, reaching nodes this way, counts what it serves, and holds tenants to their limits.
    pub fn open(
        &self,
        ground: &Ground,
        member: &Member,
        followed: &Followed,
        nodes: Arc<dyn Nodes>,
        meter: &Arc<Meter>,
        limiter: Arc<TenantLimiter>,
    ) {
        let (keys, lists) = (followed.access.keys.clone(), followed.access.lists.clone());
        let health = ground.health.clone();
        let items = RoutedItems::new(followed.routing.clone(), nodes)
            .with_request_ids(ground.clock.clone(), ground.random.clone())
            .with_limits(limiter);
        self.gate.open(Arc::new(RestState {
            items: Arc::new(LivingItems::new(Arc::new(items), ground.clock.clone())),
            catalog: Arc::new(RemoteCatalog::new(member.control.clone(), followed.routing.clone())),
            authenticator: Arc::new(TokenAuthenticator::new(keys.clone(), lists.clone(), ground.clock.clone())),
            access: lists,
            domain: self.domain.clone(),
            token_keys: keys,
            clock: ground.clock.clone(),
            random: ground.random.clone(),
            location: self.location.clone(),
            readiness: Arc::new(move || health.readiness()),
            body_limits: self.body_limits,
            body_budget: BodyBudget::default(),
            meter: meter.clone(),
            observing: ground.observing.clone(),
        }));
    }

    /// Answers what is under way, and ends.
    pub async fn stop(self) {
        if let Err(error) = self.server.stop().await {
            tracing::error!(%error, "the listener for clients did not stop cleanly");
        }
    }
}

/// How a listener of a serving role treats its connections.
pub fn server_options(config: &Config) -> ServerOptions {
    ServerOptions {
        stop_timeout: Duration::from_secs(config.limits.drain_seconds),
        connections_max: config.limits.connections,
        ..ServerOptions::default()
    }
}

/// The URL of a listener: as the settings say, or as it was bound.
pub fn uri(advertise: Option<&str>, scheme: &str, addresses: &[SocketAddr]) -> String {
    let bound = || addresses.first().map(|address| format!("{scheme}://{address}")).unwrap_or_default();
    let uri = advertise.map_or_else(bound, str::to_owned);
    format!("{}/", uri.trim_end_matches('/'))
}
