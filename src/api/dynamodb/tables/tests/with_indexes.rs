//! Tables with local indexes: how they are asked for and shown, and what makes none.

use super::*;

fn key(name: &str, part: &str) -> Value {
    json!({"AttributeName": name, "KeyType": part})
}

fn defined(name: &str, kind: &str) -> Value {
    json!({"AttributeName": name, "AttributeType": kind})
}

/// An index of [`music`] by this attribute, with all of the items.
fn index(name: &str, attribute: &str) -> Value {
    json!({
        "IndexName": name,
        "KeySchema": [key("Artist", "HASH"), key(attribute, "RANGE")],
        "Projection": {"ProjectionType": "ALL"},
    })
}

/// The same, and of it another member.
fn index_but(member: &str, value: Value) -> Value {
    let mut index = index("by-title", "Title");
    index[member] = value;
    index
}

/// The table of [`music`] with these indexes; `Title` and `Sales` are defined for them.
fn indexed(indexes: Value) -> Value {
    music(json!({
        "AttributeDefinitions": [
            defined("Year", "N"), defined("Artist", "S"), defined("Title", "S"), defined("Sales", "N"),
        ],
        "LocalSecondaryIndexes": indexes,
    }))
}

/// Two indexes that use all that [`indexed`] defines.
fn two() -> Value {
    let projection = json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": ["Label", "Genre"]});
    let mut sales = index("by-sales", "Sales");
    sales["Projection"] = projection;
    json!([index("by.Title_1", "Title"), sales])
}

async fn describe(fixture: &Fixture) -> Value {
    ask(fixture, Operation::DescribeTable, json!({"TableName": "Music"})).await["Table"].clone()
}

#[tokio::test]
async fn a_table_is_made_with_local_indexes_and_shows_them() {
    let fixture = Fixture::start().await;
    let made = ask(&fixture, Operation::CreateTable, indexed(two())).await["TableDescription"].clone();
    let shown = json!([
        {
            "IndexName": "by.Title_1",
            "IndexArn": format!("{}/index/by.Title_1", arn("Music")),
            "KeySchema": [key("Artist", "HASH"), key("Title", "RANGE")],
            "Projection": {"ProjectionType": "ALL"},
            "ItemCount": 0,
            "IndexSizeBytes": 0,
        },
        {
            "IndexName": "by-sales",
            "IndexArn": format!("{}/index/by-sales", arn("Music")),
            "KeySchema": [key("Artist", "HASH"), key("Sales", "RANGE")],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["Label", "Genre"]},
            "ItemCount": 0,
            "IndexSizeBytes": 0,
        },
    ]);
    let definitions =
        json!([defined("Artist", "S"), defined("Year", "N"), defined("Title", "S"), defined("Sales", "N")]);
    let described = describe(&fixture).await;
    for table in [&made, &described] {
        assert_eq!((&table["LocalSecondaryIndexes"], &table["AttributeDefinitions"]), (&shown, &definitions));
        assert_eq!(table["KeySchema"], json!([key("Artist", "HASH"), key("Year", "RANGE")]));
    }
    let change = json!({"TableName": "Music", "BillingMode": "PAY_PER_REQUEST"});
    let changed = ask(&fixture, Operation::UpdateTable, change).await["TableDescription"].clone();
    assert_eq!((&changed["LocalSecondaryIndexes"], &changed["AttributeDefinitions"]), (&shown, &definitions));
    let rest = fixture.ask("GET", "/v1/tenant/acme/table/Music", &[], "").await.json();
    let by_title = json!({"name": "by.Title_1", "attribute": "Title", "key_type": "String", "projection": "all"});
    let by_sales = json!({
        "name": "by-sales", "attribute": "Sales", "key_type": "Integer", "projection": {"include": ["Label", "Genre"]},
    });
    assert_eq!(rest["local_indexes"], json!([by_title, by_sales]));
    let gone = ask(&fixture, Operation::DeleteTable, json!({"TableName": "Music"})).await["TableDescription"].clone();
    assert_eq!((&gone["TableStatus"], &gone["LocalSecondaryIndexes"]), (&json!("DELETING"), &Value::Null));
}

#[tokio::test]
async fn several_indexes_may_have_one_attribute_and_no_index_is_not_shown() {
    let fixture = Fixture::start().await;
    let mut keys_only = index("by-title-2", "Title");
    keys_only["Projection"] = json!({"ProjectionType": "KEYS_ONLY"});
    let indexes = json!([index("by-title", "Title"), keys_only, index("by-sales", "Sales")]);
    ask(&fixture, Operation::CreateTable, indexed(indexes)).await;
    let described = describe(&fixture).await;
    assert_eq!(described["AttributeDefinitions"].as_array().unwrap().len(), 4, "each attribute once");
    assert_eq!(described["LocalSecondaryIndexes"][1]["Projection"], json!({"ProjectionType": "KEYS_ONLY"}));
    ask(&fixture, Operation::DeleteTable, json!({"TableName": "Music"})).await;
    ask(&fixture, Operation::CreateTable, music(json!({"LocalSecondaryIndexes": null}))).await;
    assert_eq!(describe(&fixture).await["LocalSecondaryIndexes"], Value::Null);
}

#[tokio::test]
async fn what_an_index_holds_is_told_where_it_is_known() {
    let fixture = Fixture::start().await;
    ask(&fixture, Operation::CreateTable, indexed(two())).await;
    for (sort, body) in [(1, r#"{"Title":"x"}"#), (2, r#"{"Title":"y","Sales":7}"#), (3, "{}")] {
        let path = format!("/v1/tenant/acme/table/Music/id/a/sort/{sort}");
        assert_eq!(fixture.ask("PUT", &path, &[], body).await.status, 201, "{path}");
    }
    let table = describe(&fixture).await;
    let indexes = &table["LocalSecondaryIndexes"];
    assert_eq!(
        (&table["ItemCount"], &indexes[0]["ItemCount"], &indexes[1]["ItemCount"]),
        (&json!(3), &json!(2), &json!(1))
    );
    assert!(indexes[0]["IndexSizeBytes"].as_u64().unwrap() > indexes[1]["IndexSizeBytes"].as_u64().unwrap());

    *fixture.items.refuse_next.lock() = Some(Refusal::wrong_node("elsewhere", None));
    let elsewhere = describe(&fixture).await;
    assert_eq!((&elsewhere["TableStatus"], &elsewhere["ItemCount"]), (&json!("ACTIVE"), &Value::Null));
    for index in elsewhere["LocalSecondaryIndexes"].as_array().unwrap() {
        assert!(index["IndexName"].is_string());
        assert_eq!((&index["ItemCount"], &index["IndexSizeBytes"]), (&Value::Null, &Value::Null));
    }
}

/// A list of one index, and what the service model says of it.
fn mistakes_of_form() -> Mistakes {
    let names = |count: usize| -> Vec<String> { (0..count).map(|name| format!("a{name}")).collect() };
    let long = names(21);
    let projection = |names: Value| json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": names});
    vec![
        (
            json!({}),
            "3 validation errors detected: Value null at 'localSecondaryIndexes.1.member.indexName' failed to satisfy constraint: Member must not be null; Value null at 'localSecondaryIndexes.1.member.keySchema' failed to satisfy constraint: Member must not be null; Value null at 'localSecondaryIndexes.1.member.projection' failed to satisfy constraint: Member must not be null",
        ),
        (
            index_but("IndexName", json!("a;")),
            "2 validation errors detected: Value 'a;' at 'localSecondaryIndexes.1.member.indexName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value 'a;' at 'localSecondaryIndexes.1.member.indexName' failed to satisfy constraint: Member must have length greater than or equal to 3",
        ),
        (
            index_but("KeySchema", json!([])),
            "1 validation error detected: Value '[]' at 'localSecondaryIndexes.1.member.keySchema' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            index_but("KeySchema", json!([key("a", "HASH"), key("b", "RANGE"), key("c", "RANGE")])),
            "1 validation error detected: Value '[KeySchemaElement(attributeName=a, keyType=HASH), KeySchemaElement(attributeName=b, keyType=RANGE), KeySchemaElement(attributeName=c, keyType=RANGE)]' at 'localSecondaryIndexes.1.member.keySchema' failed to satisfy constraint: Member must have length less than or equal to 2",
        ),
        (
            index_but("KeySchema", json!([key("Artist", "HASH"), key("", "LAST")])),
            "2 validation errors detected: Value '' at 'localSecondaryIndexes.1.member.keySchema.2.member.attributeName' failed to satisfy constraint: Member must have length greater than or equal to 1; Value 'LAST' at 'localSecondaryIndexes.1.member.keySchema.2.member.keyType' failed to satisfy constraint: Member must satisfy enum value set: [HASH, RANGE]",
        ),
        (
            index_but("Projection", json!({"ProjectionType": "SOME"})),
            "1 validation error detected: Value 'SOME' at 'localSecondaryIndexes.1.member.projection.projectionType' failed to satisfy constraint: Member must satisfy enum value set: [ALL, INCLUDE, KEYS_ONLY]",
        ),
        (
            index_but("Projection", projection(json!([]))),
            "1 validation error detected: Value '[]' at 'localSecondaryIndexes.1.member.projection.nonKeyAttributes' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            index_but("Projection", projection(json!(long))),
            "1 validation error detected: Value '[a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20]' at 'localSecondaryIndexes.1.member.projection.nonKeyAttributes' failed to satisfy constraint: Member must have length less than or equal to 20",
        ),
        (
            index_but("Projection", projection(json!(["a", ""]))),
            "1 validation error detected: Value '[a, ]' at 'localSecondaryIndexes.1.member.projection.nonKeyAttributes' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 255, Member must have length greater than or equal to 1]",
        ),
    ]
}

#[tokio::test]
async fn what_the_model_does_not_allow_of_an_index_is_told_by_its_place() {
    let fixture = Fixture::start().await;
    for (index, text) in mistakes_of_form() {
        let told = invalid_text(&fixture, Operation::CreateTable, indexed(json!([index]))).await;
        assert_eq!(told, text, "{index}");
    }
    let second = json!([index("by-title", "Title"), {"IndexName": "x".repeat(256), "KeySchema": [], "Projection": {}}]);
    let mut body = indexed(second);
    body["TableName"] = "".into();
    let told = invalid_text(&fixture, Operation::CreateTable, body).await;
    assert!(told.starts_with("3 validation errors detected: Value '' at 'tableName' failed"), "{told}");
    assert!(told.contains("at 'localSecondaryIndexes.2.member.indexName' failed"), "{told}");
    assert!(told.contains("at 'localSecondaryIndexes.2.member.keySchema' failed"), "{told}");
    for (list, text) in [
        (json!({}), "Start of structure or map found where not expected"),
        (json!("x"), "Unexpected field type"),
        (json!([7]), "Unexpected value type in payload"),
        (json!([{"IndexName": 7}]), "NUMBER_VALUE cannot be converted to String"),
        (json!([{"Projection": {"NonKeyAttributes": "x"}}]), "Unexpected field type"),
    ] {
        let told = refused(&fixture, Operation::CreateTable, indexed(list.clone())).await;
        assert_eq!(told, ("SerializationException", text.to_owned()), "{list}");
    }
}

/// Lists of indexes that fit the model and make no sense.
fn mistakes_of_meaning() -> Mistakes {
    let projection = |kind: &str, names: Value| {
        let mut projection = json!({"ProjectionType": kind});
        if !names.is_null() {
            projection["NonKeyAttributes"] = names;
        }
        json!([index_but("Projection", projection)])
    };
    let keyed = |elements: Value| json!([index_but("KeySchema", elements)]);
    let six: Vec<Value> = (0..6).map(|number| index(&format!("by-{number}"), "Title")).collect();
    vec![
        (json!([]), "List of LocalSecondaryIndexes is empty"),
        (
            keyed(json!([key("Title", "HASH"), key("Sales", "RANGE")])),
            "Index KeySchema does not have the same leading hash key as table KeySchema for index: by-title. index hash key: Title, table hash key: Artist",
        ),
        (keyed(json!([key("Artist", "HASH")])), "Index KeySchema does not have a range key for index: by-title"),
        (
            keyed(json!([key("Title", "RANGE"), key("Artist", "HASH")])),
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            keyed(json!([key("Artist", "HASH"), key("Title", "HASH")])),
            "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type",
        ),
        (
            keyed(json!([key("Artist", "HASH"), key("Artist", "RANGE")])),
            "Both the Hash Key and the Range Key element in the KeySchema have the same name",
        ),
        (
            keyed(json!([key("Artist", "HASH"), key("Genre", "RANGE")])),
            "Some index key attributes are not defined in AttributeDefinitions. Keys: [Artist, Genre], AttributeDefinitions: [Year, Artist, Title, Sales]",
        ),
        (
            keyed(json!([key("Artist", "HASH"), key("Year", "RANGE")])),
            "An index whose range key is the range key of the table is not supported by dStore: by-title",
        ),
        (projection("INCLUDE", Value::Null), "ProjectionType is INCLUDE, but NonKeyAttributes is not specified"),
        (projection("ALL", json!(["a"])), "ProjectionType is ALL, but NonKeyAttributes is specified"),
        (projection("KEYS_ONLY", json!(["a"])), "ProjectionType is KEYS_ONLY, but NonKeyAttributes is specified"),
        (json!([index_but("Projection", json!({}))]), "Unknown ProjectionType: null"),
        (projection("INCLUDE", json!(["a", "b", "a"])), "Duplicate attribute in NonKeyAttributes: a"),
        (json!([index("by-title", "Title"), index("by-title", "Sales")]), "Duplicate index name: by-title"),
        (json!(six), "Number of LocalSecondaryIndexes exceeds per-table limit of 5"),
        (
            json!([index("by-title", "Title")]),
            "Some AttributeDefinitions are not used. AttributeDefinitions: [Year, Artist, Title, Sales], keys used: [Artist, Year, Title]",
        ),
    ]
}

#[tokio::test]
async fn indexes_that_make_no_sense_are_told_in_the_words_of_the_service() {
    let fixture = Fixture::start().await;
    for (indexes, text) in mistakes_of_meaning() {
        let told = invalid_text(&fixture, Operation::CreateTable, indexed(indexes.clone())).await;
        assert_eq!(told, text, "{indexes}");
    }
    let mut hash_only = indexed(two());
    hash_only["KeySchema"] = json!([key("Artist", "HASH")]);
    assert_eq!(
        invalid_text(&fixture, Operation::CreateTable, hash_only).await,
        "Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex"
    );
    let mut twice = indexed(json!([index("by-title", "Title")]));
    twice["AttributeDefinitions"][3] = defined("Title", "N");
    let told = invalid_text(&fixture, Operation::CreateTable, twice).await;
    assert!(told.starts_with("Some AttributeDefinitions are not used."), "{told}");
    let five: Vec<Value> = (0..5).map(|number| index(&format!("by-{number}"), "Title")).collect();
    let mut most = indexed(json!(five));
    most["AttributeDefinitions"].as_array_mut().unwrap().pop();
    ask(&fixture, Operation::CreateTable, most).await;
    assert_eq!(describe(&fixture).await["LocalSecondaryIndexes"].as_array().unwrap().len(), 5);
}
