//! Documents as JSON of the protocol, in one pass. Numbers are copied, strings too but for escapes; base64 is written into the
//! buffer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::document::{Document, Entries, Node, Raw, SetItems};
use crate::domain::json;

/// Appends an item: the attributes of `document` and of `keys`, in order of their names. Where both have one, that of
/// `keys` counts.
pub fn write_item(document: &Document, keys: Option<&Document>, json: &mut Vec<u8>) {
    json.reserve(document.as_bytes().len() * 3 / 2 + 64);
    match keys {
        None => write_entries(document.entries(), json),
        Some(keys) => write_merged(document.entries(), keys.entries(), json),
    }
}

fn write_merged(document: Entries<'_>, keys: Entries<'_>, json: &mut Vec<u8>) {
    let mut rest = document.raw().peekable();
    json.push(b'{');
    let mut is_first = true;
    for (key_name, key) in keys.raw() {
        while let Some((name, value)) = rest.next_if(|(name, _)| is_before(name, key_name)) {
            write_entry(name, value, &mut is_first, json);
        }
        rest.next_if(|(name, _)| *name == key_name);
        write_entry(key_name, key, &mut is_first, json);
    }
    for (name, value) in rest {
        write_entry(name, value, &mut is_first, json);
    }
    json.push(b'}');
}

/// Whether a name stands before another. Most differ in their first letter.
fn is_before(name: &[u8], other: &[u8]) -> bool {
    match (name.first(), other.first()) {
        (Some(first), Some(of_other)) if first != of_other => first < of_other,
        _ => name < other,
    }
}

fn write_entries(entries: Entries<'_>, json: &mut Vec<u8>) {
    json.push(b'{');
    let mut is_first = true;
    for (name, value) in entries.raw() {
        write_entry(name, value, &mut is_first, json);
    }
    json.push(b'}');
}

fn write_entry(name: &[u8], value: Raw<'_>, is_first: &mut bool, json: &mut Vec<u8>) {
    let before: &[u8] = if std::mem::take(is_first) { b"\"" } else { b",\"" };
    json::write_between(json, before, name, b"\":");
    write_raw(value, json);
}

fn write_raw(value: Raw<'_>, json: &mut Vec<u8>) {
    match value {
        Raw::String(text) => write_text(text, json),
        Raw::Other(node) => write_value(node, json),
    }
}

fn write_text(text: &[u8], json: &mut Vec<u8>) {
    json::write_between(json, b"{\"S\":\"", text, b"\"}");
}

/// Appends one value with its type.
pub fn write_value(value: Node<'_>, json: &mut Vec<u8>) {
    match value {
        Node::Null => json.extend_from_slice(b"{\"NULL\":true"),
        Node::Boolean(true) => json.extend_from_slice(b"{\"BOOL\":true"),
        Node::Boolean(false) => json.extend_from_slice(b"{\"BOOL\":false"),
        Node::Number(text) => {
            json.extend_from_slice(b"{\"N\":");
            write_plain(text.as_bytes(), json);
        }
        Node::String(text) => return write_text(text.as_bytes(), json),
        Node::Binary(bytes) => {
            json.extend_from_slice(b"{\"B\":");
            write_base64(bytes, json);
        }
        Node::Map(entries) => {
            json.extend_from_slice(b"{\"M\":");
            write_entries(entries, json);
        }
        Node::List(nodes) => {
            json.extend_from_slice(b"{\"L\":[");
            for (index, node) in nodes.raw().enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                write_raw(node, json);
            }
            json.push(b']');
        }
        Node::StringSet(set) => {
            write_set(b"{\"SS\":[", set, json, |text, json| json::write_utf8(json, text));
        }
        Node::NumberSet(set) => write_set(b"{\"NS\":[", set, json, write_plain),
        Node::BinarySet(set) => write_set(b"{\"BS\":[", set, json, write_base64),
    }
    json.push(b'}');
}

fn write_set(opening: &[u8], set: SetItems<'_>, json: &mut Vec<u8>, write: impl Fn(&[u8], &mut Vec<u8>)) {
    json.extend_from_slice(opening);
    for (index, element) in set.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write(element, json);
    }
    json.push(b']');
}

/// Appends a string in which nothing needs to be escaped.
fn write_plain(text: &[u8], json: &mut Vec<u8>) {
    json.push(b'"');
    json.extend_from_slice(text);
    json.push(b'"');
}

fn write_base64(bytes: &[u8], json: &mut Vec<u8>) {
    json.push(b'"');
    let start = json.len();
    json.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut json[start..]).unwrap_or(0);
    json.truncate(start + written);
    json.push(b'"');
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn names_are_ordered_by_their_bytes(name in "[ab]{0,3}", other in "[ab]{0,3}") {
            let (name, other) = (name.as_bytes(), other.as_bytes());
            proptest::prop_assert_eq!(super::is_before(name, other), name < other);
        }
    }
}
