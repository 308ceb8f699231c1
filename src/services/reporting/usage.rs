//! What was used, answered from the roll-ups of a reporter: by a call in its own process, by its inside listener for control.

use async_trait::async_trait;

use super::Reporting;
use super::upkeep::MINUTES_KEPT_MS;
use crate::domain::Refusal;
use crate::domain::usage::UsageCounts;
use crate::domain::usage::query::{UsageAnswer, UsageQuestion, UsageStep};

/// Rows of an answer, at most.
const ROWS_MAX: usize = 20_000;

/// Answers what was used.
#[async_trait]
pub trait UsageReports: Send + Sync + 'static {
    /// What was used.
    ///
    /// # Errors
    /// `NotFound` where there is no reporter; `BadInput` for a question that cannot be answered; `Unavailable`.
    async fn usage(&self, question: UsageQuestion) -> Result<UsageAnswer, Refusal>;
}

#[async_trait]
impl UsageReports for Reporting {
    async fn usage(&self, question: UsageQuestion) -> Result<UsageAnswer, Refusal> {
        let question = question.aligned()?;
        let minutes_ms = question.step.length_ms() + MINUTES_KEPT_MS;
        if question.step == UsageStep::Minute && question.from_ms.saturating_add(minutes_ms) < self.now_ms() {
            return Err(Refusal::bad_input(
                "minutes are kept for 30 days: ask for a later time, or for a step of 1h or 1d",
            ));
        }
        let asked = question.clone();
        let rows = self.on_store(move |store| store.usage(&asked, ROWS_MAX)).await?;
        let rows = rows.ok_or_else(|| {
            Refusal::bad_input(format!(
                "the answer would have more than {ROWS_MAX} rows: ask for a shorter time, a longer step or one tenant"
            ))
        })?;
        let mut total = UsageCounts::default();
        rows.iter().for_each(|row| total.merge(&row.counts));
        let UsageQuestion { from_ms, to_ms, step, by, .. } = question;
        Ok(UsageAnswer { from_ms, to_ms, step, by, total, rows })
    }
}
