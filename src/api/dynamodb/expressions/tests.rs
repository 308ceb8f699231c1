//! Parameters become trees, and those that do not go together are refused in AWS's words.

use super::*;

fn raw(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).unwrap()
}

fn text(operation: Operation, parameters: &Parameters<'_>) -> String {
    read(operation, parameters).unwrap_err().message().unwrap_or_default().to_owned()
}

#[test]
fn a_text_is_parsed_once_and_bound_each_time() {
    for value in ["1", "2"] {
        let values = raw(&format!(r#"{{":v":{{"N":"{value}"}}}}"#));
        let parameters = Parameters { condition: Some("a_name = :v"), values: Some(&values), ..Parameters::default() };
        let read = read(Operation::PutItem, &parameters).unwrap();
        let Some(Condition::Compare(_, _, crate::expression::Operand::Value(bound))) = read.condition else {
            panic!("another condition")
        };
        assert_eq!(bound.node(), crate::domain::document::Node::Number(value));
    }
    assert!(TEMPLATES.conditions.0.get("a_name = :v").is_some());
    assert!(TEMPLATES.filters.0.get("a_name = :v").is_none());
}

#[test]
fn the_two_kinds_are_not_mixed() {
    let json = raw("{}");
    let parameters = Parameters {
        update: Some("REMOVE a"),
        condition: Some("attribute_exists(a)"),
        expected: Some(&json),
        attribute_updates: Some(&json),
        conditional_operator: Some("AND"),
        ..Parameters::default()
    };
    assert_eq!(
        text(Operation::UpdateItem, &parameters),
        "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: \
         {AttributeUpdates, Expected, ConditionalOperator} Expression parameters: {UpdateExpression, ConditionExpression}"
    );
    let parameters = Parameters {
        key_conditions: Some(&json),
        key_condition: Some("id = :v"),
        filter: Some("a = :v"),
        query_filter: Some(&json),
        ..Parameters::default()
    };
    assert_eq!(
        text(Operation::Query, &parameters),
        "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: \
         {QueryFilter, KeyConditions} Expression parameters: {FilterExpression, KeyConditionExpression}"
    );
}

#[test]
fn key_conditions_go_with_a_filter_expression() {
    let json = raw(r#"{"id":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"x"}]}}"#);
    let parameters =
        Parameters { key_conditions: Some(&json), filter: Some("attribute_exists(a)"), ..Parameters::default() };
    let read = read(Operation::Query, &parameters).unwrap();
    assert!(read.filter.is_some() && read.key_condition.is_some());
}

#[test]
fn names_and_values_are_for_expressions() {
    let names = BTreeMap::from([("#n".to_owned(), "a".to_owned())]);
    let values = raw(r#"{":v":{"N":"1"}}"#);
    let with_names = Parameters { names: Some(&names), ..Parameters::default() };
    let with_values = Parameters { values: Some(&values), ..Parameters::default() };
    let begin = "ExpressionAttributeValues can only be specified when using expressions: ";
    assert_eq!(
        text(Operation::GetItem, &with_names),
        "ExpressionAttributeNames can only be specified when using expressions"
    );
    for (operation, end) in [
        (Operation::PutItem, "ConditionExpression is null"),
        (Operation::DeleteItem, "ConditionExpression is null"),
        (Operation::UpdateItem, "UpdateExpression and ConditionExpression are null"),
        (Operation::Query, "FilterExpression and KeyConditionExpression are null"),
        (Operation::Scan, "FilterExpression is null"),
    ] {
        assert_eq!(text(operation, &with_values), format!("{begin}{end}"));
    }
    // A projection has names and no values.
    let projecting = Parameters { projection: Some("a"), ..with_values };
    assert_eq!(text(Operation::Scan, &projecting), format!("{begin}FilterExpression is null"));
}

#[test]
fn what_is_not_used_is_told() {
    let names = BTreeMap::from([("#n".to_owned(), "a".to_owned())]);
    let parameters = Parameters { projection: Some("b_name"), names: Some(&names), ..Parameters::default() };
    assert_eq!(
        text(Operation::GetItem, &parameters),
        "Value provided in ExpressionAttributeNames unused in expressions: keys: {#n}"
    );
    let values = raw(r#"{":v":{"N":"1"},":w":{"N":"2"}}"#);
    let parameters = Parameters { filter: Some("a_name = :v"), values: Some(&values), ..Parameters::default() };
    assert_eq!(
        text(Operation::Scan, &parameters),
        "Value provided in ExpressionAttributeValues unused in expressions: keys: {:w}"
    );
}

#[test]
fn older_parameters_become_the_same_trees() {
    let expected = raw(r#"{"a_name":{"Value":{"N":"1"}}}"#);
    let updates = raw(r#"{"b_name":{"Action":"DELETE"}}"#);
    let values = raw(r#"{":v":{"N":"1"}}"#);
    let old = Parameters { expected: Some(&expected), attribute_updates: Some(&updates), ..Parameters::default() };
    let new = Parameters {
        condition: Some("a_name = :v"),
        update: Some("REMOVE b_name"),
        values: Some(&values),
        ..Parameters::default()
    };
    let old = read(Operation::UpdateItem, &old).unwrap();
    let new = read(Operation::UpdateItem, &new).unwrap();
    assert!(old.is_legacy_update && !new.is_legacy_update);
    assert_eq!((old.condition, old.update), (new.condition, new.update));
}
