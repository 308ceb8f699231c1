//! What nodes tell each other of their starts and of their logs, so that one whose folder was put back is found out
//! ([`crate::services::rolled_back`]).
//!
//! Beacons carry the sender's boot number and how far its log is synced. Whoever hears them keeps the last; what contradicts
//! what was heard before is not taken in, and answered with what was heard. Before a node votes in a group for the first
//! time since its start, it asks the nodes of the other members what they have heard of it, and waits a lease for those that
//! it has not asked before. A leader that goes on leading a group that slept does not vote, and needs not ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::ids::NodeId;
use crate::replication::boots::Heard;
use crate::replication::machine_state::LogPlace;
use crate::services::engine::replica::Replica;
use crate::services::rolled_back::{Objection, OwnBoots};

use super::host::Groups;
use super::timing::LEASE;
use super::wire::{Envelope, NodeMessage};

/// The flag of a beacon that names a boot number and a place in the log, and not any numbers.
pub(super) const FLAG_BOOT: u32 = 2;

/// See the module's essay.
#[derive(Default)]
pub(super) struct BootNews {
    own: OnceLock<(Arc<OwnBoots>, u64)>,
    /// What was heard of others.
    heard: Mutex<BTreeMap<NodeId, Heard>>,
    /// The nodes that were asked, when, and whether they have answered.
    asked: Mutex<BTreeMap<NodeId, (Instant, bool)>>,
    /// Why this node is not to be believed.
    objection: watch::Sender<Option<Objection>>,
}

/// What to keep of a node of which something is heard, and whether it contradicts what is known. Numbers below `floor` are of
/// no interest any more, as that node says.
fn hear(known: Option<Heard>, now: Heard, floor: u64) -> (Heard, bool) {
    match known.filter(|known| known.boot >= floor) {
        None => (now, false),
        Some(known) if known.boot == now.boot => (Heard { synced: known.synced.max(now.synced), ..now }, false),
        Some(known) if now.boot >> 32 > known.boot >> 32 && now.synced >= known.synced => (now, false),
        Some(known) => (known, true),
    }
}

impl Groups {
    /// This node's boot numbers. To be told before groups are started; without, nobody is told and nobody is asked.
    pub fn set_boots(&self, boots: Arc<OwnBoots>) {
        let opened_at = self.parts.engine.log().stats().opened_at;
        if self.boots.own.set((boots, opened_at)).is_err() {
            tracing::error!("the boot numbers were told twice");
        }
    }

    /// Says why this node's copies are not to be believed, whenever somebody objects to them.
    pub fn objections(&self) -> watch::Receiver<Option<Objection>> {
        self.boots.objection.subscribe()
    }

    /// What a beacon says of this node.
    pub(super) fn beacon(&self, synced: u64, groups: u64, flags: u32) -> NodeMessage {
        match self.boots.own.get() {
            Some((own, _)) => NodeMessage::Beacon { boot: own.present(), progress: synced, flags: flags | FLAG_BOOT },
            None => NodeMessage::Beacon { boot: self.boot, progress: groups, flags },
        }
    }

    /// A node tells of its starts, or asks what is known of them.
    pub(super) fn told_of_boots(&self, from: NodeId, message: NodeMessage) {
        match message {
            NodeMessage::Beacon { boot, progress, flags } if flags & FLAG_BOOT != 0 => {
                self.hear_of(from, Heard { boot, synced: progress }, None);
            }
            NodeMessage::Beacon { .. } => {}
            NodeMessage::Recall { boot, synced, floor } => self.hear_of(from, Heard { boot, synced }, Some(floor)),
            NodeMessage::Recalled { boot, synced } => self.recalled(from, Heard { boot, synced }),
        }
    }

    /// With a floor, it asks what is known.
    fn hear_of(&self, from: NodeId, now: Heard, floor: Option<u64>) {
        let (known, is_contradiction) = {
            let mut heard = self.boots.heard.lock();
            let (kept, is_contradiction) = hear(heard.get(&from).copied(), now, floor.unwrap_or(0));
            heard.insert(from, kept);
            (kept, is_contradiction)
        };
        if is_contradiction {
            tracing::warn!(%from, "a node has forgotten what it said of itself before");
        }
        if floor.is_some() || is_contradiction {
            let _ =
                self.parts.networks.tell_node(from, NodeMessage::Recalled { boot: known.boot, synced: known.synced });
        }
    }

    /// A node has told what it knows of this one.
    fn recalled(&self, from: NodeId, heard: Heard) {
        let Some((own, opened_at)) = self.boots.own.get() else { return };
        if let Some(asked) = self.boots.asked.lock().get_mut(&from) {
            asked.1 = true;
        }
        let why = if own.has_forgotten(heard.boot) {
            format!("node {from} has heard of a start of this node that the folder knows nothing of")
        } else if own.is_behind(*opened_at, &heard) {
            format!("node {from} has heard that its commit log went further than it did when it was opened")
        } else {
            if heard.boot < own.floor() {
                // It holds against this node what was given up.
                self.recall(from, own, *opened_at);
            }
            return;
        };
        self.object(Objection { why, boot: heard.boot });
    }

    fn recall(&self, node: NodeId, own: &OwnBoots, opened_at: u64) {
        let asks = NodeMessage::Recall { boot: own.present(), synced: opened_at, floor: own.floor() };
        // One that is not sent is as good as one that is lost: that node says nothing.
        let _ = self.parts.networks.tell_node(node, asks);
    }

    /// All that this node had promised was given up: it goes on under another boot number, and those who hold the one
    /// before against it are told.
    ///
    /// # Errors
    /// Where that cannot be written down.
    pub async fn start_over(&self, forgotten: u64) -> Result<(), String> {
        let Some((own, opened_at)) = self.boots.own.get() else { return Ok(()) };
        let (written, now, random) = (Arc::clone(own), self.parts.engine.clock().now(), Arc::clone(&self.parts.random));
        let over = self.parts.engine.workers().run(move || written.start_over(forgotten, now, &*random)).await;
        over.map_err(|_| "a task ended unexpectedly".to_owned())?.map_err(|error| error.to_string())?;
        self.boots.objection.send_replace(None);
        let asked: Vec<NodeId> = self.boots.asked.lock().keys().copied().collect();
        asked.into_iter().for_each(|node| self.recall(node, own, *opened_at));
        Ok(())
    }

    /// Somebody knows better than this node what it has promised.
    pub(super) fn object(&self, objection: Objection) {
        tracing::error!(why = objection.why, "this node's data folder is an older copy of itself");
        self.boots.objection.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(objection);
            is_first
        });
    }

    /// Asks the nodes of a group's other members what they have heard of this one, where that was not done before; until
    /// when no vote is to be given for want of their answers.
    pub(super) fn introduce(&self, replica: &Replica) -> Option<Instant> {
        let (own, opened_at) = self.boots.own.get()?;
        let members = replica.known_membership()?.members;
        let nodes: BTreeSet<NodeId> = members.into_values().filter(|node| *node != self.parts.node).collect();
        let mut asked = self.boots.asked.lock();
        let mut until = None;
        for node in nodes {
            let (at, is_answered) = *asked.entry(node).or_insert_with(|| {
                self.recall(node, own, *opened_at);
                (Instant::now(), false)
            });
            if !is_answered {
                until = until.max(Some(at + LEASE));
            }
        }
        until
    }

    /// A leader says that a replica on this node does not have what it has acknowledged.
    pub(super) fn told_to_have_forgotten(&self, from: NodeId, question: &Envelope, place: LogPlace) {
        let Some(replica) = self.asked_replica(from, question) else { return };
        let is_short = replica.group_log().is_ok_and(|log| log.last_index() < place.index);
        if is_short && self.boots.own.get().is_some() {
            let (range, index) = (question.range, place.index);
            let why = format!("the leader of range {range} has an acknowledgement of entry {index} from it");
            self.object(Objection { why, boot: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(count: u64, dice: u64, synced: u64) -> Heard {
        Heard { boot: count << 32 | dice, synced }
    }

    #[test]
    fn what_was_heard_only_grows_and_a_contradiction_is_not_taken_in() {
        let known = heard(3, 7, 100);
        let hear = |known, now| hear(known, now, 0);
        assert_eq!(hear(None, known), (known, false));
        assert_eq!(hear(Some(known), heard(3, 7, 90)), (known, false), "frames may come out of order");
        assert_eq!(hear(Some(known), heard(3, 7, 110)), (heard(3, 7, 110), false));
        assert_eq!(hear(Some(known), heard(4, 1, 100)), (heard(4, 1, 100), false));
        for odd in [heard(3, 8, 500), heard(2, 7, 500), heard(4, 1, 99)] {
            assert_eq!(hear(Some(known), odd), (known, true));
            assert_eq!(super::hear(Some(known), odd, 4 << 32), (odd, false), "it has started over");
        }
    }
}
