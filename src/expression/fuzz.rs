//! Entry points for the fuzz driver: any text as an expression, and any bytes as an encoded one. What is read must also
//! bind or fail, survive its bytes, and run on an item.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{Condition, ItemView, Role, Substitutions, Update, condition, key_condition, projection, update};
use crate::domain::document::Document;

/// An item and, by the same names, values: one of every type.
const SAMPLE: &[u8] =
    br#"{"a":{"b":[1,{"c":"x"},[2,3]],"c":{"d":null}},"b":[{"a":1},"xyz",[true]],"n":12.50,"s":"text",
    "l":[1,"a",1],"m":{"a":1,"b":{"c":2}},"t":true,"z":null,"x":{"$binary":"AAEC"},"ss":{"$string_set":["a","b"]},
    "ns":{"$number_set":[1,2.5]},"bs":{"$binary_set":["AA==","AAE="]},"one":1,"big":9.9e125,"type":"SS"}"#;

fn sample() -> Document {
    Document::from_json(SAMPLE).unwrap_or_default()
}

fn keys() -> Document {
    Document::from_json(br#"{"id":"k","n":7}"#).unwrap_or_default()
}

/// Reads any text as an expression: the first byte says which, the rest is the text.
#[doc(hidden)]
pub fn fuzz_expression(data: &[u8]) {
    let Some((role, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let names: BTreeMap<String, String> = [("#a", "a"), ("#b", "b"), ("#n", "n"), ("#k", "id"), ("#dot", "a.b")]
        .map(|(placeholder, name)| (placeholder.to_owned(), name.to_owned()))
        .into();
    let Ok(mut substitutions) = Substitutions::new(Some(&names), Some(sample())) else { return };
    let (item, keys) = (sample(), keys());
    match role % 5 {
        0 => {
            if let Ok(condition) = condition::parse(Role::Condition, &text, &mut substitutions) {
                run_condition(&condition);
            }
        }
        1 => {
            if let Ok(update) = update::parse(&text, &mut substitutions) {
                run_update(&update);
            }
        }
        2 => {
            if let Ok(projection) = projection::parse(&text, &mut substitutions) {
                let document = ItemView { item: Some(&item), keys: &keys }.document();
                let part = projection.project(&document);
                assert!(projection.project(&part).item_size() <= part.item_size());
            }
        }
        3 => {
            let _ = key_condition::parse(&text, &mut substitutions);
        }
        _ => {
            let _ = condition::parse(Role::Filter, &text, &mut substitutions);
        }
    }
    let _ = substitutions.finish();
}

/// Reads any bytes as an encoded condition (first byte even) or update (odd).
#[doc(hidden)]
pub fn fuzz_expression_bytes(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    if kind % 2 == 0 {
        if let Ok(condition) = Condition::decode(&bytes) {
            assert!(encoded(|buffer| condition.encode(buffer)) == bytes, "a condition has one encoding");
            run_condition(&condition);
        }
    } else if let Ok(update) = Update::decode(&bytes) {
        assert!(encoded(|buffer| update.encode(buffer)) == bytes, "an update has one encoding");
        run_update(&update);
    }
}

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut buffer = BytesMut::new();
    encode(&mut buffer);
    buffer.freeze()
}

fn run_condition(condition: &Condition) {
    assert!(condition.within_limits(), "what was read is within limits");
    let again = Condition::decode(&encoded(|buffer| condition.encode(buffer)));
    assert!(again.as_ref() == Ok(condition), "a condition survives its bytes");
    let (item, keys) = (sample(), keys());
    for item in [Some(&item), None] {
        let view = ItemView { item, keys: &keys };
        let holds = condition.holds(&view);
        let opposite = Condition::Not(Box::new(condition.clone())).holds(&view);
        assert!(holds.map(|holds| !holds) == opposite, "a condition holds, or its opposite does");
    }
}

fn run_update(update: &Update) {
    assert!(update.within_limits(), "what was read is within limits");
    let again = Update::decode(&encoded(|buffer| update.encode(buffer)));
    assert!(again.as_ref() == Ok(update), "an update survives its bytes");
    let (item, keys) = (sample(), keys());
    for item in [Some(&item), None] {
        if let Ok(updated) = update.apply(&ItemView { item, keys: &keys }) {
            assert!(Document::from_bytes(updated.document.bytes().clone()).is_ok(), "a changed item is a document");
            let _ = super::changed_only(&updated.document, &updated.touched);
        }
    }
}
