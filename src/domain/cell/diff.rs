//! What changes between two documents, cell by cell.
//!
//! Both are walked together, map by map and list by list. Equal parts have equal bytes and are skipped as a whole, so a
//! changed leaf in a large item costs a comparison of bytes and one change. Nothing is flattened but what differs.

use std::cmp::Ordering;

use super::flatten::visit_node;
use super::path::{push_index, push_name};
use super::types::Cell;
use crate::domain::document::{Document, Entries, Node, Nodes};

/// One change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellChange<'a> {
    /// The cell is new, or differs.
    Upsert(Cell<'a>),
    /// The cell is gone.
    Remove,
}

/// Hands out what must change in the cells of `old` for them to be the cells of `new`. No path comes twice, so
/// the changes may be made in any order.
pub fn diff_cells<'a>(old: &Document, new: &'a Document, mut visit: impl FnMut(&str, CellChange<'a>)) {
    let mut path = String::with_capacity(64);
    diff_maps(&mut path, old.entries(), new.entries(), &mut visit);
}

fn diff_maps<'a>(path: &mut String, old: Entries<'_>, new: Entries<'a>, visit: &mut impl FnMut(&str, CellChange<'a>)) {
    let length = path.len();
    let (mut old, mut new) = (old.peekable(), new.peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old_name, _)), Some((new_name, _))) => old_name.cmp(new_name),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let Some(name) = before.map(|(name, _)| name).or(after.map(|(name, _)| name)) else { return };
        if length > 0 {
            path.push('.');
        }
        push_name(path, name);
        diff_nodes(path, before.map(|(_, node)| node), after.map(|(_, node)| node), visit);
        path.truncate(length);
    }
}

fn diff_lists<'a>(path: &mut String, old: Nodes<'_>, new: Nodes<'a>, visit: &mut impl FnMut(&str, CellChange<'a>)) {
    let length = path.len();
    let (mut old, mut new) = (old, new);
    for index in 0.. {
        let (before, after) = (old.next(), new.next());
        if before.is_none() && after.is_none() {
            return;
        }
        push_index(path, index);
        diff_nodes(path, before, after, visit);
        path.truncate(length);
    }
}

fn diff_nodes<'a>(
    path: &mut String,
    old: Option<Node<'_>>,
    new: Option<Node<'a>>,
    visit: &mut impl FnMut(&str, CellChange<'a>),
) {
    let holds_something = |node: &Node<'_>| Cell::of(*node).is_none();
    match (old, new) {
        (Some(old), Some(new)) if old == new => return,
        (Some(Node::Map(old)), Some(Node::Map(new))) if !old.is_empty() && !new.is_empty() => {
            return diff_maps(path, old, new, visit);
        }
        (Some(Node::List(old)), Some(Node::List(new))) if !old.is_empty() && !new.is_empty() => {
            return diff_lists(path, old, new, visit);
        }
        _ => {}
    }
    // A leaf that stays a leaf keeps its row; all other rows of the old value have paths that the new one has not.
    let keeps_row = new.is_some_and(|new| !holds_something(&new));
    if let Some(old) = old
        && (holds_something(&old) || !keeps_row)
    {
        visit_node(path, old, &mut |path, _| visit(path, CellChange::Remove));
    }
    if let Some(new) = new {
        visit_node(path, new, &mut |path, cell| visit(path, CellChange::Upsert(cell)));
    }
}
