//! The item as expressions see it, and whether a condition holds on it.
//!
//! Nothing here fails: what is not there, or is of another type than asked for, makes its comparison false (and the one
//! with `<>` true), as on AWS. Equality is that of values, so sets have no order and numbers no spelling; documents are
//! canonical, so their bytes say it. Order is that of numbers by value, of strings and binary by their bytes.

use std::cmp::Ordering;

use super::condition::{Comparison, Condition, Operand};
use super::error::EvaluationError;
use super::path::{Path, Step};
use super::value::AttributeType;
use crate::domain::document::{Builder, Document, Node};
use crate::domain::number::Number;

/// An item with its key: key attributes are not stored inside the item, and where they are all the same, the key wins.
#[derive(Debug, Clone, Copy)]
pub struct ItemView<'a> {
    /// The item; none where there is none, and then the key attributes do not exist either.
    pub item: Option<&'a Document>,
    /// The key attributes.
    pub keys: &'a Document,
}

impl<'a> ItemView<'a> {
    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<Node<'a>> {
        let item = self.item?;
        self.keys.get(name).or_else(|| item.get(name))
    }

    /// What lies at the end of this path.
    pub fn at(&self, path: &Path) -> Option<Node<'a>> {
        follow(self.attribute(&path.attribute)?, &path.steps)
    }

    /// The item with its key attributes as one document; empty where there is none.
    pub fn document(&self) -> Document {
        let Some(item) = self.item else { return Document::empty() };
        let mut builder = Builder::with_capacity(item.as_bytes().len() + self.keys.as_bytes().len());
        let mut write = || {
            for (name, node) in self.keys.entries() {
                builder.name(name)?;
                builder.node(node)?;
            }
            for (name, node) in item.entries().filter(|(name, _)| self.keys.get(name).is_none()) {
                builder.name(name)?;
                builder.node(node)?;
            }
            Ok::<(), crate::domain::document::BuildError>(())
        };
        // Both were documents and share no name: together they are one.
        write().and_then(|()| builder.finish()).unwrap_or_default()
    }
}

/// What lies at the end of these steps.
pub(super) fn follow<'a>(mut node: Node<'a>, steps: &[Step]) -> Option<Node<'a>> {
    for step in steps {
        node = match (node, step) {
            (Node::Map(entries), Step::Attribute(name)) => entries.get(name)?,
            (Node::List(mut nodes), Step::Index(index)) => nodes.nth(*index as usize)?,
            _ => return None,
        };
    }
    Some(node)
}

/// How two values of one type that has an order compare.
pub(super) fn compare_nodes(left: Node<'_>, right: Node<'_>) -> Option<Ordering> {
    match (left, right) {
        (Node::String(left), Node::String(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (Node::Binary(left), Node::Binary(right)) => Some(left.cmp(right)),
        (Node::Number(left), Node::Number(right)) => Some(Number::parse(left).ok()?.cmp(&Number::parse(right).ok()?)),
        _ => None,
    }
}

/// What `size` gives: bytes of strings and binary, elements of the rest; none for what has no size.
pub(super) fn size_of(node: Node<'_>) -> Option<usize> {
    match node {
        Node::String(text) => Some(text.len()),
        Node::Binary(bytes) => Some(bytes.len()),
        Node::Map(entries) => Some(entries.len()),
        Node::List(nodes) => Some(nodes.len()),
        Node::StringSet(items) | Node::NumberSet(items) | Node::BinarySet(items) => Some(items.len()),
        Node::Null | Node::Boolean(_) | Node::Number(_) => None,
    }
}

/// What an operand is on an item.
#[derive(Clone, Copy)]
enum Seen<'a> {
    Node(Node<'a>),
    Size(usize),
}

impl<'a> Seen<'a> {
    fn of(operand: &'a Operand, view: &ItemView<'a>) -> Option<Seen<'a>> {
        match operand {
            Operand::Path(path) => view.at(path).map(Seen::Node),
            Operand::Value(value) => Some(Seen::Node(value.node())),
            Operand::Size(path) => view.at(path).and_then(size_of).map(Seen::Size),
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Seen::Node(Node::Number(text)) => Number::parse(text).ok(),
            Seen::Node(_) => None,
            Seen::Size(size) => i64::try_from(*size).ok().map(Number::from),
        }
    }

    fn equals(&self, other: &Seen<'_>) -> bool {
        match (self, other) {
            (Seen::Node(left), Seen::Node(right)) => left == right,
            _ => self.number().is_some() && self.number() == other.number(),
        }
    }

    fn order(&self, other: &Seen<'_>) -> Option<Ordering> {
        match (self, other) {
            (Seen::Node(left), Seen::Node(right)) => compare_nodes(*left, *right),
            _ => Some(self.number()?.cmp(&other.number()?)),
        }
    }

    fn kind(&self) -> AttributeType {
        match self {
            Seen::Node(node) => AttributeType::of(*node),
            Seen::Size(_) => AttributeType::Number,
        }
    }

    fn begins_with(&self, beginning: &Seen<'_>) -> bool {
        match (self, beginning) {
            (Seen::Node(Node::String(text)), Seen::Node(Node::String(beginning))) => text.starts_with(beginning),
            (Seen::Node(Node::Binary(bytes)), Seen::Node(Node::Binary(beginning))) => bytes.starts_with(beginning),
            _ => false,
        }
    }

    fn contains(&self, part: &Seen<'_>) -> bool {
        let Seen::Node(whole) = self else { return false };
        match (*whole, part) {
            (Node::List(mut nodes), _) => nodes.any(|node| Seen::Node(node).equals(part)),
            (Node::String(text), Seen::Node(Node::String(part))) => text.contains(part),
            (Node::Binary(bytes), Seen::Node(Node::Binary(part))) => holds(bytes, part),
            (Node::StringSet(mut items), Seen::Node(Node::String(part))) => items.any(|item| item == part.as_bytes()),
            (Node::BinarySet(mut items), Seen::Node(Node::Binary(part))) => items.any(|item| item == *part),
            (Node::NumberSet(mut items), part) => {
                part.number().is_some_and(|part| items.any(|item| Number::parse_bytes(item) == Ok(part)))
            }
            _ => false,
        }
    }
}

/// Whether `part` stands somewhere in `bytes`, in time that grows with the sum of their lengths (Knuth, Morris and
/// Pratt): both come from clients, and this runs where a whole range waits for it.
fn holds(bytes: &[u8], part: &[u8]) -> bool {
    if part.is_empty() || part.len() > bytes.len() {
        return part.is_empty();
    }
    // How much of the beginning of `part` also ends it, for each of its beginnings.
    let mut ends = vec![0usize; part.len()];
    let mut matched = 0;
    for index in 1..part.len() {
        while matched > 0 && part[matched] != part[index] {
            matched = ends[matched - 1];
        }
        matched += usize::from(part[matched] == part[index]);
        ends[index] = matched;
    }
    matched = 0;
    for byte in bytes {
        while matched > 0 && part[matched] != *byte {
            matched = ends[matched - 1];
        }
        matched += usize::from(part[matched] == *byte);
        if matched == part.len() {
            return true;
        }
    }
    false
}

impl Comparison {
    fn holds(self, left: Option<Seen<'_>>, right: Option<Seen<'_>>) -> bool {
        let (Some(left), Some(right)) = (left, right) else { return self == Comparison::NotEqual };
        match self {
            Comparison::Equal => left.equals(&right),
            Comparison::NotEqual => !left.equals(&right),
            Comparison::Less => left.order(&right).is_some_and(Ordering::is_lt),
            Comparison::LessOrEqual => left.order(&right).is_some_and(Ordering::is_le),
            Comparison::Greater => left.order(&right).is_some_and(Ordering::is_gt),
            Comparison::GreaterOrEqual => left.order(&right).is_some_and(Ordering::is_ge),
        }
    }
}

impl Condition {
    /// Whether the item is like that.
    ///
    /// # Errors
    /// None today: conditions on missing attributes and on other types are false.
    pub fn holds(&self, view: &ItemView<'_>) -> Result<bool, EvaluationError> {
        Ok(self.is_true(view))
    }

    fn is_true(&self, view: &ItemView<'_>) -> bool {
        match self {
            Condition::And(conditions) => conditions.iter().all(|condition| condition.is_true(view)),
            Condition::Or(conditions) => conditions.iter().any(|condition| condition.is_true(view)),
            Condition::Not(condition) => !condition.is_true(view),
            Condition::Exists(path) => view.at(path).is_some(),
            Condition::NotExists(path) => view.at(path).is_none(),
            _ => self.compares(view),
        }
    }

    /// Whether a comparison of operands holds.
    fn compares(&self, view: &ItemView<'_>) -> bool {
        match self {
            Condition::Compare(left, comparison, right) => {
                comparison.holds(Seen::of(left, view), Seen::of(right, view))
            }
            Condition::Between(value, low, high) => {
                let value = Seen::of(value, view);
                Comparison::GreaterOrEqual.holds(value, Seen::of(low, view))
                    && Comparison::LessOrEqual.holds(value, Seen::of(high, view))
            }
            Condition::In(value, list) => {
                let value = Seen::of(value, view);
                list.iter().any(|other| Comparison::Equal.holds(value, Seen::of(other, view)))
            }
            Condition::Type(operand, kind) => Seen::of(operand, view).is_some_and(|seen| seen.kind() == *kind),
            Condition::BeginsWith(operand, beginning) => {
                pair(operand, beginning, view).is_some_and(|(operand, beginning)| operand.begins_with(&beginning))
            }
            Condition::Contains(operand, part) => {
                pair(operand, part, view).is_some_and(|(operand, part)| operand.contains(&part))
            }
            _ => false,
        }
    }
}

fn pair<'a>(left: &'a Operand, right: &'a Operand, view: &ItemView<'a>) -> Option<(Seen<'a>, Seen<'a>)> {
    Some((Seen::of(left, view)?, Seen::of(right, view)?))
}
