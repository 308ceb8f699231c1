//! Query and Scan of local indexes.

use super::*;
use crate::domain::key::KeyType;
use crate::domain::local_index::{IndexProjection, LocalIndex};
use crate::domain::table::TableSpecification;

/// A store with the table `ranked` (String, Integer) and its indexes: `by-points` (Integer) shows keys only, `by-label` (String)
/// the attribute `brief` too, `by-code` (Bytes) everything.
async fn store() -> Store {
    let store = Store::new().await;
    let brief = IndexProjection::Include(vec!["brief".to_owned()]);
    let specification = TableSpecification {
        sort_type: Some(KeyType::Integer),
        local_indexes: vec![
            LocalIndex::of("by-points", "points", KeyType::Integer, IndexProjection::KeysOnly),
            LocalIndex::of("by-label", "label", KeyType::String, brief),
            LocalIndex::of("by-code", "code", KeyType::Bytes, IndexProjection::All),
        ],
        ..TableSpecification::new(KeyType::String)
    };
    let name = TableName::new("ranked").unwrap();
    store.fixture.catalog.create_table(&store.caller, &store.tenant, &name, specification).await.unwrap();
    store
}

impl Store {
    /// Puts an item of the ID `a` with so many points.
    async fn rank(&self, sort: i64, points: i64) {
        self.put("ranked", "a", Some(sort), json!({"points": {"N": points.to_string()}})).await;
    }

    /// Puts items with the sort keys 1 to 4: 2 is first by points, then come 1 and 3, which are equal; 4 has none.
    async fn rank_some(&self) {
        for (sort, points) in [(1, 5), (2, -2), (3, 5)] {
            self.rank(sort, points).await;
        }
        self.put("ranked", "a", Some(4), json!({"other": {"S": "x"}})).await;
        self.put("ranked", "b", Some(9), json!({"points": {"N": "1"}})).await;
    }
}

/// A query of an index for the ID `a`, with more members.
fn by(index: &str, more: Value) -> Value {
    let mut body = of_a(more);
    body["TableName"] = json!("ranked");
    body["IndexName"] = json!(index);
    body
}

/// The same with a condition on the index's attribute, which `:x` and `:y` stand in.
fn by_if(index: &str, condition: &str, x: Value, y: Value) -> Value {
    let mut values = json!({":x": x});
    if condition.contains(":y") {
        values[":y"] = y;
    }
    let condition = format!("id = :id AND {condition}");
    by(index, json!({"KeyConditionExpression": condition, "ExpressionAttributeValues": values}))
}

#[tokio::test]
async fn items_come_in_the_order_of_the_index() {
    let store = store().await;
    store.rank_some().await;
    let answer = store.query(by("by-points", json!({}))).await;
    assert_eq!((sorts(&answer), &answer["ScannedCount"]), (vec![2, 1, 3], &json!(3)));
    assert_eq!(answer["Items"][0], json!({"id": {"S": "a"}, "sort": {"N": "2"}, "points": {"N": "-2"}}));
    assert!(answer.get("LastEvaluatedKey").is_none());
    let backwards = store.query(by("by-points", json!({"ScanIndexForward": false, "ConsistentRead": true}))).await;
    assert_eq!(sorts(&backwards), [3, 1, 2]);
    let empty = store.query(by("by-label", json!({}))).await;
    assert_eq!(empty, json!({"Count": 0, "ScannedCount": 0, "Items": []}));
}

#[tokio::test]
async fn conditions_are_on_the_attribute_of_the_index() {
    let store = store().await;
    store.rank_some().await;
    for (condition, found) in [
        ("points = :x", vec![1, 3]),
        ("points < :x", vec![2]),
        ("points <= :x", vec![2, 1, 3]),
        ("points > :x", vec![]),
        ("points >= :x", vec![1, 3]),
        ("points BETWEEN :y AND :x", vec![2, 1, 3]),
    ] {
        let answer = store.query(by_if("by-points", condition, json!({"N": "5"}), json!({"N": "-2"}))).await;
        assert_eq!(sorts(&answer), found, "{condition}");
    }
    for (sort, label) in [(1, "ab"), (2, "abc"), (3, "b"), (4, "a")] {
        store.put("ranked", "a", Some(sort), json!({"label": {"S": label}})).await;
    }
    let answer = store.query(by_if("by-label", "begins_with(label, :x)", json!({"S": "ab"}), json!({}))).await;
    assert_eq!(sorts(&answer), [1, 2]);
    let legacy = json!({
        "TableName": "ranked",
        "IndexName": "by-label",
        "KeyConditions": {
            "id": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]},
            "label": {"ComparisonOperator": "GE", "AttributeValueList": [{"S": "abc"}]},
        },
    });
    assert_eq!(sorts(&store.query(legacy).await), [2, 3]);
}

#[tokio::test]
async fn what_an_index_cannot_be_asked_is_told() {
    let store = store().await;
    let filtered = |index: &str, filter: &str| {
        let values = json!({":x": {"N": "1"}});
        by(
            index,
            json!({
                "FilterExpression": filter,
                "ExpressionAttributeNames": {"#f": "sort"},
                "ExpressionAttributeValues": values,
            }),
        )
    };
    for (body, text) in [
        (by("by-name", json!({})), "The table does not have the specified index: by-name"),
        (
            by_if("by-points", "label = :x", json!({"S": "x"}), json!({})),
            "Query condition missed key schema element: points",
        ),
        (
            by_if("by-points", "points = :x", json!({"S": "x"}), json!({})),
            "One or more parameter values were invalid: Condition parameter type does not match schema type",
        ),
        (
            by_if("by-label", "label = :x", json!({"S": ""}), json!({})),
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty \
             string value. Key: label",
        ),
        (
            filtered("by-points", "#f > :x AND points > :x"),
            "Filter Expression can only contain non-primary key attributes: Primary key attribute: points",
        ),
    ] {
        assert_eq!(store.refusal(Named::Query, body).await, text);
    }
    // The sort key of the table is none of the index.
    store.rank_some().await;
    assert_eq!(sorts(&store.query(filtered("by-points", "#f > :x")).await), [2, 3]);
    let scan = json!({"TableName": "ranked", "IndexName": "by-name"});
    let text = "The table does not have the specified index: by-name";
    assert_eq!(store.refusal(Named::Scan, scan).await, text);
}

#[tokio::test]
async fn pages_go_on_in_the_index() {
    let store = store().await;
    store.rank_some().await;
    for (forward, expected) in [(true, vec![2, 1, 3]), (false, vec![3, 1, 2])] {
        let mut body = by("by-points", json!({"Limit": 1, "ScanIndexForward": forward}));
        let mut found = Vec::new();
        loop {
            let answer = store.query(body.clone()).await;
            found.extend(sorts(&answer));
            let Some(last) = answer.get("LastEvaluatedKey") else { break };
            assert_eq!(last, &answer["Items"][0], "its keys are all that the index shows");
            body["ExclusiveStartKey"] = last.clone();
        }
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn starting_keys_name_places_of_the_index() {
    let store = store().await;
    store.rank_some().await;
    let invalid = "The provided starting key is invalid";
    let at = |points: Value| json!({"id": {"S": "a"}, "sort": {"N": "1"}, "points": points});
    for (start, text) in [
        (json!({"id": {"S": "a"}, "sort": {"N": "1"}}), invalid),
        (json!({"id": {"S": "a"}, "points": {"N": "1"}}), invalid),
        (json!({"id": {"S": "a"}, "sort": {"N": "1"}, "label": {"S": "x"}}), invalid),
        (json!({"id": {"S": "a"}, "sort": {"N": "1"}, "points": {"N": "1"}, "label": {"S": "x"}}), invalid),
        (at(json!({"S": "5"})), invalid),
        (
            json!({"id": {"S": "b"}, "sort": {"N": "1"}, "points": {"N": "1"}}),
            "The provided starting key is outside query boundaries based on provided conditions",
        ),
    ] {
        let body = by("by-points", json!({"ExclusiveStartKey": start.clone()}));
        assert_eq!(store.refusal(Named::Query, body).await, text, "{start}");
    }
    let mut above = by_if("by-points", "points > :x", json!({"N": "1"}), json!({}));
    above["ExclusiveStartKey"] = at(json!({"N": "1"}));
    let text = "The provided starting key does not match the range key predicate";
    assert_eq!(store.refusal(Named::Query, above.clone()).await, text);
    // No item need be there.
    above["ExclusiveStartKey"] = at(json!({"N": "4.5"}));
    assert_eq!(sorts(&store.query(above).await), [1, 3]);
    let empty = json!({"id": {"S": "a"}, "sort": {"N": "1"}, "label": {"S": ""}});
    assert_eq!(
        store.refusal(Named::Query, by("by-label", json!({"ExclusiveStartKey": empty}))).await,
        format!(
            "{invalid}: One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an \
             empty string value. Key: label"
        )
    );
    let scan = json!({
        "TableName": "ranked", "IndexName": "by-points", "ExclusiveStartKey": {"id": {"S": "a"}, "sort": {"N": "1"}},
    });
    assert_eq!(store.refusal(Named::Scan, scan).await, invalid);
}

#[tokio::test]
async fn an_index_shows_what_it_projects_unless_more_is_asked_for() {
    let store = store().await;
    let item = json!({"label": {"S": "x"}, "brief": {"S": "b"}, "bulky": {"S": "y"}, "code": {"B": "AAE="}});
    store.put("ranked", "a", Some(1), item).await;
    let whole = json!({
        "id": {"S": "a"}, "sort": {"N": "1"}, "label": {"S": "x"}, "brief": {"S": "b"}, "bulky": {"S": "y"},
        "code": {"B": "AAE="},
    });
    let shown = json!({"id": {"S": "a"}, "sort": {"N": "1"}, "label": {"S": "x"}, "brief": {"S": "b"}});
    for (index, more, item) in [
        ("by-label", json!({}), shown.clone()),
        ("by-label", json!({"Select": "ALL_PROJECTED_ATTRIBUTES"}), shown.clone()),
        ("by-label", json!({"Select": "ALL_ATTRIBUTES"}), whole.clone()),
        ("by-label", json!({"ProjectionExpression": "bulky, id"}), json!({"id": {"S": "a"}, "bulky": {"S": "y"}})),
        ("by-label", json!({"AttributesToGet": ["brief"]}), json!({"brief": {"S": "b"}})),
        ("by-code", json!({}), whole),
    ] {
        let mut body = by(index, more.clone());
        if more.get("AttributesToGet").is_some() {
            body = json!({
                "TableName": "ranked",
                "IndexName": index,
                "AttributesToGet": more["AttributesToGet"],
                "KeyConditions": {"id": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]}},
            });
        }
        assert_eq!(store.query(body).await["Items"], json!([item]), "{index} {more}");
    }
    // What a filter wants to know is fetched, and is not shown for that.
    let filter = json!({
        "FilterExpression": "bulky = :y", "ExpressionAttributeValues": {":y": {"S": "y"}},
    });
    assert_eq!(store.query(by("by-label", filter)).await["Items"], json!([shown]));
}

#[tokio::test]
async fn what_is_fetched_costs_units_of_the_table() {
    let store = store().await;
    for sort in 1..=2 {
        let item = json!({
            "label": {"S": "x"}, "brief": {"N": sort.to_string()}, "bulky": {"S": "y".repeat(5000)}, "code": {"B": "AA=="},
        });
        store.put("ranked", "a", Some(sort), item).await;
    }
    let filter = |text: &str, value: Value| (text.to_owned(), value);
    let brief = filter("brief = :v", json!({"N": "1"}));
    let bulky = filter("bulky = :v", json!({"S": "z"}));
    for (index, more, filter, expected) in [
        ("by-label", json!({}), None, (0.0, 0.5)),
        ("by-label", json!({"ConsistentRead": true, "Select": "COUNT"}), None, (0.0, 1.0)),
        ("by-label", json!({"Select": "ALL_ATTRIBUTES"}), None, (2.0, 0.5)),
        ("by-label", json!({"Select": "ALL_ATTRIBUTES", "ConsistentRead": true}), None, (4.0, 1.0)),
        ("by-label", json!({"ProjectionExpression": "brief, id"}), None, (0.0, 0.5)),
        ("by-label", json!({"ProjectionExpression": "bulky"}), Some(&brief), (1.0, 0.5)),
        ("by-label", json!({"Select": "COUNT"}), Some(&bulky), (2.0, 0.5)),
        ("by-code", json!({"Select": "ALL_ATTRIBUTES"}), Some(&bulky), (0.0, 1.5)),
    ] {
        let mut body = by(index, more.clone());
        if let Some((text, value)) = filter {
            body["FilterExpression"] = json!(text);
            body["ExpressionAttributeValues"][":v"] = value.clone();
        }
        body["ReturnConsumedCapacity"] = json!("INDEXES");
        let (answer, noted) = store.ask_noting(Named::Query, body).await;
        let consumed = answer.unwrap()["ConsumedCapacity"].clone();
        let (table, of_index) = expected;
        let expected = json!({
            "TableName": "ranked",
            "CapacityUnits": table + of_index,
            "Table": {"CapacityUnits": table},
            "LocalSecondaryIndexes": {index: {"CapacityUnits": of_index}},
        });
        assert_eq!(consumed, expected, "{index} {more}");
        assert_eq!(json!(noted as f64 / 2.0), consumed["CapacityUnits"], "{index} {more}");
    }
}

#[tokio::test]
async fn what_an_index_shows_counts_for_the_mebibyte() {
    let store = store().await;
    for sort in 1..=9 {
        let item = json!({
            "points": {"N": "1"}, "code": {"B": "AA=="}, "bulky": {"S": "x".repeat(150 << 10)},
        });
        store.put("ranked", "a", Some(sort), item).await;
    }
    let all = store.query(by("by-points", json!({}))).await;
    assert_eq!(sorts(&all), [1, 2, 3, 4, 5, 6, 7, 8, 9], "the keys of a mebibyte and more of items are far from one");
    assert!(all.get("LastEvaluatedKey").is_none());
    let whole = store.query(by("by-code", json!({"Select": "COUNT"}))).await;
    assert_eq!((&whole["Count"], &whole["ScannedCount"]), (&json!(7), &json!(7)));
    let last = json!({"id": {"S": "a"}, "sort": {"N": "7"}, "code": {"B": "AA=="}});
    assert_eq!(whole["LastEvaluatedKey"], last);
}

#[tokio::test]
async fn segments_share_a_scan_of_an_index() {
    let store = store().await;
    for number in 0..40 {
        // Every second one is in the index.
        let attribute = if number % 2 == 0 { "points" } else { "other" };
        let attributes = json!({attribute: {"N": (number / 4).to_string()}});
        store.put("ranked", &format!("item-{}", number % 7), Some(number), attributes).await;
    }
    let all = store.scan(json!({"TableName": "ranked", "IndexName": "by-points"})).await;
    assert_eq!(all["Count"], 20);
    let mut together = Vec::new();
    for segment in 0..3 {
        let mut body = json!({
            "TableName": "ranked", "IndexName": "by-points", "Segment": segment, "TotalSegments": 3, "Limit": 2,
        });
        loop {
            let answer = store.scan(body.clone()).await;
            together.extend(answer["Items"].as_array().unwrap().iter().cloned());
            let Some(last) = answer.get("LastEvaluatedKey") else { break };
            body["ExclusiveStartKey"] = last.clone();
        }
    }
    assert_eq!(&together, all["Items"].as_array().unwrap());
}
