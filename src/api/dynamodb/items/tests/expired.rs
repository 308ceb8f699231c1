//! Items that have expired and are not removed yet: reads do not see them, writes do.

use super::*;
use crate::api::body::Limits;
use crate::api::testing::StandingClock;
use crate::domain::table::TableChange;
use crate::domain::{Clock, TableName};
use crate::services::items::LivingItems;

/// A server that hides what has expired, as servers do, and removes nothing. Items of `plain` end by `until`.
async fn start() -> Fixture {
    let clock = Arc::new(StandingClock);
    let fixture = Fixture::start_over(Limits::default(), |items, _| Arc::new(LivingItems::new(items, clock))).await;
    let root = Caller {
        principal: PrincipalId::from_bytes([1; 16]),
        name: "root".into(),
        tenant: None,
        capabilities: Vec::new(),
    };
    let (tenant, table) = (TenantName::new("acme").unwrap(), TableName::new("plain").unwrap());
    let change = TableChange { time_to_live: Some(Some("until".to_owned())), ..TableChange::default() };
    fixture.catalog.change_table(&root, &tenant, &table, change).await.unwrap();
    fixture
}

/// The item `a` that ends so many seconds from now.
fn ending_in(seconds: i64) -> Value {
    let now = i64::try_from(StandingClock.now().0 / 1_000_000).unwrap();
    json!({"id": {"S": "a"}, "until": {"N": (now + seconds).to_string()}})
}

fn put_of(item: Value) -> Value {
    json!({"TableName": "plain", "Item": item})
}

#[tokio::test]
async fn reads_do_not_see_what_has_expired() {
    let fixture = start().await;
    let batch = json!({"RequestItems": {"plain": {"Keys": [{"id": {"S": "a"}}]}}});
    for (seconds, is_seen) in [(60, true), (-1, false)] {
        let item = ending_in(seconds);
        put(&fixture, item.clone()).await;
        let (one, all) = if is_seen { (json!({"Item": item}), json!([item])) } else { (json!({}), json!([])) };
        assert_eq!(got(&fixture, "a").await, one, "{seconds}");
        let read = ok(&fixture, Operation::BatchGetItem, batch.clone()).await;
        assert_eq!(read, json!({"Responses": {"plain": all}, "UnprocessedKeys": {}}), "{seconds}");
    }
}

#[tokio::test]
async fn conditions_see_what_has_expired_and_is_not_removed() {
    let fixture = start().await;
    let expired = ending_in(-1);
    put(&fixture, expired.clone()).await;
    let mut body = put_of(ending_in(60));
    body["ConditionExpression"] = json!("attribute_not_exists(id)");
    body["ReturnValuesOnConditionCheckFailure"] = json!("ALL_OLD");
    let refused = failure(&fixture, Operation::PutItem, body.clone()).await;
    assert_eq!(refused.name(), "ConditionalCheckFailedException");
    let told: Value = serde_json::from_slice(&refused.body()).unwrap();
    assert_eq!(told["Item"], expired);
    assert_eq!(got(&fixture, "a").await, json!({}), "it was not replaced");
    body["ConditionExpression"] = json!("attribute_exists(id)");
    assert_eq!(ok(&fixture, Operation::PutItem, body).await, json!({}));
    assert_eq!(got(&fixture, "a").await, json!({"Item": ending_in(60)}));
}

#[tokio::test]
async fn what_a_write_returns_is_what_was_stored() {
    let fixture = start().await;
    let expired = ending_in(-1);
    put(&fixture, expired.clone()).await;
    let update = json!({
        "TableName": "plain", "Key": {"id": {"S": "a"}}, "ReturnValues": "ALL_NEW", "UpdateExpression": "SET n = :n",
        "ExpressionAttributeValues": {":n": {"N": "1"}},
    });
    let updated = json!({"id": {"S": "a"}, "n": {"N": "1"}, "until": expired["until"]});
    assert_eq!(ok(&fixture, Operation::UpdateItem, update).await["Attributes"], updated);
    assert_eq!(got(&fixture, "a").await, json!({}), "an update does not bring it back");
    let mut body = put_of(expired.clone());
    body["ReturnValues"] = json!("ALL_OLD");
    assert_eq!(ok(&fixture, Operation::PutItem, body).await["Attributes"], updated);
    let delete = json!({"TableName": "plain", "Key": {"id": {"S": "a"}}, "ReturnValues": "ALL_OLD"});
    assert_eq!(ok(&fixture, Operation::DeleteItem, delete.clone()).await["Attributes"], expired);
    assert_eq!(ok(&fixture, Operation::DeleteItem, delete).await, json!({}));
}
