//! Which of the nodes that this one shares groups with are there: one beacon for each pair of nodes stands for the
//! heartbeats of all groups that sleep.
//!
//! A node sends beacons only while its commit log gets on: a node whose disk hangs leads nothing well, and is to be
//! taken for gone, although its process answers. A log with nothing to do gets on.
//!
//! A node that has just started knows of no group that sleeps: which nodes it shares them with stands in files that nobody
//! has opened. Those nodes know it, and send it beacons. So whoever sends one gets one, marked as an answer: without the mark
//! two nodes that share nothing any more would answer each other for ever.
//!
//! What a beacon tells is acted upon. A node that was silent and is **back** may lack what was written meanwhile by
//! groups that went to sleep without it. A node that has **started anew** leads no group any more, however short it was away. And one that
//! is about to stop says so, twice: while it **leaves** it is given no leadership, though it still answers; with its last beacon it is
//! **gone**, and nobody has to wait until its silence is noticed.
//!
//! No clock is asked here: whoever calls says what time it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::timing::SILENCE;
use crate::domain::ids::NodeId;

/// See the module's essay.
#[derive(Debug, Default)]
pub struct Presence {
    peers: BTreeMap<NodeId, Peer>,
    log: Option<LogProgress>,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    /// Whether groups are shared with it, as far as is known here.
    is_shared: bool,
    heard: Instant,
    /// When it last sent a beacon that was no answer.
    asked: Option<Instant>,
    /// Which start of its process was heard.
    boot: Option<u64>,
    is_told: bool,
    departure: Departure,
}

/// How long a node means to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Departure {
    /// It says nothing of an end.
    #[default]
    Stays,
    /// It answers still, and hands its leaderships over.
    Leaves,
    /// It has stopped, as planned.
    Gone,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self { is_shared: false, heard: now, asked: None, boot: None, is_told: false, departure: Departure::Stays }
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.departure == Departure::Gone || now > self.heard + SILENCE
    }
}

/// A beacon of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Which start of its process sends it.
    pub boot: u64,
    /// Whether it knows of no groups that it shares with this one.
    pub is_answer: bool,
    /// How long it means to stay.
    pub departure: Departure,
}

/// What a beacon tells beside that its node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// It was silent, or is new here.
    pub is_back: bool,
    /// Its process has started since its last beacon.
    pub is_restarted: bool,
    /// This was its last one.
    pub is_last: bool,
}

/// How far the commit log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogProgress {
    /// Groups written so far.
    pub groups: u64,
    /// Whether something waits to be written.
    pub is_waiting: bool,
}

impl Presence {
    /// These are the nodes that groups are shared with now. One that is new counts as heard now.
    pub fn share_with(&mut self, shared: &BTreeSet<NodeId>, now: Instant) {
        for node in shared {
            self.peers.entry(*node).or_insert_with(|| Peer::new(now)).is_shared = true;
        }
        self.peers.retain(|node, peer| {
            peer.is_shared = shared.contains(node);
            peer.is_shared || !peer.is_silent(now)
        });
    }

    /// The nodes that groups are shared with.
    pub fn peers(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.is_shared).map(|(node, _)| *node).collect()
    }

    /// This node was held up for so long before now: what was sent to it meanwhile it may have still to read. Nobody's silence counts for
    /// that time, or a node that is short of processors would take all others for gone, wake their groups, and be shorter still.
    pub fn did_not_listen(&mut self, held_up: Duration, now: Instant) {
        for peer in self.peers.values_mut().filter(|peer| !peer.is_told) {
            peer.heard = (peer.heard + held_up).min(now);
        }
    }

    /// To whom beacons go, and whether as an answer.
    pub fn listeners(&self, now: Instant) -> Vec<(NodeId, bool)> {
        let asks = |peer: &Peer| peer.asked.is_some_and(|asked| now <= asked + SILENCE);
        let listens = self.peers.iter().filter(|(_, peer)| peer.is_shared || asks(peer));
        listens.map(|(node, peer)| (*node, !peer.is_shared)).collect()
    }

    /// A beacon came.
    pub fn heard(&mut self, node: NodeId, beacon: Heard, now: Instant) -> News {
        let known = self.peers.get(&node).copied();
        if known.is_some_and(|known| known.departure == Departure::Gone && known.boot == Some(beacon.boot)) {
            // An earlier one, late.
            return News::default();
        }
        let peer = self.peers.entry(node).or_insert_with(|| Peer::new(now));
        if !beacon.is_answer {
            peer.asked = Some(now);
        }
        let heard = Peer { heard: now, boot: Some(beacon.boot), is_told: false, departure: beacon.departure, ..*peer };
        let before = std::mem::replace(peer, heard);
        News {
            is_back: known.is_none_or(|known| known.is_silent(now)),
            is_restarted: before.boot.is_some_and(|boot| boot != beacon.boot),
            is_last: beacon.departure == Departure::Gone,
        }
    }

    /// Whether the node is there and means to stay: only then it is given leadership.
    pub fn stays(&self, node: NodeId, now: Instant) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.departure == Departure::Stays && !peer.is_silent(now))
    }

    /// Whether the node has stopped as planned.
    pub fn is_gone(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.departure == Departure::Gone)
    }

    /// Whether the node counts as gone; one that was never heard and that no groups are shared with is not known to be there.
    pub fn is_silent(&self, node: NodeId, now: Instant) -> bool {
        self.peers.get(&node).is_none_or(|peer| peer.is_silent(now))
    }

    /// The nodes that have become silent since this was asked last.
    pub fn newly_silent(&mut self, now: Instant) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for (node, peer) in &mut self.peers {
            if peer.is_shared && !peer.is_told && peer.is_silent(now) {
                peer.is_told = true;
                silent.push(*node);
            }
        }
        silent
    }

    /// Whether beacons may be sent, now that the log is this far: not where something waits and nothing was written since
    /// the last time.
    pub fn may_send(&mut self, log: LogProgress) -> bool {
        let before = self.log.replace(log);
        !before.is_some_and(|before| before.is_waiting && log.is_waiting && before.groups == log.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::group::timing::BEACON;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    const BEAT: Heard = Heard { boot: 1, is_answer: false, departure: Departure::Stays };

    #[tokio::test]
    async fn silence_is_told_once_and_ends_with_a_beacon() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.share_with(&BTreeSet::from([node(1), node(2)]), now);
        assert!(!presence.is_silent(node(1), now + SILENCE) && presence.newly_silent(now + SILENCE).is_empty());
        let later = now + SILENCE + Duration::from_millis(1);
        assert_eq!(presence.heard(node(2), BEAT, now + SILENCE), News::default());
        assert_eq!(presence.newly_silent(later), [node(1)]);
        assert!(presence.newly_silent(later).is_empty(), "told once");
        assert_eq!(presence.heard(node(1), BEAT, later), News { is_back: true, ..News::default() });
        assert!(!presence.is_silent(node(1), later));
        let much_later = later + SILENCE + BEACON;
        assert_eq!(presence.newly_silent(much_later), [node(1), node(2)]);
        presence.share_with(&BTreeSet::from([node(2)]), much_later);
        assert_eq!(presence.peers(), [node(2)]);
        assert!(presence.is_silent(node(1), much_later), "nothing is known of it");
    }

    #[tokio::test]
    async fn a_node_that_was_held_up_takes_nobody_for_gone() {
        let began = Instant::now();
        let mut presence = Presence::default();
        presence.share_with(&BTreeSet::from([node(1)]), began);
        let now = began + SILENCE * 3;
        presence.did_not_listen(SILENCE * 3 - BEACON, now);
        assert!(presence.newly_silent(now).is_empty(), "what was sent meanwhile is still to be read");
        assert_eq!(presence.newly_silent(now + SILENCE), [node(1)], "there was nothing");
        presence.did_not_listen(SILENCE * 9, now + SILENCE);
        assert!(presence.is_silent(node(1), now + SILENCE), "it stays so until it is heard");
    }

    #[tokio::test]
    async fn a_process_that_started_anew_is_told_from_one_that_went_on() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.share_with(&BTreeSet::from([node(1)]), now);
        assert_eq!(presence.heard(node(1), BEAT, now), News::default(), "the first one says nothing of a start");
        assert_eq!(presence.heard(node(1), BEAT, now), News::default());
        let other = Heard { boot: 2, ..BEAT };
        assert_eq!(presence.heard(node(1), other, now), News { is_restarted: true, ..News::default() });
        assert_eq!(presence.heard(node(1), other, now), News::default());
    }

    #[tokio::test]
    async fn a_node_that_stops_as_planned_is_gone_with_its_last_beacon() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.share_with(&BTreeSet::from([node(1)]), now);
        presence.heard(node(1), BEAT, now);
        assert!(presence.stays(node(1), now));
        let leaving = Heard { departure: Departure::Leaves, ..BEAT };
        assert_eq!(presence.heard(node(1), leaving, now), News::default());
        assert!(!presence.stays(node(1), now) && !presence.is_silent(node(1), now), "it answers still");
        let last = Heard { departure: Departure::Gone, ..BEAT };
        assert_eq!(presence.heard(node(1), last, now), News { is_last: true, ..News::default() });
        assert!(presence.is_gone(node(1)) && presence.is_silent(node(1), now));
        assert_eq!(presence.newly_silent(now), [node(1)], "at once");
        assert_eq!(
            presence.heard(node(1), leaving, now),
            News::default(),
            "one that was sent before it, and came later"
        );
        assert!(presence.is_silent(node(1), now) && presence.newly_silent(now).is_empty());
        let next = Heard { boot: 2, ..BEAT };
        let news = presence.heard(node(1), next, now);
        assert_eq!(news, News { is_back: true, is_restarted: true, is_last: false });
        assert!(presence.stays(node(1), now));
    }

    /// One of two nodes shares groups with the other, which does not know it yet; then neither does any more.
    #[tokio::test]
    async fn who_sends_a_beacon_gets_one_and_an_answer_is_not_answered() {
        let now = Instant::now();
        let (mut knows, mut started) = (Presence::default(), Presence::default());
        knows.share_with(&BTreeSet::from([node(2)]), now);
        started.share_with(&BTreeSet::new(), now);
        assert!(started.listeners(now).is_empty());
        assert_eq!(knows.listeners(now), [(node(2), false)]);
        assert!(started.heard(node(1), BEAT, now).is_back);
        assert_eq!(started.listeners(now), [(node(1), true)], "as an answer");
        assert!(!started.is_silent(node(1), now) && started.peers().is_empty());
        knows.heard(node(2), Heard { is_answer: true, ..BEAT }, now);
        knows.share_with(&BTreeSet::new(), now);
        started.share_with(&BTreeSet::new(), now);
        assert!(knows.listeners(now).is_empty(), "an answer asks for none");
        let later = now + SILENCE + Duration::from_millis(1);
        started.share_with(&BTreeSet::new(), later);
        assert!(started.listeners(later).is_empty(), "and this ends, too");
        assert!(started.newly_silent(later).is_empty(), "nobody waits for a node that nothing is shared with");
    }

    #[test]
    fn a_log_that_hangs_sends_no_beacons() {
        let mut presence = Presence::default();
        let log = |groups, is_waiting| LogProgress { groups, is_waiting };
        assert!(presence.may_send(log(5, true)));
        assert!(!presence.may_send(log(5, true)), "something waits, and nothing was written");
        assert!(presence.may_send(log(6, true)));
        assert!(presence.may_send(log(6, false)));
        assert!(presence.may_send(log(6, false)), "nothing to do");
        assert!(presence.may_send(log(6, true)), "it has only just come");
    }
}
