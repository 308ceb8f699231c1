//! When what the members have acknowledged was sent: what a leader's lease for reads is counted from.
//!
//! A follower that takes an append promises not to elect another for a lease, from when it took it. The leader knows when it
//! sent that very append, which is earlier, and counts from there.
//!
//! openraft keeps such a time itself (`last_quorum_acked`), and it is not sound to count from: it takes an answer for all that was sent up to
//! the place that is acknowledged, so that the answer to entries also counts for an empty append that was sent long after
//! them and that nobody has answered. If answers are slow on the way, the leader believes in a promise that was given earlier than it
//! thinks, and so ends earlier. Here each answer counts for its own question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::append_times::AppendTimes;
use crate::domain::ids::ReplicaId;

/// See the module's essay.
#[derive(Debug, Default)]
pub struct Acknowledged {
    known: Mutex<BTreeMap<ReplicaId, (u64, Instant)>>,
    /// When which entries were, where somebody wants to know.
    pub times: Arc<AppendTimes>,
}

impl Acknowledged {
    /// A member acknowledged what the leader of this term sent it at this time.
    pub fn note(&self, member: ReplicaId, term: u64, sent: Instant) {
        let mut known = self.known.lock();
        let before = known.entry(member).or_insert((term, sent));
        *before = (*before).max((term, sent));
    }

    /// Since when a majority of each of these sets of voters follows the leader of this term, which follows itself since `now`.
    pub fn by_majority(
        &self,
        leader: ReplicaId,
        term: u64,
        voters: &[BTreeSet<ReplicaId>],
        now: Instant,
    ) -> Option<Instant> {
        let known = self.known.lock();
        let time = |voter: &ReplicaId| match known.get(voter) {
            _ if *voter == leader => Some(now),
            Some((in_term, sent)) if *in_term == term => Some(*sent),
            Some(_) | None => None,
        };
        let of_set = |voters: &BTreeSet<ReplicaId>| {
            let mut times: Vec<_> = voters.iter().map(time).collect();
            times.sort_unstable_by(|left, right| right.cmp(left));
            times.get(voters.len() / 2).copied().flatten()
        };
        // Of a joint configuration both sets count.
        let times: Option<Vec<Instant>> = voters.iter().map(of_set).collect();
        times?.into_iter().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn replica(number: u8) -> ReplicaId {
        ReplicaId::from_bytes([number; 16])
    }

    fn voters(numbers: &[u8]) -> BTreeSet<ReplicaId> {
        numbers.iter().map(|number| replica(*number)).collect()
    }

    #[tokio::test]
    async fn the_time_is_that_of_a_majority_in_each_set() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let known = Acknowledged::default();
        let since = |sets: &[BTreeSet<ReplicaId>]| known.by_majority(replica(1), 7, sets, at(100));
        assert_eq!(since(&[voters(&[1])]), Some(at(100)), "alone it needs nobody");
        assert_eq!(since(&[voters(&[1, 2, 3])]), None);
        known.note(replica(2), 7, at(10));
        assert_eq!(since(&[voters(&[1, 2, 3])]), Some(at(10)));
        known.note(replica(3), 7, at(20));
        assert_eq!(since(&[voters(&[1, 2, 3])]), Some(at(20)), "the other one is not needed");
        assert_eq!(since(&[voters(&[1, 2, 3, 4, 5])]), Some(at(10)));
        assert_eq!(since(&[voters(&[2, 3, 4])]), Some(at(10)), "a leader that does not vote does not count");
        assert_eq!(since(&[voters(&[1, 2, 3]), voters(&[1, 2, 4])]), Some(at(10)), "both of a joint one");
        assert_eq!(since(&[voters(&[1, 2, 3]), voters(&[1, 4, 5])]), None);
    }

    #[tokio::test]
    async fn an_old_answer_and_another_term_count_for_nothing() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let known = Acknowledged::default();
        let set = [voters(&[1, 2, 3])];
        known.note(replica(2), 7, later);
        known.note(replica(2), 7, start);
        assert_eq!(known.by_majority(replica(1), 7, &set, later), Some(later));
        assert_eq!(known.by_majority(replica(1), 8, &set, later), None);
        known.note(replica(2), 8, start);
        assert_eq!(known.by_majority(replica(1), 8, &set, later), Some(start));
        assert_eq!(known.by_majority(replica(1), 7, &set, later), None, "it follows another by now");
    }
}
