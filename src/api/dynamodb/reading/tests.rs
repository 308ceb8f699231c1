//! Query and Scan over items in memory, asked with JSON and answered with JSON.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::call::Call;
use crate::api::dynamodb::dispatch::Operation as Named;
use crate::api::dynamodb::failure::Failure;
use crate::api::testing::Fixture;
use crate::domain::ids::PrincipalId;
use crate::domain::key::{KeyValue, PackedKey};
use crate::domain::table::TableDefinition;
use crate::domain::{TableName, TenantName};
use crate::replication::operation::{Change, Operation, Preconditions};
use crate::services::ports::{Caller, Capability, Catalog, Items};

mod indexes;

/// A tenant with the tables `plain` (String) and `sorted` (String, Integer).
struct Store {
    fixture: Fixture,
    caller: Arc<Caller>,
    tenant: TenantName,
}

impl Store {
    async fn new() -> Store {
        let fixture = Fixture::start().await;
        let tenant = TenantName::new("acme").unwrap();
        let id = fixture.catalog.tenant(&tenant).unwrap().id;
        let caller = Arc::new(Caller {
            principal: PrincipalId::from_bytes([1; 16]),
            name: "someone".into(),
            tenant: Some((id, tenant.clone())),
            capabilities: vec![Capability::Read],
        });
        Store { fixture, caller, tenant }
    }

    fn table(&self, name: &str) -> Arc<TableDefinition> {
        self.fixture.catalog.table(&self.tenant, &TableName::new(name).unwrap()).unwrap()
    }

    async fn put(&self, table: &str, id: &str, sort: Option<i64>, attributes: Value) {
        let sort = sort.map(|sort| KeyValue::Integer(sort.into()));
        let operation = Operation {
            key: PackedKey::new(&KeyValue::String(id.into()), sort.as_ref()),
            change: Change::Put(attribute_value::read_item(attributes.to_string().as_bytes()).unwrap()),
            preconditions: Preconditions::default(),
            conditional: None,
            request: None,
            receipt: None,
        };
        self.fixture.items.write(&self.table(table), operation, false).await.unwrap();
    }

    async fn ask(&self, named: Named, body: Value) -> Result<Value, Failure> {
        self.ask_noting(named, body).await.0
    }

    /// The answer, and the half units of reading that were noted for the table.
    async fn ask_noting(&self, named: Named, body: Value) -> (Result<Value, Failure>, u64) {
        let call = Call {
            state: &self.fixture.state,
            operation: named,
            caller: &self.caller,
            tenant: &self.tenant,
            tenant_id: self.fixture.catalog.tenant(&self.tenant).unwrap().id,
            body: body.to_string().into(),
            location: &self.fixture.state.location,
            host: "localhost:8000",
            served: RefCell::default(),
        };
        let answered = match named {
            Named::Scan => super::scan(&call).await,
            _ => super::query(&call).await,
        };
        let noted = call.served.borrow().iter().map(|(_, cost)| cost.read_half_units).sum();
        (answered.map(|json| serde_json::from_slice(&json).unwrap()), noted)
    }

    async fn query(&self, body: Value) -> Value {
        self.ask(Named::Query, body).await.unwrap()
    }

    async fn scan(&self, body: Value) -> Value {
        self.ask(Named::Scan, body).await.unwrap()
    }

    async fn refusal(&self, named: Named, body: Value) -> String {
        self.ask(named, body).await.unwrap_err().message().unwrap_or_default().to_owned()
    }

    /// Puts items with the sort keys 1 to `count` under this ID.
    async fn fill(&self, id: &str, count: i64) {
        for sort in 1..=count {
            self.put("sorted", id, Some(sort), json!({"value": {"N": (sort % 2).to_string()}})).await;
        }
    }
}

/// A query of the table `sorted` for the ID `a`, with more members.
fn of_a(more: Value) -> Value {
    let mut body = json!({
        "TableName": "sorted",
        "KeyConditionExpression": "id = :id",
        "ExpressionAttributeValues": {":id": {"S": "a"}},
    });
    for (name, value) in more.as_object().unwrap() {
        match (name.as_str(), value.as_object()) {
            ("ExpressionAttributeValues", Some(values)) => {
                body[name].as_object_mut().unwrap().extend(values.clone());
            }
            _ => body[name] = value.clone(),
        }
    }
    body
}

fn sorts(answer: &Value) -> Vec<i64> {
    let number = |item: &Value| item["sort"]["N"].as_str().unwrap().parse().unwrap();
    answer["Items"].as_array().unwrap().iter().map(number).collect()
}

#[tokio::test]
async fn items_come_in_order_with_their_keys() {
    let store = Store::new().await;
    store.fill("a", 3).await;
    store.fill("b", 1).await;
    let answer = store.query(of_a(json!({}))).await;
    assert_eq!((&answer["Count"], &answer["ScannedCount"]), (&json!(3), &json!(3)));
    assert_eq!(answer["Items"][0], json!({"id": {"S": "a"}, "sort": {"N": "1"}, "value": {"N": "1"}}));
    assert!(answer.get("LastEvaluatedKey").is_none() && answer.get("ConsumedCapacity").is_none());
    let backwards = store.query(of_a(json!({"ScanIndexForward": false}))).await;
    assert_eq!(sorts(&backwards), [3, 2, 1]);
    let none = store
        .query(json!({
            "TableName": "sorted", "KeyConditionExpression": "id = :id", "ExpressionAttributeValues": {":id": {"S": "c"}}
        }))
        .await;
    assert_eq!(none, json!({"Count": 0, "ScannedCount": 0, "Items": []}));
}

#[tokio::test]
async fn sort_conditions_choose() {
    let store = Store::new().await;
    store.fill("a", 5).await;
    for (condition, found) in [
        ("#s = :two", vec![2]),
        ("#s < :two", vec![1]),
        ("#s <= :two", vec![1, 2]),
        ("#s > :two", vec![3, 4, 5]),
        ("#s >= :two", vec![2, 3, 4, 5]),
        ("#s BETWEEN :two AND :two", vec![2]),
    ] {
        let answer = store
            .query(of_a(json!({
                "KeyConditionExpression": format!("id = :id AND {condition}"),
                "ExpressionAttributeNames": {"#s": "sort"},
                "ExpressionAttributeValues": {":two": {"N": "2"}},
            })))
            .await;
        assert_eq!(sorts(&answer), found, "{condition}");
    }
    let legacy = store
        .query(json!({
            "TableName": "sorted",
            "KeyConditions": {
                "id": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]},
                "sort": {"ComparisonOperator": "GT", "AttributeValueList": [{"N": "3"}]},
            },
        }))
        .await;
    assert_eq!(sorts(&legacy), [4, 5]);
}

#[tokio::test]
async fn limit_counts_what_is_looked_at() {
    let store = Store::new().await;
    store.fill("a", 4).await;
    let odd = json!({
        "FilterExpression": "#v = :one",
        "ExpressionAttributeNames": {"#v": "value"},
        "ExpressionAttributeValues": {":one": {"N": "1"}},
        "Limit": 2,
    });
    let first = store.query(of_a(odd.clone())).await;
    assert_eq!((sorts(&first), &first["Count"], &first["ScannedCount"]), (vec![1], &json!(1), &json!(2)));
    assert_eq!(first["LastEvaluatedKey"], json!({"id": {"S": "a"}, "sort": {"N": "2"}}));
    let mut next = of_a(odd);
    next["ExclusiveStartKey"] = first["LastEvaluatedKey"].clone();
    let second = store.query(next.clone()).await;
    // Limit was reached, though nothing follows.
    assert_eq!(sorts(&second), [3]);
    assert_eq!(second["LastEvaluatedKey"], json!({"id": {"S": "a"}, "sort": {"N": "4"}}));
    next["ExclusiveStartKey"] = second["LastEvaluatedKey"].clone();
    assert_eq!(store.query(next).await, json!({"Count": 0, "ScannedCount": 0, "Items": []}));
}

#[tokio::test]
async fn backwards_goes_on_before_the_key() {
    let store = Store::new().await;
    store.fill("a", 3).await;
    let start = json!({"id": {"S": "a"}, "sort": {"N": "3"}});
    let answer = store.query(of_a(json!({"ScanIndexForward": false, "ExclusiveStartKey": start}))).await;
    assert_eq!(sorts(&answer), [2, 1]);
}

#[tokio::test]
async fn an_answer_ends_with_the_item_that_reaches_a_mebibyte() {
    let store = Store::new().await;
    let text = "x".repeat(300 << 10);
    for sort in 1..=5 {
        store.put("sorted", "a", Some(sort), json!({"text": {"S": text}})).await;
    }
    let answer = store.query(of_a(json!({"Select": "COUNT", "ReturnConsumedCapacity": "INDEXES"}))).await;
    assert_eq!((&answer["Count"], &answer["ScannedCount"]), (&json!(4), &json!(4)));
    assert!(answer.get("Items").is_none());
    assert_eq!(answer["LastEvaluatedKey"]["sort"], json!({"N": "4"}));
    // Four times 300 KiB and a little in units of 4 KiB, half of each for a read that may lag.
    assert_eq!(answer["ConsumedCapacity"]["CapacityUnits"], json!(150.5));
    assert_eq!(answer["ConsumedCapacity"]["Table"]["CapacityUnits"], json!(150.5));
    assert_eq!(answer["ConsumedCapacity"]["TableName"], "sorted");
}

#[tokio::test]
async fn projections_cut_items_down() {
    let store = Store::new().await;
    store.put("sorted", "a", Some(1), json!({"m": {"M": {"x": {"S": "1"}, "y": {"S": "2"}}}, "n": {"N": "1"}})).await;
    let answer = store.query(of_a(json!({"ProjectionExpression": "id, m.x"}))).await;
    assert_eq!(answer["Items"], json!([{"id": {"S": "a"}, "m": {"M": {"x": {"S": "1"}}}}]));
    let answer = store.scan(json!({"TableName": "sorted", "AttributesToGet": ["n", "other"]})).await;
    assert_eq!(answer["Items"], json!([{"n": {"N": "1"}}]));
}

#[tokio::test]
async fn segments_share_a_scan() {
    let store = Store::new().await;
    for number in 0..40 {
        store.put("plain", &format!("item-{number}"), None, json!({})).await;
    }
    let all = store.scan(json!({"TableName": "plain"})).await;
    assert_eq!(all["Count"], 40);
    let mut together = Vec::new();
    for segment in 0..3 {
        let mut body = json!({"TableName": "plain", "Segment": segment, "TotalSegments": 3, "Limit": 4});
        loop {
            let answer = store.scan(body.clone()).await;
            together.extend(answer["Items"].as_array().unwrap().iter().cloned());
            let Some(last) = answer.get("LastEvaluatedKey") else { break };
            body["ExclusiveStartKey"] = last.clone();
        }
    }
    assert_eq!(&together, all["Items"].as_array().unwrap());
    let mut wrong = 0;
    for segment in 0..3 {
        let body = json!({
            "TableName": "plain", "Segment": segment, "TotalSegments": 3, "ExclusiveStartKey": {"id": {"S": "item-0"}},
        });
        if let Err(failure) = store.ask(Named::Scan, body).await {
            wrong += 1;
            let text = "The provided starting key is invalid: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with \
                        correct Segment. TotalSegments: 3 Segment: ";
            assert_eq!(failure.message().unwrap(), format!("{text}{segment}"));
        }
    }
    assert_eq!(wrong, 2);
}

#[tokio::test]
async fn filters_of_scans_may_name_keys() {
    let store = Store::new().await;
    store.fill("a", 3).await;
    let answer = store
        .scan(json!({
            "TableName": "sorted",
            "ScanFilter": {"sort": {"ComparisonOperator": "GE", "AttributeValueList": [{"N": "2"}]}},
        }))
        .await;
    assert_eq!((sorts(&answer), &answer["ScannedCount"]), (vec![2, 3], &json!(3)));
    let filter = json!({
        "FilterExpression": "#s > :one",
        "ExpressionAttributeNames": {"#s": "sort"},
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    });
    assert_eq!(
        store.refusal(Named::Query, of_a(filter)).await,
        "Filter Expression can only contain non-primary key attributes: Primary key attribute: sort"
    );
    let legacy = json!({
        "TableName": "sorted",
        "KeyConditions": {"id": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]}},
        "QueryFilter": {"id": {"ComparisonOperator": "NOT_NULL"}},
    });
    assert_eq!(
        store.refusal(Named::Query, legacy).await,
        "QueryFilter can only contain non-primary key attributes: Primary key attribute: id"
    );
}

#[tokio::test]
async fn starting_keys_must_fit() {
    let store = Store::new().await;
    let query = |start: Value| of_a(json!({"ExclusiveStartKey": start}));
    for (start, text) in [
        (
            json!({"id": {"S": "a"}}),
            "The provided starting key is invalid: The provided key element does not match the schema",
        ),
        (
            json!({"id": {"S": "a"}, "other": {"N": "1"}}),
            "The provided starting key is invalid: The provided key element does not match the schema",
        ),
        (
            json!({"id": {"S": "a"}, "sort": {"S": "1"}}),
            "The provided starting key is invalid: The provided key element does not match the schema",
        ),
        (
            json!({"id": {"S": "b"}, "sort": {"N": "1"}}),
            "The provided starting key is outside query boundaries based on provided conditions",
        ),
    ] {
        assert_eq!(store.refusal(Named::Query, query(start)).await, text);
    }
    let mut above = query(json!({"id": {"S": "a"}, "sort": {"N": "1"}}));
    above["KeyConditionExpression"] = json!("id = :id AND #s > :one");
    above["ExpressionAttributeNames"] = json!({"#s": "sort"});
    above["ExpressionAttributeValues"][":one"] = json!({"N": "1"});
    assert_eq!(
        store.refusal(Named::Query, above).await,
        "The provided starting key does not match the range key predicate"
    );
    let scan = json!({"TableName": "sorted", "ExclusiveStartKey": {"id": {"S": "a"}}});
    assert_eq!(
        store.refusal(Named::Scan, scan).await,
        "The provided starting key is invalid: The provided key element does not match the schema"
    );
}

#[tokio::test]
async fn what_cannot_be_is_told() {
    let store = Store::new().await;
    for (body, text) in [
        (
            json!({"TableName": "sorted"}),
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.",
        ),
        (of_a(json!({"IndexName": "by-name"})), "The table does not have the specified index: by-name"),
        (
            of_a(json!({"IndexName": "a;"})),
            "2 validation errors detected: Value 'a;' at 'indexName' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: [a-zA-Z0-9_.-]+; Value 'a;' at 'indexName' failed to satisfy constraint: \
             Member must have length greater than or equal to 3",
        ),
        (
            of_a(json!({"Limit": 0})),
            "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater \
             than or equal to 1",
        ),
        (
            of_a(json!({"Select": "SOME"})),
            "1 validation error detected: Value 'SOME' at 'select' failed to satisfy constraint: Member must satisfy enum \
             value set: [SPECIFIC_ATTRIBUTES, COUNT, ALL_ATTRIBUTES, ALL_PROJECTED_ATTRIBUTES]",
        ),
        (
            of_a(json!({"Select": "COUNT", "ProjectionExpression": "id"})),
            "Cannot specify the ProjectionExpression when choosing to get only the Count",
        ),
        (of_a(json!({"TableName": "no-such-table"})), "Requested resource not found"),
    ] {
        assert_eq!(store.refusal(Named::Query, body).await, text);
    }
    let scan = json!({"TableName": "plain", "Segment": 1_000_000, "TotalSegments": 1_000_001});
    assert_eq!(
        store.refusal(Named::Scan, scan).await,
        "2 validation errors detected: Value '1000001' at 'totalSegments' failed to satisfy constraint: Member must have value \
         less than or equal to 1000000; Value '1000000' at 'segment' failed to satisfy constraint: Member must have value less \
         than or equal to 999999"
    );
}
