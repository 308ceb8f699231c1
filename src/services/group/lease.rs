//! Two questions that a strong read without a message stands on, as plain functions of what is known, so that each of their
//! conditions can be tried alone. Why they are sound together stands in [`super::awake`], which gathers the answers' grounds.

use tokio::time::Instant;

use super::timing::LEASE_FOR_READS;

/// What a leader's lease for reads depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseNow {
    /// Whether this replica leads.
    pub(super) leads: bool,
    /// The term that it knows.
    pub(super) term: u64,
    /// The term in which it began to hand leadership over; 0, which nobody leads, for none.
    pub(super) handing_over: u64,
    /// Whether a split was proposed here that has not ended.
    pub(super) is_splitting: bool,
    /// Whether this replica votes.
    pub(super) is_voter: bool,
    /// The term of the last entry that is applied here.
    pub(super) applied_term: Option<u64>,
    /// When that was sent which a majority has acknowledged to it in this term.
    pub(super) since: Option<Instant>,
}

/// Whether this replica leads, and nobody else can have led until `now`.
pub(super) fn lease_holds(lease: &LeaseNow, now: Instant) -> bool {
    lease.leads
        && lease.handing_over != lease.term
        && !lease.is_splitting
        && lease.is_voter
        && lease.applied_term == Some(lease.term)
        && lease.since.is_some_and(|since| now < since + LEASE_FOR_READS)
}

/// Whether one who asks for a vote gets none, since this replica may have promised another not to vote: it remembers
/// nothing of before `quiet_until`. In a hand-over the leader itself has ended its lease.
pub(super) fn withholds(is_transfer: bool, now: Instant, quiet_until: Instant) -> bool {
    !is_transfer && now < quiet_until
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MOMENT: Duration = Duration::from_millis(1);

    /// Of a leader that may read.
    fn good(since: Instant) -> LeaseNow {
        LeaseNow {
            leads: true,
            term: 7,
            handing_over: 0,
            is_splitting: false,
            is_voter: true,
            applied_term: Some(7),
            since: Some(since),
        }
    }

    #[test]
    fn one_thing_that_is_wrong_ends_a_lease() {
        let now = Instant::now();
        let good = good(now);
        assert!(lease_holds(&good, now));
        for (what, wrong) in [
            ("it does not lead", LeaseNow { leads: false, ..good }),
            ("it hands over in this term", LeaseNow { handing_over: 7, ..good }),
            ("a split is under way", LeaseNow { is_splitting: true, ..good }),
            ("it does not vote", LeaseNow { is_voter: false, ..good }),
            ("it has applied nothing", LeaseNow { applied_term: None, ..good }),
            ("it has applied nothing of its own term", LeaseNow { applied_term: Some(6), ..good }),
            ("no majority has acknowledged anything", LeaseNow { since: None, ..good }),
        ] {
            assert!(!lease_holds(&wrong, now), "{what}");
        }
    }

    #[test]
    fn a_hand_over_of_another_term_ends_no_lease() {
        let now = Instant::now();
        for handing_over in [6, 8] {
            assert!(lease_holds(&LeaseNow { handing_over, ..good(now) }, now), "{handing_over}");
        }
    }

    #[test]
    fn a_lease_is_over_when_its_time_is() {
        let since = Instant::now();
        let end = since + LEASE_FOR_READS;
        assert!(lease_holds(&good(since), end - MOMENT));
        assert!(!lease_holds(&good(since), end));
        assert!(!lease_holds(&good(since), end + MOMENT));
    }

    #[test]
    fn a_vote_is_withheld_until_forgotten_promises_are_over_but_for_a_hand_over() {
        let quiet_until = Instant::now() + LEASE_FOR_READS;
        assert!(withholds(false, quiet_until - MOMENT, quiet_until));
        assert!(!withholds(false, quiet_until, quiet_until), "the promises are over");
        assert!(!withholds(false, quiet_until + MOMENT, quiet_until));
        assert!(!withholds(true, quiet_until - MOMENT, quiet_until), "the leader has ended its lease itself");
    }
}
