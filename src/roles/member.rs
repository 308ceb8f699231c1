//! What members of a cluster have in common: a data folder of their own, a listener for health before anything else, a
//! membership at a control plane, and keys ([`Entry`], all that a reporter has of it); a node and a proxy access lists and the
//! routing table, too ([`Member`]).
//!
//! The order of a start, and what it waits for (said in `/readyz` under these names):
//!
//! | step | waits for |
//! |---|---|
//! | settings, folder lock, sockets | nothing: what is wrong here ends the process |
//! | `membership`: read from disk, or joined with the token | control, for the first start only |
//! | `key parts` | control, unless they were kept under a passphrase |
//! | `access lists` | control, unless there is a copy on disk |
//! | `routing table` | the coordinator, unless there is a copy on disk |
//!
//! Everything after the first start goes on without control and without the coordinator, from what is sealed on disk under the
//! component's key; that key has two parts, and control's part is what a passphrase-less restart needs control for.
//!
//! ```text
//! <data>/lock                     held while the process runs
//! <data>/<plane>/member.json      who this is at the control plane, see [`super::membership`]
//! <data>/<plane>/proxy.key        the proxy's own key, see [`super::key_files`]; a node's: [`super::own_keys`]
//! <data>/<plane>/key-parts        control's parts, only with a passphrase
//! <data>/<plane>/routing.copy     the routing table as last told
//! <data>/<plane>/access.copy      who may come in, as last told
//! <data>/<plane>/usage/           what was counted and reporting does not have, see [`crate::services::usage`]
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::coordinators::{self, OpenCoordinator};
use super::key_files::{Passphrase, read_or_make_key};
use super::member_parts::{KeptAt, MemberParts, is_away};
use super::membership::{self, Membership};
use super::node_parts::StartError;
use super::observing::ObservingSettings;
use super::renewal::Renewal;
use super::{ambient, logging, private_files};
use crate::api::health::{Condition, Health};
use crate::config::{Config, CoordinatorKind};
use crate::coordination::{Coordinator, Writer};
use crate::crypto::Key256;
use crate::crypto::hierarchy::KeyKind;
use crate::domain::ids::{NodeId, ProxyId, Role};
use crate::domain::{Clock, Random};
use crate::services::control::remote::{RemoteControl, join};
use crate::services::control::{AccessMirror, AccessStatus, JoinRequest, KeyPart, check_cluster_format, token_parts};
use crate::services::observing::Observing;
use crate::services::routing::{DiskCopyOptions, RoutingOptions, RoutingSource, RoutingStatus, RoutingTable};
use crate::storage::keys::{FileKeys, KeyOwner, KeyUnavailable, VersionedKey};
use crate::transport::tls::Identity;

/// How long a start waits for the coordinator to tell the version of the cluster's formats.
const FORMAT_WAIT: Duration = Duration::from_secs(2);
/// How long to wait before something that a start needs is asked for again.
const WAIT_PAUSE: Duration = Duration::from_millis(500);

/// What a process of a role has before it knows who it is.
pub struct Ground {
    /// The role.
    pub role: Role,
    /// The data folder, which this process alone uses.
    pub data: PathBuf,
    /// Says how the role is.
    pub health: Arc<Health>,
    /// Seals keys on this disk, where the operator gave one.
    pub passphrase: Option<Arc<Passphrase>>,
    /// The system's clock.
    pub clock: Arc<dyn Clock>,
    /// The system's random source.
    pub random: Arc<dyn Random>,
    /// What is noted of requests.
    pub observing: Arc<Observing>,
    _lock: std::fs::File,
}

impl Ground {
    /// Checks the settings that only a member needs, and takes the data folder.
    ///
    /// # Errors
    /// With what to change.
    pub fn take(config: &Config, role: Role, health: Arc<Health>) -> Result<Self, StartError> {
        check(config, role)?;
        let data = config.data.dir.clone();
        private_files::create_folder(&data).map_err(|error| StartError(format!("{}: {error}", data.display())))?;
        let lock = lock_folder(&data)?;
        let passphrase = Passphrase::from_settings(&config.keys)?.map(Arc::new);
        let (clock, random) = (ambient::clock(), ambient::random());
        let observing = ObservingSettings::of(config).start(&role.to_string(), &health, &clock, &random)?;
        Ok(Self { role, data, health, passphrase, clock, random, observing, _lock: lock })
    }
}

fn check(config: &Config, role: Role) -> Result<(), StartError> {
    if config.control.url.is_none() {
        return Err(StartError(format!(
            "a {role} needs to know its control plane: give --control URL (setting control.url), the address of control's inside listener"
        )));
    }
    // A reporter has no business there.
    if role != Role::Reporting && config.coordinator.kind != CoordinatorKind::Etcd {
        return Err(StartError(format!(
            "a {role} reaches the coordinator over the network: set coordinator.kind = \"etcd\" and coordinator.endpoints"
        )));
    }
    let unspecified =
        |listen: std::net::SocketAddr, advertise: &Option<String>| listen.ip().is_unspecified() && advertise.is_none();
    for (name, wrong) in [
        ("client", role == Role::Node && unspecified(config.client.listen, &config.client.advertise)),
        ("inside", unspecified(config.inside.listen, &config.inside.advertise)),
    ] {
        if wrong {
            return Err(StartError(format!(
                "{name}.listen takes every address of this machine, so {name}.advertise has to say under which URL others reach it"
            )));
        }
    }
    Ok(())
}

/// Takes a data folder for this process alone, until the file is dropped.
///
/// # Errors
/// Where another process has it.
pub fn lock_folder(data: &Path) -> Result<std::fs::File, StartError> {
    use std::os::unix::fs::OpenOptionsExt;
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

/// Who a member is, and control, which knows it.
pub struct Entry {
    /// Who it is.
    pub membership: Membership,
    /// Its folder for this control plane.
    pub folder: PathBuf,
    /// The certificate it shows.
    pub identity: Arc<Identity>,
    /// Control.
    pub control: RemoteControl,
    /// Control's parts of its keys.
    pub parts: Arc<MemberParts>,
}

impl Entry {
    /// Reads the membership, or joins. Key parts are waited for by [`MemberParts::wait`].
    ///
    /// # Errors
    /// Where it can be told that waiting will not help; with what to do.
    pub async fn enter(
        ground: &Ground,
        config: &Config,
        describe: impl Fn(&mut JoinRequest),
    ) -> Result<Self, StartError> {
        let membership = enter_plane(ground, config, describe).await?;
        let url = config.control.url.as_deref().unwrap_or(&membership.control_url);
        let unusable = |problem: &dyn std::fmt::Display| {
            StartError(format!("the certificate in member.json of {} cannot be used: {problem}", membership.plane))
        };
        let identity = Identity::new(&membership.certificate_pem, membership.key_pem(), &membership.authority_pem)
            .map_err(|problem| unusable(&problem))?;
        let control = RemoteControl::new(url, identity.clone(), &membership.authority_pem)
            .map_err(|problem| unusable(&problem))?;
        let folder = membership.folder(&ground.data);
        let kept_at = ground.passphrase.clone();
        let kept_at = kept_at.map(|passphrase| KeptAt { path: folder.join("key-parts"), passphrase });
        let parts = MemberParts::new(control.clone(), membership.id, kept_at, ground.random.clone());
        Ok(Self { membership, folder, identity, control, parts: Arc::new(parts) })
    }

    /// What renews the certificate.
    pub fn renewal(&self, ground: &Ground) -> Arc<Renewal> {
        Arc::new(Renewal {
            control: self.control.clone(),
            identity: self.identity.clone(),
            data: ground.data.clone(),
            membership: parking_lot::Mutex::new(self.membership.clone()),
            clock: ground.clock.clone(),
        })
    }
}

/// A member of a control plane, with everything that serving stands on.
pub struct Member {
    entry: Entry,
    /// The coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    _coordinator: OpenCoordinator,
}

impl std::ops::Deref for Member {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Member {
    /// Enters as [`Entry::enter`], and opens the coordinator.
    ///
    /// # Errors
    /// Where it can be told that waiting will not help; with what to do.
    pub async fn enter(
        ground: &Ground,
        config: &Config,
        describe: impl Fn(&mut JoinRequest),
    ) -> Result<Self, StartError> {
        let entry = Entry::enter(ground, config, describe).await?;
        let writer = match ground.role {
            Role::Node => Writer::Node(NodeId(entry.membership.id)),
            _ => Writer::Proxy(ProxyId(entry.membership.id)),
        };
        let coordinator = coordinators::open(&config.coordinator, &entry.folder, writer)
            .map_err(|error| StartError(format!("the coordinator's settings: {error}")))?;
        let format = check_cluster_format(&*coordinator.handle);
        // A coordinator that does not answer is waited for by others; members start without it.
        if let Ok(checked) = tokio::time::timeout(FORMAT_WAIT, format).await {
            checked.map_err(|refusal| StartError(refusal.to_string()))?;
        }
        Ok(Self { entry, coordinator: coordinator.handle.clone(), _coordinator: coordinator })
    }

    /// The keys that what a proxy keeps is sealed under: its own and control's part of it.
    ///
    /// # Errors
    /// Where the own key cannot be had.
    pub fn proxy_keys(&self, ground: &Ground) -> Result<ProxyKeys, StartError> {
        let path = self.folder.join("proxy.key");
        let own = read_or_make_key(&path, ground.passphrase.as_deref(), &*ground.random)?;
        Ok(ProxyKeys { own, parts: self.parts.clone() })
    }

    /// Follows routes and access lists, from their copies on disk first, which `key` seals; returns when both are
    /// known, from wherever.
    ///
    /// # Errors
    /// Where the runtime is ending.
    pub async fn follow(&self, ground: &Ground, key: Key256) -> Result<Followed, StartError> {
        let copy = |name: &str| DiskCopyOptions {
            path: self.folder.join(name),
            key: key.clone(),
            plane: self.membership.plane,
        };
        let options = RoutingOptions { disk_copy: Some(copy("routing.copy")), ..RoutingOptions::default() };
        let (clock, random) = (ground.clock.clone(), ground.random.clone());
        let routing = Arc::new(RoutingTable::start(self.coordinator.clone(), options, clock.clone(), random.clone()));
        let access = Arc::new(AccessMirror::open(copy("access.copy"), clock, random));
        watch_routing(&ground.health, routing.clone());
        watch_access(&ground.health, access.clone());
        while access.refresh(&self.control).await.is_err() && access.status() == AccessStatus::Nothing {
            tokio::time::sleep(WAIT_PAUSE).await;
        }
        let tasks = vec![
            tokio::spawn(access.clone().follow(Arc::new(self.control.clone()))),
            tokio::spawn(self.renewal(ground).run()),
            logging::follow(self.control.clone(), ground.clock.clone()),
        ];
        let mut status = routing.subscribe();
        let known = status.wait_for(|status| status.source != RoutingSource::Nothing).await.is_ok();
        if !known {
            return Err(StartError("the routing table is followed no more".to_owned()));
        }
        Ok(Followed { routing, access, tasks })
    }
}

/// The keys of a proxy, one for each version of control's part that is handed out.
pub struct ProxyKeys {
    own: Key256,
    parts: Arc<MemberParts>,
}

impl ProxyKeys {
    fn combined(&self, owner: KeyOwner, part: Option<&KeyPart>) -> Result<VersionedKey, KeyUnavailable> {
        let part = part.filter(|_| owner == KeyOwner::Node);
        let part = part.ok_or_else(|| KeyUnavailable("control hands out no such key part".to_owned()))?;
        let key = KeyKind::Proxy.combine(&[&self.own, &part.part]);
        let key = key.map_err(|error| KeyUnavailable(format!("the proxy's key: {error}")))?;
        Ok(VersionedKey { version: part.version, key })
    }
}

/// A proxy has keys of its own alone.
impl FileKeys for ProxyKeys {
    fn newest(&self, owner: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        self.combined(owner, self.parts.own().last())
    }

    fn of_version(&self, owner: KeyOwner, version: u32) -> Result<Key256, KeyUnavailable> {
        let own = self.parts.own();
        Ok(self.combined(owner, own.iter().find(|part| part.version == version))?.key)
    }
}

/// What is followed while a member serves.
pub struct Followed {
    /// Tenants, tables and routes.
    pub routing: Arc<RoutingTable>,
    /// Who may come in.
    pub access: Arc<AccessMirror>,
    tasks: Vec<JoinHandle<()>>,
}

impl Followed {
    /// Follows no more, and saves the routing table.
    pub async fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let routing = self.routing;
        if tokio::task::spawn_blocking(move || routing.save()).await.is_err() {
            tracing::error!("the routing table was not saved");
        }
    }
}

/// The membership kept here, or a new one.
async fn enter_plane(
    ground: &Ground,
    config: &Config,
    describe: impl Fn(&mut JoinRequest),
) -> Result<Membership, StartError> {
    let token = join_token(config)?;
    let url = config.control.url.as_deref();
    let known = membership::all(&ground.data)?;
    if let Some(known) = membership::find(known, ground.role, url, token.as_ref().map(|token| token.as_str()))? {
        return Ok(known);
    }
    let Some(token) = token else {
        return Err(StartError(format!(
            "this {} has not joined a control plane: give --join-token-file FILE with the token of `dstore control {} invite`",
            ground.role, ground.role
        )));
    };
    if token_parts(&token).is_none() {
        return Err(StartError("the join token is not one: it begins with dsj1. and has three parts".to_owned()));
    }
    let url = url.unwrap_or_default();
    loop {
        let refusal = match join(url, &token, ground.role, |request| describe(request)).await {
            Ok(joined) => {
                let membership = Membership::new(ground.role, url, joined.joined, &joined.key_pem);
                membership.keep(&ground.data).map_err(|error| StartError(format!("the membership: {error}")))?;
                ground.health.note("membership", Condition::Good);
                tracing::info!(?membership, "joined");
                return Ok(membership);
            }
            Err(refusal) => refusal,
        };
        // After an unknown outcome the token may be used up: the next attempt says so.
        if !is_away(&refusal) {
            return Err(StartError(format!("joining at {url}: {refusal}")));
        }
        ground.health.note("membership", Condition::Waiting(refusal.to_string()));
        tracing::warn!(%refusal, "waiting to join");
        tokio::time::sleep(WAIT_PAUSE).await;
    }
}

/// The join token that the settings give; none where there is none, or its file is gone since the first start.
fn join_token(config: &Config) -> Result<Option<Zeroizing<String>>, StartError> {
    if let Some(token) = &config.control.join_token {
        return Ok(Some(Zeroizing::new(token.expose().trim().to_owned())));
    }
    let Some(path) = &config.control.join_token_file else { return Ok(None) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(Zeroizing::new(text).trim().to_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StartError(format!("{}: {error}", path.display()))),
    }
}

/// Shows in `health` how good the routing table is.
pub fn watch_routing(health: &Health, routing: Arc<RoutingTable>) {
    let counted = routing.clone();
    health.watch("routing table", move || condition_of_routing(&routing.status()));
    health.count(move |metrics| {
        let (status, snapshot) = (counted.status(), counted.snapshot());
        let is_live = f64::from(u8::from(status.source == RoutingSource::Live));
        metrics.gauge("dstore_routing_live", "1 where the coordinator is followed.", &[], is_live);
        metrics.gauge("dstore_coordinator_reachable", "1 where the coordinator answers.", &[], is_live);
        metrics.gauge("dstore_routing_ranges", "Ranges that are routed.", &[], snapshot.range_count() as f64);
        let is_saved = f64::from(u8::from(status.saved_generation >= status.generation));
        metrics.gauge("dstore_routing_saved", "1 where the copy on disk holds all changes.", &[], is_saved);
        metrics.counter("dstore_routing_changes_total", "Changes of the plan.", &[], status.generation as f64);
    });
}

fn condition_of_routing(status: &RoutingStatus) -> Condition {
    let since = status.since;
    match status.source {
        RoutingSource::Nothing => {
            Condition::Waiting("the coordinator was not reached yet, and there is no copy on disk".to_owned())
        }
        RoutingSource::DiskCopy => {
            Condition::Stale(format!("the copy on disk of {since}; the coordinator was not reached since the start"))
        }
        RoutingSource::Memory => Condition::Stale(format!("the coordinator has been away since {since}")),
        RoutingSource::Live => match status.distrusted.first() {
            None => Condition::Good,
            Some((prefix, why)) => {
                Condition::Stale(format!("what the coordinator lists of {prefix} is not obeyed: {why:?}"))
            }
        },
    }
}

fn watch_access(health: &Health, access: Arc<AccessMirror>) {
    health.watch("access lists", move || match access.status() {
        AccessStatus::Nothing => {
            Condition::Waiting("control was not reached yet, and there is no copy on disk".to_owned())
        }
        AccessStatus::Current => Condition::Good,
        AccessStatus::Stale(since, why) => Condition::Stale(format!("as control told them at {since}: {why}")),
    });
}
