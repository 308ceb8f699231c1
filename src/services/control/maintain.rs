//! What the leading instance does now and then: it carries on or takes back what a killed process left,
//! forgets what is past its time, and keeps the coordinator small. Every piece is safe to run twice and
//! at the same time as another instance's, so a wrong belief about who leads costs work, not data.
//!
//! A record that cannot be read is left as it is, a person is told of it once ([`super::set_aside`]), and all others are seen
//! to. A piece that needs just that record is left out of the round, and the other pieces are done.

use std::sync::atomic::Ordering;

use crate::coordination::{Compare, KeyValue, Operation, layout};
use crate::domain::ids::TableId;
use crate::domain::{Refusal, RefusalKind};

use super::history::refusal;
use super::plane::ControlPlane;
use super::records::{IntentRecord, JoinTokenRecord, SessionRecord};

/// Creations that have not ended after so long are taken back, in seconds.
const INTENT_SECONDS: u64 = 60;

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaintenanceReport {
    /// Intents carried on or taken back.
    pub intents: usize,
    /// Dropped tables forgotten for good.
    pub tables_expired: usize,
    /// Invitations and sessions past their time.
    pub credentials_expired: usize,
    /// Notices too old or too many.
    pub notices_removed: usize,
    /// Tenants whose limit of requests is shared by more or fewer than before.
    pub shares_renewed: usize,
    /// Admin events too old or too many.
    pub events_removed: usize,
    /// Whether the coordinator's past was cut off.
    pub compacted: bool,
}

impl ControlPlane {
    /// One round; see the module's text.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked; what was done stays done.
    pub async fn maintain(&self) -> Result<MaintenanceReport, Refusal> {
        self.maintenance_rounds.fetch_add(1, Ordering::Relaxed);
        Ok(MaintenanceReport {
            // First: what comes after needs room, and this makes it.
            compacted: self.coordinator_tend().await?,
            intents: self.intents_settle().await?,
            tables_expired: self.deleted_tables_expire().await?,
            credentials_expired: self.credentials_expire().await?,
            notices_removed: self.notices_trim().await?,
            shares_renewed: unless_unreadable(self.limit_shares_renew().await)?.unwrap_or_default(),
            events_removed: self.events_trim().await?,
        })
    }

    /// How many rounds this instance has begun.
    pub fn maintenance_rounds(&self) -> u64 {
        self.maintenance_rounds.load(Ordering::Relaxed)
    }

    /// Intents that are old enough that whoever wrote them is gone.
    async fn intents_settle(&self) -> Result<usize, Refusal> {
        let now = self.now();
        let mut settled = 0;
        for (entry, intent) in self.entries_readable::<IntentRecord>(layout::CONTROL_JOBS).await?.records {
            if now.seconds_since(intent.started_at()) < INTENT_SECONDS {
                continue;
            }
            let Some(id) = entry.key.strip_prefix(layout::CONTROL_JOBS).and_then(|id| id.parse::<TableId>().ok())
            else {
                continue;
            };
            tracing::warn!(?intent, "carrying on what another process left");
            settled += usize::from(unless_unreadable(self.intent_settle(&entry, &intent, id).await)?.is_some());
        }
        Ok(settled)
    }

    async fn intent_settle(&self, entry: &KeyValue, intent: &IntentRecord, id: TableId) -> Result<(), Refusal> {
        match intent {
            IntentRecord::CreateTable { tenant, table, .. } | IntentRecord::UndeleteTable { tenant, table, .. } => {
                // First the intent: its maker, if only slow, can then not make the table visible.
                let compares = vec![Compare::unchanged(&entry.key, Some(entry))];
                let operations = vec![Operation::delete(&entry.key)];
                if self.coordinator.transact(compares, operations).await.map_err(refusal)?.succeeded {
                    self.ranges_remove(tenant, table, id).await?;
                }
                Ok(())
            }
            IntentRecord::RemoveRoutes { tenant, table, .. } => {
                self.ranges_remove(tenant, table, id).await?;
                self.intent_done(entry).await
            }
            IntentRecord::RemoveTenant { tenant, tenant_id, .. } => {
                self.tenant_remainder_remove(tenant, *tenant_id).await?;
                self.intent_done(entry).await
            }
        }
    }

    async fn intent_done(&self, entry: &KeyValue) -> Result<(), Refusal> {
        let compares = vec![Compare::unchanged(&entry.key, Some(entry))];
        self.coordinator.transact(compares, vec![Operation::delete(&entry.key)]).await.map_err(refusal)?;
        Ok(())
    }

    async fn credentials_expire(&self) -> Result<usize, Refusal> {
        let now = self.now();
        let mut keys = Vec::new();
        for (entry, token) in self.entries_readable::<JoinTokenRecord>(layout::CONTROL_JOIN_TOKENS).await?.records {
            if token.expires_at <= now {
                keys.push(entry.key);
            }
        }
        for (entry, session) in self.entries_readable::<SessionRecord>(layout::CONTROL_SESSIONS).await?.records {
            if session.expires_at <= now {
                keys.push(entry.key);
            }
        }
        let count = keys.len();
        for piece in crate::coordination::batches(keys.into_iter().map(Operation::delete)) {
            self.coordinator.transact(Vec::new(), piece).await.map_err(refusal)?;
        }
        Ok(count)
    }
}

/// What a piece of a round did; none where a record that it needs cannot be read.
fn unless_unreadable<T>(done: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match done {
        Err(refusal) if refusal.kind == RefusalKind::Damaged => {
            tracing::warn!(%refusal, "a piece of maintenance is left for a later round");
            Ok(None)
        }
        done => done.map(Some),
    }
}
