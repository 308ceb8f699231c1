//! A node put together, for `dstore node` and for `dstore dev` alike.
//!
//! A node's folder holds, for each control plane it has joined, a folder of its own:
//!
//! ```text
//! <data>/<plane>/node.key[.<version>]            the node's own key at this plane, see [`super::own_keys`]
//! <data>/<plane>/node.db                         the node's own database
//! <data>/<plane>/incarnation                     which folder this is, see [`super::incarnation`]
//! <data>/<plane>/boots                           how often it was started, see [`super::boots`]
//! <data>/<plane>/nodes.copy                      where other nodes are, see [`crate::services::node_directory`]
//! <data>/<plane>/log/                            the commit log
//! <data>/<plane>/<tenant>/<table>/<replica>.db   the replicas
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::coordination::Coordinator;
use crate::coordination::values::NodeDetails;
use crate::crypto::cipher::NonceSource;
use crate::domain::ids::{NodeId, PlaneId};
use crate::domain::{Clock, Random};
use crate::services::assignments::incarnation::Incarnation;
use crate::services::assignments::{AssignmentParts, Assignments, GroupInstances, KeyParts};
use crate::services::engine::admission::AdmissionLimits;
use crate::services::engine::flusher::FlushBudget;
use crate::services::engine::keys::{NodeKeys, PartVersions};
use crate::services::engine::log_keys::CommitLogKeys;
use crate::services::engine::notices::Notices;
use crate::services::engine::readers;
use crate::services::engine::rotation::KeyRotation;
use crate::services::engine::{Engine, EngineOptions, EngineParts};
use crate::services::group::host::Groups;
use crate::services::group::ports::GroupOperations;
use crate::services::key_rounds::KeyRounds;
use crate::services::node_directory::{DirectoryCopy, NodeDirectory};
use crate::services::notices::NoticeWriter;
use crate::services::publishing::rounds::{HeldRanges, PublishingRounds};
use crate::services::publishing::{PublishedAddress, RoutePublisher};
use crate::services::reconfiguring::{Reconfiguring, Surroundings};
use crate::services::retirement::Retirement;
use crate::services::rolled_back::follow_objections;
use crate::services::scrubbing::{self, ScrubCounters, ScrubParts};
use crate::services::splitting::Splitting;
use crate::storage::keys::FileKeys;
use crate::storage::log::{Disk, LogOptions, SystemDisk};
use crate::storage::node_database::NodeDatabase;
use crate::storage::sqlite::keeper::{KeeperOptions, SqliteKeeper};
use crate::storage::sqlite::node_database::SqliteNodeDatabase;
use crate::storage::sqlite::range_store::FileOptions;

use super::boots;
use super::group_parts::{NodeGroups, Wires};
use super::incarnation;
use super::key_files::{KeyFileError, Passphrase};
use super::own_keys::OwnKeys;
use super::presence::{DiskGauge, Presence};

/// Sizes and limits of a node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The commit log.
    pub log: LogOptions,
    /// Memory.
    pub flush: FlushBudget,
    /// Admission.
    pub admission: AdmissionLimits,
    /// Bytes of the item cache.
    pub cache_bytes: u64,
    /// Replica files open at once.
    pub open_files_max: usize,
    /// Pages each connection to a file caches.
    pub cache_pages: u32,
    /// Threads that read files.
    pub read_threads: usize,
    /// Seconds without a sign of life after which the node counts as silent.
    pub alive_seconds: u32,
    /// Seconds between two looks for new versions of key parts at control.
    pub key_round_seconds: u64,
    /// In which all files are verified once.
    pub scrub_period: Duration,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            log: LogOptions { budget_bytes: 512 << 20, ..LogOptions::default() },
            flush: FlushBudget {
                memory_bytes_soft: 64 << 20,
                memory_bytes_hard: 256 << 20,
                checkpoint_bytes: 16 << 20,
            },
            admission: AdmissionLimits::default(),
            cache_bytes: 256 << 20,
            open_files_max: 256,
            // What lies above the leaves of a large table; leaves come from the kernel's cache and are seldom read twice.
            cache_pages: 256,
            read_threads: readers::threads_default(),
            alive_seconds: 10,
            key_round_seconds: 60,
            scrub_period: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// Who and where the node is.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// Its id at this control plane.
    pub node: NodeId,
    /// The control plane.
    pub plane: PlaneId,
    /// Its data folder.
    pub data: PathBuf,
    /// What others reach it under.
    pub details: NodeDetails,
}

/// A node that runs.
pub struct RunningNode {
    /// Its id.
    pub node: NodeId,
    /// Its engine.
    pub engine: Arc<Engine>,
    /// Its keys.
    pub keys: Arc<NodeKeys>,
    /// Its database.
    pub database: Arc<dyn NodeDatabase>,
    /// Where the nodes are that it shares ranges with.
    pub directory: Arc<NodeDirectory>,
    /// Its groups, and its ranges as they are served.
    pub groups: NodeGroups,
    /// Routes of ranges led from here that are not published yet.
    pub unpublished: Arc<AtomicUsize>,
    /// What was done to find damage.
    pub scrub: Arc<ScrubCounters>,
    presence: Presence,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningNode {
    /// Stops following, says that it was planned, writes everything to disk and closes it.
    pub async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.presence.leave().await;
        self.groups.groups.stop().await;
        let (engine, directory) = (self.engine, self.directory);
        let stopped = tokio::task::spawn_blocking(move || {
            directory.save();
            engine.stop();
        });
        if stopped.await.is_err() {
            tracing::error!("the engine did not stop cleanly");
        }
    }
}

/// Why a node did not start; the text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl From<KeyFileError> for StartError {
    fn from(error: KeyFileError) -> Self {
        Self(error.to_string())
    }
}

/// Puts a node together and starts it, with `wires` to the others. Waits for the control plane's key parts. `passphrase`
/// seals the node's own key.
///
/// # Errors
/// Where its files cannot be opened, with the reason.
#[expect(clippy::too_many_arguments, reason = "called in two places, each of which has all of these")]
pub async fn start(
    identity: NodeIdentity,
    settings: NodeSettings,
    wires: Wires,
    coordinator: Arc<dyn Coordinator>,
    parts: Arc<dyn KeyParts>,
    passphrase: Option<Arc<Passphrase>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<RunningNode, StartError> {
    let folder = identity.data.join(identity.plane.to_string());
    let boots = boots::begin(&folder, &*clock, &*random)?;
    let incarnation = incarnation::read_or_make(&folder, &*random)?;
    let (own_file, own) = OwnKeys::open(&folder, passphrase, Arc::clone(&random))?;
    let at_control = node_part(&*parts).await?;
    let keys = Arc::new(NodeKeys::new(own, at_control));
    let file_keys: Arc<dyn FileKeys> = Arc::clone(&keys) as Arc<dyn FileKeys>;
    let database = open_database(&identity, &file_keys, &random)?;
    take_tenant_keys(&keys, &database, &*parts).await?;
    let notices = Arc::new(Notices::default());
    let engine =
        open_engine(&identity, settings.clone(), file_keys.clone(), &database, &notices, &clock, &random).await?;

    let copy = DirectoryCopy { path: folder.join("nodes.copy"), plane: identity.plane, keys: file_keys };
    let directory = Arc::new(NodeDirectory::open(Arc::clone(&coordinator), copy, Arc::clone(&random)));
    let groups = NodeGroups::start(identity.node, &engine, wires, &directory, &random, &boots)?;
    let details = NodeDetails { incarnation: Some(incarnation), ..identity.details };
    let address = PublishedAddress { uri: details.uri.clone(), inside_uri: details.inside_uri.clone() };
    let publisher =
        Arc::new(RoutePublisher::new(identity.node, address, Arc::clone(&coordinator), Arc::clone(&directory)));
    let assignments = Assignments::new(AssignmentParts {
        node: identity.node,
        coordinator: Arc::clone(&coordinator),
        engine: Arc::clone(&engine),
        keys: Arc::clone(&keys),
        database: Arc::clone(&database),
        parts: Arc::clone(&parts),
        random: Arc::clone(&random),
        publisher: Arc::clone(&publisher),
        directory: Arc::clone(&directory),
        notices: Arc::clone(&notices),
        groups: Arc::clone(&groups.groups) as Arc<dyn GroupInstances>,
    });
    let (unpublished, leading) = lead(&groups, publisher, &assignments, &engine, &directory, &notices, &coordinator);
    let retirement = {
        let (plane, coordinator, engine, keys) = (identity.plane, coordinator.clone(), engine.clone(), keys.clone());
        Retirement::new(plane, coordinator, engine, keys, database.clone(), parts.clone(), clock.clone())
    };
    let rotation = Arc::new(KeyRotation::new(Arc::clone(&keys), database.clone(), Arc::new(own_file), random));
    let key_rounds = KeyRounds::new(Arc::clone(&keys), Arc::clone(&engine), rotation, parts);
    let (scrub, scrubbing) = {
        let (node, period, groups) = (identity.node, settings.scrub_period, groups.groups.clone());
        let (engine, database, coordinator) = (engine.clone(), database.clone(), coordinator.clone());
        scrubbing::start(ScrubParts { node, engine, groups, database, coordinator, period })
    };
    let (node, own) = (identity.node, incarnation);
    let settling = Incarnation { node, own, details, coordinator: Arc::clone(&coordinator), boots };
    let (seconds, disk) = (settings.alive_seconds, disk_gauge(folder));
    let (presence, plan) = follow_plan(settling, assignments, seconds, disk, &engine, &groups.groups, &notices);
    let mut tasks = vec![
        plan,
        tokio::spawn(follow_objections(engine.clone(), groups.groups.clone())),
        tokio::spawn(retirement.follow()),
        tokio::spawn(key_rounds.follow(settings.key_round_seconds)),
        tokio::spawn(look_after(Arc::clone(&engine))),
        tokio::spawn(NoticeWriter::new(identity.node, coordinator, clock).follow(notices)),
    ];
    tasks.extend(leading.into_iter().chain(scrubbing));
    Ok(RunningNode { node, engine, keys, database, directory, groups, unpublished, scrub, presence, tasks })
}

/// The control plane's part of the node's key, all versions in use.
async fn node_part(parts: &dyn KeyParts) -> Result<PartVersions, StartError> {
    let mut at_control = PartVersions::default();
    for handed in parts.node_part().await.map_err(|refusal| StartError(format!("the node's key part: {refusal}")))? {
        at_control.add(handed.version, handed.part);
    }
    Ok(at_control)
}

/// What a node does for the ranges that it leads: publishes their routes, brings their groups to the copies that control
/// wants, and splits them where it wishes for that. With how many routes wait.
fn lead(
    groups: &NodeGroups,
    publisher: Arc<RoutePublisher>,
    assignments: &Assignments,
    engine: &Arc<Engine>,
    directory: &NodeDirectory,
    notices: &Arc<Notices>,
    coordinator: &Arc<dyn Coordinator>,
) -> (Arc<AtomicUsize>, [JoinHandle<()>; 3]) {
    let groups = &groups.groups;
    let operations = || Arc::clone(groups) as Arc<dyn GroupOperations>;
    let held = Arc::clone(engine) as Arc<dyn HeldRanges>;
    let rounds = PublishingRounds::new(publisher, operations(), held, directory, Arc::clone(notices));
    let unpublished = rounds.waiting();
    let surroundings = Arc::clone(groups) as Arc<dyn Surroundings>;
    let changes = Reconfiguring::new(operations(), surroundings, assignments.given());
    let splitting =
        Splitting::new(Arc::clone(coordinator), operations(), Arc::clone(groups) as _, Arc::clone(groups) as _);
    let tasks = [tokio::spawn(rounds.follow()), tokio::spawn(changes.follow()), tokio::spawn(splitting.follow())];
    (unpublished, tasks)
}

fn open_database(
    identity: &NodeIdentity,
    keys: &Arc<dyn FileKeys>,
    random: &Arc<dyn Random>,
) -> Result<Arc<dyn NodeDatabase>, StartError> {
    let (keys, random) = (Arc::clone(keys), Arc::clone(random));
    let opened = SqliteNodeDatabase::open(&identity.data, identity.plane, identity.node, keys, random);
    Ok(opened.map_err(|error| StartError(error.to_string()))?)
}

/// Follows what the node is given, and says that it is there: both when it is settled which data folder it has.
fn follow_plan(
    settling: Incarnation,
    assignments: Assignments,
    alive_seconds: u32,
    disk: DiskGauge,
    engine: &Arc<Engine>,
    groups: &Arc<Groups>,
    notices: &Arc<Notices>,
) -> (Presence, JoinHandle<()>) {
    let settled = watch::Sender::new(false);
    let (node, details, coordinator) = (settling.node, settling.details.clone(), Arc::clone(&settling.coordinator));
    let boots = Arc::clone(&settling.boots);
    let presence = Presence::begin(node, details, boots, alive_seconds, coordinator, settled.subscribe(), disk);
    let (engine, groups, notices) = (Arc::clone(engine), Arc::clone(groups), Arc::clone(notices));
    let plan = tokio::spawn(async move {
        settling.settle_with(&engine, &groups, &notices).await;
        settled.send_replace(true);
        assignments.follow().await;
    });
    (presence, plan)
}

fn disk_gauge(folder: PathBuf) -> DiskGauge {
    Arc::new(move || {
        let disk = SystemDisk;
        Some((disk.total_bytes(&folder).ok()?, disk.free_bytes(&folder).ok()?))
    })
}

/// Opens the storage engine over the node's folder, on a thread of its own.
async fn open_engine(
    identity: &NodeIdentity,
    settings: NodeSettings,
    keys: Arc<dyn FileKeys>,
    database: &Arc<dyn NodeDatabase>,
    notices: &Arc<Notices>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<Arc<Engine>, StartError> {
    let folder = identity.data.join(identity.plane.to_string());
    let keeper_options = KeeperOptions {
        open_files_max: settings.open_files_max,
        file: FileOptions {
            cache_pages: settings.cache_pages,
            // The apply stage and the flusher look into files, too.
            readers_max: settings.read_threads + 2,
        },
    };
    let keeper = SqliteKeeper::new(
        identity.data.clone(),
        identity.plane,
        identity.node,
        Arc::clone(&keys),
        Arc::clone(random),
        keeper_options,
    );
    let nonces = NonceSource::new(Arc::clone(random));
    let parts = EngineParts {
        keeper: Arc::new(keeper),
        database: Arc::clone(database),
        log_keys: Arc::new(CommitLogKeys::new(identity.plane, identity.node, keys, nonces)),
        disk: Arc::new(SystemDisk),
        clock: Arc::clone(clock),
        random: Arc::clone(random),
        notices: Arc::clone(notices),
    };
    let options = EngineOptions {
        log_folder: folder.join("log"),
        log: settings.log,
        flush: settings.flush,
        admission: settings.admission,
        cache_bytes: settings.cache_bytes,
        apply_lanes: 1,
        read_threads: settings.read_threads,
        reads_waiting_max: settings.admission.writes_max,
    };
    let opened = tokio::task::spawn_blocking(move || Engine::open(parts, options)).await;
    opened
        .map_err(|_| StartError("the engine panicked while it opened".to_owned()))?
        .map_err(|error| StartError(with_sources(&error)))
}

/// An error and what it came from, in one line.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Puts the parts of all tenants that the node has data of into `keys`.
async fn take_tenant_keys(
    keys: &NodeKeys,
    database: &Arc<dyn NodeDatabase>,
    parts: &dyn KeyParts,
) -> Result<(), StartError> {
    let known = database.tenant_keys().map_err(|error| StartError(error.to_string()))?;
    let mut tenants = std::collections::BTreeSet::new();
    for part in known {
        tenants.insert(part.tenant);
        keys.add_tenant_at_node(part.tenant, part.version, part.part);
    }
    for tenant in tenants {
        match parts.tenant_part(tenant).await {
            Ok(handed) => {
                handed.into_iter().for_each(|handed| keys.add_tenant_at_control(tenant, handed.version, handed.part))
            }
            // Its data stays sealed; everyone else is served.
            Err(refusal) => {
                tracing::warn!(%tenant, %refusal, "a tenant's key part is not to be had: its ranges are out of service")
            }
        }
    }
    Ok(())
}

async fn look_after(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let engine = Arc::clone(&engine);
        if tokio::task::spawn_blocking(move || engine.look_after()).await.is_err() {
            tracing::error!("looking after the disk failed");
        }
    }
}
