//! All groups of a node: found, woken, put to sleep, stopped.
//!
//! openraft's tasks live on the runtime in which this was made, whoever wakes a group: a thread that serves HTTP comes
//! and goes, and a group stays.
//!
//! A group is woken by one task, and who wants it meanwhile waits for that one; so a request that is given up leaves no
//! group half awake. What the next author must keep: a slot is never left busy, and openraft is made only from parts that
//! are fresh.
//!
//! When all are stopped, one that is just waking is given up, however long its disk takes, or ended as soon as it is awake.
//! So what opens a group waits for nothing any more once openraft runs: else one that is given up there would go on. The same
//! goes for one that is ended because its replica was taken out of service.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use openraft::Config;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::time::Instant;

use super::awake::{Beginning, Group, GroupRaft, InUse, Purpose};
use super::held_back::HeldBack;
use super::network::GroupNetworks;
use super::partners::Partners;
use super::presence::{Departure, Presence};
use super::slots::{Asleep, Ending, Found, Slot, SlotCounts, Slots};
use super::standing::Standing;
use super::timing::{self, LEASE};
use crate::domain::ids::{NodeId, RangeId};
use crate::domain::{Random, Refusal};
use crate::services::engine::Engine;
use crate::services::engine::replica::Replica;

/// Groups that are woken at once without anybody waiting for them.
const WAKING_MAX: usize = 16;
/// Messages of other nodes that wait for one group: far more than its members send before they are answered.
pub(super) const MESSAGES_MAX: usize = 256;
/// News of changes that a slow receiver may be behind.
const CHANGES_KEPT: usize = 1024;
/// Bytes of its log, at most, that a group keeps which sleeps although a member was away: what that one lacks is then seldom
/// a snapshot. Ten thousand such groups must not fill the memory.
const TAIL_FOR_THE_AWAY: usize = 16 << 10;

/// What the groups of a node stand on.
pub struct GroupsParts {
    /// The node.
    pub node: NodeId,
    /// Its engine.
    pub engine: Arc<Engine>,
    /// The ways to other nodes.
    pub networks: Arc<GroupNetworks>,
    /// Dice.
    pub random: Arc<dyn Random>,
}

/// See the module's essay.
pub struct Groups {
    pub(super) parts: GroupsParts,
    runtime: Handle,
    /// No replica has acknowledged anything in this process before.
    pub(super) started: Instant,
    restoring: Arc<Config>,
    plain: Arc<Config>,
    pub(super) slots: Mutex<Slots>,
    changes: broadcast::Sender<RangeId>,
    pub(super) presence: Mutex<Presence>,
    pub(super) partners: Mutex<Partners>,
    /// The engine's replicas were looked at when it had changed so often.
    pub(super) followed: AtomicU64,
    /// Ranges to be looked at again, because they could not be followed.
    pub(super) again: Mutex<BTreeSet<RangeId>>,
    /// Bounds what is woken in the background.
    pub(super) waking: Arc<Semaphore>,
    /// When the next of many is woken that nobody waits for.
    pub(super) next_wake: Mutex<Instant>,
    /// What has come for groups that are being woken.
    pub(super) held_back: HeldBack,
    pub(super) counters: Counters,
    pub(super) boots: super::boots::BootNews,
    pub(super) told_to_differ: Mutex<Vec<super::digests::ToldToDiffer>>,
    /// This start of the process, among others.
    pub(super) boot: u64,
    /// How long this node means to stay.
    pub(super) departure: Mutex<Departure>,
    /// Whether no group is woken any more.
    stopped: watch::Sender<bool>,
    /// Told when a group is ended whose replica was taken out of service.
    pub(super) out_of_service: Notify,
    me: Weak<Groups>,
}

/// What has happened since the start.
#[derive(Default)]
pub(super) struct Counters {
    /// A replica of this node became leader.
    pub(super) elections: AtomicU64,
    /// A group was woken.
    pub(super) woken: AtomicU64,
    /// A group fell asleep.
    pub(super) fallen_asleep: AtomicU64,
    /// Beacons that were sent.
    pub(super) beacons: AtomicU64,
    /// Messages that were not understood, or meant for a replica that is not here.
    pub(super) strays: AtomicU64,
    /// Groups and replicas that the regular look looked at.
    pub(super) looked_at: AtomicU64,
    /// Snapshots of other replicas that were taken in.
    pub(super) snapshots_taken: AtomicU64,
}

/// How the groups of a node are, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupsStats {
    /// How many are in which state.
    pub slots: SlotCounts,
    /// Groups that sleep and were led from this node when they fell asleep: they go on being so when they wake.
    pub leading_asleep: usize,
    /// How often a replica of this node became leader.
    pub elections: u64,
    /// How often a group was woken.
    pub woken: u64,
    /// How often one fell asleep.
    pub fallen_asleep: u64,
    /// Beacons that were sent to other nodes.
    pub beacons: u64,
    /// Messages that were not understood, or meant for a replica that is not here.
    pub strays: u64,
    /// Groups and replicas that the regular look looked at: none of those that sleep.
    pub looked_at: u64,
    /// Snapshots of other replicas that were taken in.
    pub snapshots_taken: u64,
    /// Snapshots that others took in from here.
    pub snapshots_sent: u64,
}

impl Groups {
    /// The groups of a node, all asleep. Called within the runtime in which they are to live.
    ///
    /// # Errors
    /// Where openraft does not accept the times.
    pub fn new(parts: GroupsParts) -> Result<Arc<Self>, openraft::ConfigError> {
        let (restoring, plain) = (timing::config(true)?, timing::config(false)?);
        let mut boot = [0; 8];
        parts.random.fill(&mut boot);
        Ok(Arc::new_cyclic(|me| Self {
            parts,
            runtime: Handle::current(),
            started: Instant::now(),
            restoring,
            plain,
            slots: Mutex::default(),
            changes: broadcast::channel(CHANGES_KEPT).0,
            presence: Mutex::default(),
            partners: Mutex::default(),
            followed: AtomicU64::new(0),
            again: Mutex::default(),
            waking: Arc::new(Semaphore::new(WAKING_MAX)),
            next_wake: Mutex::new(Instant::now()),
            held_back: HeldBack::default(),
            counters: Counters::default(),
            boots: super::boots::BootNews::default(),
            told_to_differ: Mutex::default(),
            boot: u64::from_be_bytes(boot),
            departure: Mutex::default(),
            stopped: watch::Sender::new(false),
            out_of_service: Notify::new(),
            me: Weak::clone(me),
        }))
    }

    /// Starts what looks after all groups; it ends when they are stopped.
    pub fn start(&self) {
        let (me, looking) = (Weak::clone(&self.me), Weak::clone(&self.me));
        // Two tasks: however long a look at the groups takes, others have to hear that this node is there.
        drop(self.runtime.spawn(async move {
            let mut beat = beat();
            loop {
                let due = beat.tick().await;
                let Some(groups) = me.upgrade().filter(|groups| !groups.is_stopped()) else { return };
                groups.keep_presence(due.elapsed());
            }
        }));
        drop(self.runtime.spawn(async move {
            let mut beat = beat();
            loop {
                beat.tick().await;
                let Some(groups) = looking.upgrade().filter(|groups| !groups.is_stopped()) else { return };
                groups.look_after().await;
            }
        }));
    }

    /// Runs something on the groups' runtime.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(work));
    }

    pub(super) fn me(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Whether no group is woken any more.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    async fn until_stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // Who tells it is there as long as this runs.
        let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
    }

    /// Waits until the range's group is ended because its replica was taken out of service.
    async fn until_out_of_service(&self, range: RangeId) {
        loop {
            // Whoever tells has taken it out of service before: so this hears of it from here on, or sees it.
            let told = self.out_of_service.notified();
            let replica = self.parts.engine.group_replica(range);
            if replica.is_none_or(|replica| replica.damage().is_some()) {
                return;
            }
            told.await;
        }
    }

    /// Tells whom it concerns that the range's leader or membership has changed.
    pub(super) fn tell_change(&self, range: RangeId) {
        // Nobody listens: nobody has to be told.
        let _ = self.changes.send(range);
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<RangeId> {
        self.changes.subscribe()
    }

    /// How the groups are.
    pub fn stats(&self) -> GroupsStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (slots, leading_asleep) = {
            let slots = self.slots.lock();
            (slots.counts(), slots.count_led_from(self.parts.node))
        };
        GroupsStats {
            slots,
            leading_asleep,
            elections: read(&self.counters.elections),
            woken: read(&self.counters.woken),
            fallen_asleep: read(&self.counters.fallen_asleep),
            beacons: read(&self.counters.beacons),
            strays: read(&self.counters.strays),
            looked_at: read(&self.counters.looked_at),
            snapshots_taken: read(&self.counters.snapshots_taken),
            snapshots_sent: self.parts.networks.snapshots_sent(),
        }
    }

    /// How far the members of the groups led from here are, and which groups nobody leads.
    pub fn standing(&self) -> Standing {
        let (awake, incomplete) = {
            let slots = self.slots.lock();
            (slots.all_awake(), slots.counts().incomplete)
        };
        let presence = self.presence.lock();
        let now = Instant::now();
        Standing::of(&awake, incomplete, &|node| presence.is_silent(node, now))
    }

    /// The range's group, awake, and kept awake as long as this is held.
    ///
    /// # Errors
    /// `Unavailable` where it cannot be woken or the node stops.
    pub async fn wake(&self, range: RangeId, purpose: Purpose) -> Result<InUse, Refusal> {
        loop {
            let mut end = match self.find_or_begin(range, purpose)? {
                Ok(group) => return Ok(group),
                Err(end) => end,
            };
            // It is never sent to before its end.
            while end.changed().await.is_ok() {}
            if let Some(refusal) = end.borrow().clone() {
                return Err(refusal);
            }
        }
    }

    fn find_or_begin(
        &self,
        range: RangeId,
        purpose: Purpose,
    ) -> Result<Result<InUse, watch::Receiver<Ending>>, Refusal> {
        let mut slots = self.slots.lock();
        if self.is_stopped() {
            return Err(stopping());
        }
        let asleep = match slots.find(range, purpose) {
            Found::Awake(group) if !group.view().is_stopped => return Ok(Ok(group)),
            Found::Awake(group) => Some(asleep_now(&group, false)),
            Found::Busy(end) => return Ok(Err(end)),
            // Whoever it is that asks finds a copy that can lead for longer.
            Found::Asleep(_) if *self.departure.lock() == Departure::Gone => return Err(stopping()),
            Found::Asleep(asleep) => asleep,
        };
        let Some(me) = self.me() else { return Err(stopping()) };
        let end = slots.begin(range);
        let waiting = end.subscribe();
        self.spawn(me.wake_up(range, asleep, end));
        Ok(Err(waiting))
    }

    async fn wake_up(self: Arc<Self>, range: RangeId, asleep: Option<Asleep>, end: watch::Sender<Ending>) {
        let opened = tokio::select! {
            biased;
            opened = self.open(range, asleep) => opened,
            () = self.until_stopped() => Err(stopping()),
            () = self.until_out_of_service(range) => Err(gone()),
        };
        let mut slots = self.slots.lock();
        match opened {
            Ok(group) => {
                self.counters.woken.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%range, "a group woke");
                slots.set(range, Slot::Awake(Arc::clone(&group)));
                self.spawn(super::watching::watch(Weak::clone(&self.me), range, group));
            }
            Err(refusal) => {
                tracing::debug!(%range, %refusal, "a group did not wake");
                match asleep {
                    Some(asleep) => slots.set(range, Slot::Asleep(asleep)),
                    None => {
                        slots.forget(range);
                        self.again.lock().insert(range);
                    }
                }
                end.send_replace(Some(refusal));
            }
        }
    }

    /// Makes a group of fresh parts. Whoever gives this up leaves nothing of it.
    pub(super) async fn open(&self, range: RangeId, asleep: Option<Asleep>) -> Result<Arc<Group>, Refusal> {
        let parts = self.parts.engine.group_parts(range).await?;
        let member = parts.replica.name.replica;
        let restores = asleep.is_some_and(|asleep| {
            let led = asleep.leader.is_some_and(|(leader, _)| leader == member);
            // After the disk has failed, nothing of before is believed.
            asleep.agreed && led && asleep.number == parts.replica.number
        });
        let beginning = self.beginning(&parts.replica, asleep, restores);
        let config = if restores { &self.restoring } else { &self.plain };
        let network = self.parts.networks.of(range, member);
        let acknowledged = network.acknowledged();
        let raft = GroupRaft::build(member, Arc::clone(config), network, parts.log, parts.machine).await;
        let raft = raft.map_err(|error| {
            tracing::error!(%range, %error, "a group cannot be woken");
            Refusal::unavailable("the part of the table cannot be served at this node at present", 1)
        })?;
        let promised_until = asleep.map_or(self.started, |asleep| asleep.since) + LEASE;
        let quiet_until = self.introduce(&parts.replica).map_or(promised_until, |until| until.max(promised_until));
        if Instant::now() < quiet_until {
            raft.runtime_config().elect(false);
        }
        raft.run();
        let (inbox, messages) = mpsc::channel(MESSAGES_MAX);
        let group = Arc::new(Group::new(parts.replica, raft, acknowledged, quiet_until, beginning, inbox));
        self.spawn(super::dispatch::take_messages(Weak::clone(&self.me), Arc::downgrade(&group), messages));
        Ok(group)
    }

    fn beginning(&self, replica: &Replica, asleep: Option<Asleep>, restores: bool) -> Beginning {
        if restores {
            return Beginning { leads_in: asleep.map(|asleep| asleep.term), campaigns: false };
        }
        let campaigns = match asleep.and_then(|asleep| asleep.leader) {
            Some((leader, node)) => {
                leader == replica.name.replica || self.presence.lock().is_silent(node, Instant::now())
            }
            None => false,
        };
        Beginning { leads_in: None, campaigns }
    }

    /// Ends a group where it is awake and is this one, whoever uses it. Returns when openraft is gone.
    pub(super) async fn end_group(&self, range: RangeId, group: &Arc<Group>) -> bool {
        self.put_to_sleep(range, group, None, false).await
    }

    /// Ends a group where it is awake, is this one, and, if only `unused`, nobody uses it. Where its members have `agreed` to that,
    /// all but those on the nodes named. Returns when openraft is gone.
    pub(super) async fn put_to_sleep(
        &self,
        range: RangeId,
        group: &Arc<Group>,
        agreed: Option<&BTreeSet<NodeId>>,
        unused: bool,
    ) -> bool {
        let end = {
            let mut slots = self.slots.lock();
            let is_this = slots.awake(range).is_some_and(|awake| Arc::ptr_eq(&awake, group));
            if !is_this || unused && group.unused_since().is_none() {
                return false;
            }
            slots.begin(range)
        };
        let away = agreed.cloned().unwrap_or_default();
        let before = asleep_now(group, agreed.is_some());
        if let Err(error) = group.raft.shutdown().await {
            tracing::warn!(%range, %error, "a group did not end cleanly");
        }
        group.replica.rest(if away.is_empty() { 0 } else { TAIL_FOR_THE_AWAY });
        self.counters.fallen_asleep.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%range, agreed = agreed.is_some(), away = away.len(), "a group fell asleep");
        // Until now it may have acknowledged a leader.
        let asleep = Asleep { since: Instant::now(), ..before };
        self.slots.lock().set_asleep_without(range, asleep, &away);
        drop(end);
        // One that came back while this went on was not told to anybody who sleeps.
        let now = Instant::now();
        let is_back = {
            let presence = self.presence.lock();
            away.iter().any(|node| !presence.is_silent(*node, now))
        };
        if is_back {
            self.wake_in_turn(range, |_| true);
        }
        true
    }

    /// Waits until the range's group neither wakes nor falls asleep, where it does one of them.
    pub(super) async fn until_not_busy(&self, range: RangeId) {
        let busy = self.slots.lock().busy(range);
        if let Some(mut end) = busy {
            // It is never sent to before its end.
            while end.changed().await.is_ok() {}
        }
    }

    /// Ends all groups. Requests are refused from now on; what was proposed and is not answered yet is answered as unknown.
    pub async fn stop(&self) {
        self.stopped.send_replace(true);
        // Whoever takes the slots after this begins to wake none.
        let ranges = self.slots.lock().awake_or_busy();
        futures_util::future::join_all(ranges.into_iter().map(|range| self.stop_group(range))).await;
    }

    /// Ends a group after which nobody wakes it again.
    pub(super) async fn stop_group(&self, range: RangeId) {
        self.until_not_busy(range).await;
        let awake = self.slots.lock().awake(range);
        if let Some(group) = awake {
            self.end_group(range, &group).await;
        }
        // Somebody else may have begun to put it to sleep meanwhile.
        self.until_not_busy(range).await;
    }
}

/// No group is woken here any more.
fn stopping() -> Refusal {
    Refusal::unavailable("this node is stopping", 1)
}

/// Its replica is not served here any more.
fn gone() -> Refusal {
    Refusal::unavailable("this node's copy of the part of the table was taken out of service", 1)
}

/// The rhythm of beacons.
fn beat() -> tokio::time::Interval {
    let mut beat = tokio::time::interval(timing::BEACON);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beat
}

/// What is to be kept of a group that sleeps from now on.
pub(super) fn asleep_now(group: &Group, agreed: bool) -> Asleep {
    let view = group.view();
    let leader = view.leader.and_then(|(leader, node)| Some((leader, node?)));
    Asleep { since: Instant::now(), number: group.replica.number, term: view.term, leader, agreed }
}
