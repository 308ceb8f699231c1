//! Tenants. Making one also makes its part of its key at this control plane, random, in the same
//! transaction: there is never a tenant without a key. Removing one destroys that part first of all;
//! from then on no copy of its files anywhere can be opened.
//!
//! Removal with tables is refused unless asked for. Then the order is: tenant record, key and an
//! intent in one transaction (no table can be made after that, nothing can be decrypted after a
//! restart), and then piece by piece its tables, routes, principals, access keys and sessions.

use crate::coordination::values::{from_json, to_json};
use crate::coordination::{Compare, KeyValue, Operation, batches, layout};
use crate::crypto::Key256;
use crate::domain::ids::TenantId;
use crate::domain::table::Tenant;
use crate::domain::tenant_limits::TenantLimits;
use crate::domain::{Refusal, TenantName};
use crate::services::ports::{Caller, Creation};

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::records::{AccessKeyRecord, IntentRecord, PrincipalRecord, SessionRecord};
use super::sealed::{SecretName, unreadable};

impl ControlPlane {
    /// Makes a tenant, or finds it.
    pub(super) async fn tenant_create(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<(Tenant, Creation), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some((tenant, _)) = self.tenant_read(name).await? {
                return Ok((tenant, Creation::Unchanged));
            }
            let now = self.now();
            let (id, limits) = (TenantId::random(self.random.as_ref()), TenantLimits::default());
            let tenant = Tenant { id, name: name.clone(), created_at: now, limits };
            let secret = SecretName::Tenant(tenant.id);
            let part = Key256::random(self.random.as_ref());
            let key = layout::control_tenant(name);
            let done = self
                .commit(Change {
                    resource: format!("tenant/{name}"),
                    who: &caller.name,
                    before: None,
                    after: Some(json(&tenant)),
                    compares: vec![Compare::absent(&key)],
                    operations: vec![
                        Operation::put(&key, to_json(&tenant)),
                        Operation::put(secret.key(), to_json(&self.vault.first_version(secret, part.expose(), now))),
                    ],
                })
                .await?;
            if done {
                return Ok((tenant, Creation::Created));
            }
        }
        Err(contended())
    }

    /// A tenant as the coordinator has it now, with its entry to compare with.
    pub(super) async fn tenant_read(&self, name: &TenantName) -> Result<Option<(Tenant, KeyValue)>, Refusal> {
        let Some(entry) = self.coordinator.get(&layout::control_tenant(name)).await.map_err(refusal)? else {
            return Ok(None);
        };
        let tenant = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
        Ok(Some((tenant, entry)))
    }

    /// Tenants by name, after `after`, at most `limit`.
    pub(super) async fn tenant_list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Tenant>, Refusal> {
        let after = after.map(|name| format!("{}{name}", layout::CONTROL_TENANTS));
        let page = self
            .coordinator
            .list_page(layout::CONTROL_TENANTS, after.as_deref(), None, limit)
            .await
            .map_err(refusal)?;
        page.entries.iter().map(|entry| from_json(&entry.value).map_err(|_| unreadable(&entry.key))).collect()
    }

    /// Removes a tenant; see the module's text.
    pub(super) async fn tenant_delete(
        &self,
        caller: &Caller,
        name: &TenantName,
        recursive: bool,
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let Some((tenant, entry)) = self.tenant_read(name).await? else { return Err(no_tenant(name)) };
            let tables = layout::control_tenant_tables(name);
            let first = self.coordinator.list_page(&tables, None, None, 1).await.map_err(refusal)?;
            if !recursive && !first.entries.is_empty() {
                return Err(Refusal::conflict(format!(
                    "the tenant {name} still has tables; delete them first, or ask with recursive=true, which destroys them for good"
                )));
            }
            let intent_key = layout::control_job(tenant.id.0);
            let intent =
                IntentRecord::RemoveTenant { tenant: name.clone(), tenant_id: tenant.id, started_at: self.now() };
            let done = self
                .commit(Change {
                    resource: format!("tenant/{name}"),
                    who: &caller.name,
                    before: Some(json(&tenant)),
                    after: None,
                    compares: vec![Compare::unchanged(layout::control_tenant(name), Some(&entry))],
                    operations: vec![
                        Operation::delete(layout::control_tenant(name)),
                        Operation::delete(SecretName::Tenant(tenant.id).key()),
                        Operation::put(&intent_key, to_json(&intent)),
                    ],
                })
                .await?;
            if done {
                self.tenant_remainder_remove(name, tenant.id).await?;
                self.coordinator.delete(&intent_key).await.map_err(refusal)?;
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Removes what is left of a tenant whose record is gone. Safe to run again; a new tenant of the
    /// same name is not touched, because everything is told apart by the tenant's id.
    pub(super) async fn tenant_remainder_remove(&self, name: &TenantName, tenant: TenantId) -> Result<(), Refusal> {
        for (definition, entry) in self.tables_of(name).await? {
            if definition.tenant_id == tenant {
                self.table_destroy(&definition, &entry).await?;
            }
        }
        let mut operations = self.deleted_tables_forget(tenant).await?;
        let mut principals = std::collections::BTreeSet::new();
        for (entry, record) in self.records::<PrincipalRecord>(layout::CONTROL_PRINCIPALS).await? {
            if record.tenant.as_ref().is_some_and(|(id, _)| *id == tenant) {
                principals.insert(record.id);
                operations.push(Operation::delete(entry.key));
            }
        }
        for (entry, record) in self.records::<AccessKeyRecord>(layout::CONTROL_ACCESS_KEYS).await? {
            if principals.contains(&record.principal) {
                operations.push(Operation::delete(entry.key));
            }
        }
        for (entry, record) in self.records::<SessionRecord>(layout::CONTROL_SESSIONS).await? {
            if principals.contains(&record.principal) {
                operations.push(Operation::delete(entry.key));
            }
        }
        // Principals go last: a run cut short finds the rest through them.
        operations.sort_by_key(|operation| operation.key().starts_with(layout::CONTROL_PRINCIPALS));
        for piece in batches(operations) {
            self.coordinator.transact(Vec::new(), piece).await.map_err(refusal)?;
        }
        Ok(())
    }

    /// All records under a prefix, with their entries.
    pub(super) async fn records<T: serde::de::DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(KeyValue, T)>, Refusal> {
        let listing = self.coordinator.list(prefix).await.map_err(refusal)?;
        let read = |entry: KeyValue| {
            let record = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
            Ok((entry, record))
        };
        listing.entries.into_iter().map(read).collect()
    }
}

/// The refusal for a tenant that is not there.
pub(super) fn no_tenant(name: &TenantName) -> Refusal {
    Refusal::not_found(format!("there is no tenant {name}"))
}

/// A record as JSON for the history.
pub(super) fn json<T: serde::Serialize>(record: &T) -> serde_json::Value {
    serde_json::to_value(record).unwrap_or_default()
}
