//! Limits of tenants: set in their records, from where proxies and nodes have them by the routing table that they follow.
//!
//! Beside a limit of requests stands among how many it is shared: proxies that give a sign of life, and nodes that are members.
//! Control looks when the limit is set, and in every round of maintenance, so within a minute of a proxy's coming or going all
//! have the new count. While control or the coordinator is away the last count holds.

use crate::coordination::values::{StoredBytes, from_json, to_json};
use crate::coordination::{Compare, Operation, layout};
use crate::domain::ids::{Role, TenantId};
use crate::domain::table::Tenant;
use crate::domain::tenant_limits::{LimitShares, TenantLimits, TenantLimitsChange};
use crate::domain::{Refusal, TenantName};
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::tenants::{json, no_tenant};

impl ControlPlane {
    /// Changes what a tenant may use at most; gives it as it is then.
    ///
    /// # Errors
    /// `NotFound` where there is no such tenant; `BadInput` for a limit that cannot be held.
    pub async fn tenant_limits_set(
        &self,
        caller: &Caller,
        name: &TenantName,
        change: &TenantLimitsChange,
    ) -> Result<Tenant, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let Some((before, entry)) = self.tenant_read(name).await? else { return Err(no_tenant(name)) };
            let mut limits = before.limits.changed(change)?;
            if limits.request_units.is_some() {
                limits.shares = Some(self.limit_shares().await?);
            }
            if limits == before.limits {
                return Ok(before);
            }
            let after = Tenant { limits, ..before.clone() };
            let done = self
                .commit(Change {
                    resource: format!("tenant/{name}"),
                    who: &caller.name,
                    before: Some(json(&before)),
                    after: Some(json(&after)),
                    compares: vec![Compare::unchanged(&entry.key, Some(&entry))],
                    operations: vec![Operation::put(&entry.key, to_json(&after))],
                })
                .await?;
            if done {
                return Ok(after);
            }
        }
        Err(contended())
    }

    /// Bytes that a tenant stores, as its nodes last told; they tell of tenants that have a limit of it.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn tenant_stored(&self, tenant: TenantId) -> Result<u64, Refusal> {
        let listing = self.coordinator.list(layout::STORED).await.map_err(refusal)?;
        let told = listing.entries.iter().filter_map(|entry| from_json::<StoredBytes>(&entry.value).ok());
        Ok(told.filter_map(|told| told.tenants.get(&tenant).copied()).fold(0, u64::saturating_add))
    }

    /// Among how many each limit of requests is shared at present.
    async fn limit_shares(&self) -> Result<LimitShares, Refusal> {
        let signs = self.coordinator.list(layout::PROXIES).await.map_err(refusal)?;
        let alive = signs.entries.iter().filter(|entry| layout::parse_proxy_alive(&entry.key).is_some());
        let nodes = self.member_records(Role::Node).await?.len();
        Ok(LimitShares { proxies: alive.count() as u32, nodes: nodes as u32 })
    }

    /// Brings the shares in all tenants' records up to date. In how many they were not.
    pub(super) async fn limit_shares_renew(&self) -> Result<usize, Refusal> {
        let mut limited = self.entries_readable::<Tenant>(layout::CONTROL_TENANTS).await?.records;
        limited.retain(|(_, tenant)| tenant.limits.request_units.is_some());
        if limited.is_empty() {
            return Ok(0);
        }
        let shares = Some(self.limit_shares().await?);
        let mut renewed = 0;
        for (entry, tenant) in limited.into_iter().filter(|(_, tenant)| tenant.limits.shares != shares) {
            let after = Tenant { limits: TenantLimits { shares, ..tenant.limits }, ..tenant };
            // Where someone else has just changed it, the next round looks again.
            let compares = vec![Compare::unchanged(&entry.key, Some(&entry))];
            let operations = vec![Operation::put(&entry.key, to_json(&after))];
            renewed += usize::from(self.coordinator.transact(compares, operations).await.map_err(refusal)?.succeeded);
        }
        Ok(renewed)
    }
}
