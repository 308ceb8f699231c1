//! JSON merge patch (RFC 7396) on documents: both maps are in order of their names, so one walk over both
//! writes the result in order.

use std::cmp::Ordering;

use super::builder::{BuildError, Builder};
use super::owned::Document;
use super::view::{Entries, Node};

/// `base` with `patch` merged into it.
pub(super) fn merge_patch(base: &Document, patch: &Document) -> Result<Document, BuildError> {
    let mut builder = Builder::with_capacity(base.as_bytes().len() + patch.as_bytes().len());
    merge_map(&mut builder, base.entries(), patch.entries())?;
    builder.finish()
}

/// Writes the entries of `base` with those of `patch` merged into them.
fn merge_map(builder: &mut Builder, base: Entries<'_>, patch: Entries<'_>) -> Result<(), BuildError> {
    let mut base = base.peekable();
    let mut patch = patch.peekable();
    loop {
        let order = match (base.peek(), patch.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((base_name, _)), Some((patch_name, _))) => base_name.cmp(patch_name),
        };
        let kept = if order.is_le() { base.next() } else { None };
        let change = if order.is_ge() { patch.next() } else { None };
        match (kept, change) {
            (Some((name, value)), None) => {
                builder.name(name)?;
                builder.node(value)?;
            }
            (_, Some((_, Node::Null))) | (None, None) => {}
            (kept, Some((name, change))) => {
                builder.name(name)?;
                merge_value(builder, kept.map(|(_, value)| value), change)?;
            }
        }
    }
}

fn merge_value(builder: &mut Builder, base: Option<Node<'_>>, change: Node<'_>) -> Result<(), BuildError> {
    let Node::Map(patch) = change else { return builder.node(change) };
    // A patch onto anything but a map starts from an empty one: it loses its own nulls on the way.
    let base = match base {
        Some(Node::Map(base)) => base,
        _ => Entries::new(&[]),
    };
    builder.open_map()?;
    merge_map(builder, base, patch)?;
    builder.close_map()
}
