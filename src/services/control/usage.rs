//! What was used, asked of a reporter for an admin: gaps in the question are filled in here, by control's own clock.

use std::sync::Arc;

use crate::domain::Refusal;
use crate::domain::ids::{TableId, TenantId};
use crate::domain::usage::query::{UsageAnswer, UsageBy, UsageQuestion, UsageStep};
use crate::services::reporting::UsageReports;

use super::plane::ControlPlane;

/// What is asked for where nothing is said: a day.
const LAST_MS: u64 = 24 * 3_600_000;

/// A question with gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageAsked {
    /// From when, in milliseconds since 1970; none: as long as `last_ms` before the end.
    pub from_ms: Option<u64>,
    /// Until when; none: now.
    pub to_ms: Option<u64>,
    /// For how long, where no beginning is given; none: a day.
    pub last_ms: Option<u64>,
    /// How long a step is; none: as it fits.
    pub step: Option<UsageStep>,
    /// By what counts are kept apart; none: by table for a tenant, by tenant else.
    pub by: Option<UsageBy>,
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// Of this table only.
    pub table: Option<TableId>,
}

impl ControlPlane {
    /// Asks for usage in this way from now on.
    pub fn ask_reporters_through(&self, reports: Arc<dyn UsageReports>) {
        self.usage_reports.store(Some(Arc::new(reports)));
    }

    /// What was used.
    ///
    /// # Errors
    /// `NotFound` where no reporter has joined; `BadInput`; `Unavailable` where none answers.
    pub async fn usage(&self, asked: UsageAsked) -> Result<UsageAnswer, Refusal> {
        let to_ms = asked.to_ms.unwrap_or_else(|| self.now().0 / 1000);
        let last_ms = asked.last_ms.unwrap_or(LAST_MS);
        let from_ms = asked.from_ms.unwrap_or_else(|| to_ms.saturating_sub(last_ms));
        let by = if asked.tenant.is_some() { UsageBy::Table } else { UsageBy::Tenant };
        let question = UsageQuestion {
            from_ms,
            to_ms,
            step: asked.step.unwrap_or_else(|| UsageStep::fitting(to_ms.saturating_sub(from_ms))),
            by: asked.by.unwrap_or(by),
            tenant: asked.tenant,
            table: asked.table,
        };
        let reports = self.usage_reports.load_full().ok_or_else(no_reporter)?;
        reports.usage(question).await
    }
}

/// The refusal where nobody gathers usage.
pub(super) fn no_reporter() -> Refusal {
    Refusal::not_found(
        "no reporter has joined, so nobody gathers usage. Start one: `dstore control reporter invite --out join-token`, then \
         `dstore reporting --control URL --join-token-file join-token --data DIR`; proxies and nodes keep what they count until then",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::UsageCounts;
    use crate::services::control::testing::Cluster;
    use async_trait::async_trait;

    /// Answers with what it was asked for.
    struct Echo;

    #[async_trait]
    impl UsageReports for Echo {
        async fn usage(&self, question: UsageQuestion) -> Result<UsageAnswer, Refusal> {
            let UsageQuestion { from_ms, to_ms, step, by, .. } = question;
            Ok(UsageAnswer { from_ms, to_ms, step, by, total: UsageCounts::default(), rows: Vec::new() })
        }
    }

    #[tokio::test]
    async fn gaps_are_filled_in_and_without_a_reporter_it_is_said_how_to_start_one() {
        let cluster = Cluster::start().await;
        let refused = cluster.plane.usage(UsageAsked::default()).await.unwrap_err();
        assert!(refused.message.contains("dstore control reporter invite"), "{refused}");
        cluster.plane.ask_reporters_through(Arc::new(Echo));
        let ask = async |asked| {
            let told = cluster.plane.usage(asked).await.unwrap();
            (told.from_ms, told.to_ms, told.step, told.by)
        };
        let now_ms = 1_800_000_000_000;
        let day = (now_ms - LAST_MS, now_ms, UsageStep::Hour, UsageBy::Tenant);
        assert_eq!(ask(UsageAsked::default()).await, day);
        let tenant = Some(TenantId::from_bytes([1; 16]));
        let hour = UsageAsked { last_ms: Some(3_600_000), tenant, ..UsageAsked::default() };
        assert_eq!(ask(hour).await, (now_ms - 3_600_000, now_ms, UsageStep::Minute, UsageBy::Table));
        let given = UsageAsked { from_ms: Some(5), to_ms: Some(6), by: Some(UsageBy::Result), ..UsageAsked::default() };
        assert_eq!(ask(given).await, (5, 6, UsageStep::Minute, UsageBy::Result));
    }
}
