//! A copy of a prefix that stays true: list, watch from that revision, and after a break go on where it
//! broke, or list again where that is not possible.
//!
//! What a consumer gets, in this order and nothing else:
//!
//! ```text
//! Snapshot, Changes*, ( Lost, ( Resumed | Snapshot ), Changes* )*
//! ```
//!
//! The reflector keeps no copy itself, so that a million keys are not held twice; what a snapshot
//! differs in from what the consumer has, the consumer sees. It lists again
//!
//! * at the start, and whenever the watch's past is compacted away;
//! * where the store's revision is lower than one already seen: it was restored from a backup;
//! * now and then (`compare_seconds`), because a watch that silently lost something would never heal.
//!
//! While the coordinator is away it says so once, and tries again with growing pauses, spread a little at
//! random so that a thousand proxies do not return in the same moment. A missing right is treated the same
//! way: roles may be repaired while we wait. It never gives up and never makes a listing empty by itself.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Coordinator, Error, Listing, Result, Revision, Watch, WatchBatch};

/// How a reflector behaves.
#[derive(Debug, Clone)]
pub struct ReflectorOptions {
    /// The first pause after a failure, in milliseconds.
    pub backoff_ms_min: u64,
    /// The longest pause, in milliseconds.
    pub backoff_ms_max: u64,
    /// How often to list again though nothing is known to be wrong, in seconds.
    pub compare_seconds: u64,
}

impl Default for ReflectorOptions {
    fn default() -> Self {
        Self { backoff_ms_min: 100, backoff_ms_max: 5_000, compare_seconds: 900 }
    }
}

/// What a consumer is told.
#[derive(Debug)]
pub enum Reflected {
    /// Everything under the prefix, in place of what was told before.
    Snapshot(Listing),
    /// What changed since; maybe nothing, up to a revision.
    Changes(WatchBatch),
    /// The coordinator is away; what was told is the last known.
    Lost(Error),
    /// It is back, nothing was missed, and this revision is where we stand.
    Resumed(Revision),
}

/// A running reflector; dropping it ends it.
pub struct Reflector {
    told: mpsc::Receiver<Reflected>,
    task: tokio::task::JoinHandle<()>,
}

impl Reflector {
    /// Begins to follow a prefix. Must be called in a tokio runtime.
    pub fn start(coordinator: Arc<dyn Coordinator>, prefix: impl Into<String>, options: ReflectorOptions) -> Self {
        let (sender, told) = mpsc::channel(16);
        let follower = Follower { coordinator, prefix: prefix.into(), options, sender, lost: false };
        Self { told, task: tokio::spawn(follower.run()) }
    }

    /// What happened next. Cancel safe. `None` only where the runtime is ending.
    pub async fn next(&mut self) -> Option<Reflected> {
        self.told.recv().await
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    coordinator: Arc<dyn Coordinator>,
    prefix: String,
    options: ReflectorOptions,
    sender: mpsc::Sender<Reflected>,
    lost: bool,
}

/// Nobody listens any more.
struct Unheard;

impl Follower {
    async fn run(mut self) {
        let _ = self.follow().await;
    }

    async fn follow(&mut self) -> std::result::Result<(), Unheard> {
        let mut known: Option<Revision> = None;
        let mut pause_ms = self.options.backoff_ms_min;
        loop {
            let error = match self.connect(known).await {
                Ok((watch, told)) => {
                    known = Some(told.revision());
                    if self.lost || !matches!(told, Reflected::Resumed(_)) {
                        self.tell(told).await?;
                    }
                    self.lost = false;
                    pause_ms = self.options.backoff_ms_min;
                    self.relay(watch, &mut known).await?
                }
                Err(error) => Some(error),
            };
            match error {
                // Time to compare: list again at once.
                None | Some(Error::Compacted { .. }) => known = None,
                Some(error) => {
                    if !std::mem::replace(&mut self.lost, true) {
                        tracing::warn!(prefix = %self.prefix, %error, "the coordinator is away; going on with what is known");
                        self.tell(Reflected::Lost(error)).await?;
                    }
                    tokio::time::sleep(spread(pause_ms)).await;
                    pause_ms = (pause_ms * 2).min(self.options.backoff_ms_max);
                }
            }
        }
    }

    /// A watch, and what to tell first: everything, or that nothing was missed.
    async fn connect(&self, known: Option<Revision>) -> Result<(Watch, Reflected)> {
        if let Some(known) = known {
            let now = self.coordinator.list_page(&self.prefix, None, None, 1).await?.revision;
            if now >= known {
                let watch = self.coordinator.watch(&self.prefix, known + 1).await?;
                return Ok((watch, Reflected::Resumed(known)));
            }
            tracing::warn!(prefix = %self.prefix, known, now, "the coordinator has gone back in time; listing again");
        }
        let listing = self.coordinator.list(&self.prefix).await?;
        let watch = self.coordinator.watch(&self.prefix, listing.revision + 1).await?;
        Ok((watch, Reflected::Snapshot(listing)))
    }

    /// Hands on what the watch tells, until it ends (its error) or it is time to compare (`None`).
    async fn relay(
        &self,
        mut watch: Watch,
        known: &mut Option<Revision>,
    ) -> std::result::Result<Option<Error>, Unheard> {
        let compare_at = Instant::now() + spread(self.options.compare_seconds.saturating_mul(1_000));
        loop {
            match tokio::time::timeout_at(compare_at, watch.next()).await {
                Ok(Ok(batch)) => {
                    *known = Some(known.unwrap_or(0).max(batch.revision));
                    self.tell(Reflected::Changes(batch)).await?;
                }
                Ok(Err(error)) => return Ok(Some(error)),
                Err(_) => return Ok(None),
            }
        }
    }

    async fn tell(&self, what: Reflected) -> std::result::Result<(), Unheard> {
        self.sender.send(what).await.map_err(|_| Unheard)
    }
}

impl Reflected {
    fn revision(&self) -> Revision {
        match self {
            Reflected::Snapshot(listing) => listing.revision,
            Reflected::Changes(batch) => batch.revision,
            Reflected::Resumed(revision) => *revision,
            Reflected::Lost(_) => 0,
        }
    }
}

/// A time around `base_ms`, from three quarters to five quarters of it. The standard library's hasher is
/// seeded anew each time, which is random enough to spread retries and needs no dice handed down here.
fn spread(base_ms: u64) -> Duration {
    let dice = std::hash::RandomState::new().hash_one(base_ms) % 512;
    Duration::from_millis(base_ms.saturating_mul(768 + dice) / 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_around_their_base() {
        for _ in 0..100 {
            let pause = spread(1_000).as_millis();
            assert!((750..=1_250).contains(&pause), "{pause}");
        }
        assert_eq!(spread(0), Duration::ZERO);
    }
}
