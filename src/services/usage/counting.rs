//! A component's counts on their way from memory to disk: once a second, at the end of a second of the wall clock, what was
//! counted becomes a batch and is kept in the spool. Every ten seconds a node's batch says how it and its ranges are.
//!
//! The first batch of a start is kept at once, counts or not: so a start that is killed within its first second has
//! been there for the next one, which says so. The last one, after everything was answered, says that the end was planned.
//!
//! Where the disk does not take a batch, what is in it stays in memory and the next batch has it too; so nothing is lost as
//! long as the process lives, and memory grows with the kinds of requests, not with their number.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::domain::ids::{PlaneId, TenantId};
use crate::domain::usage::{Component, UsageBatch, UsagePull, UsagePulled};
use crate::domain::{Clock, Random, Refusal};
use crate::services::engine::notices::Notices;
use crate::storage::keys::FileKeys;
use crate::storage::workers;

use super::keeper::Keeper;
use super::meter::{Meter, Taken, Totals};
use super::spool::SpoolNumbers;
use super::tenants::{TenantTotals, TopTenants};
use super::{Gauges, Looked, UsageSource};

/// The length of an interval, in milliseconds.
const INTERVAL_MS: u64 = 1000;
/// How often gauges are told, in milliseconds.
const GAUGES_MS: u64 = 10_000;
/// How long a stop waits for the disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageSettings {
    /// Bytes of the spool, at most.
    pub spool_bytes: u64,
    /// Tenants that have counters of their own in `/metrics`.
    pub tenants_max: usize,
}

impl Default for UsageSettings {
    fn default() -> Self {
        Self { spool_bytes: 64 << 20, tenants_max: 20 }
    }
}

/// What counting stands on.
pub struct UsageParts {
    /// Who counts.
    pub component: Component,
    /// The control plane.
    pub plane: PlaneId,
    /// The spool's folder.
    pub folder: PathBuf,
    /// Gives the component's key.
    pub keys: Arc<dyn FileKeys>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Dice.
    pub random: Arc<dyn Random>,
    /// What a person should know goes here.
    pub notices: Arc<Notices>,
    /// At a node, tells how it is.
    pub gauges: Option<Arc<dyn Gauges>>,
}

/// How counting is, for metrics.
pub struct UsageNumbers {
    /// What was served since the start of the process.
    pub totals: Totals,
    /// By tenant, and all others together.
    pub tenants: (Vec<(String, TenantTotals)>, TenantTotals),
    /// The spool, as it last was.
    pub spool: SpoolNumbers,
    /// Whether the disk did not take the last batch.
    pub is_failing: bool,
}

/// See the module's essay.
pub struct Usage {
    keeper: Arc<Keeper>,
    gauges: Option<Arc<dyn Gauges>>,
    meter: Arc<Meter>,
    tenants: Mutex<TopTenants>,
    stopping: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What is in no batch yet.
struct Waiting {
    taken: Taken,
    began_ms: u64,
    looked: Option<Looked>,
    /// No batch of this start was kept.
    is_first: bool,
}

impl Usage {
    /// Counts from now on; nothing is written before [`Usage::begin`].
    pub fn new(parts: UsageParts, settings: UsageSettings) -> Arc<Self> {
        Arc::new(Self {
            gauges: parts.gauges.clone(),
            keeper: Arc::new(Keeper::new(parts, settings.spool_bytes)),
            meter: Arc::default(),
            tenants: Mutex::new(TopTenants::new(settings.tenants_max)),
            stopping: watch::Sender::new(false),
            task: Mutex::default(),
        })
    }

    /// Begins to keep what is counted, in the runtime it is called in. Whoever began also ends it, by [`Usage::stop`].
    pub fn begin(self: &Arc<Self>) {
        let following = Arc::clone(self).follow(self.stopping.subscribe());
        *self.task.lock() = Some(tokio::spawn(following));
    }

    /// Counts requests.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// How counting is.
    pub fn numbers(&self) -> UsageNumbers {
        let (spool, is_failing) = self.keeper.numbers();
        UsageNumbers { totals: self.meter.totals(), tenants: self.tenants.lock().totals(), spool, is_failing }
    }

    /// Keeps a last batch, which says that the end was planned. Called when everything has been answered.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        let task = self.task.lock().take();
        if let Some(task) = task
            && !matches!(tokio::time::timeout(STOP_TIMEOUT, task).await, Ok(Ok(())))
        {
            tracing::error!("the last counts of usage were not written to disk");
        }
    }

    /// Has the newest version of the component's key open the spool. Blocks on the disk.
    ///
    /// # Errors
    /// Where that was not possible: the old version is still needed.
    pub fn wrap_anew(&self) -> Result<(), String> {
        self.keeper.wrap_anew()
    }

    async fn follow(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let began_ms = self.keeper.now_ms();
        let mut waiting = Waiting { taken: Taken::default(), began_ms, looked: None, is_first: true };
        self.close(&mut waiting, began_ms, false).await;
        loop {
            let now_ms = self.keeper.now_ms();
            let end_ms = (now_ms / INTERVAL_MS + 1) * INTERVAL_MS;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(end_ms - now_ms)) => {}
                // Only an end of the process drops the sender.
                _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
            }
            // Later, where the process slept or the disk took its time; earlier, where the clock was put back.
            let end_ms = end_ms.max(self.keeper.now_ms() / INTERVAL_MS * INTERVAL_MS);
            if end_ms.is_multiple_of(GAUGES_MS) {
                waiting.looked = self.look().await.or(waiting.looked);
            }
            self.close(&mut waiting, end_ms, false).await;
        }
        self.close(&mut waiting, self.keeper.now_ms(), true).await;
    }

    async fn look(&self) -> Option<Looked> {
        let gauges = Arc::clone(self.gauges.as_ref()?);
        // It fails only where the runtime is ending.
        workers::blocking(move || gauges.look()).await.ok()
    }

    /// Ends an interval.
    async fn close(&self, waiting: &mut Waiting, end_ms: u64, is_last: bool) {
        self.take(waiting);
        if waiting.taken.counts.is_empty() && waiting.looked.is_none() && !waiting.is_first && !is_last {
            waiting.began_ms = end_ms;
            return;
        }
        let draft = self.draft(waiting, end_ms, is_last);
        let keeper = Arc::clone(&self.keeper);
        let is_kept = workers::blocking(move || keeper.keep(draft)).await.unwrap_or(false);
        if is_kept {
            waiting.taken.clear();
            (waiting.began_ms, waiting.looked, waiting.is_first) = (end_ms, None, false);
        }
    }

    /// Takes in what was counted since the last time.
    fn take(&self, waiting: &mut Waiting) {
        let mut fresh = Taken::default();
        fresh.exchange_room(&mut waiting.taken);
        self.meter.take(&mut fresh);
        let name = |tenant: TenantId| fresh.names.get(&tenant.0).cloned().unwrap_or_default();
        self.tenants.lock().add(fresh.counts.iter().map(|(key, counts)| (key.tenant, counts)), name);
        waiting.taken.merge(fresh);
    }

    /// The batch, but for what only the spool knows.
    fn draft(&self, waiting: &Waiting, end_ms: u64, is_last: bool) -> UsageBatch {
        let node = waiting.looked.as_ref().map(|looked| looked.node);
        let Looked { ranges, mut names, .. } = waiting.looked.clone().unwrap_or_default();
        names.extend(waiting.taken.names.clone());
        UsageBatch {
            id: self.keeper.unnumbered(),
            began_ms: waiting.began_ms.min(end_ms),
            ended_ms: end_ms,
            before: None,
            is_last,
            counts: waiting.taken.counts.iter().map(|(key, counts)| (*key, *counts)).collect(),
            ranges,
            node,
            names,
        }
    }
}

#[async_trait]
impl UsageSource for Usage {
    async fn pull(&self, reporter: Uuid, pull: UsagePull) -> Result<UsagePulled, Refusal> {
        let keeper = Arc::clone(&self.keeper);
        let pulled = workers::blocking(move || keeper.pull(reporter, &pull));
        pulled.await.map_err(|_| Refusal::internal("a task on the usage spool ended unexpectedly"))?
    }
}

#[cfg(test)]
mod tests;
