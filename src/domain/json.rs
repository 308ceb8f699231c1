//! JSON spelling that documents and keys share: strings with escapes, and the names that stand for types
//! JSON does not have.
//!
//! JSON has no binary values and no sets. In REST they are an object with exactly one name:
//!
//! | value | JSON |
//! |---|---|
//! | binary | `{"$binary":"<base64 with padding>"}` |
//! | string set | `{"$string_set":["a","b"]}` |
//! | number set | `{"$number_set":[1,2.5]}` |
//! | binary set | `{"$binary_set":["<base64>","<base64>"]}` |
//!
//! An ordinary object that has exactly one name, and that name is one of the four behind any number of
//! further `$`, is written with one more `$` in front: the map with the one name `$binary` is
//! `{"$$binary":…}`, the map with the one name `$$binary` is `{"$$$binary":…}`. Reading takes one `$` away
//! again. Objects with two or more names, and the item itself, mean what they say. So every document has
//! exactly one JSON value and back.

/// A type that JSON does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Bytes.
    Binary,
    /// A set of strings.
    StringSet,
    /// A set of numbers.
    NumberSet,
    /// A set of bytes.
    BinarySet,
}

/// What the only name of an object means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnlyName<'a> {
    /// Itself.
    Plain,
    /// A value of this type.
    Special(Special),
    /// This name, without the `$` that kept it from being special.
    Escaped(&'a str),
}

/// What `name` means where it is an object's only one.
pub fn only_name(name: &str) -> OnlyName<'_> {
    let Some(rest) = name.strip_prefix('$') else { return OnlyName::Plain };
    match (special(rest), rest.starts_with('$') && is_reserved(rest.as_bytes())) {
        (Some(special), _) => OnlyName::Special(special),
        (None, true) => OnlyName::Escaped(rest),
        (None, false) => OnlyName::Plain,
    }
}

fn special(word: &str) -> Option<Special> {
    match word {
        "binary" => Some(Special::Binary),
        "string_set" => Some(Special::StringSet),
        "number_set" => Some(Special::NumberSet),
        "binary_set" => Some(Special::BinarySet),
        _ => None,
    }
}

/// Whether a map whose only name is this must be written with one more `$`.
pub fn is_reserved(name: &[u8]) -> bool {
    let bare = name.iter().position(|byte| *byte != b'$').unwrap_or(name.len());
    bare > 0 && matches!(&name[bare..], b"binary" | b"string_set" | b"number_set" | b"binary_set")
}

/// Appends a JSON string with these UTF-8 bytes. Only what must be escaped is: `"`, `\` and control
/// characters (RFC 8259 §7). Runs between escapes are copied whole.
pub fn write_string(buffer: &mut Vec<u8>, text: &str) {
    write_utf8(buffer, text.as_bytes());
}

/// [`write_string`] for bytes that are known to be UTF-8.
pub(crate) fn write_utf8(buffer: &mut Vec<u8>, text: &[u8]) {
    write_between(buffer, b"\"", text, b"\"");
}

/// Appends the inside of a JSON string with what stands around it, quotes included.
pub(crate) fn write_between(buffer: &mut Vec<u8>, before: &[u8], text: &[u8], behind: &[u8]) {
    buffer.extend_from_slice(before);
    write_string_part(buffer, text);
    buffer.extend_from_slice(behind);
}

/// Appends the inside of a JSON string, without the quotes.
pub(crate) fn write_string_part(buffer: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = find_escaped(text) {
        buffer.extend_from_slice(&text[..at]);
        write_escape(buffer, text[at]);
        text = &text[at + 1..];
    }
    buffer.extend_from_slice(text);
}

fn write_escape(buffer: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => buffer.extend_from_slice(b"\\\""),
        b'\\' => buffer.extend_from_slice(b"\\\\"),
        b'\n' => buffer.extend_from_slice(b"\\n"),
        b'\r' => buffer.extend_from_slice(b"\\r"),
        b'\t' => buffer.extend_from_slice(b"\\t"),
        _ => {
            buffer.extend_from_slice(b"\\u00");
            buffer.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Where the first byte stands that must be escaped. Looks at eight bytes at a time.
fn find_escaped(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    // The high bit of each byte of the result is set where the byte is below `limit` (at most 128); bytes above
    // such a byte may be set by the borrow, never ones before it.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    let mut chunks = text.chunks_exact(8);
    for (index, chunk) in chunks.by_ref().enumerate() {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        let found =
            below(word, 0x20) | below(word ^ (ONES * u64::from(b'"')), 1) | below(word ^ (ONES * u64::from(b'\\')), 1);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let tail = chunks.remainder();
    let escaped = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    tail.iter().position(escaped).map(|at| text.len() - tail.len() + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_mean_what_is_documented() {
        assert_eq!(only_name("$binary"), OnlyName::Special(Special::Binary));
        assert_eq!(only_name("$binary_set"), OnlyName::Special(Special::BinarySet));
        assert_eq!(only_name("$$binary"), OnlyName::Escaped("$binary"));
        assert_eq!(only_name("$$$string_set"), OnlyName::Escaped("$$string_set"));
        for plain in ["", "$", "$$", "binary", "$Binary", "$binary ", "$$other", "a$binary"] {
            assert_eq!(only_name(plain), OnlyName::Plain, "{plain}");
            assert!(!is_reserved(plain.as_bytes()), "{plain}");
        }
        assert!(is_reserved(b"$number_set") && is_reserved(b"$$$binary"));
    }

    proptest! {
        #[test]
        fn strings_read_back(text in prop_oneof![any::<String>(), "[a-z\\x00-\\x1f\"\\\\/\u{7f}\u{e9}]{0,40}"]) {
            let mut json = Vec::new();
            write_string(&mut json, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text.as_str());
            // The shortest JSON, but for control characters.
            if !text.chars().any(|character| character.is_control()) {
                prop_assert_eq!(json, serde_json::to_vec(&text).unwrap());
            }
        }

        #[test]
        fn the_first_escape_is_found(bytes: Vec<u8>) {
            let slow = bytes.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\');
            prop_assert_eq!(find_escaped(&bytes), slow);
        }
    }
}
