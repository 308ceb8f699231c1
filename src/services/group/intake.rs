//! A snapshot on its way in: gives the pieces to what takes them ([`super::pieces::PieceTarget`]) and says what to answer.
//!
//! The group's host has one for each replica that is being filled. Everything blocks on disk and is to be kept off async
//! workers, and one piece is given at a time.

use bytes::Bytes;

use super::pieces::{PieceError, PieceTarget, SnapshotIdentity, Wanted, read_header};
use super::snapshot::GroupSnapshot;
use super::wire::SnapshotState;

/// See the module's essay.
pub struct SnapshotIntake {
    target: Box<dyn PieceTarget>,
    /// Of which snapshot pieces were taken, and what is wanted next of it.
    taken: Option<(SnapshotIdentity, Wanted)>,
}

impl SnapshotIntake {
    /// Nothing is here yet.
    pub fn new(target: Box<dyn PieceTarget>) -> Self {
        Self { target, taken: None }
    }

    /// How this snapshot stands: the answer to one that begins, again perhaps.
    pub fn state(&self, snapshot: SnapshotIdentity) -> SnapshotState {
        match self.taken {
            Some((taken, wanted)) if taken == snapshot => state_of(wanted),
            _ => SnapshotState::Wanted(0),
        }
    }

    /// Takes a piece; the answer to it. Blocks.
    ///
    /// # Errors
    /// Where the disk fails or is full. The answer is [`SnapshotState::NotTaken`] then, and nothing that was taken counts.
    pub fn take(&mut self, piece: &Bytes) -> Result<SnapshotState, PieceError> {
        match self.target.take(piece) {
            Ok(wanted) => {
                let identity = read_header(piece)?.identity;
                self.taken = Some((identity, wanted));
                Ok(state_of(wanted))
            }
            // It is to be sent again. Where more than the piece is wrong, the next answer says so.
            Err(PieceError::Damaged(reason)) => {
                tracing::warn!(reason, "a piece of a snapshot is damaged and asked for again");
                Ok(self.taken.map_or(SnapshotState::Wanted(0), |(_, wanted)| state_of(wanted)))
            }
            Err(error) => {
                self.taken = None;
                Err(error)
            }
        }
    }

    /// The whole snapshot, for openraft to install. Blocks.
    ///
    /// # Errors
    /// [`PieceError::Incomplete`] where this snapshot is not all here; where the disk fails.
    pub fn finish(self, snapshot: SnapshotIdentity) -> Result<GroupSnapshot, PieceError> {
        if self.state(snapshot) == SnapshotState::AllHere { self.target.finish() } else { Err(PieceError::Incomplete) }
    }
}

fn state_of(wanted: Wanted) -> SnapshotState {
    match wanted {
        Wanted::Piece(number) => SnapshotState::Wanted(number),
        Wanted::Nothing => SnapshotState::AllHere,
    }
}
