//! Copies of a range are compared: its leader has all of them pin their state at one place of the log, asks each for its
//! digests of that, and decides by majority ([`crate::replication::digest`]).
//!
//! A range's turn comes when a node has read its copy's file to the end. Each of its nodes then wakes the group; the one
//! that leads compares, unless that was done in this period already, as the entry that asked for it has told all copies. So
//! a range that nobody uses is compared, too, and no list of ranges has to be looked through.
//!
//! Before a leader writes that entry it asks each member for a digest of nowhere: one of a release that knows no digests
//! does not answer, and would not understand the entry.
//!
//! | who differs | what happens |
//! |---|---|
//! | some, and the good are a majority | those are told, and give themselves up ([`super::leaving`]) |
//! | the leader among them | it hands over to a good one first: what is made anew is filled by the leader |
//! | nobody knows who | a notice |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::domain::Timestamp;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::replication::digest::{Comparison, Sum, compare, name_parts};
use crate::replication::machine_state::LogPlace;
use crate::services::engine::replica::Replica;
use crate::services::engine::{DigestRun, DigestState, Engine};
use crate::services::group::awake::Purpose;
use crate::services::group::host::Groups;
use crate::services::group::ports::GroupOperations;
use crate::services::group::questions::Between;
use crate::storage::store::StoreError;

use super::leaving::Leaving;
use super::pace::Pace;
use super::records::Records;
use super::{ScrubCounters, count};

/// The pause between two questions to a member that is not done yet.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// After so long without an answer, or without being there, a member is left out.
const ABSENT_AFTER: Duration = Duration::from_secs(60);
/// How often a member is told that it differs, until it says that it heard it.
const TELL_TRIES: usize = 5;
/// The pause before copies are given up that could not be before.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How long a group that was woken has until it is led.
const LED_WAIT: Duration = Duration::from_secs(10);

/// Compares the ranges that are led from this node, one at a time.
pub(super) struct Comparing {
    engine: Arc<Engine>,
    groups: Arc<Groups>,
    records: Arc<Records>,
    leaving: Arc<Leaving>,
    pace: Pace,
    counters: Arc<ScrubCounters>,
}

/// The members of a group that is compared, with their nodes.
type Members = BTreeMap<ReplicaId, NodeId>;

impl Comparing {
    pub(super) fn new(
        engine: Arc<Engine>,
        groups: Arc<Groups>,
        records: Arc<Records>,
        leaving: Arc<Leaving>,
        pace: Pace,
        counters: Arc<ScrubCounters>,
    ) -> Self {
        Self { engine, groups, records, leaving, pace, counters }
    }

    /// Compares what waits, until nobody sends any more.
    pub(super) async fn follow(self, mut waiting: mpsc::Receiver<RangeId>) {
        while let Some(range) = waiting.recv().await {
            if self.look(range).await.is_none() {
                tracing::debug!(%range, "a range was not compared from here");
            }
        }
    }

    /// Compares a range, if this node leads it and it was not done lately.
    async fn look(&self, range: RangeId) -> Option<()> {
        let replica = self.engine.replica_of(range).filter(|replica| replica.is_grouped())?;
        let group = self.groups.wake(range, Purpose::Upkeep).await.ok()?;
        let leads = group.led(Instant::now() + LED_WAIT).await.leads;
        let digested_at = self.records.of(replica.name.replica, replica.group_file().unwrap_or(0)).digested_at;
        let now = self.engine.clock().now();
        if !leads || digested_at.is_some_and(|at| is_recent(at, now, self.pace.period)) {
            return None;
        }
        drop(group);
        let (voters, members) = self.members(range)?;
        for (member, node) in members.iter().filter(|(member, _)| **member != replica.name.replica) {
            let between = Between { range, own: replica.name.replica, peer: *member, node: *node };
            self.groups.ask_digest(between, LogPlace::default()).await.ok()?;
        }
        let place = self.groups.propose_digest(range, now).await.ok()?;
        let told = self.gather(&replica, &members, place).await?;
        self.act(&replica, &members, &compare(&voters, &told), place, told.len()).await;
        Some(())
    }

    /// Who votes, and all members; none where that is just changing, or there is nobody to compare with.
    fn members(&self, range: RangeId) -> Option<(BTreeSet<ReplicaId>, Members)> {
        let status = GroupOperations::status(&*self.groups, range)?;
        let [voters] = &status.membership.voters[..] else { return None };
        let is_settled = voters.len() > 1 && status.membership.members.len() == voters.len();
        is_settled.then(|| (voters.clone(), status.membership.members.clone()))
    }

    /// The digests of all members that give one; none where this node stops leading the range.
    async fn gather(
        &self,
        own: &Arc<Replica>,
        members: &Members,
        place: LogPlace,
    ) -> Option<BTreeMap<ReplicaId, Vec<Sum>>> {
        let range = own.name.range;
        let (mut told, mut heard) = (BTreeMap::new(), BTreeMap::new());
        let mut open = members.clone();
        while !open.is_empty() {
            for (member, node) in open.clone() {
                let between = Between { range, own: own.name.replica, peer: member, node };
                let state = match member == own.name.replica {
                    true => Ok(own.digest_at(place)),
                    false => self.groups.ask_digest(between, place).await,
                };
                let heard_at = heard.entry(member).or_insert_with(Instant::now);
                match state {
                    Ok(DigestState::Working) => *heard_at = Instant::now(),
                    Ok(DigestState::Ready(sums)) => {
                        told.insert(member, sums);
                        open.remove(&member);
                    }
                    Ok(DigestState::Missed) => drop(open.remove(&member)),
                    Err(_) if Instant::now() > *heard_at + ABSENT_AFTER => drop(open.remove(&member)),
                    Err(_) => {}
                }
            }
            if open.is_empty() {
                break;
            }
            tokio::time::sleep(ASK_PAUSE).await;
            GroupOperations::status(&*self.groups, range).filter(|status| status.is_leader)?;
        }
        Some(told)
    }

    async fn act(&self, own: &Arc<Replica>, members: &Members, found: &Comparison, place: LogPlace, told: usize) {
        let range = own.name.range;
        count(&self.counters.compared, 1);
        if found.is_equal() {
            tracing::debug!(%range, told, members = members.len(), "the copies of a range are equal");
            return;
        }
        count(&self.counters.differing, found.damaged.len() as u64);
        if !found.may_replace {
            self.tell_undecided(own, found);
            return;
        }
        let own_parts = found.damaged.get(&own.name.replica);
        if own_parts.is_some() && !self.hand_over(range, &found.good).await {
            return;
        }
        for (member, parts) in found.damaged.iter().filter(|(member, _)| **member != own.name.replica) {
            let Some(node) = members.get(member) else { continue };
            let between = Between { range, own: own.name.replica, peer: *member, node: *node };
            for _ in 0..TELL_TRIES {
                if self.groups.tell_difference(between, place, parts).await.is_ok() {
                    break;
                }
                tokio::time::sleep(ASK_PAUSE).await;
            }
        }
        if let Some(parts) = own_parts {
            self.leaving.give_up(own, &differs(own, parts)).await;
        }
    }

    async fn hand_over(&self, range: RangeId, good: &BTreeSet<ReplicaId>) -> bool {
        for to in good {
            if self.groups.hand_over(range, *to).await.is_ok() {
                return true;
            }
        }
        tracing::error!(%range, "a copy that differs from the others leads, and none of them takes leadership");
        false
    }

    fn tell_undecided(&self, own: &Replica, found: &Comparison) {
        let table = own.table();
        let parts: BTreeSet<u16> = found.damaged.values().flatten().chain(&found.undecided).copied().collect();
        self.engine.notices().write(format!(
            "the copies of range {} of table {}/{} differ ({}), and it cannot be told which are right: no majority of them is the same everywhere. Nothing was changed. Compare the items in question, and remove the node of the wrong copy when you know it",
            own.name.range, table.tenant, table.name, name_parts(&own.hashes, &parts)
        ));
    }
}

fn is_recent(at: Timestamp, now: Timestamp, period: Duration) -> bool {
    // Each of a range's nodes asks for it once in a period, at times of its own.
    u128::from(now.0.saturating_sub(at.0)) < period.as_micros() / 2
}

fn differs(replica: &Replica, parts: &BTreeSet<u16>) -> String {
    format!("it differs from the majority of the range's copies in {}", name_parts(&replica.hashes, parts))
}

/// Digests what is pinned on this node, one at a time, and looks after copies that were told that they differ.
pub(super) struct Digesting {
    engine: Arc<Engine>,
    groups: Arc<Groups>,
    records: Arc<Records>,
    leaving: Arc<Leaving>,
    pace: Pace,
}

impl Digesting {
    pub(super) fn new(
        engine: Arc<Engine>,
        groups: Arc<Groups>,
        records: Arc<Records>,
        leaving: Arc<Leaving>,
        pace: Pace,
    ) -> Self {
        Self { engine, groups, records, leaving, pace }
    }

    /// Looks until dropped.
    pub(super) async fn follow(self) {
        let mut retry_at = Instant::now();
        loop {
            for replica in self.engine.replicas().into_iter().filter(|replica| replica.wants_digest()) {
                self.digest(&replica).await;
            }
            for told in self.groups.take_told_to_differ() {
                let replica = self.engine.replica_of(told.range);
                if let Some(replica) = replica.filter(|replica| replica.name.replica == told.replica) {
                    self.leaving.give_up(&replica, &differs(&replica, &told.parts)).await;
                }
            }
            if Instant::now() >= retry_at {
                self.leaving.try_again().await;
                retry_at = Instant::now() + RETRY_PAUSE;
            }
            tokio::time::sleep(self.pace.look()).await;
        }
    }

    async fn digest(&self, replica: &Arc<Replica>) {
        let taken = {
            let replica = Arc::clone(replica);
            self.engine.workers().run(move || replica.take_digest()).await
        };
        let run = match taken {
            Ok(Ok(Some(run))) => run,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::warn!(replica = %replica.name.replica, %error, "a replica's state could not be pinned yet");
                return;
            }
        };
        let (place, time) = (run.place, run.time);
        let sums = match self.run(run).await {
            Ok(sums) => Some(sums),
            Err(error) => {
                tracing::warn!(replica = %replica.name.replica, %error, "a replica's state could not be digested");
                None
            }
        };
        replica.note_digest(place, sums);
        let file = replica.group_file().unwrap_or(0);
        self.records.change(replica.name.replica, file, |record| record.digested_at = Some(time)).await;
    }

    async fn run(&self, mut run: DigestRun) -> Result<Vec<Sum>, StoreError> {
        loop {
            let stepped = self.engine.workers().run(move || {
                let stepped = run.step();
                (run, stepped)
            });
            let (back, stepped) =
                stepped.await.map_err(|_| StoreError::Failed("a digest ended unexpectedly".to_owned()))?;
            let (bytes, sums) = stepped?;
            if let Some(sums) = sums {
                return Ok(sums);
            }
            run = back;
            tokio::time::sleep(self.pace.rest(bytes as u64)).await;
        }
    }
}
