//! Keys: from attributes to packed keys and back.

use proptest::prelude::*;

use super::*;
use crate::domain::key::KeyType;

fn schema(sort: Option<KeyType>) -> KeySchema<'static> {
    KeySchema {
        id: KeyAttribute { name: "id", key_type: KeyType::String },
        sort: sort.map(|key_type| KeyAttribute { name: "at", key_type }),
    }
}

fn item(json: &str, schema: &KeySchema<'_>) -> Result<SplitItem, String> {
    let split = read_item(json.as_bytes(), Some(schema)).map_err(|failure| failure.message().unwrap().to_owned())?;
    split_item(split, schema).map_err(|failure| failure.message().unwrap().to_owned())
}

fn key(json: &str, schema: &KeySchema<'_>) -> Result<ItemKey, String> {
    let attributes = attribute_value::read_item(json.as_bytes()).unwrap();
    key_of(attributes, schema).map_err(|failure| failure.message().unwrap().to_owned())
}

#[test]
fn an_item_is_stored_without_its_key() {
    let schema = schema(Some(KeyType::Integer));
    let split = item(r#"{"b":{"S":"x"},"id":{"S":"a"},"at":{"N":"1E1"}}"#, &schema).unwrap();
    let expected = PackedKey::new(&KeyValue::String("a".into()), Some(&KeyValue::Integer(10i64.into())));
    assert_eq!(split.key.packed, expected);
    assert_eq!(split.document.entries().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(key(r#"{"at":{"N":"10.0"},"id":{"S":"a"}}"#, &schema).unwrap(), split.key);
}

#[test]
fn what_is_wrong_with_a_key_of_an_item_is_named() {
    let schema = schema(Some(KeyType::Bytes));
    let invalid = "One or more parameter values were invalid: ";
    for (json, text) in [
        (r#"{"id":{"S":"a"}}"#.to_owned(), format!("{invalid}Missing the key at in the item")),
        ("{}".to_owned(), format!("{invalid}Missing the key id in the item")),
        (
            r#"{"id":{"N":"1"},"at":{"B":"AA=="}}"#.to_owned(),
            format!("{invalid}Type mismatch for key id expected: S actual: N"),
        ),
        (
            r#"{"id":{"S":""},"at":{"B":"AA=="}}"#.to_owned(),
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: id".to_owned(),
        ),
        (
            r#"{"id":{"S":"a"},"at":{"B":""}}"#.to_owned(),
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty binary value. Key: at".to_owned(),
        ),
        (
            format!(r#"{{"id":{{"S":"{}"}},"at":{{"B":"AA=="}}}}"#, "x".repeat(2049)),
            format!("{invalid}Size of hashkey has exceeded the maximum size limit of2048 bytes"),
        ),
        (
            format!(r#"{{"id":{{"S":"a"}},"at":{{"B":"{}"}}}}"#, "AAAA".repeat(342)),
            format!("{invalid}Aggregated size of all range keys has exceeded the size limit of 1024 bytes"),
        ),
    ] {
        assert_eq!(item(&json, &schema).unwrap_err(), text);
    }
}

#[test]
fn a_key_is_its_attributes_and_no_others() {
    let schema = schema(Some(KeyType::String));
    let mismatch = Err("The provided key element does not match the schema".to_owned());
    for json in [
        "{}",
        r#"{"id":{"S":"a"}}"#,
        r#"{"id":{"S":"a"},"at":{"N":"1"}}"#,
        r#"{"id":{"S":"a"},"at":{"S":"b"},"c":{"S":"d"}}"#,
        r#"{"id":{"S":"a"},"c":{"S":"d"}}"#,
    ] {
        assert_eq!(key(json, &schema), mismatch, "{json}");
    }
}

#[test]
fn an_item_over_the_limit_is_refused_by_its_whole_size() {
    let schema = schema(None);
    // Two names of two bytes and one, and one byte of key.
    let json = |length: usize| format!(r#"{{"id":{{"S":"a"}},"b":{{"S":"{}"}}}}"#, "x".repeat(length));
    let size = |length: usize| {
        let split = read_item(json(length).as_bytes(), Some(&schema)).unwrap();
        check_item_size(&split).map_err(|failure| failure.message().unwrap().to_owned())
    };
    assert_eq!(size(400 * 1024 - 4), Ok(()));
    assert_eq!(size(400 * 1024 - 3), Err("Item size has exceeded the maximum allowed size".to_owned()));
}

proptest! {
    #[test]
    fn keys_become_attributes_and_keys_again(id in "\\PC{1,20}", sort in any::<i64>(), bytes in proptest::collection::vec(any::<u8>(), 1..20)) {
        let (id, sort) = (KeyValue::String(id.into()), KeyValue::Integer(sort.into()));
        let whole = PackedKey::new(&id, Some(&sort));
        let integers = schema(Some(KeyType::Integer));
        let attributes = key_document(&whole, &integers).unwrap();
        prop_assert_eq!(key_of(attributes, &integers).unwrap().packed, whole);
        let whole = PackedKey::new(&id, Some(&KeyValue::Bytes(bytes.into())));
        let binary = schema(Some(KeyType::Bytes));
        prop_assert_eq!(key_of(key_document(&whole, &binary).unwrap(), &binary).unwrap().packed, whole);
    }
}
