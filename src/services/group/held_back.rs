//! Messages for groups that are being woken, in the order in which they came.
//!
//! A leader sends its appends one behind the other without waiting. If the one that wakes a group waited for that, and the next
//! one, which finds the group awake, did not, the second would be refused because the first is missing; and its refusal would come
//! after the first was taken. The leader would read there that this replica has lost what it has just acknowledged. So whatever comes
//! while something is held back for a group is held back behind it.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::host::MESSAGES_MAX;
use super::wire::Envelope;
use crate::domain::ids::{NodeId, RangeId};

/// A message and who sent it.
pub(super) type Mail = (NodeId, Envelope);

/// See the module's essay.
#[derive(Default)]
pub(super) struct HeldBack(Mutex<BTreeMap<RangeId, Vec<Mail>>>);

impl HeldBack {
    /// Whether as much is held back for a group as may be: who sends more is told to ask again.
    pub(super) fn is_full(&self, range: RangeId) -> bool {
        self.0.lock().get(&range).is_some_and(|held| held.len() >= MESSAGES_MAX)
    }

    /// Holds a message back behind others of its group; gives it back where there are none.
    pub(super) fn behind(&self, range: RangeId, mail: Mail) -> Option<Mail> {
        match self.0.lock().get_mut(&range) {
            Some(held) => {
                held.push(mail);
                None
            }
            None => Some(mail),
        }
    }

    /// Holds a message back. Whether it is the first of its group: then somebody has to wake that.
    pub(super) fn begin(&self, range: RangeId, mail: Mail) -> bool {
        let mut all = self.0.lock();
        let held = all.entry(range).or_default();
        held.push(mail);
        held.len() == 1
    }

    /// What is held back for a group so far; none where nothing has come since the last time, and nothing is held back from now
    /// on.
    pub(super) fn take(&self, range: RangeId) -> Option<Vec<Mail>> {
        let mut all = self.0.lock();
        let held = std::mem::take(all.get_mut(&range)?);
        if held.is_empty() {
            all.remove(&range);
            return None;
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ReplicaId;
    use crate::services::group::wire::Message;

    fn mail(number: u64) -> Mail {
        let (from, to) = (ReplicaId::from_bytes([1; 16]), ReplicaId::from_bytes([2; 16]));
        let envelope = Envelope { range: range(), from, to, correlation: number, message: Message::Wake };
        (NodeId::from_bytes([1; 16]), envelope)
    }

    fn range() -> RangeId {
        RangeId::from_bytes([3; 16])
    }

    fn numbers(held: Option<Vec<Mail>>) -> Option<Vec<u64>> {
        held.map(|held| held.into_iter().map(|(_, envelope)| envelope.correlation).collect())
    }

    #[test]
    fn nothing_overtakes_what_is_held_back() {
        let held = HeldBack::default();
        assert!(held.behind(range(), mail(1)).is_some(), "nothing is held back");
        assert!(held.begin(range(), mail(1)), "the first one");
        assert!(!held.begin(range(), mail(2)));
        assert_eq!(numbers(held.take(range())), Some(vec![1, 2]));
        // While those are handed on, the next one waits its turn.
        assert!(held.behind(range(), mail(3)).is_none());
        assert_eq!(numbers(held.take(range())), Some(vec![3]));
        assert_eq!(numbers(held.take(range())), None);
        assert!(held.behind(range(), mail(4)).is_some(), "all was handed on");
        assert!(held.begin(range(), mail(4)));
        (0..MESSAGES_MAX as u64 - 1).for_each(|number| {
            assert!(!held.is_full(range()) && held.behind(range(), mail(number)).is_none());
        });
        assert!(held.is_full(range()));
    }
}
