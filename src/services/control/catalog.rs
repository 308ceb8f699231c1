//! [`Catalog`] by the control plane itself: what the REST API calls in `dstore dev` and in control.
//! A proxy in another process has the same trait over the inside API.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::table::{TableChange, TableDefinition, TableSpecification, Tenant};
use crate::domain::{Refusal, TableName, TenantName};
use crate::services::ports::{Caller, Catalog, Creation};

use super::plane::ControlPlane;

#[async_trait]
impl Catalog for ControlPlane {
    fn table(&self, tenant: &TenantName, table: &TableName) -> Option<Arc<TableDefinition>> {
        self.view.table(tenant, table)
    }

    fn tenant(&self, tenant: &TenantName) -> Option<Arc<Tenant>> {
        self.view.tenant(tenant)
    }

    async fn list_tenants(&self, after: Option<&str>, limit: usize) -> Result<Vec<Tenant>, Refusal> {
        self.tenant_list(after, limit).await
    }

    async fn list_tables(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TableDefinition>, Refusal> {
        self.table_list(tenant, after, limit).await
    }

    async fn create_tenant(&self, caller: &Caller, tenant: &TenantName) -> Result<(Tenant, Creation), Refusal> {
        self.tenant_create(caller, tenant).await
    }

    async fn delete_tenant(&self, caller: &Caller, tenant: &TenantName, recursive: bool) -> Result<(), Refusal> {
        self.tenant_delete(caller, tenant, recursive).await
    }

    async fn create_table(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        specification: TableSpecification,
    ) -> Result<(TableDefinition, Creation), Refusal> {
        self.table_create(caller, tenant, table, specification).await
    }

    async fn change_table(
        &self,
        caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        change: TableChange,
    ) -> Result<TableDefinition, Refusal> {
        self.table_change(caller, tenant, table, change).await
    }

    async fn delete_table(&self, caller: &Caller, tenant: &TenantName, table: &TableName) -> Result<(), Refusal> {
        self.table_delete(caller, tenant, table).await
    }
}
