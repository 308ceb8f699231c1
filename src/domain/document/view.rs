//! Looking into a document without copying: a value is borrowed as a [`Node`].
//!
//! Views stand on bytes that were checked when the document was made. Should they be wrong after all,
//! iteration ends early and text reads as empty; nothing panics.

use super::encoding::{
    BINARY, BINARY_SET, FALSE, LIST, MAP, NULL, NUMBER, NUMBER_SET, Reader, STRING, STRING_SET, TRUE, Value,
};

/// A value of a document.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Node<'a> {
    /// Null.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A number, as canonical text.
    Number(&'a str),
    /// A string.
    String(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// Names and values.
    Map(Entries<'a>),
    /// Values.
    List(Nodes<'a>),
    /// Different strings, ascending bytewise.
    StringSet(SetItems<'a>),
    /// Different numbers as canonical texts, ascending by value.
    NumberSet(SetItems<'a>),
    /// Different bytes, ascending.
    BinarySet(SetItems<'a>),
}

impl<'a> Node<'a> {
    pub(super) fn of(value: Value<'a>) -> Node<'a> {
        match value.kind {
            FALSE => Node::Boolean(false),
            TRUE => Node::Boolean(true),
            NUMBER => Node::Number(text(value.content)),
            STRING => Node::String(text(value.content)),
            BINARY => Node::Binary(value.content),
            MAP => Node::Map(Entries { rest: value.content }),
            LIST => Node::List(Nodes { rest: value.content }),
            STRING_SET => Node::StringSet(SetItems { rest: value.content }),
            NUMBER_SET => Node::NumberSet(SetItems { rest: value.content }),
            BINARY_SET => Node::BinarySet(SetItems { rest: value.content }),
            _ => {
                debug_assert_eq!(value.kind, NULL, "the reader knows no other types");
                Node::Null
            }
        }
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Node::Null => "null",
            Node::Boolean(_) => "boolean",
            Node::Number(_) => "number",
            Node::String(_) => "string",
            Node::Binary(_) => "binary",
            Node::Map(_) => "map",
            Node::List(_) => "list",
            Node::StringSet(_) => "string set",
            Node::NumberSet(_) => "number set",
            Node::BinarySet(_) => "binary set",
        }
    }

    /// What the DynamoDB protocol calls its type.
    pub fn type_code(&self) -> &'static str {
        match self {
            Node::Null => "NULL",
            Node::Boolean(_) => "BOOL",
            Node::Number(_) => "N",
            Node::String(_) => "S",
            Node::Binary(_) => "B",
            Node::Map(_) => "M",
            Node::List(_) => "L",
            Node::StringSet(_) => "SS",
            Node::NumberSet(_) => "NS",
            Node::BinarySet(_) => "BS",
        }
    }
}

/// Debug tells the kind only: values belong to the tenant.
impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.kind())
    }
}

#[inline]
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A value for whoever writes it on: text that was checked when the document was made need not be looked through once more.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// A string's UTF-8 bytes.
    String(&'a [u8]),
    /// Any other value.
    Other(Node<'a>),
}

impl<'a> Raw<'a> {
    fn of(value: Value<'a>) -> Raw<'a> {
        match value.kind {
            STRING => Raw::String(value.content),
            _ => Raw::Other(Node::of(value)),
        }
    }
}

/// The entries of a map: names and values, names in ascending order of their bytes. What is equal holds equal entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The bytes of the entries that are left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The entries that are left, names as UTF-8 bytes.
    pub(crate) fn raw(self) -> impl Iterator<Item = (&'a [u8], Raw<'a>)> {
        let mut reader = Reader::new(self.rest);
        std::iter::from_fn(move || reader.entry().map(|(name, value)| (name, Raw::of(value))))
    }

    /// The value under this name.
    pub fn get(&self, name: &str) -> Option<Node<'a>> {
        let mut reader = Reader::new(self.rest);
        loop {
            let (found, value) = reader.entry()?;
            match found.cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(Node::of(value)),
                std::cmp::Ordering::Greater => return None,
            }
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Node<'a>);
    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader::new(self.rest);
        let entry = reader.entry();
        self.rest = reader.rest();
        entry.map(|(name, value)| (text(name), Node::of(value)))
    }

    /// Without a look at what they hold.
    fn count(self) -> usize {
        let mut reader = Reader::new(self.rest);
        std::iter::from_fn(|| reader.entry()).count()
    }
}

/// The values of a list. What is equal holds equal values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nodes<'a> {
    rest: &'a [u8],
}

impl<'a> Nodes<'a> {
    /// The values that are left.
    pub(crate) fn raw(self) -> impl Iterator<Item = Raw<'a>> {
        let mut reader = Reader::new(self.rest);
        std::iter::from_fn(move || reader.value().map(Raw::of))
    }
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;
    fn next(&mut self) -> Option<Node<'a>> {
        let mut reader = Reader::new(self.rest);
        let value = reader.value();
        self.rest = reader.rest();
        value.map(Node::of)
    }
}

/// The elements of a set, in ascending order. What is equal holds equal elements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SetItems<'a> {
    rest: &'a [u8],
}

impl<'a> SetItems<'a> {
    /// The bytes of the elements that are left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The elements of a set of strings or numbers.
    pub fn texts(self) -> impl Iterator<Item = &'a str> {
        self.map(text)
    }
}

impl<'a> Iterator for SetItems<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut reader = Reader::new(self.rest);
        let element = reader.bytes();
        self.rest = reader.rest();
        element
    }
}

macro_rules! counted {
    ($($name:ident),+) => { $(
        impl $name<'_> {
            /// Whether nothing is left.
            pub fn is_empty(&self) -> bool {
                self.rest.is_empty()
            }

            /// How many are left; walks over them.
            pub fn len(&self) -> usize {
                self.count()
            }
        }

        /// Debug tells the length only: values belong to the tenant.
        impl std::fmt::Debug for $name<'_> {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, concat!(stringify!($name), "({} bytes)"), self.rest.len())
            }
        }
    )+ };
}

counted!(Entries, Nodes, SetItems);

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn as_many_are_counted_as_come(mut rest in proptest::collection::vec(0u8..13, 0..60), whole: bool) {
            if whole {
                rest = [&[1, b'a', STRING, 2, b'x', b'y'][..], &[1, b'b', NULL], &rest].concat();
            }
            let entries = Entries::new(&rest);
            proptest::prop_assert_eq!(entries.count(), entries.fold(0, |count, _| count + 1));
        }
    }
}
