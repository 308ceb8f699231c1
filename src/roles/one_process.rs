//! A control plane, its nodes and both listeners in one process, over one data folder: what `dstore dev` and
//! `dstore node --standalone` have in common, which is nearly everything.
//!
//! ```text
//! <data>/lock                      held while the process runs
//! <data>/credentials.json          addresses, token and access key, mode 0600; see [`super::credentials`]
//! <data>/control/coordinator.db    the embedded coordinator
//! <data>/control/control.key       control's own key, see [`super::key_files`]
//! <data>/reporting/reporting.db    what was used, see [`super::local_reporting`]
//! <data>/node-<n>/node.id          the n-th node's id
//! <data>/node-<n>/<plane>/…        its data, see [`super::node_parts`]
//! ```
//!
//! Both commands lay out the folder alike, so what was begun with one can go on with the other; and below
//! `node-<n>` it looks as a node's folder does that has joined a cluster, where each plane has a folder of its own.
//!
//! All key parts lie on one disk here: the encryption keeps its formats and its checks, and protects
//! a single stolen file. Against the thief of the whole folder there is the passphrase.
//!
//! Sockets are taken before anything is made or opened: a port in use is told at once, and who connects early waits
//! in the kernel's queue until requests are served.

mod sockets;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use crate::api::admin::{self, AdminState};
use crate::api::body::Limits;
use crate::api::doors::surface;
use crate::api::dynamodb::body_budget::BodyBudget;
use crate::api::health::{Condition, Health};
use crate::api::rest::{Readiness, RestState};
use crate::api::server::{self, RunningServer, ServerOptions};
use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::values::{NodeDetails, NodeStatus};
use crate::coordination::{Coordinator, Writer};
use crate::domain::ids::NodeId;
use crate::domain::rid::Location;
use crate::domain::{Clock, Random};
use crate::services::access::{AccessLists, TokenAuthenticator, TokenKeys};
use crate::services::control::records::RECORDS_FORMAT;
use crate::services::control::{ControlOptions, ControlPlane};
use crate::services::items::{LivingItems, Nodes, RoutedItems, Routes};
use crate::services::observing::Observing;
use crate::services::ports::{Authenticator, Catalog, Items};
use crate::services::range_reports::{NodeReporter, RangeReports};
use crate::services::routing::{RoutingOptions, RoutingSource, RoutingTable};
use crate::services::usage::{Meter, UsageSource};
use crate::transport::memory::MemoryNetwork;

use super::ambient;
use super::credentials::{Credentials, Maker, told};
use super::expiring;
use super::group_parts::Wires;
use super::key_files::{Passphrase, read_or_make_key};
use super::limiting::Limiting;
use super::local_reporting::{self, LocalReporting};
use super::local_wiring::{LocalKeyParts, LocalNodes, counted, place, sources, watch_storage};
use super::logging;
use super::member::{lock_folder, watch_routing};
use super::node_metrics;
use super::node_parts::{self, NodeIdentity, NodeSettings, RunningNode, StartError};
use super::observing::ObservingSettings;
use super::private_files;
use super::serving::start_health;
use sockets::Sockets;

/// What `/readyz` calls a start that is under way.
const START: &str = "start";
/// How long parts of this process may take to find each other.
const PATIENCE: Duration = Duration::from_secs(30);

/// What such a process is asked for.
#[derive(Clone)]
pub struct OneProcessOptions {
    /// What it is called in the history of what it does.
    pub name: &'static str,
    /// The data folder.
    pub data: PathBuf,
    /// Where clients are served.
    pub listen: SocketAddr,
    /// With what certificate, if any.
    pub tls: Option<ServerConfig>,
    /// The URL under which clients reach it, where it is not the address.
    pub advertise: Option<String>,
    /// The domain below which tenants have hosts of their own.
    pub domain: Option<Arc<str>>,
    /// Where the admin API is served.
    pub admin_listen: SocketAddr,
    /// Whether a person chose that address. Where not, a free port will do if it is taken.
    pub is_admin_chosen: bool,
    /// Where health and metrics are told.
    pub metrics_listen: SocketAddr,
    /// Whether a person chose that address. Where not, a free port will do if it is taken.
    pub is_metrics_chosen: bool,
    /// Nodes in the process.
    pub nodes: u16,
    /// Seals the keys of all roles.
    pub passphrase: Option<Arc<Passphrase>>,
    /// Sizes and limits of each node.
    pub node: NodeSettings,
    /// The zone of each node.
    pub zone: String,
    /// Seconds that a stop waits for requests under way.
    pub drain_seconds: u64,
    /// The location in every RID.
    pub location: Location,
    /// What a body may take.
    pub body_limits: Limits,
    /// Client connections at once.
    pub connections_max: usize,
    /// What is noted of requests.
    pub observing: ObservingSettings,
}

/// Such a process, running.
pub struct OneProcess {
    /// What a user needs to begin.
    pub credentials: Credentials,
    /// Where the admin API is.
    pub admin_url: String,
    /// The control plane.
    pub control: Arc<ControlPlane>,
    servers: [RunningServer; 2],
    health: RunningServer,
    nodes: Vec<RunningNode>,
    limiting: Limiting,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    routing: Arc<RoutingTable>,
    store: EmbeddedStore,
    _lock: std::fs::File,
}

/// What is there in one piece for all nodes.
struct Ground {
    options: OneProcessOptions,
    url: String,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    store: EmbeddedStore,
    control: Arc<ControlPlane>,
}

/// Starts everything.
///
/// # Errors
/// Where the folder, its files or the ports cannot be had, with what to do.
pub async fn start(options: OneProcessOptions) -> Result<OneProcess, StartError> {
    let (clock, random) = (ambient::clock(), ambient::random());
    crate::storage::vfs::register(Arc::clone(&random)).map_err(|error| StartError(error.to_string()))?;
    let control_folder = options.data.join("control");
    private_files::create_folder(&control_folder)
        .map_err(|error| StartError(format!("{}: {error}", control_folder.display())))?;
    let lock = lock_folder(&options.data)?;
    check_count(&options)?;
    let sockets = Sockets::take(&options)?;
    let health = Health::new("dev", env!("CARGO_PKG_VERSION"));
    health.note(START, Condition::Waiting("it is starting".to_owned()));
    let health_server = serve_health(&options, &health)?;
    let store = EmbeddedStore::open(&control_folder.join("coordinator.db"), EmbeddedOptions::default())
        .map_err(|error| StartError(error.to_string()))?;
    let control = open_control(&store, &control_folder, &options, &clock, &random).await?;
    let ground = Ground { url: sockets.url.clone(), options, clock, random, store, control };

    let coordinator: Arc<dyn Coordinator> = Arc::new(ground.store.handle(Writer::Control));
    let (clock, random) = (Arc::clone(&ground.clock), Arc::clone(&ground.random));
    let routing = Arc::new(RoutingTable::start(coordinator, RoutingOptions::default(), clock, random));
    watch_routing(&health, Arc::clone(&routing));
    let local = Arc::new(LocalNodes::default());
    let nodes = ground.start_nodes(&local, &health).await?;
    ground.control.ask_nodes_through(Arc::clone(&local) as Arc<dyn RangeReports>);
    wait_for_nodes(&ground.control, &nodes).await?;

    let keys = Arc::new(TokenKeys::new(Vec::new()));
    let lists = Arc::new(AccessLists::default());
    let follower = ground.control.access_follow(Arc::clone(&keys), Arc::clone(&lists));
    let follower = follower.await.map_err(told("access lists"))?;
    let authenticator: Arc<dyn Authenticator> =
        Arc::new(TokenAuthenticator::new(Arc::clone(&keys), Arc::clone(&lists), Arc::clone(&ground.clock)));
    let maker = Maker {
        control: &ground.control,
        authenticator: &*authenticator,
        clock: &*ground.clock,
        name: ground.options.name,
    };
    let credentials = maker.ready(&ground.options.data, &ground.url, &sockets.admin_url).await?;
    wait_for_routing(&routing).await?;
    let handle = |writer| Arc::new(ground.store.handle(writer)) as Arc<dyn Coordinator>;
    let limiting = Limiting::alone(&routing, &nodes, handle, &ground.clock, &health);
    let items = RoutedItems::new(Arc::clone(&routing) as Arc<dyn Routes>, local as Arc<dyn Nodes>)
        .with_request_ids(Arc::clone(&ground.clock), Arc::clone(&ground.random))
        .with_limits(Arc::clone(&limiting.limiter));
    let items = Arc::new(LivingItems::new(Arc::new(items), Arc::clone(&ground.clock)));
    let admin_url = sockets.admin_url.clone();
    let readiness = watch_storage(&health, &nodes);
    nodes.iter().for_each(|node| node.usage.begin());
    let observing = ground.options.observing.start("dev", &health, &ground.clock, &ground.random)?;
    let noting = Noting { meter: counted(&nodes), observing };
    let servers = ground.serve(sockets, items, authenticator, Known { keys, lists }, readiness, noting)?;
    let maintenance = tokio::spawn(maintain(Arc::clone(&ground.control)));
    let placement = tokio::spawn(place(Arc::clone(&ground.control)));
    let log_level = logging::follow(Arc::clone(&ground.control), Arc::clone(&ground.clock));
    let mut tasks = vec![follower, maintenance, placement, log_level];
    let expiry_period = ground.options.node.expiry_period;
    tasks.extend(expiring::start_all(&nodes, &routing, expiry_period, &ground.clock, &health));
    tasks.extend(local_reporting::start(&ground.local_reporting(), sources(&nodes), &health).await?);
    let (control, store) = (ground.control, ground.store);
    health.note(START, Condition::Good);
    let (health, _lock) = (health_server, lock);
    Ok(OneProcess { credentials, admin_url, control, servers, health, nodes, limiting, tasks, routing, store, _lock })
}

impl OneProcess {
    /// What was counted at each node, for whoever gathers it.
    pub fn usage(&self) -> Vec<Arc<dyn UsageSource>> {
        sources(&self.nodes).into_iter().map(|(_, source)| source).collect()
    }

    /// Stops everything: requests under way are answered, memory is written to disk.
    pub async fn stop(self) {
        for server in self.servers.into_iter().chain([self.health]) {
            if let Err(error) = server.stop().await {
                tracing::error!(%error, "a server did not stop cleanly");
            }
        }
        for task in &self.tasks {
            task.abort();
        }
        drop(self.limiting);
        for node in self.nodes {
            node.stop().await;
        }
        drop(self.routing);
        drop(self.control);
        if tokio::task::spawn_blocking(move || drop(self.store)).await.is_err() {
            tracing::error!("the coordinator did not close cleanly");
        }
    }
}

/// The listener for health on its usual port; on a free one where nobody chose that port and it is taken, or clients get a
/// free port too.
fn serve_health(options: &OneProcessOptions, health: &Arc<Health>) -> Result<RunningServer, StartError> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let may_move = !options.is_metrics_chosen;
    let wanted = if may_move && options.listen.port() == 0 { any } else { options.metrics_listen };
    let server = match start_health(wanted, health) {
        Err(_) if may_move => start_health(any, health),
        served => served,
    }?;
    tracing::info!(metrics = ?server.addresses(), "health and metrics are told");
    Ok(server)
}

impl Ground {
    fn local_reporting(&self) -> LocalReporting<'_> {
        LocalReporting {
            control: &self.control,
            data: &self.options.data,
            passphrase: self.options.passphrase.as_deref(),
            clock: &self.clock,
            random: &self.random,
        }
    }

    /// Starts all nodes, which are reached through `local`.
    async fn start_nodes(&self, local: &LocalNodes, health: &Health) -> Result<Vec<RunningNode>, StartError> {
        let (network, mut nodes) = (MemoryNetwork::direct(), Vec::new());
        for number in 1..=self.options.nodes {
            let node = self.start_node(number, &network).await?;
            local.add(node.node, Arc::clone(&node.groups.ranges));
            let groups = Arc::clone(&node.groups.groups);
            let reporter = NodeReporter::new(Arc::clone(&node.engine), Arc::clone(&node.database)).with_groups(groups);
            local.add_reporter(node.node, reporter);
            let is_alone = self.options.nodes == 1;
            node_metrics::watch(health, &node, (!is_alone).then_some(number));
            nodes.push(node);
        }
        Ok(nodes)
    }

    async fn start_node(&self, number: u16, network: &MemoryNetwork) -> Result<RunningNode, StartError> {
        let data = self.options.data.join(format!("node-{number}"));
        let node = read_or_make_id(&data.join("node.id"), &*self.random)?;
        let was_removed = data.join(self.control.plane().to_string()).exists()
            && !self.control.node_is_known(node).await.map_err(told("looking for the node"))?;
        if was_removed {
            return Err(StartError(format!(
                "node-{number} was removed from this control plane, and with its part of the key what it stored cannot be \
                 opened any more: delete the folder {}, then start again",
                data.display()
            )));
        }
        let name = format!("node-{number}");
        self.control.node_register_local(node, Some(name)).await.map_err(told("registering the node"))?;
        let details = NodeDetails {
            status: NodeStatus::Okay,
            uri: format!("{}/", self.url),
            inside_uri: None,
            zone: Some(self.options.zone.clone()),
            incarnation: None,
            boot: None,
            capacity_bytes: None,
            free_bytes: None,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            format: Some(RECORDS_FORMAT),
        };
        let identity = NodeIdentity { node, plane: self.control.plane(), data, details };
        let parts = Arc::new(LocalKeyParts { control: Arc::clone(&self.control), node });
        let coordinator: Arc<dyn Coordinator> = Arc::new(self.store.handle(Writer::Node(node)));
        let (settings, passphrase) = (self.options.node.clone(), self.options.passphrase.clone());
        let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
        let wires = Wires::Within(network.clone());
        node_parts::start(identity, settings, wires, coordinator, parts, passphrase, clock, random).await
    }

    fn serve(
        &self,
        sockets: Sockets,
        items: Arc<dyn Items>,
        authenticator: Arc<dyn Authenticator>,
        known: Known,
        readiness: Readiness,
        noting: Noting,
    ) -> Result<[RunningServer; 2], StartError> {
        let failed = |error: std::io::Error| StartError(error.to_string());
        let admin =
            Arc::new(AdminState { plane: Arc::clone(&self.control), authenticator: Arc::clone(&authenticator) });
        let rest = Arc::new(RestState {
            items,
            catalog: Arc::clone(&self.control) as Arc<dyn Catalog>,
            authenticator,
            access: known.lists,
            domain: self.options.domain.clone(),
            token_keys: known.keys,
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            location: self.options.location.clone(),
            readiness,
            body_limits: self.options.body_limits,
            body_budget: BodyBudget::default(),
            meter: noting.meter,
            observing: noting.observing,
        });
        let stop_timeout = Duration::from_secs(self.options.drain_seconds);
        let connections_max = self.options.connections_max;
        let few = ServerOptions { workers: 1, connections_max: 256, stop_timeout, ..ServerOptions::default() };
        let many = ServerOptions { stop_timeout, connections_max, ..ServerOptions::default() };
        let admin = server::start(vec![sockets.admin], &few, move || admin::surface(Arc::clone(&admin)));
        let client = server::start(vec![sockets.client], &many, move || surface(Arc::clone(&rest)));
        Ok([client.map_err(failed)?, admin.map_err(failed)?])
    }
}

/// What credentials are checked with.
struct Known {
    keys: Arc<TokenKeys>,
    lists: Arc<AccessLists>,
}

/// What is noted of requests.
struct Noting {
    meter: Arc<Meter>,
    observing: Arc<Observing>,
}

/// Ranges of nodes that are left out would answer nothing: better said now than met request by request.
fn check_count(options: &OneProcessOptions) -> Result<(), StartError> {
    let there = (1..).take_while(|number| options.data.join(format!("node-{number}/node.id")).exists()).count();
    if there > usize::from(options.nodes) {
        return Err(StartError(format!(
            "{} holds the data of {there} nodes: start all of them, with dstore dev --nodes {there}",
            options.data.display()
        )));
    }
    Ok(())
}

async fn open_control(
    store: &EmbeddedStore,
    folder: &Path,
    options: &OneProcessOptions,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<Arc<ControlPlane>, StartError> {
    let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
    let exists = ControlPlane::exists(&*coordinator).await.map_err(told("the coordinator"))?;
    let key_path = folder.join("control.key");
    if exists && !key_path.exists() {
        return Err(StartError(format!(
            "{} is missing: restore it from a copy, the data cannot be read without it",
            key_path.display()
        )));
    }
    let key = read_or_make_key(&key_path, options.passphrase.as_deref(), &**random)?;
    if !exists {
        ControlPlane::create(&coordinator, &key, None, clock, random).await.map_err(told("the control plane"))?;
    }
    let options = ControlOptions { location: options.location.clone(), ..ControlOptions::default() };
    ControlPlane::open(coordinator, &key, options, Arc::clone(clock), Arc::clone(random))
        .await
        .map_err(told("the control plane"))
}

fn read_or_make_id(path: &Path, random: &dyn Random) -> Result<NodeId, StartError> {
    let failed = |error: std::io::Error| StartError(format!("{}: {error}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| StartError(format!("{} holds no UUID: restore it from a copy", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let node = NodeId::random(random);
            private_files::create(path, format!("{node}\n").as_bytes(), 0o600).map_err(failed)?;
            Ok(node)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn wait_for_nodes(control: &ControlPlane, nodes: &[RunningNode]) -> Result<(), StartError> {
    let all_alive = async {
        loop {
            let known = control.node_list().await.map_err(told("listing nodes"))?;
            if nodes.iter().all(|node| known.iter().any(|summary| summary.id == node.node && summary.alive)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let late = |_| Err(StartError("the nodes of this process did not come up in time; the log says why".to_owned()));
    tokio::time::timeout(PATIENCE, all_alive).await.unwrap_or_else(late)
}

async fn wait_for_routing(routing: &RoutingTable) -> Result<(), StartError> {
    let mut status = routing.subscribe();
    let live = status.wait_for(|status| status.source == RoutingSource::Live);
    match tokio::time::timeout(PATIENCE, live).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(StartError("the routing table did not come up in time; the log says why".to_owned())),
    }
}

async fn maintain(control: Arc<ControlPlane>) {
    let mut tick = tokio::time::interval(Duration::from_secs(60));
    loop {
        tick.tick().await;
        if let Err(refusal) = control.maintain().await {
            tracing::warn!(%refusal, "a round of maintenance failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::roles::lifecycle::one_process_options;

    fn options() -> OneProcessOptions {
        let (config, origins) = Config::load(None, [], Vec::new()).unwrap();
        one_process_options("test", &config, &origins, 1).unwrap()
    }

    #[test]
    fn the_admin_listener_evades_a_taken_port_unless_it_was_chosen() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut options = OneProcessOptions { admin_listen: taken.local_addr().unwrap(), ..options() };
        assert!(!options.is_admin_chosen, "defaults are nobody's choice");
        let found = Sockets::take_admin(&options).unwrap().address().unwrap();
        assert!(found.ip().is_loopback() && found != options.admin_listen);
        options.is_admin_chosen = true;
        let refused = Sockets::take_admin(&options).err().unwrap().to_string();
        assert!(refused.contains("--admin-listen"), "{refused}");
    }

    #[test]
    fn nodes_that_are_there_are_not_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for number in 1..=3 {
            let id = folder.path().join(format!("node-{number}/node.id"));
            read_or_make_id(&id, &*ambient::random()).unwrap();
            assert_eq!(read_or_make_id(&id, &*ambient::random()).unwrap().to_string().len(), 36);
        }
        let of = |nodes| check_count(&OneProcessOptions { data: folder.path().to_owned(), nodes, ..options() });
        assert!(of(2).unwrap_err().to_string().contains("--nodes 3"));
        assert!(of(3).is_ok() && of(4).is_ok());
    }
}
