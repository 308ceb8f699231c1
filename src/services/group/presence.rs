//! Which of the nodes that this one shares groups with are there: one beacon for each pair of nodes stands for the
//! heartbeats of all groups that sleep.
//!
//! A node sends beacons only while its commit log gets on: a node whose disk hangs leads nothing well, and is to be
//! taken for gone, although its process answers. A log with nothing to do gets on.
//!
//! No clock is asked here: whoever calls says what time it is.

use std::collections::{BTreeMap, BTreeSet};

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
    heard: Instant,
    is_told: bool,
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
    pub fn share_with(&mut self, peers: &BTreeSet<NodeId>, now: Instant) {
        self.peers.retain(|node, _| peers.contains(node));
        for node in peers {
            self.peers.entry(*node).or_insert(Peer { heard: now, is_told: false });
        }
    }

    /// The nodes that groups are shared with.
    pub fn peers(&self) -> Vec<NodeId> {
        self.peers.keys().copied().collect()
    }

    /// A beacon came.
    pub fn heard(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&node) {
            *peer = Peer { heard: now, is_told: false };
        }
    }

    /// Whether the node counts as gone; one that no groups are shared with is not known to be there.
    pub fn is_silent(&self, node: NodeId, now: Instant) -> bool {
        self.peers.get(&node).is_none_or(|peer| now > peer.heard + SILENCE)
    }

    /// The nodes that have become silent since this was asked last.
    pub fn newly_silent(&mut self, now: Instant) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for (node, peer) in &mut self.peers {
            if !peer.is_told && now > peer.heard + SILENCE {
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
    use std::time::Duration;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    #[tokio::test]
    async fn silence_is_told_once_and_ends_with_a_beacon() {
        let now = Instant::now();
        let mut presence = Presence::default();
        presence.share_with(&BTreeSet::from([node(1), node(2)]), now);
        assert!(!presence.is_silent(node(1), now + SILENCE) && presence.newly_silent(now + SILENCE).is_empty());
        let later = now + SILENCE + Duration::from_millis(1);
        presence.heard(node(2), later);
        assert_eq!(presence.newly_silent(later), [node(1)]);
        assert!(presence.newly_silent(later).is_empty(), "told once");
        presence.heard(node(1), later);
        assert!(!presence.is_silent(node(1), later));
        let much_later = later + SILENCE + BEACON;
        assert_eq!(presence.newly_silent(much_later), [node(1), node(2)]);
        presence.share_with(&BTreeSet::from([node(2)]), much_later);
        assert_eq!(presence.peers(), [node(2)]);
        assert!(presence.is_silent(node(1), much_later), "nothing is known of it");
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
