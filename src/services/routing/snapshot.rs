//! Everything routing knows at one moment: routes, tables and tenants. A snapshot is never changed;
//! the next one shares with it whatever stayed as it was.
//!
//! Maps are in two levels, tenant then table, so that a change copies one tenant's map and not the
//! cluster's, and so that a look-up needs no key put together from two names.

use std::sync::Arc;

use hashbrown::HashMap;

use super::ranges::{RangeRoute, TableRoutes};
use crate::coordination::Revision;
use crate::domain::table::{TableDefinition, Tenant};
use crate::domain::{TableName, TenantName};

/// Something per table, in two levels.
pub(super) type ByTable<T> = HashMap<TenantName, Arc<HashMap<TableName, Arc<T>>>>;

/// The revisions of the coordinator that a snapshot stands at, one for each prefix that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Revisions {
    /// Of the routes.
    pub routes: Revision,
    /// Of the tables.
    pub tables: Revision,
    /// Of the tenants.
    pub tenants: Revision,
}

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutingSnapshot {
    pub(super) routes: ByTable<TableRoutes>,
    pub(super) tables: ByTable<TableDefinition>,
    pub(super) tenants: HashMap<TenantName, Arc<Tenant>>,
    pub(super) revisions: Revisions,
}

impl RoutingSnapshot {
    /// The range of this table that serves this hash; `None` where the plan has a hole, or where its
    /// routes belong to another table that had the same name.
    pub fn route(&self, definition: &TableDefinition, hash: u32) -> Option<&RangeRoute> {
        let routes = self.routes.get(&definition.tenant)?.get(&definition.name)?;
        routes.get(hash).filter(|route| route.table == definition.id)
    }

    /// Whether every hash of this table has a range, so that any item of it can be asked for.
    pub fn covers(&self, definition: &TableDefinition) -> bool {
        let Some(routes) = self.table_routes(&definition.tenant, &definition.name) else { return false };
        let mut next = Some(0);
        for route in routes.iter() {
            if route.table != definition.id || next != Some(route.low) {
                return false;
            }
            next = route.high.checked_add(1);
        }
        next.is_none()
    }

    /// All ranges of a table, in order of hash.
    pub fn table_routes(&self, tenant: &TenantName, table: &TableName) -> Option<&Arc<TableRoutes>> {
        self.routes.get(tenant)?.get(table)
    }

    /// A table by its name.
    pub fn table(&self, tenant: &TenantName, table: &TableName) -> Option<&Arc<TableDefinition>> {
        self.tables.get(tenant)?.get(table)
    }

    /// All tables of a tenant, in no order.
    pub fn tables(&self, tenant: &TenantName) -> impl Iterator<Item = &Arc<TableDefinition>> {
        self.tables.get(tenant).into_iter().flat_map(|tables| tables.values())
    }

    /// A tenant by its name.
    pub fn tenant(&self, tenant: &TenantName) -> Option<&Arc<Tenant>> {
        self.tenants.get(tenant)
    }

    /// All tenants, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// How many ranges are routed.
    pub fn range_count(&self) -> usize {
        self.routes.values().flat_map(|tables| tables.values()).map(|routes| routes.len()).sum()
    }

    /// Where this stands in the coordinator's history.
    pub fn revisions(&self) -> Revisions {
        self.revisions
    }
}

/// Puts something in, copying only its tenant's map where that is shared.
pub(super) fn put<T>(map: &mut ByTable<T>, tenant: &TenantName, table: &TableName, value: Arc<T>) {
    let tables = map.entry(tenant.clone()).or_default();
    Arc::make_mut(tables).insert(table.clone(), value);
}

/// What is there for a table, made where there is nothing, to be changed: copied first where it is shared.
pub(super) fn change<'a, T: Clone + Default>(
    map: &'a mut ByTable<T>,
    tenant: &TenantName,
    table: &TableName,
) -> &'a mut T {
    let tables = Arc::make_mut(map.entry(tenant.clone()).or_default());
    Arc::make_mut(tables.entry(table.clone()).or_default())
}

/// Takes something away; a tenant without any goes, too.
pub(super) fn remove<T>(map: &mut ByTable<T>, tenant: &TenantName, table: &TableName) {
    let Some(tables) = map.get_mut(tenant) else { return };
    if tables.contains_key(table) {
        Arc::make_mut(tables).remove(table);
    }
    if tables.is_empty() {
        map.remove(tenant);
    }
}
