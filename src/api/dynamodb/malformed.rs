//! What is malformed is told before what is not allowed. AWS reads the whole of a request before it checks any of it, so a number
//! behind `S` somewhere in an item is a SerializationException even where the request does not name a table. An operation here
//! reads a value only when it comes to it, and may have refused something else until then.
//!
//! So when an operation on items is about to answer ValidationException, and only then, its body is walked once more for parts
//! that can be none ([`Shape`]), and what is found there is told instead. A request that is done pays nothing for it.
//!
//! Shapes list the members with attribute values in them. All others were read with the body ([`super::request::parse`]), before
//! anything was checked.

use super::attribute_value::{self, Shape};
use super::dispatch::Operation;
use super::failure::Failure;

/// AttributeValueList.
const VALUES: Shape = Shape::List(&Shape::Value);
/// KeyConditions, QueryFilter, ScanFilter.
const CONDITIONS: Shape =
    Shape::Map(&Shape::Structure(&[("ComparisonOperator", Shape::Text), ("AttributeValueList", VALUES)]));
/// Expected.
const EXPECTED: Shape = Shape::Map(&Shape::Structure(&[
    ("Value", Shape::Value),
    ("Exists", Shape::Flag),
    ("ComparisonOperator", Shape::Text),
    ("AttributeValueList", VALUES),
]));
/// AttributeUpdates.
const UPDATES: Shape = Shape::Map(&Shape::Structure(&[("Action", Shape::Text), ("Value", Shape::Value)]));
/// What BatchGetItem asks of a table.
const READS: Shape = Shape::Structure(&[("Keys", Shape::List(&Shape::Item))]);
/// One write of BatchWriteItem.
const WRITE: Shape = Shape::Structure(&[
    ("PutRequest", Shape::Structure(&[("Item", Shape::Item)])),
    ("DeleteRequest", Shape::Structure(&[("Key", Shape::Item)])),
]);

const PUT_ITEM: Shape =
    Shape::Structure(&[("Item", Shape::Item), ("Expected", EXPECTED), ("ExpressionAttributeValues", Shape::Item)]);
const DELETE_ITEM: Shape =
    Shape::Structure(&[("Key", Shape::Item), ("Expected", EXPECTED), ("ExpressionAttributeValues", Shape::Item)]);
const UPDATE_ITEM: Shape = Shape::Structure(&[
    ("Key", Shape::Item),
    ("AttributeUpdates", UPDATES),
    ("Expected", EXPECTED),
    ("ExpressionAttributeValues", Shape::Item),
]);
const GET_ITEM: Shape = Shape::Structure(&[("Key", Shape::Item)]);
const BATCH_GET_ITEM: Shape = Shape::Structure(&[("RequestItems", Shape::Map(&READS))]);
const BATCH_WRITE_ITEM: Shape = Shape::Structure(&[("RequestItems", Shape::Map(&Shape::List(&WRITE)))]);
const QUERY: Shape = Shape::Structure(&[
    ("KeyConditions", CONDITIONS),
    ("QueryFilter", CONDITIONS),
    ("ExclusiveStartKey", Shape::Item),
    ("ExpressionAttributeValues", Shape::Item),
]);
const SCAN: Shape = Shape::Structure(&[
    ("ScanFilter", CONDITIONS),
    ("ExclusiveStartKey", Shape::Item),
    ("ExpressionAttributeValues", Shape::Item),
]);

/// The bodies of an operation on items; none of others.
fn shape(operation: Operation) -> Option<Shape> {
    Some(match operation {
        Operation::PutItem => PUT_ITEM,
        Operation::GetItem => GET_ITEM,
        Operation::UpdateItem => UPDATE_ITEM,
        Operation::DeleteItem => DELETE_ITEM,
        Operation::BatchGetItem => BATCH_GET_ITEM,
        Operation::BatchWriteItem => BATCH_WRITE_ITEM,
        Operation::Query => QUERY,
        Operation::Scan => SCAN,
        _ => return None,
    })
}

/// What is told of a body that an operation has refused with this: what is malformed in it, where the failure is that
/// something is not allowed, else the failure.
pub(super) fn before(operation: Operation, body: &[u8], failure: Failure) -> Failure {
    if failure.name() != "ValidationException" {
        return failure;
    }
    let Some(shape) = shape(operation) else { return failure };
    match attribute_value::check_shape(body, shape) {
        Err(problem) => problem.into(),
        Ok(()) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER_AS_STRING: &str = "NUMBER_VALUE cannot be converted to String";
    const TRUE_AS_STRING: &str = "TRUE_VALUE cannot be converted to String";

    /// Name and text of what is told of a body that was refused for something that is not allowed.
    fn told(operation: Operation, body: &str) -> (&'static str, String) {
        serde_json::from_str::<serde_json::Value>(body).unwrap();
        let failure = before(operation, body.as_bytes(), Failure::validation("not allowed"));
        (failure.name(), failure.message().unwrap_or_default().to_owned())
    }

    fn malformed(text: &str) -> (&'static str, String) {
        ("SerializationException", text.to_owned())
    }

    fn not_allowed() -> (&'static str, String) {
        ("ValidationException", "not allowed".to_owned())
    }

    #[test]
    fn what_is_malformed_is_found_in_every_member_with_values() {
        let operations_of_members: [(&str, &[Operation]); 13] = [
            (r#"{"Item":{"a":#}}"#, &[Operation::PutItem]),
            (r#"{"Key":{"a":#}}"#, &[Operation::GetItem, Operation::UpdateItem, Operation::DeleteItem]),
            (
                r#"{"ExpressionAttributeValues":{":v":#}}"#,
                &[Operation::PutItem, Operation::UpdateItem, Operation::DeleteItem, Operation::Query, Operation::Scan],
            ),
            (r#"{"Expected":{"a":{"Value":#}}}"#, &[Operation::PutItem, Operation::UpdateItem, Operation::DeleteItem]),
            (
                r#"{"Expected":{"a":{"AttributeValueList":[{"S":""},#]}}}"#,
                &[Operation::PutItem, Operation::UpdateItem, Operation::DeleteItem],
            ),
            (r#"{"AttributeUpdates":{"a":{"Action":"PUT","Value":#}}}"#, &[Operation::UpdateItem]),
            (r#"{"ExclusiveStartKey":{"a":#}}"#, &[Operation::Query, Operation::Scan]),
            (r#"{"KeyConditions":{"a":{"AttributeValueList":[#]}}}"#, &[Operation::Query]),
            (r#"{"QueryFilter":{"a":{"AttributeValueList":[#]}}}"#, &[Operation::Query]),
            (r#"{"ScanFilter":{"a":{"AttributeValueList":[#]}}}"#, &[Operation::Scan]),
            (r#"{"RequestItems":{"t":{"Keys":[{},{"a":#}]}}}"#, &[Operation::BatchGetItem]),
            (r#"{"RequestItems":{"t":[{"PutRequest":{"Item":{"a":#}}}]}}"#, &[Operation::BatchWriteItem]),
            (r#"{"RequestItems":{"t":[{},{"DeleteRequest":{"Key":{"a":#}}}]}}"#, &[Operation::BatchWriteItem]),
        ];
        for (body, operations) in operations_of_members {
            // The two batches have a member of one name and of two shapes.
            let others = Operation::ALL.iter().filter(|_| !body.contains("RequestItems"));
            for operation in others.chain(operations) {
                let is_there = operations.contains(operation);
                for (value, text) in [
                    (r#"{"S":1}"#, NUMBER_AS_STRING),
                    (r#"{"L":[{"M":{"b":{"N":true}}}]}"#, TRUE_AS_STRING),
                    (r#"{"B":"AA"}"#, "Base64 encoded length is expected a multiple of 4 bytes but found: 2"),
                    ("7", "Unexpected value type in payload"),
                ] {
                    let body = body.replace('#', value);
                    let expected = if is_there { malformed(text) } else { not_allowed() };
                    assert_eq!(told(*operation, &body), expected, "{operation:?} {body}");
                }
                for value in [r#"{"S":"1"}"#, r#"{"SS":[]}"#, r#"{"S":null,"X":[1]}"#, "{}", "null"] {
                    let body = body.replace('#', value);
                    assert_eq!(told(*operation, &body), not_allowed(), "{operation:?} {body}");
                }
            }
        }
    }

    #[test]
    fn what_stands_around_values_may_be_malformed_too() {
        for (operation, body, text) in [
            (Operation::PutItem, r#"{"Item":[]}"#, "Unrecognized collection type java.util.Map"),
            (Operation::PutItem, r#"{"Item":7}"#, "Unexpected field type"),
            (Operation::PutItem, r#"{"Expected":7}"#, "Unexpected value type in payload"),
            (Operation::PutItem, r#"{"Expected":{"a":[]}}"#, "Unrecognized collection type class"),
            (Operation::PutItem, r#"{"Expected":{"a":{"Exists":"no"}}}"#, "Unexpected token received from parser"),
            (Operation::UpdateItem, r#"{"AttributeUpdates":{"a":{"Action":true}}}"#, TRUE_AS_STRING),
            (Operation::Query, r#"{"KeyConditions":{"a":{"ComparisonOperator":1}}}"#, NUMBER_AS_STRING),
            (
                Operation::Scan,
                r#"{"ScanFilter":{"a":{"AttributeValueList":1}}}"#,
                "NUMBER_VALUE cannot be converted to java.util.List",
            ),
            (Operation::BatchGetItem, r#"{"RequestItems":{"t":{"Keys":[null]}}}"#, "Unexpected field type"),
        ] {
            let (name, message) = told(operation, body);
            assert_eq!(name, "SerializationException", "{body}");
            assert!(message.starts_with(text), "{body}: {message}");
        }
        let half = r#"{"Item":{"a":{"S":"\ud800"}}}"#;
        let failure = before(Operation::PutItem, half.as_bytes(), Failure::validation("not allowed"));
        assert_eq!((failure.name(), failure.message()), ("SerializationException", None));
    }

    #[test]
    fn what_is_not_given_or_not_known_is_not_malformed() {
        let deep = format!(r#"{{"Other":{}{},"Item":{{}}}}"#, "[".repeat(1000), "]".repeat(1000));
        for body in [
            "{}",
            r#" {"Item":null,"Expected":null,"ExpressionAttributeValues":null}"#,
            r#"{"Expected":{"a":{"Value":null,"Exists":null,"AttributeValueList":null,"Other":[1]}}}"#,
            r#"{"Other":{"S":1},"Key":{"a":{"S":1}},"ScanFilter":7}"#,
            &deep,
        ] {
            let failure = before(Operation::PutItem, body.as_bytes(), Failure::validation("not allowed"));
            assert_eq!(failure.name(), "ValidationException", "{body}");
        }
    }

    #[test]
    fn other_failures_stay() {
        let body = br#"{"Item":{"a":{"S":1}}}"#;
        for failure in [
            Failure::requested_resource_not_found(),
            Failure::conditional_check_failed(None),
            Failure::serialization("as it was"),
            Failure::internal("ours"),
        ] {
            assert_eq!(before(Operation::PutItem, body, failure.clone()), failure);
        }
    }
}
