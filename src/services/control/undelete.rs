//! Dropped tables: listed, brought back, and forgotten after seven days.
//!
//! While a table is among the dropped ones, the nodes keep its files. A node removes them only when
//! it finds the table neither among the tables nor among the dropped ones, in two readings. A table
//! brought back keeps its UUID, its ranges and its replicas; its name may be another one, because the
//! old name was free at once and may be taken.

use crate::coordination::{Compare, KeyValue, Operation, layout};
use crate::domain::hash::HashRange;
use crate::domain::ids::{TableId, TenantId};
use crate::domain::limits::UNDELETE_SECONDS;
use crate::domain::table::TableDefinition;
use crate::domain::{Refusal, TableName, TenantName};
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::ranges::{Group, PlannedRange, group_of};
use super::records::{DeletedTableRecord, IntentRecord};
use super::tenants::{json, no_tenant};

impl ControlPlane {
    /// The tenant's dropped tables that can be brought back, latest first.
    ///
    /// # Errors
    /// `NotFound` where there is no such tenant.
    pub async fn deleted_tables(&self, tenant: &TenantName) -> Result<Vec<DeletedTableRecord>, Refusal> {
        let Some((owner, _)) = self.tenant_read(tenant).await? else { return Err(no_tenant(tenant)) };
        Ok(self.deleted_of(owner.id).await?.into_iter().map(|(_, record)| record).collect())
    }

    async fn deleted_of(&self, tenant: TenantId) -> Result<Vec<(KeyValue, DeletedTableRecord)>, Refusal> {
        let now = self.now();
        let mut records = self.records::<DeletedTableRecord>(layout::CONTROL_TABLES_DELETED).await?;
        records.retain(|(_, record)| {
            record.table.tenant_id == tenant && now.seconds_since(record.deleted_at) < UNDELETE_SECONDS
        });
        records.sort_by_key(|(_, record)| std::cmp::Reverse(record.deleted_at));
        Ok(records)
    }

    /// Brings a dropped table back: the one of this id, or the latest that had the name `table`.
    /// `new_name` is the name it gets; its old one where none is given.
    ///
    /// # Errors
    /// `NotFound` where no such table was dropped within seven days, `Conflict` where the name is taken.
    pub async fn table_undelete(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        id: Option<TableId>,
        new_name: Option<TableName>,
    ) -> Result<TableDefinition, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let Some((owner, tenant_entry)) = self.tenant_read(tenant).await? else { return Err(no_tenant(tenant)) };
            let wanted = |record: &DeletedTableRecord| match id {
                Some(id) => record.table.id == id,
                None => record.table.name == *table,
            };
            let found = self.deleted_of(owner.id).await?.into_iter().find(|(_, record)| wanted(record));
            let Some((entry, dropped)) = found else {
                return Err(Refusal::not_found(format!(
                    "no table {table} of {tenant} was dropped within the last seven days"
                )));
            };
            let mut definition = dropped.table.clone();
            definition.name = new_name.clone().unwrap_or_else(|| table.clone());
            definition.version += 1;
            if self.table_read(tenant, &definition.name).await?.is_some() {
                return Err(Refusal::conflict(format!(
                    "the name {} is taken; give another one for the table that is brought back",
                    definition.name
                )));
            }
            if self.undelete_write(caller, &definition, &dropped, &entry, &tenant_entry).await? {
                self.table_ready(&definition).await;
                return Ok(definition);
            }
        }
        Err(contended())
    }

    async fn undelete_write(
        &self,
        caller: &Caller,
        definition: &TableDefinition,
        dropped: &DeletedTableRecord,
        entry: &KeyValue,
        tenant_entry: &KeyValue,
    ) -> Result<bool, Refusal> {
        let rows = self.node_rows().await?;
        let planned = dropped.ranges.iter().map(|range| PlannedRange {
            range: range.range,
            interval: HashRange { low: range.low, high: range.high },
            epoch: range.epoch,
            replicas: range.replicas.clone(),
            learners: range.learners.clone(),
            wanted: range.wanted.clone(),
            is_new: false,
        });
        let groups: Vec<Group> =
            planned.map(|range| group_of(&definition.tenant, &definition.name, definition.id, &range, &rows)).collect();
        let intent = IntentRecord::UndeleteTable {
            tenant: definition.tenant.clone(),
            table: definition.name.clone(),
            started_at: self.now(),
        };
        let last = Change {
            resource: format!("table/{}/{}", definition.tenant, definition.name),
            who: &caller.name,
            before: None,
            after: Some(json(definition)),
            compares: vec![
                Compare::unchanged(&entry.key, Some(entry)),
                Compare::unchanged(&tenant_entry.key, Some(tenant_entry)),
            ],
            operations: vec![
                Operation::delete(&entry.key),
                Operation::put(&tenant_entry.key, tenant_entry.value.clone()),
            ],
        };
        self.table_publish(definition, groups, intent, last).await
    }

    /// Operations that forget all of a tenant's dropped tables.
    pub(super) async fn deleted_tables_forget(&self, tenant: TenantId) -> Result<Vec<Operation>, Refusal> {
        let records = self.records::<DeletedTableRecord>(layout::CONTROL_TABLES_DELETED).await?;
        Ok(records
            .into_iter()
            .filter(|(_, record)| record.table.tenant_id == tenant)
            .map(|(entry, _)| Operation::delete(entry.key))
            .collect())
    }

    /// Forgets tables that were dropped more than seven days ago; their files go then. How many.
    pub(super) async fn deleted_tables_expire(&self) -> Result<usize, Refusal> {
        let now = self.now();
        let mut expired = 0;
        let dropped = self.entries_readable::<DeletedTableRecord>(layout::CONTROL_TABLES_DELETED).await?.records;
        for (entry, record) in dropped {
            if now.seconds_since(record.deleted_at) >= UNDELETE_SECONDS {
                let compares = vec![Compare::unchanged(&entry.key, Some(&entry))];
                let done =
                    self.coordinator.transact(compares, vec![Operation::delete(&entry.key)]).await.map_err(refusal)?;
                expired += usize::from(done.succeeded);
            }
        }
        Ok(expired)
    }
}
