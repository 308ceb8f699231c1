//! How a group's replicas reach each other: openraft's network, over messages that all groups of a node share.
//!
//! [`GroupNetworks`] is there once for a node, a [`GroupNetwork`] for each group that is awake, a [`GroupPeer`] for each
//! replica that it talks to. None of them has a task or a connection: a question is a message into the links
//! ([`crate::transport::links`]) and a place among the [`Questions`], and whoever asked waits.
//!
//! * Appends are pipelined: while the answer to one is awaited, the next is on its way, up to
//!   [`NetworkOptions::appends_under_way_max`]. Answers are handed on in the order of the questions; after one that says no,
//!   those behind it are forgotten, and openraft begins anew from what it knows.
//! * What only says how far is committed waits a while for entries to go with ([`commit_points`]).
//! * An append too large for a frame goes in parts, each of which is answered. So neither openraft's number of entries in a
//!   request nor the size of an item can make a message that never gets through.
//! * An answer that comes late is dropped. A question whose frame failed is answered at once, by ourselves.
//! * What is asked of us is not answered here: the group's host looks for the group, wakes it, and
//!   answers by [`GroupNetworks::answer`]. [`super::incoming`] sorts what comes in.
//! * Snapshots go piece by piece, on a lane of their own and within a number of bytes a second for the whole node
//!   ([`snapshot_sender`]).
//!
//! What kind of error openraft is told decides how it goes on: after `Unreachable` it waits, after `Network` and `Timeout` it
//! tries again at once, some ten times. A frame that failed is `Network` (the links pause by themselves); where
//! the peer said no or nothing could be sent, it is `Unreachable`.

mod commit_points;
mod reached;
mod snapshot_sender;
mod throttle;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::Instant;

use self::reached::{Reached, forgotten};
use self::throttle::Throttle;
use super::acknowledged::Acknowledged;
use super::append_times::Appended;
use super::convert::place_of;
use super::questions::{Between, Questions, Unanswered};
use super::snapshot::{GroupSnapshot, SnapshotData};
use super::types::{Types, Vote};
use super::wire::{Append, Asked, Envelope, Message, NodeMessage};
use crate::domain::Random;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::storage::workers::Workers;
use crate::transport::frames::FRAME_BYTES;
use crate::transport::links::{Lane, Links, NotSent, Undelivered};

/// How groups talk.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// How long an append may take at least, whatever openraft thinks: it would give one the time between two heartbeats,
    /// and a disk that hesitates is no lost message.
    pub append_timeout_min: Duration,
    /// How long a follower waits to be told how far is committed, where nothing else is told it; no longer than between two heartbeats.
    pub commit_pause: Duration,
    /// Appends to one replica whose answers are awaited.
    pub appends_under_way_max: usize,
    /// About the size at which an append goes in parts.
    pub append_bytes_max: usize,
    /// Questions of all groups that wait.
    pub questions_max: usize,
    /// Bytes of snapshots a second, for the whole node.
    pub snapshot_bytes_per_second: u64,
    /// How long a piece of a snapshot may take until it is asked for again.
    pub piece_timeout: Duration,
    /// How long the receiver may take to put a whole snapshot to use.
    pub install_timeout: Duration,
    /// Whether snapshots are read on threads.
    pub workers: Workers,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            append_timeout_min: Duration::from_secs(1),
            commit_pause: Duration::from_millis(50),
            appends_under_way_max: 16,
            append_bytes_max: FRAME_BYTES / 2,
            questions_max: 65_536,
            snapshot_bytes_per_second: 64 * 1024 * 1024,
            piece_timeout: Duration::from_secs(5),
            install_timeout: Duration::from_secs(60),
            workers: Workers::Threads,
        }
    }
}

/// See the module's essay.
pub struct GroupNetworks {
    links: Arc<Links>,
    questions: Arc<Questions>,
    options: NetworkOptions,
    snapshots: Throttle,
    snapshots_sent: AtomicU64,
}

impl GroupNetworks {
    /// The networks of this node's groups, over these links.
    pub fn new(links: Arc<Links>, random: &dyn Random, options: NetworkOptions) -> Arc<Self> {
        let questions = Questions::new(random, options.questions_max);
        let undelivered: Arc<dyn Undelivered> = questions.clone();
        links.tell_of_undelivered(Arc::downgrade(&undelivered));
        let snapshots = Throttle::new(options.snapshot_bytes_per_second);
        Arc::new(Self { links, questions, options, snapshots, snapshots_sent: AtomicU64::new(0) })
    }

    /// The network of one group, as its own replica has it.
    pub fn of(self: &Arc<Self>, range: RangeId, own: ReplicaId) -> GroupNetwork {
        GroupNetwork { networks: self.clone(), range, own, acknowledged: Arc::default(), reached: Arc::default() }
    }

    /// Answers a question of another node's replica. Where it cannot be sent, who asked will ask again.
    pub fn answer(&self, to: NodeId, asked: Asked, message: Message) {
        let _ = self.links.send(to, asked.answer(message).encode(), Lane::Small);
    }

    /// Takes in an answer that came from this node.
    pub fn answered(&self, from: NodeId, answer: Envelope) {
        self.questions.answered(from, answer);
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub fn ask(
        &self,
        between: Between,
        message: Message,
        time: Duration,
    ) -> impl Future<Output = Result<Message, Unanswered>> + Send + 'static + use<> {
        // It is sent now and not when it is first waited for: questions go in the order in which they are asked.
        let question = self.send_question(between, message);
        async move { question?.wait(time).await }
    }

    /// Tells a replica something that it does not answer.
    ///
    /// # Errors
    /// Where it was not sent.
    pub fn tell(&self, between: Between, message: Message) -> Result<(), NotSent> {
        let Between { range, own, peer, node } = between;
        let envelope = Envelope { range, from: own, to: peer, correlation: 0, message };
        self.links.send(node, envelope.encode(), Lane::Small)
    }

    /// Tells a node something.
    ///
    /// # Errors
    /// Where it was not sent.
    pub fn tell_node(&self, to: NodeId, message: NodeMessage) -> Result<(), NotSent> {
        self.links.send(to, message.encode(), Lane::Signs)
    }

    /// Questions that wait for answers, and answers so far that nobody waited for.
    pub fn counts(&self) -> (usize, u64) {
        (self.questions.waiting_count(), self.questions.stray_count())
    }

    /// Snapshots that other replicas have taken in from here.
    pub fn snapshots_sent(&self) -> u64 {
        self.snapshots_sent.load(Ordering::Relaxed)
    }

    /// What is sent goes over these.
    pub fn links(&self) -> &Links {
        &self.links
    }

    fn send_question(&self, between: Between, message: Message) -> Result<super::questions::Question, Unanswered> {
        let lane = if matches!(message, Message::SnapshotPiece(_)) { Lane::Bulk } else { Lane::Small };
        let question = self.questions.begin(between)?;
        let Between { range, own, peer, node } = between;
        let envelope = Envelope { range, from: own, to: peer, correlation: question.number(), message };
        self.links.send(node, envelope.encode(), lane)?;
        Ok(question)
    }
}

/// One group's network, for openraft.
pub struct GroupNetwork {
    networks: Arc<GroupNetworks>,
    range: RangeId,
    own: ReplicaId,
    acknowledged: Arc<Acknowledged>,
    reached: Arc<Reached>,
}

impl GroupNetwork {
    /// What the others have acknowledged of what was sent through this.
    pub fn acknowledged(&self) -> Arc<Acknowledged> {
        Arc::clone(&self.acknowledged)
    }
}

impl RaftNetworkFactory<Types> for GroupNetwork {
    type Network = GroupPeer;

    async fn new_client(&mut self, target: ReplicaId, node: &NodeId) -> GroupPeer {
        let between = Between { range: self.range, own: self.own, peer: target, node: *node };
        let (acknowledged, reached) = (self.acknowledged(), self.reached.clone());
        GroupPeer { networks: self.networks.clone(), between, acknowledged, reached }
    }
}

/// Another replica of a group, for openraft.
pub struct GroupPeer {
    networks: Arc<GroupNetworks>,
    between: Between,
    acknowledged: Arc<Acknowledged>,
    reached: Arc<Reached>,
}

impl GroupPeer {
    fn ask(
        &self,
        message: Message,
        time: Duration,
        action: RPCTypes,
    ) -> impl Future<Output = Result<Message, RPCError<Types>>> + Send + 'static + use<> {
        let (answer, between) = (self.networks.ask(self.between, message, time), self.between);
        async move { answer.await.map_err(|problem| rpc_error(problem, action, between)) }
    }

    /// Sends an append. Afterwards: how it ended, and whether those behind it count.
    fn append(
        &self,
        append: Append,
        time: Duration,
    ) -> impl Future<Output = (Result<StreamAppendResult<Types>, RPCError<Types>>, bool)> + Send + 'static + use<> {
        let (previous, last, vote) = (append.previous, append.last(), append.vote);
        let (acknowledged, peer, sent) = (self.acknowledged.clone(), self.between.peer, Instant::now());
        let answer = self.ask(Message::Append(append), time, RPCTypes::AppendEntries);
        let (networks, between, reached) = (self.networks.clone(), self.between, self.reached.clone());
        async move {
            let answer = match answer.await {
                Ok(Message::AppendAnswer(answer)) => answer,
                Ok(_) => return (Err(senseless()), false),
                Err(problem) => return (Err(problem), false),
            };
            if let Some(place) = forgotten(&reached, between.peer, vote, (previous, last), &answer) {
                let _ = networks.tell(between, Message::Forgotten(place_of(&place)));
                return (Err(senseless()), false);
            }
            let is_sound = match &answer {
                // Nothing can be in conflict with the beginning of the log.
                AppendEntriesResponse::Conflict => previous.is_some(),
                AppendEntriesResponse::PartialSuccess(reached) => (previous..=last).contains(reached),
                AppendEntriesResponse::Success | AppendEntriesResponse::HigherVote(_) => true,
            };
            if !is_sound {
                return (Err(senseless()), false);
            }
            let goes_on = match &answer {
                AppendEntriesResponse::Success => true,
                AppendEntriesResponse::PartialSuccess(reached) => *reached == last,
                AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => false,
            };
            if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                acknowledged.note(peer, vote.leader_id.term, sent);
            }
            if goes_on && acknowledged.times.is_watched() {
                let (sent, answered) = (sent.into_std(), std::time::Instant::now());
                let last = last.as_ref().map_or(0, |last| last.index);
                acknowledged.times.note(peer, Appended { last, sent, answered });
            }
            (Ok(answer.into_stream_result(previous, last)), goes_on)
        }
    }

    fn append_time(&self, option: &RPCOption) -> Duration {
        option.hard_ttl().max(self.networks.options.append_timeout_min)
    }
}

impl RaftNetworkV2<Types> for GroupPeer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let time = self.append_time(&option);
        let mut parts = Append::of(rpc).split(self.networks.options.append_bytes_max).into_iter();
        let Some(first) = parts.next() else { return Err(senseless()) };
        let (previous, last, vote) = (first.previous, first.last(), first.vote);
        let answer = self.ask(Message::Append(first), time, RPCTypes::AppendEntries).await?;
        if let Message::AppendAnswer(answer) = &answer
            && let Some(place) = forgotten(&self.reached, self.between.peer, vote, (previous, last), answer)
        {
            let _ = self.networks.tell(self.between, Message::Forgotten(place_of(&place)));
            return Err(senseless());
        }
        match answer {
            Message::AppendAnswer(AppendEntriesResponse::Success) if parts.next().is_some() => {
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            Message::AppendAnswer(answer) => Ok(answer),
            _ => Err(senseless()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let peer = &*self;
        let (time, options) = (peer.append_time(&option), &peer.networks.options);
        let shared = Box::pin(commit_points::shared(input, options.commit_pause));
        let parts = shared.flat_map(move |request| stream::iter(Append::of(request).split(options.append_bytes_max)));
        let answers = parts.map(move |append| peer.append(append, time)).buffered(options.appends_under_way_max.max(1));
        let until_it_ends = stream::unfold(Some(Box::pin(answers)), |answers| async move {
            let mut answers = answers?;
            let (answer, goes_on) = answers.next().await?;
            Some((answer, goes_on.then_some(answers)))
        });
        let boxed: BoxStream<'s, _> = Box::pin(until_it_ends);
        Box::pin(std::future::ready(Ok(boxed)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(Message::Vote(rpc), option.hard_ttl(), RPCTypes::Vote).await? {
            Message::VoteAnswer(answer) => Ok(answer),
            _ => Err(senseless()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(Message::PreVote(rpc), option.hard_ttl(), RPCTypes::Vote).await? {
            Message::PreVoteAnswer(answer) => Ok(answer),
            _ => Err(senseless()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: GroupSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        self.send_snapshot(vote, snapshot, cancel).await
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        match self.ask(Message::TransferLeader(req), option.hard_ttl(), RPCTypes::TransferLeader).await? {
            Message::TransferLeaderAnswer(answer) => Ok(answer),
            _ => Err(senseless()),
        }
    }
}

fn senseless() -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&Unanswered::Senseless))
}

fn rpc_error(problem: Unanswered, action: RPCTypes, between: Between) -> RPCError<Types> {
    match problem {
        Unanswered::Late(timeout) => {
            RPCError::Timeout(Timeout { action, id: between.own, target: between.peer, timeout })
        }
        Unanswered::Undelivered => RPCError::Network(NetworkError::new(&problem)),
        Unanswered::TooMany | Unanswered::NotSent(_) | Unanswered::Refused(_) | Unanswered::Senseless => {
            RPCError::Unreachable(Unreachable::new(&problem))
        }
    }
}

#[cfg(test)]
mod tests;
