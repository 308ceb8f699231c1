//! What bad input gets: each 4xx and 5xx that a client can see, and what cuts off who sends too much or too
//! slowly.

use std::time::Duration;

use super::*;
use crate::api::body::Limits;
use crate::domain::limits::{BODY_BYTES_MAX, NESTING_LEVELS_MAX};
use crate::domain::{Refusal, RefusalKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends bytes as they are and reads until the server closes.
async fn raw(fixture: &Fixture, text: &str) -> String {
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    read.expect("the server closes the connection").unwrap();
    String::from_utf8(answer).unwrap()
}

fn head(fixture: &Fixture, method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{more}\r\n", fixture.root)
}

#[tokio::test]
async fn malformed_json_names_line_and_column() {
    let fixture = Fixture::start().await;
    let answer = put(&fixture, "a", "{\n \"n\": 1,\n \"m\": }").await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-input"));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("line 3") && detail.contains("column"), "{detail}");
    for body in ["", "[]", "7", "null", r#"{"a":1,"a":2}"#, r#"{"a":1} x"#, "{\"a\":\"\u{1}\"}", r#"{"":}"#, "\"a\""] {
        let answer = put(&fixture, "a", body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-input"), "{body}");
    }
}

#[tokio::test]
async fn what_is_too_deep_or_too_large_is_refused() {
    let fixture = Fixture::start().await;
    let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    assert_eq!(put(&fixture, "a", &deep(NESTING_LEVELS_MAX)).await.status, 201);
    assert_eq!(put(&fixture, "a", &deep(NESTING_LEVELS_MAX + 1)).await.problem(), "bad-input");
    assert_eq!(put(&fixture, "a", &deep(100_000)).await.problem(), "bad-input");
    let large = put(&fixture, "a", &" ".repeat(BODY_BYTES_MAX + 1)).await;
    assert_eq!((large.status, large.problem().as_str(), large.header("connection")), (413, "too-large", "close"));
    let spaces = format!("{}{{}}", " ".repeat(BODY_BYTES_MAX - 2));
    assert_eq!(put(&fixture, "a", &spaces).await.status, 200, "the limit itself is allowed");
}

#[tokio::test]
async fn an_unannounced_body_is_cut_off_at_the_limit() {
    let fixture = Fixture::start_with(Limits { bytes_max: 100, ..Limits::default() }).await;
    let chunk = format!("40\r\n{}\r\n", "x".repeat(64));
    let head = head(&fixture, "PUT", &format!("{PLAIN}a"), "transfer-encoding: chunked\r\n");
    let answer = raw(&fixture, &format!("{head}{chunk}{chunk}")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_whose_chunks_are_malformed_is_refused_as_such() {
    let fixture = Fixture::start().await;
    let head = head(&fixture, "PUT", &format!("{PLAIN}a"), "transfer-encoding: chunked\r\n");
    let answer = raw(&fixture, &format!("{head}zz\r\n{{}}\r\n0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("chunks are malformed"), "{answer}");
}

/// Of two ways to say how long a body is, an intermediary might believe the other.
#[tokio::test]
async fn a_body_of_two_lengths_is_refused() {
    let fixture = Fixture::start().await;
    for lengths in ["content-length: 2\r\ntransfer-encoding: chunked\r\n", "content-length: 2\r\ncontent-length: 3\r\n"]
    {
        let head = head(&fixture, "PUT", &format!("{PLAIN}a"), &format!("{lengths}connection: close\r\n"));
        let answer = raw(&fixture, &format!("{head}2\r\n{{}}\r\n0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(get(&fixture, "a").await.status, 404, "nothing was written");
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_their_order() {
    let fixture = Fixture::start().await;
    let put = head(&fixture, "PUT", &format!("{PLAIN}a"), "content-type: application/json\r\ncontent-length: 7\r\n");
    let get = |more: &str| head(&fixture, "GET", &format!("{PLAIN}a"), more);
    let delete = head(&fixture, "DELETE", &format!("{PLAIN}a"), "");
    let row = format!("{put}{{\"n\":1}}{}{delete}{}", get(""), get("connection: close\r\n"));
    let answer = raw(&fixture, &row).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|one| &one[..3]).collect();
    assert_eq!(statuses, ["201", "200", "204", "404"], "{answer}");
}

#[tokio::test]
async fn a_slow_body_is_cut_off() {
    let fixture = Fixture::start().await;
    let token = fixture.root.clone();
    let slow = Fixture::start_with(Limits { time_max: Duration::from_millis(200), ..Limits::default() }).await;
    assert_eq!(token, slow.root, "both servers have the same keys");
    let head = head(&slow, "PUT", &format!("{PLAIN}a"), "content-length: 10\r\n");
    let answer = raw(&slow, &format!("{head}{{")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:dstore:problem:too-slow"), "{answer}");
}

/// Where the answer in front has a body, actix-http shows the next request before its body is there, and looks at it only
/// once.
#[tokio::test]
async fn a_body_that_stays_away_behind_an_answer_is_cut_off() {
    let fixture = Fixture::start_with(Limits { time_max: Duration::from_millis(200), ..Limits::default() }).await;
    let path = format!("{PLAIN}a");
    let plain = "content-length: 10\r\n";
    for more in [plain, "content-length: 10\r\nexpect: 100-continue\r\n", "transfer-encoding: chunked\r\n"] {
        let row = format!("{}{}", head(&fixture, "GET", &path, ""), head(&fixture, "PUT", &path, more));
        let answer = raw(&fixture, &row).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("HTTP/1.1 408 "), "{answer}");
    }
}

#[tokio::test]
async fn media_types_that_are_not_understood_are_named() {
    let fixture = Fixture::start().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (method, path) in [("PUT", "id/a"), ("POST", "id/a"), ("PUT", "")] {
        let path = format!("/v1/tenant/acme/table/plain/{path}");
        let answer = fixture.ask(method, path.trim_end_matches('/'), &form, "{}").await;
        assert_eq!((answer.status, answer.problem().as_str()), (415, "unsupported-media-type"), "{method} {path}");
    }
    for (coding, status) in [("gzip", 415), ("identity", 201), ("identity, br", 415)] {
        let coded = [("content-encoding", coding)];
        let answer = fixture.ask("PUT", &format!("{PLAIN}{status}"), &coded, "{}").await;
        assert_eq!(answer.status, status, "{coding}: {answer:?}");
    }
    let patch = [("content-type", "application/merge-patch+json")];
    assert_eq!(fixture.ask("PUT", &format!("{PLAIN}a"), &patch, "{}").await.status, 415);
    let charset = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(fixture.ask("PUT", &format!("{PLAIN}a"), &charset, "{}").await.status, 201);
}

#[tokio::test]
async fn methods_that_a_path_does_not_have_are_refused_with_those_it_has() {
    let fixture = Fixture::start().await;
    for (method, path, allow) in [
        ("PATCH", "/v1/tenant/acme/table/plain/id/a", "GET, HEAD, PUT, POST, DELETE"),
        ("POST", "/v1/tenant/acme", "GET, HEAD, PUT, DELETE"),
        ("DELETE", "/v1/tenant", "GET, HEAD"),
        ("OPTIONS", "/healthz", "GET, HEAD"),
    ] {
        let answer = fixture.ask(method, path, &[], "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (405, "method-not-allowed"), "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn unknown_and_impossible_query_parameters_are_errors() {
    let fixture = Fixture::start().await;
    for target in [
        "/v1/tenant?colour=red",
        "/v1/tenant/acme?x",
        "/v1/tenant/acme/table/plain/id?limit=0",
        "/v1/tenant/acme/table/plain/id?limit=1001",
        "/v1/tenant/acme/table/plain/id?sort_from=1",
        "/v1/tenant/acme/table/plain/id/a?consistency=Strong",
        "/v1/tenant/acme/table/plain/id/a?limit=1",
        "/v1/tenant/acme/table/plain/id/a?sort_prefix=a",
        "/v1/tenant/acme/table/sorted/id/a?sort_prefix=1",
        "/v1/tenant/acme/table/sorted/id/a?sort_from=x",
        "/v1/tenant/acme/table/sorted/id/a?descending=1",
        "/v1/tenant/acme/table/sorted/id/a/sort/1?limit=1",
        "/v1/tenant/acme/table/plain/id/a?consistency=strong&consistency=strong",
        "/healthz?x=1",
    ] {
        let answer = fixture.ask("GET", target, &[], "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-input"), "{target}");
    }
}

#[tokio::test]
async fn keys_that_do_not_fit_the_table_are_refused() {
    let fixture = Fixture::start().await;
    for (method, path) in [
        ("PUT", "plain/id/a/sort/1"),
        ("GET", "plain/id/a/sort/1"),
        ("PUT", "sorted/id/a"),
        ("DELETE", "sorted/id/a"),
        ("PUT", "sorted/id/a/sort/x"),
        ("PUT", "plain/id/%ff"),
        ("PUT", "plain/id/%2"),
        ("PUT", "plain/id/"),
        ("PUT", "sorted/id/a/sort/"),
        ("PUT", &format!("plain/id/{}", "x".repeat(2049))),
    ] {
        let body = if method == "PUT" { "{}" } else { "" };
        let answer = fixture.ask(method, &format!("/v1/tenant/acme/table/{path}"), &[], body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-input"), "{method} {path}");
    }
}

#[tokio::test]
async fn dots_are_ids_where_the_client_leaves_them_alone() {
    let fixture = Fixture::start().await;
    let put = head(&fixture, "PUT", &format!("{PLAIN}.."), "connection: close\r\ncontent-length: 2\r\n");
    assert!(raw(&fixture, &format!("{put}{{}}")).await.starts_with("HTTP/1.1 201 "));
    let get = head(&fixture, "GET", &format!("{PLAIN}%2E%2e"), "connection: close\r\n");
    assert!(raw(&fixture, &get).await.starts_with("HTTP/1.1 200 "));
}

/// Whatever a service refuses with, the client sees it as the table says.
#[tokio::test]
async fn refusals_of_services_keep_their_kind() {
    use RefusalKind::{Damaged, Internal, OutcomeUnknown, StorageFull, Throttled, Unavailable, WrongNode};
    let fixture = Fixture::start().await;
    let cases = [
        (WrongNode, 421),
        (Throttled, 429),
        (Unavailable, 503),
        (OutcomeUnknown, 504),
        (Damaged, 500),
        (Internal, 500),
        (StorageFull, 507),
    ];
    for (kind, status) in cases {
        let location = (kind == WrongNode).then(|| "https://n2.example:8080/".to_owned());
        let retry_after_seconds = matches!(kind, Throttled | Unavailable).then_some(3);
        let refusal = Refusal { location, retry_after_seconds, ..Refusal::new(kind, "as the service says") };
        *fixture.items.refuse_next.lock() = Some(refusal);
        let answer = get(&fixture, "a").await;
        answer.problem();
        assert_eq!((answer.status, answer.json()["detail"].as_str()), (status, Some("as the service says")));
        let location = format!("https://n2.example:8080{PLAIN}a");
        assert_eq!(answer.header("location"), if kind == WrongNode { &location } else { "" });
        assert_eq!(answer.header("retry-after"), if retry_after_seconds.is_some() { "3" } else { "" });
    }
}

/// A client that is sent on asks the same there, to the letter.
#[tokio::test]
async fn the_location_of_another_node_keeps_path_and_query() {
    let fixture = Fixture::start().await;
    for node in ["https://n2.example:8080/", "https://n2.example:8080"] {
        let location = Some(node.to_owned());
        *fixture.items.refuse_next.lock() = Some(Refusal { location, ..Refusal::new(RefusalKind::WrongNode, "there") });
        let asked = format!("{PLAIN}%2E%2e%2F%C3%A4?consistency=eventual");
        let answer = fixture.ask("GET", &asked, &[], "").await;
        assert_eq!((answer.status, answer.header("location")), (421, &*format!("https://n2.example:8080{asked}")));
    }
    // One that cannot stand in a header is left out; the refusal stays what it is.
    let location = Some("https://n2\n.example/".to_owned());
    *fixture.items.refuse_next.lock() = Some(Refusal { location, ..Refusal::new(RefusalKind::WrongNode, "there") });
    let answer = get(&fixture, "a").await;
    assert_eq!((answer.status, answer.problem().as_str(), answer.header("location")), (421, "wrong-node", ""));
}

#[tokio::test]
async fn people_and_programs_find_what_this_is() {
    let fixture = Fixture::start().await;
    let page = fixture.ask_as("", "GET", "/", &[("accept", "text/html,*/*;q=0.8")], "").await;
    assert!(page.header("content-type").starts_with("text/html") && page.text.contains("/v1/openapi.json"));
    let document = fixture.ask_as("", "GET", "/v1/openapi.json", &[], "").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(fixture.ask_as("", "GET", path, &[], "").await.status, 200);
    }
}

/// Otherwise anybody could hold a connection by a body that never ends.
#[tokio::test]
async fn a_refusal_does_not_wait_for_the_body() {
    let fixture = Fixture::start().await;
    for (target, status) in [(format!("{PLAIN}a"), 401), ("/nowhere".to_owned(), 404), ("/healthz".to_owned(), 405)] {
        let head = format!("PUT {target} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        let answer = raw(&fixture, &format!("{head}1\r\n{{\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}
