//! Looking at a document without taking it apart: nodes borrow from its bytes.
//!
//! The bytes of a [`super::Document`] have been checked, so the readers here answer with something
//! empty where a bug would have them read past the end, and never panic.

use super::{
    DocumentError, LEVELS_MAX, TAG_BINARY, TAG_BINARY_SET, TAG_FALSE, TAG_LIST, TAG_MAP, TAG_NULL, TAG_NUMBER,
    TAG_NUMBER_SET, TAG_STRING, TAG_STRING_SET, TAG_TRUE,
};
use crate::domain::number::canonical;

/// One value.
#[derive(Debug, Clone, Copy)]
pub enum Node<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A number in canonical text.
    Number(&'a str),
    /// A string.
    String(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// Names and values.
    Map(Entries<'a>),
    /// Values.
    List(Nodes<'a>),
    /// Different strings.
    StringSet(SetItems<'a>),
    /// Different numbers in canonical text.
    NumberSet(SetItems<'a>),
    /// Different byte strings.
    BinarySet(SetItems<'a>),
}

/// The entries of a map.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    rest: &'a [u8],
    left: usize,
}

/// The values of a list.
#[derive(Debug, Clone, Copy)]
pub struct Nodes<'a> {
    rest: &'a [u8],
    left: usize,
}

/// The values of a set.
#[derive(Debug, Clone, Copy)]
pub struct SetItems<'a> {
    rest: &'a [u8],
    left: usize,
}

impl Entries<'_> {
    pub(crate) fn empty() -> Self {
        Self { rest: &[], left: 0 }
    }
}

impl<'a> Entries<'a> {
    /// The next entry with the value's raw bytes.
    pub(crate) fn next_raw(&mut self) -> Option<(&'a str, Node<'a>, &'a [u8])> {
        self.left = self.left.checked_sub(1)?;
        let (name, rest) = take(self.rest)?;
        let (value, after) = node(rest);
        self.rest = after;
        Some((std::str::from_utf8(name).unwrap_or_default(), value, &rest[..rest.len() - after.len()]))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Node<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        self.next_raw().map(|(name, node, _)| (name, node))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;
    fn next(&mut self) -> Option<Node<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (value, rest) = node(self.rest);
        self.rest = rest;
        Some(value)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Nodes<'_> {}

impl<'a> Iterator for SetItems<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (item, rest) = take(self.rest)?;
        self.rest = rest;
        Some(item)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SetItems<'_> {}

/// A length and so many bytes from the front; and what follows.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// The node at the front of checked bytes, and what follows it.
pub(crate) fn node(bytes: &[u8]) -> (Node<'_>, &[u8]) {
    let Some((&tag, rest)) = bytes.split_first() else { return (Node::Null, &[]) };
    match tag {
        TAG_NULL => return (Node::Null, rest),
        TAG_FALSE => return (Node::Boolean(false), rest),
        TAG_TRUE => return (Node::Boolean(true), rest),
        _ => {}
    }
    let (content, after) = take(rest).unwrap_or_default();
    let text = || std::str::from_utf8(content).unwrap_or_default();
    let (left, items) = match content.split_first_chunk::<4>() {
        Some((count, items)) => (u32::from_le_bytes(*count) as usize, items),
        None => (0, content),
    };
    let node = match tag {
        TAG_NUMBER => Node::Number(text()),
        TAG_STRING => Node::String(text()),
        TAG_BINARY => Node::Binary(content),
        TAG_MAP => Node::Map(Entries { rest: items, left }),
        TAG_LIST => Node::List(Nodes { rest: items, left }),
        TAG_STRING_SET => Node::StringSet(SetItems { rest: items, left }),
        TAG_NUMBER_SET => Node::NumberSet(SetItems { rest: items, left }),
        TAG_BINARY_SET => Node::BinarySet(SetItems { rest: items, left }),
        _ => Node::Null,
    };
    (node, after)
}

/// Checks the node at the front of any bytes and returns what follows it. `level` counts the maps
/// and lists around it.
pub(crate) fn check(bytes: &[u8], level: usize) -> Result<&[u8], DocumentError> {
    let (&tag, rest) = bytes.split_first().ok_or(DocumentError)?;
    if matches!(tag, TAG_NULL | TAG_FALSE | TAG_TRUE) {
        return Ok(rest);
    }
    let (content, after) = take(rest).ok_or(DocumentError)?;
    match tag {
        TAG_NUMBER => check_number(content)?,
        TAG_STRING => check_text(content)?,
        TAG_BINARY => {}
        TAG_MAP | TAG_LIST | TAG_STRING_SET | TAG_NUMBER_SET | TAG_BINARY_SET => check_items(tag, content, level)?,
        _ => return Err(DocumentError),
    }
    Ok(after)
}

fn check_text(bytes: &[u8]) -> Result<(), DocumentError> {
    std::str::from_utf8(bytes).map(|_| ()).map_err(|_| DocumentError)
}

fn check_number(bytes: &[u8]) -> Result<(), DocumentError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DocumentError)?;
    if canonical(text).map_err(|_| DocumentError)? == text { Ok(()) } else { Err(DocumentError) }
}

fn check_items(tag: u8, content: &[u8], level: usize) -> Result<(), DocumentError> {
    if level >= LEVELS_MAX {
        return Err(DocumentError);
    }
    let (count, mut rest) = content.split_first_chunk::<4>().ok_or(DocumentError)?;
    let count = u32::from_le_bytes(*count) as usize;
    let mut names: Vec<&[u8]> = Vec::new();
    for _ in 0..count {
        if tag == TAG_LIST {
            rest = check(rest, level + 1)?;
            continue;
        }
        let (item, after) = take(rest).ok_or(DocumentError)?;
        match tag {
            TAG_NUMBER_SET => check_number(item)?,
            TAG_BINARY_SET => {}
            _ => check_text(item)?,
        }
        names.push(item);
        rest = if tag == TAG_MAP { check(after, level + 1)? } else { after };
    }
    let different = has_no_duplicates(&mut names);
    if rest.is_empty() && different { Ok(()) } else { Err(DocumentError) }
}

/// Whether all are different; reorders them.
pub(crate) fn has_no_duplicates(names: &mut [&[u8]]) -> bool {
    if names.len() <= 8 {
        return (1..names.len()).all(|position| !names[..position].contains(&names[position]));
    }
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// Whether two values are equal, whatever the order of names and set members.
pub(crate) fn equal(left: Node<'_>, right: Node<'_>) -> bool {
    match (left, right) {
        (Node::Null, Node::Null) => true,
        (Node::Boolean(a), Node::Boolean(b)) => a == b,
        (Node::Number(a), Node::Number(b)) | (Node::String(a), Node::String(b)) => a == b,
        (Node::Binary(a), Node::Binary(b)) => a == b,
        (Node::List(a), Node::List(b)) => a.len() == b.len() && a.zip(b).all(|(a, b)| equal(a, b)),
        (Node::Map(a), Node::Map(b)) => {
            let (mut a, mut b): (Vec<_>, Vec<_>) = (a.collect(), b.collect());
            a.sort_unstable_by_key(|(name, _)| *name);
            b.sort_unstable_by_key(|(name, _)| *name);
            a.len() == b.len() && a.into_iter().zip(b).all(|((m, a), (n, b))| m == n && equal(a, b))
        }
        (Node::StringSet(a), Node::StringSet(b))
        | (Node::NumberSet(a), Node::NumberSet(b))
        | (Node::BinarySet(a), Node::BinarySet(b)) => {
            let (mut a, mut b): (Vec<_>, Vec<_>) = (a.collect(), b.collect());
            a.sort_unstable();
            b.sort_unstable();
            a == b
        }
        _ => false,
    }
}
