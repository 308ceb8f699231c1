//! What the members of a group have acknowledged to this replica while it leads: one that does not have it any more was put
//! back from an older copy of its node's folder ([`crate::services::rolled_back`]).
//!
//! It counts for one vote only: in a later term another leader may rightly have cut off what was never committed.

use std::collections::BTreeMap;

use openraft::raft::AppendEntriesResponse;
use parking_lot::Mutex;

use crate::domain::ids::ReplicaId;
use crate::services::group::types::{LogId, Types, Vote};

/// The vote under which each replica acknowledged something to this one, and the last place.
pub(super) type Reached = Mutex<BTreeMap<ReplicaId, (Vote, Option<LogId>)>>;

/// The last place that a replica acknowledged under this vote, where its answer says that it does not have it any more: its log
/// was put back. openraft must not see such an answer; it counts on what was acknowledged. What the answer acknowledges
/// is noted.
pub(super) fn forgotten(
    reached: &Reached,
    peer: ReplicaId,
    vote: Vote,
    (previous, last): (Option<LogId>, Option<LogId>),
    answer: &AppendEntriesResponse<Types>,
) -> Option<LogId> {
    let mut reached = reached.lock();
    let known = reached.entry(peer).or_insert((vote, None));
    if known.0 != vote {
        *known = (vote, None);
    }
    match answer {
        AppendEntriesResponse::Success => known.1 = known.1.max(last),
        AppendEntriesResponse::PartialSuccess(place) => known.1 = known.1.max(*place),
        AppendEntriesResponse::Conflict => {
            return known.1.filter(|place| previous.is_some_and(|asked| asked <= *place));
        }
        AppendEntriesResponse::HigherVote(_) => {}
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::machine_state::LogPlace;
    use crate::services::group::convert::log_id;

    #[test]
    fn what_a_replica_acknowledged_under_a_vote_it_must_have() {
        let known = Reached::default();
        let peer = ReplicaId::from_bytes([2; 16]);
        let vote = |term| Vote::new_committed(term, ReplicaId::from_bytes([1; 16]));
        let place = |term, index| Some(log_id(LogPlace { term, index }));
        let hear = |term, previous, last, answer| forgotten(&known, peer, vote(term), (previous, last), &answer);
        use AppendEntriesResponse::{Conflict, HigherVote, PartialSuccess, Success};
        assert_eq!(hear(1, place(1, 5), place(1, 9), Conflict), None, "nothing was acknowledged");
        assert_eq!(hear(1, place(1, 3), place(1, 7), PartialSuccess(place(1, 6))), None);
        assert_eq!(hear(1, place(1, 7), place(1, 9), Conflict), None, "that was not acknowledged");
        assert_eq!(hear(1, place(1, 6), place(1, 9), Conflict), place(1, 6));
        assert_eq!(hear(1, place(1, 6), place(1, 9), HigherVote(vote(3))), None);
        assert_eq!(hear(1, place(1, 6), place(1, 9), Success), None);
        assert_eq!(hear(1, place(1, 8), place(1, 9), Conflict), place(1, 9));
        assert_eq!(hear(2, place(1, 8), place(1, 9), Conflict), None, "another leader may have cut the log in between");
    }
}
