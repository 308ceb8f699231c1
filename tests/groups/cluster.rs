//! Nodes that share one range, and a client that follows the hints it gets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dstore::crypto::Key256;
use dstore::crypto::cipher::NonceSource;
use dstore::domain::document::Document;
use dstore::domain::hash::HashRange;
use dstore::domain::ids::{NodeId, PlaneId, RangeId, ReplicaId, TableId, TenantId};
use dstore::domain::key::{KeyType, KeyValue, PackedKey};
use dstore::domain::table::{TableDefinition, TableSpecification};
use dstore::domain::table_options::OptionTimes;
use dstore::domain::watermark::Watermark;
use dstore::domain::{Refusal, RefusalKind, TableName, TenantName, Timestamp};
use dstore::replication::membership::Membership;
use dstore::replication::operation::{Change, Operation, Outcome, Preconditions, RequestIdentity};
use dstore::replication::request_id;
use dstore::roles::ambient;
use dstore::services::engine::admission::AdmissionLimits;
use dstore::services::engine::flusher::FlushBudget;
use dstore::services::engine::keys::{NodeKeys, PartVersions};
use dstore::services::engine::log_keys::CommitLogKeys;
use dstore::services::engine::notices::Notices;
use dstore::services::engine::{Engine, EngineOptions, EngineParts, MemberStart};
use dstore::services::group::host::{Groups, GroupsParts};
use dstore::services::group::incoming::Incoming;
use dstore::services::group::network::{GroupNetworks, NetworkOptions};
use dstore::services::group::ports::{GroupOperations, GroupStatus};
use dstore::services::ports::{Consistency, WriteAnswer};
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::services::replicated::ReplicatedRanges;
use dstore::services::rolled_back::{OwnBoots, follow_objections};
use dstore::storage::keys::FileKeys;
use dstore::storage::log::{LogOptions, SystemDisk};
use dstore::storage::memory::MemoryKeeper;
use dstore::storage::node_database::{NodeDatabase, ReplicaRecord, ReplicaState};
use dstore::storage::sqlite::keeper::{KeeperOptions, SqliteKeeper};
use dstore::storage::sqlite::node_database::SqliteNodeDatabase;
use dstore::storage::sqlite::range_store::FileOptions;
use dstore::storage::store::{ReplicaName, StoreKeeper};
use dstore::transport::links::{Inbox, LinkOptions, Links};
use dstore::transport::memory::MemoryNetwork;

use crate::gate::{Gate, GatedKeeper};

pub const PLANE: PlaneId = PlaneId(uuid::Uuid::from_bytes([7; 16]));
pub const TENANT: TenantId = TenantId(uuid::Uuid::from_bytes([1; 16]));
pub const RANGE: RangeId = RangeId(uuid::Uuid::from_bytes([3; 16]));
/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn node_id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

pub fn replica_id(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([0x10 | number; 16])
}

pub fn address() -> RangeAddress {
    RangeAddress { table: TableId::from_bytes([2; 16]), range: RANGE }
}

/// What of a node outlives its process.
struct Disks {
    folder: tempfile::TempDir,
    /// None: its ranges are in files.
    memory: Option<Arc<MemoryKeeper>>,
    gate: Arc<Gate>,
}

/// A node that runs.
pub struct Node {
    pub engine: Arc<Engine>,
    pub groups: Arc<Groups>,
    pub ranges: Arc<ReplicatedRanges>,
    pub links: Arc<Links>,
    pub database: Arc<dyn NodeDatabase>,
    pub notices: Arc<Notices>,
    pub keys: Arc<NodeKeys>,
    pub boots: Arc<OwnBoots>,
    objections: tokio::task::JoinHandle<()>,
    _inbox: Arc<dyn Inbox>,
}

/// See the module's essay.
pub struct Cluster {
    pub network: MemoryNetwork,
    pub nodes: BTreeMap<u8, Node>,
    disks: BTreeMap<u8, Disks>,
    /// Free space on the disk, in bytes, under which nodes that start from now on take it for nearly full.
    pub disk_notice: u64,
    /// Bytes of a segment of the commit log, for nodes that start from now on.
    segment_bytes: u64,
    /// How many times a write was asked again because its outcome was not known.
    asked_again: AtomicU64,
}

impl Cluster {
    /// Nodes 1 to `count`, without ranges.
    pub fn new(count: u8) -> Self {
        let (network, nodes, disks) = (MemoryNetwork::direct(), BTreeMap::new(), BTreeMap::new());
        let asked_again = AtomicU64::new(0);
        let mut cluster = Self { network, nodes, disks, disk_notice: 1, segment_bytes: 1 << 20, asked_again };
        (1..=count).for_each(|number| cluster.add(number));
        cluster
    }

    /// A node more.
    pub fn add(&mut self, number: u8) {
        self.add_on(number, Some(Arc::new(MemoryKeeper::default())));
    }

    /// A node more, with its ranges in memory or in files.
    fn add_on(&mut self, number: u8, memory: Option<Arc<MemoryKeeper>>) {
        let disks = Disks { folder: tempfile::tempdir().unwrap(), memory, gate: Arc::default() };
        self.disks.insert(number, disks);
        self.start(number);
    }

    /// Nodes that share a range from the beginning, in files.
    pub fn on_files(count: u8) -> Self {
        Self::on_files_and_segments(count, 1 << 20)
    }

    /// The same, with segments of so many bytes in their commit logs.
    pub fn on_files_and_segments(count: u8, segment_bytes: u64) -> Self {
        let mut cluster = Self { segment_bytes, ..Self::new(0) };
        (1..=count).for_each(|number| cluster.add_on(number, None));
        cluster.found(count);
        cluster
    }

    /// The folder of a node's files.
    pub fn folder_of(&self, number: u8) -> std::path::PathBuf {
        self.disks[&number].folder.path().join(PLANE.to_string())
    }

    /// The file of a node's first copy of the range.
    pub fn file_of(&self, number: u8) -> std::path::PathBuf {
        let name = record(number).name;
        self.folder_of(number).join(format!("{}/{}/{}.db", name.tenant, name.table, name.replica))
    }

    /// Copies what a node has on its disk as it is now.
    pub fn copy_of(&self, number: u8) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(self.disks[&number].folder.path(), copy.path());
        copy
    }

    /// Puts a copy in the place of what a node that does not run has on its disk.
    pub fn put_back(&self, number: u8, copy: &tempfile::TempDir) {
        assert!(!self.nodes.contains_key(&number));
        let folder = self.disks[&number].folder.path();
        std::fs::remove_dir_all(folder.join(PLANE.to_string())).unwrap();
        copy_folder(copy.path(), folder);
    }

    /// Nodes that share a range from the beginning.
    pub fn with_range(count: u8) -> Self {
        let cluster = Self::new(count);
        cluster.found(count);
        cluster
    }

    fn found(&self, count: u8) {
        let members = (1..=count).map(|number| (replica_id(number), node_id(number)));
        let membership = Membership::founding(members);
        for (number, node) in &self.nodes {
            node.engine.create_member(&record(*number), MemberStart::Founding(membership.clone())).unwrap();
        }
    }

    /// Starts a node over what is there of it.
    pub fn start(&mut self, number: u8) {
        let disks = &self.disks[&number];
        let random = ambient::random();
        let keys = Arc::new(NodeKeys::new(single(1), single(2)));
        keys.add_tenant_at_node(TENANT, 1, Key256::new([0x81; 32]));
        keys.add_tenant_at_control(TENANT, 1, Key256::new([0x42; 32]));
        let file_keys: Arc<dyn FileKeys> = keys.clone();
        dstore::storage::vfs::register(random.clone()).unwrap();
        let (path, node) = (disks.folder.path(), node_id(number));
        let of_plane = path.join(PLANE.to_string());
        std::fs::create_dir_all(&of_plane).unwrap();
        let boots = dstore::roles::boots::begin(&of_plane, &*ambient::clock(), &*random).unwrap();
        let database: Arc<dyn NodeDatabase> =
            SqliteNodeDatabase::open(path, PLANE, node, file_keys.clone(), random.clone()).unwrap();
        let notices = Arc::new(Notices::default());
        let keeper: Arc<dyn StoreKeeper> = match &disks.memory {
            Some(memory) => memory.clone(),
            None => Arc::new(files(path, node, &file_keys, &random)),
        };
        let parts = EngineParts {
            keeper: Arc::new(GatedKeeper { inner: keeper, gate: disks.gate.clone() }),
            database: database.clone(),
            log_keys: Arc::new(CommitLogKeys::new(PLANE, node, file_keys, NonceSource::new(random.clone()))),
            disk: Arc::new(SystemDisk),
            clock: ambient::clock(),
            random: random.clone(),
            notices: notices.clone(),
        };
        let engine = Engine::open(parts, options(&of_plane, self.disk_notice, self.segment_bytes)).unwrap();
        let links =
            Arc::new(Links::new(self.network.carrier(node), tokio::runtime::Handle::current(), LinkOptions::default()));
        let networks = GroupNetworks::new(links.clone(), &*random, NetworkOptions::default());
        let parts = GroupsParts { node, engine: engine.clone(), networks: networks.clone(), random };
        let groups = Groups::new(parts).unwrap();
        groups.set_boots(boots.clone());
        let objections = tokio::spawn(follow_objections(engine.clone(), groups.clone()));
        let inbox: Arc<dyn Inbox> = Arc::new(Incoming::new(networks, groups.clone()));
        self.network.attach(node, &inbox);
        groups.start();
        let ranges = Arc::new(ReplicatedRanges::new(engine.clone(), groups.clone()));
        let node = Node { engine, groups, ranges, links, database, notices, keys, boots, objections, _inbox: inbox };
        self.nodes.insert(number, node);
    }

    /// What new stores of a node have to pass.
    pub fn gate(&self, number: u8) -> &Gate {
        &self.disks[&number].gate
    }

    /// Takes a node from the network and ends it. What it had not brought into its stores for good is taken from the log.
    pub async fn kill(&mut self, number: u8) {
        self.network.detach(node_id(number));
        let node = self.nodes.remove(&number).unwrap();
        node.objections.abort();
        assert!(node.objections.await.is_err());
        node.groups.stop().await;
        let engine = node.engine;
        tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
        if let Some(memory) = &self.disks[&number].memory {
            memory.cut_power();
        }
    }

    /// Nothing goes between this node and the others any more.
    pub fn isolate(&self, number: u8) {
        for other in self.nodes.keys().filter(|other| **other != number) {
            self.network.cut(node_id(number), node_id(*other));
            self.network.cut(node_id(*other), node_id(number));
        }
    }

    pub fn status(&self, number: u8) -> Option<GroupStatus> {
        self.nodes.get(&number)?.groups.status(RANGE)
    }

    /// Who leads, where somebody does, in the highest term.
    pub fn leader(&self) -> Option<u8> {
        self.leading().map(|(leader, _)| leader)
    }

    /// The same, and the term.
    pub fn leading(&self) -> Option<(u8, u64)> {
        let leading = self.nodes.keys().filter_map(|number| {
            self.status(*number).filter(|status| status.is_leader).map(|status| (status.term, *number))
        });
        leading.max().map(|(term, number)| (number, term))
    }

    /// Waits until somebody leads.
    pub async fn eventually_led(&self) -> u8 {
        let found = eventually("somebody leads", || self.leader());
        found.await
    }

    /// Waits until somebody leads in this term or a later one: the leader, and its term.
    pub async fn eventually_led_since(&self, term: u64) -> (u8, u64) {
        let found = eventually("somebody leads", || self.leading().filter(|(_, now)| *now >= term));
        found.await
    }

    /// Waits until one leads whom all others follow, and all have applied all that it has, as it knows: the leader, and its
    /// term. All have heard of what was written last.
    pub async fn eventually_followed(&self) -> (u8, u64) {
        let found = eventually("all follow one leader", || {
            let leader = self.leader()?;
            let led = self.status(leader)?;
            let all_of_it = (led.term, Some(led.replica), led.last_index);
            let follows = |number: &u8| {
                self.status(*number).is_some_and(|status| (status.term, status.leader, status.applied) == all_of_it)
            };
            let is_known = led.matched.values().all(|index| *index == led.last_index);
            (is_known && self.nodes.keys().all(follows)).then_some((leader, led.term))
        });
        found.await
    }

    /// A client's call: asks one node after the other, follows hints, and asks again where nobody leads.
    pub async fn call<T, F>(&self, ask: impl Fn(Arc<ReplicatedRanges>) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut turn = self.nodes.keys().cycle();
        let mut next = self.leader();
        loop {
            let number = next.take().unwrap_or_else(|| *turn.next().unwrap());
            let refusal = match ask(self.nodes[&number].ranges.clone()).await {
                Err(refusal) if matches!(refusal.kind, RefusalKind::WrongNode | RefusalKind::Unavailable) => refusal,
                other => return other,
            };
            assert!(tokio::time::Instant::now() < deadline, "{refusal:?}");
            let hint = refusal.leader.map(|node| node.as_bytes()[0]);
            next = hint.filter(|hint| self.nodes.contains_key(hint) && *hint != number);
            if next.is_none() {
                wait_a_little().await;
            }
        }
    }

    /// Under an id, as proxies write: where it is not known how it ended because another was elected meanwhile, it is asked
    /// again, and happens once.
    pub async fn write(&self, operation: Operation) -> Result<WriteAnswer, Refusal> {
        let mut dice = [0; 8];
        ambient::random().fill(&mut dice);
        let own = RequestIdentity::Proxy(request_id::make(ambient::clock().now(), dice));
        let operation = Operation { request: operation.request.or(Some(own)), ..operation };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let term = self.leading().map_or(0, |(_, term)| term);
            let answer = self.call(|ranges| {
                let operation = operation.clone();
                async move { ranges.write(address(), operation, false).await }
            });
            match answer.await {
                Err(refusal) if refusal.kind == RefusalKind::OutcomeUnknown => {
                    assert!(tokio::time::Instant::now() < deadline, "{refusal:?}");
                    // The old leader may know of it before the next one tells itself.
                    let is_elected = || self.leading().filter(|(_, now)| *now > term);
                    eventually("an outcome is unknown, and another is elected", is_elected).await;
                    self.asked_again.fetch_add(1, Ordering::SeqCst);
                }
                answer => return answer,
            }
        }
    }

    /// How many times a write was asked again because its outcome was not known.
    pub fn asked_again(&self) -> u64 {
        self.asked_again.load(Ordering::SeqCst)
    }

    pub async fn put(&self, id: &str, text: &str) -> Outcome {
        match self.write(put(id, text)).await.expect("the write is answered") {
            WriteAnswer::Applied(outcome) => outcome,
            WriteAnswer::Queued => panic!("nobody asked for that"),
        }
    }

    pub async fn read(&self, id: &str) -> Option<String> {
        let read = self.call(|ranges| async move { ranges.read(address(), packed(id), Consistency::Strong).await });
        read.await.expect("the read is answered").map(|item| item.document.to_json())
    }

    pub async fn stop(self) {
        for node in self.nodes.into_values() {
            node.groups.stop().await;
            let engine = node.engine;
            tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
        }
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Waits until there is something.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        wait_a_little().await;
    }
}

pub async fn wait_a_little() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn files(
    folder: &std::path::Path,
    node: NodeId,
    keys: &Arc<dyn FileKeys>,
    random: &Arc<dyn dstore::domain::Random>,
) -> SqliteKeeper {
    let file = FileOptions { cache_pages: 16, readers_max: 4 };
    let options = KeeperOptions { open_files_max: 16, file };
    SqliteKeeper::new(folder.to_owned(), PLANE, node, keys.clone(), random.clone(), options)
}

fn single(byte: u8) -> PartVersions {
    PartVersions::single(1, Key256::new([byte; 32]))
}

fn options(folder: &std::path::Path, disk_notice: u64, segment_bytes: u64) -> EngineOptions {
    EngineOptions {
        log_folder: folder.join("log"),
        log: LogOptions { segment_bytes, budget_bytes: 64 << 20, reserve_bytes: 1 << 20, ..LogOptions::default() },
        flush: FlushBudget { memory_bytes_soft: 1 << 20, memory_bytes_hard: 8 << 20, checkpoint_bytes: 1 << 20 },
        admission: AdmissionLimits {
            disk_notice: Watermark::Bytes(disk_notice),
            disk_refuse: Watermark::Bytes(1),
            ..AdmissionLimits::default()
        },
        cache_bytes: 1 << 20,
        apply_lanes: 1,
        read_threads: 2,
        reads_waiting_max: 1000,
    }
}

pub fn record(number: u8) -> ReplicaRecord {
    let table = TableDefinition {
        tenant_id: TENANT,
        tenant: TenantName::new("acme").unwrap(),
        id: address().table,
        name: TableName::new("things").unwrap(),
        specification: TableSpecification::new(KeyType::String),
        created_at: Timestamp(0),
        version: 1,
        option_times: OptionTimes::default(),
    };
    ReplicaRecord {
        name: ReplicaName { tenant: TENANT, table: table.id, range: RANGE, replica: replica_id(number) },
        hashes: HashRange::FULL,
        table,
        epoch: 1,
        durable_index: 0,
        quantity: 0,
        state: ReplicaState::Serving,
        group_file: None,
    }
}

pub fn packed(id: &str) -> PackedKey {
    PackedKey::new(&KeyValue::String(id.into()), None)
}

pub fn put(id: &str, text: &str) -> Operation {
    Operation {
        key: packed(id),
        change: Change::Put(Document::from_json(text.as_bytes()).unwrap()),
        preconditions: Preconditions::default(),
        conditional: None,
        request: None,
        receipt: None,
    }
}
