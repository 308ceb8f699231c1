//! Tables: `/v1/tenant/{tenant}/table` and `…/table/{table}`.
//!
//! ```json
//! {"table":"orders","tenant":"acme","uuid":"0192…","id_type":"String","id_name":"id",
//!  "sort_type":"Integer","sort_name":"sort","replication_factor":1,"initial_ranges":4,
//!  "created_at":"2026-01-31T12:00:00Z","version":1,"rid":"rid:dStore:acme:NA:table:orders"}
//! ```
//!
//! What was said of a table besides its keys follows where it is not the default: `throughput`, `table_class`,
//! `deletion_protection`, `time_to_live`, `tags`, and its `local_indexes`, which are settled when it is made:
//!
//! ```json
//! [{"name":"by-total","attribute":"total","key_type":"Integer","projection":"all"}]
//! ```
//!
//! A projection is `"all"` (where none is said), `"keys-only"`, or `{"include":["name","street"]}`. The order of indexes is
//! part of the definition.
//!
//! The body of a POST changes what can be changed while the table serves: `replication_factor` and those, but for indexes; null
//! takes one back, also a single tag. A table that is protected is not deleted (409).
//!
//! The body of a PUT is the definition: `id_type` must be given; the rest has defaults. The same
//! definition again is 200, another 409: whether they are the same is the catalogue's decision.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use serde::Serialize;

use super::asked::Asked;
use super::pages;
use super::parameters::Parameter;
use super::rid;
use crate::crypto::cursor::Binding;
use crate::domain::rid::Location;
use crate::domain::table::{TableChange, TableDefinition, TableSpecification, check_replication_factor};
use crate::domain::{Refusal, TableName, Timestamp};
use crate::services::ports::Creation;

/// The longest name of a key attribute, in bytes (as in DynamoDB).
const KEY_NAME_BYTES_MAX: usize = 255;
const INITIAL_RANGES_MAX: u16 = 1024;

#[derive(Serialize)]
struct TableJson<'a> {
    table: &'a str,
    tenant: &'a str,
    uuid: String,
    #[serde(flatten)]
    specification: &'a TableSpecification,
    created_at: String,
    version: u64,
    rid: String,
}

impl<'a> TableJson<'a> {
    fn new(table: &'a TableDefinition, location: &Location) -> Self {
        Self {
            table: table.name.as_str(),
            tenant: table.tenant.as_str(),
            uuid: table.id.to_string(),
            specification: &table.specification,
            created_at: created_at(table.created_at),
            version: table.version,
            rid: rid::of_table(&table.tenant, &table.name, location),
        }
    }
}

#[derive(Serialize)]
struct PageJson<'a> {
    tables: Vec<TableJson<'a>>,
    cursor: Option<String>,
    rid: String,
}

/// Reads the definition of a table.
///
/// # Errors
/// None; the signature is that of all handlers.
pub fn read(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    Ok(HttpResponse::Ok().json(TableJson::new(asked.table(), &asked.state.location)))
}

/// Lists the tables of a tenant.
///
/// # Errors
/// `BadInput`, and those of the service.
pub async fn list(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let tenant = asked.tenant();
    let binding = Binding::new(&[b"tables", tenant.id.as_bytes()]);
    let limit = pages::limit(asked)?;
    let after = pages::after(asked, &binding)?;
    let found = asked.state.catalog.list_tables(&tenant.name, after.as_deref(), limit + 1).await?;
    let page = pages::named(asked, &binding, limit, found, |table| table.name.as_str())?;
    let location = &asked.state.location;
    let tables = page.entries.iter().map(|table| TableJson::new(table, location)).collect();
    let rid = rid::of_tenant(&tenant.name, location);
    Ok(HttpResponse::Ok().json(PageJson { tables, cursor: page.cursor, rid }))
}

/// Makes a table.
///
/// # Errors
/// `BadInput`, `Conflict` where there is one of this name with another definition, and those of the
/// service.
pub async fn create(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let name = TableName::new(&asked.parameter(Parameter::Table)?)?;
    let specification: TableSpecification = serde_json::from_slice(&asked.body).map_err(|error| {
        Refusal::bad_input(format!("the body is no definition of a table, such as {{\"id_type\":\"String\"}}: {error}"))
    })?;
    check(&specification)?;
    let (caller, tenant) = (asked.caller(), asked.tenant());
    let (table, creation) = asked.state.catalog.create_table(caller, &tenant.name, &name, specification).await?;
    let mut answer = match creation {
        Creation::Created => HttpResponse::Created(),
        Creation::Unchanged => HttpResponse::Ok(),
    };
    if creation == Creation::Created {
        answer.insert_header((LOCATION, asked.request.uri().path()));
    }
    Ok(answer.json(TableJson::new(&table, &asked.state.location)))
}

/// Changes a table.
///
/// # Errors
/// `BadInput`, `NotFound`, and those of the service.
pub async fn change(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let name = TableName::new(&asked.parameter(Parameter::Table)?)?;
    let no_change = |problem: &dyn std::fmt::Display| {
        Refusal::bad_input(format!("the body is no change of a table, such as {{\"replication_factor\":3}}: {problem}"))
    };
    // An empty array would pass for an object without names.
    if !asked.body.trim_ascii_start().starts_with(b"{") {
        return Err(no_change(&"it is no object"));
    }
    let change: TableChange = serde_json::from_slice(&asked.body).map_err(|error| no_change(&error))?;
    if let Some(factor) = change.replication_factor {
        check_replication_factor(factor)?;
    }
    let table = asked.state.catalog.change_table(asked.caller(), &asked.tenant().name, &name, change).await?;
    Ok(HttpResponse::Ok().json(TableJson::new(&table, &asked.state.location)))
}

/// Deletes a table.
///
/// # Errors
/// `NotFound`, `Conflict` where it is protected, and those of the service.
pub async fn delete(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let name = TableName::new(&asked.parameter(Parameter::Table)?)?;
    let tenant = asked.tenant();
    asked.state.catalog.delete_table(asked.caller(), &tenant.name, &name).await?;
    let gone = rid::of_table(&tenant.name, &name, &asked.state.location);
    Ok(HttpResponse::NoContent().insert_header((rid::RID_HEADER, gone)).finish())
}

/// There is no such table.
pub fn no_table(name: &str) -> Refusal {
    Refusal::not_found(format!("there is no table {:?}", name.chars().take(255).collect::<String>()))
}

/// A time as RFC 3339 in UTC.
pub fn created_at(time: Timestamp) -> String {
    let microseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(microseconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// What holds for every table, whoever keeps the catalogue.
fn check(specification: &TableSpecification) -> Result<(), Refusal> {
    for (what, name) in [("id_name", &specification.id_name), ("sort_name", &specification.sort_name)] {
        if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX {
            return Err(Refusal::bad_input(format!("{what} is 1 to {KEY_NAME_BYTES_MAX} bytes long")));
        }
    }
    if specification.sort_type.is_some() && specification.id_name == specification.sort_name {
        return Err(Refusal::bad_input("id_name and sort_name must differ"));
    }
    if specification.initial_ranges.is_some_and(|ranges| !(1..=INITIAL_RANGES_MAX).contains(&ranges)) {
        return Err(Refusal::bad_input(format!("initial_ranges is 1 to {INITIAL_RANGES_MAX}")));
    }
    if let Some(factor) = specification.replication_factor {
        check_replication_factor(factor)?;
    }
    specification.check_options()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_checked() {
        let check_text = |text: &str| check(&serde_json::from_str(text).unwrap()).is_ok();
        assert!(check_text(r#"{"id_type":"String"}"#));
        assert!(check_text(
            r#"{"id_type":"Bytes","sort_type":"Integer","replication_factor":3,"initial_ranges":1024}"#
        ));
        for bad in [
            r#"{"id_type":"String","id_name":""}"#,
            r#"{"id_type":"String","sort_type":"String","sort_name":"id"}"#,
            r#"{"id_type":"String","replication_factor":2}"#,
            r#"{"id_type":"String","initial_ranges":0}"#,
            r#"{"id_type":"String","time_to_live":""}"#,
            r#"{"id_type":"String","throughput":{"read":0,"write":1}}"#,
            r#"{"id_type":"String","local_indexes":[{"name":"by-total","attribute":"total","key_type":"Integer"}]}"#,
        ] {
            assert!(!check_text(bad), "{bad}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(created_at(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(created_at(Timestamp(1_000_000_000_000_001)), "2001-09-09T01:46:40.000001Z");
        assert!(created_at(Timestamp(u64::MAX)).ends_with('Z'));
    }
}
