//! The route table: every path, method, need, parameter and answer of REST, as data. The dispatcher
//! walks it to find what to do, the OpenAPI document is generated from it, and tests walk it to try
//! each route with a foreign credential and each documented status against the table of problems. A
//! route that is not here cannot be reached, and one that is here cannot be undocumented.
//!
//! Matching is a walk over a dozen patterns that compares lengths first; items stand first. It
//! costs less than hashing the path would. Literals are compared as they are spelled: `/v1/t%65nant`
//! is not `/v1/tenant`, so no intermediary can disagree with us about what a path means.

use actix_web::http::Method;

use super::parameters::{Given, Parameter};
use crate::api::auth::Need;
use crate::api::path::RawPath;
use crate::services::ports::Capability;

/// One segment of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text.
    Literal(&'static str),
    /// Anything, taken as this.
    Any(Parameter),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are those of the endpoints' summaries.
pub enum Action {
    ShowStartPage,
    ShowOpenApi,
    TellAlive,
    TellReady,
    ListTenants,
    ReadTenant,
    CreateTenant,
    DeleteTenant,
    ListTables,
    ReadTable,
    CreateTable,
    ChangeTable,
    DeleteTable,
    ListItems,
    ReadItem,
    PutItem,
    MergeItem,
    DeleteItem,
    ReadReceipt,
}

/// What the path names that must be there before the handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nothing.
    Service,
    /// The tenant.
    Tenant,
    /// The tenant and its table.
    Table,
}

/// The shapes of bodies, as the OpenAPI document names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each is described by its schema.
pub enum Shape {
    Nothing,
    Html,
    OpenApi,
    Health,
    Item,
    ItemOrPage,
    ItemPage,
    Tenant,
    TenantPage,
    Table,
    TablePage,
    Written,
    Receipt,
}

/// One method of one path.
#[derive(Debug)]
pub struct Endpoint {
    /// The method. HEAD is understood wherever GET is.
    pub method: Method,
    /// What is to be done.
    pub action: Action,
    /// One line for people.
    pub summary: &'static str,
    /// What the caller must have.
    pub need: Need,
    /// What must be there.
    pub scope: Scope,
    /// The query parameters that are known; any other is an error.
    pub query: &'static [&'static str],
    /// The media types of the body; none where no body is read.
    pub media_types: &'static [&'static str],
    /// Request headers that are looked at.
    pub headers: &'static [&'static str],
    /// Statuses of success, with the shape of the body.
    pub answers: &'static [(u16, Shape)],
    /// Statuses of problems.
    pub problems: &'static [u16],
}

/// One path with its methods.
#[derive(Debug)]
pub struct Route {
    /// The segments.
    pub pattern: &'static [Segment],
    /// What can be asked.
    pub endpoints: &'static [Endpoint],
}

impl Route {
    /// The path as OpenAPI writes it: `/v1/tenant/{tenant}`.
    pub fn template(&self) -> String {
        let one = |segment: &Segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Any(parameter) => format!("/{{{}}}", parameter.name()),
        };
        self.pattern.iter().map(one).collect()
    }

    /// The methods, as the header `Allow` lists them.
    pub fn allow(&self) -> String {
        let mut methods: Vec<&str> = Vec::new();
        for endpoint in self.endpoints {
            methods.push(endpoint.method.as_str());
            if endpoint.method == Method::GET {
                methods.push("HEAD");
            }
        }
        methods.join(", ")
    }

    /// The endpoint for this method.
    pub fn endpoint(&self, method: &Method) -> Option<&'static Endpoint> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.endpoints.iter().find(|endpoint| endpoint.method == *method)
    }
}

/// The route of this path, and what stood for its parameters.
pub fn find<'a>(path: &RawPath<'a>) -> Option<(&'static Route, Given<'a>)> {
    let segments = path.segments();
    ROUTES.iter().find_map(|route| {
        if route.pattern.len() != segments.len() {
            return None;
        }
        let mut given = Given::default();
        for (wanted, segment) in route.pattern.iter().zip(segments) {
            match wanted {
                Segment::Literal(text) if text == segment => {}
                Segment::Literal(_) => return None,
                Segment::Any(parameter) => given.set(*parameter, segment),
            }
        }
        Some((route, given))
    })
}

const JSON: &[&str] = &["application/json"];
const MERGE: &[&str] = &["application/json", "application/merge-patch+json"];
const READ: Need = Need::AnyOf(&[Capability::Read]);
const WRITE: Need = Need::AnyOf(&[Capability::Write]);
const ADMIN: Need = Need::AnyOf(&[Capability::Admin]);
const MEMBER: Need = Need::AnyOf(&[Capability::Read, Capability::Write, Capability::Admin]);
const READ_OR_WRITE: Need = Need::AnyOf(&[Capability::Read, Capability::Write]);

const READ_PROBLEMS: &[u16] = &[400, 401, 403, 404, 421, 429, 500, 503];
const ITEM_READ_PROBLEMS: &[u16] = &[400, 401, 403, 404, 412, 421, 429, 500, 503];
const ITEM_WRITE_PROBLEMS: &[u16] = &[400, 401, 403, 404, 408, 412, 413, 415, 421, 422, 429, 500, 503, 504, 507];
const ITEM_DELETE_PROBLEMS: &[u16] = &[400, 401, 403, 404, 412, 421, 422, 429, 500, 503, 504];
const CREATE_PROBLEMS: &[u16] = &[400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 503, 504];
const DELETE_PROBLEMS: &[u16] = &[400, 401, 403, 404, 409, 429, 500, 503, 504];

/// What all endpoints have unless they say otherwise.
const PLAIN: Endpoint = Endpoint {
    method: Method::GET,
    action: Action::ShowStartPage,
    summary: "",
    need: Need::Nothing,
    scope: Scope::Service,
    query: &[],
    media_types: &[],
    headers: &[],
    answers: &[],
    problems: &[],
};

const READ_ITEM: Endpoint = Endpoint {
    action: Action::ReadItem,
    summary: "Reads an item",
    need: READ,
    scope: Scope::Table,
    query: &["consistency"],
    headers: &["If-Match", "If-None-Match"],
    answers: &[(200, Shape::Item), (304, Shape::Nothing)],
    problems: ITEM_READ_PROBLEMS,
    ..PLAIN
};

const READ_OR_QUERY: Endpoint = Endpoint {
    summary: "Reads an item; on a table with a sort key: lists the items of this ID in its order",
    query: &["consistency", "sort_prefix", "sort_from", "sort_to", "limit", "cursor", "descending"],
    answers: &[(200, Shape::ItemOrPage), (304, Shape::Nothing)],
    ..READ_ITEM
};

const PUT_ITEM: Endpoint = Endpoint {
    method: Method::PUT,
    action: Action::PutItem,
    summary: "Creates an item or replaces it",
    need: WRITE,
    scope: Scope::Table,
    media_types: JSON,
    headers: &["If-Match", "If-None-Match", "Idempotency-Key", "Prefer"],
    answers: &[(200, Shape::Written), (201, Shape::Written), (202, Shape::Receipt)],
    problems: ITEM_WRITE_PROBLEMS,
    ..PLAIN
};

const MERGE_ITEM: Endpoint = Endpoint {
    method: Method::POST,
    action: Action::MergeItem,
    summary: "Merges the body into an item that is there (JSON merge patch, RFC 7396)",
    media_types: MERGE,
    answers: &[(200, Shape::Written), (202, Shape::Receipt)],
    ..PUT_ITEM
};

const DELETE_ITEM: Endpoint = Endpoint {
    method: Method::DELETE,
    action: Action::DeleteItem,
    summary: "Deletes an item",
    media_types: &[],
    answers: &[(202, Shape::Receipt), (204, Shape::Nothing)],
    problems: ITEM_DELETE_PROBLEMS,
    ..PUT_ITEM
};

const LIST_ITEMS: Endpoint = Endpoint {
    action: Action::ListItems,
    summary: "Lists the items of a table, in the order of their IDs' hashes",
    need: READ,
    scope: Scope::Table,
    query: &["limit", "cursor", "consistency"],
    answers: &[(200, Shape::ItemPage)],
    problems: READ_PROBLEMS,
    ..PLAIN
};

const READ_RECEIPT: Endpoint = Endpoint {
    action: Action::ReadReceipt,
    summary: "Tells what became of a write that was answered with 202",
    need: READ_OR_WRITE,
    scope: Scope::Table,
    answers: &[(200, Shape::Receipt)],
    problems: READ_PROBLEMS,
    ..PLAIN
};

const READ_TABLE: Endpoint = Endpoint {
    action: Action::ReadTable,
    summary: "Reads the definition of a table",
    need: MEMBER,
    scope: Scope::Table,
    answers: &[(200, Shape::Table)],
    problems: READ_PROBLEMS,
    ..PLAIN
};

const CREATE_TABLE: Endpoint = Endpoint {
    method: Method::PUT,
    action: Action::CreateTable,
    summary: "Creates a table; the same definition again changes nothing",
    need: ADMIN,
    scope: Scope::Tenant,
    media_types: JSON,
    answers: &[(200, Shape::Table), (201, Shape::Table)],
    problems: CREATE_PROBLEMS,
    ..PLAIN
};

const CHANGE_TABLE: Endpoint = Endpoint {
    method: Method::POST,
    action: Action::ChangeTable,
    summary: "Changes a table while it serves: how many replicas its ranges have, when items expire, and so on",
    need: ADMIN,
    scope: Scope::Tenant,
    media_types: JSON,
    answers: &[(200, Shape::Table)],
    problems: CREATE_PROBLEMS,
    ..PLAIN
};

const DELETE_TABLE: Endpoint = Endpoint {
    method: Method::DELETE,
    action: Action::DeleteTable,
    summary: "Deletes a table, unless it is protected; it can be brought back for seven days",
    need: ADMIN,
    scope: Scope::Tenant,
    answers: &[(204, Shape::Nothing)],
    problems: DELETE_PROBLEMS,
    ..PLAIN
};

const LIST_TABLES: Endpoint = Endpoint {
    action: Action::ListTables,
    summary: "Lists the tables of a tenant by name",
    need: MEMBER,
    scope: Scope::Tenant,
    query: &["limit", "cursor"],
    answers: &[(200, Shape::TablePage)],
    problems: READ_PROBLEMS,
    ..PLAIN
};

const READ_TENANT: Endpoint = Endpoint {
    action: Action::ReadTenant,
    summary: "Reads a tenant",
    need: MEMBER,
    scope: Scope::Tenant,
    answers: &[(200, Shape::Tenant)],
    problems: READ_PROBLEMS,
    ..PLAIN
};

const CREATE_TENANT: Endpoint = Endpoint {
    method: Method::PUT,
    action: Action::CreateTenant,
    summary: "Creates a tenant; again changes nothing",
    need: Need::Root,
    media_types: JSON,
    answers: &[(200, Shape::Tenant), (201, Shape::Tenant)],
    problems: CREATE_PROBLEMS,
    ..PLAIN
};

const DELETE_TENANT: Endpoint = Endpoint {
    method: Method::DELETE,
    action: Action::DeleteTenant,
    summary: "Deletes a tenant; its keys are destroyed at once",
    need: Need::Root,
    scope: Scope::Tenant,
    query: &["recursive"],
    answers: &[(204, Shape::Nothing)],
    problems: DELETE_PROBLEMS,
    ..PLAIN
};

const LIST_TENANTS: Endpoint = Endpoint {
    action: Action::ListTenants,
    summary: "Lists tenants by name; a principal of a tenant sees its own",
    need: Need::Anybody,
    query: &["limit", "cursor"],
    answers: &[(200, Shape::TenantPage)],
    problems: &[400, 401, 429, 500, 503],
    ..PLAIN
};

const TELL_ALIVE: Endpoint = Endpoint {
    action: Action::TellAlive,
    summary: "Tells that the process is alive",
    answers: &[(200, Shape::Health)],
    problems: &[400],
    ..PLAIN
};

const TELL_READY: Endpoint = Endpoint {
    action: Action::TellReady,
    summary: "Tells whether requests can be served",
    answers: &[(200, Shape::Health)],
    problems: &[400, 503],
    ..PLAIN
};

const SHOW_OPEN_API: Endpoint = Endpoint {
    action: Action::ShowOpenApi,
    summary: "This document",
    answers: &[(200, Shape::OpenApi)],
    problems: &[400],
    ..PLAIN
};

const SHOW_START_PAGE: Endpoint = Endpoint {
    action: Action::ShowStartPage,
    summary: "A page that says what this is",
    answers: &[(200, Shape::Html)],
    problems: &[400],
    ..PLAIN
};

use Parameter::{Id, Receipt, Sort, Table, Tenant};
use Segment::{Any as A, Literal as L};

/// Every route. Those asked most stand first.
#[rustfmt::skip] // One route a line reads as a table.
pub static ROUTES: &[Route] = &[
    Route { pattern: &[L("v1"), L("tenant"), A(Tenant), L("table"), A(Table), L("id"), A(Id)], endpoints: &[READ_OR_QUERY, PUT_ITEM, MERGE_ITEM, DELETE_ITEM] },
    Route { pattern: &[L("v1"), L("tenant"), A(Tenant), L("table"), A(Table), L("id"), A(Id), L("sort"), A(Sort)], endpoints: &[READ_ITEM, PUT_ITEM, MERGE_ITEM, DELETE_ITEM] },
    Route { pattern: &[L("v1"), L("tenant"), A(Tenant), L("table"), A(Table), L("id")], endpoints: &[LIST_ITEMS] },
    Route { pattern: &[L("v1"), L("tenant"), A(Tenant), L("table"), A(Table), L("receipt"), A(Receipt)], endpoints: &[READ_RECEIPT] },
    Route { pattern: &[L("v1"), L("tenant"), A(Tenant), L("table"), A(Table)], endpoints: &[READ_TABLE, CREATE_TABLE, CHANGE_TABLE, DELETE_TABLE] },
    Route { pattern: &[L("v1"), L("tenant"), A(Tenant), L("table")], endpoints: &[LIST_TABLES] },
    Route { pattern: &[L("v1"), L("tenant"), A(Tenant)], endpoints: &[READ_TENANT, CREATE_TENANT, DELETE_TENANT] },
    Route { pattern: &[L("v1"), L("tenant")], endpoints: &[LIST_TENANTS] },
    Route { pattern: &[L("healthz")], endpoints: &[TELL_ALIVE] },
    Route { pattern: &[L("readyz")], endpoints: &[TELL_READY] },
    Route { pattern: &[L("v1"), L("openapi.json")], endpoints: &[SHOW_OPEN_API] },
    Route { pattern: &[L("")], endpoints: &[SHOW_START_PAGE] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn found(path: &str) -> Option<(String, Given<'_>)> {
        let (route, given) = find(&RawPath::cut(path)?)?;
        Some((route.template(), given))
    }

    #[test]
    fn paths_find_their_routes() {
        let (template, given) = found("/v1/tenant/acme/table/orders/id/a%2Fb").unwrap();
        assert_eq!(template, "/v1/tenant/{tenant}/table/{table}/id/{id}");
        assert_eq!((given.get(Tenant), given.get(Id), given.get(Sort)), (Some("acme"), Some("a%2Fb"), None));
        assert_eq!(found("/").unwrap().0, "/");
        assert_eq!(found("/v1/tenant/id/table/table/id/id/sort/sort").unwrap().1.get(Sort), Some("sort"));
        for path in [
            "/v1",
            "/v2/tenant",
            "/v1/tenant/a/table/b/id/c/",
            "/v1/t%65nant",
            "//v1/tenant",
            "/admin/v1/tenant",
            "/inside/v1/x",
        ] {
            assert!(found(path).is_none(), "{path}");
        }
    }

    #[test]
    fn no_path_and_no_method_stands_twice() {
        let templates: HashSet<String> = ROUTES.iter().map(Route::template).collect();
        assert_eq!(templates.len(), ROUTES.len());
        for route in ROUTES {
            let methods: HashSet<&Method> = route.endpoints.iter().map(|endpoint| &endpoint.method).collect();
            assert_eq!(methods.len(), route.endpoints.len(), "{}", route.template());
        }
    }

    #[test]
    fn what_names_a_tenant_needs_a_credential() {
        for route in ROUTES {
            let named = route.pattern.contains(&A(Tenant));
            for endpoint in route.endpoints {
                assert!(!named || endpoint.need != Need::Nothing, "{}", route.template());
                assert!(endpoint.scope != Scope::Table || route.pattern.contains(&A(Table)), "{}", route.template());
            }
        }
    }

    #[test]
    fn head_is_understood_wherever_get_is() {
        for route in ROUTES {
            assert_eq!(route.endpoint(&Method::HEAD).is_some(), route.allow().contains("HEAD"));
        }
        assert_eq!(ROUTES[0].allow(), "GET, HEAD, PUT, POST, DELETE");
    }
}
