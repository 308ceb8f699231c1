//! The older parameters become what the expressions of the same meaning are, and are refused in AWS's words.

use serde_json::value::RawValue;

use super::*;
use crate::expression::{Comparison, Condition, KeyRange, Operand, SetOperand, SetValue, Update};

fn raw(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).unwrap()
}

fn condition_of(json: &str, operator: Option<&str>) -> Result<Option<Condition>, Failure> {
    condition(Parameter::Expected, Some(&raw(json)), operator)
}

fn refusal(json: &str) -> String {
    condition_of(json, None).unwrap_err().message().unwrap_or_default().to_owned()
}

fn update_of(json: &str) -> Result<Update, Failure> {
    update(&raw(json))
}

fn update_refusal(json: &str) -> String {
    update_of(json).unwrap_err().message().unwrap_or_default().to_owned()
}

fn holds(expected: &str, item: &str) -> bool {
    let item = attribute_value::read_item(item.as_bytes()).unwrap();
    let condition = condition_of(expected, None).unwrap().unwrap();
    condition.holds(&ItemView { item: Some(&item), keys: &Document::empty() }).unwrap()
}

#[test]
fn a_value_alone_must_be_equal() {
    let Some(Condition::Compare(Operand::Path(at), Comparison::Equal, Operand::Value(value))) =
        condition_of(r#"{"a.b":{"Value":{"N":"7"}}}"#, None).unwrap()
    else {
        panic!("another condition")
    };
    assert_eq!((&*at.attribute, at.steps.len(), value.kind().name()), ("a.b", 0, "N"));
    assert_eq!(
        condition_of(r#"{"a":{"Exists":false}}"#, None).unwrap(),
        Some(Condition::NotExists(Path::attribute("a")))
    );
}

#[test]
fn every_operator_says_what_it_says() {
    let item = r#"{"n":{"N":"5"},"s":{"S":"hello"},"l":{"SS":["x","y"]}}"#;
    for (is_true, attribute, operator, values) in [
        (true, "n", "EQ", r#"{"N":"5.0"}"#),
        (false, "n", "NE", r#"{"N":"5"}"#),
        (true, "missing", "NE", r#"{"N":"5"}"#),
        (true, "n", "LE", r#"{"N":"5"}"#),
        (false, "n", "LT", r#"{"N":"5"}"#),
        (true, "n", "GE", r#"{"N":"5"}"#),
        (false, "n", "GT", r#"{"N":"5"}"#),
        (true, "n", "BETWEEN", r#"{"N":"5"},{"N":"6"}"#),
        (true, "n", "IN", r#"{"N":"1"},{"N":"5"}"#),
        (true, "s", "CONTAINS", r#"{"S":"ell"}"#),
        (true, "l", "CONTAINS", r#"{"S":"y"}"#),
        (true, "l", "NOT_CONTAINS", r#"{"S":"z"}"#),
        (true, "s", "BEGINS_WITH", r#"{"S":"he"}"#),
        (false, "n", "NULL", ""),
        (true, "missing", "NULL", ""),
        (true, "n", "NOT_NULL", ""),
    ] {
        let expected =
            format!(r#"{{"{attribute}":{{"ComparisonOperator":"{operator}","AttributeValueList":[{values}]}}}}"#);
        assert_eq!(holds(&expected, item), is_true, "{expected}");
    }
}

#[test]
fn the_conditional_operator_joins_two_or_more() {
    let two = r#"{"a":{"Exists":false},"b":{"Exists":false}}"#;
    let parts = vec![Condition::NotExists(Path::attribute("a")), Condition::NotExists(Path::attribute("b"))];
    assert_eq!(condition_of(two, None).unwrap(), Some(Condition::And(parts.clone())));
    assert_eq!(condition_of(two, Some("AND")).unwrap(), Some(Condition::And(parts.clone())));
    assert_eq!(condition_of(two, Some("OR")).unwrap(), Some(Condition::Or(parts)));
    let text = |failure: Failure| failure.message().unwrap().to_owned();
    assert_eq!(
        text(condition_of(r#"{"a":{"Exists":false}}"#, Some("OR")).unwrap_err()),
        "ConditionalOperator can only be used when Filter or Expected has two or more elements"
    );
    assert_eq!(
        text(condition(Parameter::ScanFilter, None, Some("OR")).unwrap_err()),
        "ConditionalOperator cannot be used without Filter or Expected"
    );
    assert_eq!(condition(Parameter::Expected, None, None).unwrap(), None);
    assert_eq!(condition_of("{}", None).unwrap(), None);
}

#[test]
fn what_does_not_go_together_is_told() {
    for (json, text) in [
        (r#"{"a":{}}"#, "Value must be provided when Exists is null for Attribute: a"),
        (r#"{"a":{"Exists":true}}"#, "Value must be provided when Exists is true for Attribute: a"),
        (
            r#"{"a":{"Exists":false,"Value":{"S":"x"}}}"#,
            "Value cannot be used when Exists is set to false for Attribute: a",
        ),
        (
            r#"{"a":{"Exists":true,"ComparisonOperator":"NULL"}}"#,
            "Exists and ComparisonOperator cannot be used together for Attribute: a",
        ),
        (
            r#"{"a":{"Value":{"S":"x"},"AttributeValueList":[],"ComparisonOperator":"EQ"}}"#,
            "Value and AttributeValueList cannot be used together for Attribute: a",
        ),
        (
            r#"{"a":{"AttributeValueList":[{"S":"x"}]}}"#,
            "AttributeValueList can only be used with a ComparisonOperator for Attribute: a",
        ),
        (
            r#"{"a":{"ComparisonOperator":"EQ"}}"#,
            "Value or AttributeValueList must be used with ComparisonOperator: EQ for Attribute: a",
        ),
        (
            r#"{"a":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"S":"x"}]}}"#,
            "Invalid number of argument(s) for the BETWEEN ComparisonOperator",
        ),
        (
            r#"{"a":{"ComparisonOperator":"LT","Value":{"SS":["x"]}}}"#,
            "ComparisonOperator LT is not valid for SS AttributeValue type",
        ),
        (
            r#"{"a":{"ComparisonOperator":"IN","AttributeValueList":[{"S":"x"},{"N":"1"}]}}"#,
            "AttributeValues inside AttributeValueList must be of same type",
        ),
    ] {
        assert_eq!(refusal(json), format!("One or more parameter values were invalid: {text}"), "{json}");
    }
    assert_eq!(
        refusal(r#"{"a":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"N":"10"},{"N":"9"}]}}"#),
        "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"
    );
    assert_eq!(
        refusal(r#"{"a":{"ComparisonOperator":"IS","Value":{"S":"x"}}}"#),
        "1 validation error detected: Value 'IS' at 'expected.a.member.comparisonOperator' failed to satisfy constraint: \
         Member must satisfy enum value set: [IN, NULL, BETWEEN, LT, NOT_CONTAINS, EQ, GT, NOT_NULL, NE, LE, BEGINS_WITH, \
         GE, CONTAINS]"
    );
    assert_eq!(condition_of("[]", None).unwrap_err().name(), "SerializationException");
    assert_eq!(condition_of(r#"{"a":{"Exists":"no"}}"#, None).unwrap_err().name(), "SerializationException");
}

#[test]
fn updates_put_add_and_delete() {
    let update = update_of(
        r#"{"a":{"Value":{"S":"x"}},"b":{"Action":"ADD","Value":{"N":"1"}},"c":{"Action":"DELETE"},
            "d":{"Action":"DELETE","Value":{"SS":["x"]}},"e":{"Action":"ADD","Value":{"L":[{"S":"x"}]}}}"#,
    )
    .unwrap();
    let names = |paths: Vec<&Path>| paths.iter().map(|path| path.attribute.to_string()).collect::<Vec<_>>();
    assert_eq!(names(update.sets.iter().map(|(path, _)| path).collect()), ["a", "e"]);
    assert_eq!(names(update.adds.iter().map(|(path, _)| path).collect()), ["b"]);
    assert_eq!(names(update.removes.iter().collect()), ["c"]);
    assert_eq!(names(update.deletes.iter().map(|(path, _)| path).collect()), ["d"]);
    assert!(matches!(update.sets[1].1, SetValue::Operand(SetOperand::ListAppend(..))));
    let view = ItemView { item: None, keys: &Document::empty() };
    let document = update.apply(&view).unwrap().document;
    let mut json = Vec::new();
    attribute_value::write_item(&document, None, &mut json);
    assert_eq!(String::from_utf8(json).unwrap(), r#"{"a":{"S":"x"},"b":{"N":"1"},"e":{"L":[{"S":"x"}]}}"#);
}

#[test]
fn updates_that_cannot_be_are_told() {
    for (json, text) in [
        (r#"{"a":{"Action":"PUT"}}"#, "Only DELETE action is allowed when no attribute value is specified"),
        (r#"{"a":{}}"#, "Only DELETE action is allowed when no attribute value is specified"),
        (r#"{"a":{"Action":"ADD","Value":{"S":"x"}}}"#, "ADD action is not supported for the type S"),
        (r#"{"a":{"Action":"DELETE","Value":{"N":"1"}}}"#, "DELETE action with value is not supported for the type N"),
    ] {
        assert_eq!(update_refusal(json), format!("One or more parameter values were invalid: {text}"), "{json}");
    }
    assert_eq!(
        update_refusal(r#"{"a":{"Action":"SET","Value":{"S":"x"}}}"#),
        "1 validation error detected: Value 'SET' at 'attributeUpdates.a.member.action' failed to satisfy constraint: \
         Member must satisfy enum value set: [ADD, DELETE, PUT]"
    );
}

#[test]
fn key_conditions_have_operators_that_are_intervals() {
    let read = |json: &str| key_condition(&raw(json));
    let one = read(
        r#"{"id":{"ComparisonOperator":"EQ","AttributeValueList":[{"S":"x"}]},
            "sort":{"ComparisonOperator":"BETWEEN","AttributeValueList":[{"N":"1"},{"N":"2"}]}}"#,
    )
    .unwrap();
    assert!(matches!(&one.attributes[0], (name, KeyRange::Equal(_)) if &**name == "id"));
    assert!(matches!(&one.attributes[1], (name, KeyRange::Between(..)) if &**name == "sort"));
    let text = |json: &str| read(json).unwrap_err().message().unwrap().to_owned();
    assert_eq!(
        text(r#"{"id":{"ComparisonOperator":"NE","AttributeValueList":[{"S":"x"}]}}"#),
        "Attempted conditional constraint is not an indexable operation"
    );
    assert_eq!(text("{}"), "Conditions can be of length 1 or 2 only");
}

#[test]
fn no_attribute_is_wanted_twice() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    assert_eq!(projection(&names(&["b", "a.c"])).unwrap().paths, [Path::attribute("b"), Path::attribute("a.c")]);
    let text = projection(&names(&["a", "b", "a"])).unwrap_err().message().unwrap().to_owned();
    assert_eq!(text, "One or more parameter values were invalid: Duplicate value in attribute name: a");
}

#[test]
fn no_bytes_panic() {
    for json in ["", "null", "[]", "{}", r#"{"a":null}"#, r#"{"a":[]}"#, r#"{"a":{"Value":null,"Action":null}}"#] {
        fuzz_legacy(json.as_bytes());
    }
    let deep = format!(r#"{{"a":{{"Value":{}{}}}}}"#, r#"{"L":["#.repeat(5000), "]}".repeat(5000));
    fuzz_legacy(deep.as_bytes());
}

#[test]
fn one_request_has_no_more_than_a_log_entry_may_hold() {
    let many = |count: usize, said: &str| {
        let all: Vec<String> = (0..count).map(|number| format!(r#""a{number}":{said}"#)).collect();
        format!("{{{}}}", all.join(","))
    };
    assert!(condition_of(&many(300, r#"{"Exists":false}"#), None).is_ok());
    assert!(refusal(&many(301, r#"{"Exists":false}"#)).contains("more conditions or updates"));
    assert!(update_of(&many(1_000, r#"{"Value":{"N":"1"}}"#)).is_ok());
    assert!(update_refusal(&many(70_000, r#"{"Action":"DELETE"}"#)).contains("more conditions or updates"));
}
