//! Attribute values: what is written reads back, in any spelling; what may not be stored is refused in AWS's words and order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::domain::document::Node;
use crate::domain::document::sample::{self, Map, Tree};

/// A tree as a client may write it: numbers as they are spelled, names backwards, white space, members of no meaning.
fn spelled(tree: &Tree) -> String {
    let string = |text: &str| serde_json::to_string(text).unwrap();
    let base64 = |bytes: &[u8]| string(&STANDARD.encode(bytes));
    let list = |elements: Vec<String>| format!("[ {} ]", elements.join(" ,\n"));
    match tree {
        Tree::Null => "{\"NULL\" : true, \"S\": null}".to_owned(),
        Tree::Boolean(value) => format!("{{\"\\u0042OOL\":{value}}}"),
        Tree::Number(spelled, _) => format!("{{ \"N\":{} }}", string(spelled)),
        Tree::String(text) => format!("{{\"other\":[{{\"S\":1}}],\"S\":{}}}", string(text)),
        Tree::Binary(bytes) => format!("{{\"B\":{}}}", base64(bytes)),
        Tree::List(values) => format!("{{\"L\":{}}}", list(values.iter().map(spelled).collect())),
        Tree::Map(map) => format!("{{\"M\":{}}}", spelled_map(map)),
        Tree::StringSet(set) => format!("{{\"SS\":{}}}", list(set.iter().rev().map(|text| string(text)).collect())),
        Tree::NumberSet(set) => {
            format!("{{\"NS\":{}}}", list(set.iter().rev().map(|number| format!("\"{number}.0\"")).collect()))
        }
        Tree::BinarySet(set) => format!("{{\"BS\":{}}}", list(set.iter().rev().map(|bytes| base64(bytes)).collect())),
    }
}

fn spelled_map(map: &Map) -> String {
    let entry =
        |(name, value): (&String, &Tree)| format!("{} : {}", serde_json::to_string(name).unwrap(), spelled(value));
    format!("{{{}\r\n}}", map.iter().rev().map(entry).collect::<Vec<_>>().join(" ,"))
}

fn items() -> impl Strategy<Value = Map> {
    sample::items().prop_map(|mut map| {
        map.remove("");
        map
    })
}

fn written(document: &Document, keys: Option<&Document>) -> String {
    let mut json = Vec::new();
    write_item(document, keys, &mut json);
    String::from_utf8(json).unwrap()
}

/// What is said of an item whose attribute `a` is this.
fn refused(value: &str) -> Problem {
    read_item(format!("{{\"a\":{value}}}").as_bytes()).unwrap_err()
}

fn serialization(text: &str) -> Problem {
    Problem::serialization(text.to_owned())
}

fn validation(text: &str) -> Problem {
    Problem::validation(text.to_owned())
}

fn invalid(text: &str) -> Problem {
    validation(&format!("One or more parameter values were invalid: {text}"))
}

proptest! {
    #[test]
    fn items_read_back(map in items()) {
        let document = sample::document(&map);
        let read = read_item(spelled_map(&map).as_bytes());
        prop_assert!(read == Ok(document.clone()), "{}", spelled_map(&map));
        let json = written(&document, None);
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        prop_assert!(read_item(json.as_bytes()) == Ok(document));
    }

    #[test]
    fn keys_are_parted_and_put_back(map in items(), take in any::<prop::sample::Index>(), more in any::<prop::sample::Index>()) {
        prop_assume!(!map.is_empty());
        let names: Vec<&str> = map.keys().map(String::as_str).collect();
        let keys = [*take.get(&names), *more.get(&names)];
        let json = spelled_map(&map);
        let split = read_split(json.as_bytes(), &keys).unwrap();
        let whole = sample::document(&map);
        prop_assert_eq!(split.item_size(), whole.item_size());
        prop_assert!(keys.iter().all(|name| split.keys.get(name).is_some() && split.rest.get(name).is_none()));
        prop_assert_eq!(written(&split.rest, Some(&split.keys)), written(&whole, None));
        prop_assert_eq!(written(&whole, Some(&split.keys)), written(&whole, None));
    }

    #[test]
    fn no_text_panics(text: String, pieces in "[{}\\[\\]:,\"SNBMLU1a=t]{0,60}") {
        fuzz_attribute_values(text.as_bytes());
        fuzz_attribute_values(pieces.as_bytes());
    }
}

#[test]
fn each_type_is_written_as_the_protocol_has_it() {
    let json = concat!(
        r#"{"b":{"B":"AP8="},"e":{"S":""},"f":{"BOOL":false},"l":{"L":[{"NULL":true},{"S":"\"\n"}]},"#,
        r#""m":{"M":{"x":{"N":"-0.5"}}},"n":{"N":"1000"},"nb":{"B":""},"ns":{"NS":["-1","2"]},"#,
        r#""sb":{"BS":["","AA=="]},"ss":{"SS":["","a"]},"t":{"BOOL":true}}"#
    );
    let document = read_item(json.as_bytes()).unwrap();
    assert_eq!(written(&document, None), json);
    assert_eq!(written(&Document::empty(), None), "{}");
}

#[test]
fn a_value_has_exactly_one_type() {
    for empty in ["{}", "null", r#"{"X":"1"}"#, r#"{"S":null}"#] {
        assert_eq!(refused(empty), validation(EMPTY_VALUE), "{empty}");
    }
    assert_eq!(refused(r#"{"S":"a","N":"1"}"#), validation(SEVERAL_TYPES));
    assert_eq!(refused(r#"{"NULL":false}"#), invalid("Null attribute value types must have the value of true"));
}

#[test]
fn json_of_another_type_is_told_in_words_of_its_own() {
    for (value, text) in [
        (r#"{"S":1}"#, "NUMBER_VALUE cannot be converted to String"),
        (r#"{"N":1}"#, "NUMBER_VALUE cannot be converted to String"),
        (r#"{"S":true}"#, "TRUE_VALUE cannot be converted to String"),
        (r#"{"N":false}"#, "FALSE_VALUE cannot be converted to String"),
        (r#"{"S":{}}"#, "Start of structure or map found where not expected"),
        (r#"{"S":[]}"#, "Unrecognized collection type class java.lang.String"),
        (r#"{"BOOL":"true"}"#, "Unexpected token received from parser"),
        (r#"{"BOOL":1}"#, "NUMBER_VALUE cannot be converted to Boolean"),
        (r#"{"B":"AA"}"#, "Base64 encoded length is expected a multiple of 4 bytes but found: 2"),
        (r#"{"B":"A-_="}"#, "only base-64-encoded strings are convertible to bytes"),
        (r#"{"B":"AB=="}"#, "only base-64-encoded strings are convertible to bytes"),
        (r#"{"BS":[1]}"#, "only base-64-encoded strings are convertible to bytes"),
        (r#"{"M":"a"}"#, "Unexpected field type"),
        (r#"{"L":{}}"#, "Start of structure or map found where not expected"),
        (r#"{"SS":"a"}"#, "Unexpected field type"),
        (r#"{"NS":[1]}"#, "NUMBER_VALUE cannot be converted to String"),
        ("5", "Unexpected value type in payload"),
        ("\"a\"", "Unexpected value type in payload"),
    ] {
        assert_eq!(refused(value), serialization(text), "{value}");
    }
    assert_eq!(read_item(b"5").unwrap_err(), serialization("Unexpected field type"));
    for none in ["", "{", "{\"a\"}", "{\"a\":{\"S\":\"\\ud800\"}}", "{} {}", "{\"a\":{\"S\":\"b\",}}"] {
        assert_eq!(read_item(none.as_bytes()).unwrap_err(), Problem::Syntax, "{none}");
    }
}

#[test]
fn what_cannot_be_a_value_goes_before_what_may_not_be_stored() {
    let json = r#"{"a":{"SS":[]},"b":{"L":[{"M":{"c":{"N":true}}}]}}"#;
    assert_eq!(read_item(json.as_bytes()).unwrap_err(), serialization("TRUE_VALUE cannot be converted to String"));
    let json = r#"{"a":{"S":"b","N":"1"},"b":{"B":"x"}}"#;
    assert!(matches!(read_item(json.as_bytes()), Err(Problem::Serialization(_))));
}

#[test]
fn sets_have_elements_and_none_twice() {
    assert_eq!(refused(r#"{"SS":[]}"#), invalid("An string set  may not be empty"));
    assert_eq!(refused(r#"{"NS":[]}"#), invalid("An number set  may not be empty"));
    assert_eq!(refused(r#"{"BS":[]}"#), invalid("Binary sets should not be empty"));
    assert_eq!(refused(r#"{"SS":["a","b","a"]}"#), invalid("Input collection [a, b, a] contains duplicates."));
    assert_eq!(refused(r#"{"NS":["1","1.0"]}"#), validation("Input collection contains duplicates"));
    assert_eq!(
        refused(r#"{"BS":["AA==","AA=="]}"#),
        invalid("Input collection [AA==, AA==]of type BS contains duplicates.")
    );
    assert_eq!(refused(r#"{"NS":["1","x"]}"#), validation("The parameter cannot be converted to a numeric value: x"));
}

#[test]
fn numbers_are_exact_or_refused() {
    let read = |number: &str| read_item(format!("{{\"a\":{{\"N\":\"{number}\"}}}}").as_bytes());
    for (number, canonical) in
        [("007", "7"), ("1E3", "1000"), ("-0.0", "0"), ("+.5", "0.5"), ("1e-130", tiny().as_str())]
    {
        assert_eq!(written(&read(number).unwrap(), None), format!(r#"{{"a":{{"N":"{canonical}"}}}}"#));
    }
    for (number, text) in [
        ("", "The parameter cannot be converted to a numeric value"),
        ("1x", "The parameter cannot be converted to a numeric value: 1x"),
        ("NaN", "The parameter cannot be converted to a numeric value: NaN"),
        ("1e126", "Number overflow. Attempting to store a number with magnitude larger than supported range"),
        ("1e-131", "Number underflow. Attempting to store a number with magnitude smaller than supported range"),
        ("123456789012345678901234567890123456789", "Attempting to store more than 38 significant digits in a Number"),
    ] {
        assert_eq!(read(number).unwrap_err(), validation(text), "{number}");
    }
}

fn tiny() -> String {
    format!("0.{}1", "0".repeat(129))
}

#[test]
fn depth_is_bounded_and_hostile_depth_ends() {
    let nested = |levels: usize, kind: &str| {
        let (open, close) = if kind == "L" { ("{\"L\":[", "]}") } else { ("{\"M\":{\"x\":", "}}") };
        format!("{{\"a\":{}{{\"S\":\"\"}}{}}}", open.repeat(levels), close.repeat(levels))
    };
    let too_deep = validation("Nesting Levels have exceeded supported limits");
    for kind in ["L", "M"] {
        assert!(read_item(nested(31, kind).as_bytes()).is_ok(), "{kind}");
        for levels in [32, 64, 100_000] {
            assert_eq!(read_item(nested(levels, kind).as_bytes()).unwrap_err(), too_deep, "{kind} {levels}");
        }
    }
    let unknown = format!("{{\"a\":{{\"X\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read_item(unknown.as_bytes()).is_err());
}

#[test]
fn names_are_not_empty_at_the_top_and_stand_once() {
    assert_eq!(read_item(br#"{"":{"S":"a"}}"#).unwrap_err(), invalid("An attribute name may not be empty"));
    assert!(matches!(read_item(br#"{"a":{"S":"a"},"b":{"S":""},"a":{"S":"b"}}"#), Err(Problem::Serialization(_))));
    assert!(read_item(br#"{"a":{"M":{"":{"S":"a"}}}}"#).is_ok());
}

#[test]
fn placeholders_lose_their_colon_and_are_named_in_what_is_wrong() {
    fn name_of(name: &str) -> Result<&str, Problem> {
        name.strip_prefix(':').ok_or_else(|| Problem::validation("no colon"))
    }
    let document = read_placeholders(br#"{":v":{"N":"1"}}"#, name_of).unwrap();
    assert_eq!(document.get("v"), Some(Node::Number("1")));
    assert_eq!(
        read_placeholders(br#"{":v":{}}"#, name_of).unwrap_err(),
        validation(&format!("ExpressionAttributeValues contains invalid value: {EMPTY_VALUE} for key :v"))
    );
    assert_eq!(read_placeholders(br#"{"v":{"S":""}}"#, name_of).unwrap_err(), validation("no colon"));
}

#[test]
fn one_value_stands_under_the_name_it_is_given() {
    let document = read_value(br#"{"SS":["b","a"]}"#, "x").unwrap();
    assert_eq!(written(&document, None), r#"{"x":{"SS":["a","b"]}}"#);
    assert_eq!(read_value(b"{}", "x").unwrap_err(), validation(EMPTY_VALUE));
    assert_eq!(read_value(br#"{"S":"a"} 1"#, "x").unwrap_err(), Problem::Syntax);
}
