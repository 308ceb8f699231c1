//! Messages between nodes: what travels from one node to another goes one way, in frames of many messages, for all
//! ranges together. An answer is a message of its own on the way back. A frame may be lost, come twice, late or out of
//! order: who sends expects nothing, and asks again.
//!
//! [`Carrier`] is the network: HTTP over mutual TLS between processes ([`super::frame_client`]), a call within one
//! process and a simulated network in tests ([`super::memory`]). [`Links`] is the queue before it: one for each peer and
//! [`Lane`], emptied by a task that lives only while something is in it. While a frame is under way the next one
//! gathers, so that a busy pair of nodes shares frames and an idle pair costs nothing, without a timer that would hold a
//! lone message up.
//!
//! | what | why |
//! |---|---|
//! | one frame of a lane under way at a time | order: an append that overtakes the one before it is refused by the follower, and both are sent again |
//! | three lanes | pieces of snapshots are large, and a vote must not wait behind them; a sign of life waits behind nothing, or a node that has much to say would be taken for gone |
//! | a bound in bytes for each queue | a peer that is gone must not fill the memory; its newest messages are refused, so that what is sent is a row without gaps |
//! | a pause after a frame that failed | a peer that refuses connections would be asked as fast as messages come |
//! | one runtime for all of them, named when the links are made | a kept connection is driven by the runtime in which it was made, and senders stand in many |
//!
//! Who waits for an answer learns early that none will come: [`Undelivered`] is told of the messages of a frame that
//! failed. They may have arrived all the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::frames::{self, FRAME_BYTES, MESSAGE_BYTES_MAX, framed_bytes};
use crate::domain::ids::NodeId;

/// A frame did not get through, as far as its sender can tell. It may have arrived all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node {node} cannot be reached: {reason}")]
pub struct CarryError {
    /// The node it was for.
    pub node: NodeId,
    /// What happened.
    pub reason: String,
}

/// Brings frames to other nodes.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Brings one frame to a node. Returns when it has been handed over there; it has not been acted on then.
    ///
    /// # Errors
    /// [`CarryError`] where that is not known to have happened.
    async fn carry(&self, to: NodeId, frame: Bytes) -> Result<(), CarryError>;
}

/// Takes frames that come in. `from` is the node whose certificate the peer showed. Returns at once.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one frame; one that is not understood is counted and dropped.
    fn deliver(&self, from: NodeId, frame: Bytes);
}

/// Is told of messages that did not get through, as far as can be told. Returns at once.
pub trait Undelivered: Send + Sync + 'static {
    /// This message was in a frame that failed. It may have arrived all the same.
    fn undelivered(&self, to: NodeId, message: &Bytes);
}

/// Messages of different lanes do not wait for each other, and may overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Everything that somebody waits for.
    Small,
    /// Pieces of snapshots.
    Bulk,
    /// Signs of life of a node.
    Signs,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Too much waits for this peer already.
    #[error("too much waits for this node already")]
    Full,
    /// No message may be so large.
    #[error("a message of {0} bytes is larger than any may be")]
    TooLarge(usize),
    /// The process stops.
    #[error("nothing is sent any more: the process stops")]
    Closed,
}

/// How messages are sent.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Bytes that may wait for one peer in one lane. A message that finds the queue empty is taken whatever its size.
    pub queue_bytes_max: usize,
    /// The pause after a frame that failed.
    pub pause_min: Duration,
    /// The pause after many that failed; it doubles up to this.
    pub pause_max: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            queue_bytes_max: 16 * 1024 * 1024,
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_millis(250),
        }
    }
}

/// What a lane has done since the start, all peers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts {
    /// Frames that were handed over.
    pub frames: u64,
    /// The messages in them.
    pub messages: u64,
    /// The bytes of them, the frames' own included.
    pub bytes: u64,
    /// Frames that failed.
    pub frames_failed: u64,
    /// The messages in those.
    pub messages_lost: u64,
    /// Messages that were not taken.
    pub messages_refused: u64,
    /// How often a peer was reached again that had not been.
    pub reconnects: u64,
}

#[derive(Default)]
struct Counters {
    frames: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    frames_failed: AtomicU64,
    messages_lost: AtomicU64,
    messages_refused: AtomicU64,
    reconnects: AtomicU64,
    /// Peers whose last frame failed.
    unreached: Mutex<BTreeSet<NodeId>>,
}

/// See the module's essay. Dropping it ends what it runs; what still waits is not sent then.
pub struct Links {
    shared: Arc<Shared>,
}

struct Shared {
    carrier: Arc<dyn Carrier>,
    runtime: Handle,
    options: LinkOptions,
    waiting: Mutex<Waiting>,
    undelivered: OnceLock<Weak<dyn Undelivered>>,
    small: Counters,
    bulk: Counters,
    signs: Counters,
}

type LinkKey = (NodeId, Lane);

/// A queue is here exactly while its pump runs.
#[derive(Default)]
struct Waiting {
    queues: BTreeMap<LinkKey, Queue>,
    is_closed: bool,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Links {
    /// Links over this carrier, whose tasks run in this runtime.
    pub fn new(carrier: Arc<dyn Carrier>, runtime: Handle, options: LinkOptions) -> Self {
        let (waiting, undelivered) = (Mutex::default(), OnceLock::new());
        let (small, bulk, signs) = (Counters::default(), Counters::default(), Counters::default());
        Self { shared: Arc::new(Shared { carrier, runtime, options, waiting, undelivered, small, bulk, signs }) }
    }

    /// Names whom to tell of messages that did not get through. Only the first call counts.
    pub fn tell_of_undelivered(&self, whom: Weak<dyn Undelivered>) {
        let _ = self.shared.undelivered.set(whom);
    }

    /// Sends a message, some time: behind what waits for that node in this lane. May be called from any thread.
    ///
    /// # Errors
    /// [`NotSent`] where it was not taken. Where it was, it may be lost all the same.
    pub fn send(&self, to: NodeId, message: Bytes, lane: Lane) -> Result<(), NotSent> {
        let taken = self.shared.take_in(to, message, lane);
        match taken {
            Ok(true) => drop(self.shared.runtime.spawn(pump(self.shared.clone(), (to, lane)))),
            Ok(false) => {}
            Err(_) => count(&self.shared.counters(lane).messages_refused, 1),
        }
        taken.map(|_| ())
    }

    /// What a lane has done.
    pub fn counts(&self, lane: Lane) -> LinkCounts {
        let counters = self.shared.counters(lane);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkCounts {
            frames: read(&counters.frames),
            messages: read(&counters.messages),
            bytes: read(&counters.bytes),
            frames_failed: read(&counters.frames_failed),
            messages_lost: read(&counters.messages_lost),
            messages_refused: read(&counters.messages_refused),
            reconnects: read(&counters.reconnects),
        }
    }

    /// Peers whose last frame of this lane did not get through.
    pub fn unreached(&self, lane: Lane) -> usize {
        self.shared.counters(lane).unreached.lock().len()
    }

    /// Peers, or lanes of peers, that something is being sent to.
    pub fn busy_count(&self) -> usize {
        self.shared.waiting.lock().queues.len()
    }

    /// Bytes that wait, for all peers, without those under way.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.waiting.lock().queues.values().map(|queue| queue.bytes).sum()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock();
        waiting.is_closed = true;
        waiting.queues.clear();
    }
}

impl Shared {
    fn counters(&self, lane: Lane) -> &Counters {
        match lane {
            Lane::Small => &self.small,
            Lane::Bulk => &self.bulk,
            Lane::Signs => &self.signs,
        }
    }

    /// Whether a pump is to be started.
    fn take_in(&self, to: NodeId, message: Bytes, lane: Lane) -> Result<bool, NotSent> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(NotSent::TooLarge(message.len()));
        }
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Err(NotSent::Closed);
        }
        let is_new = !waiting.queues.contains_key(&(to, lane));
        let queue = waiting.queues.entry((to, lane)).or_default();
        let bytes = framed_bytes(&message);
        if queue.bytes > 0 && queue.bytes + bytes > self.options.queue_bytes_max {
            return Err(NotSent::Full);
        }
        queue.bytes += bytes;
        queue.messages.push_back(message);
        Ok(is_new)
    }

    /// The messages of the next frame; none, and the queue is gone, where there are none.
    fn take_out(&self, key: LinkKey) -> Option<Vec<Bytes>> {
        let mut waiting = self.waiting.lock();
        let queue = waiting.queues.get_mut(&key)?;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(message) = queue.messages.front() {
            let more = framed_bytes(message);
            if !taken.is_empty() && bytes + more > FRAME_BYTES {
                break;
            }
            bytes += more;
            taken.extend(queue.messages.pop_front());
        }
        queue.bytes -= bytes;
        if taken.is_empty() {
            waiting.queues.remove(&key);
            return None;
        }
        Some(taken)
    }

    fn carried(&self, (to, lane): LinkKey, messages: usize, bytes: usize) {
        let counters = self.counters(lane);
        count(&counters.frames, 1);
        count(&counters.messages, messages);
        count(&counters.bytes, bytes);
        if counters.unreached.lock().remove(&to) {
            count(&counters.reconnects, 1);
        }
    }

    fn lost(&self, (to, lane): LinkKey, messages: &[Bytes], error: &CarryError) {
        let counters = self.counters(lane);
        counters.unreached.lock().insert(to);
        count(&counters.frames_failed, 1);
        count(&counters.messages_lost, messages.len());
        tracing::debug!(%error, ?lane, messages = messages.len(), "a frame did not get through");
        if let Some(whom) = self.undelivered.get().and_then(Weak::upgrade) {
            messages.iter().for_each(|message| whom.undelivered(to, message));
        }
    }
}

/// Sends what waits, frame by frame, until nothing does.
async fn pump(shared: Arc<Shared>, key: LinkKey) {
    let mut unfinished = Unfinished { shared: &shared, key: Some(key) };
    let mut pause = shared.options.pause_min;
    while let Some(messages) = shared.take_out(key) {
        let frame = frames::encode(&messages);
        let bytes = frame.len();
        match shared.carrier.carry(key.0, frame).await {
            Ok(()) => {
                pause = shared.options.pause_min;
                shared.carried(key, messages.len(), bytes);
            }
            Err(error) => {
                shared.lost(key, &messages, &error);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(shared.options.pause_max);
            }
        }
    }
    unfinished.key = None;
}

/// A pump that ends before its queue is empty, because its carrier panicked or its runtime stops, takes the queue with it:
/// otherwise nobody would ever empty it.
struct Unfinished<'a> {
    shared: &'a Shared,
    key: Option<LinkKey>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // One that ends in order has removed it under the lock, and by now another pump may have begun one.
        if let Some(key) = self.key {
            self.shared.waiting.lock().queues.remove(&key);
        }
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
