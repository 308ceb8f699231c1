//! IDs and sort keys as values: their three types, how they are written in a path, and their limits.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;

use crate::domain::document::Node;
use crate::domain::hash::hash_of;
use crate::domain::json;
use crate::domain::limits::{ID_BYTES_MAX, SORT_BYTES_MAX};
use crate::domain::number::Number;
use crate::domain::refusal::Refusal;

/// The types an ID or sort key can have. In the DynamoDB protocol they are S, N and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum KeyType {
    /// UTF-8 text.
    String,
    /// A whole number by REST; any number by the DynamoDB protocol.
    Integer,
    /// Any bytes.
    Bytes,
}

impl KeyType {
    /// What the DynamoDB protocol calls it.
    pub fn type_code(self) -> &'static str {
        match self {
            KeyType::String => "S",
            KeyType::Integer => "N",
            KeyType::Bytes => "B",
        }
    }
}

impl std::fmt::Display for KeyType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            KeyType::String => "String",
            KeyType::Integer => "Integer",
            KeyType::Bytes => "Bytes",
        })
    }
}

/// An ID or a sort key. Debug does not show it: keys belong to the tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyValue {
    /// UTF-8 text.
    String(Box<str>),
    /// A number.
    Integer(Number),
    /// Any bytes.
    Bytes(Bytes),
}

impl KeyValue {
    /// Reads a key from the text of a path segment or query parameter, percent-decoded already: a String as
    /// it stands, an Integer in decimal (`007` is `7`, `-0` is `0`), Bytes in base64url without padding
    /// (RFC 4648 §5).
    ///
    /// # Errors
    /// `BadInput` where the text is no such key, is empty, or has more than `bytes_max` canonical bytes.
    pub fn parse(key_type: KeyType, text: &str, bytes_max: usize) -> Result<KeyValue, Refusal> {
        let value = Self::read(key_type, text)?;
        value.check("a key", bytes_max)?;
        Ok(value)
    }

    fn read(key_type: KeyType, text: &str) -> Result<KeyValue, Refusal> {
        match key_type {
            KeyType::String => Ok(KeyValue::String(text.into())),
            KeyType::Integer => Ok(KeyValue::Integer(parse_integer(text)?)),
            KeyType::Bytes => URL_SAFE_NO_PAD.decode(text).map(|bytes| KeyValue::Bytes(bytes.into())).map_err(|_| {
                Refusal::bad_input("a key of type Bytes is base64url without padding (RFC 4648, section 5)")
            }),
        }
    }

    /// Reads an ID and checks its limits.
    ///
    /// # Errors
    /// `BadInput` where it is no ID of this type, empty, or longer than 2048 bytes.
    pub fn parse_id(key_type: KeyType, text: &str) -> Result<KeyValue, Refusal> {
        let value = Self::read(key_type, text)?;
        value.check_id()?;
        Ok(value)
    }

    /// Reads a sort key and checks its limits.
    ///
    /// # Errors
    /// `BadInput` where it is no sort key of this type, empty, or longer than 1024 bytes.
    pub fn parse_sort(key_type: KeyType, text: &str) -> Result<KeyValue, Refusal> {
        let value = Self::read(key_type, text)?;
        value.check_sort()?;
        Ok(value)
    }

    /// The key that an attribute of an item holds: a string, a number or `$binary`; for Bytes a string in
    /// base64 is taken too, since that is how lists show it. None where the type is another.
    pub fn from_node(key_type: KeyType, node: &Node<'_>) -> Option<KeyValue> {
        match (key_type, node) {
            (KeyType::String, Node::String(text)) => Some(KeyValue::String((*text).into())),
            (KeyType::Integer, Node::Number(text)) => Number::parse(text).ok().map(KeyValue::Integer),
            (KeyType::Bytes, Node::Binary(bytes)) => Some(KeyValue::Bytes(Bytes::copy_from_slice(bytes))),
            (KeyType::Bytes, Node::String(text)) => {
                let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)).ok()?;
                Some(KeyValue::Bytes(bytes.into()))
            }
            _ => None,
        }
    }

    /// Checks that it can be an ID.
    ///
    /// # Errors
    /// `BadInput` where it is empty or longer than 2048 bytes.
    pub fn check_id(&self) -> Result<(), Refusal> {
        self.check("an ID", ID_BYTES_MAX)
    }

    /// Checks that it can be a sort key.
    ///
    /// # Errors
    /// `BadInput` where it is empty or longer than 1024 bytes.
    pub fn check_sort(&self) -> Result<(), Refusal> {
        self.check("a sort key", SORT_BYTES_MAX)
    }

    fn check(&self, what: &str, bytes_max: usize) -> Result<(), Refusal> {
        match self.canonical_bytes().len() {
            0 => Err(Refusal::bad_input(format!("{what} cannot be empty"))),
            length if length > bytes_max => {
                Err(Refusal::bad_input(format!("{what} has at most {bytes_max} bytes; this one has {length}")))
            }
            _ => Ok(()),
        }
    }

    /// Its type.
    pub fn key_type(&self) -> KeyType {
        match self {
            KeyValue::String(_) => KeyType::String,
            KeyValue::Integer(_) => KeyType::Integer,
            KeyValue::Bytes(_) => KeyType::Bytes,
        }
    }

    /// The bytes that are hashed and that limits count: UTF-8, canonical decimal text, or the bytes.
    pub fn canonical_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            KeyValue::String(text) => Cow::Borrowed(text.as_bytes()),
            KeyValue::Integer(number) => {
                let mut text = Vec::with_capacity(40);
                number.write_text(&mut text);
                Cow::Owned(text)
            }
            KeyValue::Bytes(bytes) => Cow::Borrowed(bytes),
        }
    }

    /// The hash of an ID.
    pub fn hash(&self) -> u32 {
        hash_of(&self.canonical_bytes())
    }

    /// The text that [`KeyValue::parse`] reads; not percent-encoded.
    pub fn to_text(&self) -> String {
        match self {
            KeyValue::String(text) => text.to_string(),
            KeyValue::Integer(number) => number.to_text(),
            KeyValue::Bytes(bytes) => URL_SAFE_NO_PAD.encode(bytes),
        }
    }

    /// Appends the key as JSON, as lists show it: a string, a number, or a string in base64url.
    pub fn write_json(&self, buffer: &mut Vec<u8>) {
        match self {
            KeyValue::String(text) => json::write_string(buffer, text),
            KeyValue::Integer(number) => number.write_text(buffer),
            KeyValue::Bytes(_) => json::write_string(buffer, &self.to_text()),
        }
    }
}

impl std::fmt::Debug for KeyValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}({} bytes)", self.key_type(), self.canonical_bytes().len())
    }
}

/// REST wants whole numbers in plain decimal: a sign and digits. An exponent or a fraction in a path is
/// more likely a mistake than an ID.
fn parse_integer(text: &str) -> Result<Number, Refusal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::bad_input("a key of type Integer is a whole number in decimal digits, such as 7 or -12"));
    }
    Ok(Number::parse(text)?)
}

/// Reads any bytes as keys of each type; what is read must print to the same key.
#[doc(hidden)]
pub fn fuzz_key_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for key_type in [KeyType::String, KeyType::Integer, KeyType::Bytes] {
        if let Ok(value) = KeyValue::parse_id(key_type, &text) {
            assert!(KeyValue::parse_id(key_type, &value.to_text()).as_ref() == Ok(&value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_have_one_key_for_each_value() {
        for (text, canonical) in [("7", "7"), ("007", "7"), ("-0", "0"), ("-012", "-12"), ("1000", "1000")] {
            assert_eq!(KeyValue::parse_id(KeyType::Integer, text).unwrap().to_text(), canonical);
        }
        for bad in ["", "-", "+7", "7.0", "1e3", " 7", "7a", "٣", &"9".repeat(39)] {
            assert!(KeyValue::parse_id(KeyType::Integer, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_are_strict_base64url() {
        assert_eq!(
            KeyValue::parse_id(KeyType::Bytes, "-_8").unwrap(),
            KeyValue::Bytes(Bytes::from_static(&[0xfb, 0xff]))
        );
        for bad in ["-_8=", "+/8", "-_9", "A", "AA A", "ä"] {
            assert!(KeyValue::parse_id(KeyType::Bytes, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_count_canonical_bytes() {
        for (length, id, sort) in [
            (0, false, false),
            (1, true, true),
            (1024, true, true),
            (1025, true, false),
            (2048, true, false),
            (2049, false, false),
        ] {
            let text = "x".repeat(length);
            assert_eq!(KeyValue::parse_id(KeyType::String, &text).is_ok(), id, "{length}");
            assert_eq!(KeyValue::parse_sort(KeyType::String, &text).is_ok(), sort, "{length}");
        }
        assert!(KeyValue::parse_id(KeyType::Bytes, "").is_err());
        assert!(KeyValue::parse_id(KeyType::String, &"ä".repeat(1025)).is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", KeyValue::String("secret".into())), "String(6 bytes)");
    }

    #[test]
    fn types_have_the_names_of_the_api() {
        assert_eq!(
            serde_json::to_string(&[KeyType::String, KeyType::Integer, KeyType::Bytes]).unwrap(),
            r#"["String","Integer","Bytes"]"#
        );
    }

    proptest! {
        #[test]
        fn texts_read_back(text: String, number: i64, bytes: Vec<u8>) {
            for value in [KeyValue::String(text.as_str().into()), KeyValue::Integer(number.into()), KeyValue::Bytes(bytes.clone().into())] {
                let read = KeyValue::parse(value.key_type(), &value.to_text(), usize::MAX);
                if value.canonical_bytes().is_empty() {
                    prop_assert!(read.is_err());
                } else {
                    prop_assert_eq!(read.unwrap(), value);
                }
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            fuzz_key_text(text.as_bytes());
        }
    }
}
