//! A replica's state exactly at one place of its log, pinned to be digested.
//!
//! The place is that of an entry that asks for it. When it is applied, memory is cut behind it, so that the layer which ends
//! there goes to the file in a transaction of its own; right after that one, and before the next, the file is what the
//! state was at that place, and a snapshot of it is opened. It is read at leisure, while writes go on. Where memory and
//! file met before, or how the items lie in the file, has no part in it.
//!
//! One place is pinned at a time; the next takes its room. A place is *missed* where the file went past it in one step: a
//! snapshot of another replica was taken in, or the node was stopped in between. Then this replica has nothing to say
//! until the next one.
//!
//! An open snapshot keeps the file's write-ahead log from being emptied. So whoever asked for a digest sees to it that it is
//! made soon ([`crate::services::scrubbing`]).

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::domain::Timestamp;
use crate::domain::hash::HashRange;
use crate::domain::key::PackedKey;
use crate::replication::command::Command;
use crate::replication::digest::{Sum, intervals};
use crate::replication::machine_state::LogPlace;
use crate::replication::membership::Membership;
use crate::services::group::types::Applied;
use crate::storage::store::{KeyInterval, RangeStore, StoreError, StoreSnapshot};

use super::group_side::{digest_rest, put};
use super::replica::Replica;

/// Rows read at once.
const ROWS: usize = 500;
/// Bytes of items read at once, about.
const BYTES: usize = 1 << 20;

/// What a replica can say about its state at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DigestState {
    /// It does not have it any more, and never will.
    Missed,
    /// It is not there yet, or being made.
    Working,
    /// The digests, in the order of [`crate::replication::digest`].
    Ready(Vec<Sum>),
}

/// See the module's essay.
#[derive(Default)]
pub(super) struct Pins(Mutex<Option<Pin>>);

struct Pin {
    place: LogPlace,
    time: Timestamp,
    state: PinState,
}

enum PinState {
    /// The entry was applied, and is not in the file.
    Wanted,
    /// The file as it was at the place.
    View(Box<dyn StoreSnapshot>),
    /// Somebody digests it.
    Taken,
    Done(Vec<Sum>),
    Missed,
}

impl Pins {
    /// The file has everything up to this index, and nothing more.
    pub(super) fn written(&self, index: u64, store: &dyn RangeStore) {
        let mut pin = self.0.lock();
        let Some(pin) = pin.as_mut().filter(|pin| matches!(pin.state, PinState::Wanted)) else { return };
        if index < pin.place.index {
            return;
        }
        let view = if index == pin.place.index { store.snapshot() } else { Err(too_far()) };
        pin.state = match view {
            Ok(view) => PinState::View(view),
            Err(error) => {
                tracing::warn!(%error, "a replica's state could not be pinned to be compared");
                PinState::Missed
            }
        };
    }

    /// The file is another one from here on.
    pub(super) fn miss(&self) {
        if let Some(pin) = self.0.lock().as_mut() {
            pin.state = PinState::Missed;
        }
    }

    pub(super) fn drop_all(&self) {
        *self.0.lock() = None;
    }
}

fn too_far() -> StoreError {
    StoreError::Failed("the file went past the place in one step".to_owned())
}

impl Replica {
    /// Applies an entry that asks for a digest.
    pub(super) fn pin(&self, place: LogPlace, payload: &bytes::Bytes) -> Result<Applied, StoreError> {
        let Ok(Command::Digest(time)) = Command::decode(payload) else {
            return Err(StoreError::Failed("an entry that asks for a digest cannot be read".to_owned()));
        };
        *self.side.pins.0.lock() = Some(Pin { place, time, state: PinState::Wanted });
        let applied = self.advance(place, |_| ())?;
        self.freeze();
        Ok(applied)
    }

    /// What can be said about the state at this place.
    pub fn digest_at(&self, place: LogPlace) -> DigestState {
        let pin = self.side.pins.0.lock();
        match pin.as_ref() {
            Some(pin) if pin.place == place => match &pin.state {
                PinState::Wanted | PinState::View(_) | PinState::Taken => DigestState::Working,
                PinState::Done(sums) => DigestState::Ready(sums.clone()),
                PinState::Missed => DigestState::Missed,
            },
            _ if self.applied_index() < place.index => DigestState::Working,
            _ => DigestState::Missed,
        }
    }

    /// Whether a place is pinned that was not digested yet.
    pub fn wants_digest(&self) -> bool {
        self.side.pins.0.lock().as_ref().is_some_and(|pin| matches!(pin.state, PinState::Wanted | PinState::View(_)))
    }

    /// Takes what is to be digested, once it is in the file; brings it there first. Blocks on disk.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn take_digest(&self) -> Result<Option<DigestRun>, StoreError> {
        if !self.wants_digest() {
            return Ok(None);
        }
        self.flush()?;
        let mut pin = self.side.pins.0.lock();
        let Some(pin) = pin.as_mut().filter(|pin| matches!(pin.state, PinState::View(_))) else { return Ok(None) };
        let PinState::View(view) = std::mem::replace(&mut pin.state, PinState::Taken) else { return Ok(None) };
        Ok(Some(DigestRun::new(pin.place, pin.time, view, &self.hashes)))
    }

    /// A digest has come to its end; none where it failed.
    pub fn note_digest(&self, place: LogPlace, sums: Option<Vec<Sum>>) {
        if let Some(pin) = self.side.pins.0.lock().as_mut().filter(|pin| pin.place == place)
            && matches!(pin.state, PinState::Taken)
        {
            pin.state = sums.map_or(PinState::Missed, PinState::Done);
        }
    }

    /// The group's members as this replica knows them, where that is known without a look into its file.
    pub fn known_membership(&self) -> Option<Membership> {
        self.memory.read().machine.as_ref().map(|machine| machine.membership.clone())
    }
}

/// A state that is being digested, a piece at a time.
pub struct DigestRun {
    /// The place.
    pub place: LogPlace,
    /// The leader's time in the entry.
    pub time: Timestamp,
    view: Box<dyn StoreSnapshot>,
    parts: std::vec::IntoIter<HashRange>,
    /// The part under way: what is left of it, and its digest so far.
    part: Option<(KeyInterval, Sha256)>,
    done: Vec<Sum>,
}

impl DigestRun {
    fn new(place: LogPlace, time: Timestamp, view: Box<dyn StoreSnapshot>, hashes: &HashRange) -> Self {
        Self { place, time, view, parts: intervals(hashes).into_iter(), part: None, done: Vec::new() }
    }

    /// Reads one piece; how many bytes it had, and the digests where that was the last. Blocks on disk.
    ///
    /// # Errors
    /// Where the file cannot be read, or its state is not believed any more.
    pub fn step(&mut self) -> Result<(usize, Option<Vec<Sum>>), StoreError> {
        let (mut rest, mut sum) = match self.part.take() {
            Some(part) => part,
            None => match self.parts.next() {
                Some(hashes) => {
                    let (start, end) = PackedKey::hash_interval(&hashes);
                    (KeyInterval { start, end }, Sha256::new())
                }
                None => return self.finish(),
            },
        };
        let chunk = self.view.items(&rest, ROWS, BYTES)?;
        let mut bytes = 0;
        for (key, document, version) in &chunk.items {
            put(&mut sum, key.as_bytes());
            put(&mut sum, &version.0.to_be_bytes());
            put(&mut sum, document.as_bytes());
            bytes += key.len() + document.as_bytes().len();
        }
        match chunk.items.last() {
            Some((key, ..)) if !chunk.complete => {
                rest.start = key.successor();
                self.part = Some((rest, sum));
            }
            _ => self.done.push(sum.finalize().into()),
        }
        Ok((bytes, None))
    }

    fn finish(&mut self) -> Result<(usize, Option<Vec<Sum>>), StoreError> {
        let mut sum = Sha256::new();
        digest_rest(&mut sum, &mut *self.view)?;
        self.done.push(sum.finalize().into());
        Ok((0, Some(std::mem::take(&mut self.done))))
    }
}
