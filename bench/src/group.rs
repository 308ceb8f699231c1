//! A group of one: what a consensus library costs where there is nobody to agree with.
//!
//! A range with one copy commits a record when it is durable; a range that had several and has one left is a group with one
//! member, by openraft. Both are what a node runs, so both are measured as a node runs them: an engine on real files, asked
//! through its range service, in one process without HTTP. Writers put items of 1 KiB in a closed loop.
//!
//! | way | from the proposal to the log | from the log to the answer |
//! |---|---|---|
//! | short-cut | next index under a lock, one append | the log's group is handed to the thread that applies |
//! | openraft | its core's queue → its core → our log store | the store's callback → its core → its state machine's task → the thread that applies |

use crate::Options;
use crate::peers::{Failure, fresh_folder};
use dstore::cli::bench::server_cpu;
use dstore::crypto::Key256;
use dstore::crypto::cipher::NonceSource;
use dstore::domain::document::Document;
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{NodeId, PlaneId, RangeId, ReplicaId, TableId, TenantId};
use dstore::domain::key::{KeyType, KeyValue, PackedKey};
use dstore::domain::table::{TableDefinition, TableSpecification};
use dstore::domain::table_options::OptionTimes;
use dstore::domain::{Random, TableName, TenantName, Timestamp};
use dstore::replication::membership::Membership;
use dstore::replication::operation::{Change, Operation, Preconditions};
use dstore::roles::ambient;
use dstore::roles::node_parts::NodeSettings;
use dstore::services::engine::keys::{NodeKeys, PartVersions};
use dstore::services::engine::log_keys::CommitLogKeys;
use dstore::services::engine::notices::Notices;
use dstore::services::engine::{Engine, EngineOptions, EngineParts, MemberStart};
use dstore::services::group::host::{Groups, GroupsParts};
use dstore::services::group::network::{GroupNetworks, NetworkOptions};
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::services::replicated::ReplicatedRanges;
use dstore::storage::keys::FileKeys;
use dstore::storage::log::SystemDisk;
use dstore::storage::node_database::{ReplicaRecord, ReplicaState};
use dstore::storage::sqlite::keeper::{KeeperOptions, SqliteKeeper};
use dstore::storage::sqlite::node_database::SqliteNodeDatabase;
use dstore::storage::sqlite::range_store::FileOptions;
use dstore::storage::store::ReplicaName;
use dstore::transport::links::{LinkOptions, Links};
use dstore::transport::memory::MemoryNetwork;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of an item, about.
const ITEM_BYTES: usize = 1024;
/// Items that each writer writes, one after the other and again.
const ITEMS: u64 = 100;

/// What one way of committing costs.
pub struct Cost {
    /// Entries that were applied and answered.
    pub entries: u64,
    /// CPU of this process for each, in microseconds.
    pub cpu_us: f64,
    /// Entries to one sync of the log.
    pub entries_per_sync: f64,
}

/// Both ways.
pub struct GroupOfOne {
    /// Committed when durable.
    pub short_cut: Cost,
    /// Through openraft.
    pub raft: Cost,
}

/// Measures both, in a runtime of its own with as many threads as the machine has cores.
pub fn measure(options: &Options) -> Result<GroupOfOne, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    dstore::storage::vfs::register(ambient::random())?;
    // Alternating, so that a disturbance meets both.
    let mut runs: [Vec<Cost>; 2] = Default::default();
    for round in 0..3 {
        for (runs, is_group) in runs.iter_mut().zip([false, true]) {
            let folder = fresh_folder(&options.data, &format!("group-{is_group}-{round}"))?;
            let _inside = runtime.enter();
            let node = Node::open(&folder, is_group)?;
            runs.push(runtime.block_on(run(options, &node))?);
            runtime.block_on(node.groups.stop());
            node.engine.stop();
        }
    }
    let [short_cut, raft] = runs.map(median);
    Ok(GroupOfOne { short_cut, raft })
}

fn median(mut runs: Vec<Cost>) -> Cost {
    runs.sort_by(|left, right| left.cpu_us.total_cmp(&right.cpu_us));
    runs.swap_remove(runs.len() / 2)
}

/// A node with one range, and nothing else.
struct Node {
    engine: Arc<Engine>,
    groups: Arc<Groups>,
    ranges: Arc<ReplicatedRanges>,
}

const PLANE: PlaneId = PlaneId(uuid(1));
const NODE: NodeId = NodeId(uuid(2));
const TENANT: TenantId = TenantId(uuid(3));
const TABLE: TableId = TableId(uuid(4));
const RANGE: RangeId = RangeId(uuid(5));
const REPLICA: ReplicaId = ReplicaId(uuid(6));

const fn uuid(byte: u8) -> uuid::Uuid {
    uuid::Uuid::from_bytes([byte; 16])
}

impl Node {
    /// Over a new folder; its range has one copy, as a member of a group or without one.
    fn open(folder: &Path, is_group: bool) -> Result<Self, Failure> {
        let random = ambient::random();
        let single = |byte| PartVersions::single(1, Key256::new([byte; 32]));
        let keys = Arc::new(NodeKeys::new(single(1), single(2)));
        keys.add_tenant_at_node(TENANT, 1, Key256::new([3; 32]));
        keys.add_tenant_at_control(TENANT, 1, Key256::new([4; 32]));
        let keys: Arc<dyn FileKeys> = keys;
        let settings = NodeSettings::default();
        let engine = Engine::open(parts(folder, &keys, &random, &settings)?, engine_options(folder, &settings))?;
        let carrier = MemoryNetwork::direct().carrier(NODE);
        let links = Arc::new(Links::new(carrier, tokio::runtime::Handle::current(), LinkOptions::default()));
        let networks = GroupNetworks::new(links, &*random, NetworkOptions::default());
        let groups = Groups::new(GroupsParts { node: NODE, engine: Arc::clone(&engine), networks, random })?;
        groups.start();
        if is_group {
            let alone = Membership::founding([(REPLICA, NODE)]);
            engine.create_member(&record(), MemberStart::Founding(alone))?;
        } else {
            engine.create_replica(&record())?;
        }
        let ranges = Arc::new(ReplicatedRanges::new(Arc::clone(&engine), Arc::clone(&groups)));
        Ok(Self { engine, groups, ranges })
    }
}

fn parts(
    folder: &Path,
    keys: &Arc<dyn FileKeys>,
    random: &Arc<dyn Random>,
    settings: &NodeSettings,
) -> Result<EngineParts, Failure> {
    let keeper_options = KeeperOptions {
        open_files_max: settings.open_files_max,
        file: FileOptions { cache_pages: settings.cache_pages, readers_max: settings.read_threads },
    };
    let (keys, random) = (Arc::clone(keys), Arc::clone(random));
    let keeper =
        SqliteKeeper::new(folder.to_owned(), PLANE, NODE, Arc::clone(&keys), Arc::clone(&random), keeper_options);
    let nonces = NonceSource::new(Arc::clone(&random));
    Ok(EngineParts {
        keeper: Arc::new(keeper),
        database: SqliteNodeDatabase::open(folder, PLANE, NODE, Arc::clone(&keys), Arc::clone(&random))?,
        log_keys: Arc::new(CommitLogKeys::new(PLANE, NODE, keys, nonces)),
        disk: Arc::new(SystemDisk),
        clock: ambient::clock(),
        random,
        notices: Arc::new(Notices::default()),
    })
}

fn engine_options(folder: &Path, settings: &NodeSettings) -> EngineOptions {
    EngineOptions {
        log_folder: folder.join("log"),
        log: settings.log.clone(),
        flush: settings.flush,
        admission: settings.admission,
        cache_bytes: settings.cache_bytes,
        apply_lanes: 1,
        read_threads: settings.read_threads,
        reads_waiting_max: settings.admission.writes_max,
    }
}

fn record() -> ReplicaRecord {
    let table = TableDefinition {
        tenant_id: TENANT,
        tenant: TenantName::new("bench").expect("a name"),
        id: TABLE,
        name: TableName::new("items").expect("a name"),
        specification: TableSpecification::new(KeyType::String),
        created_at: Timestamp(0),
        version: 1,
        option_times: OptionTimes::default(),
    };
    ReplicaRecord {
        name: ReplicaName { tenant: TENANT, table: TABLE, range: RANGE, replica: REPLICA },
        hashes: HashRange::FULL,
        table,
        epoch: 1,
        durable_index: 0,
        quantity: 0,
        state: ReplicaState::Serving,
        group_file: None,
    }
}

async fn run(options: &Options, node: &Node) -> Result<Cost, Failure> {
    eprintln!("bench: one copy, {}", if node.engine.group_replica(RANGE).is_some() { "a group" } else { "no group" });
    let pid = std::process::id();
    let used = || server_cpu::seconds(pid).ok_or("no CPU time of this process");
    let syncs = || node.engine.log().counters().syncs;
    writers(node, options.connections, Duration::from_secs(options.warm_up)).await?;
    let (cpu_before, syncs_before) = (used()?, syncs());
    let entries = writers(node, options.connections, Duration::from_secs(options.seconds)).await?;
    let (cpu, syncs) = (used()? - cpu_before, syncs() - syncs_before);
    let each = entries.max(1) as f64;
    Ok(Cost { entries, cpu_us: cpu * 1e6 / each, entries_per_sync: each / syncs.max(1) as f64 })
}

/// Writes from so many tasks for so long; how many writes were answered.
async fn writers(node: &Node, count: usize, time: Duration) -> Result<u64, Failure> {
    let end = Instant::now() + time;
    let entries = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..count {
        let (ranges, entries) = (Arc::clone(&node.ranges), Arc::clone(&entries));
        tasks.spawn(async move {
            let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(ITEM_BYTES));
            let document = Document::from_json(text.as_bytes()).map_err(|error| error.to_string())?;
            for number in 0.. {
                if Instant::now() >= end {
                    break;
                }
                let key = PackedKey::new(&KeyValue::String(format!("{writer}-{}", number % ITEMS).into()), None);
                let (change, preconditions) = (Change::Put(document.clone()), Preconditions::default());
                let operation =
                    Operation { key, change, preconditions, conditional: None, request: None, receipt: None };
                let address = RangeAddress { table: TABLE, range: RANGE };
                ranges.write(address, operation, false).await.map_err(|refusal| refusal.to_string())?;
                entries.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(entries.load(Ordering::Relaxed))
}
