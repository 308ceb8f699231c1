//! What is kept of each group on a node: the group, where it is awake; else a few bytes, who led it when it fell asleep.
//!
//! Waking and falling asleep take time, so a slot may also be busy with one of them; whoever comes meanwhile waits for
//! its end. A group of which nothing is kept was never awake in this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::awake::{Group, InUse};
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};

/// What is kept of a group that sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asleep {
    /// Until then this replica may have acknowledged a leader.
    pub since: Instant,
    /// The replica's number within this process: another object for it has another.
    pub number: u64,
    /// The term it was in.
    pub term: u64,
    /// Who led, and its node.
    pub leader: Option<(ReplicaId, NodeId)>,
    /// Whether all members agreed that it sleeps: then a leader goes on leading when it wakes.
    pub agreed: bool,
}

/// How waking or falling asleep ended: none while it goes on and where it ended well, else why not.
pub type Ending = Option<Refusal>;

/// See the module's essay.
pub enum Slot {
    /// It sleeps.
    Asleep(Asleep),
    /// It wakes or falls asleep; the end of that is told by closing this.
    Busy(watch::Receiver<Ending>),
    /// It is awake.
    Awake(Arc<Group>),
}

/// What a look at a slot found.
pub enum Found {
    /// Nothing, or a group that sleeps.
    Asleep(Option<Asleep>),
    /// One that wakes or falls asleep.
    Busy(watch::Receiver<Ending>),
    /// One that is awake, and stays so as long as this is held.
    Awake(InUse),
}

/// All slots of a node, by range.
#[derive(Default)]
pub struct Slots {
    slots: BTreeMap<RangeId, Slot>,
}

/// How many groups are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotCounts {
    /// Awake.
    pub awake: usize,
    /// Awake, and led from this node.
    pub leading: usize,
    /// Asleep.
    pub asleep: usize,
}

impl Slots {
    /// Looks at a range's group.
    pub fn find(&self, range: RangeId) -> Found {
        match self.slots.get(&range) {
            None => Found::Asleep(None),
            Some(Slot::Asleep(asleep)) => Found::Asleep(Some(*asleep)),
            Some(Slot::Busy(end)) => Found::Busy(end.clone()),
            Some(Slot::Awake(group)) => Found::Awake(group.enter()),
        }
    }

    /// The group, where it is awake, for a look that does not count as use.
    pub fn awake(&self, range: RangeId) -> Option<Arc<Group>> {
        match self.slots.get(&range) {
            Some(Slot::Awake(group)) => Some(Arc::clone(group)),
            _ => None,
        }
    }

    /// What is kept of one that sleeps.
    pub fn asleep(&self, range: RangeId) -> Option<Asleep> {
        match self.slots.get(&range) {
            Some(Slot::Asleep(asleep)) => Some(*asleep),
            _ => None,
        }
    }

    /// Whether anything is kept of the range.
    pub fn knows(&self, range: RangeId) -> bool {
        self.slots.contains_key(&range)
    }

    /// Begins to wake it or to put it to sleep. The end is told by dropping what is returned, after [`Slots::set`] or
    /// [`Slots::forget`].
    #[must_use]
    pub fn begin(&mut self, range: RangeId) -> watch::Sender<Ending> {
        let (sender, receiver) = watch::channel(None);
        self.slots.insert(range, Slot::Busy(receiver));
        sender
    }

    /// It is awake, or sleeps, now.
    pub fn set(&mut self, range: RangeId, slot: Slot) {
        self.slots.insert(range, slot);
    }

    /// Nothing is kept of it any more.
    pub fn forget(&mut self, range: RangeId) {
        self.slots.remove(&range);
    }

    /// Nothing is kept of it any more, if it sleeps.
    pub fn forget_asleep(&mut self, range: RangeId) {
        if self.asleep(range).is_some() {
            self.slots.remove(&range);
        }
    }

    /// All that are awake, in the order of their ranges.
    pub fn all_awake(&self) -> Vec<(RangeId, Arc<Group>)> {
        let awake = self.slots.iter().filter_map(|(range, slot)| match slot {
            Slot::Awake(group) => Some((*range, Arc::clone(group))),
            _ => None,
        });
        awake.collect()
    }

    /// All that sleep and were led from this node, in the order of their ranges.
    pub fn led_from(&self, node: NodeId) -> Vec<RangeId> {
        let led = self.slots.iter().filter(|(_, slot)| match slot {
            Slot::Asleep(asleep) => asleep.leader.is_some_and(|(_, leader)| leader == node),
            _ => false,
        });
        led.map(|(range, _)| *range).collect()
    }

    /// All that are kept but are not in `known`.
    pub fn beside(&self, known: &std::collections::BTreeSet<RangeId>) -> Vec<RangeId> {
        self.slots.keys().filter(|range| !known.contains(range)).copied().collect()
    }

    /// How many there are.
    pub fn counts(&self) -> SlotCounts {
        let mut counts = SlotCounts::default();
        for slot in self.slots.values() {
            match slot {
                Slot::Asleep(_) => counts.asleep += 1,
                Slot::Busy(_) => {}
                Slot::Awake(group) => {
                    counts.awake += 1;
                    counts.leading += usize::from(group.view().leads);
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_group_costs_few_bytes() {
        assert!(size_of::<(RangeId, Slot)>() <= 128, "{}", size_of::<(RangeId, Slot)>());
    }
}
