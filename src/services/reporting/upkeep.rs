//! What is too old is let go, a piece at a time, so that what comes in never waits for long.
//!
//! Records go when every sink has them and they are as old as the settings say; roll-ups by their age alone. A sink that is away
//! for long keeps its records here, until the disk is nearly full: then nothing more is pulled, and components keep what they count
//! ([`super::puller`]).

use std::time::Duration;

use super::Reporting;
use crate::domain::Refusal;
use crate::storage::reporting::KeepFrom;

/// How long roll-ups by minute are kept: 30 days.
pub const MINUTES_KEPT_MS: u64 = 30 * 24 * 3_600_000;
/// How long roll-ups by hour are kept: 400 days.
pub const HOURS_KEPT_MS: u64 = 400 * 24 * 3_600_000;
/// Rows of each kind that go at once, at most.
const STEP_ROWS: usize = 2_000;
/// How long to wait between two pieces.
const STEP_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait when nothing was too old.
const ROUND_PAUSE: Duration = Duration::from_secs(60);

impl Reporting {
    /// Lets go a piece of what is too old. Whether there may be more of it.
    async fn prune(&self, records_kept_ms: u64) -> Result<bool, Refusal> {
        let now_ms = self.now_ms();
        let before = |kept_ms: u64| now_ms.saturating_sub(kept_ms);
        let from = KeepFrom {
            records_ms: before(records_kept_ms),
            minutes_ms: before(MINUTES_KEPT_MS),
            hours_ms: before(HOURS_KEPT_MS),
        };
        Ok(self.on_store(move |store| store.prune(&from, STEP_ROWS)).await? >= STEP_ROWS)
    }

    /// Lets go what is too old until dropped.
    pub async fn tidy(&self, records_kept: Duration) {
        loop {
            let more = self.prune(records_kept.as_millis() as u64).await.unwrap_or_else(|refusal| {
                tracing::warn!(%refusal, "what is too old could not be let go; trying again later");
                false
            });
            tokio::time::sleep(if more { STEP_PAUSE } else { ROUND_PAUSE }).await;
        }
    }
}
