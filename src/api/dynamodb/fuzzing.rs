//! Requests of all operations for the fuzzer: read and checked as far as no service is asked, and not answered.
//!
//! Each module of an operation has a `rehearse` function, which goes through what the operation itself goes through before it
//! asks: the JSON, what the service model does not allow, values, expressions, and keys by the schema of a table. The table is
//! one of two that stand here, whatever the request calls it. What every call goes through before (its head, its signature, a
//! packed body) has fuzz targets of its own.
//!
//! What the next author must keep: a new operation joins `rehearse`, which the compiler asks for, and does there what it
//! does itself.

use super::dispatch::Operation;
use super::failure::Failure;
use super::{items, malformed, reading, tables};
use crate::domain::key::KeyType;
use crate::domain::local_index::{IndexProjection, LocalIndex};
use crate::domain::table::TableSpecification;

/// Reads any bytes as a request: the first byte says of which operation (`A` is the first of [`Operation::ALL`]), the rest is
/// the body. Whatever it is, it is read, and then nothing in it is malformed; or it is refused as the client's mistake and in
/// JSON; and the same a second time.
#[doc(hidden)]
pub fn fuzz_request(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let operation = Operation::ALL[usize::from(first.wrapping_sub(b'A')) % Operation::ALL.len()];
    for table in [plain(), indexed()] {
        let outcome = rehearse(operation, body, &table);
        // Expressions are kept once they were read, which nobody may notice.
        assert!(rehearse(operation, body, &table) == outcome, "{operation:?}: the second time it is told otherwise");
        let failure = outcome.clone().err().unwrap_or_else(|| Failure::validation("not allowed"));
        let told = malformed::before(operation, body, failure.clone());
        assert!(outcome.is_err() || told == failure, "{operation:?}: what was read is malformed: {told:?}");
        check(operation, &told);
    }
}

/// A failure is the client's, and its body says what it is.
fn check(operation: Operation, failure: &Failure) {
    assert!(failure.status() == 400, "{operation:?}: {failure:?} is no mistake of a client");
    let body: serde_json::Value = serde_json::from_slice(&failure.body()).expect("failures are JSON");
    let told = body.get("__type").and_then(serde_json::Value::as_str).and_then(|kind| kind.split_once('#'));
    assert!(told.is_some_and(|(_, name)| name == failure.name()), "{operation:?}: {failure:?} has no name");
}

/// A table with a partition key alone.
fn plain() -> TableSpecification {
    TableSpecification::new(KeyType::String)
}

/// A table with a sort key, two local indexes, and a time to live.
fn indexed() -> TableSpecification {
    let index = |name: &str, attribute: &str, key_type, projection| LocalIndex {
        name: name.to_owned(),
        attribute: attribute.to_owned(),
        key_type,
        projection,
    };
    TableSpecification {
        sort_type: Some(KeyType::Integer),
        time_to_live: Some("until".to_owned()),
        local_indexes: vec![
            index("by-title", "title", KeyType::String, IndexProjection::All),
            index("by-rank", "rank", KeyType::Bytes, IndexProjection::KeysOnly),
        ],
        ..plain()
    }
}

/// Reads a request about this table.
fn rehearse(operation: Operation, body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    match operation {
        Operation::PutItem => items::rehearse_put_item(body, table),
        Operation::GetItem => items::rehearse_get_item(body, table),
        Operation::UpdateItem => items::rehearse_update_item(body, table),
        Operation::DeleteItem => items::rehearse_delete_item(body, table),
        Operation::BatchGetItem => items::rehearse_batch_get_item(body, table),
        Operation::BatchWriteItem => items::rehearse_batch_write_item(body, table),
        Operation::Query => reading::rehearse_query(body, table),
        Operation::Scan => reading::rehearse_scan(body, table),
        Operation::CreateTable => tables::rehearse_create_table(body),
        Operation::ListTables => tables::rehearse_list_tables(body),
        Operation::UpdateTable => tables::rehearse_update_table(body, table),
        Operation::TagResource => tables::rehearse_tag_resource(body),
        Operation::UntagResource => tables::rehearse_untag_resource(body),
        Operation::ListTagsOfResource => tables::rehearse_list_tags_of_resource(body),
        Operation::UpdateTimeToLive => tables::rehearse_update_time_to_live(body, table),
        Operation::DeleteTable
        | Operation::DescribeTable
        | Operation::DescribeTimeToLive
        | Operation::DescribeContinuousBackups => tables::rehearse_table_only(body),
        Operation::DescribeLimits | Operation::DescribeEndpoints => tables::rehearse_any_object(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A request of each operation that is read to its end, of a table with indexes.
    const GOOD: &[(Operation, &str)] = &[
        (
            Operation::PutItem,
            r#"{"TableName":"music","Item":{"id":{"S":"a"},"sort":{"N":"1"},"title":{"S":"x"}},
                "ConditionExpression":"title <> :t","ExpressionAttributeValues":{":t":{"S":"x"}}}"#,
        ),
        (
            Operation::GetItem,
            r#"{"TableName":"music","Key":{"id":{"S":"a"},"sort":{"N":"1"}},"ProjectionExpression":"title, a.b[0]"}"#,
        ),
        (
            Operation::UpdateItem,
            r#"{"TableName":"music","Key":{"id":{"S":"a"},"sort":{"N":"1"}},"ReturnValues":"UPDATED_NEW",
                "UpdateExpression":"SET n = n + :n REMOVE b","ExpressionAttributeValues":{":n":{"N":"1"}}}"#,
        ),
        (
            Operation::DeleteItem,
            r#"{"TableName":"music","Key":{"id":{"S":"a"},"sort":{"N":"1"}},"Expected":{"a":{"Exists":false}}}"#,
        ),
        (
            Operation::BatchGetItem,
            r#"{"RequestItems":{"music":{"Keys":[{"id":{"S":"a"},"sort":{"N":"1"}}],"AttributesToGet":["title"]}}}"#,
        ),
        (
            Operation::BatchWriteItem,
            r#"{"RequestItems":{"music":[{"PutRequest":{"Item":{"id":{"S":"a"},"sort":{"N":"1"}}}},
                {"DeleteRequest":{"Key":{"id":{"S":"b"},"sort":{"N":"1"}}}}]}}"#,
        ),
        (
            Operation::Query,
            r#"{"TableName":"music","IndexName":"by-title","ExpressionAttributeValues":{":i":{"S":"a"},":t":{"S":"x"}},
                "KeyConditionExpression":"id = :i AND begins_with(title, :t)",
                "ExclusiveStartKey":{"id":{"S":"a"},"sort":{"N":"1"},"title":{"S":"xy"}}}"#,
        ),
        (Operation::Scan, r#"{"TableName":"music","IndexName":"by-rank","Segment":0,"TotalSegments":2,"Limit":5}"#),
        (
            Operation::CreateTable,
            r#"{"TableName":"music","BillingMode":"PAY_PER_REQUEST",
                "KeySchema":[{"AttributeName":"id","KeyType":"HASH"},{"AttributeName":"sort","KeyType":"RANGE"}],
                "AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"},
                {"AttributeName":"sort","AttributeType":"N"},{"AttributeName":"rank","AttributeType":"B"}],
                "LocalSecondaryIndexes":[{"IndexName":"by-rank","Projection":{"ProjectionType":"KEYS_ONLY"},
                "KeySchema":[{"AttributeName":"id","KeyType":"HASH"},{"AttributeName":"rank","KeyType":"RANGE"}]}]}"#,
        ),
        (Operation::DeleteTable, r#"{"TableName":"music"}"#),
        (Operation::DescribeTable, r#"{"TableName":"music"}"#),
        (Operation::ListTables, r#"{"Limit":10,"ExclusiveStartTableName":"music"}"#),
        (Operation::UpdateTable, r#"{"TableName":"music","DeletionProtectionEnabled":true}"#),
        (
            Operation::TagResource,
            r#"{"ResourceArn":"arn:aws:dynamodb:NA:acme:table/music","Tags":[{"Key":"a","Value":"b"}]}"#,
        ),
        (Operation::UntagResource, r#"{"ResourceArn":"arn:aws:dynamodb:NA:acme:table/music","TagKeys":["a"]}"#),
        (Operation::ListTagsOfResource, r#"{"ResourceArn":"arn:aws:dynamodb:NA:acme:table/music"}"#),
        (
            Operation::UpdateTimeToLive,
            r#"{"TableName":"music","TimeToLiveSpecification":{"Enabled":false,"AttributeName":"until"}}"#,
        ),
        (Operation::DescribeTimeToLive, r#"{"TableName":"music"}"#),
        (Operation::DescribeLimits, "{}"),
        (Operation::DescribeEndpoints, "{}"),
        (Operation::DescribeContinuousBackups, r#"{"TableName":"music"}"#),
    ];

    #[test]
    fn good_requests_of_all_operations_are_read_to_their_end() {
        let operations: Vec<Operation> = GOOD.iter().map(|(operation, _)| *operation).collect();
        assert_eq!(operations, Operation::ALL);
        for (letter, (operation, body)) in (b'A'..).zip(GOOD) {
            assert_eq!(rehearse(*operation, body.as_bytes(), &indexed()), Ok(()), "{operation:?}");
            assert!(rehearse(*operation, b"[]", &indexed()).is_err(), "{operation:?}");
            fuzz_request(&[&[letter], body.as_bytes()].concat());
        }
    }

    #[test]
    fn the_table_is_looked_at() {
        let key = |body: &str| rehearse(Operation::GetItem, body.as_bytes(), &plain());
        assert_eq!(key(r#"{"TableName":"music","Key":{"id":{"S":"a"}}}"#), Ok(()));
        let failure = key(r#"{"TableName":"music","Key":{"id":{"S":"a"},"sort":{"N":"1"}}}"#).unwrap_err();
        assert_eq!(failure.message(), Some("The provided key element does not match the schema"));
    }

    proptest! {
        #[test]
        fn any_cut_or_changed_request_is_read_or_refused(which in 0..GOOD.len(), place: usize, byte: u8, cut: bool) {
            let mut data = GOOD[which].1.as_bytes().to_vec();
            let place = place % data.len();
            if cut { data.truncate(place) } else { data[place] = byte }
            data.insert(0, b'A' + which as u8);
            fuzz_request(&data);
        }
    }
}
