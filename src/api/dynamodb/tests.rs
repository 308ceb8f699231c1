//! The door of the protocol over real HTTP on loopback, against services in memory: who is let in, and what stands
//! around the JSON.

use std::io::Write;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::dispatch::Operation;
use super::encoding::BODY_BYTES_MAX;
use super::sigv4::signing::Signer;
use crate::api::testing::{Answer, Fixture, StandingClock};
use crate::domain::ids::PrincipalId;
use crate::domain::{Clock, TenantName};
use crate::services::ports::{Caller, Capability, Catalog};

/// Not of the looks of our own, so that nobody waits for news of one that is not known.
const ID: &str = "AKIDEXAMPLE";
const ALL: &[Capability] = &[Capability::Read, Capability::Write, Capability::Admin];
const SIGNED: &str = "content-type;host;x-amz-date;x-amz-target";

/// A signed call, as a test wants it.
struct Signing<'a> {
    fixture: &'a Fixture,
    id: &'a str,
    host: String,
    late_seconds: u64,
    more: Vec<(&'a str, &'a str)>,
}

impl<'a> Signing<'a> {
    fn new(fixture: &'a Fixture) -> Self {
        Self { fixture, id: ID, host: fixture.address.to_string(), late_seconds: 0, more: Vec::new() }
    }

    /// Asks for an operation with the key that is good.
    async fn ask(&self, operation: &str, body: &str) -> Answer {
        let key = self.fixture.state.access.access_keys.find(ID).expect("the test has made it");
        let at_seconds = StandingClock.now().0 / 1_000_000 - self.late_seconds;
        let signer = Signer { id: self.id, key: &key, at_seconds, host: &self.host };
        let (target, time) = (format!("DynamoDB_20120810.{operation}"), signer.time());
        let mut sent = vec![
            ("content-type", "application/x-amz-json-1.0"),
            ("host", self.host.as_str()),
            ("x-amz-date", time.as_str()),
            ("x-amz-target", target.as_str()),
        ];
        sent.extend(self.more.iter().copied());
        let mut headers = HeaderMap::new();
        for (name, value) in &sent {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let authorization = signer.authorization(&headers, SIGNED, body.as_bytes());
        sent.push(("authorization", authorization.as_str()));
        self.fixture.ask_as("", "POST", "/", &sent, body).await
    }
}

/// Makes this the only access key that is good: that of a principal of this tenant with these capabilities.
fn access_key(fixture: &Fixture, tenant: &str, capabilities: &[Capability]) {
    let name = TenantName::new(tenant).unwrap();
    let tenant = fixture.catalog.tenant(&name).unwrap();
    let caller = Caller {
        principal: PrincipalId::from_bytes(*tenant.id.as_bytes()),
        name: "someone".into(),
        tenant: Some((tenant.id, name)),
        capabilities: capabilities.to_vec(),
    };
    let secret = zeroize::Zeroizing::new("secret".to_owned());
    fixture.state.access.access_keys.replace([(ID.to_owned(), secret, caller)].into_iter());
}

/// Status and name of a failure, after checking that it is a whole one.
fn failure(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), "application/x-amz-json-1.0", "{answer:?}");
    let kind = answer.json()["__type"].as_str().unwrap().to_owned();
    (answer.status, kind.split_once('#').unwrap().1.to_owned())
}

async fn unsigned(fixture: &Fixture, target: &str) -> Answer {
    let headers = [("x-amz-target", target), ("content-type", "application/x-amz-json-1.0")];
    fixture.ask_as("", "POST", "/", &headers, "{}").await
}

#[tokio::test]
async fn every_operation_needs_a_signature() {
    let fixture = Fixture::start().await;
    access_key(&fixture, "acme", ALL);
    for operation in Operation::ALL {
        let answer = unsigned(&fixture, &format!("DynamoDB_20120810.{}", operation.name())).await;
        assert_eq!(failure(&answer), (400, "MissingAuthenticationTokenException".to_owned()), "{operation:?}");
        let bearer = [("x-amz-target", "DynamoDB_20120810.ListTables"), ("content-type", "application/x-amz-json-1.0")];
        let answer = fixture.ask_as(&fixture.root, "POST", "/", &bearer, "{}").await;
        assert_eq!(failure(&answer).1, "MissingAuthenticationTokenException", "tokens are for REST");
    }
    for unknown in
        ["", "DynamoDB_20120810.", "DynamoDB_20120810.Nothing", "DynamoDBStreams_20120810.ListStreams", "ListTables"]
    {
        assert_eq!(failure(&unsigned(&fixture, unknown).await), (400, "UnknownOperationException".to_owned()));
    }
}

#[tokio::test]
async fn a_head_may_have_16_kib() {
    let fixture = Fixture::start().await;
    access_key(&fixture, "acme", ALL);
    // What all headers but the long one take is more than nothing and less than 600 bytes.
    for (bytes, expected) in [((16 << 10) - 600, 200), ((16 << 10) - "x-long".len(), 400)] {
        let long = "x".repeat(bytes);
        let answer = Signing { more: vec![("x-long", &long)], ..Signing::new(&fixture) }.ask("ListTables", "{}").await;
        assert_eq!(answer.status, expected, "{bytes}: {answer:?}");
        assert_eq!(answer.text.contains("RequestHeaderSectionTooLargeException"), expected == 400);
    }
}

#[tokio::test]
async fn a_principal_may_do_what_it_has_the_capability_for() {
    let fixture = Fixture::start().await;
    for operation in Operation::ALL {
        let lacking: Vec<Capability> = ALL.iter().copied().filter(|one| !operation.need().contains(one)).collect();
        access_key(&fixture, "acme", &lacking);
        let answer = Signing::new(&fixture).ask(operation.name(), "{}").await;
        assert_eq!(failure(&answer), (400, "AccessDeniedException".to_owned()), "{operation:?}");
        let message = answer.json()["Message"].as_str().unwrap().to_owned();
        assert!(message.contains(&format!("dynamodb:{}", operation.name())), "{message}");
        for capability in operation.need() {
            access_key(&fixture, "acme", &[*capability]);
            let answer = Signing::new(&fixture).ask(operation.name(), "{}").await;
            assert!(!answer.text.contains("AccessDenied") && !answer.text.contains("Signature"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn wrong_signatures_are_told_apart() {
    let fixture = Fixture::start().await;
    access_key(&fixture, "acme", ALL);
    let good = || Signing::new(&fixture);
    assert_eq!(good().ask("ListTables", "{}").await.status, 200);
    let late = Signing { late_seconds: 901, ..good() }.ask("ListTables", "{}").await;
    assert!(late.json()["message"].as_str().unwrap().starts_with("Signature expired: "), "{late:?}");
    let unknown = Signing { id: "AKIDUNKNOWN", ..good() };
    assert_eq!(failure(&unknown.ask("ListTables", "{}").await).1, "UnrecognizedClientException");
    let no_longer_late = Signing { id: "AKIDUNKNOWN", late_seconds: 901, ..good() }.ask("ListTables", "{}").await;
    assert_eq!(failure(&no_longer_late).1, "InvalidSignatureException", "the time is looked at first");
    let twice = Signing { more: vec![("x-amz-date", "20200101T000000Z")], ..good() };
    assert_eq!(twice.ask("ListTables", "{}").await.status, 200, "both values were signed as they were sent");
}

#[tokio::test]
async fn a_key_is_good_at_the_host_of_its_tenant_only() {
    let fixture = Fixture::start().await;
    access_key(&fixture, "acme", ALL);
    for host in ["acme.db.example", "ACME.db.example:8000", "db.example", "elsewhere.example"] {
        let answer = Signing { host: host.to_owned(), ..Signing::new(&fixture) }.ask("ListTables", "{}").await;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
    for host in ["globex.db.example", "nobody.db.example:80"] {
        let answer = Signing { host: host.to_owned(), ..Signing::new(&fixture) }.ask("ListTables", "{}").await;
        assert_eq!(failure(&answer).1, "UnrecognizedClientException", "{host}");
    }
}

#[tokio::test]
async fn health_browsers_and_nothing_else() {
    let fixture = Fixture::start().await;
    let health = fixture.ask_as("", "GET", "/", &[], "").await;
    assert_eq!((health.status, health.text), (200, format!("healthy: {}", fixture.address)));
    let preflight = [("origin", "https://page.example"), ("access-control-request-method", "POST")];
    let answer = fixture.ask_as("", "OPTIONS", "/", &preflight, "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-methods")), (200, "POST"));
    assert_eq!(answer.header("content-length"), "0");
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = fixture.ask_as("", method, "/", &[], "").await;
        assert_eq!((answer.status, answer.header("access-control-max-age")), (404, ""), "{method}");
    }
    let unsigned = fixture.ask_as("", "POST", "/", &[("origin", "https://page.example")], "").await;
    assert_eq!(unsigned.header("access-control-allow-origin"), "*", "on failures, too");
    let large = "x".repeat(20 << 10);
    let answer = fixture.ask_as("", "POST", "/", &[("x-large", large.as_str())], "").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_packed_body_is_signed_as_it_is_sent() {
    let fixture = Fixture::start().await;
    access_key(&fixture, "acme", ALL);
    let broken = Signing { more: vec![("content-encoding", "gzip")], ..Signing::new(&fixture) };
    let answer = broken.ask("ListTables", "{}").await;
    assert_eq!((answer.status, answer.json()["__type"].as_str().unwrap().contains("InternalServerError")), (500, true));
}

#[tokio::test]
async fn a_large_body_that_finds_no_room_is_told_to_come_again_and_small_ones_pass() {
    let fixture = Fixture::start().await;
    access_key(&fixture, "acme", ALL);
    let large = format!("{{}}{}", " ".repeat(100 << 10));
    let ask = async |body: &str| Signing::new(&fixture).ask("ListTables", body).await;
    let all = fixture.state.body_budget.take_all();
    let answer = ask(&large).await;
    assert_eq!(failure(&answer), (503, "ServiceUnavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(ask("{}").await.status, 200);
    let room = all.num_permits();
    drop(all);
    assert_eq!(ask(&large).await.status, 200);
    assert_eq!(fixture.state.body_budget.take_all().num_permits(), room, "all of it was given back");
}

#[tokio::test]
async fn what_is_malformed_is_told_before_what_is_not_allowed() {
    let fixture = Fixture::start().await;
    access_key(&fixture, "acme", ALL);
    for (operation, body) in [
        // No TableName.
        ("PutItem", r#"{"Item":{"a":#}}"#),
        ("GetItem", r#"{"Key":{"a":#}}"#),
        ("DeleteItem", r#"{"Key":{"a":#}}"#),
        ("UpdateItem", r#"{"AttributeUpdates":{"a":{"Value":#}}}"#),
        ("Scan", r#"{"ExclusiveStartKey":{"a":#}}"#),
        // Values without an expression.
        ("Query", r#"{"TableName":"plain","ExpressionAttributeValues":{":v":#}}"#),
        // Another word than there are.
        ("BatchGetItem", r#"{"RequestItems":{"plain":{"Keys":[{"a":#}]}},"ReturnConsumedCapacity":"SOME"}"#),
        // A write of nothing before it.
        ("BatchWriteItem", r#"{"RequestItems":{"plain":[{},{"PutRequest":{"Item":{"a":#}}}]}}"#),
    ] {
        let ask = async |value: &str| Signing::new(&fixture).ask(operation, &body.replace('#', value)).await;
        let malformed = ask(r#"{"S":1}"#).await;
        assert_eq!(failure(&malformed), (400, "SerializationException".to_owned()), "{operation}");
        assert_eq!(malformed.json()["Message"], "NUMBER_VALUE cannot be converted to String", "{operation}");
        assert_eq!(failure(&ask(r#"{"S":"1"}"#).await), (400, "ValidationException".to_owned()), "{operation}");
    }
    let elsewhere = Signing::new(&fixture).ask("DescribeTable", r#"{"Item":{"a":{"S":1}}}"#).await;
    assert_eq!(failure(&elsewhere).1, "ValidationException", "it has no such member");
}

#[tokio::test]
async fn a_member_that_is_given_twice_is_refused_without_words() {
    let fixture = Fixture::start().await;
    access_key(&fixture, "acme", ALL);
    for operation in ["GetItem", "Query", "DescribeTable"] {
        let answer = Signing::new(&fixture).ask(operation, r#"{"TableName":"plain","TableName":"plain"}"#).await;
        assert_eq!(failure(&answer), (400, "SerializationException".to_owned()), "{operation}");
        assert_eq!(answer.text, r#"{"__type":"com.amazon.coral.service#SerializationException"}"#, "{operation}");
    }
}

/// Sends a body in pieces until the server answers or takes no more; gives the beginning of the answer.
async fn flood(fixture: &Fixture, head: &str, piece: &[u8], pieces: usize) -> String {
    let stream = TcpStream::connect(fixture.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
    let piece = piece.to_vec();
    let writing = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await?;
        for _ in 0..pieces {
            writer.write_all(&piece).await?;
        }
        writer.write_all(b"0\r\n\r\n").await?;
        // Kept open: the answer must come before the end of the connection.
        std::io::Result::Ok(writer)
    });
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), reader.read_to_end(&mut answer)).await;
    read.expect("the server closes the connection").unwrap();
    let _ = writing.await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_the_client_reads_it() {
    let fixture = Fixture::start().await;
    let piece = vec![b' '; 1 << 16];
    let pieces = BODY_BYTES_MAX / piece.len() + 1;
    let target = "x-amz-target: DynamoDB_20120810.ListTables";
    let length = format!("{target}\r\ncontent-length: {}", pieces * piece.len() + 5);
    let answer = flood(&fixture, &length, &piece, pieces).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let mut chunk = Vec::new();
    write!(chunk, "{:x}\r\n", piece.len()).unwrap();
    chunk.extend_from_slice(&piece);
    chunk.extend_from_slice(b"\r\n");
    let answer = flood(&fixture, &format!("{target}\r\ntransfer-encoding: chunked"), &chunk, pieces).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}
