//! Tables: made, found, listed, changed, dropped.
//!
//! Making one writes its ranges first and its record last, so nobody sees a table of which a part is
//! missing. A small table is one transaction. A large one begins with an intent record, which every
//! later transaction needs to find; whoever takes an abandoned creation back removes the intent first,
//! so a maker that was only slow fails instead of finishing what is being cleared away.
//!
//! The transaction that makes a table visible also writes the tenant's record anew, unchanged: a
//! removal of the tenant that found no tables compares on that record, and so fails if one came.
//!
//! Dropping takes the record away and keeps it, with where its ranges were, among the dropped tables
//! for seven days; its name is free as soon as this returns.

use std::collections::BTreeSet;

use crate::coordination::values::{TableAtNode, from_json, to_json};
use crate::coordination::{Compare, KeyValue, OPERATIONS_PER_BATCH, Operation, layout};
use crate::domain::ids::{NodeId, TableId, TenantId};
use crate::domain::table::{TableChange, TableDefinition, TableSpecification, check_replication_factor};
use crate::domain::table_options::OptionTimes;
use crate::domain::{Refusal, TableName, TenantName};
use crate::placement::split::INITIAL_RANGES_MAX;
use crate::services::ports::{Caller, Creation};

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::ranges::{Group, group_of, holders, pieces};
use super::records::{DeletedTableRecord, IntentRecord};
use super::sealed::unreadable;
use super::tenants::{json, no_tenant};

/// The longest name of a key attribute, in bytes (DynamoDB: Limits, attribute names).
const KEY_NAME_BYTES_MAX: usize = 255;
/// What a commit adds to a transaction by itself: history, intent, table, tenant.
const OPERATIONS_RESERVED: usize = 8;

/// Whether the caller belongs to another tenant than the one of this id: one that was deleted and made anew under the same name is another.
fn is_foreign(caller: &Caller, tenant: TenantId) -> bool {
    caller.tenant.as_ref().is_some_and(|(own, _)| *own != tenant)
}

impl ControlPlane {
    /// Makes a table, or finds it with the same definition.
    pub(super) async fn table_create(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        specification: TableSpecification,
    ) -> Result<(TableDefinition, Creation), Refusal> {
        check(&specification)?;
        for attempt in 0..ATTEMPTS_MAX {
            let Some((owner, tenant_entry)) = self.tenant_read(tenant).await? else { return Err(no_tenant(tenant)) };
            if is_foreign(caller, owner.id) {
                return Err(no_tenant(tenant));
            }
            if let Some((there, _)) = self.table_read(tenant, table).await? {
                if there.specification == specification {
                    return Ok((there, Creation::Unchanged));
                }
                return Err(Refusal::conflict(format!(
                    "the table {table} is there already with another definition; delete it first, or choose another name"
                )));
            }
            let definition = TableDefinition {
                tenant_id: owner.id,
                tenant: tenant.clone(),
                id: TableId::random(self.random.as_ref()),
                name: table.clone(),
                specification: specification.clone(),
                created_at: self.now(),
                version: 1,
                option_times: OptionTimes::default(),
            };
            if self.table_write(caller, &definition, &tenant_entry).await? {
                self.table_ready(&definition).await;
                return Ok((definition, Creation::Created));
            }
            // Someone else is making or removing a table of this name, or changed the tenant.
            tokio::time::sleep(std::time::Duration::from_millis(10 << attempt.min(6))).await;
        }
        Err(contended())
    }

    /// Plans and writes a new table; false where something was in the way.
    async fn table_write(
        &self,
        caller: &Caller,
        definition: &TableDefinition,
        tenant_entry: &KeyValue,
    ) -> Result<bool, Refusal> {
        let rows = self.node_rows().await?;
        let planned = self.plan(&definition.specification, &rows)?;
        let groups: Vec<Group> = planned
            .iter()
            .map(|range| group_of(&definition.tenant, &definition.name, definition.id, range, &rows))
            .collect();
        let intent = IntentRecord::CreateTable {
            tenant: definition.tenant.clone(),
            table: definition.name.clone(),
            started_at: self.now(),
        };
        let last = Change {
            resource: format!("table/{}/{}", definition.tenant, definition.name),
            who: &caller.name,
            before: None,
            after: Some(json(definition)),
            compares: vec![Compare::unchanged(&tenant_entry.key, Some(tenant_entry))],
            operations: vec![Operation::put(&tenant_entry.key, tenant_entry.value.clone())],
        };
        self.table_publish(definition, groups, intent, last).await
    }

    /// Writes the ranges, and the table's record with `last`. Used for new tables and for those
    /// brought back.
    pub(super) async fn table_publish(
        &self,
        definition: &TableDefinition,
        groups: Vec<Group>,
        intent: IntentRecord,
        mut last: Change<'_>,
    ) -> Result<bool, Refusal> {
        let record_key = layout::control_table(&definition.tenant, &definition.name);
        last.compares.push(Compare::absent(&record_key));
        last.operations.push(Operation::put(&record_key, to_json(definition)));
        let operation_count: usize = groups.iter().map(|group| group.operations.len()).sum();
        if operation_count + last.operations.len() + OPERATIONS_RESERVED <= OPERATIONS_PER_BATCH {
            for group in groups {
                last.compares.extend(group.compares);
                last.operations.extend(group.operations);
            }
            return self.commit(last).await;
        }
        let intent_key = layout::control_job(definition.id.0);
        let begun = self
            .coordinator
            .transact(
                vec![Compare::absent(&intent_key), Compare::absent(&record_key)],
                vec![Operation::put(&intent_key, to_json(&intent))],
            )
            .await
            .map_err(refusal)?;
        if !begun.succeeded {
            return Ok(false);
        }
        for mut piece in pieces(groups) {
            piece.compares.push(Compare::present(&intent_key));
            let done = self.coordinator.transact(piece.compares, piece.operations).await.map_err(refusal)?;
            if !done.succeeded {
                self.intent_take_back(&intent_key, definition).await?;
                return Ok(false);
            }
        }
        last.compares.push(Compare::present(&intent_key));
        last.operations.push(Operation::delete(&intent_key));
        let done = self.commit(last).await?;
        if !done {
            self.intent_take_back(&intent_key, definition).await?;
        }
        Ok(done)
    }

    async fn intent_take_back(&self, intent_key: &str, definition: &TableDefinition) -> Result<(), Refusal> {
        self.coordinator.delete(intent_key).await.map_err(refusal)?;
        self.ranges_remove(&definition.tenant, &definition.name, definition.id).await
    }

    /// Waits until every node that holds a part of the table has said that the part can be used, or the
    /// time is up; the table is there either way.
    pub(super) async fn table_ready(&self, definition: &TableDefinition) {
        let wait = std::time::Duration::from_millis(self.options.table_ready_wait_ms);
        if wait.is_zero() {
            return;
        }
        let ready = async {
            let mut pause_ms = 1;
            while !self.table_is_ready(definition).await.unwrap_or(false) {
                tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(200);
            }
        };
        if tokio::time::timeout(wait, ready).await.is_err() {
            tracing::warn!(table = %definition.id, "not every node serves its part of the table yet");
        }
    }

    async fn table_is_ready(&self, definition: &TableDefinition) -> Result<bool, Refusal> {
        let (tenant, table) = (&definition.tenant, &definition.name);
        let routes = self.routes_of(tenant, table, definition.id).await?;
        let nodes: BTreeSet<NodeId> = routes.iter().flat_map(|(_, _, route)| holders(route)).collect();
        for node in nodes {
            let key = layout::node_table_details(node, tenant, table);
            let Some(entry) = self.coordinator.get(&key).await.map_err(refusal)? else { return Ok(false) };
            let said: TableAtNode = from_json(&entry.value).map_err(|_| unreadable(&key))?;
            if said.status != "okay" || said.table_uuid != Some(definition.id) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A table as the coordinator has it now, with its entry to compare with.
    pub(super) async fn table_read(
        &self,
        tenant: &TenantName,
        table: &TableName,
    ) -> Result<Option<(TableDefinition, KeyValue)>, Refusal> {
        let Some(entry) = self.coordinator.get(&layout::control_table(tenant, table)).await.map_err(refusal)? else {
            return Ok(None);
        };
        let definition = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
        Ok(Some((definition, entry)))
    }

    /// All tables of a tenant.
    pub(super) async fn tables_of(&self, tenant: &TenantName) -> Result<Vec<(TableDefinition, KeyValue)>, Refusal> {
        let records = self.records(&layout::control_tenant_tables(tenant)).await?;
        Ok(records.into_iter().map(|(entry, definition)| (definition, entry)).collect())
    }

    /// A tenant's tables by name, after `after`, at most `limit`.
    pub(super) async fn table_list(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TableDefinition>, Refusal> {
        if self.tenant_read(tenant).await?.is_none() {
            return Err(no_tenant(tenant));
        }
        let prefix = layout::control_tenant_tables(tenant);
        let after = after.map(|name| format!("{prefix}{name}"));
        let page = self.coordinator.list_page(&prefix, after.as_deref(), None, limit).await.map_err(refusal)?;
        page.entries.iter().map(|entry| from_json(&entry.value).map_err(|_| unreadable(&entry.key))).collect()
    }

    /// Changes a table while it serves. Its ranges follow as placement gets to them.
    pub(super) async fn table_change(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        change: TableChange,
    ) -> Result<TableDefinition, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let Some((before, entry)) = self.table_read(tenant, table).await? else {
                return Err(no_table(tenant, table));
            };
            if is_foreign(caller, before.tenant_id) {
                return Err(no_table(tenant, table));
            }
            let mut after = before.clone();
            change.apply(&mut after.specification)?;
            if after == before {
                return Ok(before);
            }
            after.option_times.note(&before.specification, &after.specification, self.now());
            after.version += 1;
            let done = self
                .commit(Change {
                    resource: format!("table/{tenant}/{table}"),
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

    /// Drops a table, unless it is protected; it can be brought back for seven days.
    pub(super) async fn table_delete(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
    ) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let Some((definition, entry)) = self.table_read(tenant, table).await? else {
                return Err(no_table(tenant, table));
            };
            if is_foreign(caller, definition.tenant_id) {
                return Err(no_table(tenant, table));
            }
            if definition.specification.deletion_protection {
                return Err(protected(table));
            }
            let now = self.now();
            let dropped = DeletedTableRecord {
                ranges: self.ranges_remember(tenant, table, definition.id).await?,
                table: definition.clone(),
                deleted_at: now,
                deleted_by: caller.name.clone(),
            };
            let intent_key = layout::control_job(definition.id.0);
            let intent = IntentRecord::RemoveRoutes { tenant: tenant.clone(), table: table.clone(), started_at: now };
            let done = self
                .commit(Change {
                    resource: format!("table/{tenant}/{table}"),
                    who: &caller.name,
                    before: Some(json(&definition)),
                    after: None,
                    compares: vec![Compare::unchanged(&entry.key, Some(&entry))],
                    operations: vec![
                        Operation::delete(&entry.key),
                        Operation::put(layout::control_table_deleted(definition.id), to_json(&dropped)),
                        Operation::put(&intent_key, to_json(&intent)),
                    ],
                })
                .await?;
            if done {
                self.ranges_remove(tenant, table, definition.id).await?;
                self.coordinator.delete(&intent_key).await.map_err(refusal)?;
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Removes a table for good, as part of the removal of its tenant.
    pub(super) async fn table_destroy(&self, definition: &TableDefinition, entry: &KeyValue) -> Result<(), Refusal> {
        let operations = vec![Operation::delete(&entry.key)];
        let compares = vec![Compare::unchanged(&entry.key, Some(entry))];
        let done = self.coordinator.transact(compares, operations.clone()).await.map_err(refusal)?;
        if done.succeeded {
            self.view.committed(&operations, done.revision);
        }
        self.ranges_remove(&definition.tenant, &definition.name, definition.id).await
    }
}

/// The refusal for a table that is not there.
pub(super) fn no_table(tenant: &TenantName, table: &TableName) -> Refusal {
    Refusal::not_found(format!("the tenant {tenant} has no table {table}"))
}

/// The refusal to drop a table that is protected. A tenant that is removed with its tables is another question.
fn protected(table: &TableName) -> Refusal {
    Refusal::conflict(format!(
        "the table {table} is protected from being deleted: set deletion_protection to false first, as with `dstore control table set --deletion-protection false`"
    ))
}

/// Whether a table can be made so.
fn check(specification: &TableSpecification) -> Result<(), Refusal> {
    for name in [&specification.id_name, &specification.sort_name] {
        if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX {
            return Err(Refusal::bad_input("id_name and sort_name are 1 to 255 bytes long"));
        }
    }
    if specification.sort_type.is_some() && specification.id_name == specification.sort_name {
        return Err(Refusal::bad_input("id_name and sort_name must differ"));
    }
    if let Some(factor) = specification.replication_factor {
        check_replication_factor(factor)?;
    }
    if specification.initial_ranges.is_some_and(|count| !(1..=INITIAL_RANGES_MAX).contains(&count)) {
        return Err(Refusal::bad_input("initial_ranges is 1 to 1024"));
    }
    specification.check_options()
}
