//! Operations on tables over services in memory: what is answered, and in which words it is refused.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::dynamodb::dispatch::Operation;
use crate::api::testing::Fixture;
use crate::domain::ids::PrincipalId;
use crate::domain::rid::Location;
use crate::domain::{Refusal, TenantName};
use crate::services::ports::{Caller, Capability, Catalog};

mod with_indexes;

const NOW: f64 = 1_790_000_000.0;

async fn run(call: &Call<'_>) -> Answered {
    match call.operation {
        Operation::CreateTable => create_table(call).await,
        Operation::DeleteTable => delete_table(call).await,
        Operation::DescribeTable => describe_table(call).await,
        Operation::ListTables => list_tables(call).await,
        Operation::UpdateTable => update_table(call).await,
        Operation::TagResource => tag_resource(call).await,
        Operation::UntagResource => untag_resource(call).await,
        Operation::ListTagsOfResource => list_tags_of_resource(call).await,
        Operation::UpdateTimeToLive => update_time_to_live(call).await,
        Operation::DescribeTimeToLive => describe_time_to_live(call).await,
        Operation::DescribeLimits => describe_limits(call).await,
        Operation::DescribeEndpoints => describe_endpoints(call).await,
        Operation::DescribeContinuousBackups => describe_continuous_backups(call).await,
        other => panic!("{other:?} is no operation on tables"),
    }
}

/// Asks as a principal of the tenant `acme`; the answer as text.
async fn ask_text(fixture: &Fixture, operation: Operation, body: &str) -> Result<String, Failure> {
    let tenant = fixture.catalog.tenant(&TenantName::new("acme").unwrap()).unwrap();
    let caller = Arc::new(Caller {
        principal: PrincipalId::from_bytes([7; 16]),
        name: "someone".into(),
        tenant: Some((tenant.id, tenant.name.clone())),
        capabilities: vec![Capability::Admin],
    });
    let location = Location::free();
    let call = Call {
        state: &fixture.state,
        operation,
        caller: &caller,
        tenant: &tenant.name,
        tenant_id: tenant.id,
        body: body.to_owned().into(),
        location: &location,
        host: "localhost:8080",
        served: Default::default(),
    };
    run(&call).await.map(|answer| String::from_utf8(answer).unwrap())
}

async fn ask(fixture: &Fixture, operation: Operation, body: Value) -> Value {
    let answer = ask_text(fixture, operation, &body.to_string()).await;
    let answer = answer.unwrap_or_else(|failure| panic!("{operation:?} {body}: {failure:?}"));
    serde_json::from_str(&answer).unwrap_or(Value::Null)
}

async fn refused(fixture: &Fixture, operation: Operation, body: Value) -> (&'static str, String) {
    let failure = match ask_text(fixture, operation, &body.to_string()).await {
        Ok(answer) => panic!("{operation:?} {body} was answered with {answer}"),
        Err(failure) => failure,
    };
    (failure.name(), failure.message().unwrap_or_default().to_owned())
}

async fn invalid_text(fixture: &Fixture, operation: Operation, body: Value) -> String {
    let (name, text) = refused(fixture, operation, body.clone()).await;
    assert_eq!(name, "ValidationException", "{body}: {text}");
    text.strip_prefix("One or more parameter values were invalid: ").map(str::to_owned).unwrap_or(text)
}

/// A table with a sort key and capacity; `more` overwrites its members, and null takes one away.
fn music(more: Value) -> Value {
    let mut body = json!({
        "TableName": "Music",
        "KeySchema": [
            {"AttributeName": "Artist", "KeyType": "HASH"},
            {"AttributeName": "Year", "KeyType": "RANGE"},
        ],
        "AttributeDefinitions": [
            {"AttributeName": "Year", "AttributeType": "N"},
            {"AttributeName": "Artist", "AttributeType": "S"},
        ],
        "ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6},
    });
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(name)),
            value => body[name] = value.clone(),
        }
    }
    body
}

fn arn(table: &str) -> String {
    format!("arn:aws:dynamodb:NA:acme:table/{table}")
}

#[tokio::test]
async fn a_table_is_made_described_and_dropped() {
    let fixture = Fixture::start().await;
    let made = ask(&fixture, Operation::CreateTable, music(json!({}))).await["TableDescription"].clone();
    assert_eq!((&made["TableStatus"], &made["TableName"]), (&json!("CREATING"), &json!("Music")));
    let described = ask(&fixture, Operation::DescribeTable, json!({"TableName": arn("Music")})).await["Table"].clone();
    assert_eq!(described["TableId"], made["TableId"]);
    assert_eq!(
        described,
        json!({
            "TableName": "Music",
            "TableStatus": "ACTIVE",
            "TableArn": arn("Music"),
            "TableId": made["TableId"],
            "CreationDateTime": NOW,
            "ItemCount": 0,
            "TableSizeBytes": 0,
            "KeySchema": [
                {"AttributeName": "Artist", "KeyType": "HASH"},
                {"AttributeName": "Year", "KeyType": "RANGE"},
            ],
            "AttributeDefinitions": [
                {"AttributeName": "Artist", "AttributeType": "S"},
                {"AttributeName": "Year", "AttributeType": "N"},
            ],
            "ProvisionedThroughput": {
                "ReadCapacityUnits": 5, "WriteCapacityUnits": 6, "NumberOfDecreasesToday": 0,
            },
            "DeletionProtectionEnabled": false,
        })
    );
    let rest = fixture.ask("GET", "/v1/tenant/acme/table/Music", &[], "").await.json();
    assert_eq!((&rest["id_name"], &rest["sort_type"]), (&json!("Artist"), &json!("Integer")));
    let again = refused(&fixture, Operation::CreateTable, music(json!({}))).await;
    assert_eq!(again, ("ResourceInUseException", "Table already exists: Music".to_owned()));
    let gone = ask(&fixture, Operation::DeleteTable, json!({"TableName": "Music"})).await["TableDescription"].clone();
    assert_eq!(gone["TableStatus"], "DELETING");
    for left_out in ["KeySchema", "AttributeDefinitions", "CreationDateTime"] {
        assert_eq!(gone[left_out], Value::Null, "{left_out}");
    }
    let missing = "Requested resource not found: Table: Music not found".to_owned();
    for operation in [Operation::DeleteTable, Operation::DescribeTable, Operation::DescribeTimeToLive] {
        let told = refused(&fixture, operation, json!({"TableName": "Music"})).await;
        assert_eq!(told, ("ResourceNotFoundException", missing.clone()), "{operation:?}");
    }
}

#[tokio::test]
async fn a_table_is_active_when_all_of_it_can_be_asked() {
    let fixture = Fixture::start().await;
    let body = music(json!({"BillingMode": "PAY_PER_REQUEST", "ProvisionedThroughput": null}));
    let made = ask(&fixture, Operation::CreateTable, body).await;
    assert_eq!(made["TableDescription"]["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST");
    let describe = || ask(&fixture, Operation::DescribeTable, json!({"TableName": "Music"}));
    *fixture.items.refuse_next.lock() = Some(Refusal::unavailable("not yet", 1));
    assert_eq!(describe().await["Table"]["TableStatus"], "CREATING");
    *fixture.items.refuse_next.lock() = Some(Refusal::wrong_node("elsewhere", None));
    let elsewhere = describe().await["Table"].clone();
    assert_eq!((&elsewhere["TableStatus"], &elsewhere["ItemCount"]), (&json!("ACTIVE"), &Value::Null));
    fixture.ask("PUT", "/v1/tenant/acme/table/Music/id/a/sort/1", &[], r#"{"x":1}"#).await;
    let table = describe().await["Table"].clone();
    assert_eq!((&table["TableStatus"], &table["ItemCount"]), (&json!("ACTIVE"), &json!(1)));
    assert!(table["TableSizeBytes"].as_u64().unwrap() > 0);
}

/// Members that make no table, and what is told.
type Mistakes = Vec<(Value, &'static str)>;

fn mistakes_of_capacity() -> Mistakes {
    vec![
        (
            json!({"ProvisionedThroughput": null}),
            "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED",
        ),
        (
            json!({"BillingMode": "PAY_PER_REQUEST"}),
            "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
        ),
        (
            json!({"BillingMode": "FREE"}),
            "1 validation error detected: Value 'FREE' at 'billingMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]",
        ),
        (
            json!({"ProvisionedThroughput": {"ReadCapacityUnits": 0}}),
            "2 validation errors detected: Value '0' at 'provisionedThroughput.readCapacityUnits' failed to satisfy constraint: Member must have value greater than or equal to 1; Value null at 'provisionedThroughput.writeCapacityUnits' failed to satisfy constraint: Member must not be null",
        ),
        (
            json!({"ProvisionedThroughput": {"ReadCapacityUnits": 1_000_000_000_001_u64, "WriteCapacityUnits": 1}}),
            "Given value 1000000000001 for ReadCapacityUnits is out of bounds",
        ),
        (
            json!({"TableClass": "COLD"}),
            "1 validation error detected: Value 'COLD' at 'tableClass' failed to satisfy constraint: Member must satisfy enum value set: [STANDARD, STANDARD_INFREQUENT_ACCESS]",
        ),
    ]
}

fn mistakes_of_keys() -> Mistakes {
    let key = |name: &str, part: &str| json!({"AttributeName": name, "KeyType": part});
    vec![
        (
            json!({"KeySchema": null, "AttributeDefinitions": null}),
            "2 validation errors detected: Value null at 'attributeDefinitions' failed to satisfy constraint: Member must not be null; Value null at 'keySchema' failed to satisfy constraint: Member must not be null",
        ),
        (
            json!({"KeySchema": []}),
            "1 validation error detected: Value '[]' at 'keySchema' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            json!({"KeySchema": [key("Artist", "FIRST")]}),
            "1 validation error detected: Value 'FIRST' at 'keySchema.1.member.keyType' failed to satisfy constraint: Member must satisfy enum value set: [HASH, RANGE]",
        ),
        (
            json!({"KeySchema": [key("Artist", "RANGE")]}),
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            json!({"KeySchema": [key("Artist", "HASH"), key("Year", "HASH")]}),
            "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type",
        ),
        (
            json!({"KeySchema": [key("Artist", "HASH"), key("Artist", "RANGE")]}),
            "Both the Hash Key and the Range Key element in the KeySchema have the same name",
        ),
        (
            json!({"KeySchema": [key("Artist", "HASH"), key("Title", "RANGE")]}),
            "Some index key attributes are not defined in AttributeDefinitions. Keys: [Artist, Title], AttributeDefinitions: [Year, Artist]",
        ),
        (
            json!({"KeySchema": [key("Artist", "HASH")]}),
            "Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions",
        ),
        (json!({"GlobalSecondaryIndexes": [{}]}), "GlobalSecondaryIndexes is not supported by dStore yet"),
        (json!({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}), "Duplicate tag key: a"),
    ]
}

#[tokio::test]
async fn what_makes_no_table_is_told_in_the_words_of_the_service() {
    let fixture = Fixture::start().await;
    for (more, text) in mistakes_of_capacity().into_iter().chain(mistakes_of_keys()) {
        assert_eq!(invalid_text(&fixture, Operation::CreateTable, music(more.clone())).await, text, "{more}");
    }
    let many: Vec<Value> = (0..51).map(|tag| json!({"Key": tag.to_string(), "Value": ""})).collect();
    let text = invalid_text(&fixture, Operation::CreateTable, music(json!({"Tags": many}))).await;
    assert_eq!(text, "A table has at most 50 tags, and would have 51");
    for name in ["ab", "a b c", ""] {
        let text = invalid_text(&fixture, Operation::CreateTable, music(json!({"TableName": name}))).await;
        assert!(text.contains("at 'tableName' failed to satisfy constraint"), "{text}");
    }
    let foreign = music(json!({"TableName": "arn:aws:dynamodb:NA:globex:table/Music"}));
    assert!(invalid_text(&fixture, Operation::CreateTable, foreign).await.starts_with("Invalid TableArn"));
    assert_eq!(
        refused(&fixture, Operation::CreateTable, music(json!({"KeySchema": "x"}))).await,
        ("SerializationException", "Unexpected field type".to_owned())
    );
    for body in ["", "null", "[]", "7", "{"] {
        let failure = ask_text(&fixture, Operation::DescribeLimits, body).await.unwrap_err();
        assert_eq!((failure.name(), failure.message()), ("SerializationException", None), "{body}");
    }
    let none = ask(&fixture, Operation::ListTables, json!({})).await;
    assert_eq!(none, json!({"TableNames": ["plain", "sorted"]}), "nothing was made");
}

#[tokio::test]
async fn tables_are_listed_by_name_a_page_at_a_time() {
    let fixture = Fixture::start().await;
    ask(&fixture, Operation::CreateTable, music(json!({}))).await;
    let all = ask(&fixture, Operation::ListTables, json!({})).await;
    assert_eq!(all, json!({"TableNames": ["Music", "plain", "sorted"]}));
    let first = ask(&fixture, Operation::ListTables, json!({"Limit": 2})).await;
    assert_eq!(first, json!({"TableNames": ["Music", "plain"], "LastEvaluatedTableName": "plain"}));
    let rest = json!({"Limit": 2, "ExclusiveStartTableName": "plain"});
    assert_eq!(ask(&fixture, Operation::ListTables, rest).await, json!({"TableNames": ["sorted"]}));
    let exact = ask(&fixture, Operation::ListTables, json!({"Limit": 3})).await;
    assert_eq!(exact["LastEvaluatedTableName"], Value::Null);
    for (limit, rule) in [(0, "greater than or equal to 1"), (101, "less than or equal to 100")] {
        let text = invalid_text(&fixture, Operation::ListTables, json!({"Limit": limit})).await;
        let expected = format!(
            "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value {rule}"
        );
        assert_eq!(text, expected);
    }
    let bad = invalid_text(&fixture, Operation::ListTables, json!({"ExclusiveStartTableName": "a;"})).await;
    assert!(bad.starts_with("2 validation errors detected: Value 'a;' at 'exclusiveStartTableName'"), "{bad}");
}

#[tokio::test]
async fn a_table_is_changed_and_says_what_would_change_nothing() {
    let fixture = Fixture::start().await;
    ask(&fixture, Operation::CreateTable, music(json!({}))).await;
    let update = |more: Value| {
        let mut body = more;
        body["TableName"] = "Music".into();
        body
    };
    let units = |read: u64, write: u64| json!({"ReadCapacityUnits": read, "WriteCapacityUnits": write});
    let lowered = ask(&fixture, Operation::UpdateTable, update(json!({"ProvisionedThroughput": units(9, 1)}))).await;
    let throughput = &lowered["TableDescription"]["ProvisionedThroughput"];
    assert_eq!(lowered["TableDescription"]["TableStatus"], "UPDATING");
    assert_eq!((&throughput["NumberOfDecreasesToday"], &throughput["LastIncreaseDateTime"]), (&json!(1), &json!(NOW)));
    for (more, text) in [
        (json!({}), "At least one of ProvisionedThroughput, BillingMode,"),
        (json!({"ProvisionedThroughput": units(9, 1)}), "The provisioned throughput for the table will not change."),
        (json!({"BillingMode": "PROVISIONED"}), "ReadCapacityUnits and WriteCapacityUnits must both be specified"),
        (
            json!({"BillingMode": "PAY_PER_REQUEST", "ProvisionedThroughput": units(1, 1)}),
            "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified",
        ),
        (
            json!({"GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": "x"}}]}),
            "GlobalSecondaryIndexUpdates is not supported by dStore yet",
        ),
    ] {
        let told = invalid_text(&fixture, Operation::UpdateTable, update(more.clone())).await;
        assert!(told.starts_with(text), "{more}: {told}");
    }
    let free = ask(&fixture, Operation::UpdateTable, update(json!({"BillingMode": "PAY_PER_REQUEST"}))).await;
    assert_eq!(free["TableDescription"]["BillingModeSummary"]["LastUpdateToPayPerRequestDateTime"], NOW);
    assert_eq!(free["TableDescription"]["ProvisionedThroughput"]["ReadCapacityUnits"], 0);
    let told = invalid_text(&fixture, Operation::UpdateTable, update(json!({"ProvisionedThroughput": units(1, 1)})));
    assert!(told.await.starts_with("Neither ReadCapacityUnits"));

    let protect = update(json!({"DeletionProtectionEnabled": true, "TableClass": "STANDARD_INFREQUENT_ACCESS"}));
    let protected = ask(&fixture, Operation::UpdateTable, protect).await;
    assert_eq!(protected["TableDescription"]["DeletionProtectionEnabled"], true);
    assert_eq!(protected["TableDescription"]["TableClassSummary"]["TableClass"], "STANDARD_INFREQUENT_ACCESS");
    let told = invalid_text(&fixture, Operation::DeleteTable, json!({"TableName": "Music"})).await;
    assert_eq!(
        told,
        "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first."
    );
    ask(&fixture, Operation::UpdateTable, update(json!({"DeletionProtectionEnabled": false}))).await;
    ask(&fixture, Operation::DeleteTable, json!({"TableName": "Music"})).await;
}

#[tokio::test]
async fn tags_come_and_go_by_the_arn() {
    let fixture = Fixture::start().await;
    let body = music(json!({"Tags": [{"Key": "team", "Value": "blue"}]}));
    ask(&fixture, Operation::CreateTable, body).await;
    let list = || ask(&fixture, Operation::ListTagsOfResource, json!({"ResourceArn": arn("Music")}));
    assert_eq!(list().await, json!({"Tags": [{"Key": "team", "Value": "blue"}]}));
    let tag =
        json!({"ResourceArn": arn("Music"), "Tags": [{"Key": "cost", "Value": ""}, {"Key": "team", "Value": "red"}]});
    assert_eq!(ask_text(&fixture, Operation::TagResource, &tag.to_string()).await.unwrap(), "");
    assert_eq!(list().await, json!({"Tags": [{"Key": "cost", "Value": ""}, {"Key": "team", "Value": "red"}]}));
    let untag = json!({"ResourceArn": arn("Music"), "TagKeys": ["cost", "never"]});
    assert_eq!(ask_text(&fixture, Operation::UntagResource, &untag.to_string()).await.unwrap(), "");
    assert_eq!(list().await, json!({"Tags": [{"Key": "team", "Value": "red"}]}));
    let many: Vec<Value> = (0..50).map(|tag| json!({"Key": tag.to_string(), "Value": ""})).collect();
    let more = json!({"ResourceArn": arn("Music"), "Tags": many});
    let told = invalid_text(&fixture, Operation::TagResource, more).await;
    assert_eq!(told, "A table has at most 50 tags, and would have 51");
    let nothing = json!({"ResourceArn": arn("Music"), "Tags": [], "TagKeys": []});
    let told = invalid_text(&fixture, Operation::TagResource, nothing.clone()).await;
    assert_eq!(told, "Atleast one Tag needs to be provided as Input.");
    let told = invalid_text(&fixture, Operation::UntagResource, nothing).await;
    assert_eq!(told, "Atleast one Tag Key needs to be provided as Input.");
    let name = invalid_text(&fixture, Operation::ListTagsOfResource, json!({"ResourceArn": "Music"})).await;
    assert_eq!(name, "Invalid TableArn: Invalid ResourceArn provided as input Music");
    for missing in [arn("Other"), "arn:aws:dynamodb:NA:globex:table/plain".to_owned()] {
        let told = refused(&fixture, Operation::ListTagsOfResource, json!({"ResourceArn": missing})).await;
        let text = format!("Requested resource not found: ResourcArn: {missing} not found");
        assert_eq!(told, ("ResourceNotFoundException", text));
    }
    let long = json!({"ResourceArn": arn("Music"), "Tags": [{"Key": "x".repeat(129), "Value": "y".repeat(257)}]});
    let told = invalid_text(&fixture, Operation::TagResource, long).await;
    assert!(told.starts_with("2 validation errors detected: Value 'xxx"), "{told}");
}

#[tokio::test]
async fn tags_of_aws_are_not_given_however_they_are_spelled() {
    let fixture = Fixture::start().await;
    ask(&fixture, Operation::CreateTable, music(json!({}))).await;
    for name in ["aws:team", "AWS:team", "aWs:"] {
        let text = format!("Tag keys that begin with aws: cannot be given: {name}");
        let tags = json!([{"Key": name, "Value": ""}]);
        let tag = json!({"ResourceArn": arn("Music"), "Tags": tags});
        assert_eq!(invalid_text(&fixture, Operation::TagResource, tag).await, text);
        let create = music(json!({"TableName": "Other", "Tags": tags}));
        assert_eq!(invalid_text(&fixture, Operation::CreateTable, create).await, text);
    }
    let tags: Vec<Value> = ["aws", "aws€", "x-aws:y"].iter().map(|name| json!({"Key": name, "Value": ""})).collect();
    let tag = json!({"ResourceArn": arn("Music"), "Tags": tags});
    assert_eq!(ask_text(&fixture, Operation::TagResource, &tag.to_string()).await.unwrap(), "");
}

#[tokio::test]
async fn no_token_asks_for_more_tags() {
    let fixture = Fixture::start().await;
    ask(&fixture, Operation::CreateTable, music(json!({"Tags": [{"Key": "team", "Value": "blue"}]}))).await;
    for token in ["", "next"] {
        let body = json!({"ResourceArn": arn("Music"), "NextToken": token});
        let told = invalid_text(&fixture, Operation::ListTagsOfResource, body).await;
        assert_eq!(told, "The provided NextToken is not valid", "{token:?}");
    }
    let body = json!({"ResourceArn": arn("Music"), "NextToken": null});
    let all = ask(&fixture, Operation::ListTagsOfResource, body).await;
    assert_eq!(all, json!({"Tags": [{"Key": "team", "Value": "blue"}]}));
}

#[tokio::test]
async fn a_time_to_live_is_told_in_both_protocols() {
    let fixture = Fixture::start().await;
    let set = |table: &str, is_enabled: bool, attribute: &str| {
        let specification = json!({"Enabled": is_enabled, "AttributeName": attribute});
        json!({"TableName": table, "TimeToLiveSpecification": specification})
    };
    let describe = || ask(&fixture, Operation::DescribeTimeToLive, json!({"TableName": "plain"}));
    assert_eq!(describe().await, json!({"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}));
    let answer = ask(&fixture, Operation::UpdateTimeToLive, set("plain", true, "until")).await;
    assert_eq!(answer, json!({"TimeToLiveSpecification": {"Enabled": true, "AttributeName": "until"}}));
    let enabled = json!({"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "until"}});
    assert_eq!(describe().await, enabled);
    assert_eq!(fixture.ask("GET", "/v1/tenant/acme/table/plain", &[], "").await.json()["time_to_live"], "until");
    let told = invalid_text(&fixture, Operation::UpdateTimeToLive, set("plain", true, "until")).await;
    assert_eq!(told, "TimeToLive is already enabled");
    ask(&fixture, Operation::UpdateTimeToLive, set("plain", false, "until")).await;
    let told = invalid_text(&fixture, Operation::UpdateTimeToLive, set("plain", false, "until")).await;
    assert_eq!(told, "TimeToLive is already disabled");
    let told = invalid_text(&fixture, Operation::UpdateTimeToLive, set("plain", true, "")).await;
    assert_eq!(
        told,
        "1 validation error detected: Value '' at 'timeToLiveSpecification.attributeName' failed to satisfy constraint: Member must have length greater than or equal to 1"
    );
    let told = invalid_text(&fixture, Operation::UpdateTimeToLive, json!({"TableName": "plain"})).await;
    assert_eq!(
        told,
        "1 validation error detected: Value null at 'timeToLiveSpecification' failed to satisfy constraint: Member must not be null"
    );
    let missing = refused(&fixture, Operation::UpdateTimeToLive, set("other", true, "until")).await;
    assert_eq!(missing.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn the_service_tells_of_itself() {
    let fixture = Fixture::start().await;
    let endpoints = ask(&fixture, Operation::DescribeEndpoints, json!({})).await;
    assert_eq!(endpoints, json!({"Endpoints": [{"Address": "localhost:8080", "CachePeriodInMinutes": 1440}]}));
    assert_eq!(ask(&fixture, Operation::DescribeLimits, json!({})).await["TableMaxReadCapacityUnits"], 40_000);
    let backups = ask(&fixture, Operation::DescribeContinuousBackups, json!({"TableName": "plain"})).await;
    assert_eq!(backups["ContinuousBackupsDescription"]["ContinuousBackupsStatus"], "DISABLED");
    let missing = refused(&fixture, Operation::DescribeContinuousBackups, json!({"TableName": "other"})).await;
    assert_eq!(missing, ("TableNotFoundException", "Table not found: other".to_owned()));
}
