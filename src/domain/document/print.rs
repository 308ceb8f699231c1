//! Document to JSON text. Numbers are copied, strings too but for escapes; base64 is written into the buffer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::encoding::{
    BINARY, BINARY_SET, FALSE, LIST, MAP, NUMBER, NUMBER_SET, Reader, STRING, STRING_SET, TRUE, Value,
};
use crate::domain::json::{is_reserved, write_string_part, write_utf8};

/// Appends the map with these entries. The root's names are never special, so none of them is escaped.
pub(super) fn write_map(buffer: &mut Vec<u8>, entries: &[u8], is_root: bool) {
    let mut reader = Reader::new(entries);
    buffer.push(b'{');
    let mut first = true;
    while let Some((name, value)) = reader.entry() {
        if !first {
            buffer.push(b',');
        }
        buffer.push(b'"');
        if !is_root && first && reader.is_empty() && is_reserved(name) {
            buffer.push(b'$');
        }
        first = false;
        write_string_part(buffer, name);
        buffer.extend_from_slice(b"\":");
        write_value(buffer, value);
    }
    buffer.push(b'}');
}

fn write_value(buffer: &mut Vec<u8>, value: Value<'_>) {
    match value.kind {
        FALSE => buffer.extend_from_slice(b"false"),
        TRUE => buffer.extend_from_slice(b"true"),
        NUMBER => buffer.extend_from_slice(value.content),
        STRING => write_utf8(buffer, value.content),
        MAP => write_map(buffer, value.content, false),
        LIST => {
            let mut reader = Reader::new(value.content);
            write_list(buffer, std::iter::from_fn(|| reader.value()), write_value);
        }
        BINARY => {
            buffer.extend_from_slice(b"{\"$binary\":");
            write_base64(buffer, value.content);
            buffer.push(b'}');
        }
        STRING_SET => write_set(buffer, b"{\"$string_set\":", value.content, write_utf8),
        NUMBER_SET => {
            write_set(buffer, b"{\"$number_set\":", value.content, |buffer, number| buffer.extend_from_slice(number))
        }
        BINARY_SET => write_set(buffer, b"{\"$binary_set\":", value.content, write_base64),
        _ => buffer.extend_from_slice(b"null"),
    }
}

fn write_set(buffer: &mut Vec<u8>, opening: &[u8], body: &[u8], write: impl Fn(&mut Vec<u8>, &[u8])) {
    buffer.extend_from_slice(opening);
    let mut reader = Reader::new(body);
    write_list(buffer, std::iter::from_fn(|| reader.bytes()), write);
    buffer.push(b'}');
}

fn write_list<T>(buffer: &mut Vec<u8>, values: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    buffer.push(b'[');
    for (index, value) in values.enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        write(buffer, value);
    }
    buffer.push(b']');
}

fn write_base64(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.push(b'"');
    let start = buffer.len();
    buffer.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut buffer[start..]).unwrap_or(0);
    buffer.truncate(start + written);
    buffer.push(b'"');
}
