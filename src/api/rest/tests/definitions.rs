//! Tenants and tables: made once, listed, deleted with care.

use super::*;
use crate::services::ports::Capability;
use serde_json::{Value, json};

#[tokio::test]
async fn a_tenant_is_made_read_and_deleted() {
    let fixture = Fixture::start().await;
    let path = "/v1/tenant/initech";
    let made = fixture.ask("PUT", path, &[], "").await;
    assert_eq!((made.status, made.header("location")), (201, path));
    let tenant = made.json();
    assert_eq!(tenant["tenant"], "initech");
    assert_eq!(tenant["rid"], "rid:dStore:initech:NA:tenant");
    assert!(tenant["created_at"].as_str().unwrap().starts_with("2026-"));
    let again = fixture.ask("PUT", path, &[], "{}").await;
    assert_eq!((again.status, again.json()), (200, tenant.clone()));
    assert_eq!(fixture.ask("GET", path, &[], "").await.json(), tenant);
    assert_eq!(fixture.ask("PUT", path, &[], r#"{"colour":"red"}"#).await.problem(), "bad-input");
    let gone = fixture.ask("DELETE", path, &[], "").await;
    assert_eq!((gone.status, gone.header("dstore-rid")), (204, "rid:dStore:initech:NA:tenant"));
    assert_eq!(fixture.ask("GET", path, &[], "").await.problem(), "not-found");
    assert_eq!(fixture.ask("DELETE", path, &[], "").await.status, 404);
}

#[tokio::test]
async fn a_tenant_with_tables_goes_only_as_a_whole() {
    let fixture = Fixture::start().await;
    let refused = fixture.ask("DELETE", "/v1/tenant/acme", &[], "").await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "conflict"));
    assert_eq!(fixture.ask("DELETE", "/v1/tenant/acme?recursive=false", &[], "").await.status, 409);
    assert_eq!(fixture.ask("DELETE", "/v1/tenant/acme?recursive=yes", &[], "").await.status, 400);
    assert_eq!(fixture.ask("DELETE", "/v1/tenant/acme?recursive=true", &[], "").await.status, 204);
    assert_eq!(fixture.ask("GET", "/v1/tenant/acme/table/plain", &[], "").await.status, 404);
}

#[tokio::test]
async fn an_old_token_does_not_open_a_tenant_made_again() {
    let fixture = Fixture::start().await;
    let token = fixture.token(Some("acme"), &[Capability::Read]);
    assert_eq!(fixture.ask_as(&token, "GET", "/v1/tenant/acme", &[], "").await.status, 200);
    fixture.ask("DELETE", "/v1/tenant/acme?recursive=true", &[], "").await;
    fixture.ask("PUT", "/v1/tenant/acme", &[], "").await;
    fixture.ask("PUT", "/v1/tenant/acme/table/plain", &[], r#"{"id_type":"String"}"#).await;
    for path in
        ["/v1/tenant/acme", "/v1/tenant/acme/table", "/v1/tenant/acme/table/plain", "/v1/tenant/acme/table/other"]
    {
        let answer = fixture.ask_as(&token, "GET", path, &[], "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "not-found"), "{path}");
    }
    assert_eq!(fixture.ask_as(&token, "GET", "/v1/tenant", &[], "").await.json()["tenants"], json!([]));
}

#[tokio::test]
async fn a_table_is_made_read_and_deleted() {
    let fixture = Fixture::start().await;
    let path = "/v1/tenant/acme/table/orders";
    let body = r#"{"id_type":"Bytes","sort_type":"Integer","sort_name":"when","initial_ranges":4}"#;
    let made = fixture.ask("PUT", path, &[], body).await;
    assert_eq!((made.status, made.header("location")), (201, path));
    let table = made.json();
    let expected = [
        ("table", json!("orders")),
        ("tenant", json!("acme")),
        ("id_type", json!("Bytes")),
        ("id_name", json!("id")),
        ("sort_type", json!("Integer")),
        ("sort_name", json!("when")),
        ("initial_ranges", json!(4)),
        ("rid", json!("rid:dStore:acme:NA:table:orders")),
    ];
    for (name, value) in expected {
        assert_eq!(table[name], value, "{name}");
    }
    let again = fixture.ask("PUT", path, &[], body).await;
    assert_eq!((again.status, again.json()), (200, table.clone()));
    let other = fixture.ask("PUT", path, &[], r#"{"id_type":"String"}"#).await;
    assert_eq!((other.status, other.problem().as_str()), (409, "conflict"));
    assert_eq!(fixture.ask("GET", path, &[], "").await.json(), table);
    let gone = fixture.ask("DELETE", path, &[], "").await;
    assert_eq!((gone.status, gone.header("dstore-rid")), (204, "rid:dStore:acme:NA:table:orders"));
    for (method, path) in [("GET", path), ("DELETE", path), ("GET", "/v1/tenant/acme/table/orders/id/a")] {
        assert_eq!(fixture.ask(method, path, &[], "").await.problem(), "not-found", "{method} {path}");
    }
}

#[tokio::test]
async fn the_number_of_copies_is_changed_while_a_table_serves() {
    let fixture = Fixture::start().await;
    let path = "/v1/tenant/acme/table/plain";
    let before = fixture.ask("GET", path, &[], "").await.json();
    let changed = fixture.ask("POST", path, &[], r#"{"replication_factor":5}"#).await;
    assert_eq!(changed.status, 200);
    let changed = changed.json();
    assert_eq!((&changed["replication_factor"], &changed["uuid"]), (&json!(5), &before["uuid"]));
    assert_eq!(changed["version"], before["version"].as_u64().unwrap() + 1);
    assert_eq!(fixture.ask("GET", path, &[], "").await.json(), changed);
    for body in [r#"{"replication_factor":4}"#, r#"{"id_type":"Bytes"}"#, "[]", ""] {
        assert_eq!(fixture.ask("POST", path, &[], body).await.problem(), "bad-input", "{body}");
    }
    assert_eq!(fixture.ask("POST", "/v1/tenant/acme/table/none", &[], "{}").await.problem(), "not-found");
    let reader = fixture.token(Some("acme"), &[Capability::Read, Capability::Write]);
    assert_eq!(fixture.ask_as(&reader, "POST", path, &[], "{}").await.status, 403);
}

#[tokio::test]
async fn options_of_a_table_are_shown_changed_and_held() {
    let fixture = Fixture::start().await;
    let path = "/v1/tenant/acme/table/orders";
    let body = r#"{"id_type":"String","time_to_live":"until","deletion_protection":true,"tags":{"team":"blue"}}"#;
    let made = fixture.ask("PUT", path, &[], body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let table = made.json();
    assert_eq!((&table["time_to_live"], &table["deletion_protection"]), (&json!("until"), &json!(true)));
    assert_eq!((&table["tags"], &table["throughput"]), (&json!({"team": "blue"}), &Value::Null));
    assert_eq!(fixture.ask("PUT", path, &[], body).await.status, 200);
    let refused = fixture.ask("DELETE", path, &[], "").await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "conflict"));
    let change =
        r#"{"time_to_live":null,"deletion_protection":false,"tags":{"team":null},"throughput":{"read":1,"write":2}}"#;
    let changed = fixture.ask("POST", path, &[], change).await.json();
    assert_eq!((&changed["time_to_live"], &changed["tags"]), (&Value::Null, &Value::Null));
    assert_eq!(changed["throughput"], json!({"read": 1, "write": 2}));
    for bad in [r#"{"time_to_live":""}"#, r#"{"tags":{"":"x"}}"#, r#"{"tags":{"x":1}}"#, r#"{"throughput":{"read":1}}"#]
    {
        assert_eq!(fixture.ask("POST", path, &[], bad).await.problem(), "bad-input", "{bad}");
    }
    assert_eq!(fixture.ask("DELETE", path, &[], "").await.status, 204);
}

#[tokio::test]
async fn local_indexes_are_part_of_the_definition() {
    let fixture = Fixture::start().await;
    let path = "/v1/tenant/acme/table/orders";
    let sorted = |indexes: &str| format!(r#"{{"id_type":"String","sort_type":"Integer","local_indexes":[{indexes}]}}"#);
    let by_total = r#"{"name":"by-total","attribute":"total","key_type":"Integer"}"#;
    let by_name =
        r#"{"name":"by-name","attribute":"name","key_type":"String","projection":{"include":["street","town"]}}"#;
    let both = sorted(&format!("{by_total},{by_name}"));
    let made = fixture.ask("PUT", path, &[], &both).await;
    assert_eq!(made.status, 201, "{made:?}");
    let table = made.json();
    let shown = json!([
        {"name": "by-total", "attribute": "total", "key_type": "Integer", "projection": "all"},
        {"name": "by-name", "attribute": "name", "key_type": "String", "projection": {"include": ["street", "town"]}},
    ]);
    assert_eq!(table["local_indexes"], shown);
    assert_eq!(fixture.ask("GET", path, &[], "").await.json(), table);
    let again = fixture.ask("PUT", path, &[], &both).await;
    assert_eq!((again.status, again.json()), (200, table));
    let others =
        [sorted(""), sorted(by_total), sorted(&format!("{by_name},{by_total}")), both.replace("street", "road")];
    for other in others {
        let refused = fixture.ask("PUT", path, &[], &other).await;
        assert_eq!((refused.status, refused.problem().as_str()), (409, "conflict"), "{other}");
    }
    let change = fixture.ask("POST", path, &[], r#"{"local_indexes":[]}"#).await;
    assert_eq!((change.status, change.problem().as_str()), (400, "bad-input"), "an index cannot be changed");
    let none = fixture.ask("PUT", "/v1/tenant/acme/table/others", &[], &sorted("")).await;
    assert_eq!((none.status, &none.json()["local_indexes"]), (201, &Value::Null));
    let unsorted = format!(r#"{{"id_type":"String","local_indexes":[{by_total}]}}"#);
    let twice = sorted(&format!("{by_total},{by_total}"));
    let of_a_key = sorted(&by_total.replace(r#""total""#, r#""sort""#));
    let unknown = sorted(&by_total.replace("Integer", "Text"));
    let short = sorted(&by_total.replace("by-total", "ab"));
    for bad in [unsorted, twice, of_a_key, unknown, short, sorted("{}")] {
        let refused = fixture.ask("PUT", "/v1/tenant/acme/table/bad", &[], &bad).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-input"), "{bad}");
    }
}

#[tokio::test]
async fn definitions_that_make_no_table_are_refused() {
    let fixture = Fixture::start().await;
    let path = "/v1/tenant/acme/table/orders";
    for body in [
        "{}",
        "[]",
        r#"{"id_type":"Text"}"#,
        r#"{"id_type":"String","colour":"red"}"#,
        r#"{"id_type":"String","replication_factor":2}"#,
        r#"{"id_type":"String","initial_ranges":0}"#,
    ] {
        let answer = fixture.ask("PUT", path, &[], body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-input"), "{body}");
    }
    let answer = fixture.ask("PUT", path, &[], "{\n  \"id_type\": String}").await;
    assert!(answer.json()["detail"].as_str().unwrap().contains("line 2 column 14"), "{answer:?}");
    for name in ["ab", "a%20b", "t%C3%A4ble"] {
        let answer = fixture.ask("PUT", &format!("/v1/tenant/acme/table/{name}"), &[], r#"{"id_type":"String"}"#).await;
        assert_eq!(answer.status, 400, "{name}");
    }
    assert_eq!(fixture.ask("PUT", "/v1/tenant/Acme", &[], "").await.status, 400);
    let nowhere = fixture.ask("PUT", "/v1/tenant/nowhere/table/orders", &[], r#"{"id_type":"String"}"#).await;
    assert_eq!(nowhere.status, 404);
}

#[tokio::test]
async fn names_are_listed_in_pages() {
    let fixture = Fixture::start().await;
    for number in 0..5 {
        fixture.ask("PUT", &format!("/v1/tenant/t{number}"), &[], "").await;
        let table = format!("/v1/tenant/acme/table/t-{number}");
        fixture.ask("PUT", &table, &[], r#"{"id_type":"String"}"#).await;
    }
    for (path, entries, name, expected) in [
        ("/v1/tenant", "tenants", "tenant", vec!["acme", "globex", "t0", "t1", "t2", "t3", "t4"]),
        ("/v1/tenant/acme/table", "tables", "table", vec!["plain", "sorted", "t-0", "t-1", "t-2", "t-3", "t-4"]),
    ] {
        let (mut found, mut cursor): (Vec<String>, String) = (Vec::new(), String::new());
        loop {
            let page = fixture.ask("GET", &format!("{path}?limit=3{cursor}"), &[], "").await.json();
            let names = page[entries].as_array().unwrap().iter().map(|entry| entry[name].as_str().unwrap().to_owned());
            found.extend(names);
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "{path}");
    }
    let own = fixture.token(Some("globex"), &[]);
    let seen: Value = fixture.ask_as(&own, "GET", "/v1/tenant", &[], "").await.json();
    assert_eq!(seen["tenants"].as_array().unwrap().len(), 1);
    assert_eq!(seen["tenants"][0]["tenant"], "globex");
}
