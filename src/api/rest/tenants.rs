//! Tenants: `/v1/tenant` and `/v1/tenant/{tenant}`. Only a principal of the whole cluster makes and
//! deletes them; a principal of a tenant sees its own.
//!
//! ```json
//! {"tenant":"acme","uuid":"0192…","created_at":"2026-01-31T12:00:00Z","rid":"rid:dStore:acme:NA:tenant"}
//! ```
//!
//! A tenant has no definition but its name, so the body of a PUT is empty or `{}`, and a second PUT
//! finds it there (200).

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use serde::Serialize;

use super::asked::Asked;
use super::pages;
use super::parameters::Parameter;
use super::rid;
use super::tables::created_at;
use crate::crypto::cursor::Binding;
use crate::domain::rid::Location;
use crate::domain::table::Tenant;
use crate::domain::{Refusal, TenantName};
use crate::services::ports::Creation;

#[derive(Serialize)]
struct TenantJson<'a> {
    tenant: &'a str,
    uuid: String,
    created_at: String,
    rid: String,
}

impl<'a> TenantJson<'a> {
    fn new(tenant: &'a Tenant, location: &Location) -> Self {
        Self {
            tenant: tenant.name.as_str(),
            uuid: tenant.id.to_string(),
            created_at: created_at(tenant.created_at),
            rid: rid::of_tenant(&tenant.name, location),
        }
    }
}

#[derive(Serialize)]
struct PageJson<'a> {
    tenants: Vec<TenantJson<'a>>,
    cursor: Option<String>,
}

/// The body of a PUT: an object without anything in it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Specification {}

/// Reads a tenant.
///
/// # Errors
/// None; the signature is that of all handlers.
pub fn read(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    Ok(HttpResponse::Ok().json(TenantJson::new(asked.tenant(), &asked.state.location)))
}

/// Lists the tenants that the caller may know of.
///
/// # Errors
/// `BadInput`, and those of the service.
pub async fn list(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let binding = Binding::new(&[b"tenants"]);
    let limit = pages::limit(asked)?;
    let after = pages::after(asked, &binding)?;
    let found = match &asked.caller().tenant {
        None => asked.state.catalog.list_tenants(after.as_deref(), limit + 1).await?,
        Some((id, name)) => {
            let own = asked.state.catalog.tenant(name).filter(|tenant| tenant.id == *id && after.is_none());
            own.map(|tenant| (*tenant).clone()).into_iter().collect()
        }
    };
    let page = pages::named(asked, &binding, limit, found, |tenant| tenant.name.as_str())?;
    let tenants = page.entries.iter().map(|tenant| TenantJson::new(tenant, &asked.state.location)).collect();
    Ok(HttpResponse::Ok().json(PageJson { tenants, cursor: page.cursor }))
}

/// Makes a tenant.
///
/// # Errors
/// `BadInput`, and those of the service.
pub async fn create(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let name = TenantName::new(&asked.parameter(Parameter::Tenant)?)?;
    if !asked.body.trim_ascii().is_empty() {
        let _: Specification = serde_json::from_slice(&asked.body)
            .map_err(|error| Refusal::bad_input(format!("the body of a tenant is empty or {{}}: {error}")))?;
    }
    let (tenant, creation) = asked.state.catalog.create_tenant(asked.caller(), &name).await?;
    let mut answer = match creation {
        Creation::Created => HttpResponse::Created(),
        Creation::Unchanged => HttpResponse::Ok(),
    };
    if creation == Creation::Created {
        answer.insert_header((LOCATION, asked.request.uri().path()));
    }
    Ok(answer.json(TenantJson::new(&tenant, &asked.state.location)))
}

/// Deletes a tenant.
///
/// # Errors
/// `Conflict` where it has tables and `recursive` is not asked for, and those of the service.
pub async fn delete(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let recursive = asked.query.flag("recursive")?;
    let tenant = asked.tenant();
    asked.state.catalog.delete_tenant(asked.caller(), &tenant.name, recursive).await?;
    let gone = rid::of_tenant(&tenant.name, &asked.state.location);
    Ok(HttpResponse::NoContent().insert_header((rid::RID_HEADER, gone)).finish())
}
