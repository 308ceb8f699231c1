//! Updates: what they change, and what is refused with which text.

use super::*;

#[test]
fn errors_of_updates_are_those_of_aws() {
    refused(
        update,
        Role::Update,
        &[
            ("", "The expression can not be empty;"),
            ("a", "Syntax error; token: \"a\", near: \"a\""),
            ("SET", "Syntax error; token: \"<EOF>\", near: \"SET\""),
            ("SET a = :n,", "Syntax error; token: \"<EOF>\", near: \",\""),
            ("SET 0 = :n", "Syntax error; token: \"0\", near: \"SET 0 =\""),
            ("SET a = :n + :n + :n", "Syntax error; token: \"+\", near: \":n + :n\""),
            ("SET a = :n REMOVE", "Syntax error; token: \"<EOF>\", near: \"REMOVE\""),
            ("REMOVE a b", "Syntax error; token: \"b\", near: \"a b\""),
            ("ADD a b", "Syntax error; token: \"b\", near: \"a b\""),
            ("SET a = (:n + :one", "Syntax error; token: \"<EOF>\", near: \":one\""),
            ("SET a = ((:n + :one))", "The expression has redundant parentheses;"),
            ("SET name = :n SET b = foo(a)", "Attribute name is a reserved keyword; reserved keyword: name"),
            ("SET a = foo(:n) SET b = :n", "Invalid function name; function: foo"),
            ("SET a = size(b)", "Invalid function name; function: size"),
            ("SET a = :u SET b = #u", "The \"SET\" section can only be used once in an update expression;"),
            (
                "SET a = :u, b = #u",
                "An expression attribute name used in the document path is not defined; attribute name: #u",
            ),
            (
                "SET a = :u, a.b = :n",
                "An expression attribute value used in expression is not defined; attribute value: :u",
            ),
            (
                "SET a = :n, b[0] = :n REMOVE b.c ADD #a :s",
                "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a], path two: [a]",
            ),
            (
                "SET a.b = :n REMOVE a.b[1]",
                "Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a, b], path two: [a, b, [1]]",
            ),
            (
                "SET a.b = :n ADD a[1] :s",
                "Two document paths conflict with each other; must remove or rewrite one of these paths; path one: [a, b], path two: [a, [1]]",
            ),
            (
                "SET x = list_append(:n, a) ADD b :s",
                "Incorrect operand type for operator or function; operator: ADD, operand type: STRING, typeSet: ALLOWED_FOR_ADD_OPERAND",
            ),
            (
                "DELETE b :n",
                "Incorrect operand type for operator or function; operator: DELETE, operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND",
            ),
            (
                "SET b = list_append(:n, a)",
                "Incorrect operand type for operator or function; operator or function: list_append, operand type: N",
            ),
            (
                "SET b = :s + a",
                "Incorrect operand type for operator or function; operator or function: +, operand type: S",
            ),
            (
                "SET b = if_not_exists(a)",
                "Incorrect number of operands for operator or function; operator or function: if_not_exists, number of operands: 1",
            ),
            (
                "SET b = if_not_exists(:n, a)",
                "Operator or function requires a document path; operator or function: if_not_exists",
            ),
        ],
    );
}

fn apply(text: &str) -> Result<String, EvaluationError> {
    let (item, keys) = (json(ITEM), json(r#"{"id":"k"}"#));
    let update = update(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let updated = update.apply(&ItemView { item: Some(&item), keys: &keys })?;
    assert_eq!(updated.touched.iter().collect::<Vec<_>>(), update.paths());
    Ok(changed_only(&updated.document, &updated.touched).to_json())
}

#[test]
fn updates_change_items() {
    for (text, after) in [
        ("SET num = num + :one", r#"{"num":6}"#),
        ("set num = :one - num", r#"{"num":-4}"#),
        ("SET num = (num - :one), q = (num)", r#"{"num":4,"q":5}"#),
        ("SET q = if_not_exists(q, :n) + :one", r#"{"q":6}"#),
        ("SET q = if_not_exists(num, absent)", r#"{"q":5}"#),
        ("SET lst = list_append(lst, :l)", r#"{"lst":[1,2,3,1,2]}"#),
        ("SET lst = list_append(if_not_exists(q, :l), list_append(lst, :l))", r#"{"lst":[1,2,1,2,3,1,2]}"#),
        ("SET num = str, str = num", r#"{"num":"abcdef","str":5}"#),
        ("SET lst[100] = :n, lst[50] = :one", r#"{}"#),
        ("SET a.c.z = :n, a.b[1].c = :s", r#"{"a":{"b":[{"c":"abc"}],"c":{"z":5}}}"#),
        ("REMOVE num, absent, lst[9], a.c.q", r#"{}"#),
        (
            "ADD num :one, q :n, tags :sb, fresh :ns",
            r#"{"fresh":{"$number_set":[1,2]},"num":6,"q":5,"tags":{"$string_set":["a","b","c"]}}"#,
        ),
        ("DELETE tags :sb, absent :ss", r#"{"tags":{"$string_set":["a"]}}"#),
        ("DELETE tags :ss", r#"{}"#),
    ] {
        assert_eq!(apply(text).as_deref(), Ok(after), "{text}");
    }
    let (item, keys) = (json(ITEM), json(r#"{"id":"k"}"#));
    let view = ItemView { item: Some(&item), keys: &keys };
    let list = |text: &str| {
        let document = update(text).unwrap().apply(&view).unwrap().document;
        changed_only(&document, &[Path::attribute("lst")]).to_json()
    };
    assert_eq!(list("SET lst[100] = :n, lst[50] = :s"), r#"{"lst":[1,2,3,"abc",5]}"#);
    assert_eq!(list("REMOVE lst[0], lst[1] SET lst[2] = :s, lst[3] = :n"), r#"{"lst":["abc",5]}"#);
    let created = update("SET a = :n REMOVE b").unwrap().apply(&ItemView { item: None, keys: &keys }).unwrap();
    assert_eq!(created.document.to_json(), r#"{"a":5}"#);
}

#[test]
fn updates_that_cannot_be_are_refused() {
    for (text, error) in [
        ("SET q = absent", EvaluationError::MissingAttribute),
        ("SET q = absent + :one", EvaluationError::MissingAttribute),
        ("SET q = if_not_exists(absent, absent2)", EvaluationError::MissingAttribute),
        ("SET q = str + :one", EvaluationError::IncorrectType),
        ("SET q = list_append(str, :l)", EvaluationError::IncorrectType),
        ("SET absent.b = :n", EvaluationError::InvalidPath),
        ("SET num.b = :n", EvaluationError::InvalidPath),
        ("SET a[0] = :n", EvaluationError::InvalidPath),
        ("SET lst.x = :n", EvaluationError::InvalidPath),
        ("REMOVE absent.b", EvaluationError::InvalidPath),
        ("REMOVE absent[0]", EvaluationError::InvalidPath),
        ("ADD a.q.z :n", EvaluationError::InvalidPath),
        ("DELETE absent.b :ss", EvaluationError::InvalidPath),
        ("ADD str :n", EvaluationError::IncorrectType),
        ("ADD tags :ns", EvaluationError::IncorrectType),
        ("DELETE str :ss", EvaluationError::IncorrectType),
        ("DELETE nums :ss", EvaluationError::IncorrectType),
    ] {
        assert_eq!(apply(text), Err(error), "{text}");
    }
}

#[test]
fn depth_is_bounded_after_an_update() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(31), "]".repeat(31));
    let values = json(&deep);
    let mut substitutions = Substitutions::new(None, Some(values)).unwrap();
    let update = super::super::update::parse("SET q = :a, m.x = :a", &mut substitutions).unwrap();
    let (item, keys) = (json(r#"{"m":{}}"#), Document::empty());
    assert_eq!(update.apply(&ItemView { item: Some(&item), keys: &keys }), Err(EvaluationError::Depth));
}

#[test]
fn what_stands_in_many_places_is_written_once_and_cannot_grow_an_item_beyond_its_limit() {
    let values = json(&format!("{{\"v\":\"{}\"}}", "x".repeat(100_000)));
    let mut substitutions = Substitutions::new(None, Some(values)).unwrap();
    let sets: Vec<String> = (0..200).map(|index| format!("a{index}=:v")).collect();
    let text = format!("SET {}", sets.join(","));
    let update = super::super::update::parse(&text, &mut substitutions).unwrap();
    let mut buffer = bytes::BytesMut::new();
    update.encode(&mut buffer);
    assert!(buffer.len() < 110_000, "{} bytes", buffer.len());
    let read = Update::decode(&buffer.freeze()).unwrap();
    assert!(read == update);
    let keys = Document::empty();
    assert_eq!(read.apply(&ItemView { item: None, keys: &keys }), Err(EvaluationError::Size));
}
