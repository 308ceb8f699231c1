//! The log level that is wished for, kept under one key of the coordinator; see [`crate::services::log_level`].

use async_trait::async_trait;

use crate::coordination::values::{from_json, to_json};
use crate::coordination::{Compare, KeyValue, Operation, layout};
use crate::domain::Refusal;
use crate::services::log_level::{LevelSource, LogLevel, WishedLevel};
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::sealed::unreadable;
use super::tenants::json;

/// What has the history of these changes.
const RESOURCE: &str = "log-level";
/// How long a wish holds, in seconds: a forgotten one must not fill disks for ever.
const SECONDS_MIN: u64 = 10;
const SECONDS_MAX: u64 = 7 * 24 * 3600;

impl ControlPlane {
    /// The wish that holds now.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn log_level(&self) -> Result<Option<WishedLevel>, Refusal> {
        let (wish, _) = self.log_level_read().await?;
        Ok(wish.filter(|wish| self.now() < wish.ends_at))
    }

    /// Wishes for this level, for so many seconds.
    ///
    /// # Errors
    /// `BadInput` where that is too short or too long; `Unavailable` where the coordinator cannot be asked.
    pub async fn log_level_set(&self, caller: &Caller, level: LogLevel, seconds: u64) -> Result<WishedLevel, Refusal> {
        if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
            return Err(Refusal::bad_input(format!(
                "a log level is wished for {SECONDS_MIN} seconds to seven days, not for {seconds} seconds; wish again when it ends"
            )));
        }
        let wish = WishedLevel { level, ends_at: self.now().plus_seconds(seconds) };
        self.log_level_write(caller, Some(wish)).await?;
        Ok(wish)
    }

    /// Takes the wish back.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn log_level_reset(&self, caller: &Caller) -> Result<(), Refusal> {
        self.log_level_write(caller, None).await
    }

    async fn log_level_read(&self) -> Result<(Option<WishedLevel>, Option<KeyValue>), Refusal> {
        let entry = self.coordinator.get(layout::CONTROL_LOG_LEVEL).await.map_err(refusal)?;
        let wish = entry.as_ref().map(|entry| from_json(&entry.value).map_err(|_| unreadable(&entry.key)));
        Ok((wish.transpose()?, entry))
    }

    async fn log_level_write(&self, caller: &Caller, wish: Option<WishedLevel>) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let (before, entry) = self.log_level_read().await?;
            if before.is_none() && wish.is_none() {
                return Ok(());
            }
            let key = layout::CONTROL_LOG_LEVEL;
            let change = Change {
                resource: RESOURCE.to_owned(),
                who: &caller.name,
                before: before.as_ref().map(json),
                after: wish.as_ref().map(json),
                compares: vec![Compare::unchanged(key, entry.as_ref())],
                operations: vec![
                    wish.as_ref().map_or_else(|| Operation::delete(key), |wish| Operation::put(key, to_json(wish))),
                ],
            };
            if self.commit(change).await? {
                return Ok(());
            }
        }
        Err(contended())
    }
}

#[async_trait]
impl LevelSource for std::sync::Arc<ControlPlane> {
    async fn wished_level(&self) -> Result<Option<WishedLevel>, Refusal> {
        self.log_level().await
    }
}
