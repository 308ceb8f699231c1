//! How a group falls asleep, all members together, and what wakes it.
//!
//! A group that nobody has used for a while, whose members all have all entries and have applied them, has nothing to
//! do but heartbeats. Its leader stops those, waits until the last of them has arrived, and asks the members to sleep,
//! naming its term and its last entry. A member that has exactly these ends its openraft instance and agrees;
//! when all have agreed, the leader ends its own. If one does not, or says nothing, the leader goes on, and its next
//! heartbeat wakes those that sleep already. Asleep, a group has no task and no timer; node-to-node beacons stand for
//! its heartbeats.
//!
//! It is woken by a request, by a message of Raft, and where the node of its leader falls silent.
//!
//! A leader that fell asleep by agreement goes on leading in its term when it wakes, without an election. That is sound
//! because nothing was lost: its vote is on disk, its log was synced and on all members, and it has not ended with the
//! process. It knows of no acknowledgement when it wakes, so it has no lease until a majority has answered it
//! again; if another was elected meanwhile, the first answer says so. After a restart of the process it is an
//! ordinary follower: what it had sent to others may have been ahead of its own disk, and a leader that goes on in its
//! term could then propose another entry at the same place. A leader that began to hand over does not sleep in that term:
//! it would forget that it must not read by its lease.
//!
//! A member that falls asleep may have acknowledged its leader just now. It gives no vote for the length of a lease
//! after.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::awake::{Group, Metrics};
use super::host::Groups;
use super::presence::LogProgress;
use super::questions::Between;
use super::timing::{HEARTBEAT, IDLE, LEADER_WAIT, SLEEP_WAIT};
use super::wire::{Message, Quiet};
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::services::engine::replica::Replica;

/// Where a leader's group has nothing to do, its term and last entry, and the others.
fn settled(group: &Group, metrics: &Metrics) -> Option<(Quiet, Vec<(ReplicaId, NodeId)>)> {
    let membership = metrics.membership_config.membership();
    let (last, applied) = (metrics.last_log_index?, metrics.last_applied.as_ref()?.index);
    let is_even = membership.get_joint_config().len() == 1 && last == applied;
    let others: Vec<_> = membership.nodes().filter(|(member, _)| **member != group.member()).collect();
    let replication = metrics.replication.as_ref()?;
    let all_have_it = others.iter().all(|(member, _)| {
        replication.get(member).and_then(|matched| matched.as_ref()).is_some_and(|matched| matched.index == last)
    });
    let quiet = Quiet { term: metrics.current_term, last_index: last };
    let others = others.into_iter().map(|(member, node)| (*member, *node)).collect();
    (is_even && all_have_it).then_some((quiet, others))
}

impl Groups {
    /// A look at everything, some times a second: beacons, nodes that have fallen silent, groups that are new, gone or idle.
    pub(super) async fn look_after(&self) {
        let now = Instant::now();
        let replicas = self.parts.engine.replicas();
        let grouped: Vec<_> = replicas.into_iter().filter(|replica| replica.is_grouped()).collect();
        self.follow_replicas(&grouped).await;
        self.send_beacons(&grouped, now);
        let silent = self.presence.lock().newly_silent(now);
        for node in silent {
            let led = self.slots.lock().led_from(node);
            tracing::warn!(%node, groups = led.len(), "a node has fallen silent");
            led.into_iter().for_each(|range| self.wake_later(range, true));
        }
        let awake = self.slots.lock().all_awake();
        for (range, group) in awake {
            self.sleep_if_idle(range, &group, now);
            self.purge(&group);
        }
    }

    /// Wakes groups that are new here; ends those whose replica is gone, or was opened anew.
    async fn follow_replicas(&self, grouped: &[Arc<Replica>]) {
        let (mut fresh, mut stale) = (Vec::new(), Vec::new());
        // Children of splits have to be led once, so that it is published what became of their parent.
        let splits = grouped.iter().filter_map(|replica| replica.split());
        let children: BTreeSet<RangeId> = splits.flat_map(|done| [done.split.lower, done.split.upper]).collect();
        {
            let slots = self.slots.lock();
            for replica in grouped {
                let range = replica.name.range;
                match slots.awake(range) {
                    Some(group) if !Arc::ptr_eq(&group.replica, replica) => stale.push((range, Some(group))),
                    None if !slots.knows(range)
                        && (replica.needs_wake() || replica.applied_index() == 0 || children.contains(&range)) =>
                    {
                        fresh.push(range);
                    }
                    _ => {}
                }
            }
            let known: BTreeSet<RangeId> = grouped.iter().map(|replica| replica.name.range).collect();
            stale.extend(slots.beside(&known).into_iter().map(|range| (range, slots.awake(range))));
        }
        for (range, group) in stale {
            if let Some(group) = group {
                self.put_to_sleep(range, &group, false, false).await;
            }
            if self.parts.engine.replica_of(range).is_none() {
                self.slots.lock().forget_asleep(range);
            }
        }
        fresh.into_iter().for_each(|range| self.wake_later(range, false));
    }

    fn send_beacons(&self, grouped: &[Arc<Replica>], now: Instant) {
        let mut peers = BTreeSet::new();
        for replica in grouped {
            // Of a group that was never awake nothing is known without a look into its file.
            if self.slots.lock().knows(replica.name.range)
                && let Ok(Some(machine)) = replica.machine_state()
            {
                peers.extend(machine.membership.members.values().copied());
            }
        }
        peers.remove(&self.parts.node);
        let stats = self.parts.engine.log().stats();
        let log = LogProgress { groups: stats.groups, is_waiting: stats.bytes_pending > 0 };
        let may_send = {
            let mut presence = self.presence.lock();
            presence.share_with(&peers, now);
            presence.may_send(log) && !stats.failed
        };
        if may_send {
            let beacon = self.beacon(stats.synced, stats.groups);
            for node in peers {
                // One that is not sent is as good as one that is lost.
                let _ = self.parts.networks.tell_node(node, beacon);
                self.counters.beacons.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Wakes a group that nobody waits for, a few at a time and not all at the same moment.
    pub(super) fn wake_later(&self, range: RangeId, spread: bool) {
        let Some(me) = self.me() else { return };
        let mut dice = [0; 2];
        self.parts.random.fill(&mut dice);
        let pause = Duration::from_millis(u64::from(u16::from_be_bytes(dice)) % 300);
        self.spawn(async move {
            if spread {
                tokio::time::sleep(pause).await;
            }
            let Ok(_place) = me.waking.acquire().await else { return };
            if let Ok(group) = me.wake(range).await {
                group.led(Instant::now() + LEADER_WAIT).await;
            }
        });
    }

    fn sleep_if_idle(&self, range: RangeId, group: &Arc<Group>, now: Instant) {
        let is_idle = group.unused_since().is_some_and(|since| now > since + IDLE) && group.may_try_to_sleep(now);
        let view = group.view();
        if !is_idle || !view.leads || group.is_handing_over(view.term) {
            return;
        }
        let Some((quiet, others)) = group.look(|metrics| settled(group, metrics)) else { return };
        let Some(me) = self.me() else { return };
        let group = Arc::clone(group);
        group.try_to_sleep_again(now + IDLE);
        self.spawn(async move { me.agree_to_sleep(range, group, quiet, others).await });
    }

    async fn agree_to_sleep(&self, range: RangeId, group: Arc<Group>, quiet: Quiet, others: Vec<(ReplicaId, NodeId)>) {
        group.raft.runtime_config().heartbeat(false);
        tokio::time::sleep(HEARTBEAT).await;
        let own = group.member();
        let answers = others.into_iter().map(|(peer, node)| {
            self.parts.networks.ask(Between { range, own, peer, node }, Message::Sleep(quiet), SLEEP_WAIT)
        });
        let answers = futures_util::future::join_all(answers).await;
        let agreed = answers.iter().all(
            |answer| matches!(answer, Ok(Message::SleepAnswer { quiet: theirs, is_agreed: true }) if *theirs == quiet),
        );
        let view = group.view();
        let is_same = view.leads
            && !group.is_handing_over(view.term)
            && group.look(|metrics| settled(&group, metrics)).is_some_and(|(now, _)| now == quiet);
        if agreed && is_same && self.put_to_sleep(range, &group, true, true).await {
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
        !view.leads && view.leader_node() == Some(from) && self.put_to_sleep(range, &group, true, true).await
    }

    /// A member is awake that was told nothing by the leader it last knew: where that is this node's, and sleeps, it wakes.
    pub(super) fn wake_as_leader(&self, range: RangeId) {
        let asleep = self.slots.lock().asleep(range);
        if asleep.is_some_and(|asleep| asleep.leader.is_some_and(|(_, node)| node == self.parts.node)) {
            self.wake_later(range, false);
        }
    }

    /// A beacon came.
    pub(super) fn note_beacon(&self, from: NodeId) {
        self.presence.lock().heard(from, Instant::now());
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
