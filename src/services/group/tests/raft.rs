//! openraft itself on a node's log and machine: a range that served alone becomes a group, a second replica is filled by
//! a snapshot and follows, and what is purged is missed by nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{AnyError, Config, Raft, RaftNetworkFactory, SnapshotPolicy};
use parking_lot::Mutex;

use super::*;
use crate::services::group::pieces::{PieceTarget, Wanted};
use crate::services::group::snapshot::{GroupSnapshot, SnapshotData};
use crate::services::group::types::{Applied, Vote};
use crate::services::ranges::RangeService;

type TestRaft = Raft<Types, GroupMachine>;

/// Members of one group, which call each other directly.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<BTreeMap<ReplicaId, (TestRaft, Arc<Engine>, RangeId)>>>);

struct Client {
    peers: Peers,
    target: ReplicaId,
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Client;

    async fn new_client(&mut self, target: ReplicaId, _node: &NodeId) -> Client {
        Client { peers: self.clone(), target }
    }
}

fn unreachable(error: impl std::fmt::Display) -> Unreachable<Types> {
    Unreachable::new(&AnyError::error(error))
}

impl Client {
    fn peer(&self) -> Result<(TestRaft, Arc<Engine>, RangeId), Unreachable<Types>> {
        self.peers.0.lock().get(&self.target).cloned().ok_or_else(|| unreachable("it sleeps"))
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (raft, ..) = self.peer()?;
        raft.append_entries(rpc).await.map_err(|error| unreachable(error).into())
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, _: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let (raft, ..) = self.peer()?;
        raft.vote(rpc).await.map_err(|error| unreachable(error).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: GroupSnapshot,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let (raft, engine, range) = self.peer()?;
        let replica = engine.group_replica(range).ok_or_else(|| unreachable("it is gone"))?;
        let mut source = snapshot.snapshot.open().map_err(unreachable)?;
        let mut target = Box::new(engine.snapshot_target(&replica));
        let mut wanted = Wanted::Piece(0);
        while let Wanted::Piece(number) = wanted {
            let piece = source.piece(number).map_err(unreachable)?.ok_or_else(|| unreachable("it ends early"))?;
            wanted = target.take(&piece).map_err(unreachable)?;
        }
        let received = target.finish().map_err(unreachable)?;
        Ok(raft.install_full_snapshot(vote, received).await.map_err(unreachable)?)
    }
}

async fn run(peers: &Peers, node: &Node, range_number: u8, parts: GroupParts) -> TestRaft {
    let config = Config {
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_elect: false,
        // A leader that no majority answered for as long as the longest election takes no writes: a busy machine takes long.
        heartbeat_interval: 500,
        election_timeout_min: 10_000,
        election_timeout_max: 20_000,
        ..Config::default()
    };
    let id = parts.replica.name.replica;
    let config = Arc::new(config.validate().unwrap());
    let raft = Raft::new(id, config, peers.clone(), parts.log, parts.machine).await.unwrap();
    peers.0.lock().insert(id, (raft.clone(), node.engine.clone(), range(range_number)));
    raft
}

fn write(index_of_clock: u64, operation: &Operation) -> Proposed {
    Proposed(crate::replication::entry::encode(Timestamp(index_of_clock * 1_000_000), operation))
}

/// Writes; a new leader takes nothing until a majority has answered it for the first time.
async fn wait_until_written(leader: &TestRaft, proposed: Proposed) -> openraft::raft::ClientWriteResponse<Types> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match leader.client_write(proposed.clone()).await {
            Ok(answer) => return answer,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_range_that_served_alone_gets_a_second_replica() {
    let (first, second) = (Ground::files(), Ground::simulated());
    let (one, other) = (first.start(), second.start());
    one.engine.create_replica(&record(1)).unwrap();
    for number in 0..30 {
        one.engine.write(address(1), put(&format!("k{number}"), "{}"), false).await.unwrap();
    }
    one.engine.begin_group(range(1), NODE).await.unwrap();
    let mut joining = record(1);
    joining.name.replica = replica_id(2);
    other.engine.create_member(&joining, MemberStart::Joining).unwrap();

    let peers = Peers::default();
    let leader = run(&peers, &one, 1, one.wake(1).await).await;
    let follower = run(&peers, &other, 1, other.wake(1).await).await;
    let patience = Some(Duration::from_secs(20));
    leader.trigger().elect(false).await.unwrap();
    leader.wait(patience).current_leader(replica_id(1), "it is alone").await.unwrap();
    leader.add_learner(replica_id(2), NODE, true).await.unwrap();
    leader.change_membership(BTreeSet::from([replica_id(1), replica_id(2)]), false).await.unwrap();
    for number in 0..10 {
        let answer = leader.client_write(write(number, &put(&format!("n{number}"), "{}"))).await.unwrap();
        assert!(matches!(answer.data, Applied::Outcome(..)));
    }
    let last = one.engine.group_replica(range(1)).unwrap().applied_index();
    follower.wait(patience).applied_index_at_least(Some(last), "it follows").await.unwrap();
    let replicas = [one.engine.group_replica(range(1)).unwrap(), other.engine.group_replica(range(1)).unwrap()];
    let digests = replicas.clone().map(|replica| replica.digest(&HashRange::FULL).unwrap());
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0].items, 40);

    // What is in the file can be purged, once openraft knows that it is.
    leader.trigger().snapshot().await.unwrap();
    let in_file = replicas[0].machine_in_file().unwrap().applied;
    leader.wait(patience).snapshot(log_id(in_file), "the file stands for it").await.unwrap();
    leader.trigger().purge_log(in_file.index).await.unwrap();
    leader.wait(patience).purged(Some(log_id(in_file)), "nobody misses it").await.unwrap();

    // Asleep and awake again, it goes on.
    for raft in [&leader, &follower] {
        raft.shutdown().await.unwrap();
    }
    peers.0.lock().clear();
    replicas[0].rest(0);
    let leader = run(&peers, &one, 1, one.wake(1).await).await;
    let follower = run(&peers, &other, 1, other.wake(1).await).await;
    leader.trigger().elect(false).await.unwrap();
    leader.wait(patience).current_leader(replica_id(1), "both are there").await.unwrap();
    let answer = wait_until_written(&leader, write(99, &put("last", "{}"))).await;
    follower.wait(patience).applied_index_at_least(Some(answer.log_id.index), "it follows").await.unwrap();
    let digests = replicas.map(|replica| replica.digest(&HashRange::FULL).unwrap());
    assert_eq!(digests[0], digests[1]);
    for raft in [&leader, &follower] {
        raft.shutdown().await.unwrap();
    }
}
