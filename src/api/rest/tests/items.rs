//! Items: what is written is read, conditions hold, and nothing is done twice.

use std::sync::atomic::Ordering;

use super::*;
use serde_json::json;

#[tokio::test]
async fn an_item_is_created_read_replaced_merged_and_deleted() {
    let fixture = Fixture::start().await;
    let created = put(&fixture, "a", r#"{"n":1,"s":{"t":[true,null]}}"#).await;
    assert_eq!((created.status, created.text.as_str()), (201, ""));
    assert_eq!(created.header("location"), "/v1/tenant/acme/table/plain/id/a");
    assert_eq!(created.header("dstore-rid"), "rid:dStore:acme:NA:table:plain");
    let read = get(&fixture, "a").await;
    assert_eq!((read.status, read.header("content-type")), (200, "application/json"));
    assert_eq!(read.json(), json!({"n":1,"s":{"t":[true,null]}}));
    assert_eq!(read.header("etag"), created.header("etag"));
    assert_eq!(read.header("dstore-rid"), "rid:dStore:acme:NA:table:plain");
    let replaced = put(&fixture, "a", r#"{"m":2}"#).await;
    assert_eq!((replaced.status, replaced.header("location")), (200, ""));
    assert_ne!(replaced.header("etag"), created.header("etag"));
    for media_type in ["application/merge-patch+json", "application/json"] {
        let patch = r#"{"m":null,"k":{"x":1}}"#;
        let merged = fixture.ask("POST", &format!("{PLAIN}a"), &[("content-type", media_type)], patch).await;
        assert_eq!(merged.status, 200, "{merged:?}");
    }
    assert_eq!(get(&fixture, "a").await.json(), json!({"k":{"x":1}}));
    let deleted = fixture.ask("DELETE", &format!("{PLAIN}a"), &[], "").await;
    assert_eq!((deleted.status, deleted.header("etag")), (204, ""));
    assert_eq!(get(&fixture, "a").await.problem(), "not-found");
    let again = fixture.ask("DELETE", &format!("{PLAIN}a"), &[], "").await;
    assert_eq!(again.status, 404);
    let nothing = fixture.ask("POST", &format!("{PLAIN}a"), &[], "{}").await;
    assert_eq!((nothing.status, nothing.header("dstore-rid")), (404, "rid:dStore:acme:NA:table:plain"));
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let fixture = Fixture::start().await;
    put(&fixture, "a", r#"{"n":1}"#).await;
    let head = fixture.ask("HEAD", &format!("{PLAIN}a"), &[], "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get(&fixture, "a").await.text.len().to_string());
    assert_eq!(fixture.ask("HEAD", &format!("{PLAIN}b"), &[], "").await.status, 404);
}

#[tokio::test]
async fn ids_hold_any_character() {
    let fixture = Fixture::start().await;
    let ids =
        ["a%2Fb", "a%252Fb", "a+b", "a%2Bb%20c", "100%25", "%C3%A4", "...", "%00", "id", "%3Fx=1%23y", "%22%5C%0A"];
    let mut expected: Vec<String> = Vec::new();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(put(&fixture, id, &format!(r#"{{"number":{number}}}"#)).await.status, 201, "{id}");
    }
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(get(&fixture, id).await.json(), json!({"number": number}), "{id}");
        let raw = crate::api::path::decode_segment("id", id).unwrap().into_owned();
        expected.push(raw);
    }
    let listed = fixture.ask("GET", "/v1/tenant/acme/table/plain/id", &[], "").await.json();
    let mut found: Vec<String> =
        listed["items"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn integers_and_bytes_are_ids_too() {
    let fixture = Fixture::start().await;
    let table = |name: &str| format!("/v1/tenant/acme/table/{name}");
    for (name, id_type) in [("numbers", "Integer"), ("blobs", "Bytes")] {
        let body = format!(r#"{{"id_type":"{id_type}"}}"#);
        assert_eq!(fixture.ask("PUT", &table(name), &[], &body).await.status, 201);
    }
    let path = |name: &str, id: &str| format!("{}/id/{id}", table(name));
    assert_eq!(fixture.ask("PUT", &path("numbers", "007"), &[], r#"{"id":7.0}"#).await.status, 201);
    assert_eq!(fixture.ask("PUT", &path("numbers", "7"), &[], r#"{"id":7}"#).await.status, 200);
    assert_eq!(fixture.ask("GET", &path("numbers", "-7"), &[], "").await.status, 404);
    assert_eq!(fixture.ask("PUT", &path("blobs", "-_8"), &[], r#"{"id":"-_8"}"#).await.status, 201);
    let listed = fixture.ask("GET", &format!("{}/id", table("numbers")), &[], "").await.json();
    assert_eq!(listed["items"][0]["id"], json!(7));
    let listed = fixture.ask("GET", &format!("{}/id", table("blobs")), &[], "").await.json();
    assert_eq!(listed["items"][0]["id"], json!("-_8"));
    for (name, bad) in [("numbers", "7.5"), ("numbers", "x"), ("blobs", "%2B%2F"), ("blobs", "A")] {
        let answer = fixture.ask("GET", &path(name, bad), &[], "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-input"), "{bad}");
    }
}

#[tokio::test]
async fn a_body_may_repeat_its_key_but_not_change_it() {
    let fixture = Fixture::start().await;
    assert_eq!(put(&fixture, "a", r#"{"id":"a","n":1}"#).await.status, 201);
    assert_eq!(get(&fixture, "a").await.json(), json!({"id":"a","n":1}), "as it was stored");
    for body in [r#"{"id":"b"}"#, r#"{"id":1}"#, r#"{"id":null}"#] {
        for method in ["PUT", "POST"] {
            let answer = fixture.ask(method, &format!("{PLAIN}a"), &[], body).await;
            assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-input"), "{method} {body}");
        }
    }
    let sorted = format!("{SORTED}a/sort/7");
    assert_eq!(fixture.ask("PUT", &sorted, &[], r#"{"sort":7}"#).await.status, 201);
    assert_eq!(fixture.ask("PUT", &sorted, &[], r#"{"sort":8}"#).await.status, 400);
}

#[tokio::test]
async fn conditions_are_honoured() {
    let fixture = Fixture::start().await;
    let path = format!("{PLAIN}a");
    let first = fixture.ask("PUT", &path, &[("if-none-match", "*")], "{}").await;
    assert_eq!(first.status, 201);
    let again = fixture.ask("PUT", &path, &[("if-none-match", "*")], "{}").await;
    assert_eq!((again.status, again.problem().as_str()), (412, "precondition-failed"));
    let tag = first.header("etag");
    let same = fixture.ask("GET", &path, &[("if-none-match", tag)], "").await;
    assert_eq!((same.status, same.text.as_str(), same.header("etag")), (304, "", tag));
    assert_eq!(fixture.ask("GET", &path, &[("if-match", tag)], "").await.status, 200);
    assert_eq!(fixture.ask("GET", &path, &[("if-match", "\"v999\"")], "").await.status, 412);
    assert_eq!(fixture.ask("GET", &path, &[("if-none-match", "\"v999\", \"other\"")], "").await.status, 200);
    assert_eq!(fixture.ask("PUT", &path, &[("if-match", tag)], r#"{"n":2}"#).await.status, 200);
    for method in ["PUT", "POST"] {
        assert_eq!(fixture.ask(method, &path, &[("if-match", tag)], "{}").await.status, 412, "{method}");
    }
    assert_eq!(fixture.ask("DELETE", &path, &[("if-match", tag)], "").await.status, 412);
    assert_eq!(fixture.ask("DELETE", &path, &[("if-match", "*")], "").await.status, 204);
    assert_eq!(fixture.ask("PUT", &path, &[("if-match", "*")], "{}").await.status, 412);
    assert_eq!(fixture.ask("PUT", &path, &[("if-match", "v7")], "{}").await.problem(), "bad-input");
}

#[tokio::test]
async fn an_early_answer_has_a_receipt() {
    let fixture = Fixture::start().await;
    fixture.items.hold.store(true, Ordering::Relaxed);
    let prefer = [("prefer", "respond-async")];
    let queued = fixture.ask("PUT", &format!("{PLAIN}a"), &prefer, "{}").await;
    assert_eq!((queued.status, queued.header("preference-applied")), (202, "respond-async"));
    let receipt = queued.header("location").to_owned();
    assert!(receipt.starts_with("/v1/tenant/acme/table/plain/receipt/"), "{receipt}");
    assert_eq!(queued.json()["state"], "queued");
    assert_eq!(fixture.ask("GET", &receipt, &[], "").await.json(), queued.json());
    let refused = fixture.ask("DELETE", &format!("{PLAIN}b"), &prefer, "").await;
    fixture.items.apply_waiting();
    let done = fixture.ask("GET", &receipt, &[], "").await.json();
    assert_eq!((&done["state"], &done["status"]), (&json!("done"), &json!(201)));
    assert_eq!(done["etag"], get(&fixture, "a").await.header("etag"));
    assert_eq!(done["rid"], "rid:dStore:acme:NA:table:plain");
    let told = fixture.ask("GET", refused.header("location"), &[], "").await.json();
    assert_eq!((&told["state"], &told["problem"]["status"]), (&json!("refused"), &json!(404)));
    let lost = fixture.ask("POST", &format!("{PLAIN}a"), &prefer, "{}").await;
    fixture.items.lose_waiting();
    assert_eq!(fixture.ask("GET", lost.header("location"), &[], "").await.json()["state"], "lost");
    for unknown in ["00000000-0000-8000-8000-000000000000", "x", "URN:UUID:1"] {
        let path = format!("/v1/tenant/acme/table/plain/receipt/{unknown}");
        assert_eq!(fixture.ask("GET", &path, &[], "").await.problem(), "not-found");
    }
    let elsewhere = receipt.replace("/plain/", "/sorted/");
    assert_eq!(fixture.ask("GET", &elsewhere, &[], "").await.status, 404, "a receipt belongs to its table");
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_before() {
    let fixture = Fixture::start().await;
    let path = format!("{PLAIN}a");
    let key = [("idempotency-key", "order 66")];
    let first = fixture.ask("PUT", &path, &key, r#"{"n":1}"#).await;
    let second = fixture.ask("PUT", &path, &key, r#"{"n":1}"#).await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.header("etag"), second.header("etag"));
    let conditional = [("idempotency-key", "order 66"), ("if-match", "*")];
    let others = [
        fixture.ask("PUT", &path, &key, r#"{"n":2}"#).await,
        fixture.ask("PUT", &format!("{PLAIN}b"), &key, r#"{"n":1}"#).await,
        fixture.ask("POST", &path, &key, r#"{"n":1}"#).await,
        fixture.ask("DELETE", &path, &key, "").await,
        fixture.ask("PUT", &path, &conditional, r#"{"n":1}"#).await,
    ];
    for other in others {
        assert_eq!((other.status, other.problem().as_str()), (422, "request-id-reused"));
    }
    let other_principal = fixture.token(Some("acme"), &[crate::services::ports::Capability::Write]);
    let own = fixture.ask_as(&other_principal, "PUT", &path, &key, r#"{"n":3}"#).await;
    assert_eq!(own.status, 200, "another principal's key is another key");
    let long = "x".repeat(256);
    for bad in ["", long.as_str()] {
        assert_eq!(fixture.ask("PUT", &path, &[("idempotency-key", bad)], "{}").await.status, 400);
    }
}

#[tokio::test]
async fn numbers_come_back_as_the_same_decimals() {
    let fixture = Fixture::start().await;
    let digits = "1234567890123456789012345678901234567.8";
    assert_eq!(put(&fixture, "a", &format!(r#"{{"n":{digits}}}"#)).await.status, 201);
    assert!(get(&fixture, "a").await.text.contains(digits));
    let nine = "9".repeat(39);
    assert_eq!(put(&fixture, "a", &format!(r#"{{"n":{nine}}}"#)).await.status, 400);
}
