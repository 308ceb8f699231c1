//! The service described for programs: OpenAPI 3.1, generated from the route table, so that no route can be
//! missing and none can be invented. It is made once and served from memory.
//!
//! Rejected: attributes on handlers that a macro collects: they can disagree with the router, and the
//! table says all of it already.

use std::sync::OnceLock;

use actix_web::HttpResponse;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::parameters::{Parameter, QUERY_PARAMETERS};
use super::routes::{Endpoint, ROUTES, Route, Segment, Shape};
use crate::api::auth::{Need, capability_name};
use crate::api::error::{KINDS, METHOD_NOT_ALLOWED, PROBLEM_JSON, problem_kind};
use crate::domain::local_index::{INDEX_ATTRIBUTE_BYTES_MAX, LOCAL_INDEXES_MAX, PROJECTED_NAMES_MAX};

/// The document.
pub fn show() -> HttpResponse {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_string().into());
    HttpResponse::Ok().content_type("application/json").body(text.clone())
}

/// The document as JSON.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let mut methods = Map::new();
        for endpoint in route.endpoints {
            methods.insert(endpoint.method.as_str().to_lowercase(), operation(route, endpoint));
        }
        paths.insert(route.template(), Value::Object(methods));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "dStore",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Items are JSON objects in tables of tenants. HEAD is understood wherever GET is.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "responses": {"Problem": problem_response()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWE"}},
        },
    })
}

fn operation(route: &Route, endpoint: &Endpoint) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route, endpoint),
        "summary": endpoint.summary,
        "parameters": parameters(route, endpoint),
        "responses": responses(endpoint),
        "security": if endpoint.need == Need::Nothing { json!([]) } else { json!([{"token": []}]) },
    });
    if let Some(needs) = needs(endpoint.need) {
        operation["description"] = needs.into();
    }
    if !endpoint.media_types.is_empty() {
        let schema = request_schema(endpoint);
        let content: Map<String, Value> = endpoint
            .media_types
            .iter()
            .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema})))
            .collect();
        operation["requestBody"] = json!({"content": content});
    }
    operation
}

/// Unique, because an action on items has one route without sort key and one with.
fn operation_id(route: &Route, endpoint: &Endpoint) -> String {
    let sorted = route.pattern.contains(&Segment::Any(Parameter::Sort));
    let name = format!("{:?}", endpoint.action);
    let (first, rest) = name.split_at(1);
    format!("{}{rest}{}", first.to_lowercase(), if sorted { "WithSortKey" } else { "" })
}

fn needs(need: Need) -> Option<String> {
    match need {
        Need::Nothing => None,
        Need::Anybody => Some("Needs a valid token.".into()),
        Need::Root => Some("Needs a principal of the whole cluster.".into()),
        Need::AnyOf(wanted) => {
            let names: Vec<&str> = wanted.iter().map(|capability| capability_name(*capability)).collect();
            Some(format!("Needs {} in the tenant.", names.join(" or ")))
        }
    }
}

fn parameters(route: &Route, endpoint: &Endpoint) -> Vec<Value> {
    let mut all = Vec::new();
    for segment in route.pattern {
        if let Segment::Any(parameter) = segment {
            all.push(json!({"name": parameter.name(), "in": "path", "required": true,
                "description": parameter.description(), "schema": {"type": "string", "minLength": 1}}));
        }
    }
    for known in QUERY_PARAMETERS.iter().filter(|known| endpoint.query.contains(&known.name)) {
        all.push(json!({"name": known.name, "in": "query", "required": false,
            "description": known.description, "schema": {"type": known.kind}}));
    }
    for name in endpoint.headers {
        all.push(json!({"name": name, "in": "header", "required": false, "schema": {"type": "string"}}));
    }
    all
}

fn request_schema(endpoint: &Endpoint) -> Value {
    use super::routes::Action;
    match endpoint.action {
        Action::CreateTable => json!({"$ref": "#/components/schemas/TableSpecification"}),
        Action::ChangeTable => json!({"$ref": "#/components/schemas/TableChange"}),
        Action::CreateTenant => json!({"type": "object", "additionalProperties": false}),
        _ => json!({"$ref": "#/components/schemas/Item"}),
    }
}

fn responses(endpoint: &Endpoint) -> Value {
    let mut all = Map::new();
    for (status, shape) in endpoint.answers {
        all.insert(status.to_string(), success(*status, *shape));
    }
    for status in endpoint.problems {
        all.insert(status.to_string(), json!({"$ref": "#/components/responses/Problem"}));
    }
    Value::Object(all)
}

fn success(status: u16, shape: Shape) -> Value {
    let mut answer = json!({"description": describe(status, shape)});
    let json_of =
        |name: &str| json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
    let content = match shape {
        Shape::Nothing | Shape::Written => None,
        Shape::Html => Some(json!({"text/html": {"schema": {"type": "string"}}})),
        Shape::OpenApi => Some(json!({"application/json": {"schema": {"type": "object"}}})),
        Shape::Health => Some(json_of("Health")),
        Shape::Item => Some(json_of("Item")),
        Shape::ItemPage => Some(json_of("ItemPage")),
        Shape::ItemOrPage => Some(json!({"application/json": {"schema": {"oneOf": [
            {"$ref": "#/components/schemas/Item"}, {"$ref": "#/components/schemas/ItemPage"}]}}})),
        Shape::Tenant => Some(json_of("Tenant")),
        Shape::TenantPage => Some(json_of("TenantPage")),
        Shape::Table => Some(json_of("Table")),
        Shape::TablePage => Some(json_of("TablePage")),
        Shape::Receipt => Some(json_of("Receipt")),
    };
    if let Some(content) = content {
        answer["content"] = content;
    }
    let header = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let mut headers = Map::new();
    if matches!(shape, Shape::Item | Shape::ItemOrPage | Shape::Written) || status == 304 {
        headers.insert("ETag".into(), header("The item's version."));
        headers.insert("DStore-Rid".into(), header("The RID of the table."));
    }
    if matches!(status, 201 | 202) {
        let what = if status == 201 { "The path of what was made." } else { "The path of the receipt." };
        headers.insert("Location".into(), header(what));
    }
    if !headers.is_empty() {
        answer["headers"] = Value::Object(headers);
    }
    answer
}

fn describe(status: u16, shape: Shape) -> &'static str {
    match (status, shape) {
        (201, _) => "It was created.",
        (202, _) => "It is durable and will be applied; the receipt tells how it ends.",
        (204, _) => "It is gone.",
        (304, _) => "The caller has this version already.",
        (_, Shape::Written) => "It was changed.",
        (_, Shape::Html) => "The page.",
        _ => "As asked.",
    }
}

fn problem_response() -> Value {
    json!({
        "description": "It was not done; `type` tells programs why, `detail` people.",
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    })
}

/// What can be said of a table besides its keys, as a table has it, and as a change does: there null takes it back.
fn options() -> (Vec<(&'static str, Value)>, Vec<(&'static str, Value)>) {
    let name = json!({"type": "string", "minLength": 1, "maxLength": 255,
        "description": "The attribute that holds when an item expires, in seconds since 1970."});
    let units =
        json!({"type": "integer", "minimum": 1, "description": "Units a second; kept and shown, nothing is reserved."});
    let throughput = json!({"type": "object", "required": ["read", "write"],
        "properties": {"read": units, "write": units}, "additionalProperties": false});
    let tag = json!({"type": "string", "maxLength": 256});
    let or_null = |schema: &Value| json!({"oneOf": [schema, {"type": "null"}]});
    let tags = |tag: Value| json!({"type": "object", "additionalProperties": tag, "maxProperties": 50});
    let both = [
        ("table_class", json!({"enum": ["standard", "infrequent-access"]})),
        ("deletion_protection", json!({"type": "boolean", "description": "Whether it cannot be deleted (409)."})),
    ];
    let change =
        [("time_to_live", or_null(&name)), ("throughput", or_null(&throughput)), ("tags", tags(or_null(&tag)))];
    let table = [("time_to_live", name), ("throughput", throughput), ("tags", tags(tag))];
    (table.into_iter().chain(both.clone()).collect(), change.into_iter().chain(both).collect())
}

/// Local indexes of a table.
fn local_indexes(key_type: &Value) -> Value {
    let attribute = json!({"type": "string", "minLength": 1, "maxLength": INDEX_ATTRIBUTE_BYTES_MAX});
    let include = json!({"type": "object", "required": ["include"], "additionalProperties": false,
        "properties": {"include": {"type": "array", "minItems": 1, "maxItems": PROJECTED_NAMES_MAX, "uniqueItems": true, "items": attribute}}});
    let index = json!({
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_.-]{3,255}$"},
        "attribute": attribute, "key_type": key_type,
        "projection": {"default": "all", "oneOf": [{"enum": ["all", "keys-only"]}, include]},
    });
    json!({"type": "array", "maxItems": LOCAL_INDEXES_MAX,
        "description": "Orders of the items of an ID beside that of the sort key; settled when the table is made. The DynamoDB protocol reads by them.",
        "items": {"type": "object", "required": ["name", "attribute", "key_type"], "properties": index, "additionalProperties": false}})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let cursor = json!({"type": ["string", "null"], "description": "For the next page; null on the last."});
    let key_type = json!({"enum": ["String", "Integer", "Bytes"]});
    let key = json!({"type": ["string", "integer"]});
    let types: Vec<String> =
        KINDS.iter().map(|kind| problem_kind(*kind)).chain([METHOD_NOT_ALLOWED]).map(|kind| kind.type_uri()).collect();
    let (options, option_changes) = options();
    let mut specification = json!({
        "id_type": key_type, "id_name": text, "sort_type": key_type, "sort_name": text,
        "replication_factor": {"enum": [1, 3, 5]}, "initial_ranges": {"type": "integer", "minimum": 1, "maximum": 1024},
    });
    let mut change = json!({"replication_factor": {"enum": [1, 3, 5]}});
    for (into, from) in [(&mut specification, options), (&mut change, option_changes)] {
        for (name, schema) in from {
            into[name] = schema;
        }
    }
    specification["local_indexes"] = local_indexes(&key_type);
    let mut table = specification.clone();
    for (name, schema) in [("table", &text), ("tenant", &text), ("uuid", &text), ("created_at", &text), ("rid", &text)]
    {
        table[name] = schema.clone();
    }
    table["version"] = json!({"type": "integer"});
    let page = |name: &str, of: &str| {
        json!({"type": "object", "required": [name, "cursor"], "properties": {
            name: {"type": "array", "items": {"$ref": format!("#/components/schemas/{of}")}}, "cursor": cursor, "rid": text}})
    };
    json!({
        "Item": {"type": "object", "description": "Any JSON object: up to 400 KB, 32 levels, numbers of 38 digits."},
        "ItemEntry": {"type": "object", "required": ["id", "etag", "item"], "properties": {
            "id": key, "sort": key, "etag": text, "item": {"$ref": "#/components/schemas/Item"}}},
        "ItemPage": page("items", "ItemEntry"),
        "TableSpecification": {"type": "object", "required": ["id_type"], "properties": specification, "additionalProperties": false},
        "TableChange": {"type": "object", "properties": change, "additionalProperties": false},
        "Table": {"type": "object", "properties": table},
        "TablePage": page("tables", "Table"),
        "Tenant": {"type": "object", "properties": {"tenant": text, "uuid": text, "created_at": text, "rid": text}},
        "TenantPage": page("tenants", "Tenant"),
        "Receipt": {"type": "object", "required": ["receipt", "state", "rid"], "properties": {
            "receipt": text, "state": {"enum": ["queued", "done", "refused", "lost"]}, "status": {"type": "integer"},
            "etag": text, "problem": {"$ref": "#/components/schemas/Problem"}, "rid": text}},
        "Health": {"type": "object", "properties": {"status": {"enum": ["alive", "ready"]}}},
        "Problem": {"type": "object", "required": ["type", "title", "status", "detail"], "properties": {
            "type": {"enum": types}, "title": text, "status": {"type": "integer"}, "detail": text, "rid": text, "request_id": text}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::Method;
    use std::collections::BTreeSet;

    fn routes() -> BTreeSet<(String, String)> {
        let of = |route: &'static Route| {
            route.endpoints.iter().map(|endpoint| (route.template(), endpoint.method.as_str().to_lowercase()))
        };
        ROUTES.iter().flat_map(of).collect()
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(described, routes());
    }

    #[test]
    fn every_status_is_one_that_is_given() {
        let problems: BTreeSet<u16> = KINDS.iter().map(|kind| problem_kind(*kind).status).collect();
        for endpoint in ROUTES.iter().flat_map(|route| route.endpoints) {
            for status in endpoint.problems {
                assert!(problems.contains(status), "{status} of {:?}", endpoint.action);
            }
            for (status, _) in endpoint.answers {
                assert!([200, 201, 202, 204, 304].contains(status), "{status} of {:?}", endpoint.action);
            }
            let credential = endpoint.need != Need::Nothing;
            assert_eq!(endpoint.problems.contains(&401), credential, "{:?}", endpoint.action);
            let reads_body = !endpoint.media_types.is_empty();
            assert_eq!(endpoint.problems.contains(&413), reads_body, "{:?}", endpoint.action);
            assert!(endpoint.method != Method::GET || !reads_body, "{:?}", endpoint.action);
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.strip_prefix('#').expect("references stay within the document");
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    fields.values().for_each(|field| walk(field, document));
                }
                Value::Array(entries) => entries.iter().for_each(|entry| walk(entry, document)),
                _ => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }

    #[test]
    fn operations_are_named_apart() {
        let names: BTreeSet<String> = ROUTES
            .iter()
            .flat_map(|route| route.endpoints.iter().map(move |endpoint| operation_id(route, endpoint)))
            .collect();
        assert_eq!(names.len(), routes().len());
        assert!(names.contains("putItemWithSortKey"));
    }
}
