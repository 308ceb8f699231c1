//! One simulated node: a machine, with a disk and a clock that outlive what runs on it, and perhaps a life: the real engine, groups,
//! and everything a node does by itself, on a runtime of its own whose time is simulated.
//!
//! A runtime for each node makes killing simple: dropping it drops every task of the node, whoever spawned it, at the places where
//! they wait. And a node that is paused is one whose runtime is not run; when it goes on, all that time has passed for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dstore::crypto::Key256;
use dstore::crypto::cipher::NonceSource;
use dstore::domain::ids::{NodeId, PlaneId};
use dstore::domain::watermark::Watermark;
use dstore::domain::{Clock, Random};
use dstore::replication::boots::Boots;
use dstore::services::engine::admission::AdmissionLimits;
use dstore::services::engine::flusher::FlushBudget;
use dstore::services::engine::keys::{NodeKeys, PartVersions};
use dstore::services::engine::log_keys::CommitLogKeys;
use dstore::services::engine::notices::Notices;
use dstore::services::engine::opening::EngineError;
use dstore::services::engine::{Engine, EngineOptions, EngineParts};
use dstore::services::rolled_back::{OwnBoots, seconds};
use dstore::storage::log::disk_simulated::SimulatedDisk;
use dstore::storage::log::{Disk, LogOptions};
use dstore::storage::memory::MemoryKeeper;
use dstore::storage::node_database::NodeDatabase;
use dstore::storage::workers::Workers;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::clock::NodeClock;
use crate::cluster::Founded;
use crate::database::SimulatedDatabase;
use crate::dice::{Dice, SharedDice};
use crate::disk_pace::{DiskPace, SharedPace};
use crate::network::{Load, Network, Parcel};
use crate::node_life::{Machine, Running, handed_key};
use crate::question::{Answer, ask_node};
use crate::trace::Trace;

/// The id of the node at this place.
pub fn node_id(place: usize) -> NodeId {
    NodeId::from_bytes([place as u8 + 1; 16])
}

/// The place of the node with this id.
pub fn node_place(node: NodeId) -> Option<usize> {
    let place = usize::from(node.as_bytes()[0]).checked_sub(1)?;
    (node_id(place) == node).then_some(place)
}

/// How long leadership may take to be handed over before a planned stop.
const HAND_OVER_TIME: Duration = Duration::from_secs(5);

/// How long a planned stop may take before who waits for it loses patience.
const STOP_TIME: Duration = Duration::from_secs(10);
/// The folder of the log.
const LOG: &str = "log";

/// A machine.
pub struct Node {
    /// Its place among all nodes.
    pub place: usize,
    /// Its clock.
    pub clock: Arc<NodeClock>,
    /// How fast its disk is.
    pub pace: Arc<DiskPace>,
    disk: SimulatedDisk,
    keeper: Arc<MemoryKeeper>,
    database: Arc<SimulatedDatabase>,
    incarnation: uuid::Uuid,
    /// The boot numbers that stand in the folder; empty in a new one.
    boots: Arc<Mutex<String>>,
    /// A copy of the folder.
    copy: Option<Folder>,
    folder: tempfile::TempDir,
    plane: PlaneId,
    dice: Dice,
    network: Network,
    trace: Trace,
    life: Option<Life>,
    paused_for: Option<u64>,
    is_damaged: bool,
}

/// What a data folder holds.
struct Folder {
    disk: SimulatedDisk,
    keeper: MemoryKeeper,
    database: SimulatedDatabase,
    boots: String,
}

/// What runs on a machine.
struct Life {
    running: Running,
    notices: Arc<Notices>,
    runtime: Runtime,
}

impl Node {
    /// A new machine that nothing runs on.
    pub fn new(place: usize, mut dice: Dice, network: Network, trace: Trace, founded: &Founded) -> Node {
        let incarnation = uuid::Uuid::from_u64_pair(dice.number(), dice.number());
        Node {
            place,
            clock: Arc::new(NodeClock::new(trace.now.clone())),
            pace: Arc::new(DiskPace::new(dice.fork())),
            disk: SimulatedDisk::new(),
            keeper: Arc::default(),
            database: Arc::default(),
            incarnation,
            boots: Arc::default(),
            copy: None,
            folder: tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}")),
            plane: founded.plane,
            dice,
            network,
            trace,
            life: None,
            paused_for: None,
            is_damaged: false,
        }
    }

    /// Whether something runs on it, paused or not.
    pub fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.life.is_some() && self.paused_for.is_none()
    }

    /// Starts what runs on it.
    ///
    /// # Errors
    /// Where the engine does not open on what the disk has.
    pub fn start(&mut self) -> Result<(), EngineError> {
        let runtime = paused_runtime()?;
        let random: Arc<dyn Random> = Arc::new(SharedDice(Mutex::new(self.dice.fork())));
        let notices = Arc::new(Notices::default());
        let keys = self.keys();
        let parts = self.parts(&keys, &random, &notices);
        let options = self.options();
        let engine = runtime.block_on(async { Engine::open(parts, options) })?;
        let machine = Machine {
            place: self.place,
            plane: self.plane,
            incarnation: self.incarnation,
            folder: self.folder.path(),
            network: &self.network,
            database: Arc::clone(&self.database) as Arc<dyn NodeDatabase>,
            keys,
            boots: self.begin_boot(&*random)?,
            random,
            notices: Arc::clone(&notices),
        };
        let running = runtime.block_on(async { Running::start(machine, engine) });
        self.life = Some(Life { running, notices, runtime });
        self.paused_for = None;
        Ok(())
    }

    /// A start over the folder has a number, as the role gives it one.
    fn begin_boot(&self, random: &dyn Random) -> std::io::Result<Arc<OwnBoots>> {
        let mut dice = [0; 4];
        random.fill(&mut dice);
        let (now, dice) = (seconds(self.clock.now()), u32::from_be_bytes(dice));
        let text = self.boots.lock().clone();
        let mut boots = Boots::parse(&text).unwrap_or_default();
        match text.is_empty() {
            true => boots.start_over(0, now, dice),
            false => boots.begin(now, dice),
        };
        let kept = Arc::clone(&self.boots);
        OwnBoots::new(
            boots,
            Box::new(move |text| {
                text.clone_into(&mut kept.lock());
                Ok(())
            }),
        )
    }

    /// A copy of the folder is made, as by an administrator. Nothing may run on it.
    pub fn copy_folder(&mut self) {
        assert!(self.life.is_none(), "a folder is copied while its node runs");
        self.copy = Some(Folder {
            disk: self.disk.fork(),
            keeper: self.keeper.fork(),
            database: self.database.fork(),
            boots: self.boots.lock().clone(),
        });
    }

    /// The copy is put back, where there is one. Nothing may run on it.
    pub fn put_copy_back(&mut self) {
        assert!(self.life.is_none(), "a folder is put back while its node runs");
        if let Some(copy) = self.copy.take() {
            self.disk = copy.disk;
            self.keeper = Arc::new(copy.keeper);
            self.database = Arc::new(copy.database);
            *self.boots.lock() = copy.boots;
        }
    }

    /// The keys that the node has by itself when it starts: those of control that it was handed before among them.
    fn keys(&self) -> Arc<NodeKeys> {
        let keys = NodeKeys::new(PartVersions::single(1, key(1)), PartVersions::single(1, key(2)));
        for part in self.database.tenant_keys().unwrap_or_default() {
            keys.add_tenant_at_node(part.tenant, part.version, part.part);
            keys.add_tenant_at_control(part.tenant, 1, handed_key());
        }
        Arc::new(keys)
    }

    fn parts(&self, keys: &Arc<NodeKeys>, random: &Arc<dyn Random>, notices: &Arc<Notices>) -> EngineParts {
        let nonces = NonceSource::new(Arc::clone(random));
        let keys = Arc::clone(keys);
        EngineParts {
            keeper: Arc::clone(&self.keeper) as _,
            database: Arc::clone(&self.database) as _,
            log_keys: Arc::new(CommitLogKeys::new(self.plane, node_id(self.place), keys, nonces)),
            disk: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as _,
            random: Arc::clone(random),
            notices: Arc::clone(notices),
        }
    }

    /// Small budgets, so that a short run reaches every stage.
    fn options(&self) -> EngineOptions {
        EngineOptions {
            log_folder: LOG.into(),
            log: LogOptions {
                segment_bytes: 32 << 10,
                budget_bytes: 512 << 10,
                group_bytes_max: 16 << 10,
                reserve_bytes: 32 << 10,
                workers: Workers::Tasks(Arc::new(SharedPace(Arc::clone(&self.pace)))),
                ..LogOptions::default()
            },
            flush: FlushBudget { memory_bytes_soft: 8 << 10, memory_bytes_hard: 256 << 10, checkpoint_bytes: 0 },
            admission: AdmissionLimits {
                disk_notice: Watermark::Bytes(2),
                disk_refuse: Watermark::Bytes(1),
                ..AdmissionLimits::default()
            },
            cache_bytes: 1 << 20,
            apply_lanes: 1,
            read_threads: 1,
            reads_waiting_max: 1000,
        }
    }

    /// Lets this much time pass on it, in milliseconds.
    pub fn run(&mut self, milliseconds: u64) {
        if let Some(paused_for) = &mut self.paused_for {
            *paused_for += milliseconds;
            return;
        }
        let Some(life) = &self.life else { return };
        wait_in(&life.runtime, milliseconds);
        for notice in life.notices.take() {
            self.trace.note(format_args!("node {} notice: {notice:?}", self.place));
        }
    }

    /// Something arrived.
    pub fn take(&mut self, parcel: Parcel) {
        let Some(life) = &self.life else { return self.turn_away(parcel) };
        let _inside = life.runtime.enter();
        match parcel.load {
            Load::Question(question, told) => {
                let (service, network) = (Arc::clone(&life.running.ranges), self.network.clone());
                let (place, from) = (self.place, parcel.from);
                tokio::spawn(async move {
                    let answer = ask_node(service, question).await;
                    network.send(place, from, Load::Answer(answer, told));
                });
            }
            Load::Frame(frame, told) => {
                life.running.inbox.deliver(node_id(parcel.from), frame);
                if let Some(told) = told {
                    self.network.send(self.place, parcel.from, Load::Received(true, told));
                }
            }
            Load::Received(is_received, told) => drop(told.send(is_received)),
            Load::Reply(reply, told) => drop(told.send(reply)),
            Load::Changes(batch, sender, _) => drop(sender.try_send(batch)),
            Load::Answer(..) | Load::Ask(..) | Load::Watch(_) => {}
        }
    }

    /// Nobody listens at the port: whoever asks is told so by the machine.
    fn turn_away(&self, parcel: Parcel) {
        let answer = match parcel.load {
            Load::Question(_, told) => Load::Answer(Answer::Nobody, told),
            Load::Frame(_, Some(told)) => Load::Received(false, told),
            _ => return,
        };
        self.network.send(self.place, parcel.from, answer);
    }

    /// What runs on it stops running, and knows nothing of that.
    pub fn pause(&mut self) {
        self.paused_for.get_or_insert(0);
    }

    /// It goes on; for what runs on it, all the time has passed at once.
    pub fn resume(&mut self) {
        if let (Some(missed), Some(life)) = (self.paused_for.take(), &self.life) {
            life.runtime.block_on(tokio::time::advance(Duration::from_millis(missed)));
        }
    }

    /// What runs on it begins to hand its leaderships over, where something runs.
    pub fn hand_over(&self) {
        if let Some(life) = &self.life {
            let groups = Arc::clone(&life.running.groups);
            life.runtime.spawn(async move {
                groups.hand_over_all(tokio::time::Instant::now() + HAND_OVER_TIME).await;
            });
        }
    }

    /// What runs on it stops as planned, where something runs and is not paused. Where it does not come to its end, as with a disk
    /// that is stuck, it is killed.
    pub fn stop(&mut self) {
        let Some(life) = self.life.as_ref().filter(|_| self.paused_for.is_none()) else { return };
        let groups = Arc::clone(&life.running.groups);
        let stopping = async move {
            groups.depart();
            tokio::time::timeout(STOP_TIME, groups.stop()).await
        };
        if life.runtime.block_on(stopping).is_err() {
            return self.kill();
        }
        if let Some(life) = self.life.take() {
            let _inside = life.runtime.enter();
            life.running.engine.stop();
        }
    }

    /// What runs on it is killed, and the power goes, too: of what was not synced, any part is lost.
    pub fn kill(&mut self) {
        let Some(life) = self.life.take() else { return };
        let kept = *self.dice.choose(&[0, 50, 100]);
        // What waits for the log is perhaps being written when the power goes.
        match self.dice.between(0, 4) {
            0 => self.disk.cut_power_after(0),
            1 => self.disk.cut_power_after(1),
            2 => self.disk.cut_power_after(2),
            _ => self.disk.cut_power(),
        }
        drop(life.running);
        drop(life.runtime);
        self.disk.cut_power();
        self.keeper.cut_power();
        let dice = &mut self.dice;
        self.disk = self.disk.crash(&mut || dice.chance(kept));
        self.paused_for = None;
        self.pace.set_stuck(false);
    }

    /// The next sync of a file of the log, after so many, fails.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.disk.fail_sync_after(syncs);
    }

    /// What runs on it, where something does.
    pub fn running(&self) -> Option<&Running> {
        self.life.as_ref().map(|life| &life.running)
    }

    /// Its data folder is lost, and an empty one stands in its place. Nothing may run on it.
    pub fn wipe(&mut self) {
        assert!(self.life.is_none(), "a folder is lost while its node runs");
        self.disk = SimulatedDisk::new();
        self.keeper = Arc::default();
        self.database = Arc::default();
        self.boots.lock().clear();
        self.is_damaged = false;
        self.incarnation = uuid::Uuid::from_u64_pair(self.dice.number(), self.dice.number());
    }

    /// One bit of a file of the log is turned over. Nothing may run on it.
    pub fn flip_a_bit(&mut self) {
        assert!(self.life.is_none(), "a bit is turned over while the node runs");
        let mut files = self.disk.list(Path::new(LOG)).unwrap_or_default();
        files.retain(|path| self.disk.bytes(path).is_some_and(|bytes| !bytes.is_empty()));
        files.sort();
        if files.is_empty() {
            return;
        }
        let path = self.dice.choose(&files).clone();
        let Some(mut bytes) = self.disk.bytes(&path) else { return };
        // Most of a segment may not have been written yet.
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let place = self.dice.place(written);
        bytes[place] ^= 1 << self.dice.place(8);
        self.disk.set_bytes(&path, bytes);
        self.is_damaged = true;
        self.trace.note(format_args!("node {}: a bit of {} is turned over at {place}", self.place, path.display()));
    }

    /// Whether its disk was damaged in a way that no node has to live with.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// How full the log's disk may become, in bytes; none for no end.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.set_capacity(bytes);
    }
}

/// A runtime on this thread whose time goes on only when it is run.
pub fn paused_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()
}

/// Some key.
pub fn key(byte: u8) -> Key256 {
    Key256::new(std::array::from_fn(|at| byte.wrapping_mul(31) ^ at as u8))
}

/// Lets this much simulated time pass in a runtime, in milliseconds.
pub fn wait_in(runtime: &Runtime, milliseconds: u64) {
    runtime.block_on(async move { tokio::time::sleep(Duration::from_millis(milliseconds)).await });
}
