//! A group that is awake on this node: openraft's instance, and what we know beside it.
//!
//! What is asked of it often, who leads and whether that is sure, is read from what openraft publishes after each turn
//! of its loop, without a question to it. That may be old. For a leader's lease it does no harm: a majority acknowledged
//! what was sent at a certain time ([`super::acknowledged`]), and however old the news, until that time and a lease nobody else can lead.
//!
//! Four things make the lease sound beside openraft's own rules:
//!
//! - a replica that may have acknowledged a leader and has forgotten it (the process started anew, or the group slept)
//!   gives no vote and does not campaign until [`Group::quiet_until`];
//! - a leader that begins to hand over says so here first, and serves no read by its lease in that term any more;
//! - while a split that it has proposed is not applied here, it reads by no lease: others may have applied it before, and then
//!   a child may take writes already;
//! - it reads by its lease only as a voter, and once an entry of its own term is applied: then all that was ever
//!   acknowledged is.
//!
//! What is not covered is a machine whose monotonic clock stands still while others' run: a virtual machine that is
//! paused may come back to a lease that is over and not know. The check after the data is read makes that gap as
//! narrow as it can be made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, RaftMetrics, ServerState};
use parking_lot::Mutex;
use tokio::sync::{RwLock, mpsc, watch};
use tokio::time::Instant;

use super::acknowledged::Acknowledged;
use super::append_times::Watch;
use super::intake::SnapshotIntake;
use super::lease::{LeaseNow, lease_holds};
use super::machine::GroupMachine;
use super::timing::{IDLE, IDLE_UNUSED};
use super::types::Types;
use super::wire::Envelope;
use crate::domain::ids::{NodeId, ReceiptId, ReplicaId};
use crate::domain::mutation::{Mutation, is_on};
use crate::services::engine::replica::Replica;

/// openraft, over our log and machine.
pub type GroupRaft = Raft<Types, GroupMachine>;
/// What openraft publishes of a group.
pub type Metrics = RaftMetrics<Types>;
type Watched = openraft::type_config::alias::WatchReceiverOf<Types, Metrics>;

/// See the module's essay.
pub struct Group {
    /// The replica.
    pub replica: Arc<Replica>,
    /// openraft's instance.
    pub raft: GroupRaft,
    metrics: Watched,
    acknowledged: Arc<Acknowledged>,
    /// Until then no vote is given and none is asked for.
    pub quiet_until: Instant,
    /// The term in which this replica began to hand leadership over; 0, which nobody leads, for none.
    handing_over: AtomicU64,
    /// How often it has begun to.
    hand_overs: AtomicU64,
    /// Held shared by whoever proposes a write, alone by whoever proposes a split.
    pub(super) proposing: RwLock<()>,
    /// Whether a split was proposed here that has not ended.
    splitting: watch::Sender<bool>,
    heard: Mutex<LastHeard>,
    usage: Mutex<Usage>,
    /// Receipts of writes that were answered early and have not ended yet.
    pub pending: Mutex<BTreeSet<ReceiptId>>,
    /// What comes from other nodes, in the order in which it came.
    pub(super) inbox: mpsc::Sender<(NodeId, Envelope)>,
    /// A snapshot that comes in.
    pub(super) intake: Mutex<Option<SnapshotIntake>>,
    /// When the group may be asked to sleep again.
    sleepy_at: Mutex<Instant>,
    /// What is to be done when votes may be asked for.
    pub(super) beginning: Beginning,
}

/// How a group begins to be awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Beginning {
    /// The term in which this replica goes on leading, where it does.
    pub leads_in: Option<u64>,
    /// Whether it is known that nobody leads: then it campaigns as soon as it may.
    pub campaigns: bool,
}

/// When a leader was heard last, and in which term.
#[derive(Debug, Clone, Copy, Default)]
struct LastHeard(Option<(Instant, u64)>);

impl LastHeard {
    fn at(self) -> Option<Instant> {
        self.0.map(|(at, _)| at)
    }

    fn in_term(self, term: u64) -> Option<Instant> {
        self.0.filter(|(_, heard_in)| *heard_in == term).map(|(at, _)| at)
    }
}

/// Who uses the group.
struct Usage {
    now: usize,
    last: Instant,
    /// A request has, since it woke.
    ever: bool,
}

/// Who leads, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The term.
    pub term: u64,
    /// The leader and its node.
    pub leader: Option<(ReplicaId, Option<NodeId>)>,
    /// Whether that is this replica.
    pub leads: bool,
    /// Whether openraft has stopped: the group has to be woken anew.
    pub is_stopped: bool,
}

impl View {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let node = |leader: ReplicaId| metrics.membership_config.membership().get_node(&leader).copied();
        let leader = metrics.current_leader.map(|leader| (leader, node(leader)));
        let is_stopped = metrics.running_state.is_err();
        let leads = !is_stopped && metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
        Self { term: metrics.current_term, leader, leads, is_stopped }
    }

    /// The leader's node.
    pub fn leader_node(&self) -> Option<NodeId> {
        self.leader.and_then(|(_, node)| node)
    }
}

impl Group {
    /// A group that has just been woken.
    pub fn new(
        replica: Arc<Replica>,
        raft: GroupRaft,
        acknowledged: Arc<Acknowledged>,
        quiet_until: Instant,
        beginning: Beginning,
        inbox: mpsc::Sender<(NodeId, Envelope)>,
    ) -> Self {
        Self {
            replica,
            metrics: raft.metrics(),
            raft,
            acknowledged,
            quiet_until,
            handing_over: AtomicU64::new(0),
            hand_overs: AtomicU64::new(0),
            proposing: RwLock::default(),
            splitting: watch::Sender::new(false),
            heard: Mutex::default(),
            usage: Mutex::new(Usage { now: 0, last: Instant::now(), ever: false }),
            pending: Mutex::default(),
            inbox,
            intake: Mutex::default(),
            sleepy_at: Mutex::new(Instant::now()),
            beginning,
        }
    }

    /// This node's member.
    pub fn member(&self) -> ReplicaId {
        self.replica.name.replica
    }

    /// Looks at what openraft has published last. It waits while this looks.
    pub fn look<T>(&self, look: impl FnOnce(&Metrics) -> T) -> T {
        look(&self.metrics.borrow_watched())
    }

    /// Who leads.
    pub fn view(&self) -> View {
        self.look(View::of)
    }

    /// Looks at everything that is published until `look` finds what it looks for; none where it does not until the deadline, or
    /// openraft has stopped.
    pub async fn until<T>(&self, deadline: Instant, mut look: impl FnMut(&Metrics) -> Option<T>) -> Option<T> {
        let mut metrics = self.metrics.clone();
        loop {
            {
                let now = metrics.borrow_and_update();
                if let Some(found) = look(&now) {
                    return Some(found);
                }
                if now.running_state.is_err() {
                    return None;
                }
            }
            match tokio::time::timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    /// Waits until a leader is known, or the deadline; what is known then.
    pub async fn led(&self, deadline: Instant) -> View {
        let found = self.until(deadline, |metrics| {
            let view = View::of(metrics);
            (view.leader.is_some() || view.is_stopped).then_some(view)
        });
        found.await.unwrap_or_else(|| self.view())
    }

    /// Whether this replica leads, and nobody else can have led until now.
    pub fn holds_lease(&self) -> bool {
        self.look(|metrics| self.holds_lease_now(metrics))
    }

    fn holds_lease_now(&self, metrics: &Metrics) -> bool {
        let view = View::of(metrics);
        let (handing_over, is_splitting) = (self.handing_over.load(Ordering::SeqCst), self.is_splitting());
        let membership = metrics.membership_config.membership();
        let (voters, now) = (membership.get_joint_config(), Instant::now());
        let since = self.acknowledged.by_majority(self.member(), view.term, voters, now);
        let applied_term = metrics.last_applied.as_ref().map(|applied| applied.committed_leader_id().term);
        let lease = LeaseNow {
            leads: view.leads,
            term: view.term,
            handing_over,
            is_splitting,
            is_voter: membership.voter_ids().any(|voter| voter == self.member()),
            applied_term: if is_on(Mutation::ReadBeforeCaughtUp) { Some(view.term) } else { applied_term },
            since,
        };
        lease_holds(&lease, now)
    }

    /// Remembers from now on when the members had which entries.
    pub(super) fn watch_appends(&self) -> Watch {
        self.acknowledged.times.clone().watch()
    }

    /// Says that leadership is about to be handed over in this term: no read by the lease any more, until another term. Returns
    /// the number of this attempt.
    pub fn begin_hand_over(&self, term: u64) -> u64 {
        self.handing_over.store(term, Ordering::SeqCst);
        self.hand_overs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether none was begun after the attempt of this number.
    pub fn is_last_hand_over(&self, number: u64) -> bool {
        self.hand_overs.load(Ordering::Relaxed) == number
    }

    /// Whether leadership was to be handed over in this term.
    pub fn is_handing_over(&self, term: u64) -> bool {
        self.handing_over.load(Ordering::SeqCst) == term
    }

    /// Says whether a split was proposed here that has not ended: no read by the lease, and no write, until it has.
    pub(super) fn set_splitting(&self, is_splitting: bool) {
        self.splitting.send_replace(is_splitting);
    }

    /// Whether a split was proposed here that has not ended.
    pub fn is_splitting(&self) -> bool {
        *self.splitting.borrow()
    }

    /// Waits until no split is under way, or the deadline; whether none is.
    pub(super) async fn split_ended(&self, deadline: Instant) -> bool {
        let mut splitting = self.splitting.subscribe();
        let ended = tokio::time::timeout_at(deadline, splitting.wait_for(|is_splitting| !is_splitting)).await;
        matches!(ended, Ok(Ok(_)))
    }

    /// The leader of this term was heard, and followed.
    pub fn note_heard(&self, term: u64) {
        *self.heard.lock() = LastHeard(Some((Instant::now(), term)));
    }

    /// When a leader was last heard.
    pub fn heard(&self) -> Option<Instant> {
        self.heard.lock().at()
    }

    /// When the leader of this term was last heard; none where it is known and has not been followed yet.
    pub fn heard_in(&self, term: u64) -> Option<Instant> {
        self.heard.lock().in_term(term)
    }

    /// Whether the others may be asked to sleep again.
    pub fn may_try_to_sleep(&self, now: Instant) -> bool {
        now >= *self.sleepy_at.lock()
    }

    /// The others are asked to sleep, and not again before this time.
    pub fn try_to_sleep_again(&self, at: Instant) {
        *self.sleepy_at.lock() = at;
    }

    /// Somebody comes for this purpose. Called where nobody puts the group to sleep at the same time.
    pub(super) fn enter(self: &Arc<Self>, purpose: Purpose) -> InUse {
        let mut usage = self.usage.lock();
        usage.now += 1;
        usage.ever |= purpose == Purpose::Request;
        drop(usage);
        InUse(Arc::clone(self))
    }

    /// How long nobody is to use it until it is put to sleep.
    pub fn patience(&self) -> Duration {
        if self.usage.lock().ever { IDLE } else { IDLE_UNUSED }
    }

    /// Since when nobody uses it; none while somebody does.
    pub fn unused_since(&self) -> Option<Instant> {
        let usage = self.usage.lock();
        (usage.now == 0).then_some(usage.last)
    }
}

/// What a group is woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A client's request: others may follow, so it stays awake for a while.
    Request,
    /// Nothing that a client asked for: it is new, or the others have something to say.
    Upkeep,
}

/// A group that somebody uses: it is not put to sleep meanwhile.
pub struct InUse(Arc<Group>);

impl std::ops::Deref for InUse {
    type Target = Arc<Group>;

    fn deref(&self) -> &Arc<Group> {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut usage = self.0.usage.lock();
        usage.now -= 1;
        usage.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new leader is known before its first entries are synced; its predecessor may have been heard long ago, or never where this
    /// replica was it.
    #[test]
    fn what_was_heard_of_one_leader_says_nothing_of_the_next() {
        let heard = LastHeard(Some((Instant::now(), 4)));
        assert_eq!(heard.in_term(4), heard.at());
        assert!(heard.at().is_some() && heard.in_term(5).is_none());
    }
}
