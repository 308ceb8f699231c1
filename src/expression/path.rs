//! Document paths: an attribute of the item and steps into it, and when two paths do not go together.

use std::sync::Arc;

use super::error::ExpressionError;
use super::role::Role;

/// One step into a map or a list.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The value under this name.
    Attribute(Arc<str>),
    /// The element at this place, from 0.
    Index(u32),
}

/// Where in an item a value lies. `Display` is how AWS writes it in errors: `[a, b, [1]]`. Debug tells the number of
/// steps only: names may tell what a tenant stores.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// The attribute of the item.
    pub attribute: Arc<str>,
    /// The way from there.
    pub steps: Vec<Step>,
}

impl Path {
    /// A whole attribute.
    pub fn attribute(name: impl Into<Arc<str>>) -> Path {
        Path { attribute: name.into(), steps: Vec::new() }
    }

    /// Whether it leads into an attribute.
    pub fn is_nested(&self) -> bool {
        !self.steps.is_empty()
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "[{}", self.attribute)?;
        for step in &self.steps {
            match step {
                Step::Attribute(name) => write!(formatter, ", {name}")?,
                Step::Index(index) => write!(formatter, ", [{index}]")?,
            }
        }
        formatter.write_str("]")
    }
}

impl std::fmt::Debug for Path {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Path({} steps)", self.steps.len())
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Attribute(_) => formatter.write_str("Attribute"),
            Step::Index(index) => write!(formatter, "Index({index})"),
        }
    }
}

/// How two paths get in each other's way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clash {
    /// One is the beginning of the other, or they are equal.
    Overlap,
    /// One takes for a map what the other takes for a list.
    Conflict,
}

fn clash(one: &Path, two: &Path) -> Option<Clash> {
    if one.attribute != two.attribute {
        return None;
    }
    for steps in one.steps.iter().zip(&two.steps) {
        match steps {
            (Step::Attribute(one), Step::Attribute(two)) if one == two => {}
            (Step::Index(one), Step::Index(two)) if one == two => {}
            (Step::Attribute(_), Step::Attribute(_)) | (Step::Index(_), Step::Index(_)) => return None,
            _ => return Some(Clash::Conflict),
        }
    }
    Some(Clash::Overlap)
}

/// Refuses paths of which one is the beginning of another or that take one value for a map and a list. Overlaps are
/// told first.
pub(super) fn check_apart(role: Role, paths: &[&Path]) -> Result<(), ExpressionError> {
    for (wanted, word) in [(Clash::Overlap, "overlap"), (Clash::Conflict, "conflict")] {
        for (index, two) in paths.iter().enumerate() {
            let found = paths[..index].iter().find(|one| clash(one, two) == Some(wanted));
            if let Some(one) = found {
                let what = "must remove or rewrite one of these paths";
                return Err(ExpressionError::invalid(
                    role,
                    format_args!("Two document paths {word} with each other; {what}; path one: {one}, path two: {two}"),
                ));
            }
        }
    }
    Ok(())
}
