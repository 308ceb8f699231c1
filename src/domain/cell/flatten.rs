//! Document to cells.

use super::path::{push_index, push_name};
use super::types::Cell;
use crate::domain::document::{Document, Node};

/// Hands out each cell with its path, in the order of the document's names (which is not the order of paths).
/// One buffer serves for all paths.
pub fn for_each_cell<'a>(document: &'a Document, mut visit: impl FnMut(&str, Cell<'a>)) {
    let mut path = String::with_capacity(64);
    for (name, node) in document.entries() {
        path.clear();
        push_name(&mut path, name);
        visit_node(&mut path, node, &mut visit);
    }
}

/// All cells of a document in the order of their paths.
pub fn cells_of(document: &Document) -> Vec<(String, Cell<'_>)> {
    let mut cells = Vec::with_capacity(16);
    for_each_cell(document, |path, cell| cells.push((path.to_owned(), cell)));
    // Sorted already, but for names such as `a!` beside a map `a`.
    cells.sort_by(|(left, _), (right, _)| left.as_bytes().cmp(right.as_bytes()));
    cells
}

/// Visits the cells of a node that lies at `path`; leaves the path as it was.
pub(super) fn visit_node<'a>(path: &mut String, node: Node<'a>, visit: &mut impl FnMut(&str, Cell<'a>)) {
    if let Some(cell) = Cell::of(node) {
        visit(path, cell);
        return;
    }
    let length = path.len();
    match node {
        Node::Map(entries) => {
            for (name, node) in entries {
                path.push('.');
                push_name(path, name);
                visit_node(path, node, visit);
                path.truncate(length);
            }
        }
        Node::List(nodes) => {
            for (index, node) in nodes.enumerate() {
                push_index(path, index);
                visit_node(path, node, visit);
                path.truncate(length);
            }
        }
        _ => debug_assert!(false, "every other node is a leaf"),
    }
}
