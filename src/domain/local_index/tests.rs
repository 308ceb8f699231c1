//! Local indexes: what is in them, what they show, what is refused, and how they are written down.

use super::*;
use crate::domain::document::sample::of_text as document;
use crate::domain::key::read_index_entry;

fn index(key_type: KeyType, projection: IndexProjection) -> LocalIndex {
    LocalIndex::of("by-age", "age", key_type, projection)
}

fn include(names: &[&str]) -> IndexProjection {
    IndexProjection::Include(names.iter().map(|name| (*name).to_owned()).collect())
}

fn key() -> PackedKey {
    PackedKey::new(&KeyValue::String("a".into()), Some(&KeyValue::Integer(7.into())))
}

fn table(local_indexes: Vec<LocalIndex>) -> TableSpecification {
    TableSpecification { sort_type: Some(KeyType::Integer), local_indexes, ..TableSpecification::new(KeyType::String) }
}

#[test]
fn an_item_is_in_an_index_by_its_attribute() {
    let wrong = |actual| Err(Unindexable::WrongType { actual });
    let long = |count: usize| format!(r#"{{"age":"{}"}}"#, "x".repeat(count));
    for (key_type, text, expected) in [
        (KeyType::Integer, r#"{"age":7}"#.to_owned(), Ok(())),
        (KeyType::Integer, r#"{"age":"7"}"#.to_owned(), wrong("S")),
        (KeyType::Integer, r#"{"age":null}"#.to_owned(), wrong("NULL")),
        (KeyType::Integer, r#"{"age":true}"#.to_owned(), wrong("BOOL")),
        (KeyType::Integer, r#"{"age":{"age":7}}"#.to_owned(), wrong("M")),
        (KeyType::Integer, r#"{"age":[7]}"#.to_owned(), wrong("L")),
        (KeyType::Integer, r#"{"age":{"$number_set":[7]}}"#.to_owned(), wrong("NS")),
        (KeyType::String, r#"{"age":{"$string_set":["7"]}}"#.to_owned(), wrong("SS")),
        (KeyType::String, r#"{"age":{"$binary_set":["AA=="]}}"#.to_owned(), wrong("BS")),
        (KeyType::String, r#"{"age":7}"#.to_owned(), wrong("N")),
        (KeyType::String, r#"{"age":{"$binary":"AA=="}}"#.to_owned(), wrong("B")),
        (KeyType::String, long(0), Err(Unindexable::Empty)),
        (KeyType::String, long(1), Ok(())),
        (KeyType::String, long(1024), Ok(())),
        (KeyType::String, long(1025), Err(Unindexable::TooLong)),
        (KeyType::Bytes, r#"{"age":{"$binary":"AA=="}}"#.to_owned(), Ok(())),
        (KeyType::Bytes, r#"{"age":{"$binary":""}}"#.to_owned(), Err(Unindexable::Empty)),
        // Text that base64 could be is text all the same.
        (KeyType::Bytes, r#"{"age":"AA=="}"#.to_owned(), wrong("S")),
    ] {
        let (index, document) = (index(key_type, IndexProjection::All), document(&text));
        assert_eq!(index.check(&document), expected, "{text}");
        assert_eq!(index.value(&document).map(|value| value.key_type()), expected.ok().map(|()| key_type), "{text}");
        assert_eq!(index.entry(&key(), &document).is_some(), expected.is_ok(), "{text}");
    }
    let index = index(KeyType::Integer, IndexProjection::All);
    for without in ["{}", r#"{"AGE":7}"#, r#"{"a":{"age":"x"}}"#] {
        assert_eq!((index.check(&document(without)), index.value(&document(without))), (Ok(()), None), "{without}");
    }
    let entry = index.entry(&key(), &document(r#"{"age":12}"#)).unwrap();
    assert!(read_index_entry(&entry) == Ok((key(), KeyValue::Integer(12.into()))));
}

#[test]
fn a_projection_says_what_is_shown() {
    let item = document(r#"{"age":12,"city":"Ulm","pad":[1,2]}"#);
    for (projection, shown) in [
        (IndexProjection::All, r#"{"age":12,"city":"Ulm","pad":[1,2]}"#),
        (IndexProjection::KeysOnly, r#"{"age":12}"#),
        (include(&["pad", "none"]), r#"{"age":12,"pad":[1,2]}"#),
        (include(&[]), r#"{"age":12}"#),
    ] {
        let index = index(KeyType::Integer, projection);
        let part = index.project(&item);
        assert_eq!(part, document(shown));
        assert_eq!(index.projected_bytes(&key(), &item), (key().len() + document(shown).item_size()) as u64);
        for (name, _) in item.entries() {
            assert_eq!(index.projects(name, &[]), part.get(name).is_some(), "{name}");
        }
        assert!(index.projects("id", &["id", "sort"]) && index.projects("sort", &["id", "sort"]));
        assert_eq!(index.projects("other", &["id", "sort"]), index.shows_all());
    }
}

#[test]
fn refusals_are_in_the_words_of_aws() {
    let text = |key_type, why: Unindexable, is_update| index(key_type, IndexProjection::All).refusal(&why, is_update);
    let wrong = Unindexable::WrongType { actual: "BOOL" };
    assert_eq!(
        text(KeyType::Integer, wrong, false),
        "One or more parameter values were invalid: Type mismatch for Index Key age Expected: N Actual: BOOL IndexName: by-age"
    );
    assert_eq!(
        text(KeyType::Integer, wrong, true),
        "The update expression attempted to update the secondary index key to unsupported type"
    );
    assert!(text(KeyType::Bytes, Unindexable::Empty, true).ends_with("cannot contain an empty binary value."));
    assert!(
        text(KeyType::String, Unindexable::Empty, false)
            .ends_with("cannot contain an empty string value. IndexName: by-age, IndexKey: age")
    );
    for is_update in [false, true] {
        assert!(text(KeyType::String, Unindexable::TooLong, is_update).ends_with("the size limit of 1024 bytes"));
    }
}

#[test]
fn definitions_read_back_and_are_not_written_where_there_are_none() {
    let plain = table(Vec::new());
    assert!(!serde_json::to_string(&plain).unwrap().contains("local_indexes"));
    let told = table(vec![
        index(KeyType::Integer, IndexProjection::All),
        LocalIndex::of("by-city", "city", KeyType::String, include(&["pad"])),
        LocalIndex::of("few", "age", KeyType::Integer, IndexProjection::KeysOnly),
    ]);
    let text = serde_json::to_value(&told).unwrap();
    let expected = serde_json::json!([
        {"name": "by-age", "attribute": "age", "key_type": "Integer", "projection": "all"},
        {"name": "by-city", "attribute": "city", "key_type": "String", "projection": {"include": ["pad"]}},
        {"name": "few", "attribute": "age", "key_type": "Integer", "projection": "keys-only"},
    ]);
    assert_eq!(text["local_indexes"], expected);
    assert_eq!(serde_json::from_value::<TableSpecification>(text).unwrap(), told);
    let short: LocalIndex =
        serde_json::from_str(r#"{"name":"by-age","attribute":"age","key_type":"Integer"}"#).unwrap();
    assert_eq!(short, index(KeyType::Integer, IndexProjection::All));
    assert!(serde_json::from_str::<LocalIndex>(r#"{"name":"a","attribute":"b","key_type":"Integer","x":1}"#).is_err());
}

#[test]
fn rules_are_held() {
    let by = |name: &str, attribute: &str| LocalIndex::of(name, attribute, KeyType::Integer, IndexProjection::All);
    let many = |count: usize| -> Vec<_> { (0..count).map(|number| by(&format!("by-{number}"), "age")).collect() };
    let names = |count: usize| IndexProjection::Include((0..count).map(|number| number.to_string()).collect());
    let including = |one: usize, other: usize| {
        vec![
            LocalIndex { projection: names(one), ..by("one", "age") },
            LocalIndex { projection: names(other), ..by("other", "age") },
        ]
    };
    let long = "x".repeat(256);
    for good in [
        vec![],
        many(5),
        including(50, 50),
        including(99, 1),
        vec![by("a.B", &long[1..])],
        vec![by(&long[1..], "a.b [0] ü")],
    ] {
        assert_eq!(table(good).check_options(), Ok(()));
    }
    for (bad, why) in [
        (many(6), "at most 5"),
        (including(1, 0), "at least one attribute, and each once"),
        (
            vec![LocalIndex { projection: IndexProjection::Include(vec!["a".into(), "a".into()]), ..by("one", "age") }],
            "at least one attribute, and each once",
        ),
        (vec![by("ab", "age")], "3 to 255"),
        (vec![by(&long, "age")], "3 to 255"),
        (vec![by("a b", "age")], "3 to 255"),
        (vec![by("bäh", "age")], "3 to 255"),
        (vec![by("one", "age"), by("one", "city")], "called one"),
        (vec![by("one", "")], "1 to 255 bytes"),
        (vec![by("one", &long)], "1 to 255 bytes"),
        (vec![by("one", "id")], "one of the keys"),
        (vec![by("one", "sort")], "one of the keys"),
        (vec![by("one", "age"), LocalIndex { key_type: KeyType::String, ..by("other", "age") }], "two types"),
        (vec![LocalIndex { projection: include(&["a", ""]), ..by("one", "age") }], "1 to 255 bytes"),
        (vec![LocalIndex { projection: include(&[&long]), ..by("one", "age") }], "1 to 255 bytes"),
        (including(60, 41), "at most 100"),
    ] {
        let message = table(bad).check_options().unwrap_err().message;
        assert!(message.contains(why), "{message}");
    }
    let unsorted = TableSpecification { sort_type: None, ..table(many(1)) };
    assert!(unsorted.check_options().unwrap_err().message.contains("with a sort key"));
}
