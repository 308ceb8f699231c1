//! Status, tenants, tables, history and notices.

use serde::{Deserialize, Serialize};

use crate::api::calls::{Answer, nothing, ok};
use crate::coordination::values::NodeStatus;
use crate::domain::ids::{ControlId, PlaneId, TableId};
use crate::domain::rid::{Resource, Rid};
use crate::domain::table::{TableDefinition, TableSpecification, Tenant};
use crate::domain::{Refusal, TableName, TenantName, Timestamp};
use crate::services::control::{ControlPlane, no_history};
use crate::services::ports::{Catalog, Creation};

use super::AdminCall;

const PAGE_MAX: usize = 1000;

/// What `status` tells.
#[derive(Debug, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The control plane.
    pub plane: PlaneId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Nodes that are there.
    pub nodes: usize,
    /// Nodes whose lease runs.
    pub nodes_alive: usize,
    /// Nodes that are being emptied.
    pub nodes_draining: usize,
    /// Nodes that were given up, or stopped.
    pub nodes_down: usize,
    /// Ranges.
    pub ranges: usize,
    /// Copies of ranges given to nodes.
    pub copies: usize,
    /// Ranges that cannot be written, because no majority of their copies answers.
    pub ranges_unavailable: usize,
    /// Ranges of which fewer copies answer than their tables ask for.
    pub ranges_under_replicated: usize,
    /// Ranges with copies on their way in or out.
    pub ranges_changing: usize,
    /// Tenants, up to a thousand.
    pub tenants: usize,
    /// Notices not acknowledged, repeats counted once.
    pub notices: usize,
    /// The instance of control that answers.
    pub instance: ControlId,
    /// The instance that leads, which means that it cleans up; none between two leaders.
    pub leader: Option<ControlId>,
    /// Rounds of cleaning up that the answering instance has begun.
    pub maintenance_rounds: u64,
    /// What the coordinator's database takes, in bytes.
    pub coordinator_bytes: u64,
    /// What it may take, in bytes; none where only the disk limits it.
    pub coordinator_quota_bytes: Option<u64>,
    /// Whether it is full, so that nothing can be changed.
    pub coordinator_full: bool,
}

/// How a dropped table is to come back.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndeleteRequest {
    /// Which, where several had the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_uuid: Option<TableId>,
    /// The name that it gets, where the old one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_name: Option<TableName>,
}

fn tenant(call: &AdminCall) -> Result<TenantName, Refusal> {
    TenantName::new(call.text("tenant"))
}

pub(super) fn table(call: &AdminCall) -> Result<(TenantName, TableName), Refusal> {
    Ok((tenant(call)?, TableName::new(call.text("table"))?))
}

fn limit(call: &AdminCall) -> Result<usize, Refusal> {
    Ok(call.query_parsed::<usize>("limit")?.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX))
}

/// A record with the RID by which the CLI and grants take it.
fn with_rid(record: &impl Serialize, plane: &ControlPlane, tenant: &TenantName, resource: Resource) -> Answer {
    let (status, mut json) = ok(record)?;
    let rid = Rid { tenant: tenant.clone(), location: plane.location().clone(), resource };
    json["rid"] = rid.to_string().into();
    Ok((status, json))
}

fn of_tenant(plane: &ControlPlane, tenant: &Tenant) -> Answer {
    with_rid(tenant, plane, &tenant.name, Resource::Tenant)
}

fn of_table(plane: &ControlPlane, table: &TableDefinition) -> Answer {
    with_rid(table, plane, &table.tenant, Resource::Table(table.name.clone()))
}

/// Each of these as `one` shows it.
fn each<T>(all: &[T], one: impl Fn(&T) -> Answer) -> Answer {
    let shown = all.iter().map(|record| one(record).map(|(_, json)| json));
    ok(&shown.collect::<Result<Vec<_>, _>>()?)
}

fn status_of(creation: Creation) -> u16 {
    if creation == Creation::Created { 201 } else { 200 }
}

pub(super) async fn status(plane: &ControlPlane, _call: AdminCall) -> Answer {
    let nodes = plane.node_list().await?;
    let coordinator = plane.coordinator_health().await?;
    let placed = plane.placement_summary().await?;
    ok(&StatusAnswer {
        plane: plane.plane(),
        created_at: plane.cluster().created_at,
        nodes: nodes.len(),
        nodes_alive: nodes.iter().filter(|node| node.alive).count(),
        nodes_draining: nodes.iter().filter(|node| node.status == NodeStatus::Draining).count(),
        nodes_down: nodes.iter().filter(|node| node.status == NodeStatus::Down).count(),
        ranges: placed.ranges,
        copies: placed.copies,
        ranges_unavailable: placed.unavailable,
        ranges_under_replicated: placed.under_replicated,
        ranges_changing: placed.changing,
        tenants: plane.list_tenants(None, PAGE_MAX).await?.len(),
        notices: plane.notice_list(None).await?.len(),
        instance: plane.instance(),
        leader: plane.leader().await?,
        maintenance_rounds: plane.maintenance_rounds(),
        coordinator_bytes: coordinator.bytes,
        coordinator_quota_bytes: coordinator.quota_bytes,
        coordinator_full: coordinator.no_space,
    })
}

pub(super) async fn tenant_list(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (after, limit) = (call.query("after"), limit(&call)?);
    let Some((id, own)) = &call.caller.tenant else {
        return each(&plane.list_tenants(after, limit).await?, |tenant| of_tenant(plane, tenant));
    };
    let seen = plane.tenant(own).filter(|tenant| tenant.id == *id);
    let seen: Vec<_> =
        seen.into_iter().filter(|tenant| after.is_none_or(|after| tenant.name.as_str() > after)).collect();
    each(&seen, |tenant| of_tenant(plane, tenant))
}

pub(super) async fn tenant_show(plane: &ControlPlane, call: AdminCall) -> Answer {
    let name = tenant(&call)?;
    let found = plane.tenant(&name).ok_or_else(|| Refusal::not_found(format!("there is no tenant {name}")))?;
    with_stored(plane, &found).await
}

/// A tenant and, where that is limited, how much it stores.
async fn with_stored(plane: &ControlPlane, tenant: &Tenant) -> Answer {
    let (status, mut json) = of_tenant(plane, tenant)?;
    if tenant.limits.storage_bytes.is_some() {
        json["stored_bytes"] = plane.tenant_stored(tenant.id).await?.into();
    }
    Ok((status, json))
}

pub(super) async fn tenant_limits(plane: &ControlPlane, call: AdminCall) -> Answer {
    let changed = plane.tenant_limits_set(&call.caller, &tenant(&call)?, &call.body()?).await?;
    with_stored(plane, &changed).await
}

pub(super) async fn tenant_create(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (made, creation) = plane.create_tenant(&call.caller, &tenant(&call)?).await?;
    Ok((status_of(creation), of_tenant(plane, &made)?.1))
}

pub(super) async fn tenant_delete(plane: &ControlPlane, call: AdminCall) -> Answer {
    let recursive = call.query_parsed::<bool>("recursive")?.unwrap_or(false);
    plane.delete_tenant(&call.caller, &tenant(&call)?, recursive).await?;
    nothing()
}

pub(super) async fn table_list(plane: &ControlPlane, call: AdminCall) -> Answer {
    let tables = plane.list_tables(&tenant(&call)?, call.query("after"), limit(&call)?).await?;
    each(&tables, |table| of_table(plane, table))
}

pub(super) async fn deleted_table_list(plane: &ControlPlane, call: AdminCall) -> Answer {
    ok(&plane.deleted_tables(&tenant(&call)?).await?)
}

pub(super) async fn table_show(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    let found = plane.table(&tenant, &table);
    let found = found.ok_or_else(|| Refusal::not_found(format!("the tenant {tenant} has no table {table}")))?;
    of_table(plane, &found)
}

pub(super) async fn table_create(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    let specification: TableSpecification = call.body()?;
    let (made, creation) = plane.create_table(&call.caller, &tenant, &table, specification).await?;
    Ok((status_of(creation), of_table(plane, &made)?.1))
}

pub(super) async fn table_change(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    of_table(plane, &plane.change_table(&call.caller, &tenant, &table, call.body()?).await?)
}

pub(super) async fn table_delete(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    plane.delete_table(&call.caller, &tenant, &table).await?;
    nothing()
}

pub(super) async fn table_undelete(plane: &ControlPlane, call: AdminCall) -> Answer {
    let (tenant, table) = table(&call)?;
    let how: UndeleteRequest = call.body()?;
    of_table(plane, &plane.table_undelete(&call.caller, &tenant, &table, how.table_uuid, how.new_name).await?)
}

pub(super) async fn history(plane: &ControlPlane, call: AdminCall) -> Answer {
    let resource = call
        .query("resource")
        .ok_or_else(|| Refusal::bad_input("say which resource, as in ?resource=table/acme/users"))?;
    let mut page = plane.history(resource, call.query_parsed("before")?, limit(&call)?).await?;
    if let Some((_, own)) = &call.caller.tenant {
        // An earlier tenant may have had the name; what it did is not this one's to know.
        let since = plane.tenant(own).map_or(Timestamp(u64::MAX), |tenant| tenant.created_at);
        let found = page.versions.len();
        page.versions.retain(|version| version.at >= since);
        if page.versions.is_empty() && found > 0 {
            return Err(no_history(resource));
        }
    }
    ok(&page.versions)
}

pub(super) async fn notice_list(plane: &ControlPlane, call: AdminCall) -> Answer {
    ok(&plane.notice_list(call.query_parsed("component")?).await?)
}

pub(super) async fn notice_acknowledge(plane: &ControlPlane, call: AdminCall) -> Answer {
    let count = plane.notice_acknowledge(call.parameter("component")?, call.query("up_to")).await?;
    ok(&serde_json::json!({ "acknowledged": count }))
}
