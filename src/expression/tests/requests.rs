//! Projections, key conditions, what a request gives for placeholders, and what must not be shown.

use super::*;

#[test]
fn errors_of_projections_are_those_of_aws() {
    refused(
        projection,
        Role::Projection,
        &[
            ("", "The expression can not be empty;"),
            ("a,", "Syntax error; token: \"<EOF>\", near: \",\""),
            ("a b", "Syntax error; token: \"b\", near: \"a b\""),
            ("a, name, #u", "Attribute name is a reserved keyword; reserved keyword: name"),
            ("a, #u, a", "An expression attribute name used in the document path is not defined; attribute name: #u"),
            (
                "a.b, a[1], b, #b",
                "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [b], path two: [b]",
            ),
            (
                "a[1].b, a.c",
                "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [a, [1], b], path two: [a, c]",
            ),
        ],
    );
}

#[test]
fn key_conditions_are_narrowed() {
    let found = key_condition("(#a = :s) AND :n >= b").unwrap();
    let ranges: Vec<(&str, bool)> =
        found.attributes.iter().map(|(name, range)| (&**name, matches!(range, KeyRange::LessOrEqual(_)))).collect();
    assert_eq!(ranges, [("a", false), ("b", true)]);
    for (text, error) in [
        ("a = :n OR b = :n", "Invalid operator used in KeyConditionExpression: OR"),
        ("NOT a = :n", "Invalid operator used in KeyConditionExpression: NOT"),
        ("a <> :n", "Invalid operator used in KeyConditionExpression: <>"),
        ("a IN (:n)", "Invalid operator used in KeyConditionExpression: IN"),
        ("attribute_exists(a)", "Invalid operator used in KeyConditionExpression: attribute_exists"),
        ("size(a) = :n", "KeyConditionExpressions cannot contain nested operations"),
        ("a.b = :n", "KeyConditionExpressions cannot have conditions on nested attributes"),
        ("a = b", "Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition"),
        (":n = :one", "Invalid condition in KeyConditionExpression: No key attribute specified"),
        ("a = :n AND a > :n", "KeyConditionExpressions must only contain one condition per key"),
        (
            ":n BETWEEN a AND :n",
            "Invalid condition in KeyConditionExpression: BETWEEN operator must have the key attribute as its first operand",
        ),
        (
            "begins_with(:s, a)",
            "Invalid condition in KeyConditionExpression: begins_with operator must have the key attribute as its first operand",
        ),
    ] {
        assert_eq!(key_condition(text).map(|_| ()), Err(error.to_owned()), "{text}");
    }
}

#[test]
fn substitutions_are_checked_and_the_unused_are_told() {
    let made = |names: &[(&str, &str)]| {
        let names = names.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect();
        Substitutions::new(Some(&names), None).map(|_| ()).map_err(|error| error.message)
    };
    assert_eq!(made(&[]), Err("ExpressionAttributeNames must not be empty".to_owned()));
    for key in ["a", "#", "#a-b", ""] {
        let error = format!("ExpressionAttributeNames contains invalid key: Syntax error; key: \"{key}\"");
        assert_eq!(made(&[(key, "a")]), Err(error));
    }
    let error = made(&[(&format!("#{}", "a".repeat(255)), "a")]).unwrap_err();
    assert!(error.ends_with("too long; size of key: 256"), "{error}");
    let empty = Substitutions::new(None, Some(Document::empty())).map(|_| ()).unwrap_err();
    assert_eq!(empty.message, "ExpressionAttributeValues must not be empty");
    assert_eq!(value_placeholder(":v1"), Ok("v1"));
    assert_eq!(
        value_placeholder("v").unwrap_err().message,
        "ExpressionAttributeValues contains invalid key: Syntax error; key: \"v\""
    );

    let names = names();
    let mut substitutions = Substitutions::new(Some(&names), Some(json(r#"{"v":1,"w":2}"#))).unwrap();
    super::super::condition::parse(Role::Condition, "#a = :w", &mut substitutions).unwrap();
    let left = |substitutions: &Substitutions<'_>| substitutions.finish().unwrap_err().message;
    let prefix = "Value provided in ExpressionAttribute";
    assert_eq!(left(&substitutions), format!("{prefix}Names unused in expressions: keys: {{#b, #dot, #n}}"));
    super::super::projection::parse("#b, #dot, #n", &mut substitutions).unwrap();
    assert_eq!(left(&substitutions), format!("{prefix}Values unused in expressions: keys: {{:v}}"));
    super::super::update::parse("ADD c :v", &mut substitutions).unwrap();
    assert_eq!(substitutions.finish(), Ok(()));
}

#[test]
fn projections_take_parts() {
    let item = ItemView { item: Some(&json(ITEM)), keys: &json(r#"{"id":"k"}"#) }.document();
    for (text, part) in [
        ("id, num", r#"{"id":"k","num":5}"#),
        ("a.b[2], a.b[0], a.c", r#"{"a":{"b":[1,3],"c":{}}}"#),
        ("a.b[1].c, a.b[7], absent.x, num.x, lst[5], a.q", r#"{"a":{"b":[{"c":"x"}]}}"#),
        ("#dot", r#"{"x.y":1}"#),
        ("lst[2], lst[0]", r#"{"lst":[1,3]}"#),
    ] {
        assert_eq!(projection(text).unwrap().project(&item).to_json(), part, "{text}");
    }
}

#[test]
fn debug_shows_no_values_and_no_texts() {
    let condition = condition("str = :s AND contains(a.b, :t)").unwrap();
    let update = update("SET str = :s ADD b :ss").unwrap();
    let error = ExpressionError::new("secret abc");
    let shown = format!("{condition:?} {update:?} {error:?}");
    assert!(!shown.contains("abc") && !shown.contains("str"), "{shown}");
}

#[test]
fn trees_beyond_the_limits_are_no_bytes() {
    let mut deep = Condition::Exists(Path::attribute("a"));
    for _ in 0..limits::CONDITION_LEVELS_MAX {
        deep = Condition::Not(Box::new(deep));
    }
    assert!(!deep.within_limits());
    let mut buffer = bytes::BytesMut::new();
    deep.encode(&mut buffer);
    assert_eq!(Condition::decode(&buffer.freeze()), Err(encoding::EncodingError::Format(0)));
    let mut nested = vec![1u8];
    nested.extend(std::iter::repeat_n(3u8, 100_000));
    assert_eq!(Condition::decode(&nested.into()), Err(encoding::EncodingError::Limit));
}
