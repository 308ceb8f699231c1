//! Conditions: what holds, what is refused with which text, and limits.

use super::*;

fn holds(text: &str) -> bool {
    let (item, keys) = (json(ITEM), json(r#"{"id":"k"}"#));
    let condition = condition(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    condition.holds(&ItemView { item: Some(&item), keys: &keys }).unwrap()
}

#[test]
fn conditions_hold() {
    for text in [
        "num = :n",
        "num <> :one",
        ":n = num",
        "num > :one AND num >= :n AND num < :one OR str = :s AND num = :n OR num = :n",
        "absent <> :n",
        "NOT absent = :n",
        "not absent < :n",
        "NOT NOT num = :n",
        "(num) = (:n)",
        "(num = :n)",
        "(num = :n) AND (str <> :s)",
        "num BETWEEN :one AND :n AND num between :n and :n",
        "num IN (:one, :n)",
        "attribute_exists(a.b[1].c) and attribute_not_exists(a.b[3])",
        "attribute_exists ( #a . #b [ 0 ] )",
        "(a).b[0] = :one",
        "attribute_type(str, :type)",
        "begins_with(str, :s) AND NOT begins_with(str, :t)",
        "contains(str, :s) AND contains(lst, :one)",
        "contains(nums, :one) AND contains(bin, :x)",
        "size(str) > :n AND size(lst) > :two AND size(a) = :two AND size(bin) = size(lst)",
        "size(:s) = size(lst)",
        "attribute_exists(id) AND id > :s",
        "#dot = :one",
        "contains(lst, size(tags))",
        "size(num) <> :one",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "absent = :n",
        "absent = absent2",
        "num = :s",
        "num < str",
        "num > :n",
        "size(num) = :one",
        "attribute_exists(str.x)",
        "begins_with(num, :s)",
        "contains(tags, :one)",
        "contains(absent, :one)",
        "attribute_type(absent, :type)",
        "NOT (num = :n OR num = :one)",
        "num BETWEEN str AND :n",
        "yes IN (:n, :s)",
    ] {
        assert!(!holds(text), "{text}");
    }
    let keys = json(r#"{"id":"k"}"#);
    let exists = condition("attribute_exists(id)").unwrap();
    assert!(!exists.holds(&ItemView { item: None, keys: &keys }).unwrap(), "no item, no key");
}

#[test]
fn errors_of_conditions_are_those_of_aws() {
    refused(
        condition,
        Role::Condition,
        &[
            ("", "The expression can not be empty;"),
            (" \t", "The expression can not be empty;"),
            ("a", "Syntax error; token: \"<EOF>\", near: \"a\""),
            ("a-b", "Syntax error; token: \"-\", near: \"a-b\""),
            ("a $ b", "Syntax error; token: \"$\", near: \"a $ b\""),
            ("a = :n AND", "Syntax error; token: \"<EOF>\", near: \"AND\""),
            ("a  AND b", "Syntax error; token: \"AND\", near: \"a  AND b\""),
            ("a.0.b = :n", "Syntax error; token: \"0\", near: \".0.\""),
            ("(a = :n", "Syntax error; token: \"<EOF>\", near: \":n\""),
            ("a = :n)", "Syntax error; token: \")\", near: \":n)\""),
            ("()", "Syntax error; token: \")\", near: \"()\""),
            ("a IN ()", "Syntax error; token: \")\", near: \"()\""),
            ("a BETWEEN :n", "Syntax error; token: \"<EOF>\", near: \":n\""),
            ("a = é", "Syntax error; token: \"é\", near: \"= é\""),
            ("a[x] = :n", "Syntax error; token: \"x\", near: \"[x]\""),
            ("or = :n", "Syntax error; token: \"or\", near: \"or =\""),
            ("((a = :n))", "The expression has redundant parentheses;"),
            ("((a)) = :n", "The expression has redundant parentheses;"),
            ("a = ((:n))", "The expression has redundant parentheses;"),
            ("((attribute_exists(a)))", "The expression has redundant parentheses;"),
            ("((name = #x))", "The expression has redundant parentheses;"),
        ],
    );
}

#[test]
fn functions_and_names_are_checked_before_values() {
    refused(
        condition,
        Role::Condition,
        &[
            ("foo(name) AND bar(a)", "Invalid function name; function: foo"),
            ("SIZE(a) = :n", "Invalid function name; function: SIZE"),
            ("if_not_exists(a, :n)", "Invalid function name; function: if_not_exists"),
            ("size(a)", "The function is not allowed to be used this way in an expression; function: size"),
            ("NOT size(a)", "The function is not allowed to be used this way in an expression; function: size"),
            (
                "attribute_exists(a) = :n",
                "The function is not allowed to be used this way in an expression; function: attribute_exists",
            ),
            (
                "size(contains(a, b)) = :n",
                "The function is not allowed to be used this way in an expression; function: contains",
            ),
            ("a.Name = :n", "Attribute name is a reserved keyword; reserved keyword: Name"),
            ("size = #undefined", "Attribute name is a reserved keyword; reserved keyword: size"),
            ("#u = :u", "An expression attribute name used in the document path is not defined; attribute name: #u"),
            ("a = :u", "An expression attribute value used in expression is not defined; attribute value: :u"),
        ],
    );
}

#[test]
fn operands_are_checked_as_on_aws() {
    refused(
        condition,
        Role::Condition,
        &[
            (
                "attribute_exists(a, b)",
                "Incorrect number of operands for operator or function; operator or function: attribute_exists, number of operands: 2",
            ),
            (
                "size(a, b) = :n",
                "Incorrect number of operands for operator or function; operator or function: size, number of operands: 2",
            ),
            (
                "a.b = #a.#b",
                "The first operand must be distinct from the remaining operands for this operator or function; operator: =, first operand: [a, b]",
            ),
            (
                "contains(a[1].b, a[1].b)",
                "The first operand must be distinct from the remaining operands for this operator or function; operator: contains, first operand: [a, [1], b]",
            ),
            (
                "attribute_exists(:n)",
                "Operator or function requires a document path; operator or function: attribute_exists",
            ),
            (
                "begins_with(a, :n)",
                "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N",
            ),
            (
                "begins_with(a, size(b))",
                "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N",
            ),
            (
                "size(:n) = a",
                "Incorrect operand type for operator or function; operator or function: size, operand type: N",
            ),
            (
                "a < :bool",
                "Incorrect operand type for operator or function; operator or function: <, operand type: BOOL",
            ),
            (
                "a BETWEEN :l AND :n",
                "Incorrect operand type for operator or function; operator or function: BETWEEN, operand type: L",
            ),
            (
                "attribute_type(a, b)",
                "Incorrect operand type for operator or function; operator or function: attribute_type, operand type: {NS,SS,L,BS,N,M,B,BOOL,NULL,S}",
            ),
            (
                "attribute_type(a, :n)",
                "Incorrect operand type for operator or function; operator or function: attribute_type, operand type: N",
            ),
            (
                "attribute_type(a, :wrong)",
                "Invalid attribute type name found; type: STRING, valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}",
            ),
            (
                "a BETWEEN :t AND :s",
                "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: AttributeValue: {S:abd}, upper bound operand: AttributeValue: {S:abc}",
            ),
            (
                "a BETWEEN :n AND :x",
                "The BETWEEN operator requires same data type for lower and upper bounds; lower bound operand: AttributeValue: {N:5}, upper bound operand: AttributeValue: {B:AAE=}",
            ),
            ("a[2147483648] = :n", "List index is not within the allowable range; index: [2147483648]"),
        ],
    );
}

#[test]
fn limits_are_those_of_aws() {
    let long = format!("a = :n{}", " ".repeat(4091));
    let terms = |count: usize, word: &str| vec!["a=:n"; count].join(word);
    let list = |count: usize| format!("a IN ({})", vec![":n"; count].join(","));
    let path = |steps: usize| format!("a{} = :n", ".b".repeat(steps));
    assert!(condition(&terms(150, " AND ")).is_ok());
    assert!(condition(&list(100)).is_ok());
    assert!(condition(&path(31)).is_ok());
    refused(
        condition,
        Role::Condition,
        &[
            (&long, "Expression size has exceeded the maximum allowed size; expression size: 4097"),
            (&terms(151, " OR "), "The expression contains too many operators; operator count: 301"),
            (&list(101), "The IN operator is provided with too many operands; number of operands: 101"),
            (&path(32), "The document path has too many nesting levels; nesting levels: 33"),
            (&"(".repeat(4096), "Syntax error; token: \"<EOF>\", near: \"(\""),
            (&"size(".repeat(800), "The function is not allowed to be used this way in an expression; function: size"),
            (&format!("{}a=:n", "NOT ".repeat(301)), "The expression contains too many operators; operator count: 301"),
        ],
    );
    let deep = format!("{}a=:n{}", "(a=:n AND ".repeat(149), ")".repeat(149));
    let deep = condition(&deep).unwrap();
    assert!(deep.within_limits());
    assert_eq!(deep.paths().len(), 150);
    let sets = format!("SET a = {}b{}", "if_not_exists(b,".repeat(64), ")".repeat(64));
    assert!(update(&sets).is_ok_and(|update| update.within_limits()));
    let parentheses = format!("{}a=:n{}", "(".repeat(2040), ")".repeat(2040));
    refused(condition, Role::Condition, &[(&parentheses, "The expression has redundant parentheses;")]);
    let turned = format!("{}a=:n{}", "NOT(".repeat(299), ")".repeat(299));
    assert!(matches!(condition(&turned), Ok(Condition::Not(inner)) if matches!(*inner, Condition::Compare(..))));
    let nots = format!("{}a=:n", "not ".repeat(299));
    assert!(matches!(condition(&nots), Ok(Condition::Not(_))));
}
