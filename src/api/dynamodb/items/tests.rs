//! Operations on items over services in memory: what is written is read, in both protocols; what is returned is what was asked
//! for; mistakes are told in AWS's order.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::dispatch::Operation;
use crate::api::dynamodb::failure::Failure;
use crate::api::testing::Fixture;
use crate::domain::ids::PrincipalId;
use crate::domain::usage::Cost;
use crate::domain::{Refusal, RefusalKind, TenantName};
use crate::services::ports::{Caller, Capability, Catalog};

mod expired;
mod with_indexes;

/// The answer to a call of a principal of the tenant `acme` who may read and write, and what it cost all together.
async fn called(fixture: &Fixture, operation: Operation, body: &str) -> (Answered, Cost) {
    called_as(fixture, vec![Capability::Read, Capability::Write], operation, body).await
}

/// The same of one who may do this.
async fn called_as(
    fixture: &Fixture,
    capabilities: Vec<Capability>,
    operation: Operation,
    body: &str,
) -> (Answered, Cost) {
    let tenant = TenantName::new("acme").unwrap();
    let tenant_id = fixture.catalog.tenant(&tenant).unwrap().id;
    let caller = Arc::new(Caller {
        principal: PrincipalId::from_bytes([1; 16]),
        name: "someone".into(),
        tenant: Some((tenant_id, tenant.clone())),
        capabilities,
    });
    let call = Call {
        state: &fixture.state,
        operation,
        caller: &caller,
        tenant: &tenant,
        tenant_id,
        body: Bytes::copy_from_slice(body.as_bytes()),
        location: &fixture.state.location,
        host: "",
        served: Default::default(),
    };
    let answered = match operation {
        Operation::PutItem => put_item(&call).await,
        Operation::GetItem => get_item(&call).await,
        Operation::UpdateItem => update_item(&call).await,
        Operation::DeleteItem => delete_item(&call).await,
        Operation::BatchGetItem => batch_get_item(&call).await,
        _ => batch_write_item(&call).await,
    };
    let mut sum = Cost::default();
    for (_, cost) in call.served.borrow().iter() {
        sum.read_half_units += cost.read_half_units;
        sum.write_units += cost.write_units;
    }
    (answered, sum)
}

async fn ok(fixture: &Fixture, operation: Operation, body: Value) -> Value {
    let (answered, _) = called(fixture, operation, &body.to_string()).await;
    serde_json::from_slice(&answered.unwrap_or_else(|failure| panic!("{failure:?}"))).unwrap()
}

async fn failure(fixture: &Fixture, operation: Operation, body: Value) -> Failure {
    called(fixture, operation, &body.to_string()).await.0.unwrap_err()
}

async fn message(fixture: &Fixture, operation: Operation, body: Value) -> String {
    let failure = failure(fixture, operation, body).await;
    assert_eq!(failure.name(), "ValidationException");
    failure.message().unwrap().to_owned()
}

async fn put(fixture: &Fixture, item: Value) {
    let answer = ok(fixture, Operation::PutItem, json!({"TableName": "plain", "Item": item})).await;
    assert_eq!(answer, json!({}));
}

async fn got(fixture: &Fixture, id: &str) -> Value {
    let body = json!({"TableName": "plain", "Key": {"id": {"S": id}}, "ConsistentRead": true});
    ok(fixture, Operation::GetItem, body).await
}

#[tokio::test]
async fn what_is_put_is_got_and_deleted() {
    let fixture = Fixture::start().await;
    let item = json!({"id": {"S": "a"}, "n": {"N": "1.50"}, "m": {"M": {"x": {"L": [{"NULL": true}]}}}});
    put(&fixture, item).await;
    let there = json!({"Item": {"id": {"S": "a"}, "n": {"N": "1.5"}, "m": {"M": {"x": {"L": [{"NULL": true}]}}}}});
    assert_eq!(got(&fixture, "a").await, there);
    let gone = ok(
        &fixture,
        Operation::DeleteItem,
        json!({"TableName": "plain", "Key": {"id": {"S": "a"}}, "ReturnValues": "ALL_OLD"}),
    );
    assert_eq!(gone.await["Attributes"], there["Item"]);
    assert_eq!(got(&fixture, "a").await, json!({}));
    let again = ok(&fixture, Operation::DeleteItem, json!({"TableName": "plain", "Key": {"id": {"S": "a"}}}));
    assert_eq!(again.await, json!({}));
}

#[tokio::test]
async fn who_may_only_write_is_shown_nothing() {
    let fixture = Fixture::start().await;
    put(&fixture, json!({"id": {"S": "a"}, "secret": {"S": "x"}})).await;
    let asked = async |more: Value| {
        let mut body = json!({"TableName": "plain", "Item": {"id": {"S": "a"}}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        called_as(&fixture, vec![Capability::Write], Operation::PutItem, &body.to_string()).await.0
    };
    let failing =
        json!({"ConditionExpression": "attribute_not_exists(id)", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"});
    for more in [json!({"ReturnValues": "ALL_OLD"}), failing] {
        assert_eq!(asked(more).await.unwrap_err().name(), "AccessDeniedException");
    }
    assert_eq!(got(&fixture, "a").await["Item"]["secret"], json!({"S": "x"}), "nothing was written");
    assert_eq!(asked(json!({})).await.unwrap(), b"{}");
}

#[tokio::test]
async fn both_protocols_see_the_same_items() {
    let fixture = Fixture::start().await;
    put(&fixture, json!({"id": {"S": "a"}, "n": {"N": "1"}})).await;
    let read = fixture.ask("GET", "/v1/tenant/acme/table/plain/id/a", &[], "").await;
    assert_eq!(read.json(), json!({"n": 1}));
    let body = r#"{"at":7,"id":"b","s":{"$string_set":["y","x"]}}"#;
    let written = fixture.ask("PUT", "/v1/tenant/acme/table/plain/id/b", &[], body).await;
    assert_eq!(written.status, 201, "{written:?}");
    assert_eq!(
        got(&fixture, "b").await,
        json!({"Item": {"id": {"S": "b"}, "at": {"N": "7"}, "s": {"SS": ["x", "y"]}}})
    );
}

#[tokio::test]
async fn a_table_is_found_by_its_arn_and_not_by_that_of_another() {
    let fixture = Fixture::start().await;
    put(&fixture, json!({"id": {"S": "a"}})).await;
    let key = json!({"id": {"S": "a"}});
    let own = json!({"TableName": "arn:aws:dynamodb:NA:acme:table/plain", "Key": key});
    assert_eq!(ok(&fixture, Operation::GetItem, own).await, json!({"Item": key}));
    for other in ["arn:aws:dynamodb:NA:globex:table/plain", "arn:aws:dynamodb:eu:acme:table/plain", "nothing"] {
        let failure = failure(&fixture, Operation::GetItem, json!({"TableName": other, "Key": key})).await;
        assert_eq!(
            (failure.name(), failure.message()),
            ("ResourceNotFoundException", Some("Requested resource not found"))
        );
    }
}

#[tokio::test]
async fn an_update_returns_what_was_asked_for() {
    let fixture = Fixture::start().await;
    let update = |returns: &str| {
        json!({
            "TableName": "plain", "Key": {"id": {"S": "a"}}, "ReturnValues": returns,
            "UpdateExpression": "SET n = if_not_exists(n, :zero) + :one",
            "ExpressionAttributeValues": {":zero": {"N": "0"}, ":one": {"N": "1"}},
        })
    };
    for (returns, attributes) in [
        ("NONE", json!(null)),
        ("ALL_OLD", json!({"id": {"S": "a"}, "n": {"N": "1"}})),
        ("UPDATED_OLD", json!({"n": {"N": "2"}})),
        ("ALL_NEW", json!({"id": {"S": "a"}, "n": {"N": "4"}})),
        ("UPDATED_NEW", json!({"n": {"N": "5"}})),
    ] {
        assert_eq!(ok(&fixture, Operation::UpdateItem, update(returns)).await["Attributes"], attributes, "{returns}");
    }
    let key_only = json!({"TableName": "plain", "Key": {"id": {"S": "b"}}, "ReturnValues": "UPDATED_NEW"});
    assert_eq!(ok(&fixture, Operation::UpdateItem, key_only).await, json!({}));
    assert_eq!(got(&fixture, "b").await, json!({"Item": {"id": {"S": "b"}}}));
    let of_key = json!({
        "TableName": "plain", "Key": {"id": {"S": "a"}}, "UpdateExpression": "REMOVE id",
    });
    assert_eq!(
        message(&fixture, Operation::UpdateItem, of_key).await,
        "One or more parameter values were invalid: Cannot update attribute id. This attribute is part of the key"
    );
}

#[tokio::test]
async fn a_condition_that_does_not_hold_shows_the_item_where_that_is_wanted() {
    let fixture = Fixture::start().await;
    put(&fixture, json!({"id": {"S": "a"}, "n": {"N": "1"}})).await;
    let item = json!({"id": {"S": "a"}, "n": {"N": "2"}});
    let mut body = json!({"TableName": "plain", "Item": item, "ConditionExpression": "attribute_not_exists(id)"});
    let plain = failure(&fixture, Operation::PutItem, body.clone()).await;
    let told: Value = serde_json::from_slice(&plain.body()).unwrap();
    assert_eq!((plain.name(), &told["Item"]), ("ConditionalCheckFailedException", &json!(null)));
    body["ReturnValuesOnConditionCheckFailure"] = json!("ALL_OLD");
    let with_item = failure(&fixture, Operation::PutItem, body).await;
    let told: Value = serde_json::from_slice(&with_item.body()).unwrap();
    assert_eq!(told["Item"], json!({"id": {"S": "a"}, "n": {"N": "1"}}));
    assert_eq!(got(&fixture, "a").await["Item"]["n"], json!({"N": "1"}));
}

#[tokio::test]
async fn consumed_capacity_is_that_of_the_larger_item() {
    let fixture = Fixture::start().await;
    let large = json!({"id": {"S": "a"}, "t": {"S": "x".repeat(3000)}});
    let small = json!({"id": {"S": "a"}});
    for (item, units) in [(&large, 3.0), (&small, 3.0), (&small, 1.0)] {
        let body = json!({"TableName": "plain", "Item": item, "ReturnConsumedCapacity": "TOTAL"});
        let (answered, cost) = called(&fixture, Operation::PutItem, &body.to_string()).await;
        let answer: Value = serde_json::from_slice(&answered.unwrap()).unwrap();
        assert_eq!(answer, json!({"ConsumedCapacity": {"TableName": "plain", "CapacityUnits": units}}));
        assert_eq!(cost.write_units as f64, units);
    }
    put(&fixture, json!({"id": {"S": "b"}, "t": {"S": "x".repeat(5000)}})).await;
    for (id, is_consistent, units) in [("b", true, 2.0), ("b", false, 1.0), ("none", false, 0.5)] {
        let body = json!({
            "TableName": "plain", "Key": {"id": {"S": id}}, "ConsistentRead": is_consistent,
            "ReturnConsumedCapacity": "INDEXES", "ProjectionExpression": "id",
        });
        let answer = ok(&fixture, Operation::GetItem, body).await;
        let consumed = json!({"TableName": "plain", "CapacityUnits": units, "Table": {"CapacityUnits": units}});
        assert_eq!(answer["ConsumedCapacity"], consumed);
    }
}

#[tokio::test]
async fn mistakes_are_told_in_order() {
    let fixture = Fixture::start().await;
    let put = async |body: Value| message(&fixture, Operation::PutItem, body).await;
    assert_eq!(
        put(json!({"ReturnValues": "SOME"})).await,
        concat!(
            "3 validation errors detected: Value null at 'tableName' failed to satisfy constraint: Member must not be null; ",
            "Value null at 'item' failed to satisfy constraint: Member must not be null; ",
            "Value 'SOME' at 'returnValues' failed to satisfy constraint: ",
            "Member must satisfy enum value set: [ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]"
        )
    );
    let mut body = json!({"TableName": "nothing", "Item": {"id": {"SS": []}}, "ReturnValues": "ALL_NEW"});
    assert_eq!(put(body.clone()).await, "One or more parameter values were invalid: An string set  may not be empty");
    body["Item"] = json!({"t": {"S": "x".repeat(400 << 10)}});
    assert_eq!(put(body.clone()).await, "ReturnValues can only be ALL_OLD or NONE");
    body["ReturnValues"] = json!("NONE");
    assert_eq!(put(body.clone()).await, "Item size has exceeded the maximum allowed size");
    body["Item"] = json!({"t": {"S": "x"}});
    assert_eq!(failure(&fixture, Operation::PutItem, body.clone()).await.name(), "ResourceNotFoundException");
    body["TableName"] = json!("plain");
    assert_eq!(put(body).await, "One or more parameter values were invalid: Missing the key id in the item");
    let wrong = json!({"TableName": 1, "Item": {}});
    let failure = failure(&fixture, Operation::PutItem, wrong).await;
    assert_eq!(
        (failure.name(), failure.message()),
        ("SerializationException", Some("NUMBER_VALUE cannot be converted to String"))
    );
}

#[tokio::test]
async fn a_placeholder_has_no_more_than_255_bytes() {
    let fixture = Fixture::start().await;
    let body = |bytes: usize| {
        let placeholder = format!(":{}", "v".repeat(bytes - 1));
        let condition = format!("attribute_not_exists(id) OR n = {placeholder}");
        json!({
            "TableName": "plain", "Item": {"id": {"S": "a"}, "n": {"N": "1"}}, "ConditionExpression": condition,
            "ExpressionAttributeValues": {placeholder: {"N": "1"}},
        })
    };
    assert_eq!(ok(&fixture, Operation::PutItem, body(255)).await, json!({}));
    assert_eq!(
        message(&fixture, Operation::PutItem, body(256)).await,
        "ExpressionAttributeValues contains invalid key: The expression attribute map contains a key that is too long; \
         size of key: 256"
    );
}

#[tokio::test]
async fn batches_write_and_read_several() {
    let fixture = Fixture::start().await;
    put(&fixture, json!({"id": {"S": "old"}})).await;
    let writes = json!({"RequestItems": {
        "plain": [
            {"PutRequest": {"Item": {"id": {"S": "a"}, "n": {"N": "1"}}}},
            {"DeleteRequest": {"Key": {"id": {"S": "old"}}}},
        ],
        "sorted": [{"PutRequest": {"Item": {"id": {"S": "a"}, "sort": {"N": "7"}}}}],
    }, "ReturnConsumedCapacity": "TOTAL"});
    let answer = ok(&fixture, Operation::BatchWriteItem, writes).await;
    assert_eq!(answer["UnprocessedItems"], json!({}));
    assert_eq!(answer["ConsumedCapacity"][0], json!({"TableName": "plain", "CapacityUnits": 2.0}));
    let reads = json!({"RequestItems": {
        "plain": {"Keys": [{"id": {"S": "a"}}, {"id": {"S": "old"}}], "ProjectionExpression": "n"},
        "sorted": {"Keys": [{"sort": {"N": "7.0"}, "id": {"S": "a"}}], "ConsistentRead": true},
    }, "ReturnConsumedCapacity": "TOTAL"});
    let answer = ok(&fixture, Operation::BatchGetItem, reads).await;
    assert_eq!(
        answer["Responses"],
        json!({"plain": [{"n": {"N": "1"}}], "sorted": [{"id": {"S": "a"}, "sort": {"N": "7"}}]})
    );
    assert_eq!(answer["UnprocessedKeys"], json!({}));
    let consumed: Vec<&Value> =
        answer["ConsumedCapacity"].as_array().unwrap().iter().map(|consumed| &consumed["CapacityUnits"]).collect();
    assert_eq!(consumed, [&json!(1.0), &json!(1.0)]);
}

#[tokio::test]
async fn what_is_refused_for_now_comes_back_as_it_was_given() {
    let fixture = Fixture::start().await;
    let throttled = || Some(Refusal::new(RefusalKind::Throttled, "slower"));
    let first = json!({"PutRequest": {"Item": {"id": {"S": "a"}, "n": {"N": "1.0"}}}});
    let second = json!({"PutRequest": {"Item": {"id": {"S": "b"}}}});
    *fixture.items.refuse_next.lock() = throttled();
    let body = json!({"RequestItems": {"plain": [first, second]}});
    let answer = ok(&fixture, Operation::BatchWriteItem, body).await;
    assert_eq!(answer, json!({"UnprocessedItems": {"plain": [first]}}));
    *fixture.items.refuse_next.lock() = throttled();
    let part = json!({
        "Keys": [{"id": {"S": "a"}}, {"id": {"S": "b"}}], "ConsistentRead": true, "ProjectionExpression": "#i",
        "ExpressionAttributeNames": {"#i": "id"},
    });
    let answer = ok(&fixture, Operation::BatchGetItem, json!({"RequestItems": {"plain": part}})).await;
    let mut left = part.clone();
    left["Keys"] = json!([{"id": {"S": "a"}}]);
    assert_eq!(answer, json!({"Responses": {"plain": [{"id": {"S": "b"}}]}, "UnprocessedKeys": {"plain": left}}));
    *fixture.items.refuse_next.lock() = throttled();
    let only = json!({"RequestItems": {"plain": [second]}});
    let failure = failure(&fixture, Operation::BatchWriteItem, only).await;
    assert_eq!(failure.name(), "ProvisionedThroughputExceededException");
}

#[tokio::test]
async fn batches_have_limits() {
    let fixture = Fixture::start().await;
    let get = async |items: Value| message(&fixture, Operation::BatchGetItem, json!({"RequestItems": items})).await;
    let write = async |items: Value| message(&fixture, Operation::BatchWriteItem, json!({"RequestItems": items})).await;
    let keys = |count: usize| (0..count).map(|id| json!({"id": {"S": id.to_string()}})).collect::<Vec<Value>>();
    let puts = |count: usize| {
        keys(count).into_iter().map(|item| json!({"PutRequest": {"Item": item}})).collect::<Vec<Value>>()
    };
    let at_least = "Member must have length greater than or equal to 1";
    for message in [get(json!({})).await, write(json!({})).await] {
        assert_eq!(
            message,
            format!(
                "1 validation error detected: Value '{{}}' at 'requestItems' failed to satisfy constraint: {at_least}"
            )
        );
    }
    assert!(get(json!({"plain": {"Keys": keys(101)}})).await.contains("less than or equal to 100"));
    assert!(write(json!({"plain": puts(26)})).await.contains("less than or equal to 25"));
    let two = json!({"plain": {"Keys": keys(60)}, "sorted": {"Keys": keys(60)}});
    assert_eq!(get(two).await, "Too many items requested for the BatchGetItem call");
    let two = json!({"plain": puts(13), "sorted": puts(13)});
    assert_eq!(write(two).await, "Too many items requested for the BatchWriteItem call");
    let key = json!({"id": {"S": "a"}});
    let duplicates = "Provided list of item keys contains duplicates";
    assert_eq!(get(json!({"plain": {"Keys": [key, key]}})).await, duplicates);
    let put_and_delete = json!([{"PutRequest": {"Item": key}}, {"DeleteRequest": {"Key": key}}]);
    assert_eq!(write(json!({"plain": put_and_delete})).await, duplicates);
    assert!(write(json!({"plain": [{}]})).await.starts_with("Supplied AttributeValue is empty"));
    let both = json!([{"PutRequest": {"Item": key}, "DeleteRequest": {"Key": key}}]);
    assert!(write(json!({"plain": both})).await.starts_with("Supplied AttributeValue has more than one datatypes set"));
    let missing = json!({"plain": [{"PutRequest": {}}]});
    assert!(write(missing).await.contains("'requestItems.plain.member.1.member.putRequest.item'"));
}

#[tokio::test]
async fn a_key_is_the_same_by_the_name_of_its_table_and_by_the_arn() {
    let fixture = Fixture::start().await;
    let (one, other) = (json!({"id": {"S": "a"}}), json!({"id": {"S": "b"}}));
    let arn = "arn:aws:dynamodb:NA:acme:table/plain";
    let both = |by_name: &Value, by_arn: &Value| json!({"RequestItems": {"plain": by_name, arn: by_arn}});
    let put = |item: &Value| json!([{"PutRequest": {"Item": item}}]);
    let delete = |key: &Value| json!([{"DeleteRequest": {"Key": key}}]);
    let keys = |key: &Value| json!({"Keys": [key], "ConsistentRead": true});
    let duplicates = "Provided list of item keys contains duplicates";
    let twice = both(&put(&one), &delete(&one));
    assert_eq!(message(&fixture, Operation::BatchWriteItem, twice).await, duplicates);
    let twice = both(&keys(&one), &keys(&one));
    assert_eq!(message(&fixture, Operation::BatchGetItem, twice).await, duplicates);
    assert_eq!(got(&fixture, "a").await, json!({}), "nothing was written");
    let written = ok(&fixture, Operation::BatchWriteItem, both(&put(&one), &put(&other))).await;
    assert_eq!(written, json!({"UnprocessedItems": {}}));
    let read = ok(&fixture, Operation::BatchGetItem, both(&keys(&one), &keys(&other))).await;
    assert_eq!(read["Responses"], both(&json!([one]), &json!([other]))["RequestItems"]);
}

#[tokio::test]
async fn one_key_may_stand_in_two_tables() {
    let fixture = Fixture::start().await;
    let create = r#"{"id_type":"String"}"#;
    assert_eq!(fixture.ask("PUT", "/v1/tenant/acme/table/second", &[], create).await.status, 201);
    let key = json!({"id": {"S": "a"}});
    let puts = json!([{"PutRequest": {"Item": key}}]);
    let body = json!({"RequestItems": {"plain": puts, "second": puts}});
    assert_eq!(ok(&fixture, Operation::BatchWriteItem, body).await, json!({"UnprocessedItems": {}}));
    let keys = json!({"Keys": [key]});
    let body = json!({"RequestItems": {"plain": keys, "second": keys}});
    let read = ok(&fixture, Operation::BatchGetItem, body).await;
    assert_eq!(read["Responses"], json!({"plain": [key], "second": [key]}));
}

#[tokio::test]
async fn a_batch_answers_no_more_than_sixteen_megabytes() {
    let fixture = Fixture::start().await;
    let text = "x".repeat(399 << 10);
    for id in 0..45 {
        put(&fixture, json!({"id": {"S": id.to_string()}, "t": {"S": text}})).await;
    }
    let keys: Vec<Value> = (0..45).map(|id| json!({"id": {"S": id.to_string()}})).collect();
    let body = json!({"RequestItems": {"plain": {"Keys": keys}}});
    let answer = ok(&fixture, Operation::BatchGetItem, body).await;
    let answered = answer["Responses"]["plain"].as_array().unwrap().len();
    let left = answer["UnprocessedKeys"]["plain"]["Keys"].as_array().unwrap().len();
    assert_eq!((answered, left), (41, 4));
}
