//! How a group falls asleep, all members together, and what wakes it.
//!
//! A group that nobody has used for a while, whose members all have all entries and have applied them, has nothing to
//! do but heartbeats. Its leader stops those, waits until the last of them has arrived, and asks the members to sleep,
//! naming its term and its last entry. A member that has exactly these ends its openraft instance and agrees;
//! when all have agreed, the leader ends its own. If one does not, or says nothing, the leader goes on, and its next
//! heartbeat wakes those that sleep already. Asleep, a group has no task and no timer; node-to-node beacons stand for
//! its heartbeats.
//!
//! It is woken by a request, by a message of Raft, and where the node of its leader falls silent or its process starts anew.
//!
//! A member whose node is silent is not asked, as long as a majority of the voters sleeps: else one node that is gone would keep
//! every group that it has a copy of awake, with heartbeats for each. It may lack what was written meanwhile. So the leader's
//! node remembers which groups slept without it, and wakes them when its beacons are back: their leaders then bring it up to date and all
//! sleep again, together. Where the leader's process starts anew meanwhile it forgets that; the others notice the start, elect one of
//! them, and that one remembers. Only where all members' processes stop while one of them is away, nobody does, and the member that was
//! away lags until the group is used again.
//!
//! A leader that fell asleep by agreement goes on leading in its term when it wakes, without an election. That is sound
//! because nothing was lost: its vote is on disk, its log was synced and on a majority, and it has not ended with the
//! process. It knows of no acknowledgement when it wakes, so it has no lease until a majority has answered it
//! again; if another was elected meanwhile, the first answer says so. After a restart of the process it is an
//! ordinary follower: what it had sent to others may have been ahead of its own disk, and a leader that goes on in its
//! term could then propose another entry at the same place. A leader that began to hand over does not sleep in that term:
//! it would forget that it must not read by its lease. It sends no heartbeats either, so members that had agreed to sleep just
//! before are woken by the word of the hand-over, or when that has come to nothing ([`super::operations`]).
//!
//! A member that falls asleep may have acknowledged its leader just now. It gives no vote for the length of a lease
//! after.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::awake::{Group, Metrics, Purpose};
use super::host::Groups;
use super::leaving;
use super::presence::{Heard, LogProgress};
use super::questions::Between;
use super::timing::{HEARTBEAT, LEADER_WAIT, SLEEP_WAIT, WAKE_PACE};
use super::wire::{BEACON_IS_ANSWER, Message, Quiet};
use crate::domain::ids::{NodeId, RangeId, ReplicaId};

/// A leader's group that has nothing to do.
#[derive(Debug, PartialEq, Eq)]
struct Settled {
    /// Its term and last entry.
    quiet: Quiet,
    /// The other members, which have all of it.
    even: Vec<(ReplicaId, NodeId)>,
    /// The nodes of members that are away.
    away: BTreeSet<NodeId>,
}

/// Whether a leader's group has nothing to do, for all members whose nodes are there.
fn settled(group: &Group, metrics: &Metrics, is_silent: &dyn Fn(NodeId) -> bool) -> Option<Settled> {
    let membership = metrics.membership_config.membership();
    let [voters] = membership.get_joint_config().as_slice() else { return None };
    let (last, applied) = (metrics.last_log_index?, metrics.last_applied.as_ref()?.index);
    let replication = metrics.replication.as_ref()?;
    let others = membership.nodes().filter(|(member, _)| **member != group.member());
    let (gone, there): (Vec<_>, Vec<_>) = others.partition(|(_, node)| is_silent(**node));
    let has_all = |member: &ReplicaId| {
        replication.get(member).and_then(|matched| matched.as_ref()).is_some_and(|matched| matched.index == last)
    };
    let asleep = 1 + there.iter().filter(|(member, _)| voters.contains(*member)).count();
    let is_even = last == applied && there.iter().all(|(member, _)| has_all(member));
    (is_even && voters.contains(&group.member()) && 2 * asleep > voters.len()).then(|| Settled {
        quiet: Quiet { term: metrics.current_term, last_index: last },
        even: there.into_iter().map(|(member, node)| (*member, *node)).collect(),
        away: gone.into_iter().map(|(_, node)| *node).collect(),
    })
}

impl Groups {
    /// Tells other nodes that this one is there, and notices which of them have fallen silent. Called in the rhythm of beacons; where
    /// this node itself was held up and is so much `late`, it has not listened meanwhile.
    pub(super) fn keep_presence(&self, late: Duration) {
        let now = Instant::now();
        self.send_beacons(now);
        self.presence.lock().did_not_listen(late, now);
        self.notice_silence(now);
    }

    /// Finds other leaders for what nodes led that have become silent.
    fn notice_silence(&self, now: Instant) {
        let silent: Vec<(NodeId, bool)> = {
            let mut presence = self.presence.lock();
            let silent = presence.newly_silent(now);
            silent.into_iter().map(|node| (node, presence.is_gone(node))).collect()
        };
        for (node, is_planned) in silent {
            let led = self.slots.lock().led_from(node);
            match is_planned {
                true => tracing::info!(%node, groups = led.len(), "a node has stopped as planned"),
                false => tracing::warn!(%node, groups = led.len(), "a node has fallen silent"),
            }
            for range in led {
                // One that is back leads on.
                self.wake_in_turn(range, move |groups| groups.presence.lock().is_silent(node, Instant::now()));
            }
            self.stand_for(node);
        }
    }

    /// A look at groups that are new, gone or idle, some times a second. What it costs depends on the groups that are awake and on
    /// what has changed, never on how many sleep.
    pub(super) async fn look_after(&self) {
        let now = Instant::now();
        self.follow_replicas().await;
        let awake = self.slots.lock().all_awake();
        self.counters.looked_at.fetch_add(awake.len() as u64, Ordering::Relaxed);
        for (range, group) in awake {
            self.sleep_if_idle(range, &group, now);
            self.purge(&group);
        }
    }

    /// Looks at all replicas where some came or went since the last time, else only at those that could not be followed then.
    async fn follow_replicas(&self) {
        let changes = self.parts.engine.changes();
        let mut ranges = std::mem::take(&mut *self.again.lock());
        if self.followed.swap(changes, Ordering::AcqRel) != changes {
            ranges.extend(self.parts.engine.replicas().iter().map(|replica| replica.name.range));
            ranges.extend(self.slots.lock().ranges());
        }
        self.counters.looked_at.fetch_add(ranges.len() as u64, Ordering::Relaxed);
        for range in ranges {
            self.follow_replica(range).await;
        }
    }

    /// Wakes a group that is new here; ends one whose replica is gone, or was opened anew.
    async fn follow_replica(&self, range: RangeId) {
        let replica = self.parts.engine.group_replica(range);
        let (awake, asleep, is_known) = {
            let slots = self.slots.lock();
            (slots.awake(range), slots.asleep(range), slots.knows(range))
        };
        match (replica, awake) {
            (Some(replica), Some(group)) if Arc::ptr_eq(&group.replica, &replica) => {}
            (Some(_), Some(group)) => {
                self.end_group(range, &group).await;
                self.again.lock().insert(range);
            }
            (Some(replica), None) => {
                // A child of a split has to be led once, so that it is published what became of its parent.
                let is_new = replica.applied_index() == 0 || self.parts.engine.is_child(range);
                // What fell asleep was another object: this one has begun anew from the disk, and may have more to apply.
                let is_other = asleep.is_some_and(|asleep| asleep.number != replica.number);
                if (!is_known || is_other) && (replica.needs_wake() || is_new) {
                    self.wake_later(range);
                }
            }
            (None, awake) => {
                if let Some(group) = awake {
                    self.end_group(range, &group).await;
                }
                let mut slots = self.slots.lock();
                slots.forget_asleep(range);
                if slots.knows(range) {
                    self.again.lock().insert(range);
                } else {
                    self.partners.lock().forget(range);
                }
            }
        }
    }

    pub(super) fn send_beacons(&self, now: Instant) {
        let mut shared: BTreeSet<NodeId> = self.partners.lock().nodes().collect();
        shared.remove(&self.parts.node);
        let stats = self.parts.engine.log().counters();
        let log = LogProgress { groups: stats.groups, is_waiting: stats.bytes_pending > 0 };
        let listeners = {
            let mut presence = self.presence.lock();
            presence.share_with(&shared, now);
            if stats.failed || !presence.may_send(log) { Vec::new() } else { presence.listeners(now) }
        };
        for (node, is_answer) in listeners {
            let flags = if is_answer { BEACON_IS_ANSWER } else { 0 } | leaving::flags_of(*self.departure.lock());
            // One that is not sent is as good as one that is lost.
            let _ = self.parts.networks.tell_node(node, self.beacon(stats.synced, stats.groups, flags));
            self.counters.beacons.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes a group that nobody waits for, a few at a time.
    pub(super) fn wake_later(&self, range: RangeId) {
        let Some(me) = self.me() else { return };
        self.spawn(async move { me.wake_when_there_is_room(range).await });
    }

    /// Wakes one of many groups that nobody waits for, if that is still to be done when it is its turn: a node that goes or comes may
    /// concern thousands. Whom clients ask for is woken by their requests, at once; if the others came all together, these would have
    /// to wait for them, and so would beacons, until nodes that are only busy were taken for gone, and still more were woken.
    pub(super) fn wake_in_turn(&self, range: RangeId, is_to_be: impl Fn(&Groups) -> bool + Send + 'static) {
        let Some(me) = self.me() else { return };
        let before = self.slots.lock().asleep(range);
        let mut dice = [0; 2];
        self.parts.random.fill(&mut dice);
        let turn = {
            let mut next = self.next_wake.lock();
            *next = (*next).max(Instant::now()) + WAKE_PACE;
            // Not all nodes begin with the same group at the same moment.
            *next + Duration::from_millis(u64::from(u16::from_be_bytes(dice)) % 300)
        };
        self.spawn(async move {
            tokio::time::sleep_until(turn).await;
            // One that was awake meanwhile has done what there was to do: thousands are in line for several reasons each.
            let still_sleeps = me.slots.lock().asleep(range) == before;
            if still_sleeps && is_to_be(&me) && !me.is_stopped() {
                me.wake_when_there_is_room(range).await;
            }
        });
    }

    async fn wake_when_there_is_room(&self, range: RangeId) {
        let Ok(_place) = self.waking.acquire().await else { return };
        if let Ok(group) = self.wake(range, Purpose::Upkeep).await {
            group.led(Instant::now() + LEADER_WAIT).await;
        }
    }

    fn sleep_if_idle(&self, range: RangeId, group: &Arc<Group>, now: Instant) {
        let is_idle =
            group.unused_since().is_some_and(|since| now > since + group.patience()) && group.may_try_to_sleep(now);
        let view = group.view();
        if !is_idle || !view.leads || group.is_handing_over(view.term) {
            return;
        }
        let Some(settled) = self.settled(group) else { return };
        let Some(me) = self.me() else { return };
        let group = Arc::clone(group);
        group.try_to_sleep_again(now + group.patience());
        self.spawn(async move { me.agree_to_sleep(range, group, settled).await });
    }

    fn settled(&self, group: &Group) -> Option<Settled> {
        let (presence, now) = (self.presence.lock(), Instant::now());
        group.look(|metrics| settled(group, metrics, &|node| presence.is_silent(node, now)))
    }

    async fn agree_to_sleep(&self, range: RangeId, group: Arc<Group>, settled: Settled) {
        group.raft.runtime_config().heartbeat(false);
        tokio::time::sleep(HEARTBEAT).await;
        let (own, quiet) = (group.member(), settled.quiet);
        let answers = settled.even.iter().map(|(peer, node)| {
            let (peer, node) = (*peer, *node);
            self.parts.networks.ask(Between { range, own, peer, node }, Message::Sleep(quiet), SLEEP_WAIT)
        });
        let answers = futures_util::future::join_all(answers).await;
        let agreed = answers.iter().all(
            |answer| matches!(answer, Ok(Message::SleepAnswer { quiet: theirs, is_agreed: true }) if *theirs == quiet),
        );
        let view = group.view();
        let is_same =
            view.leads && !group.is_handing_over(view.term) && self.settled(&group).is_some_and(|now| now == settled);
        if agreed && is_same && self.put_to_sleep(range, &group, Some(&settled.away), true).await {
            return;
        }
        group.raft.runtime_config().heartbeat(true);
        // An error says that it has ended: then there is nobody to wake.
        let _ = group.raft.trigger().heartbeat().await;
    }

    /// Whether this replica has exactly what its leader says, and sleeps now.
    pub(super) async fn follow_to_sleep(&self, from: NodeId, range: RangeId, quiet: Quiet) -> bool {
        let (awake, asleep) = {
            let slots = self.slots.lock();
            (slots.awake(range), slots.asleep(range))
        };
        if let Some(asleep) = asleep {
            return asleep.agreed && asleep.term == quiet.term && asleep.leader.is_some_and(|(_, node)| node == from);
        }
        let Some(group) = awake else { return false };
        // A heartbeat may still be on its way that says how much is committed.
        let deadline = Instant::now() + SLEEP_WAIT / 2;
        let is_even = group.until(deadline, |metrics| {
            let has = metrics.last_log_index == Some(quiet.last_index);
            let applied = metrics.last_applied.as_ref().is_some_and(|applied| applied.index == quiet.last_index);
            let is_over = metrics.current_term != quiet.term || metrics.last_log_index > Some(quiet.last_index);
            (is_over || has && applied).then_some(!is_over)
        });
        if is_even.await != Some(true) {
            return false;
        }
        let view = group.view();
        !view.leads
            && view.leader_node() == Some(from)
            && self.put_to_sleep(range, &group, Some(&BTreeSet::new()), true).await
    }

    /// A member is awake that was told nothing by the leader it last knew: where that is this node's, and sleeps, it wakes; also where
    /// it led before this process started.
    pub(super) fn wake_as_leader(&self, range: RangeId) {
        let (asleep, is_known) = {
            let slots = self.slots.lock();
            (slots.asleep(range), slots.knows(range))
        };
        let led = asleep.is_some_and(|asleep| asleep.leader.is_some_and(|(_, node)| node == self.parts.node));
        if led || !is_known && self.parts.engine.group_replica(range).is_some() {
            self.wake_later(range);
        }
    }

    /// A beacon came.
    pub(super) fn note_beacon(&self, from: NodeId, beacon: Heard) {
        let now = Instant::now();
        let news = self.presence.lock().heard(from, beacon, now);
        if news.is_last {
            self.notice_silence(now);
            return;
        }
        if news.is_restarted {
            let led = self.slots.lock().led_from(from);
            tracing::info!(node = %from, groups = led.len(), "a node has started anew");
            led.into_iter().for_each(|range| self.wake_in_turn(range, |_| true));
        }
        if news.is_back || news.is_restarted {
            // Only the node of their leader knows these.
            let missed = self.slots.lock().slept_without(from);
            missed.into_iter().for_each(|range| self.wake_in_turn(range, |_| true));
        }
    }

    /// Drops from the log what is in the file, where that is worth it.
    fn purge(&self, group: &Arc<Group>) {
        let Some(point) = group.replica.purge_point() else { return };
        let group = Arc::clone(group);
        self.spawn(async move {
            // Errors say that the group has ended; what sleeps drops more.
            let _ = group.raft.trigger().snapshot().await;
            let _ = group.raft.trigger().purge_log(point).await;
        });
    }
}
