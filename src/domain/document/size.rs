//! The size of an item by DynamoDB's formula, which both protocols use for limits and counters.
//!
//! Source: AWS, "DynamoDB item sizes and formats". Names and strings count their UTF-8 bytes, binary
//! its bytes, null and booleans 1, numbers about a byte for two significant digits plus 1 (and 1 for a
//! minus), maps and lists 3 plus 1 for each element, sets the sum of their members.

use super::{Entries, Node};

pub(super) fn of_map(entries: Entries<'_>) -> usize {
    entries.map(|(name, node)| name.len() + of_node(node)).sum()
}

fn of_node(node: Node<'_>) -> usize {
    match node {
        Node::Null | Node::Boolean(_) => 1,
        Node::Number(text) => of_number(text),
        Node::String(text) => text.len(),
        Node::Binary(bytes) => bytes.len(),
        Node::Map(entries) => 3 + entries.len() + of_map(entries),
        Node::List(nodes) => 3 + nodes.len() + nodes.map(of_node).sum::<usize>(),
        Node::StringSet(items) | Node::BinarySet(items) => items.map(<[u8]>::len).sum(),
        Node::NumberSet(items) => items.map(|text| of_number(std::str::from_utf8(text).unwrap_or_default())).sum(),
    }
}

fn of_number(text: &str) -> usize {
    let digits = text.bytes().filter(u8::is_ascii_digit);
    let kept = digits.clone().skip_while(|digit| *digit == b'0').count();
    let trailing = if text.contains('.') { 0 } else { text.bytes().rev().take_while(|byte| *byte == b'0').count() };
    kept.saturating_sub(trailing).div_ceil(2) + 1 + usize::from(text.starts_with('-'))
}
