//! A network within one process: frames go from inbox to inbox by a call. It carries between the nodes of one process,
//! and, with faults, stands for a bad network in tests.
//!
//! Faults are drawn from a given [`Random`] in the order of the frames, and delays are tokio's time: with one thread, a
//! clock that is not the system's and a seed, a run is the same each time.
//!
//! | fault | what the sender sees | what arrives |
//! |---|---|---|
//! | cut (one way), or nobody there | an error | nothing |
//! | dropped | success: as when the other process stops before it looks into its inbox | nothing |
//! | delayed | success, that much later | it, that much later |
//! | duplicated | success | it, and it again after another delay |
//! | overtaken | success at once | it, later, so that the next may come before it |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::links::{Carrier, CarryError, Inbox};
use crate::domain::Random;
use crate::domain::ids::NodeId;

/// What goes wrong, in parts of a thousand frames. By default nothing does, and nothing takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Frames that vanish.
    pub dropped: u16,
    /// Frames that come twice.
    pub duplicated: u16,
    /// Frames that those behind them may overtake.
    pub overtaken: u16,
    /// The least that a frame takes.
    pub delay_min: Duration,
    /// The most that a frame takes, without those that are overtaken or come again: they take up to four times that.
    pub delay_max: Duration,
}

/// See the module's essay.
#[derive(Clone)]
pub struct MemoryNetwork {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// None where nothing ever goes wrong.
    random: Option<Arc<dyn Random>>,
}

#[derive(Default)]
struct State {
    /// Weak, because a node's inbox leads to what sends through this network.
    inboxes: BTreeMap<NodeId, Weak<dyn Inbox>>,
    /// From whom to whom nothing goes.
    cuts: BTreeSet<(NodeId, NodeId)>,
    faults: Faults,
}

impl MemoryNetwork {
    /// A network on which nothing goes wrong.
    pub fn direct() -> Self {
        Self { inner: Arc::new(Inner { state: Mutex::default(), random: None }) }
    }

    /// A network with faults, drawn from `random`.
    pub fn faulty(random: Arc<dyn Random>, faults: Faults) -> Self {
        let state = Mutex::new(State { faults, ..State::default() });
        Self { inner: Arc::new(Inner { state, random: Some(random) }) }
    }

    /// From now on frames for `node` go to `inbox`, as long as that lives; also those that are under way.
    pub fn attach(&self, node: NodeId, inbox: &Arc<dyn Inbox>) {
        self.inner.state.lock().inboxes.insert(node, Arc::downgrade(inbox));
    }

    /// Nobody is there any more.
    pub fn detach(&self, node: NodeId) {
        self.inner.state.lock().inboxes.remove(&node);
    }

    /// What carries for this node.
    pub fn carrier(&self, from: NodeId) -> Arc<MemoryCarrier> {
        Arc::new(MemoryCarrier { network: self.clone(), from })
    }

    /// Nothing goes from one node to the other any more; the other way is another cut.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.inner.state.lock().cuts.insert((from, to));
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.inner.state.lock().cuts.clear();
    }

    /// Ends one cut.
    pub fn mend(&self, from: NodeId, to: NodeId) {
        self.inner.state.lock().cuts.remove(&(from, to));
    }

    /// Other faults from now on. A network that was made without any has none.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.state.lock().faults = faults;
    }

    fn inbox(&self, to: NodeId) -> Option<Arc<dyn Inbox>> {
        self.inner.state.lock().inboxes.get(&to).and_then(Weak::upgrade)
    }

    fn reaches(&self, from: NodeId, to: NodeId) -> Result<(), CarryError> {
        let failed = |reason: &str| Err(CarryError { node: to, reason: reason.to_owned() });
        if self.inner.state.lock().cuts.contains(&(from, to)) {
            return failed("the way is cut");
        }
        if self.inbox(to).is_none() { failed("nobody is there") } else { Ok(()) }
    }

    /// What becomes of the next frame.
    fn draw(&self) -> Fate {
        let Some(random) = &self.inner.random else { return Fate::default() };
        let faults = self.inner.state.lock().faults;
        let happens = |thousandths: u16| number(&**random) % 1000 < u64::from(thousandths);
        let between = |min: Duration, max: Duration| {
            let span = max.saturating_sub(min).as_micros() as u64;
            min + Duration::from_micros(if span == 0 { 0 } else { number(&**random) % (span + 1) })
        };
        // As many numbers for each frame, whatever its fate: one fault more does not change all that comes after.
        let (dropped, duplicated) = (happens(faults.dropped), happens(faults.duplicated));
        let overtaken = happens(faults.overtaken);
        let delay = between(faults.delay_min, faults.delay_max);
        let later = between(faults.delay_min, faults.delay_max * 4);
        Fate { dropped, duplicated, overtaken, delay, later }
    }

    fn deliver_later(&self, from: NodeId, to: NodeId, frame: Bytes, delay: Duration) {
        let network = self.clone();
        drop(tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if let Some(inbox) = network.inbox(to) {
                inbox.deliver(from, frame);
            }
        }));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Fate {
    dropped: bool,
    duplicated: bool,
    overtaken: bool,
    delay: Duration,
    later: Duration,
}

fn number(random: &dyn Random) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

/// What one node sends through.
pub struct MemoryCarrier {
    network: MemoryNetwork,
    from: NodeId,
}

#[async_trait]
impl Carrier for MemoryCarrier {
    async fn carry(&self, to: NodeId, frame: Bytes) -> Result<(), CarryError> {
        let (network, from) = (&self.network, self.from);
        let fate = network.draw();
        network.reaches(from, to)?;
        if fate.duplicated && !fate.dropped {
            network.deliver_later(from, to, frame.clone(), fate.later);
        }
        if fate.overtaken && !fate.dropped {
            network.deliver_later(from, to, frame, fate.later);
            return Ok(());
        }
        if !fate.delay.is_zero() {
            tokio::time::sleep(fate.delay).await;
            // It may have been cut, or the node stopped, meanwhile.
            network.reaches(from, to)?;
        }
        if let Some(inbox) = network.inbox(to).filter(|_| !fate.dropped) {
            inbox.deliver(from, frame);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
