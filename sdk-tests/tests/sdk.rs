//! AWS's SDK for Rust, unmodified: a table, items, a query, a conditional write that fails, and paginators; and what it does while the
//! node that leads is killed. What boto3 tries in depth (tests/dynamodb) is not tried again; this says that a second SDK, with other
//! code for signatures, errors and retries, works.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ReturnValue, ScalarAttributeType,
    TableStatus,
};
use dstore_sdk_tests::{Cluster, Server};

const TABLE: &str = "music";
/// The table that is written to while a node is killed.
const KEPT: &str = "kept";
/// Those who write to it, and how many items all of them write before the kill, and each at least after it.
const WRITERS: [&str; 4] = ["ada", "bob", "cleo", "dan"];
const BEFORE: usize = 40;
const AFTER: usize = 30;
/// How long anything may take that normally takes a moment.
const DEADLINE: Duration = Duration::from_secs(60);

/// A client as it is shipped, its retries as well.
fn client(url: &str, access_key_id: &str, secret_access_key: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(access_key_id, secret_access_key, None, None, "test"))
        .build();
    Client::from_conf(config)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: usize) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

async fn create(client: &Client) {
    let attribute = |name: &str, kind: ScalarAttributeType| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
    };
    let key =
        |name: &str, kind: KeyType| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    let made = client
        .create_table()
        .table_name(TABLE)
        .attribute_definitions(attribute("artist", ScalarAttributeType::S))
        .attribute_definitions(attribute("year", ScalarAttributeType::N))
        .key_schema(key("artist", KeyType::Hash))
        .key_schema(key("year", KeyType::Range))
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    assert_eq!(made.table_description().and_then(|table| table.table_name()), Some(TABLE));
    client.wait_until_table_exists().table_name(TABLE).wait(Duration::from_secs(60)).await.unwrap();
    let table = client.describe_table().table_name(TABLE).send().await.unwrap();
    assert_eq!(table.table().and_then(|table| table.table_status()), Some(&TableStatus::Active));
}

async fn fill(client: &Client) {
    for year in 1960..1990 {
        let put = client.put_item().table_name(TABLE).item("artist", text("Ada")).item("year", number(year));
        put.item("title", text(&format!("Notes {year}"))).send().await.unwrap();
    }
}

async fn query_in_pages(client: &Client) {
    let query = client
        .query()
        .table_name(TABLE)
        .key_condition_expression("artist = :a AND #y BETWEEN :low AND :high")
        .expression_attribute_names("#y", "year")
        .expression_attribute_values(":a", text("Ada"))
        .expression_attribute_values(":low", number(1965))
        .expression_attribute_values(":high", number(1984));
    let mut pages = query.clone().limit(6).into_paginator().send();
    let mut counts = Vec::new();
    while let Some(page) = pages.next().await {
        counts.push(page.unwrap().count());
    }
    assert_eq!(counts[..3], [6, 6, 6]);
    let items: Result<Vec<HashMap<String, AttributeValue>>, _> =
        query.limit(7).into_paginator().items().send().collect().await;
    let years: Vec<usize> = items.unwrap().iter().map(|item| item["year"].as_n().unwrap().parse().unwrap()).collect();
    assert_eq!(years, (1965..=1984).collect::<Vec<_>>());
    let scanned: Result<Vec<HashMap<String, AttributeValue>>, _> =
        client.scan().table_name(TABLE).limit(4).into_paginator().items().send().collect().await;
    assert_eq!(scanned.unwrap().len(), 30);
}

async fn write_under_conditions(client: &Client) {
    let put = client.put_item().table_name(TABLE).item("artist", text("Ada")).item("year", number(1960));
    let refused =
        put.condition_expression("attribute_not_exists(artist)").send().await.unwrap_err().into_service_error();
    assert!(refused.is_conditional_check_failed_exception(), "{refused:?}");
    assert_eq!(refused.meta().message(), Some("The conditional request failed"));
    let told = client
        .update_item()
        .table_name(TABLE)
        .key("artist", text("Ada"))
        .key("year", number(1960))
        .update_expression("SET plays = if_not_exists(plays, :none) + :one")
        .expression_attribute_values(":none", number(0))
        .expression_attribute_values(":one", number(1))
        .return_values(ReturnValue::UpdatedNew)
        .send()
        .await
        .unwrap();
    assert_eq!(told.attributes().and_then(|attributes| attributes.get("plays")), Some(&number(1)));
    let missing = client.get_item().table_name("nowhere").key("id", text("a")).send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
}

#[tokio::test]
async fn the_sdk_for_rust_works_unmodified() {
    let server = Server::start();
    let client = client(&server.url, &server.access_key_id, &server.secret_access_key);
    create(&client).await;
    fill(&client).await;
    query_in_pages(&client).await;
    write_under_conditions(&client).await;
    client.delete_table().table_name(TABLE).send().await.unwrap();
    client.wait_until_table_not_exists().table_name(TABLE).wait(Duration::from_secs(60)).await.unwrap();
}

/// An error with all that led to it.
fn told(error: impl std::error::Error) -> String {
    DisplayErrorContext(error).to_string()
}

/// Puts, changes and reads items of one ID, one after the other, until enough were begun after the kill; how many. Each call may be
/// made twice without harm, since the SDK asks again where it got no answer.
async fn write(client: Client, writer: &'static str, killed: Arc<AtomicBool>, written: Arc<AtomicUsize>) -> usize {
    let (mut count, mut after) = (0, 0);
    while after < AFTER {
        let is_after = killed.load(Ordering::Acquire);
        let put = client.put_item().table_name(KEPT).item("id", text(writer)).item("sort", number(count));
        put.send().await.map_err(told).expect("a put succeeds in the end");
        let update = client.update_item().table_name(KEPT).key("id", text(writer)).key("sort", number(count));
        let update = update.update_expression("SET word = :w").expression_attribute_values(":w", word(writer, count));
        update.send().await.map_err(told).expect("an update succeeds in the end");
        let get = client.get_item().table_name(KEPT).key("id", text(writer)).key("sort", number(count));
        let read = get.consistent_read(true).send().await.map_err(told).expect("a read succeeds in the end");
        assert_eq!(read.item().and_then(|item| item.get("word")), Some(&word(writer, count)));
        count += 1;
        after += usize::from(is_after);
        written.fetch_add(1, Ordering::Release);
    }
    count
}

fn word(writer: &str, count: usize) -> AttributeValue {
    text(&format!("{writer}'s word {count}"))
}

/// The words of a writer in the order of their numbers, as they are stored.
async fn words(client: &Client, writer: &str) -> Vec<AttributeValue> {
    let query = client.query().table_name(KEPT).consistent_read(true).key_condition_expression("id = :id");
    let query = query.expression_attribute_values(":id", text(writer)).into_paginator().items().send();
    let items: Result<Vec<HashMap<String, AttributeValue>>, _> = query.collect().await;
    items.map_err(told).expect("a query succeeds").into_iter().map(|item| item["word"].clone()).collect()
}

/// Waits until the proxy knows the table and the key.
async fn until_known(client: &Client) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let said = client.describe_table().table_name(KEPT).send().await;
        let status = said.as_ref().ok().and_then(|said| said.table()).and_then(|table| table.table_status());
        if status == Some(&TableStatus::Active) {
            return;
        }
        assert!(Instant::now() < deadline, "{said:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_begun(written: &AtomicUsize) {
    let deadline = Instant::now() + DEADLINE;
    while written.load(Ordering::Acquire) < BEFORE {
        assert!(Instant::now() < deadline, "only {} items were written", written.load(Ordering::Acquire));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn no_call_fails_for_a_killed_leader_and_nothing_is_lost() {
    let mut cluster = Cluster::start();
    cluster.create_table(KEPT);
    let client = client(&cluster.url, &cluster.access_key_id, &cluster.secret_access_key);
    until_known(&client).await;
    let (killed, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let begin = |writer| tokio::spawn(write(client.clone(), writer, Arc::clone(&killed), Arc::clone(&written)));
    let writers = WRITERS.map(begin);
    until_begun(&written).await;
    // On another thread: writers go on meanwhile.
    let killing = tokio::task::spawn_blocking(move || {
        cluster.kill_leader(KEPT);
        cluster
    });
    let _cluster = killing.await.expect("the leader is killed");
    killed.store(true, Ordering::Release);
    for (name, writer) in WRITERS.into_iter().zip(writers) {
        let count = tokio::time::timeout(2 * DEADLINE, writer).await.expect("in time").expect("no call fails");
        let expected: Vec<AttributeValue> = (0..count).map(|count| word(name, count)).collect();
        assert_eq!(words(&client, name).await, expected, "what {name} wrote");
    }
}
