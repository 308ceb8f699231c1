//! A snapshot on its way to another replica.
//!
//! ```text
//! begins (which snapshot)  →   wanted: number n, or: all are here
//! piece n                  →   wanted: n + 1
//! …                            (a piece that was lost is asked for again, by either side)
//! last piece               →   all are here
//! ends                     →   installed
//! ```
//!
//! The receiver says which piece it wants, always; the sender only does as it is told. So a lost message, a receiver
//! that started again and a sender that begins anew need nothing of their own. One piece is under way at a time, because
//! the node's disks and not the way between them are what a snapshot must not take from others; a
//! [`Throttle`](super::throttle::Throttle) for the whole node keeps it within its bytes a second.
//!
//! Pieces are read off the async workers. A transfer that makes no progress for [`TRIES_MAX`] questions is given up;
//! openraft begins it anew, and where the state is still the same, it goes on where it was.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::{Either, select};
use openraft::RPCTypes;
use openraft::errors::{ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;

use super::super::pieces::PieceSource;
use super::super::questions::Unanswered;
use super::super::snapshot::GroupSnapshot;
use super::super::types::{Types, Vote};
use super::super::wire::{Message, SnapshotAnswer, SnapshotNote, SnapshotPiece, SnapshotState};
use super::{GroupPeer, rpc_error};
use crate::storage::store::StoreError;
use crate::storage::workers::Workers;

/// Questions in a row that bring the receiver no further.
const TRIES_MAX: u32 = 5;

pub(super) type Source = Box<dyn PieceSource>;

impl GroupPeer {
    /// Sends a whole snapshot, unless `cancel` comes first.
    pub(super) async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: GroupSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        // The one who cancels is looked at first.
        match select(pin!(cancel), pin!(self.transfer(vote, move || snapshot.snapshot.open()))).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((ended, _)) => ended,
        }
    }

    pub(super) async fn transfer(
        &self,
        vote: Vote,
        open: impl FnOnce() -> Result<Source, StoreError> + Send + 'static,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut source = off_workers(self.workers(), open).await?;
        let note = SnapshotNote { vote, snapshot: source.identity() };
        let mut question = Message::SnapshotBegin(note);
        let (mut tries, mut furthest) = (0, None);
        loop {
            tries += 1;
            let time = match question {
                Message::SnapshotEnd(_) => self.networks.options.install_timeout,
                _ => self.networks.options.piece_timeout,
            };
            let answer = match self.networks.ask(self.between, question, time).await {
                Ok(Message::SnapshotAnswer(answer)) => answer,
                Ok(_) => return Err(self.failed(Unanswered::Senseless)),
                // Where the receiver stands is not known any more: it is asked.
                Err(Unanswered::Late(_) | Unanswered::Undelivered) if tries < TRIES_MAX => {
                    question = Message::SnapshotBegin(note);
                    continue;
                }
                Err(problem) => return Err(self.failed(problem)),
            };
            if answer.vote > vote {
                return Ok(SnapshotResponse::new(answer.vote));
            }
            let SnapshotAnswer { state, .. } = answer;
            let progress = match state {
                SnapshotState::Installed => {
                    self.networks.snapshots_sent.fetch_add(1, Ordering::Relaxed);
                    return Ok(SnapshotResponse::new(answer.vote));
                }
                SnapshotState::NotTaken => return Err(not_taken("the receiver does not take it")),
                SnapshotState::AllHere => (true, 0),
                SnapshotState::Wanted(number) => (false, number),
            };
            if furthest < Some(progress) {
                (furthest, tries) = (Some(progress), 0);
            } else if tries >= TRIES_MAX {
                return Err(not_taken("the receiver asks for the same piece again and again"));
            }
            question = match progress {
                (true, _) => Message::SnapshotEnd(note),
                (false, number) => {
                    let bytes;
                    (source, bytes) = read(self.workers(), source, number).await?;
                    let bytes = bytes.ok_or_else(|| not_taken("the receiver wants more than there is"))?;
                    self.networks.snapshots.take(bytes.len()).await;
                    Message::SnapshotPiece(SnapshotPiece { vote, bytes })
                }
            };
        }
    }

    fn workers(&self) -> &Workers {
        &self.networks.options.workers
    }

    fn failed(&self, problem: Unanswered) -> StreamingError<Types> {
        rpc_error(problem, RPCTypes::InstallSnapshot, self.between).into()
    }
}

async fn read(
    workers: &Workers,
    mut source: Source,
    number: u32,
) -> Result<(Source, Option<Bytes>), StreamingError<Types>> {
    off_workers(workers, move || {
        let piece = source.piece(number)?;
        Ok((source, piece))
    })
    .await
}

/// Does what blocks off the async workers. That a snapshot cannot be read stops the transfer and not the group: whether the
/// file is damaged is for the engine to say.
async fn off_workers<T: Send + 'static>(
    workers: &Workers,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StreamingError<Types>> {
    match workers.run(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(problem)) => Err(StreamingError::Unreachable(Unreachable::new(&problem))),
        Err(_) => Err(StreamingError::Closed(ReplicationClosed::new("the process stops"))),
    }
}

fn not_taken(reason: &str) -> StreamingError<Types> {
    StreamingError::Unreachable(Unreachable::from_string(reason))
}
