//! Parameters: the types of members in AWS's words, and constraints told together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::*;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Sample<'a> {
    #[serde(borrow)]
    text: Text<'a>,
    flag: Flag,
    count: Count,
    texts: Texts,
    names: Names,
    #[serde(borrow)]
    raw: Raw<'a>,
    #[serde(borrow)]
    map: RawMap<'a>,
    #[serde(borrow)]
    list: RawList<'a>,
}

fn told(body: &str) -> Option<String> {
    let failure = parse::<Sample<'_>>(body.as_bytes()).unwrap_err();
    assert_eq!(failure.name(), "SerializationException");
    failure.message().map(str::to_owned)
}

#[test]
fn members_are_read_and_strangers_skipped() {
    let body = r#" {"Text":"a\u0062","Flag":true,"Count":7,"Texts":["x","y"],"Names":{"\#n":"m"},"Raw":{"S":1},
        "Map":{"t":[1]},"List":[{},2],"Other":{"deep":[[[]]]}}"#
        .replace("\\#", "#");
    let sample: Sample<'_> = parse(body.as_bytes()).unwrap();
    assert_eq!((sample.text.get(), sample.flag.is_set(), sample.count), (Some("ab"), true, Count(Some(7))));
    assert_eq!(sample.texts.0.unwrap(), ["x", "y"]);
    assert_eq!(sample.names.0.unwrap()["#n"], "m");
    assert_eq!(sample.raw.unwrap().get(), r#"{"S":1}"#);
    let map = sample.map.0.unwrap();
    assert_eq!((&*map[0].0, map[0].1.get()), ("t", "[1]"));
    assert_eq!(sample.list.0.unwrap().len(), 2);
}

#[test]
fn what_is_null_or_missing_is_not_given() {
    let nulls = r#"{"Text":null,"Flag":null,"Count":null,"Texts":null,"Names":null,"Raw":null,"Map":null,"List":null}"#;
    for body in ["{}", nulls] {
        let sample: Sample<'_> = parse(body.as_bytes()).unwrap();
        assert_eq!((sample.text.get(), sample.flag.0, sample.count.0), (None, None, None));
        assert!(sample.texts.0.is_none() && sample.names.0.is_none() && sample.raw.is_none());
        assert!(sample.map.0.is_none() && sample.list.0.is_none());
    }
}

#[test]
fn strings_without_escapes_are_not_copied() {
    let sample: Sample<'_> = parse(br#"{"Text":"plain"}"#).unwrap();
    assert!(matches!(sample.text.0, Some(Cow::Borrowed("plain"))));
}

#[test]
fn bodies_that_are_no_object_have_no_message() {
    for body in ["", "null", "[]", "7", "\"a\"", "{", "{\"Text\":}", "{} {}", "[\"a\"]"] {
        assert_eq!(told(body), None, "{body}");
    }
    let failure = parse::<Sample<'_>>(b"{\"Other\":\"\xff\"}").unwrap_err();
    assert_eq!(failure.message(), None);
    let deep = format!("{{\"Other\":{}}}", "[".repeat(200_000));
    assert_eq!(told(&deep), None);
}

#[test]
fn wrong_types_are_told_in_words_of_their_own() {
    for (body, text) in [
        (r#"{"Text":1}"#, "NUMBER_VALUE cannot be converted to String"),
        (r#"{"Text":1.5}"#, "NUMBER_VALUE cannot be converted to String"),
        (r#"{"Text":true}"#, "TRUE_VALUE cannot be converted to String"),
        (r#"{"Text":{"a":1}}"#, "Start of structure or map found where not expected"),
        (r#"{"Text":["a"]}"#, "Unrecognized collection type class java.lang.String"),
        (r#"{"Flag":"true"}"#, "Unexpected token received from parser"),
        (r#"{"Flag":1}"#, "NUMBER_VALUE cannot be converted to Boolean"),
        (r#"{"Count":"1"}"#, "STRING_VALUE cannot be converted to Integer"),
        (r#"{"Count":false}"#, "FALSE_VALUE cannot be converted to Integer"),
        (r#"{"Texts":"a"}"#, "Unexpected field type"),
        (r#"{"Texts":[1]}"#, "NUMBER_VALUE cannot be converted to String"),
        (r#"{"Names":{"a":1}}"#, "NUMBER_VALUE cannot be converted to String"),
        (r#"{"Map":{"t":1,"t":2}}"#, "Duplicate field in a map"),
    ] {
        assert_eq!(told(body).as_deref(), Some(text), "{body}");
    }
}

#[test]
fn the_parsers_own_words_are_not_told() {
    for twice in [
        r#"{"Text":"a","Text":"a"}"#,
        r#"{"Flag":null,"Flag":true}"#,
        r#"{"Raw":{"S":"a"},"Other":1,"\u0052aw":{"S":"a"}}"#,
    ] {
        assert_eq!(told(twice), None, "{twice}");
    }
    assert!(parse::<Sample<'_>>(br#"{"Other":1,"Other":2}"#).is_ok(), "what is skipped may stand twice");
    let part = RawValue::from_string(r#"{"List":[],"List":[]}"#.to_owned()).unwrap();
    let failure = parse_part::<Sample<'_>>(&part).unwrap_err();
    assert_eq!((failure.name(), failure.message()), ("SerializationException", None));
    for body in [r#"{"a":5}"#, r#"{"a":"secret"}"#, r#"{"a":null}"#] {
        let failure = parse::<BTreeMap<String, Sample<'_>>>(body.as_bytes()).unwrap_err();
        assert_eq!(
            (failure.name(), failure.message()),
            ("SerializationException", Some("Unexpected value type in payload")),
            "{body}"
        );
    }
}

#[test]
fn constraints_are_told_together() {
    let mut constraints = Constraints::new();
    constraints.missing("tableName");
    assert_eq!(constraints.word("returnValues", &Text(Some("ALL".into())), ReturnValues::WORDS), None);
    constraints.within("limit", Count(Some(0)), 1, i64::MAX);
    assert_eq!(
        constraints.finish().unwrap_err().message(),
        Some(concat!(
            "3 validation errors detected: Value null at 'tableName' failed to satisfy constraint: Member must not be null; ",
            "Value 'ALL' at 'returnValues' failed to satisfy constraint: ",
            "Member must satisfy enum value set: [ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]; ",
            "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"
        ))
    );
    assert!(Constraints::new().finish().is_ok());
}

#[test]
fn names_are_told_of_by_their_letters_first_and_then_by_their_length() {
    let told = |name: &str| {
        let mut constraints = Constraints::new();
        constraints.spelled("indexName", name);
        let failure = constraints.finish().err()?;
        Some(failure.message().unwrap_or_default().replace(&format!("Value '{name}' at 'indexName' "), ""))
    };
    let letters = "failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";
    let short = "failed to satisfy constraint: Member must have length greater than or equal to 3";
    let long = "failed to satisfy constraint: Member must have length less than or equal to 255";
    for good in ["a.b", "A-_", &"9".repeat(255)] {
        assert_eq!(told(good), None, "{good}");
    }
    assert_eq!(told("ab").unwrap(), format!("1 validation error detected: {short}"));
    assert_eq!(told("a;b").unwrap(), format!("1 validation error detected: {letters}"));
    for bad in ["", "a;", "é"] {
        assert_eq!(told(bad).unwrap(), format!("2 validation errors detected: {letters}; {short}"), "{bad}");
    }
    assert_eq!(told(&"9".repeat(256)).unwrap(), format!("1 validation error detected: {long}"));
    assert_eq!(told(&";".repeat(256)).unwrap(), format!("2 validation errors detected: {letters}; {long}"));
}

#[test]
fn values_have_a_colon_and_are_some() {
    let read = |json: &str| {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        read_values(&raw).map_err(|failure| failure.message().unwrap_or_default().to_owned())
    };
    assert!(read(r#"{":v":{"S":"a"},":w_1":{"N":"1"}}"#).is_ok());
    assert_eq!(read("{}").unwrap_err(), "ExpressionAttributeValues must not be empty");
    for key in ["v", ":", ":a-b", ""] {
        assert_eq!(
            read(&format!(r#"{{"{key}":{{"S":"a"}}}}"#)).unwrap_err(),
            format!("ExpressionAttributeValues contains invalid key: Syntax error; key: \"{key}\"")
        );
    }
}
