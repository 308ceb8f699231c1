//! Placement at work: the leading instance looks at the whole cluster, asks [`repair`] what is to change, and writes down
//! which copies each range is to have. The leaders of the ranges do the rest, one step at a time, and publish what came of
//! it; the next round sees that.
//!
//! # Who writes what
//! * The wanted copies of a range stand under each of its nodes, the same list everywhere, written in one transaction. So
//!   whichever of them leads knows what is wanted, and no two of them can see different lists for longer than a watch takes.
//! * A new copy gets a new id and its assignment in that transaction. A copy that is to go keeps its assignment, with the
//!   list that it is not in any more: its node serves on until the group has let it go.
//! * The assignment of a copy goes when the published route shows the wanted copies and no other, all voting. Not before:
//!   a node that has no assignment takes its file out of service, and a majority may still count on it.
//!
//! # Killed at any point, or two at once
//! There is no state but what stands in the coordinator. Each range is written in a transaction of its own, which compares
//! the route and every assignment with what was read; of two instances that both believe to lead one writes, and the other
//! looks again. Comparing with the election as well would add nothing to that.
//!
//! # Silence
//! A node's lease is gone for many reasons, so time counts only while it is watched: each round adds what has passed since
//! the round before, and not more than [`WATCHED_SECONDS_MAX`]. An instance that was stopped, or whose clock jumped,
//! has not seen a silence of that length, and a new leader begins to count anew: a node is given up later then, never
//! earlier.
//!
//! # Cost
//! A round reads all of `node/`, `tenant/` and the tables. It is begun by a change in them or after [`ROUND_SECONDS`], and
//! after each there is a pause of nine times as long as it took, so that a cluster of very many ranges spends a tenth
//! of an instance's time on it at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::coordination::values::AssignedReplica;
use crate::coordination::{Reflector, ReflectorOptions, layout};
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::domain::{Refusal, Timestamp};
use crate::placement::repair::{RangeHealth, RepairLimits, RepairMove, Step, health, repair};

use super::history::refusal;
use super::plane::ControlPlane;
use super::range_map::{RangeMap, RangeRow};
use super::ranges::Group;

/// The longest time, in seconds, that one pause between two rounds adds to a node's silence.
pub(super) const WATCHED_SECONDS_MAX: u64 = 60;
/// The longest time between two rounds, in seconds.
const ROUND_SECONDS: u64 = 5;
/// How long further changes are waited for before a round, so that many of them take one.
const GATHERED: Duration = Duration::from_millis(100);

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlacementReport {
    /// Changes of wanted copies or leaders that were written.
    pub moves: usize,
    /// Ranges of which assignments of copies that have left were removed.
    pub departed: usize,
    /// Splits whose children were given to their nodes, or that were asked for anew.
    pub splits: usize,
    /// Changes that were not written, because something else changed the range first.
    pub contended: usize,
}

/// How all ranges stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct PlacementSummary {
    /// Ranges.
    pub ranges: usize,
    /// Copies given to nodes.
    pub copies: usize,
    /// Ranges of which no majority answers.
    pub unavailable: usize,
    /// Ranges with fewer copies than their table asks for.
    pub under_replicated: usize,
    /// Ranges with copies on their way in or out.
    pub changing: usize,
}

/// For how long nodes have been watched in silence.
#[derive(Debug, Default)]
pub(super) struct Silence {
    seconds: BTreeMap<NodeId, u64>,
    looked_at: Option<Timestamp>,
}

impl Silence {
    /// Takes in who is alive now.
    fn look(&mut self, now: Timestamp, map: &RangeMap) {
        let passed = self.looked_at.map_or(0, |before| now.seconds_since(before).min(WATCHED_SECONDS_MAX));
        self.looked_at = Some(now);
        self.seconds.retain(|node, _| map.rows.get(node).is_some_and(|row| !row.alive));
        for (node, _) in map.rows.iter().filter(|(_, row)| !row.alive) {
            self.seconds.entry(*node).and_modify(|seconds| *seconds += passed).or_insert(0);
        }
    }

    pub(super) fn seconds(&self, node: NodeId) -> u64 {
        self.seconds.get(&node).copied().unwrap_or(0)
    }
}

impl ControlPlane {
    /// Places while this instance leads, until dropped.
    pub async fn place_while_leading(self: Arc<Self>, mut leads: watch::Receiver<bool>) {
        while leads.wait_for(|leads| *leads).await.is_ok() {
            // Another instance may have led in between, or none.
            *self.silence.lock() = Silence::default();
            let follow = |prefix| Reflector::start(self.coordinator.clone(), prefix, ReflectorOptions::default());
            let followed =
                [layout::NODES, layout::ROUTES, layout::CONTROL_TABLES, layout::CONTROL_NODES, layout::CONTROL_RANGES];
            let mut news = followed.map(follow);
            let mut is_news = false;
            while *leads.borrow() {
                let begun = Instant::now();
                match self.reconcile().await {
                    Ok(report) if report != PlacementReport::default() => tracing::info!(?report, "placed"),
                    Ok(_) => {}
                    Err(refusal) => tracing::warn!(%refusal, "could not place; trying again later"),
                }
                tokio::time::sleep(GATHERED.max(begun.elapsed() * 9)).await;
                // What has been told since is in what the next round reads.
                for one in &mut news {
                    while let Some(Some(_)) = one.next().now_or_never() {
                        is_news = true;
                    }
                }
                if std::mem::take(&mut is_news) {
                    continue;
                }
                let [nodes, routes, tables, members, wishes] = &mut news;
                tokio::select! {
                    biased;
                    changed = leads.changed() => if changed.is_err() { return },
                    _ = nodes.next() => {}
                    _ = routes.next() => {}
                    _ = tables.next() => {}
                    _ = members.next() => {}
                    _ = wishes.next() => {}
                    () = tokio::time::sleep(Duration::from_secs(ROUND_SECONDS)) => {}
                }
            }
        }
    }

    /// One round; see the module's text. Safe to run at any time, by any instance.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked; what was written stays written.
    pub async fn reconcile(&self) -> Result<PlacementReport, Refusal> {
        let map = self.range_map().await?;
        let now = self.now();
        let nodes = {
            let mut silence = self.silence.lock();
            silence.look(now, &map);
            map.repair_nodes(now, |node| silence.seconds(node))
        };
        let planned = repair(&nodes, &map.repair_ranges(), &self.repair_limits());
        let rows: BTreeMap<RangeId, &RangeRow> = map.ranges.iter().map(|row| (row.route.range, row)).collect();
        let mut report = PlacementReport::default();
        for planned in planned {
            let Some(row) = rows.get(&planned.range) else { continue };
            let wanted = self.wanted_after(row, planned.step);
            match self.group_write(row.write(&wanted, planned.leader)).await? {
                true => {
                    report.moves += 1;
                    told(row, &planned);
                }
                false => report.contended += 1,
            }
        }
        for row in map.ranges.iter().filter(|row| row.has_table) {
            if let Some(group) = row.forget_departed() {
                match self.group_write(group).await? {
                    true => report.departed += 1,
                    false => report.contended += 1,
                }
            }
        }
        report.splits = self.splits_settle(&map).await?;
        Ok(report)
    }

    /// How all ranges stand now.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn placement_summary(&self) -> Result<PlacementSummary, Refusal> {
        let map = self.range_map().await?;
        let nodes = self.repair_nodes_now(&map);
        let limits = self.repair_limits();
        let copies = map.ranges.iter().map(|row| row.assigned.len()).sum();
        let mut summary = PlacementSummary { ranges: map.ranges.len(), copies, ..PlacementSummary::default() };
        for range in map.repair_ranges() {
            match health(&nodes, &range, &limits) {
                RangeHealth::Unavailable => summary.unavailable += 1,
                RangeHealth::UnderReplicated => summary.under_replicated += 1,
                RangeHealth::Changing => summary.changing += 1,
                RangeHealth::Good => {}
            }
        }
        Ok(summary)
    }

    /// The nodes for placement as this instance knows them, without counting time.
    pub(super) fn repair_nodes_now(&self, map: &RangeMap) -> Vec<crate::placement::repair::RepairNode> {
        let silence = self.silence.lock();
        map.repair_nodes(self.now(), |node| silence.seconds(node))
    }

    pub(super) fn repair_limits(&self) -> RepairLimits {
        RepairLimits { lost_after_seconds: self.options.node_lost_after_seconds, ..RepairLimits::default() }
    }

    /// The wanted copies after a step.
    pub(super) fn wanted_after(&self, row: &RangeRow, step: Step) -> Vec<AssignedReplica> {
        let mut wanted = row.wanted();
        if let Step::Replace(old, _) | Step::Remove(old) = step {
            wanted.retain(|copy| copy.replica != old);
        }
        let new = match step {
            Step::Add(node) | Step::Replace(_, node) => [Some(node), None],
            Step::AddTwo(one, other) => [Some(one), Some(other)],
            Step::Remove(_) | Step::Lead => [None, None],
        };
        let fresh = |node| AssignedReplica { node, replica: ReplicaId::random(self.random.as_ref()) };
        wanted.extend(new.into_iter().flatten().map(fresh));
        wanted
    }

    /// Writes what must happen together; false where something had changed.
    pub(super) async fn group_write(&self, group: Group) -> Result<bool, Refusal> {
        Ok(self.coordinator.transact(group.compares, group.operations).await.map_err(refusal)?.succeeded)
    }
}

fn told(row: &RangeRow, planned: &RepairMove) {
    let (range, tenant, table) = (planned.range, &row.key.tenant, &row.key.table);
    match planned.step {
        Step::Add(node) => tracing::info!(%range, %tenant, %table, %node, "another copy"),
        Step::AddTwo(node, other) => tracing::info!(%range, %tenant, %table, %node, %other, "two more copies"),
        Step::Replace(old, node) => tracing::info!(%range, %tenant, %table, %old, %node, "a copy in place of another"),
        Step::Remove(old) => tracing::info!(%range, %tenant, %table, %old, "one copy less"),
        Step::Lead => {
            tracing::debug!(%range, %tenant, %table, leader = ?planned.leader, "another leader is wished for")
        }
    }
}
