//! openraft's types, as they are here.
//!
//! A member of a group is a replica, by its UUID: a copy that was lost and is made again is another member, and can
//! never be taken for the one that voted before. A term has one leader at most, so that a place in the log is a term and
//! an index and nothing else, as in the commit log's records.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;

use crate::domain::ids::{NodeId, ReplicaId};
use crate::domain::refusal::MovedTo;
use crate::replication::operation::Outcome;
use crate::replication::split::SplitRefused;

/// What an entry carries: an operation with the leader's time, as [`crate::replication::entry`] writes it, or a split
/// ([`crate::replication::command`]). It is evaluated when it is applied.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposed(pub Bytes);

impl fmt::Debug for Proposed {
    /// Items are nobody's business in a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Proposed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// What applying an entry came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It was about the group itself.
    Nothing,
    /// A write ended so. When it was known here to be committed is of interest to whoever waits for it, and to nobody else.
    Outcome(Outcome, Instant),
    /// A write stands behind a split of the range: nothing was done, and this child has the key.
    Moved(MovedTo),
    /// A split was carried out, or refused.
    Split(Result<(), SplitRefused>),
}

impl fmt::Display for Applied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Applied::Nothing => "nothing",
            Applied::Outcome(..) => "an outcome",
            Applied::Moved(_) => "a write that has moved",
            Applied::Split(Ok(())) => "a split",
            Applied::Split(Err(_)) => "a split that was refused",
        })
    }
}

openraft::declare_raft_types!(
    /// See the module's essay.
    pub Types:
        D = Proposed,
        R = Applied,
        NodeId = ReplicaId,
        Node = NodeId,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, ReplicaId>,
        AsyncRuntime = super::runtime::GroupRuntime,
);

/// A place in a group's log.
pub type LogId = openraft::type_config::alias::LogIdOf<Types>;
/// A vote: a term, for whom, and whether a majority gave it.
pub type Vote = openraft::type_config::alias::VoteOf<Types>;
/// An entry of a group's log.
pub type Entry = openraft::type_config::alias::EntryOf<Types>;
/// A membership and where it stands in the log.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
