//! When a leader's routes are published: when its groups or the addresses of their nodes change, after a failure once a
//! second until it is done, and all of them now and then. While one round waits for the coordinator, further changes
//! gather for the next, so that the failure of a node with thousands of ranges becomes a few large transactions.
//!
//! Serving never waits for this: clients are led by the nodes themselves where a route is old. But nobody may think that all
//! is well, so how many routes wait is counted, and after a while a notice says it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::domain::ids::RangeId;
use crate::services::engine::notices::Notices;
use crate::services::engine::replica::Replica;
use crate::services::engine::{Engine, Origin};
use crate::services::group::ports::GroupOperations;
use crate::services::node_directory::NodeDirectory;

use super::splits::alone;
use super::{RoutePublisher, ServedRange, Standing};

/// The pause after a round that did not do everything.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// All routes are looked over after so long.
const OVERSIGHT_PAUSE: Duration = Duration::from_secs(300);
/// A notice is written after so many failed rounds.
const FAILURES_NOTICED: u32 = 30;

/// The ranges of which a node has copies.
pub trait HeldRanges: Send + Sync + 'static {
    /// Those of these that serve; all that serve, where none are named.
    fn held(&self, asked: Option<&BTreeSet<RangeId>>) -> Vec<ServedRange>;

    /// Where a range comes from that is a child of one which this node has a copy of.
    fn origin(&self, _range: RangeId) -> Option<Origin> {
        None
    }
}

impl HeldRanges for Engine {
    fn held(&self, asked: Option<&BTreeSet<RangeId>>) -> Vec<ServedRange> {
        let replicas = match asked {
            Some(ranges) => ranges.iter().filter_map(|range| self.replica_of(*range)).collect(),
            None => self.replicas(),
        };
        replicas.iter().map(|replica| served(replica)).collect()
    }

    fn origin(&self, range: RangeId) -> Option<Origin> {
        self.origin_of(range)
    }
}

/// A replica as publishing sees it.
fn served(replica: &Replica) -> ServedRange {
    let table = replica.table();
    ServedRange {
        tenant: table.tenant.clone(),
        table: table.name.clone(),
        table_id: replica.name.table,
        range: replica.name.range,
        hashes: replica.hashes,
        replica: replica.name.replica,
    }
}

/// What is to be looked at in the next round.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pending {
    All,
    Some(BTreeSet<RangeId>),
}

/// See the module's essay.
pub struct PublishingRounds {
    publisher: Arc<RoutePublisher>,
    groups: Arc<dyn GroupOperations>,
    held: Arc<dyn HeldRanges>,
    changes: broadcast::Receiver<RangeId>,
    addresses: watch::Receiver<u64>,
    notices: Arc<Notices>,
    waiting: Arc<AtomicUsize>,
    pending: Pending,
    failures: u32,
}

impl PublishingRounds {
    /// Rounds over the groups of which copies are `held`. Hears of changes from now on.
    pub fn new(
        publisher: Arc<RoutePublisher>,
        groups: Arc<dyn GroupOperations>,
        held: Arc<dyn HeldRanges>,
        directory: &NodeDirectory,
        notices: Arc<Notices>,
    ) -> Self {
        let (changes, addresses) = (groups.changes(), directory.generations());
        let (waiting, pending) = (Arc::default(), Pending::All);
        Self { publisher, groups, held, changes, addresses, notices, waiting, pending, failures: 0 }
    }

    /// How many routes of groups led here could not be published yet.
    pub fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    /// Publishes until dropped.
    pub async fn follow(mut self) {
        let mut oversight_at = Instant::now() + OVERSIGHT_PAUSE;
        loop {
            let is_done = self.round().await;
            let retry_at = if is_done { oversight_at } else { Instant::now() + RETRY_PAUSE };
            self.next(retry_at.min(oversight_at), &mut oversight_at).await;
        }
    }

    /// Waits for something to do, at most until `until`.
    async fn next(&mut self, until: Instant, oversight_at: &mut Instant) {
        tokio::select! {
            biased;
            changed = self.changes.recv() => match changed {
                Ok(range) => self.add(range),
                Err(RecvError::Lagged(_)) => self.pending = Pending::All,
                // No more changes are told: the process ends, or it is looked over now and then.
                Err(RecvError::Closed) => tokio::time::sleep_until(until).await,
            },
            Ok(()) = self.addresses.changed() => self.pending = Pending::All,
            () = tokio::time::sleep_until(until) => {}
        }
        if Instant::now() >= *oversight_at {
            *oversight_at = Instant::now() + OVERSIGHT_PAUSE;
            self.publisher.forget_all();
            self.pending = Pending::All;
        }
        self.gather();
    }

    /// Takes in all changes that were told meanwhile.
    fn gather(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(range) => self.add(range),
                Err(TryRecvError::Lagged(_)) => self.pending = Pending::All,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn add(&mut self, range: RangeId) {
        if let Pending::Some(ranges) = &mut self.pending {
            ranges.insert(range);
        }
    }

    /// Publishes what is pending and led here. Whether nothing is left to do.
    pub async fn round(&mut self) -> bool {
        self.gather();
        let pending = std::mem::replace(&mut self.pending, Pending::Some(BTreeSet::new()));
        let ranges = match &pending {
            Pending::All => self.held.held(None),
            Pending::Some(ranges) => self.held.held(Some(ranges)),
        };
        let led = |range: ServedRange| {
            let origin = self.held.origin(range.range);
            match (self.groups.status(range.range), origin) {
                (Some(status), _) if !status.is_leader => None,
                (Some(status), Some(origin)) => Some((range, Standing::Child(status, Box::new(origin)))),
                (Some(status), None) => Some((range, Standing::Group(status))),
                // One that is alone is published by whoever follows its assignment, but that comes after the split's routes.
                (None, Some(origin)) => {
                    Some((range.clone(), Standing::Child(alone(&range, &origin)?, Box::new(origin))))
                }
                (None, None) => None,
            }
        };
        let led: Vec<_> = ranges.into_iter().filter_map(led).collect();
        let outcome = self.publisher.publish(&led).await;
        let is_done = match outcome {
            Ok(published) => {
                if published.written > 0 {
                    tracing::info!(routes = published.written, "routes of groups led here were published");
                }
                self.failures = 0;
                self.waiting.store(published.contended, Ordering::Relaxed);
                published.contended == 0
            }
            Err(refusal) => {
                self.failures += 1;
                self.waiting.store(led.len(), Ordering::Relaxed);
                if self.failures == FAILURES_NOTICED {
                    self.notices.write(format!(
                        "routes of ranges led here cannot be published ({refusal}); they are served all the same. Look after the coordinator"
                    ));
                }
                false
            }
        };
        if !is_done {
            self.pending = merged(std::mem::replace(&mut self.pending, Pending::All), pending);
        }
        is_done
    }
}

fn merged(left: Pending, right: Pending) -> Pending {
    match (left, right) {
        (Pending::Some(mut left), Pending::Some(right)) => {
            left.extend(right);
            Pending::Some(left)
        }
        _ => Pending::All,
    }
}

#[cfg(test)]
mod tests;
