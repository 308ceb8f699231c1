//! A request on its way to its handler: what the dispatcher has found out so far. When a handler
//! runs, the caller is known and allowed, the query parameters are among those of its endpoint, and what the
//! endpoint's scope names is there.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use actix_web::HttpRequest;
use bytes::Bytes;

use super::parameters::{Given, Parameter};
use super::rid;
use super::routes::Endpoint;
use super::state::RestState;
use crate::api::path::{Query, decode_segment};
use crate::domain::Refusal;
use crate::domain::table::{TableDefinition, Tenant};
use crate::domain::usage::Cost;
use crate::services::ports::{Caller, Consistency};

/// What the path names and was found.
pub enum Target {
    /// Nothing was looked for.
    Service,
    /// A tenant.
    Tenant(Arc<Tenant>),
    /// A table.
    Table(Arc<TableDefinition>),
}

/// A request on its way to its handler.
pub struct Asked<'a> {
    /// What handlers work with.
    pub state: &'a RestState,
    /// The request itself, for its headers.
    pub request: &'a HttpRequest,
    /// What is to be done.
    pub endpoint: &'static Endpoint,
    /// The parameters in the path.
    pub given: Given<'a>,
    /// The parameters in the query string.
    pub query: Query<'a>,
    /// Who is asking; none where the endpoint needs no credential.
    pub caller: Option<Arc<Caller>>,
    /// What the path names.
    pub target: Target,
    /// The body, where the endpoint takes one.
    pub body: Bytes,
    /// What it cost, as far as it was served.
    pub cost: Cell<Cost>,
}

impl<'a> Asked<'a> {
    /// A parameter of the path, decoded.
    ///
    /// # Errors
    /// `BadInput` where it is empty or cannot be decoded.
    pub fn parameter(&self, parameter: Parameter) -> Result<Cow<'a, str>, Refusal> {
        decode_segment(parameter.name(), self.given.get(parameter).unwrap_or_default())
    }

    /// Who is asking.
    pub fn caller(&self) -> &Arc<Caller> {
        self.caller.as_ref().expect("the dispatcher checks a credential wherever the endpoint needs one")
    }

    /// The table.
    pub fn table(&self) -> &Arc<TableDefinition> {
        match &self.target {
            Target::Table(table) => table,
            _ => unreachable!("the dispatcher finds the table wherever the endpoint's scope is a table"),
        }
    }

    /// The tenant.
    pub fn tenant(&self) -> &Arc<Tenant> {
        match &self.target {
            Target::Tenant(tenant) => tenant,
            _ => unreachable!("the dispatcher finds the tenant wherever the endpoint's scope is a tenant"),
        }
    }

    /// The RID of what was found.
    pub fn rid(&self) -> Option<String> {
        match &self.target {
            Target::Service => None,
            Target::Tenant(tenant) => Some(rid::of_tenant(&tenant.name, &self.state.location)),
            Target::Table(table) => Some(self.table_rid(table)),
        }
    }

    /// The RID of this table.
    pub fn table_rid(&self, table: &TableDefinition) -> String {
        rid::of_table(&table.tenant, &table.name, &self.state.location)
    }

    /// How fresh the answer must be.
    ///
    /// # Errors
    /// `BadInput` for anything but `strong` and `eventual`.
    pub fn consistency(&self) -> Result<Consistency, Refusal> {
        match self.query.get("consistency") {
            None | Some("strong") => Ok(Consistency::Strong),
            Some("eventual") => Ok(Consistency::Eventual),
            Some(_) => Err(Refusal::bad_input("the query parameter consistency is either strong or eventual")),
        }
    }
}
