//! The types of single members of requests, each with what AWS's deserializer says of JSON that it does not take.
//!
//! What the next author must keep: all of them take any JSON first (`deserialize_any`), since a wrong type must be told in AWS's
//! words and not in those of the JSON parser.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A string, borrowed from the body where it has no escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text<'a>(pub Option<Cow<'a, str>>);

impl Text<'_> {
    /// The string, if it was given.
    pub fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flag(pub Option<bool>);

impl Flag {
    /// Whether it is `true`; not given is `false`.
    pub fn is_set(self) -> bool {
        self.0.unwrap_or(false)
    }
}

/// A whole number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count(pub Option<i64>);

/// A list of strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(pub Option<Vec<String>>);

/// A map of strings to strings: ExpressionAttributeNames, and tags as older ones give them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub Option<BTreeMap<String, String>>);

/// Entries of a [`RawMap`] that are kept: more than any operation takes, so that a look for names given twice stays short.
const RAW_ENTRIES_MAX: usize = 101;

/// A map whose values are read later, in the order of the body: tables and what is asked of each.
#[derive(Debug, Clone, Default)]
pub struct RawMap<'a>(pub Option<Vec<(Cow<'a, str>, &'a RawValue)>>);

/// A list whose elements are read later.
#[derive(Debug, Clone, Default)]
pub struct RawList<'a>(pub Option<Vec<&'a RawValue>>);

const STRUCTURE: &str = "Start of structure or map found where not expected";

/// The answers that a type does not take, in AWS's words.
macro_rules! refuse {
    ($type:literal, $class:literal) => {
        refuse!(@number $type);
        refuse!(@rest $type, $class);
    };
    (@number $type:literal) => {
        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(E::custom(concat!("NUMBER_VALUE cannot be converted to ", $type)))
        }
        fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
            Err(E::custom(concat!("NUMBER_VALUE cannot be converted to ", $type)))
        }
        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(E::custom(concat!("NUMBER_VALUE cannot be converted to ", $type)))
        }
    };
    (@boolean $type:literal) => {
        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
            Err(E::custom(if value {
                concat!("TRUE_VALUE cannot be converted to ", $type)
            } else {
                concat!("FALSE_VALUE cannot be converted to ", $type)
            }))
        }
    };
    (@string $text:expr) => {
        fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
    };
    (@map) => {
        fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(de::Error::custom(STRUCTURE))
        }
    };
    (@list $class:literal) => {
        fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(de::Error::custom(concat!("Unrecognized collection type ", $class)))
        }
    };
    (@null $value:expr) => {
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    (@rest $type:literal, $class:literal) => {
        refuse!(@map);
        refuse!(@list $class);
    };
}

macro_rules! expecting {
    ($text:literal) => {
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str($text)
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Text<'de>;
            expecting!("a string");
            refuse!("String", "class java.lang.String");
            refuse!(@boolean "String");
            refuse!(@null Text(None));
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Owned(text))))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Flag;
            expecting!("a boolean");
            refuse!("Boolean", "class java.lang.Boolean");
            refuse!(@string "Unexpected token received from parser");
            refuse!(@null Flag(None));
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(Some(value)))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Count;
            expecting!("a whole number");
            refuse!(@boolean "Integer");
            refuse!(@string "STRING_VALUE cannot be converted to Integer");
            refuse!(@rest "Integer", "class java.lang.Integer");
            refuse!(@null Count(None));
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
                Ok(Count(Some(value)))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
                Ok(Count(Some(i64::try_from(value).unwrap_or(i64::MAX))))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Count, E> {
                // As Java narrows it: towards zero, and at most to the ends.
                Ok(Count(Some(value as i64)))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Texts;
            expecting!("a list of strings");
            refuse!(@number "java.util.List<java.lang.String>");
            refuse!(@boolean "java.util.List<java.lang.String>");
            refuse!(@string "Unexpected field type");
            refuse!(@map);
            refuse!(@null Texts(None));
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = list.next_element::<Text<'de>>()? {
                    texts.push(text.unwrap_or_default().into_owned());
                }
                Ok(Texts(Some(texts)))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Names;
            expecting!("a map of strings");
            refuse!(@string "Unexpected field type");
            refuse!(@null Names(None));
            refuse!(@number "java.util.Map<java.lang.String, java.lang.String>");
            refuse!(@boolean "java.util.Map<java.lang.String, java.lang.String>");
            refuse!(@list "java.util.Map<java.lang.String, java.lang.String>");
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = BTreeMap::new();
                while let Some((name, Text(value))) = map.next_entry::<String, Text<'de>>()? {
                    names.insert(name, value.unwrap_or_default().into_owned());
                }
                Ok(Names(Some(names)))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = RawMap<'de>;
            expecting!("a map");
            refuse!(@number "java.util.Map");
            refuse!(@boolean "java.util.Map");
            refuse!(@string "Unexpected field type");
            refuse!(@list "java.util.Map");
            refuse!(@null RawMap(None));
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMap<'de>, A::Error> {
                let mut entries: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
                    let name = name.unwrap_or_default();
                    if entries.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom("Duplicate field in a map"));
                    }
                    // No operation takes more tables than a hundred; their number is checked when all are read.
                    let value = map.next_value::<&'de RawValue>()?;
                    if entries.len() <= RAW_ENTRIES_MAX {
                        entries.push((name, value));
                    }
                }
                Ok(RawMap(Some(entries)))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = RawList<'de>;
            expecting!("a list");
            refuse!(@number "java.util.List");
            refuse!(@boolean "java.util.List");
            refuse!(@string "Unexpected field type");
            refuse!(@map);
            refuse!(@null RawList(None));
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawList<'de>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element::<&'de RawValue>()? {
                    elements.push(element);
                }
                Ok(RawList(Some(elements)))
            }
        }
        deserializer.deserialize_any(Seen)
    }
}
