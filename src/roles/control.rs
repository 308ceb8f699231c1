//! The control role: `dstore control init`, `serve` and `recovery`. These need the control key, so they run
//! on control's own machine and are no calls of the admin API.
//!
//! | file in the data folder | what | mode |
//! |---|---|---|
//! | `control.key` | the control key, in clear or sealed ([`super::key_files`]), where no `control.key_file` is set | 0600 |
//! | `root.token` | the token of the root session that `init` began | 0600 |
//! | `authority.pem` | the certificate authority's certificate; the admin CLI trusts it | 0644 |
//! | `recovery.dstore` | the recovery file, sealed by its passphrase; to be kept elsewhere | 0600 |
//!
//! Files with secrets are made new and never overwritten: `init` on a folder that has them refuses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::ambient;
use super::coordinators::{self, OpenCoordinator};
use super::key_files::{self, KeyFileError, Passphrase};
use super::logging;
use super::private_files;
use crate::api::admin::{self, AdminState};
use crate::api::inside;
use crate::api::server::{self, Listener, RunningServer, ServerOptions};
use crate::config::Config;
use crate::coordination::Writer;
use crate::crypto::{Key256, recovery};
use crate::domain::ids::{ControlId, PlaneId, Role};
use crate::domain::{Refusal, Timestamp};
use crate::services::access::{AccessLists, TokenAuthenticator, TokenKeys};
use crate::services::control::election::{Election, LEASE_SECONDS};
use crate::services::control::{
    ControlOptions, ControlPlane, RecoveryContents, RecoverySummary, RemoteReports, RemoteUsageReports, SessionStart,
};
use crate::services::ports::Caller;
use crate::transport::pki::certificate_request;
use crate::transport::tls::{ClientCertificates, Identity, server_config};

/// How often the leader cleans up.
const MAINTENANCE_PAUSE: Duration = Duration::from_secs(30);
/// How often control looks whether its own certificate is to be renewed.
const RENEWAL_PAUSE: Duration = Duration::from_secs(3600);
/// How long the root session of `init` is good: a year.
const ROOT_SESSION_SECONDS: u64 = 365 * 24 * 3600;

/// Why control did not start, or a command of it was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The process could not be set up.
    #[error(transparent)]
    Start(#[from] super::node_parts::StartError),
    /// A listener could not be opened, or the coordinator not be set up.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A service refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] crate::transport::tls::TlsError),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] crate::transport::pki::PkiError),
    /// The recovery file did not open, or its passphrase is too short.
    #[error(transparent)]
    Sealed(#[from] recovery::SealedFileError),
    /// The control key was not had.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// A command that needs the control key.
pub enum LocalCommand {
    /// Makes a cluster.
    Init {
        /// For the recovery file.
        passphrase: Zeroizing<String>,
        /// The first key for tokens, where the administrator chose one.
        token_key_file: Option<PathBuf>,
        /// Whom to invite at once.
        invitations: Vec<Newcomer>,
        /// Where their join tokens go; the data folder where none is given.
        join_tokens: Option<PathBuf>,
        /// Whether it is well where there is a cluster already.
        unless_there: bool,
    },
    /// Serves until told to stop.
    Serve,
    /// Writes a fresh recovery file.
    RecoveryExport {
        /// Seals it.
        passphrase: Zeroizing<String>,
        /// Where to.
        file: PathBuf,
    },
    /// Checks a recovery file.
    RecoveryVerify {
        /// Opens it.
        passphrase: Zeroizing<String>,
        /// Which.
        file: PathBuf,
    },
    /// Restores from a recovery file.
    RecoveryRestore {
        /// Opens it.
        passphrase: Zeroizing<String>,
        /// Which.
        file: PathBuf,
    },
}

/// Carries out a command and hands its result to `show`; `Serve` shows where it listens and ends when it is told to.
///
/// # Errors
/// See [`ControlError`].
pub async fn run(config: &Config, command: LocalCommand, show: impl Fn(serde_json::Value)) -> Result<(), ControlError> {
    show(match command {
        LocalCommand::Init { unless_there: true, .. } if is_there(config).await? => {
            serde_json::json!({ "is_new": false })
        }
        LocalCommand::Init { passphrase, token_key_file, invitations, join_tokens, .. } => {
            let token_key = token_key_file.as_deref().map(key_files::read_clear_key).transpose()?;
            let wishes = InitWishes { token_key, invitations, join_tokens };
            serde_json::json!(init(config, passphrase.as_bytes(), wishes).await?)
        }
        LocalCommand::Serve => return super::control_serving::serve(config, show).await,
        LocalCommand::RecoveryExport { passphrase, file } => {
            serde_json::json!(recovery_export(config, passphrase.as_bytes(), &file).await?)
        }
        LocalCommand::RecoveryVerify { passphrase, file } => {
            serde_json::json!(recovery_verify(config, passphrase.as_bytes(), &file).await?)
        }
        LocalCommand::RecoveryRestore { passphrase, file } => {
            let written = recovery_restore(config, passphrase.as_bytes(), &file).await?;
            serde_json::json!({ "records_written": written })
        }
    });
    Ok(())
}

/// Somebody to invite while a cluster is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// What it will be.
    pub role: Role,
    /// The name that it will have, and its join token's file.
    pub name: String,
}

impl std::str::FromStr for Newcomer {
    type Err = String;

    /// `ROLE=NAME`. The name becomes that of a file, so it is held to letters that are harmless there.
    fn from_str(text: &str) -> Result<Self, String> {
        let (role, name) = text.split_once('=').ok_or("write it as ROLE=NAME, as in node=node-1")?;
        let role = match role {
            "node" => Role::Node,
            "proxy" => Role::Proxy,
            "reporter" | "reporting" => Role::Reporting,
            other => return Err(format!("{other:?} is not invited: there are node, proxy and reporter")),
        };
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        match !name.is_empty() && name.len() <= 63 && name.chars().all(is_plain) {
            true => Ok(Self { role, name: name.to_owned() }),
            false => Err("a name is 1 to 63 letters, digits, - and _ here".to_owned()),
        }
    }
}

/// What the administrator may wish for when a cluster is made.
#[derive(Debug, Default)]
pub struct InitWishes {
    /// The first key for tokens; random where none is given.
    pub token_key: Option<Key256>,
    /// Whom to invite at once, so that a cluster can be made whole before control serves.
    pub invitations: Vec<Newcomer>,
    /// Where their join tokens go, a file for each; the data folder where none is given.
    pub join_tokens: Option<PathBuf>,
}

/// Whether the coordinator holds a cluster.
async fn is_there(config: &Config) -> Result<bool, ControlError> {
    let data = &config.data.dir;
    private_files::create_folder(data).map_err(|source| ControlError::File { path: data.clone(), source })?;
    let coordinator = coordinators::open(&config.coordinator, data, Writer::Control)?;
    Ok(ControlPlane::exists(coordinator.handle.as_ref()).await?)
}

/// What `init` made.
#[derive(Debug, serde::Serialize)]
pub struct InitReport {
    /// True: there was no cluster before.
    pub is_new: bool,
    /// The new control plane.
    pub plane: PlaneId,
    /// Where the control key is.
    pub control_key_file: PathBuf,
    /// Where the root session's token is.
    pub root_token_file: PathBuf,
    /// Where the authority's certificate is.
    pub authority_file: PathBuf,
    /// Where the recovery file is.
    pub recovery_file: PathBuf,
    /// Where the join tokens of those are who were invited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub join_token_files: Vec<PathBuf>,
}

/// Makes a cluster.
///
/// # Errors
/// `Refused` with `Conflict` where there is one already; `File` where a secret file is there already.
pub async fn init(config: &Config, passphrase: &[u8], wishes: InitWishes) -> Result<InitReport, ControlError> {
    let data = &config.data.dir;
    private_files::create_folder(data).map_err(|source| ControlError::File { path: data.clone(), source })?;
    let coordinator = coordinators::open(&config.coordinator, data, Writer::Control)?;
    if ControlPlane::exists(coordinator.handle.as_ref()).await? {
        return Err(Refusal::conflict("there is a cluster already; `dstore control serve` serves it").into());
    }
    // Checked before anything is made: a cluster without a recovery file must not come into being.
    if passphrase.len() < recovery::PASSPHRASE_BYTES_MIN {
        return Err(recovery::SealedFileError::PassphraseTooShort.into());
    }
    let key_path = key_file(config);
    let (clock, random) = (ambient::clock(), ambient::random());
    let keys_passphrase = Passphrase::from_settings(&config.keys)?;
    let control_key = key_files::read_or_make_key(&key_path, keys_passphrase.as_ref(), random.as_ref())?;
    let created = ControlPlane::create(&coordinator.handle, &control_key, wishes.token_key, &clock, &random).await?;
    let plane = open_plane(&coordinator, &control_key).await?;
    let root = Caller { principal: created.root, name: "root".to_owned(), tenant: None, capabilities: Vec::new() };
    let start = SessionStart { note: "control init".to_owned(), seconds: Some(ROOT_SESSION_SECONDS) };
    let grant = plane.session_start(&root, created.root, start).await?;
    let mut report = InitReport {
        is_new: true,
        plane: created.plane,
        control_key_file: key_path,
        root_token_file: data.join("root.token"),
        authority_file: data.join("authority.pem"),
        recovery_file: data.join("recovery.dstore"),
        join_token_files: Vec::new(),
    };
    write_new(&report.root_token_file, grant.token.as_bytes(), 0o600)?;
    write_new(&report.authority_file, plane.cluster().authority_pem.as_bytes(), 0o644)?;
    let sealed = recovery_bytes(&plane, &control_key, passphrase).await?;
    write_new(&report.recovery_file, &sealed, 0o600)?;
    let folder = wishes.join_tokens.unwrap_or_else(|| data.clone());
    for Newcomer { role, name } in wishes.invitations {
        let path = folder.join(format!("{name}.join-token"));
        let invitation = plane.invite(&root, role, Some(name), None).await?;
        write_new(&path, invitation.token.as_bytes(), 0o600)?;
        report.join_token_files.push(path);
    }
    Ok(report)
}

/// Writes a fresh recovery file.
///
/// # Errors
/// Where control cannot be opened, or the file is there already.
pub async fn recovery_export(config: &Config, passphrase: &[u8], path: &Path) -> Result<RecoverySummary, ControlError> {
    let (coordinator, control_key) = open_local(config)?;
    let plane = open_plane(&coordinator, &control_key).await?;
    let sealed = recovery_bytes(&plane, &control_key, passphrase).await?;
    write_new(path, &sealed, 0o600)?;
    Ok(plane.recovery_contents(&control_key).await?.summary())
}

/// Opens a recovery file and says what it holds and what it lacks of what there is now.
///
/// # Errors
/// Where the file does not open, or is another cluster's.
pub async fn recovery_verify(config: &Config, passphrase: &[u8], path: &Path) -> Result<RecoverySummary, ControlError> {
    let contents = recovery_read(passphrase, path)?;
    let (coordinator, control_key) = open_local(config)?;
    let plane = open_plane(&coordinator, &control_key).await?;
    Ok(plane.recovery_verify(&contents).await?)
}

/// Puts the control key on this machine and what is missing into the coordinator. How many records.
///
/// # Errors
/// Where the file does not open, another control key is here, or the coordinator holds another cluster.
pub async fn recovery_restore(config: &Config, passphrase: &[u8], path: &Path) -> Result<usize, ControlError> {
    let contents = recovery_read(passphrase, path)?;
    let data = &config.data.dir;
    private_files::create_folder(data).map_err(|source| ControlError::File { path: data.clone(), source })?;
    let coordinator = coordinators::open(&config.coordinator, data, Writer::Control)?;
    let (key_path, control_key) = (key_file(config), contents.control_key()?);
    let (keys_passphrase, random) = (Passphrase::from_settings(&config.keys)?, ambient::random());
    if key_path.exists() {
        if key_files::read_key(&key_path, keys_passphrase.as_ref(), random.as_ref())? != control_key {
            return Err(Refusal::conflict("another control key is on this machine; move it away first").into());
        }
    } else {
        key_files::create_key(&key_path, &control_key, keys_passphrase.as_ref(), random.as_ref())?;
    }
    let written = contents.restore(coordinator.handle.as_ref(), random).await?;
    let authority = data.join("authority.pem");
    if !authority.exists() {
        write_new(&authority, contents.cluster.authority_pem.as_bytes(), 0o644)?;
    }
    Ok(written)
}

/// A control process that serves.
pub struct RunningControl {
    plane: Arc<ControlPlane>,
    admin: RunningServer,
    inside: RunningServer,
    tasks: Vec<JoinHandle<()>>,
    leads: watch::Receiver<bool>,
    _coordinator: OpenCoordinator,
}

impl RunningControl {
    /// The control plane.
    pub fn plane(&self) -> &Arc<ControlPlane> {
        &self.plane
    }

    /// Whether this instance leads, as it changes.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Where the admin API listens.
    pub fn admin_addresses(&self) -> &[std::net::SocketAddr] {
        self.admin.addresses()
    }

    /// Where members reach control.
    pub fn inside_addresses(&self) -> &[std::net::SocketAddr] {
        self.inside.addresses()
    }

    /// Stops: listeners first, then what runs in the background.
    ///
    /// # Errors
    /// Those that ended a listener.
    pub async fn stop(self) -> std::io::Result<()> {
        let stopped = (self.admin.stop().await, self.inside.stop().await);
        self.tasks.iter().for_each(JoinHandle::abort);
        stopped.0.and(stopped.1)
    }
}

/// Starts control: background work, then the inside listener, then the admin listener.
///
/// # Errors
/// Where the cluster cannot be opened or a listener not be bound.
pub async fn start(config: &Config) -> Result<RunningControl, ControlError> {
    let (coordinator, control_key) = open_local(config)?;
    let plane = open_plane_as(&coordinator, &control_key, serving_options(config)).await?;
    let instance = plane.instance();
    let authority_pem = plane.cluster().authority_pem.clone();
    let (key_pem, request_pem) = certificate_request()?;
    let certificate_pem = plane.certificate_for_control(instance.0, &request_pem).await?;
    let identity = Identity::new(&certificate_pem, &key_pem, &authority_pem)?;

    let (keys, lists) = (Arc::new(TokenKeys::new(Vec::new())), Arc::new(AccessLists::default()));
    let follow = plane.access_follow(keys.clone(), lists.clone()).await?;
    let authenticator = Arc::new(TokenAuthenticator::new(keys, lists, ambient::clock()));
    let tls = |clients| server_config(identity.clone(), &authority_pem, clients);
    let options = ServerOptions { workers: 2, ..ServerOptions::default() };
    let reports = RemoteReports::new(plane.plane(), coordinator.handle.clone(), identity.clone(), &authority_pem);
    plane.ask_nodes_through(Arc::new(reports));
    plane.ask_reporters_through(Arc::new(RemoteUsageReports {
        plane: plane.plane(),
        coordinator: coordinator.handle.clone(),
        identity: identity.clone(),
        authority_pem: authority_pem.clone(),
    }));
    // Members that have not joined yet show no certificate; each route says who may ask it.
    let inside_listener = Listener::bind(config.inside.listen, Some(tls(ClientCertificates::Optional)?))?;
    let surface_plane = plane.clone();
    let inside =
        server::start(vec![inside_listener], &options, move || inside::control_surface(surface_plane.clone()))?;
    let admin_listener = Listener::bind(config.admin.listen, Some(tls(ClientCertificates::Optional)?))?;
    let state = Arc::new(AdminState { plane: plane.clone(), authenticator });
    let admin = server::start(vec![admin_listener], &options, move || admin::surface(state.clone()))?;
    let election = Election::stand(coordinator.handle.clone(), instance, LEASE_SECONDS);
    let leads = election.changes();
    let tasks = vec![
        follow,
        tokio::spawn(plane.clone().place_while_leading(leads.clone())),
        tokio::spawn(maintain(plane.clone(), election)),
        tokio::spawn(renew(plane.clone(), identity, instance, authority_pem)),
        logging::follow(plane.clone(), ambient::clock()),
    ];
    tracing::info!(plane = %plane.plane(), admin = ?admin.addresses(), inside = ?inside.addresses(), "control serves");
    Ok(RunningControl { plane, admin, inside, tasks, leads, _coordinator: coordinator })
}

/// Cleans up while this instance leads.
async fn maintain(plane: Arc<ControlPlane>, election: Election) {
    let mut changes = election.changes();
    loop {
        if changes.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        match plane.maintain().await {
            Ok(report) if report != Default::default() => tracing::info!(?report, "cleaned up"),
            Ok(_) => {}
            Err(refusal) => tracing::warn!(%refusal, "could not clean up; trying again later"),
        }
        tokio::time::sleep(MAINTENANCE_PAUSE).await;
    }
}

/// Exchanges control's own certificate in time, while serving.
async fn renew(plane: Arc<ControlPlane>, identity: Arc<Identity>, instance: ControlId, authority_pem: String) {
    loop {
        tokio::time::sleep(RENEWAL_PAUSE).await;
        let now: Timestamp = ambient::clock().now();
        if !identity.renewal_due(now) {
            continue;
        }
        let Ok((key_pem, request_pem)) = certificate_request() else { continue };
        match plane.certificate_for_control(instance.0, &request_pem).await {
            Ok(certificate_pem) => match identity.replace(&certificate_pem, &key_pem, &authority_pem) {
                Ok(()) => tracing::info!("control's certificate was renewed"),
                Err(problem) => tracing::error!(%problem, "control's new certificate cannot be used"),
            },
            Err(refusal) => tracing::warn!(%refusal, "control's certificate could not be renewed; trying again"),
        }
    }
}

async fn open_plane(coordinator: &OpenCoordinator, control_key: &Key256) -> Result<Arc<ControlPlane>, ControlError> {
    open_plane_as(coordinator, control_key, ControlOptions::default()).await
}

/// What the settings say about placement.
fn serving_options(config: &Config) -> ControlOptions {
    ControlOptions {
        replicas_max: config.control.replicas_max,
        node_lost_after_seconds: config.control.node_lost_after,
        ..ControlOptions::default()
    }
}

async fn open_plane_as(
    coordinator: &OpenCoordinator,
    control_key: &Key256,
    options: ControlOptions,
) -> Result<Arc<ControlPlane>, ControlError> {
    let (clock, random) = (ambient::clock(), ambient::random());
    Ok(ControlPlane::open(coordinator.handle.clone(), control_key, options, clock, random).await?)
}

fn open_local(config: &Config) -> Result<(OpenCoordinator, Key256), ControlError> {
    let passphrase = Passphrase::from_settings(&config.keys)?;
    let control_key = key_files::read_key(&key_file(config), passphrase.as_ref(), ambient::random().as_ref())?;
    Ok((coordinators::open(&config.coordinator, &config.data.dir, Writer::Control)?, control_key))
}

fn key_file(config: &Config) -> PathBuf {
    config.control.key_file.clone().unwrap_or_else(|| config.data.dir.join("control.key"))
}

async fn recovery_bytes(
    plane: &ControlPlane,
    control_key: &Key256,
    passphrase: &[u8],
) -> Result<Vec<u8>, ControlError> {
    let contents = plane.recovery_contents(control_key).await?.to_bytes();
    let fresh = recovery::Freshness::draw(ambient::random().as_ref());
    Ok(recovery::seal(recovery::SealedKind::Recovery, passphrase, &contents, &fresh)?)
}

fn recovery_read(passphrase: &[u8], path: &Path) -> Result<RecoveryContents, ControlError> {
    let file = std::fs::read(path).map_err(|source| ControlError::File { path: path.to_owned(), source })?;
    let opened = recovery::open(recovery::SealedKind::Recovery, passphrase, &file)?;
    Ok(RecoveryContents::from_bytes(&opened)?)
}

/// Writes a file that must not be there yet, and syncs it.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ControlError> {
    private_files::create(path, bytes, mode).map_err(|source| ControlError::File { path: path.to_owned(), source })
}
