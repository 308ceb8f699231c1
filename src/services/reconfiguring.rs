//! The leaders on this node bring their groups to the copies that control wants: what
//! [`crate::replication::replacement`] says is the next step, this takes, one at a time for each range, until nothing is
//! left to do.
//!
//! ```text
//! what control wants (assignments) ─┐
//!                                   ├─> next step ─> group ─> committed ─> look again
//! how the group stands ─────────────┘
//! ```
//!
//! Nothing is remembered between two steps that would be missed: a node that was killed, or lost the leadership, in the
//! middle of a change looks at the group and at the plan, and it or its successor goes on from there. A step asked for
//! twice does nothing the second time. Of what is kept in memory
//!
//! - `under_way` keeps a range from getting a second change while the first is not answered;
//! - the number of copies that are being filled at the same time is bounded, since each costs this node's disk and
//!   network what serving needs, too. A learner that a leader finds in its group counts, whoever took it in;
//! - leadership is handed over once in a while at most, so that a wish that cannot be fulfilled does not stop a range
//!   again and again; and for a few ranges at a time, since a node that is back may be wished to lead thousands of them, which
//!   sleep, and would all be woken.
//!
//! A range with one copy and no group gets a group of one first, when it is to have more or other copies.
//!
//! Ranges are looked at when their group or what is wanted of them changes, once a second while something is left to do,
//! and now and then all of them. What waits for a node that is away is looked at when that is back: thousands of ranges may do so.
//! A look wakes no group that sleeps, but for one: where something is wanted of a range, and nobody has led it since this
//! node started. No request may ever come that would wake it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::domain::Refusal;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::replication::membership::Membership;
use crate::replication::replacement::{CAUGHT_UP_ENTRIES_MAX, Desired, GroupNow, Step, next_step};

use super::assignments::{Given, GivenRange};
use super::group::ports::{GroupOperations, GroupStatus};

/// Copies that are filled from this node at the same time.
const FILLS_MAX: usize = 2;
/// Ranges whose leadership is handed over at the same time.
const HAND_OVERS_MAX: usize = 16;
/// Leadership of a range is handed over once in this time at most.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(30);
/// The pause before what is left to do is looked at again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// All ranges are looked at after so long.
const OVERSIGHT_PAUSE: Duration = Duration::from_secs(60);

/// What else is known and done on this node.
#[async_trait]
pub trait Surroundings: Send + Sync + 'static {
    /// Whether this node has a copy of the range that is in no group, and serves.
    fn is_alone(&self, range: RangeId) -> bool;

    /// Makes a group of one of such a range. Repeated, it does nothing.
    ///
    /// # Errors
    /// Where the node's files cannot be written.
    async fn begin_group(&self, range: RangeId) -> Result<(), Refusal>;

    /// Wakes the group of a range, some time.
    fn wake(&self, range: RangeId);

    /// Whether a node that has a copy of a group led here has given a sign of life lately, and means to stay.
    fn is_heard(&self, node: NodeId) -> bool;
}

/// A step that is taken for a range.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Taken {
    BeginGroup,
    AddLearner(ReplicaId, NodeId),
    ChangeVoters(BTreeSet<ReplicaId>),
    HandOver(ReplicaId),
}

/// What a look at a range came to.
enum Look {
    /// Nothing is left to do here.
    Settled,
    /// Something is, but not now.
    Later,
    /// Something is, when this node is back.
    Away(NodeId),
    /// A copy of it is being filled.
    Filling,
    /// This can be done.
    Take(Taken),
}

/// See the module's essay.
pub struct Reconfiguring {
    groups: Arc<dyn GroupOperations>,
    surroundings: Arc<dyn Surroundings>,
    given: watch::Receiver<Arc<Given>>,
    known: Arc<Given>,
    changes: broadcast::Receiver<RangeId>,
    /// To be looked at now.
    pending: BTreeSet<RangeId>,
    /// To be looked at again after a pause.
    later: BTreeSet<RangeId>,
    /// To be looked at when these nodes are heard again.
    away: BTreeMap<NodeId, BTreeSet<RangeId>>,
    /// Ranges of which a copy is being filled from here, as far as the last look at them showed.
    filling: BTreeSet<RangeId>,
    handed_over: BTreeMap<RangeId, Instant>,
    /// How many hand-overs are under way, and the ranges that wait for one of them to end.
    handing_over: usize,
    in_line: BTreeSet<RangeId>,
    under_way: BTreeSet<RangeId>,
    steps: JoinSet<(RangeId, Taken, Result<(), Refusal>)>,
}

impl Reconfiguring {
    /// Follows what is `given` to the node's leaders.
    pub fn new(
        groups: Arc<dyn GroupOperations>,
        surroundings: Arc<dyn Surroundings>,
        given: watch::Receiver<Arc<Given>>,
    ) -> Self {
        let changes = groups.changes();
        Self {
            groups,
            surroundings,
            given,
            known: Arc::default(),
            changes,
            pending: BTreeSet::new(),
            later: BTreeSet::new(),
            away: BTreeMap::new(),
            filling: BTreeSet::new(),
            handed_over: BTreeMap::new(),
            handing_over: 0,
            in_line: BTreeSet::new(),
            under_way: BTreeSet::new(),
            steps: JoinSet::new(),
        }
    }

    /// Brings groups to what is wanted until dropped.
    pub async fn follow(mut self) {
        let mut oversight_at = Instant::now();
        let mut retry_at = Instant::now();
        loop {
            let now = Instant::now();
            if now >= oversight_at {
                oversight_at = now + OVERSIGHT_PAUSE;
                self.look_at_all();
            }
            if now >= retry_at {
                retry_at = now + RETRY_PAUSE;
                self.pending.append(&mut self.later);
                self.welcome();
            }
            self.hear();
            self.look();
            let is_idle = self.later.is_empty() && self.away.is_empty();
            let until = if is_idle { oversight_at } else { retry_at.min(oversight_at) };
            if !self.wait(until).await {
                return;
            }
        }
    }

    /// Waits for news, until `until` at most. False: nothing will be given any more.
    async fn wait(&mut self, until: Instant) -> bool {
        tokio::select! {
            biased;
            Some(ended) = self.steps.join_next() => {
                if let Ok((range, taken, outcome)) = ended {
                    self.ended(range, &taken, outcome);
                }
            }
            given = self.given.changed() => return given.is_ok(),
            changed = self.changes.recv() => match changed {
                Ok(range) => drop(self.pending.insert(range)),
                Err(RecvError::Lagged(_)) => self.look_at_all(),
                Err(RecvError::Closed) => tokio::time::sleep_until(until).await,
            },
            () = tokio::time::sleep_until(until) => {}
        }
        true
    }

    fn look_at_all(&mut self) {
        self.pending = self.known.keys().copied().collect();
        self.away.clear();
    }

    /// What waited for nodes that are back is looked at.
    fn welcome(&mut self) {
        let (surroundings, pending) = (&self.surroundings, &mut self.pending);
        self.away.retain(|node, ranges| {
            let is_back = surroundings.is_heard(*node);
            if is_back {
                pending.append(ranges);
            }
            !is_back
        });
    }

    /// Takes in what has changed meanwhile.
    fn hear(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(range) => drop(self.pending.insert(range)),
                Err(TryRecvError::Lagged(_)) => self.look_at_all(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let given = Arc::clone(&self.given.borrow_and_update());
        if !Arc::ptr_eq(&given, &self.known) {
            let is_news = |(range, given): &(&RangeId, &GivenRange)| self.known.get(range) != Some(*given);
            self.pending.extend(given.iter().filter(is_news).map(|(range, _)| *range));
            self.known = given;
        }
    }

    /// Looks at what is pending, and begins what can be done now.
    fn look(&mut self) {
        self.look_at_pending();
        // Those that were next may have nothing left to do; then nothing ends that would bring the others in.
        while self.handing_over < HAND_OVERS_MAX && !self.in_line.is_empty() {
            let room = HAND_OVERS_MAX - self.handing_over;
            self.pending.extend(std::iter::from_fn(|| self.in_line.pop_first()).take(room));
            self.look_at_pending();
        }
    }

    fn look_at_pending(&mut self) {
        let now = Instant::now();
        self.handed_over.retain(|_, at| now < *at + HAND_OVER_PAUSE);
        for range in std::mem::take(&mut self.pending) {
            if self.under_way.contains(&range) {
                // It is looked at again when that has ended.
                continue;
            }
            self.filling.remove(&range);
            match self.look_at(range) {
                Look::Settled => {}
                Look::Later => drop(self.later.insert(range)),
                Look::Away(node) => drop(self.away.entry(node).or_default().insert(range)),
                Look::Filling => {
                    self.filling.insert(range);
                    self.later.insert(range);
                }
                Look::Take(Taken::AddLearner(..)) if self.filling.len() >= FILLS_MAX => {
                    self.later.insert(range);
                }
                Look::Take(Taken::HandOver(_)) if self.handed_over.contains_key(&range) => {
                    self.later.insert(range);
                }
                Look::Take(Taken::HandOver(_)) if self.handing_over >= HAND_OVERS_MAX => {
                    self.in_line.insert(range);
                }
                Look::Take(taken) => self.begin(range, taken),
            }
        }
    }

    fn look_at(&self, range: RangeId) -> Look {
        let Some(given) = self.known.get(&range) else { return Look::Settled };
        let Some(status) = self.groups.status(range) else {
            let is_enough = given.wanted.iter().all(|copy| copy.replica == given.replica);
            return match self.surroundings.is_alone(range) && !is_enough {
                true => Look::Take(Taken::BeginGroup),
                false => Look::Settled,
            };
        };
        if !status.is_awake && status.leader.is_none() && is_to_change(given, &status.membership) {
            self.surroundings.wake(range);
            return Look::Later;
        }
        let now = now_of(&status);
        match next_step(&desired_of(given), &now, CAUGHT_UP_ENTRIES_MAX) {
            Step::Follow | Step::Done => Look::Settled,
            Step::Refuse => {
                if !given.wanted.is_empty() {
                    tracing::error!(%range, "a copy of the range is wanted on another node than it is on; nothing is changed");
                }
                Look::Settled
            }
            Step::WaitForCommit => Look::Later,
            Step::WaitForCopy { replica, .. } => match self.away(&status.membership, replica) {
                Some(node) => Look::Away(node),
                // How far it is stands in no log that is looked at while the group sleeps; when it wakes it is looked at again.
                None if !status.is_awake && !is_to_change(given, &status.membership) => Look::Settled,
                None if status.membership.is_voter(replica) => Look::Later,
                None => Look::Filling,
            },
            Step::AddLearner { replica, node } => Look::Take(Taken::AddLearner(replica, node)),
            Step::ChangeVoters(voters) => Look::Take(Taken::ChangeVoters(voters)),
            Step::RemoveLearners(_) => {
                let voters = status.membership.voters.first().cloned().unwrap_or_default();
                Look::Take(Taken::ChangeVoters(voters))
            }
            Step::HandOver(to) => match self.away(&status.membership, to) {
                Some(node) => Look::Away(node),
                None => Look::Take(Taken::HandOver(to)),
            },
        }
    }

    /// The node of a member, where it has given no sign of life lately.
    fn away(&self, membership: &Membership, member: ReplicaId) -> Option<NodeId> {
        membership.members.get(&member).copied().filter(|node| !self.surroundings.is_heard(*node))
    }

    fn begin(&mut self, range: RangeId, taken: Taken) {
        match &taken {
            Taken::AddLearner(..) => drop(self.filling.insert(range)),
            Taken::HandOver(_) => {
                self.handing_over += 1;
                self.handed_over.insert(range, Instant::now());
            }
            Taken::BeginGroup | Taken::ChangeVoters(_) => {}
        }
        self.under_way.insert(range);
        let (groups, surroundings) = (Arc::clone(&self.groups), Arc::clone(&self.surroundings));
        self.steps.spawn(async move {
            let outcome = match &taken {
                Taken::BeginGroup => surroundings.begin_group(range).await,
                Taken::AddLearner(replica, node) => groups.add_learner(range, *replica, *node).await,
                Taken::ChangeVoters(voters) => groups.change_voters(range, voters.clone()).await,
                Taken::HandOver(to) => groups.hand_over(range, *to).await,
            };
            (range, taken, outcome)
        });
    }

    fn ended(&mut self, range: RangeId, taken: &Taken, outcome: Result<(), Refusal>) {
        self.under_way.remove(&range);
        if matches!(taken, Taken::HandOver(_)) {
            self.handing_over -= 1;
        }
        match outcome {
            Ok(()) => {
                tracing::info!(%range, step = ?taken, "a change of a range's copies was made");
                self.pending.insert(range);
            }
            Err(refusal) => {
                tracing::warn!(%range, step = ?taken, %refusal, "a change of a range's copies was not made yet");
                self.later.insert(range);
            }
        }
    }
}

fn desired_of(given: &GivenRange) -> Desired {
    let copies = given.wanted.iter().map(|copy| (copy.replica, copy.node)).collect();
    Desired { copies, leader: given.leader }
}

/// Whether other copies are wanted than the group has, or it is between two sets of them.
fn is_to_change(given: &GivenRange, membership: &Membership) -> bool {
    let wanted: BTreeSet<ReplicaId> = given.wanted.iter().map(|copy| copy.replica).collect();
    let has = |set: &BTreeSet<ReplicaId>| *set == wanted;
    let is_as_wanted = membership.voters.iter().all(has) && membership.members.keys().eq(&wanted);
    !wanted.is_empty() && !is_as_wanted
}

fn now_of(status: &GroupStatus) -> GroupNow {
    GroupNow {
        own: status.replica,
        leads: status.is_leader,
        membership: status.membership.clone(),
        membership_is_committed: status.membership_at.index <= status.committed,
        last_index: status.last_index,
        matched: status.matched.clone(),
    }
}

#[cfg(test)]
mod tests;
