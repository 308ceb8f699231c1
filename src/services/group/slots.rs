//! What is kept of each group on a node: the group, where it is awake; else a few bytes, who led it when it fell asleep.
//!
//! Waking and falling asleep take time, so a slot may also be busy with one of them; whoever comes meanwhile waits for
//! its end. A group of which nothing is kept was never awake in this process.
//!
//! Beside the slots stands what is asked of all of them together, kept up with each change: which are awake, which sleep and
//! were led from which node, and which sleep although a member on a certain node was away. So nobody has to look at groups that sleep to
//! find those that are meant, and ten thousand of them cost a node's regular look nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::awake::{Group, InUse, Purpose};
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

impl Asleep {
    fn led_from(&self) -> Option<NodeId> {
        self.leader.map(|(_, node)| node)
    }
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
    awake: BTreeSet<RangeId>,
    /// Those that sleep, by the node of who led them.
    asleep: BTreeMap<Option<NodeId>, BTreeSet<RangeId>>,
    /// Those that sleep although their member on this node was away.
    missed: BTreeMap<NodeId, BTreeSet<RangeId>>,
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
    /// Asleep, of a group of which a member's node was away.
    pub incomplete: usize,
}

impl Slots {
    /// Looks at a range's group, for this purpose.
    pub fn find(&self, range: RangeId, purpose: Purpose) -> Found {
        match self.slots.get(&range) {
            None => Found::Asleep(None),
            Some(Slot::Asleep(asleep)) => Found::Asleep(Some(*asleep)),
            Some(Slot::Busy(end)) => Found::Busy(end.clone()),
            Some(Slot::Awake(group)) => Found::Awake(group.enter(purpose)),
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

    /// What tells the end, of one that wakes or falls asleep.
    pub fn busy(&self, range: RangeId) -> Option<watch::Receiver<Ending>> {
        match self.slots.get(&range) {
            Some(Slot::Busy(end)) => Some(end.clone()),
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
        self.set(range, Slot::Busy(receiver));
        sender
    }

    /// It is awake, or sleeps, now.
    pub fn set(&mut self, range: RangeId, slot: Slot) {
        self.take_from_indexes(range);
        match &slot {
            Slot::Asleep(asleep) => self.asleep.entry(asleep.led_from()).or_default().insert(range),
            Slot::Awake(_) => self.awake.insert(range),
            Slot::Busy(_) => false,
        };
        self.slots.insert(range, slot);
    }

    /// It sleeps, although its members on these nodes were away.
    pub fn set_asleep_without(&mut self, range: RangeId, asleep: Asleep, away: &BTreeSet<NodeId>) {
        self.set(range, Slot::Asleep(asleep));
        for node in away {
            self.missed.entry(*node).or_default().insert(range);
        }
    }

    /// Nothing is kept of it any more.
    pub fn forget(&mut self, range: RangeId) {
        self.take_from_indexes(range);
        self.slots.remove(&range);
    }

    /// Nothing is kept of it any more, if it sleeps.
    pub fn forget_asleep(&mut self, range: RangeId) {
        if self.asleep(range).is_some() {
            self.forget(range);
        }
    }

    fn take_from_indexes(&mut self, range: RangeId) {
        match self.slots.get(&range) {
            Some(Slot::Awake(_)) => {
                self.awake.remove(&range);
            }
            Some(Slot::Asleep(asleep)) => {
                let leader = asleep.led_from();
                if let Some(ranges) = self.asleep.get_mut(&leader) {
                    ranges.remove(&range);
                    if ranges.is_empty() {
                        self.asleep.remove(&leader);
                    }
                }
                self.missed.retain(|_, ranges| {
                    ranges.remove(&range);
                    !ranges.is_empty()
                });
            }
            Some(Slot::Busy(_)) | None => {}
        }
    }

    /// All that are awake, in the order of their ranges.
    pub fn all_awake(&self) -> Vec<(RangeId, Arc<Group>)> {
        self.awake.iter().filter_map(|range| Some((*range, self.awake(*range)?))).collect()
    }

    /// The ranges of all that are awake, wake or fall asleep. Looks at those that sleep, too.
    pub fn awake_or_busy(&self) -> Vec<RangeId> {
        self.slots.iter().filter(|(_, slot)| !matches!(slot, Slot::Asleep(_))).map(|(range, _)| *range).collect()
    }

    /// All that sleep and were led from this node, in the order of their ranges.
    pub fn led_from(&self, node: NodeId) -> Vec<RangeId> {
        self.asleep.get(&Some(node)).into_iter().flatten().copied().collect()
    }

    /// How many that is.
    pub fn count_led_from(&self, node: NodeId) -> usize {
        self.asleep.get(&Some(node)).map_or(0, BTreeSet::len)
    }

    /// All that sleep although their member on this node was away.
    pub fn slept_without(&self, node: NodeId) -> Vec<RangeId> {
        self.missed.get(&node).into_iter().flatten().copied().collect()
    }

    /// The ranges of all.
    pub fn ranges(&self) -> Vec<RangeId> {
        self.slots.keys().copied().collect()
    }

    /// How many there are. Costs nothing for those that sleep.
    pub fn counts(&self) -> SlotCounts {
        let leads = |range: &&RangeId| self.awake(**range).is_some_and(|group| group.view().leads);
        SlotCounts {
            awake: self.awake.len(),
            leading: self.awake.iter().filter(leads).count(),
            asleep: self.asleep.values().map(BTreeSet::len).sum(),
            incomplete: self.missed.values().flatten().collect::<BTreeSet<_>>().len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sleeping_group_costs_few_bytes() {
        assert!(size_of::<(RangeId, Slot)>() <= 128, "{}", size_of::<(RangeId, Slot)>());
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn range(number: u8) -> RangeId {
        RangeId::from_bytes([number; 16])
    }

    fn sleeper(leader: Option<u8>) -> Asleep {
        let leader = leader.map(|number| (ReplicaId::from_bytes([number; 16]), node(number)));
        Asleep { since: Instant::now(), number: 1, term: 1, leader, agreed: true }
    }

    /// What each of these slots is made of: who led, and whose member was away.
    type Model = BTreeMap<u8, Option<(Option<u8>, BTreeSet<u8>)>>;

    fn agree(slots: &Slots, model: &Model) -> Result<(), TestCaseError> {
        let sleeping = || model.iter().filter_map(|(number, slot)| Some((*number, slot.as_ref()?)));
        for number in 0..4 {
            let led =
                sleeping().filter(|(_, (leader, _))| *leader == Some(number)).map(|(range_of, _)| range(range_of));
            let led: Vec<_> = led.collect();
            prop_assert_eq!(slots.count_led_from(node(number)), led.len());
            prop_assert_eq!(slots.led_from(node(number)), led);
            let missed =
                sleeping().filter(|(_, (_, away))| away.contains(&number)).map(|(range_of, _)| range(range_of));
            prop_assert!(slots.slept_without(node(number)).into_iter().eq(missed));
        }
        let counts = slots.counts();
        let incomplete = sleeping().filter(|(_, (_, away))| !away.is_empty()).count();
        prop_assert_eq!((counts.awake, counts.asleep, counts.incomplete), (0, sleeping().count(), incomplete));
        let busy = model.iter().filter(|(_, slot)| slot.is_none()).map(|(number, _)| range(*number));
        prop_assert!(slots.awake_or_busy().into_iter().eq(busy));
        // Nothing is left of what is over.
        prop_assert!(slots.asleep.values().chain(slots.missed.values()).all(|ranges| !ranges.is_empty()));
        Ok(())
    }

    proptest! {
        #[test]
        fn the_indexes_are_those_of_the_slots(
            steps in proptest::collection::vec((0u8..6, 0u8..4, proptest::option::of(0u8..4), proptest::collection::btree_set(0u8..4, 0..3)), 0..60)
        ) {
            let (mut slots, mut model) = (Slots::default(), Model::new());
            for (number, kind, leader, away) in steps {
                match kind {
                    0 => {
                        slots.forget(range(number));
                        model.remove(&number);
                    }
                    1 => {
                        drop(slots.begin(range(number)));
                        model.insert(number, None);
                    }
                    _ => {
                        slots.set_asleep_without(range(number), sleeper(leader), &away.iter().map(|number| node(*number)).collect());
                        model.insert(number, Some((leader, away)));
                    }
                }
                agree(&slots, &model)?;
            }
        }
    }
}
