//! Values that stand in expressions, owned.

use crate::domain::document::{BuildError, Builder, Document, Node};

/// The types of DynamoDB's values, as attribute_type names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeType {
    /// `S`
    String,
    /// `N`
    Number,
    /// `B`
    Binary,
    /// `SS`
    StringSet,
    /// `NS`
    NumberSet,
    /// `BS`
    BinarySet,
    /// `M`
    Map,
    /// `L`
    List,
    /// `NULL`
    Null,
    /// `BOOL`
    Boolean,
}

impl AttributeType {
    /// All of them; the place of each is its number in encoded bytes.
    pub const ALL: [AttributeType; 10] = [
        AttributeType::String,
        AttributeType::Number,
        AttributeType::Binary,
        AttributeType::StringSet,
        AttributeType::NumberSet,
        AttributeType::BinarySet,
        AttributeType::Map,
        AttributeType::List,
        AttributeType::Null,
        AttributeType::Boolean,
    ];

    /// The type of a value.
    pub fn of(node: Node<'_>) -> AttributeType {
        match node {
            Node::Null => AttributeType::Null,
            Node::Boolean(_) => AttributeType::Boolean,
            Node::Number(_) => AttributeType::Number,
            Node::String(_) => AttributeType::String,
            Node::Binary(_) => AttributeType::Binary,
            Node::Map(_) => AttributeType::Map,
            Node::List(_) => AttributeType::List,
            Node::StringSet(_) => AttributeType::StringSet,
            Node::NumberSet(_) => AttributeType::NumberSet,
            Node::BinarySet(_) => AttributeType::BinarySet,
        }
    }

    /// The name in the protocol: `S`, `NS`, `BOOL`, …
    pub fn name(self) -> &'static str {
        match self {
            AttributeType::String => "S",
            AttributeType::Number => "N",
            AttributeType::Binary => "B",
            AttributeType::StringSet => "SS",
            AttributeType::NumberSet => "NS",
            AttributeType::BinarySet => "BS",
            AttributeType::Map => "M",
            AttributeType::List => "L",
            AttributeType::Null => "NULL",
            AttributeType::Boolean => "BOOL",
        }
    }

    /// The name in errors about ADD and DELETE: `STRING`, `NUMBER SET`, …
    pub(super) fn long_name(self) -> &'static str {
        match self {
            AttributeType::String => "STRING",
            AttributeType::Number => "NUMBER",
            AttributeType::Binary => "BINARY",
            AttributeType::StringSet => "STRING SET",
            AttributeType::NumberSet => "NUMBER SET",
            AttributeType::BinarySet => "BINARY SET",
            AttributeType::Map => "MAP",
            AttributeType::List => "LIST",
            AttributeType::Null => "NULL",
            AttributeType::Boolean => "BOOLEAN",
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<AttributeType> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A value: one attribute of a document, whose name is empty. Cheap to clone; Debug shows its length only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Document);

impl Value {
    /// A copy of the value in a document.
    ///
    /// # Errors
    /// Where it nests 32 levels deep: it stands one level deeper here than an element that could be stored.
    pub fn new(node: Node<'_>) -> Result<Value, BuildError> {
        Value::build(|builder| builder.node(node))
    }

    /// The value that `write` writes: one call of the builder, or a map or list with all in it.
    ///
    /// # Errors
    /// Those of the builder.
    pub fn build(write: impl FnOnce(&mut Builder) -> Result<(), BuildError>) -> Result<Value, BuildError> {
        let mut builder = Builder::new();
        builder.name("")?;
        write(&mut builder)?;
        builder.finish().map(Value)
    }

    /// The value whose document this is: it has the one attribute with the empty name.
    pub fn from_document(document: Document) -> Option<Value> {
        let mut entries = document.entries();
        let only = matches!((entries.next(), entries.next()), (Some(("", _)), None));
        only.then_some(Value(document))
    }

    /// What it is.
    pub fn node(&self) -> Node<'_> {
        self.0.get("").unwrap_or(Node::Null)
    }

    /// The document that holds it, under the empty name.
    pub fn document(&self) -> &Document {
        &self.0
    }

    /// Its type.
    pub fn kind(&self) -> AttributeType {
        AttributeType::of(self.node())
    }
}

/// Debug tells the type only: values belong to the tenant.
impl std::fmt::Debug for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Value({})", self.kind().name())
    }
}
