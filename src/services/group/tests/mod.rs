//! A node's engine with groups on it, over real files or over a disk that loses power, and openraft's own suite on both.

mod ending;
mod instances;
mod log;
mod members;
mod raft;
mod snapshots;
mod splits;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;

use super::convert::log_id;
use super::log::GroupLog;
use super::machine::GroupMachine;
use super::types::{Entry, Proposed, Types};
use crate::crypto::Key256;
use crate::crypto::cipher::NonceSource;
use crate::crypto::cipher::tests::SystemRandom;
use crate::domain::document::Document;
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, PlaneId, RangeId, ReplicaId, TableId, TenantId};
use crate::domain::key::{KeyType, KeyValue, PackedKey};
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::domain::table_options::OptionTimes;
use crate::domain::watermark::Watermark;
use crate::domain::{Clock, TableName, TenantName, Timestamp};
use crate::replication::machine_state::LogPlace;
use crate::replication::membership::Membership;
use crate::replication::operation::{Change, Operation, Preconditions};
use crate::services::engine::admission::AdmissionLimits;
use crate::services::engine::flusher::FlushBudget;
use crate::services::engine::log_keys::CommitLogKeys;
use crate::services::engine::notices::Notices;
use crate::services::engine::{Engine, EngineOptions, EngineParts, GroupParts, MemberStart};
use crate::services::ranges::RangeAddress;
use crate::storage::keys::{FileKeys, KeyOwner, KeyUnavailable, VersionedKey};
use crate::storage::log::disk_simulated::SimulatedDisk;
use crate::storage::log::{Disk, LogOptions, SystemDisk};
use crate::storage::memory::MemoryKeeper;
use crate::storage::node_database::{NodeDatabase, ReplicaRecord, ReplicaState};
use crate::storage::sqlite::keeper::{KeeperOptions, SqliteKeeper};
use crate::storage::sqlite::node_database::SqliteNodeDatabase;
use crate::storage::sqlite::range_store::FileOptions;
use crate::storage::store::{ReplicaName, StoreKeeper};

const PLANE: PlaneId = PlaneId(uuid::Uuid::from_bytes([1; 16]));
const NODE: NodeId = NodeId(uuid::Uuid::from_bytes([2; 16]));

/// openraft's suite makes members of numbers.
impl From<u64> for ReplicaId {
    fn from(number: u64) -> Self {
        Self::from_bytes(u128::from(number).to_be_bytes())
    }
}

impl Default for NodeId {
    fn default() -> Self {
        NODE
    }
}

struct OneKey;

impl FileKeys for OneKey {
    fn newest(&self, _owner: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        Ok(VersionedKey { version: 1, key: Key256::new([7; 32]) })
    }
    fn of_version(&self, _owner: KeyOwner, _version: u32) -> Result<Key256, KeyUnavailable> {
        Ok(Key256::new([7; 32]))
    }
}

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000)
    }
}

/// What outlives a node's process.
struct Ground {
    keeper: Arc<dyn StoreKeeper>,
    memory: Option<Arc<MemoryKeeper>>,
    disk: Arc<dyn Disk>,
    simulated: SimulatedDisk,
    folder: Arc<TempDir>,
}

impl Ground {
    /// Everything in real files.
    fn files() -> Self {
        let random = Arc::new(SystemRandom::default());
        crate::storage::vfs::register(random.clone()).unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let options = KeeperOptions { open_files_max: 16, file: FileOptions { cache_pages: 50, readers_max: 2 } };
        let keeper = SqliteKeeper::new(folder.path().to_owned(), PLANE, NODE, Arc::new(OneKey), random, options);
        let simulated = SimulatedDisk::new();
        Self { keeper: Arc::new(keeper), memory: None, disk: Arc::new(SystemDisk), simulated, folder }
    }

    /// Ranges in memory, the commit log on a disk that loses power.
    fn simulated() -> Self {
        let memory = Arc::new(MemoryKeeper::default());
        let simulated = SimulatedDisk::new();
        let (keeper, disk) = (memory.clone(), Arc::new(simulated.clone()));
        Self { keeper, memory: Some(memory), disk, simulated, ..Self::files() }
    }

    /// What is left when the power goes: of what was not synced, all or nothing.
    fn after_power_cut(&self, keep_unsynced: bool) -> Self {
        let simulated = self.simulated.crash(&mut || keep_unsynced);
        self.simulated.cut_power();
        self.memory.as_ref().unwrap().cut_power();
        let disk = Arc::new(simulated.clone());
        Self { keeper: self.keeper.clone(), memory: self.memory.clone(), disk, simulated, folder: self.folder.clone() }
    }

    fn start(&self) -> Node {
        let random = Arc::new(SystemRandom::default());
        crate::storage::vfs::register(random.clone()).unwrap();
        let keys: Arc<dyn FileKeys> = Arc::new(OneKey);
        let database = SqliteNodeDatabase::open(self.folder.path(), PLANE, NODE, keys.clone(), random.clone()).unwrap();
        let notices = Arc::new(Notices::default());
        let parts = EngineParts {
            keeper: self.keeper.clone(),
            database: database.clone(),
            log_keys: Arc::new(CommitLogKeys::new(PLANE, NODE, keys, NonceSource::new(random.clone()))),
            disk: self.disk.clone(),
            clock: Arc::new(StoppedClock),
            random,
            notices: notices.clone(),
        };
        let engine = Engine::open(parts, options(self.folder.path().join("log"))).unwrap();
        Node { engine, notices, database }
    }
}

fn options(log_folder: std::path::PathBuf) -> EngineOptions {
    EngineOptions {
        log_folder,
        log: LogOptions {
            segment_bytes: 1 << 16,
            budget_bytes: 64 << 20,
            reserve_bytes: 0,
            idle_mark_ms: 3_600_000,
            retry_ms: 20,
            ..LogOptions::default()
        },
        flush: FlushBudget { memory_bytes_soft: 8 << 20, memory_bytes_hard: 64 << 20, checkpoint_bytes: 1 << 20 },
        admission: AdmissionLimits {
            disk_notice: Watermark::Bytes(1),
            disk_refuse: Watermark::Bytes(1),
            ..AdmissionLimits::default()
        },
        cache_bytes: 1 << 20,
        apply_lanes: 2,
        read_threads: 1,
        reads_waiting_max: 100,
    }
}

struct Node {
    engine: Arc<Engine>,
    notices: Arc<Notices>,
    database: Arc<SqliteNodeDatabase>,
}

impl Node {
    /// A member of range `number`'s group, and what it stands on.
    async fn member(&self, number: u8, start: MemberStart) -> GroupParts {
        self.engine.create_member(&record(number), start).unwrap();
        self.wake(number).await
    }

    async fn wake(&self, number: u8) -> GroupParts {
        self.engine.group_parts(range(number)).await.unwrap()
    }
}

fn range(number: u8) -> RangeId {
    RangeId::from_bytes([number; 16])
}

fn replica_id(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn address(number: u8) -> RangeAddress {
    RangeAddress { table: TableId::from_bytes([3; 16]), range: range(number) }
}

fn founding(numbers: &[u8]) -> MemberStart {
    MemberStart::Founding(Membership::founding(numbers.iter().map(|number| (replica_id(*number), NODE))))
}

fn record(number: u8) -> ReplicaRecord {
    let (tenant, table) = (TenantId::from_bytes([4; 16]), TableId::from_bytes([3; 16]));
    let table_of = TableDefinition {
        tenant_id: tenant,
        tenant: TenantName::new("acme").unwrap(),
        id: table,
        name: TableName::new("things").unwrap(),
        specification: TableSpecification::new(KeyType::String),
        created_at: Timestamp(0),
        version: 1,
        option_times: OptionTimes::default(),
    };
    ReplicaRecord {
        name: ReplicaName { tenant, table, range: range(number), replica: replica_id(number) },
        hashes: HashRange::FULL,
        table: table_of,
        epoch: 1,
        durable_index: 0,
        quantity: 0,
        state: ReplicaState::Serving,
        group_file: None,
    }
}

fn key(id: &str) -> PackedKey {
    PackedKey::new(&KeyValue::String(id.into()), None)
}

fn put(id: &str, text: &str) -> Operation {
    Operation {
        key: key(id),
        change: Change::Put(Document::from_json(text.as_bytes()).unwrap()),
        preconditions: Preconditions::default(),
        conditional: None,
        request: None,
        receipt: None,
    }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry::new_blank(log_id(LogPlace { term, index }))
}

/// An entry that makes these the members.
fn members(term: u64, index: u64, numbers: &[u8]) -> Entry {
    let nodes: std::collections::BTreeMap<_, _> = numbers.iter().map(|number| (replica_id(*number), NODE)).collect();
    let voters: std::collections::BTreeSet<_> = nodes.keys().copied().collect();
    let membership = openraft::Membership::new(vec![voters], nodes).unwrap();
    Entry::new_membership(log_id(LogPlace { term, index }), membership)
}

/// An entry with an operation; the leader's clock shows its index in seconds.
fn operation(term: u64, index: u64, operation: &Operation) -> Entry {
    let bytes = crate::replication::entry::encode(Timestamp(index * 1_000_000), operation);
    Entry::new_normal(log_id(LogPlace { term, index }), Proposed(bytes))
}

/// Appends, and waits until it is synced.
async fn append(log: &mut GroupLog, entries: Vec<Entry>) -> std::io::Result<()> {
    let (sender, synced) = Types::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await?;
    synced.await.unwrap()
}

async fn apply(machine: &mut GroupMachine, entries: Vec<Entry>) {
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    machine.apply(futures_util::stream::iter(entries)).await.unwrap();
}

struct Builder {
    node: Node,
    next: AtomicU8,
    _ground: Ground,
}

impl StoreBuilder<Types, GroupLog, GroupMachine> for Builder {
    async fn build(&self) -> Result<((), GroupLog, GroupMachine), openraft::StorageError<Types>> {
        let parts = self.node.member(self.next.fetch_add(1, Ordering::Relaxed), MemberStart::Joining).await;
        Ok(((), parts.log, parts.machine))
    }
}

async fn pass_the_suite(ground: Ground) {
    let node = ground.start();
    let engine = node.engine.clone();
    let builder = Builder { node, next: AtomicU8::new(1), _ground: ground };
    Suite::test_all(builder).await.unwrap();
    tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
}

#[tokio::test]
async fn openrafts_suite_passes_on_files() {
    pass_the_suite(Ground::files()).await;
}

#[tokio::test]
async fn openrafts_suite_passes_in_memory() {
    pass_the_suite(Ground::simulated()).await;
}
