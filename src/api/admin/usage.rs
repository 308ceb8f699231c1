//! What was used: of everybody for root, of its own tenant for a tenant's admin.
//!
//! Tenants and tables are named, or given by UUID where the name is gone or was given again. What a tenant's admin asks for is cut
//! to its tenant's id, whatever its name meant before.

use uuid::Uuid;

use crate::api::calls::{Answer, ok};
use crate::domain::ids::{TableId, TenantId};
use crate::domain::usage::query::{of_word, span_ms, time_ms};
use crate::domain::{Refusal, TableName, TenantName};
use crate::services::control::{ControlPlane, UsageAsked};
use crate::services::ports::Catalog;

use super::AdminCall;

pub(super) async fn usage(plane: &ControlPlane, call: AdminCall) -> Answer {
    let choice = |name: &str, choices: &str| Refusal::bad_input(format!("{name} is one of {choices}"));
    let time = |name: &str| call.query(name).map(time_ms).transpose();
    let named = call.query("tenant").map(str::to_owned);
    let own = call.caller.tenant.as_ref();
    let (tenant, tenant_name) = match (own, &named) {
        // A name that is another tenant's by now says nothing of its tables.
        (Some((id, name)), _) => (Some(*id), plane.tenant(name).filter(|there| there.id == *id).map(|_| name.clone())),
        (None, Some(named)) => tenant_of(plane, named)?,
        (None, None) => (None, None),
    };
    let asked = UsageAsked {
        from_ms: time("from")?,
        to_ms: time("to")?,
        last_ms: call.query("last").map(span_ms).transpose()?,
        step: call.query("step").map(|word| of_word(word).ok_or_else(|| choice("step", "1m, 1h, 1d"))).transpose()?,
        by: call
            .query("by")
            .map(|word| of_word(word).ok_or_else(|| choice("by", "tenant, table, operation, principal, result")))
            .transpose()?,
        tenant,
        table: call.query("table").map(|table| table_of(plane, tenant_name.as_ref(), table)).transpose()?,
    };
    if asked.from_ms.is_some() && asked.last_ms.is_some() {
        return Err(Refusal::bad_input("give a beginning (from) or a length (last), not both"));
    }
    ok(&plane.usage(asked).await?)
}

/// A tenant by its name, or by its UUID.
fn tenant_of(plane: &ControlPlane, text: &str) -> Result<(Option<TenantId>, Option<TenantName>), Refusal> {
    if let Ok(id) = Uuid::parse_str(text) {
        return Ok((Some(TenantId(id)), None));
    }
    let name = TenantName::new(text)?;
    let tenant = plane.tenant(&name).ok_or_else(|| crate::api::auth::no_tenant(text))?;
    Ok((Some(tenant.id), Some(name)))
}

fn table_of(plane: &ControlPlane, tenant: Option<&TenantName>, text: &str) -> Result<TableId, Refusal> {
    if let Ok(id) = Uuid::parse_str(text) {
        return Ok(TableId(id));
    }
    let tenant =
        tenant.ok_or_else(|| Refusal::bad_input("name the tenant whose table it is, or give the table's UUID"))?;
    let name = TableName::new(text)?;
    let table = plane.table(tenant, &name);
    table.map(|table| table.id).ok_or_else(|| {
        Refusal::not_found(format!(
            "the tenant {tenant} has no table {text}; one that was dropped is asked for by its UUID"
        ))
    })
}
