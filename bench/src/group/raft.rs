//! The same through openraft: its log store on the commit log, its state machine a counter.

use super::{Append, Bytes, CommitLog, Committed, Failure, Group, GroupSink, open_log, record};
use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::{
    BasicNode, Entry, EntryPayload, LogId, OptionalSend, RaftLogReader, RaftSnapshotBuilder, RaftTypeConfig,
    SnapshotMeta, StorageError, StorageIOError, StoredMembership, Vote,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

openraft::declare_raft_types!(
    /// Entries are opaque bytes, answers are nothing.
    pub Types:
        D = Payload,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        Entry = Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

type NodeId = <Types as RaftTypeConfig>::NodeId;
type Stored<T> = Result<T, StorageError<NodeId>>;

/// The bytes of an entry.
#[derive(Debug, Clone)]
pub struct Payload(Bytes);

/// A group of one under openraft.
#[derive(Clone)]
pub struct Raft {
    raft: openraft::Raft<Types>,
    log: Arc<CommitLog<Flushed>>,
}

impl Raft {
    /// Over a new log in this folder, already leading.
    pub async fn open(folder: &Path) -> Result<Self, Failure> {
        let log = Arc::new(open_log(folder, Arc::new(Sink) as Arc<dyn GroupSink<Flushed>>)?);
        // Nobody votes against it; and snapshots are another matter.
        let config = openraft::Config {
            enable_elect: false,
            enable_heartbeat: false,
            snapshot_policy: openraft::SnapshotPolicy::Never,
            ..openraft::Config::default()
        };
        let store = LogStore { log: Arc::clone(&log), memory: Arc::default() };
        let raft =
            openraft::Raft::new(1, Arc::new(config.validate()?), Nowhere, store, StateMachine::default()).await?;
        raft.initialize(BTreeMap::from([(1, BasicNode::new("here"))])).await?;
        let leading = raft.wait(Some(std::time::Duration::from_secs(10)));
        leading.current_leader(1, "a group of one leads itself").await?;
        Ok(Self { raft, log })
    }
}

impl Group for Raft {
    async fn propose(&self, payload: Bytes) -> Result<(), String> {
        self.raft.client_write(Payload(payload)).await.map(|_| ()).map_err(|error| error.to_string())
    }

    fn syncs(&self) -> u64 {
        self.log.stats().syncs
    }
}

/// Who is to be told that an append is durable: the last record of it carries this.
type Flushed = Option<LogFlushed<Types>>;

struct Sink;

impl GroupSink<Flushed> for Sink {
    fn group_committed(&self, group: Vec<Committed<Flushed>>) {
        for flushed in group.into_iter().filter_map(|committed| committed.companion) {
            flushed.log_io_completed(Ok(()));
        }
    }
}

#[derive(Default)]
struct Memory {
    entries: BTreeMap<u64, Entry<Types>>,
    vote: Option<Vote<NodeId>>,
    purged: Option<LogId<NodeId>>,
}

#[derive(Clone)]
struct LogStore {
    log: Arc<CommitLog<Flushed>>,
    memory: Arc<Mutex<Memory>>,
}

impl LogStore {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry<Types>>> {
        Ok(self.memory().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        let memory = self.memory();
        let last = memory.entries.last_key_value().map(|(_, entry)| entry.log_id).or(memory.purged);
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Stored<()> {
        self.memory().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<NodeId>>> {
        Ok(self.memory().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut appends = Vec::new();
        {
            let mut memory = self.memory();
            for entry in entries {
                let payload = match &entry.payload {
                    EntryPayload::Normal(Payload(bytes)) => bytes.clone(),
                    EntryPayload::Blank | EntryPayload::Membership(_) => Bytes::from_static(b"none"),
                };
                // The log counts from 1, openraft from 0.
                let record = record(entry.log_id.index + 1, payload);
                appends.push(Append { record, urgent: false, companion: None });
                memory.entries.insert(entry.log_id.index, entry);
            }
        }
        if let Some(last) = appends.last_mut() {
            last.companion = Some(callback);
        }
        self.log.append(appends).map_err(|refused| StorageIOError::write_logs(&refused.reason).into())
    }

    async fn truncate(&mut self, log_id: LogId<NodeId>) -> Stored<()> {
        self.memory().entries.split_off(&log_id.index);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<NodeId>) -> Stored<()> {
        let mut memory = self.memory();
        memory.entries = memory.entries.split_off(&(log_id.index + 1));
        memory.purged = Some(log_id);
        Ok(())
    }
}

#[derive(Default)]
struct StateMachine {
    bytes_applied: u64,
    last: Option<LogId<NodeId>>,
    membership: StoredMembership<NodeId, BasicNode>,
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> Stored<(Option<LogId<NodeId>>, StoredMembership<NodeId, BasicNode>)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(Payload(bytes)) => self.bytes_applied += bytes.len() as u64,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            self.last = Some(entry.log_id);
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Cursor<Vec<u8>>>> {
        Err(no_snapshots())
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<NodeId, BasicNode>,
        _snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Stored<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        Ok(None)
    }
}

/// One member never sends nor receives a snapshot.
struct NoSnapshots;

impl RaftSnapshotBuilder<Types> for NoSnapshots {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        Err(no_snapshots())
    }
}

fn no_snapshots() -> StorageError<NodeId> {
    StorageIOError::read_snapshot(None, &std::io::Error::other("a group of one has no snapshots")).into()
}

/// There is nobody to send to.
#[derive(Clone, Copy)]
struct Nowhere;

impl RaftNetworkFactory<Types> for Nowhere {
    type Network = Self;

    async fn new_client(&mut self, _target: NodeId, _node: &BasicNode) -> Self {
        *self
    }
}

fn unreachable<E: std::error::Error>() -> RPCError<NodeId, BasicNode, E> {
    RPCError::Unreachable(Unreachable::new(&std::io::Error::other("a group of one has no peers")))
}

impl RaftNetwork<Types> for Nowhere {
    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RPCError<NodeId, BasicNode, RaftError<NodeId>>> {
        Err(unreachable())
    }

    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, RPCError<NodeId, BasicNode, RaftError<NodeId, InstallSnapshotError>>>
    {
        Err(unreachable())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<NodeId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RPCError<NodeId, BasicNode, RaftError<NodeId>>> {
        Err(unreachable())
    }
}
