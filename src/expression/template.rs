//! What the parsers make of a text: the same trees as afterwards, but with placeholders in the place of names and
//! values.

use std::sync::Arc;

/// A name in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// As it stands.
    Plain(Arc<str>),
    /// `#name`
    Placeholder(Arc<str>),
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepTemplate {
    /// `.name`
    Attribute(Name),
    /// `[0]`
    Index(u32),
    /// An index that is larger than lists are, as it stands.
    Beyond(Arc<str>),
}

/// A path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathTemplate {
    pub(super) first: Name,
    pub(super) steps: Vec<StepTemplate>,
}

/// What operators and functions work on.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    Path(PathTemplate),
    /// `:value`
    Value(Arc<str>),
    Call(Call),
}

/// A function with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: Arc<str>,
    pub(super) arguments: Vec<Argument>,
}
