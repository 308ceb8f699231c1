//! The request ids that proxies make themselves, for writes whose client sent none, and the window in which a range
//! remembers them. A proxy asks again when an answer did not come, and the write must not be applied twice.
//!
//! Such an id carries the time at which it was made, so that a range need not remember it for ever to be sure: an id made at or before
//! the window's [`horizon`](Window::horizon) is **refused as unknown**, never applied. A client's own id ([`super::requests`]) carries no
//! time; it is kept in the range's file for its ten minutes, and is simply new afterwards.
//!
//! | bytes of an id | what |
//! |---|---|
//! | 8 | when it was made, microseconds since 1970, big-endian, by the proxy's clock |
//! | 8 | random |
//!
//! The window is a function of the log: it moves by the leaders' times in the entries, only forward, and every replica
//! knows the same ids at the same index. It is kept in memory. Where the log is cut off at its beginning, and in snapshots, it
//! is written down as it stood at that place, and whoever starts from there shows it the entries behind it again
//! ([`Window::replay`]), also those whose items are in the file already. How those ended cannot be found out a second time, for the
//! item is another by now; so a repeat of one is told that it is one, and not how it ended. A window that was made from a
//! shorter piece of log would know fewer ids, and its replica would apply a write that the others do not.
//!
//! | bytes of a window | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 8 | the latest leader's time seen |
//! | 8 | the horizon |
//! | 4 | number of ids |
//! | each id | 16 id, 4 hash of the key, 4 + n outcome ([`super::outcome`]; nothing where it is not known); ascending by id |
//!
//! A leader's clock may be wrong by more than the window is long, and what it wrote into the log moves the window for as long. A proxy
//! whose id falls outside, and which knows that nothing has happened yet, then makes one at the time that the log has come
//! to: such a clock costs one more question for each write, and no write is refused for it.
//!
//! Memory is bounded by [`REQUESTS_MAX`]: past it the oldest id goes and the horizon moves up to it. A range that is written to very
//! fast has a shorter window, never a wrong one.
//!
//! An outcome may carry the item as it was or is (an image), or words, so that a repeat is told the same. These have a bound of
//! their own, [`IMAGE_BYTES_MAX`]: past it the outcomes of the oldest ids that have some are forgotten. The ids stay: a repeat of
//! one is still known as one, and told that how it ended is not known any more. An outcome without its image was rejected: it
//! would be another answer. Nobody can so make a window larger than what carries it between nodes.
//!
//! What the next author must keep: the horizon never goes back, in a split, a snapshot or a restart; which images are
//! forgotten depends on the entries alone.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::domain::Timestamp;
use crate::domain::ids::RequestId;
use crate::domain::mutation::{Mutation, is_on};

use super::operation::Outcome;

/// The version of the format written here.
pub const FORMAT_VERSION: u8 = 1;
/// How long a proxy may go on asking under one id, in seconds.
pub const WINDOW_SECONDS: u64 = 60;
/// How far a proxy's clock may be ahead of a leader's, in seconds. An id from later is refused: it would be
/// remembered for too long.
pub const AHEAD_SECONDS_MAX: u64 = 60;
/// Ids that one range remembers, at most.
pub const REQUESTS_MAX: usize = 100_000;
/// Bytes of images and words that one range remembers, at most.
pub const IMAGE_BYTES_MAX: usize = 1 << 20;

/// An id for a write that a proxy is about to send.
pub fn make(made: Timestamp, random: [u8; 8]) -> RequestId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&made.0.to_be_bytes());
    bytes[8..].copy_from_slice(&random);
    RequestId::from_bytes(bytes)
}

/// When an id was made.
pub fn made_at(id: RequestId) -> Timestamp {
    let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    Timestamp(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// What to do with a write under an id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not seen, and it would be remembered if it had been: evaluate it.
    Fresh,
    /// Seen: answer this and change nothing. None where this replica has started since, and does not know how it ended.
    Repeat(Option<Outcome>),
    /// Too old to know whether it was seen, or from the future: change nothing, and say that it is not known. Who asks for the
    /// first time may ask again under a new id, made at [`Window::latest`].
    Unknown,
}

/// What is remembered of a write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Remembered {
    /// The hash of the item's ID: it decides which child of a split has it.
    hash: u32,
    outcome: Option<Outcome>,
}

/// See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Window {
    latest: Timestamp,
    horizon: Timestamp,
    known: BTreeMap<RequestId, Remembered>,
    images: ImageBytes,
}

/// How many bytes of images and words are remembered, and with which ids: what is known says it too, but would have to be walked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct ImageBytes {
    of: BTreeMap<RequestId, usize>,
    total: usize,
}

impl ImageBytes {
    fn put(&mut self, id: RequestId, bytes: usize) {
        if bytes > 0 {
            self.total += bytes;
            self.total -= self.of.insert(id, bytes).unwrap_or(0);
        }
    }

    fn remove(&mut self, id: &RequestId) {
        self.total -= self.of.remove(id).unwrap_or(0);
    }

    /// The oldest id with images, where there are too many bytes.
    fn surplus(&self, bound: usize) -> Option<RequestId> {
        self.of.first_key_value().filter(|_| self.total > bound).map(|(id, _)| *id)
    }
}

impl Window {
    fn new(latest: Timestamp, horizon: Timestamp, known: BTreeMap<RequestId, Remembered>) -> Self {
        let mut images = ImageBytes::default();
        for (id, known) in &known {
            images.put(*id, known.outcome.as_ref().map_or(0, Outcome::told_bytes));
        }
        Self { latest, horizon, known, images }
    }

    /// Ids made at this time or before are refused.
    pub fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// The latest leader's time it has seen.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// How many ids it holds.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// An entry with this leader's time is about to be applied: forgets what is too old now. Done for every entry that has
    /// a time, whether or not it has an id. A time before the latest changes nothing.
    pub fn advance(&mut self, time: Timestamp) {
        self.latest = self.latest.max(time);
        let horizon = Timestamp(self.latest.0.saturating_sub(WINDOW_SECONDS * 1_000_000));
        self.raise_horizon(horizon);
    }

    /// What to do with a write under `id`, whose entry's time was [advanced](Self::advance) to.
    pub fn judge(&self, id: RequestId) -> Verdict {
        let made = made_at(id);
        match self.known.get(&id) {
            Some(known) => Verdict::Repeat(known.outcome.clone()),
            None if is_on(Mutation::ApplyAfterWindow) => Verdict::Fresh,
            None if made <= self.horizon || made > self.latest.plus_seconds(AHEAD_SECONDS_MAX) => Verdict::Unknown,
            None => Verdict::Fresh,
        }
    }

    /// Remembers how a write ended that was judged fresh. `hash` is that of the item's ID.
    pub fn remember(&mut self, id: RequestId, hash: u32, outcome: Outcome) {
        self.remember_with_images(id, hash, outcome, IMAGE_BYTES_MAX);
    }

    fn remember_with_images(&mut self, id: RequestId, hash: u32, outcome: Outcome, bound: usize) {
        let bytes = outcome.told_bytes();
        // An image is a slice of something larger, which must not be kept for it.
        let outcome = if bytes > bound { None } else { Some(outcome.apart()) };
        self.images.put(id, if outcome.is_some() { bytes } else { 0 });
        self.remember_bounded(id, hash, outcome, REQUESTS_MAX);
        while let Some(oldest) = self.images.surplus(bound) {
            self.images.remove(&oldest);
            if let Some(known) = self.known.get_mut(&oldest) {
                known.outcome = None;
            }
        }
    }

    /// After a start: an entry with this leader's time, and a write under `id` if it has one, that was applied before.
    pub fn replay(&mut self, time: Timestamp, write: Option<(RequestId, u32)>) {
        self.advance(time);
        if let Some((id, hash)) = write.filter(|(id, _)| self.judge(*id) == Verdict::Fresh) {
            self.remember_bounded(id, hash, None, REQUESTS_MAX);
        }
    }

    fn remember_bounded(&mut self, id: RequestId, hash: u32, outcome: Option<Outcome>, bound: usize) {
        self.known.insert(id, Remembered { hash, outcome });
        while self.known.len() > bound {
            let Some((oldest, _)) = self.known.first_key_value() else { return };
            self.raise_horizon(made_at(*oldest));
        }
    }

    /// Ids up to this time go, and are refused from now on.
    fn raise_horizon(&mut self, horizon: Timestamp) {
        self.horizon = self.horizon.max(horizon);
        while let Some(oldest) = self.known.first_entry() {
            if made_at(*oldest.key()) > self.horizon {
                return;
            }
            self.images.remove(oldest.key());
            oldest.remove();
        }
    }

    /// The windows of the two children of a split whose upper child begins with the hash `at`. Both have the parent's
    /// horizon.
    pub fn split(&self, at: u32) -> [Window; 2] {
        let part = |is_upper: bool| {
            let known = self.known.iter().filter(|(_, known)| (known.hash >= at) == is_upper);
            let known = known.map(|(id, known)| (*id, known.clone())).collect();
            Window::new(self.latest, self.horizon, known)
        };
        [part(false), part(true)]
    }

    /// The window as bytes.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(21 + 32 * self.known.len());
        buffer.put_u8(FORMAT_VERSION);
        buffer.put_u64(self.latest.0);
        buffer.put_u64(self.horizon.0);
        buffer.put_u32(self.known.len() as u32);
        for (id, known) in &self.known {
            buffer.put_slice(id.as_bytes());
            buffer.put_u32(known.hash);
            let outcome = known.outcome.as_ref().map(Outcome::encode).unwrap_or_default();
            buffer.put_u32(outcome.len() as u32);
            buffer.put_slice(&outcome);
        }
        buffer.freeze()
    }

    /// The window in these bytes; none where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [FORMAT_VERSION] {
            return None;
        }
        let latest = Timestamp(u64::from_be_bytes(take(&mut rest)?));
        let horizon = Timestamp(u64::from_be_bytes(take(&mut rest)?));
        let count = u32::from_be_bytes(take(&mut rest)?);
        let mut known = BTreeMap::new();
        for _ in 0..count {
            let id = RequestId::from_bytes(take(&mut rest)?);
            let hash = u32::from_be_bytes(take(&mut rest)?);
            let length = u32::from_be_bytes(take(&mut rest)?) as usize;
            let (outcome, tail) = rest.split_at_checked(length)?;
            rest = tail;
            let is_later = known.last_key_value().is_none_or(|(last, _)| *last < id);
            if !is_later || made_at(id) <= horizon {
                return None;
            }
            let outcome = if outcome.is_empty() { None } else { Some(Outcome::decode(outcome)?) };
            known.insert(id, Remembered { hash, outcome });
        }
        rest.is_empty().then(|| Self::new(latest, horizon, known))
    }
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (head, tail) = rest.split_first_chunk::<LENGTH>()?;
    *rest = tail;
    Some(*head)
}

/// Reads any bytes as a window; what is read must survive being written.
#[doc(hidden)]
pub fn fuzz_window(data: &[u8]) {
    if let Some(window) = Window::decode(data) {
        assert_eq!(window.encode(), data);
    }
}

#[cfg(test)]
mod tests;
