//! Where RIDs appear in REST: in the JSON of what describes a resource, and in the header
//! `DStore-Rid` where the body is the item itself or a problem. An item has the RID of its table:
//! its key is data, and RIDs end in logs and grants.

use actix_web::http::header::HeaderName;

use crate::domain::rid::{Location, Resource, Rid};
use crate::domain::{TableName, TenantName};

/// The header that carries the RID where the body cannot.
pub const RID_HEADER: HeaderName = HeaderName::from_static("dstore-rid");

/// The RID of a tenant.
pub fn of_tenant(tenant: &TenantName, location: &Location) -> String {
    Rid { tenant: tenant.clone(), location: location.clone(), resource: Resource::Tenant }.to_string()
}

/// The RID of a table and of all in it.
pub fn of_table(tenant: &TenantName, table: &TableName, location: &Location) -> String {
    let resource = Resource::Table(table.clone());
    Rid { tenant: tenant.clone(), location: location.clone(), resource }.to_string()
}
