//! What other nodes ask of this one's groups, brought to openraft, and its answers brought back.
//!
//! A group's messages are taken in the order in which they came, because a leader sends its appends one behind the other
//! without waiting; answers are given as they come. A message for a group that sleeps wakes it.
//!
//! Here stands the guard of promises that were forgotten: a question for a vote is answered with no, as long as this
//! replica may have acknowledged a leader that it does not remember. Only a hand-over is let through, because then the leader
//! itself has ended its lease.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

use super::awake::{Group, Purpose};
use super::host::Groups;
use super::incoming::GroupMessages;
use super::intake::SnapshotIntake;
use super::lease::withholds;
use super::leaving;
use super::presence::Heard;
use super::snapshot::GroupSnapshot;
use super::succession;
use super::types::{Types, Vote};
use super::wire::{
    Asked, BEACON_IS_ANSWER, Envelope, Message, NodeMessage, Reason, SnapshotAnswer, SnapshotNote, SnapshotPiece,
    SnapshotState,
};
use crate::domain::RefusalKind;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::services::engine::Engine;

impl GroupMessages for Groups {
    fn asked(&self, from: NodeId, question: Envelope) {
        let range = question.range;
        if self.answer_about_digest(from, &question) {
            return;
        }
        match &question.message {
            Message::Wake => return self.wake_as_leader(range),
            Message::Forgotten(place) => return self.told_to_have_forgotten(from, &question, *place),
            Message::Sleep(quiet) => {
                let (Some(me), quiet) = (self.me(), *quiet) else { return };
                return self.spawn(async move {
                    let is_agreed = me.follow_to_sleep(from, range, quiet).await;
                    me.parts.networks.answer(from, question.asked(), Message::SleepAnswer { quiet, is_agreed });
                });
            }
            _ => {}
        }
        if self.held_back.is_full(range) {
            return self.parts.networks.answer(from, question.asked(), Message::Refused(Reason::Busy));
        }
        let Some(mail) = self.held_back.behind(range, (from, question)) else { return };
        let awake = self.slots.lock().awake(range);
        let mail = match awake {
            Some(group) => match group.inbox.try_send(mail) {
                Ok(()) => return,
                Err(TrySendError::Full((_, question))) => {
                    return self.parts.networks.answer(from, question.asked(), Message::Refused(Reason::Busy));
                }
                // It is just falling asleep.
                Err(TrySendError::Closed(mail)) => mail,
            },
            None => mail,
        };
        if self.held_back.begin(range, mail)
            && let Some(me) = self.me()
        {
            self.spawn(async move { me.wake_for_mail(range).await });
        }
    }

    fn told(&self, from: NodeId, message: NodeMessage) {
        if let NodeMessage::Beacon { boot, flags, .. } = message {
            let is_answer = flags & BEACON_IS_ANSWER != 0;
            self.note_beacon(from, Heard { boot, is_answer, departure: leaving::departure_in(flags) });
        }
        self.told_of_boots(from, message);
    }
}

impl Groups {
    /// Wakes a group for what is held back for it, and hands that on in its order.
    async fn wake_for_mail(&self, range: RangeId) {
        let woken = self.wake(range, Purpose::Upkeep).await;
        while let Some(held) = self.held_back.take(range) {
            for (from, question) in held {
                match &woken {
                    Ok(group) => {
                        // Where it has ended meanwhile, who asked asks again.
                        let _ = group.inbox.send((from, question)).await;
                    }
                    Err(refusal) => {
                        let is_not_here = refusal.kind == RefusalKind::WrongNode;
                        let reason = if is_not_here { Reason::NotHere } else { Reason::Busy };
                        self.parts.networks.answer(from, question.asked(), Message::Refused(reason));
                    }
                }
            }
        }
    }
}

/// Takes a group's messages until it ends.
pub(super) async fn take_messages(
    groups: Weak<Groups>,
    group: Weak<Group>,
    mut messages: mpsc::Receiver<(NodeId, Envelope)>,
) {
    let mut answers = FuturesUnordered::new();
    loop {
        let (from, question) = tokio::select! {
            biased;
            // Those that have come are begun, in their order, before another one is taken.
            Some(()) = answers.next(), if !answers.is_empty() => continue,
            message = messages.recv() => match message {
                Some(message) => message,
                None => return,
            },
        };
        let (Some(groups), Some(group)) = (groups.upgrade(), group.upgrade()) else { return };
        answers.push(answer(groups, group, from, question));
    }
}

async fn answer(groups: Arc<Groups>, group: Arc<Group>, from: NodeId, question: Envelope) {
    let asked = question.asked();
    if !is_meant(&group, from, asked) {
        groups.counters.strays.fetch_add(1, Ordering::Relaxed);
        groups.parts.networks.answer(from, asked, Message::Refused(Reason::NotHere));
        return;
    }
    let taken = &groups.counters.snapshots_taken;
    let answer = answer_of(&groups.parts.engine, taken, &group, asked.asker, question.message).await;
    groups.parts.networks.answer(from, asked, answer.unwrap_or(Message::Refused(Reason::Stopped)));
}

/// Whether the message is for this replica, and comes from the node where the one that sends it is, where that is known.
fn is_meant(group: &Group, from: NodeId, asked: Asked) -> bool {
    let node = group.look(|metrics| metrics.membership_config.get_node(&asked.asker).copied());
    asked.asked == group.member() && node.is_none_or(|node| node == from)
}

/// The answer to a question; none where openraft has ended. Counts snapshots that were `taken` in.
async fn answer_of(
    engine: &Arc<Engine>,
    taken: &AtomicU64,
    group: &Arc<Group>,
    asker: ReplicaId,
    question: Message,
) -> Option<Message> {
    let raft = &group.raft;
    Some(match question {
        Message::Append(append) => {
            let request = append.into_request();
            let term = request.vote.leader_id.term;
            let answer = raft.append_entries(request).await.ok()?;
            if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                group.note_heard(term);
            }
            Message::AppendAnswer(answer)
        }
        Message::Vote(request) => Message::VoteAnswer(match withheld(group, &request) {
            Some(answer) => answer,
            None => raft.vote(request).await.ok()?,
        }),
        Message::PreVote(request) => {
            let no = withheld(group, &request).or_else(|| succession::stands_before(group, asker, &request));
            Message::PreVoteAnswer(match no {
                Some(answer) => answer,
                None => raft.pre_vote(request).await.ok()?,
            })
        }
        Message::TransferLeader(request) => {
            Message::TransferLeaderAnswer(raft.handle_transfer_leader(request).await.ok()?)
        }
        Message::SnapshotBegin(note) => Message::SnapshotAnswer(begin_snapshot(engine, group, note)),
        Message::SnapshotPiece(piece) => Message::SnapshotAnswer(take_piece(engine, group, piece).await),
        Message::SnapshotEnd(note) => {
            let answer = end_snapshot(engine, group, note).await?;
            taken.fetch_add(u64::from(answer.state == SnapshotState::Installed), Ordering::Relaxed);
            Message::SnapshotAnswer(answer)
        }
        _ => Message::Refused(Reason::Busy),
    })
}

/// The no to one who wants to lead, as long as this replica may have promised another not to vote.
fn withheld(group: &Group, request: &VoteRequest<Types>) -> Option<VoteResponse<Types>> {
    if !withholds(request.leadership_transfer, Instant::now(), group.quiet_until) {
        return None;
    }
    Some(VoteResponse::new(group.look(|metrics| metrics.vote), None, false))
}

fn stands(group: &Group, state: SnapshotState) -> SnapshotAnswer {
    SnapshotAnswer { vote: group.look(|metrics| metrics.vote), state }
}

/// Whether this replica knows of a later leader than the one who sends.
fn is_old(group: &Group, vote: &Vote) -> bool {
    group.look(|metrics| metrics.vote.leader_id.term) > vote.leader_id.term
}

fn begin_snapshot(engine: &Arc<Engine>, group: &Group, note: SnapshotNote) -> SnapshotAnswer {
    if is_old(group, &note.vote) {
        return stands(group, SnapshotState::NotTaken);
    }
    group.note_heard(note.vote.leader_id.term);
    let mut intake = group.intake.lock();
    let intake = intake.get_or_insert_with(|| SnapshotIntake::new(Box::new(engine.snapshot_target(&group.replica))));
    stands(group, intake.state(note.snapshot))
}

async fn take_piece(engine: &Engine, group: &Arc<Group>, piece: SnapshotPiece) -> SnapshotAnswer {
    if is_old(group, &piece.vote) {
        return stands(group, SnapshotState::NotTaken);
    }
    group.note_heard(piece.vote.leader_id.term);
    let taker = Arc::clone(group);
    let taken = engine.workers().run(move || taker.intake.lock().as_mut().map(|intake| intake.take(&piece.bytes)));
    match taken.await {
        Ok(Some(Ok(state))) => stands(group, state),
        Ok(Some(Err(error))) => {
            tracing::warn!(range = %group.replica.name.range, %error, "a piece of a snapshot was not taken");
            stands(group, SnapshotState::NotTaken)
        }
        Ok(None) | Err(_) => stands(group, SnapshotState::NotTaken),
    }
}

async fn end_snapshot(engine: &Engine, group: &Arc<Group>, note: SnapshotNote) -> Option<SnapshotAnswer> {
    if is_old(group, &note.vote) {
        return Some(stands(group, SnapshotState::NotTaken));
    }
    let Some(snapshot) = whole_snapshot(engine, group, note).await else {
        return Some(stands(group, SnapshotState::NotTaken));
    };
    let answer = group.raft.install_full_snapshot(note.vote, snapshot).await.ok()?;
    let is_installed = answer.vote.leader_id.term <= note.vote.leader_id.term;
    let state = if is_installed { SnapshotState::Installed } else { SnapshotState::NotTaken };
    Some(SnapshotAnswer { vote: answer.vote, state })
}

async fn whole_snapshot(engine: &Engine, group: &Arc<Group>, note: SnapshotNote) -> Option<GroupSnapshot> {
    let intake = group.intake.lock().take()?;
    match engine.workers().run(move || intake.finish(note.snapshot)).await {
        Ok(Ok(snapshot)) => Some(snapshot),
        Ok(Err(error)) => {
            tracing::warn!(range = %group.replica.name.range, %error, "a snapshot was not taken in");
            None
        }
        Err(_) => None,
    }
}
