//! Asks every component for its batches: a task for each, every second, at once again while it is behind, and more and more seldom
//! while it is away.
//!
//! Which components there are is told by [`Components`] and looked up again every few seconds. One that was removed from the
//! cluster is asked no more; what it had in an interval that was open ends by itself after a while.
//!
//! A name is acknowledged only after the store has what came up to it. When that fails, what is known is read anew from the store,
//! so memory never runs ahead of the disk. While the disk is nearly full nobody is asked: components keep what they
//! counted, each on its own disk, and `/readyz` says why.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Reporting;
use super::intake::Intake;
use crate::domain::Refusal;
use crate::domain::usage::{Component, UsagePull, UsagePulled};
use crate::services::usage::UsageSource;

/// How often a component is asked that has nothing more to tell.
const PULL_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait at most before a component is asked that did not answer.
const AWAY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often it is looked which components there are.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Batches in an answer, at most.
const BATCHES_MAX: u32 = 30;

/// The components that are asked.
#[async_trait]
pub trait Components: Send + Sync + 'static {
    /// All of them, and where they are.
    async fn list(&self) -> Result<Vec<(Component, String)>, Refusal>;
    /// One of them.
    fn reach(&self, component: Component, address: &str) -> Result<Arc<dyn UsageSource>, Refusal>;
}

/// How asking goes, for people and metrics.
#[derive(Default)]
pub struct PullCounters {
    /// Batches that came.
    pub batches: AtomicU64,
    /// Of each component, why it did not answer; none where it did.
    pub away: Mutex<BTreeMap<Component, Option<String>>>,
}

/// See the module's essay.
pub struct Puller {
    /// What takes batches in.
    pub reporting: Arc<Reporting>,
    /// Who asks.
    pub reporter: Uuid,
    /// Who is asked.
    pub components: Arc<dyn Components>,
    /// Whether there is room on the disk.
    pub has_room: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How it goes.
    pub counters: Arc<PullCounters>,
}

/// A task that ends when it is dropped.
struct Task(String, JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.1.abort();
    }
}

impl Puller {
    /// Asks until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut tasks: HashMap<Component, Task> = HashMap::new();
        loop {
            match self.components.list().await {
                Ok(list) => self.follow_these(list, &mut tasks),
                Err(refusal) => {
                    tracing::debug!(%refusal, "which components there are was not told; those known are asked")
                }
            }
            if let Err(refusal) = self.end_forgotten(&tasks).await {
                tracing::warn!(%refusal, "what removed components had told could not be brought to its end");
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    fn follow_these(self: &Arc<Self>, list: Vec<(Component, String)>, tasks: &mut HashMap<Component, Task>) {
        tasks.retain(|known, task| list.iter().any(|(component, address)| component == known && *address == task.0));
        self.counters.away.lock().retain(|known, _| tasks.contains_key(known));
        for (component, address) in list {
            if tasks.contains_key(&component) {
                continue;
            }
            match self.components.reach(component, &address) {
                Ok(source) => {
                    let task = tokio::spawn(Arc::clone(self).follow(component, source));
                    tasks.insert(component, Task(address, task));
                }
                Err(refusal) => tracing::warn!(?component, %refusal, "a component cannot be asked"),
            }
        }
    }

    async fn follow(self: Arc<Self>, component: Component, source: Arc<dyn UsageSource>) {
        let (mut intake, mut pause) = (None, PULL_PAUSE);
        loop {
            let asked = self.ask(&mut intake, component, &*source).await;
            pause = match &asked {
                Ok(true) => Duration::ZERO,
                Ok(false) => PULL_PAUSE,
                Err(_) => (pause * 2).clamp(PULL_PAUSE, AWAY_PAUSE_MAX),
            };
            let why = asked.err().map(|refusal| refusal.to_string());
            let before = self.counters.away.lock().insert(component, why.clone());
            if let Some(why) = why.filter(|_| before.is_none_or(|before| before.is_none())) {
                tracing::warn!(?component, %why, "a component does not tell what it counted; asking on");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks once, and stores what is told. Whether there is more.
    async fn ask(
        &self,
        intake: &mut Option<Intake>,
        component: Component,
        source: &dyn UsageSource,
    ) -> Result<bool, Refusal> {
        // Left out of the option until all is stored: after a failure the store is asked what is known.
        let mut known = match intake.take() {
            Some(known) => known,
            None => self.known(component).await?,
        };
        let asked = self.ask_for(&known, source).await;
        let now_ms = self.reporting.now_ms();
        let count = asked.as_ref().map(|pulled| pulled.batches.len()).map_err(Refusal::clone);
        if let Ok(pulled) = asked
            && let Some(taken) = known.take(pulled, now_ms)?
        {
            self.reporting.take_in(taken).await?;
        }
        if let Some(ended) = known.end_overdue(count == Ok(0), now_ms) {
            self.reporting.take_in(ended).await?;
        }
        *intake = Some(known);
        let count = count?;
        self.counters.batches.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count >= BATCHES_MAX as usize)
    }

    async fn ask_for(&self, known: &Intake, source: &dyn UsageSource) -> Result<UsagePulled, Refusal> {
        if !(self.has_room)() {
            return Err(Refusal::unavailable("the disk of the reporter is nearly full", 60));
        }
        let pull = UsagePull { acknowledged: known.acknowledged(), batches_max: BATCHES_MAX };
        source.pull(self.reporter, pull).await
    }

    async fn known(&self, component: Component) -> Result<Intake, Refusal> {
        let standing = self.reporting.on_store(move |store| store.standing(component)).await?;
        Ok(Intake::resume(component, standing))
    }

    /// Ends runs of components that are asked no more.
    async fn end_forgotten(&self, tasks: &HashMap<Component, Task>) -> Result<(), Refusal> {
        let unfinished = self.reporting.on_store(|store| store.unfinished()).await?;
        for component in unfinished.into_iter().filter(|component| !tasks.contains_key(component)) {
            if let Some(ended) = self.known(component).await?.end_overdue(false, self.reporting.now_ms()) {
                self.reporting.take_in(ended).await?;
            }
        }
        Ok(())
    }
}
