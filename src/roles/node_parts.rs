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
//! <data>/<plane>/usage/                          what was counted and reporting does not have, see [`crate::services::usage`]
//! <data>/<plane>/<tenant>/<table>/<replica>.db   the replicas
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::coordination::values::NodeDetails;
use crate::coordination::{Coordinator, LeaseId};
use crate::domain::ids::{NodeId, PlaneId, Role};
use crate::domain::usage::Component;
use crate::domain::{Clock, Random};
use crate::services::assignments::incarnation::Incarnation;
use crate::services::assignments::{AssignmentParts, Assignments, GroupInstances, KeyParts};
use crate::services::engine::Engine;
use crate::services::engine::admission::AdmissionLimits;
use crate::services::engine::flusher::FlushBudget;
use crate::services::engine::keys::NodeKeys;
use crate::services::engine::notices::Notices;
use crate::services::engine::readers;
use crate::services::engine::rotation::KeyRotation;
use crate::services::group::host::Groups;
use crate::services::group::ports::GroupOperations;
use crate::services::key_rounds::{KeyRounds, WrapAlso};
use crate::services::node_directory::{DirectoryCopy, NodeDirectory};
use crate::services::notices::NoticeWriter;
use crate::services::publishing::rounds::{HeldRanges, PublishingRounds};
use crate::services::publishing::{PublishedAddress, RoutePublisher};
use crate::services::reconfiguring::{Reconfiguring, Surroundings};
use crate::services::retirement::Retirement;
use crate::services::rolled_back::follow_objections;
use crate::services::scrubbing::{self, ScrubCounters, ScrubParts};
use crate::services::splitting::Splitting;
use crate::services::usage::{Gauges, Usage, UsageParts, UsageSettings};
use crate::storage::keys::FileKeys;
use crate::storage::log::{Disk, LogOptions, SystemDisk};
use crate::storage::node_database::NodeDatabase;
use crate::storage::store::StoreError;

use super::group_parts::{NodeGroups, Wires};
use super::key_files::{KeyFileError, Passphrase};
use super::node_gauges::NodeGauges;
use super::node_opening::{Opened, open};
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
    /// In which tables whose items expire are looked through once.
    pub expiry_period: Duration,
    /// Counting.
    pub usage: UsageSettings,
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
            expiry_period: Duration::from_secs(60 * 60),
            usage: UsageSettings::default(),
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
    /// What it has to say to people.
    pub notices: Arc<Notices>,
    /// Counts what clients use that ask here; whoever serves them begins it.
    pub usage: Arc<Usage>,
    presence: Presence,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningNode {
    /// The lease of its sign of life, as long as it has one.
    pub fn lease(&self) -> Arc<Mutex<Option<LeaseId>>> {
        self.presence.lease()
    }

    /// Stops following, says that it was planned, writes everything to disk and closes it.
    pub async fn stop(self) {
        self.usage.stop().await;
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
    let Opened { folder, boots, incarnation, own_file, keys, file_keys, database, notices, engine } =
        open(&identity, &settings, &*parts, passphrase, &clock, &random).await?;
    let directory = directory(&folder, identity.plane, file_keys.clone(), &coordinator, &random);
    let groups = NodeGroups::start(identity.node, &engine, wires, &directory, &random, &boots)?;
    let usage = count_usage(&identity, settings.usage, file_keys, &engine, &groups, &notices, (&clock, &random));
    let details = NodeDetails { incarnation: Some(incarnation), ..identity.details };
    let publisher = publish(identity.node, &details, &coordinator, &directory);
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
    let key_rounds = KeyRounds::new(Arc::clone(&keys), Arc::clone(&engine), rotation, parts).with(wrap_spool(&usage));
    let (scrub, scrubbing) = {
        let (node, period, groups) = (identity.node, settings.scrub_period, groups.groups.clone());
        let (engine, database, coordinator) = (engine.clone(), database.clone(), coordinator.clone());
        scrubbing::start(ScrubParts { node, engine, groups, database, coordinator, period })
    };
    let own =
        Incarnation { node: identity.node, own: incarnation, details, coordinator: Arc::clone(&coordinator), boots };
    let (seconds, disk) = (settings.alive_seconds, disk_gauge(folder));
    let (presence, plan) = follow_plan(own, assignments, seconds, disk, &engine, &groups.groups, &notices);
    let own_tasks = [
        plan,
        tokio::spawn(follow_objections(engine.clone(), groups.groups.clone())),
        tokio::spawn(retirement.follow()),
        tokio::spawn(key_rounds.follow(settings.key_round_seconds)),
        tokio::spawn(look_after(Arc::clone(&engine))),
        tokio::spawn(NoticeWriter::new(identity.node, coordinator, clock).follow(Arc::clone(&notices))),
    ];
    let tasks = leading.into_iter().chain(scrubbing).chain(own_tasks).collect();
    Ok(RunningNode {
        node: identity.node,
        engine,
        keys,
        database,
        directory,
        groups,
        unpublished,
        scrub,
        notices,
        usage,
        presence,
        tasks,
    })
}

/// Where the other nodes are, with a copy on disk.
fn directory(
    folder: &std::path::Path,
    plane: PlaneId,
    keys: Arc<dyn FileKeys>,
    coordinator: &Arc<dyn Coordinator>,
    random: &Arc<dyn Random>,
) -> Arc<NodeDirectory> {
    let copy = DirectoryCopy { path: folder.join("nodes.copy"), plane, keys };
    Arc::new(NodeDirectory::open(Arc::clone(coordinator), copy, Arc::clone(random)))
}

/// What publishes the routes of ranges led from here, under these addresses of the node.
fn publish(
    node: NodeId,
    details: &NodeDetails,
    coordinator: &Arc<dyn Coordinator>,
    directory: &Arc<NodeDirectory>,
) -> Arc<RoutePublisher> {
    let address = PublishedAddress { uri: details.uri.clone(), inside_uri: details.inside_uri.clone() };
    Arc::new(RoutePublisher::new(node, address, coordinator.clone(), directory.clone()))
}

/// Counts what clients use that ask this node.
fn count_usage(
    identity: &NodeIdentity,
    settings: UsageSettings,
    keys: Arc<dyn FileKeys>,
    engine: &Arc<Engine>,
    groups: &NodeGroups,
    notices: &Arc<Notices>,
    (clock, random): (&Arc<dyn Clock>, &Arc<dyn Random>),
) -> Arc<Usage> {
    let gauges: Arc<dyn Gauges> = Arc::new(NodeGauges::new(Arc::clone(engine), Arc::clone(&groups.groups)));
    let parts = UsageParts {
        component: Component { role: Role::Node, id: identity.node.0 },
        plane: identity.plane,
        folder: identity.data.join(identity.plane.to_string()).join("usage"),
        keys,
        clock: Arc::clone(clock),
        random: Arc::clone(random),
        notices: Arc::clone(notices),
        gauges: Some(gauges),
    };
    Usage::new(parts, settings)
}

fn wrap_spool(usage: &Arc<Usage>) -> WrapAlso {
    let usage = Arc::clone(usage);
    Arc::new(move || usage.wrap_anew().map_err(StoreError::Failed))
}

/// The control plane's part of the node's key, all versions in use.
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
