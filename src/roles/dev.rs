//! `dstore dev`: all roles in one process, over one data folder, ready in a moment.
//!
//! ```text
//! <data>/lock                      held while the process runs
//! <data>/credentials.json          URL, token and access key, mode 0600; printed at each start
//! <data>/control/coordinator.db    the embedded coordinator
//! <data>/control/control.key       control's own key, mode 0600
//! <data>/node-<n>/node.id          the n-th node's id
//! <data>/node-<n>/<plane>/…        its data, see [`super::node_parts`]
//! ```
//!
//! All key parts lie on one disk here: the encryption keeps its formats and its checks, and protects
//! a single stolen file, but not against the thief of the whole folder.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::body::Limits;
use crate::api::rest::{RestState, surface};
use crate::api::server::{self, Listener, RunningServer, ServerOptions};
use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::values::{NodeDetails, NodeStatus};
use crate::coordination::{Coordinator, Writer};
use crate::domain::ids::NodeId;
use crate::domain::rid::Location;
use crate::domain::{Clock, Random, Refusal, TenantName};
use crate::services::access::{AccessLists, TokenAuthenticator, TokenKeys};
use crate::services::control::{ControlOptions, ControlPlane, PrincipalRequest, SessionStart};
use crate::services::items::{Nodes, RoutedItems, Routes};
use crate::services::ports::{Caller, Capability, Catalog, Items};
use crate::services::range_reports::{NodeReporter, RangeReports};
use crate::services::ranges::RangeService;
use crate::services::routing::{RoutingOptions, RoutingTable};

use super::ambient;
use super::key_files::{Passphrase, read_or_make_key};
use super::local_wiring::{LocalKeyParts, LocalNodes};
use super::node_parts::{self, NodeIdentity, NodeSettings, RunningNode, StartError};
use super::private_files;

/// The tenant that is there from the first start.
pub const DEFAULT_TENANT: &str = "default";
/// How long the token printed is good: it is made anew when it has less than half of this left.
const TOKEN_SECONDS: u64 = 365 * 24 * 3600;

/// What `dstore dev` is asked for.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// The data folder.
    pub data: PathBuf,
    /// Where clients are served.
    pub listen: SocketAddr,
    /// Nodes in the process.
    pub nodes: u16,
    /// Seals the keys of all roles.
    pub passphrase: Option<Arc<Passphrase>>,
    /// Sizes and limits of each node.
    pub node: NodeSettings,
    /// Seconds that a stop waits for requests under way.
    pub drain_seconds: u64,
    /// The location in every RID.
    pub location: Location,
    /// What a body may take.
    pub body_limits: Limits,
    /// Client connections at once.
    pub connections_max: usize,
}

/// What a user needs to begin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// Where clients are served.
    pub url: String,
    /// A token of root.
    pub token: String,
    /// The tenant that is there.
    pub tenant: String,
    /// An access key of that tenant.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    credentials: Credentials,
    token_expires_at_seconds: u64,
}

/// A running `dstore dev`.
pub struct Dev {
    /// What a user needs to begin.
    pub credentials: Credentials,
    /// The control plane, for the admin API.
    pub control: Arc<ControlPlane>,
    server: RunningServer,
    nodes: Vec<RunningNode>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    routing: Arc<RoutingTable>,
    store: EmbeddedStore,
    _lock: std::fs::File,
}

fn told(what: &str) -> impl Fn(Refusal) -> StartError + '_ {
    move |refusal| StartError(format!("{what}: {refusal}"))
}

/// Starts everything.
///
/// # Errors
/// Where the folder, its files or the port cannot be had, with what to do.
pub async fn start(options: DevOptions) -> Result<Dev, StartError> {
    let (clock, random) = (ambient::clock(), ambient::random());
    crate::storage::vfs::register(Arc::clone(&random)).map_err(|error| StartError(error.to_string()))?;
    let control_folder = options.data.join("control");
    private_files::create_folder(&control_folder)
        .map_err(|error| StartError(format!("{}: {error}", control_folder.display())))?;
    let lock = lock_folder(&options.data)?;
    // Taken first: a port in use should be told before anything is made.
    let listener = Listener::bind(options.listen, None).map_err(|error| {
        StartError(format!(
            "cannot listen on {}: {error}. Choose another with --listen, port 0 takes a free one",
            options.listen
        ))
    })?;
    let address = listener.address().map_err(|error| StartError(error.to_string()))?;
    let url = format!("http://{address}");

    let store = EmbeddedStore::open(&control_folder.join("coordinator.db"), EmbeddedOptions::default())
        .map_err(|error| StartError(error.to_string()))?;
    let control = open_control(&store, &control_folder, options.passphrase.as_deref(), &clock, &random).await?;
    let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
    let routing =
        Arc::new(RoutingTable::start(coordinator, RoutingOptions::default(), Arc::clone(&clock), Arc::clone(&random)));

    let local = Arc::new(LocalNodes::default());
    let mut nodes = Vec::new();
    for number in 1..=options.nodes {
        let node = start_node(&options, number, &url, &control, &store, &clock, &random).await?;
        local.add(node.node, Arc::clone(&node.engine) as Arc<dyn RangeService>);
        local.add_reporter(node.node, NodeReporter::new(Arc::clone(&node.engine), Arc::clone(&node.database)));
        nodes.push(node);
    }
    control.ask_nodes_through(Arc::clone(&local) as Arc<dyn RangeReports>);
    wait_for_nodes(&control, &nodes).await?;

    let keys = Arc::new(TokenKeys::new(Vec::new()));
    let lists = Arc::new(AccessLists::default());
    let follower = control.access_follow(Arc::clone(&keys), Arc::clone(&lists)).await.map_err(told("access lists"))?;
    let credentials = ready_credentials(&options.data, &url, &control, &*clock).await?;
    wait_for_routing(&routing).await?;
    let state = RestState {
        items: Arc::new(RoutedItems::new(Arc::clone(&routing) as Arc<dyn Routes>, local as Arc<dyn Nodes>))
            as Arc<dyn Items>,
        catalog: Arc::clone(&control) as Arc<dyn Catalog>,
        authenticator: Arc::new(TokenAuthenticator::new(Arc::clone(&keys), lists, Arc::clone(&clock))),
        token_keys: keys,
        clock: Arc::clone(&clock),
        random,
        location: options.location.clone(),
        readiness: Arc::new(|| Ok(())),
        body_limits: options.body_limits,
    };
    let server_options = ServerOptions {
        stop_timeout: Duration::from_secs(options.drain_seconds),
        connections_max: options.connections_max,
        ..ServerOptions::default()
    };
    let state = Arc::new(state);
    let server = server::start(vec![listener], &server_options, move || surface(Arc::clone(&state)))
        .map_err(|error| StartError(error.to_string()))?;
    let maintenance = tokio::spawn(maintain(Arc::clone(&control)));
    Ok(Dev { credentials, control, server, nodes, tasks: vec![follower, maintenance], routing, store, _lock: lock })
}

impl Dev {
    /// Stops everything: requests under way are answered, memory is written to disk.
    pub async fn stop(self) {
        if let Err(error) = self.server.stop().await {
            tracing::error!(%error, "the server did not stop cleanly");
        }
        for task in &self.tasks {
            task.abort();
        }
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

fn lock_folder(data: &Path) -> Result<std::fs::File, StartError> {
    let path = data.join("lock");
    let failed = |error: std::io::Error| StartError(format!("{}: {error}", path.display()));
    let file =
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        StartError(format!(
            "{} is in use by another dstore: stop that one, or choose another folder with --data",
            data.display()
        ))
    })?;
    Ok(file)
}

async fn open_control(
    store: &EmbeddedStore,
    folder: &Path,
    passphrase: Option<&Passphrase>,
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
    let key = read_or_make_key(&key_path, passphrase, &**random)?;
    if !exists {
        ControlPlane::create(&coordinator, &key, None, clock, random).await.map_err(told("the control plane"))?;
    }
    let options = ControlOptions::default();
    ControlPlane::open(coordinator, &key, options, Arc::clone(clock), Arc::clone(random))
        .await
        .map_err(told("the control plane"))
}

async fn start_node(
    options: &DevOptions,
    number: u16,
    url: &str,
    control: &Arc<ControlPlane>,
    store: &EmbeddedStore,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<RunningNode, StartError> {
    let data = options.data.join(format!("node-{number}"));
    let node = read_or_make_id(&data.join("node.id"), &**random)?;
    control.node_register_local(node, Some(format!("dev-{number}"))).await.map_err(told("registering the node"))?;
    let details = NodeDetails {
        status: NodeStatus::Okay,
        uri: format!("{url}/"),
        inside_uri: None,
        zone: Some("dev".to_owned()),
        incarnation: None,
        capacity_bytes: None,
        free_bytes: None,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    };
    let identity = NodeIdentity { node, plane: control.plane(), data, details };
    let parts = Arc::new(LocalKeyParts { control: Arc::clone(control), node });
    let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Node(node)));
    let (settings, passphrase) = (options.node.clone(), options.passphrase.as_deref());
    node_parts::start(identity, settings, coordinator, parts, passphrase, Arc::clone(clock), Arc::clone(random)).await
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
            private_files::replace(path, format!("{node}\n").as_bytes()).map_err(failed)?;
            Ok(node)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn wait_for_nodes(control: &ControlPlane, nodes: &[RunningNode]) -> Result<(), StartError> {
    for _ in 0..500 {
        let known = control.node_list().await.map_err(told("listing nodes"))?;
        if nodes.iter().all(|node| known.iter().any(|summary| summary.id == node.node && summary.alive)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(StartError("the nodes of this process did not come up within five seconds".to_owned()))
}

async fn wait_for_routing(routing: &RoutingTable) -> Result<(), StartError> {
    let mut status = routing.subscribe();
    let live = status.wait_for(|status| status.source == crate::services::routing::RoutingSource::Live);
    match tokio::time::timeout(Duration::from_secs(5), live).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(StartError("the routing table did not come up within five seconds".to_owned())),
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

/// The caller that this process is to its own control plane.
fn this_process(root: crate::domain::ids::PrincipalId) -> Caller {
    Caller { principal: root, name: "dstore dev".to_owned(), tenant: None, capabilities: Vec::new() }
}

async fn ready_credentials(
    data: &Path,
    url: &str,
    control: &ControlPlane,
    clock: &dyn Clock,
) -> Result<Credentials, StartError> {
    let path = data.join("credentials.json");
    let now_seconds = clock.now().0 / 1_000_000;
    let kept: Option<Kept> = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(kept) = kept
        && kept.token_expires_at_seconds > now_seconds + TOKEN_SECONDS / 2
    {
        let credentials = Credentials { url: url.to_owned(), ..kept.credentials };
        keep(&path, &credentials, kept.token_expires_at_seconds)?;
        return Ok(credentials);
    }
    let root = control.principal_root().await.map_err(told("the root principal"))?;
    let caller = this_process(root.id);
    let tenant = TenantName::new(DEFAULT_TENANT).map_err(told("the default tenant"))?;
    control.create_tenant(&caller, &tenant).await.map_err(told("the default tenant"))?;
    let start = SessionStart { note: "dstore dev".to_owned(), seconds: Some(TOKEN_SECONDS) };
    let granted = control.session_start(&caller, root.id, start).await.map_err(told("a token"))?;
    let owner = default_principal(control, &caller, &tenant).await?;
    let access_key = control.access_key_create(&caller, owner).await.map_err(told("an access key"))?;
    let credentials = Credentials {
        url: url.to_owned(),
        token: granted.token.to_string(),
        tenant: DEFAULT_TENANT.to_owned(),
        access_key_id: access_key.access_key_id,
        secret_access_key: access_key.secret_access_key.to_string(),
    };
    keep(&path, &credentials, now_seconds + TOKEN_SECONDS)?;
    Ok(credentials)
}

async fn default_principal(
    control: &ControlPlane,
    caller: &Caller,
    tenant: &TenantName,
) -> Result<crate::domain::ids::PrincipalId, StartError> {
    let known = control.principal_list(Some(tenant)).await.map_err(told("principals"))?;
    if let Some(principal) = known.into_iter().find(|principal| principal.revoked_at.is_none()) {
        return Ok(principal.id);
    }
    let request = PrincipalRequest {
        name: "default".to_owned(),
        tenant: Some(tenant.clone()),
        capabilities: vec![Capability::Read, Capability::Write, Capability::Admin],
    };
    control.principal_create(caller, request).await.map(|principal| principal.id).map_err(told("a principal"))
}

fn keep(path: &Path, credentials: &Credentials, token_expires_at_seconds: u64) -> Result<(), StartError> {
    let kept = Kept { credentials: credentials.clone(), token_expires_at_seconds };
    let json = serde_json::to_vec_pretty(&kept).map_err(|error| StartError(error.to_string()))?;
    private_files::replace(path, &json).map_err(|error| StartError(format!("{}: {error}", path.display())))
}

impl Credentials {
    /// What is printed for people: the credentials, and commands to paste.
    pub fn greeting(&self) -> String {
        let Self { url, token, tenant, access_key_id, secret_access_key } = self;
        let table = format!("{url}/v1/tenant/{tenant}/table/things");
        format!(
            "dStore is ready.\n\n  URL                {url}\n  tenant             {tenant}\n  token              {token}\n  access key id      {access_key_id}\n  secret access key  {secret_access_key}\n\n\
             Make a table, store an item, read it:\n\n  \
             curl -X PUT {table} -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{{\"id_type\":\"String\"}}'\n  \
             curl -X PUT {table}/id/hello -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d '{{\"greeting\":\"world\",\"stars\":[1,2,3]}}'\n  \
             curl {table}/id/hello -H 'Authorization: Bearer {token}'\n\nStop with Ctrl-C.\n"
        )
    }
}
