//! Two nodes and what they ask each other, over a network in memory: what is counted, what is in order, and what is left of
//! questions that are never answered.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use openraft::raft::StreamAppendError;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::*;
use crate::replication::machine_state::LogPlace;
use crate::services::group::convert::{Payload, log_id};
use crate::services::group::incoming::{GroupMessages, Incoming};
use crate::services::group::intake::SnapshotIntake;
use crate::services::group::pieces::{
    PieceBuilder, PieceError, PieceHeader, PieceSource, PieceTarget, SnapshotIdentity, Wanted, read_header,
};
use crate::services::group::types::{Entry, LogId};
use crate::services::group::wire::{Reason, SnapshotAnswer, SnapshotState};
use crate::storage::store::StoreError;
use crate::transport::links::{Inbox, LinkOptions};
use crate::transport::memory::{Faults, MemoryNetwork};

const SECOND: Duration = Duration::from_secs(1);

/// Bytes that look random and are the same in each run.
struct Seeded(Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.0.lock();
        for byte in buffer {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (*state >> 56) as u8;
        }
    }
}

type Script = Box<dyn Fn(&Side, Envelope) -> Option<Message> + Send + Sync>;

/// What a node does with what it is asked: a script says the answer, or none.
struct Side {
    node: NodeId,
    networks: Arc<GroupNetworks>,
    links: Arc<Links>,
    script: Mutex<Option<Arc<Script>>>,
    asked: Mutex<Vec<(NodeId, Envelope)>>,
    told: Mutex<Vec<(NodeId, NodeMessage)>>,
}

impl GroupMessages for Side {
    fn asked(&self, from: NodeId, question: Envelope) {
        let asked = question.asked();
        self.asked.lock().push((from, question.clone()));
        let script = self.script.lock().clone();
        if let Some(answer) = script.and_then(|script| script(self, question)) {
            self.networks.answer(from, asked, answer);
        }
    }

    fn told(&self, from: NodeId, message: NodeMessage) {
        self.told.lock().push((from, message));
    }
}

struct Pair {
    network: MemoryNetwork,
    sides: [Arc<Side>; 2],
    inboxes: [Arc<Incoming>; 2],
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn range(number: u16) -> RangeId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    RangeId::from_bytes(bytes)
}

fn place(term: u64, index: u64) -> LogId {
    log_id(LogPlace { term, index })
}

impl Pair {
    fn new(faults: Faults, options: NetworkOptions) -> Self {
        let network = MemoryNetwork::faulty(Arc::new(Seeded(Mutex::new(1))), faults);
        let sides = [1, 2].map(|number| {
            let carrier = network.carrier(node(number));
            let links = Arc::new(Links::new(carrier, Handle::current(), LinkOptions::default()));
            let random = Seeded(Mutex::new(u64::from(number)));
            let networks = GroupNetworks::new(links.clone(), &random, options.clone());
            let (asked, told) = (Mutex::default(), Mutex::default());
            Arc::new(Side { node: node(number), networks, links, script: Mutex::default(), asked, told })
        });
        let inboxes = [0, 1].map(|at: usize| {
            let incoming = Arc::new(Incoming::new(sides[at].networks.clone(), sides[at].clone()));
            network.attach(sides[at].node, &(incoming.clone() as Arc<dyn Inbox>));
            incoming
        });
        Self { network, sides, inboxes }
    }

    fn plain() -> Self {
        Self::new(Faults { delay_max: Duration::from_millis(2), ..Faults::default() }, NetworkOptions::default())
    }

    /// What the second node answers.
    fn answering(&self, script: impl Fn(&Side, Envelope) -> Option<Message> + Send + Sync + 'static) {
        *self.sides[1].script.lock() = Some(Arc::new(Box::new(script)));
    }

    /// The replica on the second node, as one on the first sees it.
    async fn peer(&self, range: RangeId) -> GroupPeer {
        self.sides[0].networks.of(range, replica(1)).new_client(replica(2), &node(2)).await
    }

    fn waiting(&self) -> usize {
        self.sides[0].networks.counts().0
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to that: {what}");
}

fn vote_request() -> VoteRequest<Types> {
    VoteRequest::new(Vote::new(8, replica(1)), Some(place(7, 12)))
}

fn grant(question: &Envelope) -> Option<Message> {
    match &question.message {
        Message::Vote(asked) => Some(Message::VoteAnswer(VoteResponse::new(asked.vote, None, true))),
        Message::PreVote(asked) => Some(Message::PreVoteAnswer(VoteResponse::new(asked.vote, None, true))),
        _ => None,
    }
}

/// An append of one entry at this index.
fn append(index: u64) -> AppendEntriesRequest<Types> {
    AppendEntriesRequest {
        vote: Vote::new_committed(7, replica(1)),
        prev_log_id: Some(place(7, index - 1)),
        entries: vec![Entry { log_id: place(7, index), payload: Payload::Blank }],
        leader_commit: None,
    }
}

async fn collect(
    peer: &mut GroupPeer,
    appends: Vec<AppendEntriesRequest<Types>>,
) -> Vec<Result<StreamAppendResult<Types>, RPCError<Types>>> {
    peer.stream_append(stream::iter(appends), RPCOption::new(SECOND)).await.unwrap().collect().await
}

#[tokio::test(start_paused = true)]
async fn a_thousand_groups_that_ask_at_once_share_a_few_frames() {
    let pair = Pair::plain();
    pair.answering(|_, question| grant(&question));
    let peers: Vec<_> = (0..1000).map(|number| pair.peer(range(number))).collect();
    let mut peers = futures_util::future::join_all(peers).await;
    let votes = peers.iter_mut().map(|peer| peer.vote(vote_request(), RPCOption::new(SECOND)));
    let answers = futures_util::future::join_all(votes).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().vote_granted));
    let frames = |side: &Side| side.links.counts(Lane::Small).frames;
    assert_eq!((frames(&pair.sides[0]), pair.sides[0].links.counts(Lane::Small).messages), (1, 1000));
    assert!(frames(&pair.sides[1]) <= 2);
    assert_eq!(pair.inboxes[1].counts().messages, 1000);
    assert_eq!(pair.sides[0].networks.counts(), (0, 0));
    // And with nothing to say, nothing is sent.
    wait_until("the links are idle", || pair.sides.iter().all(|side| side.links.busy_count() == 0)).await;
}

#[tokio::test(start_paused = true)]
async fn appends_are_under_way_together_and_answered_in_order() {
    let pair = Pair::plain();
    let window = NetworkOptions::default().appends_under_way_max;
    // The second node keeps all answers until a whole window of questions is there, and then answers backwards.
    let held: Arc<Mutex<Vec<(NodeId, Asked)>>> = Arc::default();
    let kept = held.clone();
    pair.answering(move |side, question| {
        let mut kept = kept.lock();
        kept.push((node(1), question.asked()));
        if kept.len() == window {
            for (to, asked) in kept.drain(..).rev() {
                side.networks.answer(to, asked, Message::AppendAnswer(AppendEntriesResponse::Success));
            }
        }
        None
    });
    let mut peer = pair.peer(range(1)).await;
    let count = 3 * window as u64;
    let answers = collect(&mut peer, (1..=count).map(append).collect()).await;
    let reached: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().unwrap().unwrap().index).collect();
    assert!(reached.into_iter().eq(1..=count));
    let asked = pair.sides[1].asked.lock();
    let indices = asked.iter().map(|(_, envelope)| match &envelope.message {
        Message::Append(append) => append.last().unwrap().index,
        _ => 0,
    });
    assert!(indices.collect::<Vec<_>>().is_sorted(), "they were asked in order");
    assert_eq!(pair.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_an_append_that_is_refused_those_behind_it_are_forgotten() {
    let pair = Pair::plain();
    let conflict = Some(AppendEntriesResponse::Conflict);
    let higher = Some(AppendEntriesResponse::HigherVote(Vote::new(9, replica(3))));
    let partly = Some(AppendEntriesResponse::PartialSuccess(Some(place(7, 1))));
    let first = || Ok(Ok(Some(place(7, 1))));
    for (from, special, expected) in [
        // Not behind one that was acknowledged: that has no place to say so.
        (2, conflict, vec![Ok(Err(StreamAppendError::Conflict(place(7, 1))))]),
        (1, higher, vec![first(), Ok(Err(StreamAppendError::HigherVote(Vote::new(9, replica(3)))))]),
        (1, partly, vec![first(), first()]),
        (1, None, vec![first(), Err(())]),
    ] {
        pair.answering(move |_, question| {
            let Message::Append(append) = question.message else { return None };
            let answer = match append.last().unwrap().index {
                2 => special.clone().map(Message::AppendAnswer),
                _ => Some(Message::AppendAnswer(AppendEntriesResponse::Success)),
            };
            Some(answer.unwrap_or(Message::Refused(Reason::Stopped)))
        });
        let mut peer = pair.peer(range(1)).await;
        let answers = collect(&mut peer, (from..=9).map(append).collect()).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|_| ())).collect();
        assert_eq!(answers, expected);
        assert_eq!(pair.waiting(), 0, "nothing waits for what is forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_for_a_message_goes_in_parts() {
    let options = NetworkOptions { append_bytes_max: 200, ..NetworkOptions::default() };
    let pair = Pair::new(Faults::default(), options);
    pair.answering(|_, _| Some(Message::AppendAnswer(AppendEntriesResponse::Success)));
    let mut peer = pair.peer(range(1)).await;
    let entries = (1..=20).map(|index| Entry { log_id: place(7, index), payload: Payload::Blank });
    let large = AppendEntriesRequest { prev_log_id: Some(place(7, 0)), entries: entries.collect(), ..append(1) };
    let answers = collect(&mut peer, vec![large.clone()]).await;
    let reached: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().unwrap().unwrap().index).collect();
    assert_eq!(reached, [6, 12, 18, 20]);
    let answer = peer.append_entries(large, RPCOption::new(SECOND)).await.unwrap();
    assert_eq!(answer, AppendEntriesResponse::PartialSuccess(Some(place(7, 6))));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_a_timeout_and_one_that_comes_late_or_twice_is_dropped() {
    let pair = Pair::plain();
    let late: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let kept = late.clone();
    pair.answering(move |_, question| {
        kept.lock().push(question.asked());
        None
    });
    let mut peer = pair.peer(range(1)).await;
    let answer = peer.vote(vote_request(), RPCOption::new(SECOND)).await;
    assert!(matches!(answer, Err(RPCError::Timeout(_))), "{answer:?}");
    assert_eq!(pair.sides[0].networks.counts(), (0, 0), "its place is free");
    let granted = Message::VoteAnswer(VoteResponse::new(Vote::new(8, replica(1)), None, true));
    let asked = late.lock()[0];
    pair.sides[1].networks.answer(node(1), asked, granted.clone());
    wait_until("the late answer is counted", || pair.sides[0].networks.counts().1 == 1).await;
    // Twice: the first counts, the second is dropped.
    pair.answering(move |side, question| {
        side.networks.answer(node(1), question.asked(), granted.clone());
        Some(granted.clone())
    });
    assert!(peer.vote(vote_request(), RPCOption::new(SECOND)).await.unwrap().vote_granted);
    wait_until("the second answer is counted", || pair.sides[0].networks.counts().1 == 2).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_one_who_was_asked_can_answer() {
    let pair = Pair::plain();
    let granted = Message::VoteAnswer(VoteResponse::new(Vote::new(8, replica(1)), None, true));
    let forged = granted.clone();
    pair.answering(move |side, question| {
        let asked = question.asked();
        for asked in [
            Asked { asked: replica(3), ..asked },
            Asked { asker: replica(3), ..asked },
            Asked { range: range(2), ..asked },
            Asked { correlation: asked.correlation + 1, ..asked },
        ] {
            side.networks.answer(node(1), asked, forged.clone());
        }
        None
    });
    let networks = pair.sides[0].networks.clone();
    let between = Between { range: range(1), own: replica(1), peer: replica(2), node: node(2) };
    let answer = networks.ask(between, Message::Vote(vote_request()), SECOND);
    let number = || pair.sides[1].asked.lock().first().map(|(_, envelope)| envelope.asked());
    wait_until("it was asked", || number().is_some()).await;
    // The right replica, and another node.
    let right = number().unwrap().answer(granted);
    networks.answered(node(3), right.clone());
    wait_until("all were dropped", || networks.counts().1 == 5).await;
    assert_eq!(networks.counts().0, 1, "and it still waits");
    networks.answered(node(2), right);
    assert!(matches!(answer.await, Ok(Message::VoteAnswer(_))));
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_be_reached_is_told_at_once() {
    let pair = Pair::plain();
    let mut peer = pair.peer(range(1)).await;
    pair.network.cut(node(1), node(2));
    let begun = tokio::time::Instant::now();
    let answer = peer.vote(vote_request(), RPCOption::new(3600 * SECOND)).await;
    assert!(matches!(answer, Err(RPCError::Network(_))), "{answer:?}");
    assert!(begun.elapsed() < SECOND, "the frame failed, and nobody waited for the answer");
    pair.network.heal();
    pair.answering(|_, _| Some(Message::Refused(Reason::NotHere)));
    let answer = peer.pre_vote(vote_request(), RPCOption::new(SECOND)).await;
    assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    // An answer to something else is none.
    pair.answering(|_, _| Some(Message::AppendAnswer(AppendEntriesResponse::Success)));
    let answer = peer.vote(vote_request(), RPCOption::new(SECOND)).await;
    assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn questions_are_bounded_and_leave_nothing_behind() {
    let pair = Pair::new(Faults::default(), NetworkOptions { questions_max: 10, ..NetworkOptions::default() });
    let networks = &pair.sides[0].networks;
    let between = Between { range: range(1), own: replica(1), peer: replica(2), node: node(2) };
    let mut waiting: Vec<_> = (0..10).map(|_| networks.ask(between, Message::Vote(vote_request()), SECOND)).collect();
    assert_eq!(networks.ask(between, Message::Vote(vote_request()), SECOND).await, Err(Unanswered::TooMany));
    assert_eq!(networks.counts().0, 10);
    waiting.truncate(3);
    assert_eq!(networks.counts().0, 3);
    drop(waiting);
    assert_eq!(networks.counts().0, 0);
}

#[tokio::test(start_paused = true)]
async fn kinds_of_a_later_release_are_counted_and_dropped_and_beacons_are_told() {
    let pair = Pair::plain();
    let links = &pair.sides[0].links;
    links.send(node(2), Bytes::from_static(&[1, 200, 1, 2, 3]), Lane::Small).unwrap();
    links.send(node(2), Bytes::from_static(&[9, 1]), Lane::Small).unwrap();
    let beacon = NodeMessage::Beacon { boot: 1, progress: 2, flags: 0xffff_ffff };
    pair.sides[0].networks.tell_node(node(2), beacon).unwrap();
    let between = Between { range: range(1), own: replica(1), peer: replica(2), node: node(2) };
    pair.sides[0].networks.tell(between, Message::Wake).unwrap();
    wait_until("all were sent", || links.busy_count() == 0).await;
    let counts = pair.inboxes[1].counts();
    // Signs of life go in frames of their own.
    assert_eq!((counts.frames, counts.messages, counts.unknown, counts.senseless), (2, 2, 1, 1));
    assert_eq!(*pair.sides[1].told.lock(), [(node(1), beacon)]);
    assert_eq!(pair.sides[1].asked.lock()[0].1.message, Message::Wake);
    pair.inboxes[1].deliver(node(1), Bytes::from_static(&[2, 0]));
    assert_eq!(pair.inboxes[1].counts().senseless, 2);
}

const SHOWN: SnapshotIdentity =
    SnapshotIdentity { replica: ReplicaId(uuid::Uuid::from_bytes([1; 16])), place: LogPlace { term: 7, index: 12 } };

/// A snapshot of a number of empty pieces, which counts how often each was read.
struct Pieces {
    count: u32,
    read: Arc<AtomicU32>,
}

impl PieceSource for Pieces {
    fn identity(&self) -> SnapshotIdentity {
        SHOWN
    }

    fn piece(&mut self, number: u32) -> Result<Option<Bytes>, StoreError> {
        self.read.fetch_add(1, Ordering::SeqCst);
        let header = PieceHeader { identity: SHOWN, number, is_last: number + 1 == self.count };
        Ok((number < self.count).then(|| PieceBuilder::default().finish(&header)))
    }
}

#[derive(Default)]
struct Collected {
    next: u32,
    is_whole: bool,
}

impl PieceTarget for Collected {
    fn take(&mut self, piece: &Bytes) -> Result<Wanted, PieceError> {
        let header = read_header(piece)?;
        if header.number == self.next {
            self.next += 1;
            self.is_whole = header.is_last;
        }
        Ok(if self.is_whole { Wanted::Nothing } else { Wanted::Piece(self.next) })
    }

    fn finish(self: Box<Self>) -> Result<GroupSnapshot, PieceError> {
        Err(PieceError::Incomplete)
    }
}

/// The second node takes a snapshot in.
fn taking(pair: &Pair, taken_already: u32) {
    let mut intake = SnapshotIntake::new(Box::new(Collected::default()));
    let mut source = Pieces { count: taken_already + 1, read: Arc::default() };
    for number in 0..taken_already {
        intake.take(&source.piece(number).unwrap().unwrap()).unwrap();
    }
    let intake = Mutex::new(intake);
    pair.answering(move |_, question| {
        let (vote, state) = match question.message {
            Message::SnapshotBegin(note) => (note.vote, intake.lock().state(note.snapshot)),
            Message::SnapshotPiece(piece) => (piece.vote, intake.lock().take(&piece.bytes).unwrap()),
            Message::SnapshotEnd(note) => (
                note.vote,
                match intake.lock().state(note.snapshot) {
                    SnapshotState::AllHere => SnapshotState::Installed,
                    state => state,
                },
            ),
            _ => return None,
        };
        Some(Message::SnapshotAnswer(SnapshotAnswer { vote, state }))
    });
}

async fn transfer(pair: &Pair, count: u32) -> (Result<SnapshotResponse<Types>, StreamingError<Types>>, u32) {
    let read: Arc<AtomicU32> = Arc::default();
    let source = Pieces { count, read: read.clone() };
    let vote = Vote::new_committed(7, replica(1));
    let ended = pair.peer(range(1)).await.transfer(vote, move || Ok(Box::new(source) as _)).await;
    (ended, read.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_goes_piece_by_piece_on_its_own_lane_and_goes_on_where_it_was() {
    for taken_already in [0, 4] {
        let pair = Pair::plain();
        taking(&pair, taken_already);
        let (ended, read) = transfer(&pair, 10).await;
        assert_eq!(ended.unwrap().vote, Vote::new_committed(7, replica(1)));
        assert_eq!(read, 10 - taken_already);
        let bulk = pair.sides[0].links.counts(Lane::Bulk);
        assert_eq!(bulk.messages, u64::from(10 - taken_already));
        assert_eq!(pair.waiting(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_gets_through_a_bad_network() {
    let faults =
        Faults { dropped: 200, duplicated: 200, overtaken: 200, delay_max: 2 * SECOND / 1000, ..Faults::default() };
    let pair = Pair::new(faults, NetworkOptions::default());
    taking(&pair, 0);
    let (mut ended, mut begun) = (transfer(&pair, 30).await.0, 1);
    // It may be given up; openraft begins it anew then.
    while ended.is_err() && begun < 20 {
        (ended, begun) = (transfer(&pair, 30).await.0, begun + 1);
    }
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_ends_where_the_receiver_says_no_or_stands_still() {
    let pair = Pair::plain();
    let vote = Vote::new_committed(7, replica(1));
    let answering = |vote, state| {
        pair.answering(move |_, _| Some(Message::SnapshotAnswer(SnapshotAnswer { vote, state })));
    };
    answering(vote, SnapshotState::NotTaken);
    assert!(matches!(transfer(&pair, 3).await.0, Err(StreamingError::Unreachable(_))));
    answering(vote, SnapshotState::Wanted(0));
    assert!(matches!(transfer(&pair, 3).await.0, Err(StreamingError::Unreachable(_))));
    answering(vote, SnapshotState::Wanted(3));
    assert!(matches!(transfer(&pair, 3).await.0, Err(StreamingError::Unreachable(_))), "there is no fourth");
    let higher = Vote::new_committed(8, replica(3));
    answering(higher, SnapshotState::NotTaken);
    assert_eq!(transfer(&pair, 3).await.0.unwrap().vote, higher);
    pair.answering(|_, _| None);
    assert!(matches!(transfer(&pair, 3).await.0, Err(StreamingError::Timeout(_))));
}
