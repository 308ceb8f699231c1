//! For tests: items as plain trees, with slow and simple ways to spell, measure and merge them, made without any
//! of the code that they check.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::{Document, Node};

pub(crate) type Map = BTreeMap<String, Tree>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Null,
    Boolean(bool),
    /// As somebody may spell it, and in canonical text.
    Number(String, String),
    String(String),
    Binary(Vec<u8>),
    List(Vec<Tree>),
    Map(Map),
    StringSet(BTreeSet<String>),
    NumberSet(BTreeSet<i64>),
    BinarySet(BTreeSet<Vec<u8>>),
}

impl Tree {
    /// As a client may write it: numbers as they are spelled, names backwards, white space, needless escapes.
    pub(crate) fn messy(&self) -> String {
        match self {
            Tree::Number(spelled, _) => spelled.clone(),
            Tree::String(text) => messy_string(text),
            Tree::List(values) => format!("[ {} ]", values.iter().map(Tree::messy).collect::<Vec<_>>().join(" ,\n")),
            Tree::Map(map) => messy_map(map, false),
            Tree::StringSet(set) => {
                let elements: Vec<String> = set.iter().rev().map(|text| messy_string(text)).collect();
                format!("{{\t\"\\u0024string_set\" : [{}] }}", elements.join(", "))
            }
            Tree::NumberSet(set) => {
                let elements: Vec<String> = set.iter().rev().map(|number| format!("{number}.0")).collect();
                format!("{{\"$number_set\":[{}]}}", elements.join(", "))
            }
            other => other.tidy(),
        }
    }

    /// As documents print it.
    pub(crate) fn tidy(&self) -> String {
        let joined = |parts: Vec<String>| parts.join(",");
        let base64 = |bytes: &Vec<u8>| format!("\"{}\"", STANDARD.encode(bytes));
        match self {
            Tree::Null => "null".to_owned(),
            Tree::Boolean(value) => value.to_string(),
            Tree::Number(_, canonical) => canonical.clone(),
            Tree::String(text) => tidy_string(text),
            Tree::Binary(bytes) => format!("{{\"$binary\":{}}}", base64(bytes)),
            Tree::List(values) => format!("[{}]", joined(values.iter().map(Tree::tidy).collect())),
            Tree::Map(map) => tidy_map(map, false),
            Tree::StringSet(set) => {
                format!("{{\"$string_set\":[{}]}}", joined(set.iter().map(|text| tidy_string(text)).collect()))
            }
            Tree::NumberSet(set) => {
                format!("{{\"$number_set\":[{}]}}", joined(set.iter().map(i64::to_string).collect()))
            }
            Tree::BinarySet(set) => format!("{{\"$binary_set\":[{}]}}", joined(set.iter().map(base64).collect())),
        }
    }

    /// The size by AWS's formula.
    fn size(&self) -> usize {
        let number = |text: &str| text.replace(['.', '-'], "").trim_matches('0').len().div_ceil(2) + 1;
        match self {
            Tree::Null | Tree::Boolean(_) => 1,
            Tree::Number(_, canonical) => number(canonical),
            Tree::String(text) => text.len(),
            Tree::Binary(bytes) => bytes.len(),
            Tree::List(values) => 3 + values.iter().map(|value| 1 + value.size()).sum::<usize>(),
            Tree::Map(map) => 3 + map.len() + item_size(map),
            Tree::StringSet(set) => set.iter().map(String::len).sum(),
            Tree::NumberSet(set) => set.iter().map(|value| number(&value.to_string())).sum(),
            Tree::BinarySet(set) => set.iter().map(Vec::len).sum(),
        }
    }

    /// How many leaves it has.
    pub(crate) fn leaves(&self) -> usize {
        match self {
            Tree::List(values) if !values.is_empty() => values.iter().map(Tree::leaves).sum(),
            Tree::Map(map) if !map.is_empty() => map.values().map(Tree::leaves).sum(),
            _ => 1,
        }
    }

    /// What a view shows.
    pub(crate) fn of(node: Node<'_>) -> Tree {
        match node {
            Node::Null => Tree::Null,
            Node::Boolean(value) => Tree::Boolean(value),
            Node::Number(text) => Tree::Number(text.to_owned(), text.to_owned()),
            Node::String(text) => Tree::String(text.to_owned()),
            Node::Binary(bytes) => Tree::Binary(bytes.to_vec()),
            Node::List(nodes) => Tree::List(nodes.map(Tree::of).collect()),
            Node::Map(entries) => Tree::Map(entries.map(|(name, node)| (name.to_owned(), Tree::of(node))).collect()),
            Node::StringSet(items) => Tree::StringSet(items.texts().map(str::to_owned).collect()),
            Node::NumberSet(items) => {
                Tree::NumberSet(items.texts().map(|text| text.parse().expect("the set holds whole numbers")).collect())
            }
            Node::BinarySet(items) => Tree::BinarySet(items.map(<[u8]>::to_vec).collect()),
        }
    }
}

pub(crate) fn item_size(map: &Map) -> usize {
    map.iter().map(|(name, value)| name.len() + value.size()).sum()
}

/// The merge of RFC 7396 §2, word for word.
pub(crate) fn merge_patch(target: Option<Tree>, patch: &Tree) -> Tree {
    let Tree::Map(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Some(Tree::Map(map)) => map,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if *value == Tree::Null {
            target.remove(name);
        } else {
            let merged = merge_patch(target.remove(name), value);
            target.insert(name.clone(), merged);
        }
    }
    Tree::Map(target)
}

fn written_name(map: &Map, name: &str, is_item: bool) -> String {
    let bare = name.trim_start_matches('$');
    let reserved = ["binary", "string_set", "number_set", "binary_set"].contains(&bare) && bare != name;
    if !is_item && map.len() == 1 && reserved { format!("${name}") } else { name.to_owned() }
}

pub(crate) fn tidy_map(map: &Map, is_item: bool) -> String {
    let entry = |(name, value): (&String, &Tree)| {
        format!("{}:{}", tidy_string(&written_name(map, name, is_item)), value.tidy())
    };
    format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(","))
}

pub(crate) fn messy_map(map: &Map, is_item: bool) -> String {
    let entry = |(name, value): (&String, &Tree)| {
        format!("\n  {} : {}", messy_string(&written_name(map, name, is_item)), value.messy())
    };
    format!("{{{}\r\n}}", map.iter().rev().map(entry).collect::<Vec<_>>().join(" ,"))
}

fn tidy_string(text: &str) -> String {
    let mut json = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\0'..='\x1f' => json.push_str(&format!("\\u{:04x}", character as u32)),
            _ => json.push(character),
        }
    }
    json + "\""
}

/// Every third character as `\u`, as surrogates where it needs two.
fn messy_string(text: &str) -> String {
    let mut json = String::from("\"");
    for (index, character) in text.chars().enumerate() {
        if index % 3 == 0 || character < ' ' || character == '"' || character == '\\' {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| json.push_str(&format!("\\u{unit:04X}")));
        } else {
            json.push(character);
        }
    }
    json + "\""
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ab.\\[\\]\\\\\"$!/\u{0}\u{7}\n\u{7f}\u{e9}\u{1f600}]{0,5}",
        2 => "[a-z]{1,8}",
        1 => any::<String>(),
        1 => prop_oneof![Just("$binary"), Just("$$string_set"), Just("$number_set"), Just("$$$binary_set"), Just("$")].prop_map(str::to_owned),
    ]
}

/// Spellings whose canonical text is plain to see.
fn number() -> impl Strategy<Value = Tree> {
    let tree = |(spelled, canonical): (String, String)| Tree::Number(spelled, canonical);
    prop_oneof![
        any::<i64>().prop_map(|value| (value.to_string(), value.to_string())),
        "-?[1-9][0-9]{36}[1-9]".prop_map(|digits| (digits.clone(), digits)),
        ("-?[1-9][0-9]{0,17}", "[0-9]{0,18}[1-9]")
            .prop_map(|(whole, fraction)| { (format!("{whole}.{fraction}000"), format!("{whole}.{fraction}")) }),
        ("-?[1-9]", 0usize..126)
            .prop_map(|(digit, zeros)| (format!("{digit}E+{zeros}"), format!("{digit}{}", "0".repeat(zeros)))),
        ("-?", "[1-9]", 0usize..130).prop_map(|(sign, digit, zeros)| {
            (format!("{sign}{digit}e-{}", zeros + 1), format!("{sign}0.{}{digit}", "0".repeat(zeros)))
        }),
        Just(("-0.000e17".to_owned(), "0".to_owned())),
    ]
    .prop_map(tree)
}

/// Items with everything that is hard.
pub(crate) fn items() -> impl Strategy<Value = Map> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Boolean),
        number(),
        text().prop_map(Tree::String),
        any::<Vec<u8>>().prop_map(Tree::Binary),
        proptest::collection::btree_set(text(), 1..4).prop_map(Tree::StringSet),
        proptest::collection::btree_set(any::<i64>(), 1..4).prop_map(Tree::NumberSet),
        proptest::collection::btree_set(any::<Vec<u8>>(), 1..4).prop_map(Tree::BinarySet),
    ];
    let value = leaf.prop_recursive(6, 48, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Tree::List),
            proptest::collection::btree_map(text(), inner, 0..5).prop_map(Tree::Map),
        ]
    });
    proptest::collection::btree_map(text(), value, 0..7)
}

/// The document of a JSON text, which is one.
pub(crate) fn of_text(json: &str) -> Document {
    Document::from_json(json.as_bytes()).expect("the text is an item")
}

/// The document of a tree, by way of messy JSON.
pub(crate) fn document(map: &Map) -> Document {
    Document::from_json(messy_map(map, true).as_bytes()).expect("a sample is an item")
}
