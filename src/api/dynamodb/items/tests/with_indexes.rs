//! Writes to a table with local secondary indexes: what is refused, what is told, what is consumed, and how large item
//! collections are.

use async_trait::async_trait;

use super::*;
use crate::api::body::Limits;
use crate::api::testing::MemoryItems;
use crate::domain::TableName;
use crate::domain::ids::ReceiptId;
use crate::domain::key::{KeyType, PackedKey};
use crate::domain::local_index::{IndexProjection, LocalIndex};
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::services::ports::{
    Consistency, Items, ListRequest, Page, ReceiptState, Stored, StoredItem, StoredPart, WriteAnswer,
};

/// A table `indexed` (String, Integer) beside those of the fixture, with one index that shows all, and one that shows keys.
async fn make_table(fixture: &Fixture) {
    let mut specification = TableSpecification::new(KeyType::String);
    specification.sort_type = Some(KeyType::Integer);
    specification.local_indexes = vec![
        LocalIndex::of("by-grade", "grade", KeyType::Integer, IndexProjection::All),
        LocalIndex::of("by-title", "title", KeyType::String, IndexProjection::KeysOnly),
    ];
    let root = Caller {
        principal: PrincipalId::from_bytes([1; 16]),
        name: "root".into(),
        tenant: None,
        capabilities: Vec::new(),
    };
    let (tenant, table) = (TenantName::new("acme").unwrap(), TableName::new("indexed").unwrap());
    fixture.catalog.create_table(&root, &tenant, &table, specification).await.unwrap();
}

async fn start() -> Fixture {
    let fixture = Fixture::start().await;
    make_table(&fixture).await;
    fixture
}

/// An item of the ID `a` with these attributes besides its key.
fn item(sort: i64, more: Value) -> Value {
    let mut item = json!({"id": {"S": "a"}, "sort": {"N": sort.to_string()}});
    item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    item
}

fn key(sort: i64) -> Value {
    item(sort, json!({}))
}

fn put_of(item: Value) -> Value {
    json!({"TableName": "indexed", "Item": item})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The item with this sort key, or null.
async fn there(fixture: &Fixture, sort: i64) -> Value {
    let body = json!({"TableName": "indexed", "Key": key(sort), "ConsistentRead": true});
    ok(fixture, Operation::GetItem, body).await["Item"].clone()
}

#[tokio::test]
async fn an_item_that_an_index_cannot_hold_is_refused() {
    let fixture = start().await;
    let wrong = "One or more parameter values were invalid: Type mismatch for Index Key grade Expected: N Actual: S \
                 IndexName: by-grade";
    let put = put_of(item(1, json!({"grade": {"S": "1"}})));
    assert_eq!(message(&fixture, Operation::PutItem, put.clone()).await, wrong);
    let requests = json!([{"PutRequest": {"Item": item(2, json!({}))}}, {"PutRequest": {"Item": put["Item"]}}]);
    let batch = json!({"RequestItems": {"indexed": requests}});
    assert_eq!(message(&fixture, Operation::BatchWriteItem, batch).await, wrong);
    assert_eq!(there(&fixture, 2).await, json!(null), "none of a batch with a mistake is written");
    let empty = message(&fixture, Operation::PutItem, put_of(item(1, json!({"title": {"S": ""}})))).await;
    assert!(empty.ends_with("IndexName: by-title, IndexKey: title"), "{empty}");
    let long = put_of(item(1, json!({"title": {"S": "x".repeat(1025)}})));
    let long = message(&fixture, Operation::PutItem, long).await;
    assert!(long.ends_with("Aggregated size of all range keys has exceeded the size limit of 1024 bytes"), "{long}");
    // The key is looked at first, and a condition only by the range.
    let no_sort = put_of(json!({"id": {"S": "a"}, "grade": {"S": "1"}}));
    assert!(message(&fixture, Operation::PutItem, no_sort).await.ends_with("Missing the key sort in the item"));
    let failing = with(put, json!({"ConditionExpression": "attribute_exists(id)"}));
    assert_eq!(message(&fixture, Operation::PutItem, failing).await, wrong);
    assert_eq!(there(&fixture, 1).await, json!(null));
}

#[tokio::test]
async fn an_update_is_refused_by_the_range() {
    let fixture = start().await;
    ok(&fixture, Operation::PutItem, put_of(item(1, json!({"grade": {"N": "7"}})))).await;
    let update = |value: Value| {
        json!({
            "TableName": "indexed", "Key": key(1), "UpdateExpression": "SET grade = :v",
            "ExpressionAttributeValues": {":v": value},
        })
    };
    let told = message(&fixture, Operation::UpdateItem, update(json!({"S": "x"}))).await;
    assert_eq!(told, "The update expression attempted to update the secondary index key to unsupported type");
    let legacy = json!({
        "TableName": "indexed", "Key": key(1),
        "AttributeUpdates": {"grade": {"Action": "PUT", "Value": {"BOOL": true}}},
    });
    assert_eq!(message(&fixture, Operation::UpdateItem, legacy).await, told);
    assert_eq!(there(&fixture, 1).await["grade"], json!({"N": "7"}));
    ok(&fixture, Operation::UpdateItem, update(json!({"N": "8"}))).await;
    assert_eq!(there(&fixture, 1).await["grade"], json!({"N": "8"}));
}

#[tokio::test]
async fn writes_consume_what_the_indexes_show() {
    let fixture = start().await;
    let there = json!({"grade": {"N": "1"}, "title": {"S": "x"}});
    let put = |more: Value| (Operation::PutItem, put_of(item(1, more)));
    let delete = || (Operation::DeleteItem, json!({"TableName": "indexed", "Key": key(1)}));
    let set = json!({
        "TableName": "indexed", "Key": key(1), "UpdateExpression": "SET #a = :v",
        "ExpressionAttributeNames": {"#a": "grade"}, "ExpressionAttributeValues": {":v": {"N": "3"}},
    });
    for (why, (operation, body), by_grade, by_title) in [
        ("new in both", put(there.clone()), 1.0, 1.0),
        ("as it was", put(there.clone()), 0.0, 0.0),
        ("one shows all", put(with(there.clone(), json!({"note": {"S": "y"}}))), 1.0, 0.0),
        ("elsewhere in one", put(json!({"grade": {"N": "2"}, "title": {"S": "x"}})), 2.0, 0.0),
        ("elsewhere by an update", (Operation::UpdateItem, set), 2.0, 0.0),
        ("gone from one", put(json!({"title": {"S": "x"}})), 1.0, 0.0),
        ("gone from the other", delete(), 0.0, 1.0),
        ("not there", delete(), 0.0, 0.0),
    ] {
        let body = with(body, json!({"ReturnConsumedCapacity": "INDEXES"}));
        let (answered, cost) = called(&fixture, operation, &body.to_string()).await;
        let answer: Value = serde_json::from_slice(&answered.unwrap()).unwrap();
        let units = 1.0 + by_grade + by_title;
        let mut consumed = json!({"TableName": "indexed", "CapacityUnits": units, "Table": {"CapacityUnits": 1.0}});
        for (name, units) in
            [("by-grade", by_grade), ("by-title", by_title)].into_iter().filter(|(_, units)| *units > 0.0)
        {
            consumed["LocalSecondaryIndexes"][name] = json!({"CapacityUnits": units});
        }
        assert_eq!(answer, json!({"ConsumedCapacity": consumed}), "{why}");
        assert_eq!(cost.write_units as f64, units, "{why}");
    }
    // Where the answer tells nothing of it, a put counts as new in the index.
    let (answered, cost) = called(&fixture, Operation::PutItem, &put(there).1.to_string()).await;
    assert_eq!((answered.unwrap().as_slice(), cost.write_units), (b"{}".as_slice(), 3));
}

#[tokio::test]
async fn a_batch_adds_up_what_its_writes_consume() {
    let fixture = start().await;
    let put = |sort: i64| json!({"PutRequest": {"Item": item(sort, json!({"grade": {"N": "1"}}))}});
    let body = json!({
        "RequestItems": {"indexed": [put(1), put(2)], "plain": [{"PutRequest": {"Item": {"id": {"S": "a"}}}}]},
        "ReturnConsumedCapacity": "INDEXES",
    });
    let (answered, cost) = called(&fixture, Operation::BatchWriteItem, &body.to_string()).await;
    let answer: Value = serde_json::from_slice(&answered.unwrap()).unwrap();
    let indexed = json!({
        "TableName": "indexed", "CapacityUnits": 4.0, "Table": {"CapacityUnits": 2.0},
        "LocalSecondaryIndexes": {"by-grade": {"CapacityUnits": 2.0}},
    });
    let plain = json!({"TableName": "plain", "CapacityUnits": 1.0, "Table": {"CapacityUnits": 1.0}});
    assert_eq!(answer["ConsumedCapacity"], json!([indexed, plain]));
    assert_eq!(cost.write_units, 5);
}

#[tokio::test]
async fn an_answer_shows_what_was_asked_for_and_no_more() {
    let fixture = start().await;
    let update = |returns: &str| {
        json!({
            "TableName": "indexed", "Key": key(1), "ReturnValues": returns, "ReturnConsumedCapacity": "TOTAL",
            "UpdateExpression": "SET n = if_not_exists(n, :zero) + :one, grade = :one",
            "ExpressionAttributeValues": {":zero": {"N": "0"}, ":one": {"N": "1"}},
        })
    };
    let whole = |n: &str| item(1, json!({"n": {"N": n}, "grade": {"N": "1"}}));
    let touched = |n: &str| json!({"n": {"N": n}, "grade": {"N": "1"}});
    for (returns, attributes) in [
        ("NONE", json!(null)),
        ("ALL_OLD", whole("1")),
        ("UPDATED_OLD", touched("2")),
        ("ALL_NEW", whole("4")),
        ("UPDATED_NEW", touched("5")),
    ] {
        assert_eq!(ok(&fixture, Operation::UpdateItem, update(returns)).await["Attributes"], attributes, "{returns}");
    }
    let inner = json!({"m": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}}, "title": {"S": "t"}});
    assert_eq!(ok(&fixture, Operation::PutItem, put_of(item(1, inner.clone()))).await, json!({}));
    let part = json!({
        "TableName": "indexed", "Key": key(1), "ReturnValues": "UPDATED_NEW", "ReturnConsumedCapacity": "TOTAL",
        "UpdateExpression": "REMOVE m.x, title SET m.y = :v", "ExpressionAttributeValues": {":v": {"N": "3"}},
    });
    let answer = ok(&fixture, Operation::UpdateItem, part).await;
    assert_eq!(answer["Attributes"], json!({"m": {"M": {"y": {"N": "3"}}}}));
    let gone = json!({"TableName": "indexed", "Key": key(1)});
    assert_eq!(ok(&fixture, Operation::DeleteItem, gone).await, json!({}));
}

#[tokio::test]
async fn who_may_only_write_writes_and_is_shown_nothing() {
    let fixture = start().await;
    let asked = async |operation: Operation, body: Value| {
        called_as(&fixture, vec![Capability::Write], operation, &body.to_string()).await.0
    };
    let put = put_of(item(1, json!({"grade": {"N": "1"}})));
    assert_eq!(asked(Operation::PutItem, put.clone()).await.unwrap(), b"{}");
    let seen = asked(Operation::PutItem, with(put, json!({"ReturnValues": "ALL_OLD"}))).await;
    assert_eq!(seen.unwrap_err().name(), "AccessDeniedException");
    let update = json!({
        "TableName": "indexed", "Key": key(1), "UpdateExpression": "ADD grade :v",
        "ExpressionAttributeValues": {":v": {"N": "1"}},
    });
    assert_eq!(asked(Operation::UpdateItem, update).await.unwrap(), b"{}");
    assert_eq!(there(&fixture, 1).await["grade"], json!({"N": "2"}));
}

#[tokio::test]
async fn a_condition_that_does_not_hold_costs_the_table_alone() {
    let fixture = start().await;
    ok(&fixture, Operation::PutItem, put_of(item(1, json!({"grade": {"N": "1"}})))).await;
    let body = with(
        put_of(item(1, json!({"grade": {"N": "2"}}))),
        json!({"ConditionExpression": "attribute_not_exists(id)", "ReturnConsumedCapacity": "INDEXES"}),
    );
    let (answered, cost) = called(&fixture, Operation::PutItem, &body.to_string()).await;
    let failure = answered.unwrap_err();
    let told: Value = serde_json::from_slice(&failure.body()).unwrap();
    assert_eq!((failure.name(), &told["Item"]), ("ConditionalCheckFailedException", &json!(null)));
    assert_eq!(cost.write_units, 1);
}

/// The metrics of the item collection of this ID, where it is small.
fn small(id: &str) -> Value {
    json!({"ItemCollectionKey": {"id": {"S": id}}, "SizeEstimateRangeGB": [0.0, 1.0]})
}

#[tokio::test]
async fn item_collections_are_measured_where_there_are_any() {
    let fixture = start().await;
    let size = json!({"ReturnItemCollectionMetrics": "SIZE"});
    let told = json!({"ItemCollectionMetrics": small("a")});
    let put = put_of(item(1, json!({"grade": {"N": "1"}})));
    assert_eq!(ok(&fixture, Operation::PutItem, with(put.clone(), size.clone())).await, told);
    assert_eq!(ok(&fixture, Operation::PutItem, put).await, json!({}));
    let keyed = json!({"TableName": "indexed", "Key": key(1)});
    assert_eq!(ok(&fixture, Operation::UpdateItem, with(keyed.clone(), size.clone())).await, told);
    assert_eq!(ok(&fixture, Operation::DeleteItem, with(keyed, size.clone())).await, told);
    let plain = json!({"TableName": "plain", "Item": {"id": {"S": "a"}}});
    assert_eq!(ok(&fixture, Operation::PutItem, with(plain, size)).await, json!({}));
}

#[tokio::test]
async fn a_batch_tells_each_item_collection_once() {
    let fixture = start().await;
    let put = |id: &str, sort: &str| json!({"PutRequest": {"Item": {"id": {"S": id}, "sort": {"N": sort}}}});
    let plain = json!([{"PutRequest": {"Item": {"id": {"S": "a"}}}}]);
    let first = put("later", "1");
    let body = json!({
        "RequestItems": {"indexed": [first, put("a", "1"), put("b", "1"), put("a", "2")], "plain": plain},
        "ReturnItemCollectionMetrics": "SIZE",
    });
    *fixture.items.refuse_next.lock() = Some(Refusal::new(RefusalKind::Throttled, "slower"));
    let answer = ok(&fixture, Operation::BatchWriteItem, body).await;
    assert_eq!(answer["UnprocessedItems"], json!({"indexed": [first]}));
    let metrics = answer["ItemCollectionMetrics"].as_object().unwrap();
    assert_eq!(metrics.keys().collect::<Vec<_>>(), ["indexed"]);
    let mut told = metrics["indexed"].as_array().unwrap().clone();
    told.sort_by_key(|metrics| metrics["ItemCollectionKey"].to_string());
    assert_eq!(told, [small("a"), small("b")]);
    let none = json!({"RequestItems": {"plain": plain}, "ReturnItemCollectionMetrics": "SIZE"});
    assert_eq!(ok(&fixture, Operation::BatchWriteItem, none).await, json!({"UnprocessedItems": {}}));
}

/// Items whose size nobody can tell.
struct Unmeasured(Arc<MemoryItems>);

#[async_trait]
impl Items for Unmeasured {
    async fn read(
        &self,
        table: &Arc<TableDefinition>,
        key: PackedKey,
        consistency: Consistency,
    ) -> Result<Option<StoredItem>, Refusal> {
        self.0.read(table, key, consistency).await
    }

    async fn write(
        &self,
        table: &Arc<TableDefinition>,
        operation: crate::replication::operation::Operation,
        respond_async: bool,
    ) -> Result<WriteAnswer, Refusal> {
        self.0.write(table, operation, respond_async).await
    }

    async fn list(&self, table: &Arc<TableDefinition>, request: ListRequest) -> Result<Page, Refusal> {
        self.0.list(table, request).await
    }

    async fn receipt(&self, table: &Arc<TableDefinition>, receipt: ReceiptId) -> Result<Option<ReceiptState>, Refusal> {
        self.0.receipt(table, receipt).await
    }

    async fn stored(&self, _table: &Arc<TableDefinition>, _part: StoredPart) -> Result<Stored, Refusal> {
        Err(Refusal::unavailable("not now", 1))
    }
}

#[tokio::test]
async fn a_size_that_cannot_be_told_fails_no_write() {
    let fixture = Fixture::start_over(Limits::default(), |items, _| Arc::new(Unmeasured(items))).await;
    make_table(&fixture).await;
    let size = json!({"ReturnItemCollectionMetrics": "SIZE"});
    let put = put_of(item(1, json!({"grade": {"N": "1"}})));
    assert_eq!(ok(&fixture, Operation::PutItem, with(put, size.clone())).await, json!({}));
    let request = json!({"PutRequest": {"Item": item(2, json!({}))}});
    let batch = with(json!({"RequestItems": {"indexed": [request]}}), size);
    assert_eq!(ok(&fixture, Operation::BatchWriteItem, batch).await, json!({"UnprocessedItems": {}}));
    assert_eq!(there(&fixture, 2).await, key(2));
}
