//! Parts of a document: what projections and UPDATED_OLD / UPDATED_NEW answer.
//!
//! Paths become a tree of what is wanted, and the document is walked along it. Maps and lists appear only with
//! something in them that was wanted and found; elements of lists move together, in their order.

use std::collections::BTreeMap;

use super::path::{Path, Step};
use crate::domain::document::{BuildError, Builder, Document, Node};

/// What is wanted of a value.
#[derive(Default)]
struct Wanted<'p> {
    /// The whole of it.
    all: bool,
    /// Where it is a map, these.
    names: BTreeMap<&'p str, Wanted<'p>>,
    /// Where it is a list, these.
    places: BTreeMap<u32, Wanted<'p>>,
}

impl<'p> Wanted<'p> {
    fn of(paths: impl IntoIterator<Item = &'p Path>) -> Wanted<'p> {
        let mut root = Wanted::default();
        for path in paths {
            let mut wanted = root.names.entry(&path.attribute).or_default();
            for step in &path.steps {
                wanted = match step {
                    Step::Attribute(name) => wanted.names.entry(name).or_default(),
                    Step::Index(index) => wanted.places.entry(*index).or_default(),
                };
            }
            wanted.all = true;
        }
        root
    }

    /// Whether there is any of it here.
    fn is_in(&self, node: Node<'_>) -> bool {
        self.all
            || match node {
                Node::Map(entries) => {
                    self.names.iter().any(|(name, wanted)| entries.get(name).is_some_and(|node| wanted.is_in(node)))
                }
                Node::List(nodes) => self.found(nodes).next().is_some(),
                _ => false,
            }
    }

    /// The elements that are wanted and have something of what is wanted.
    fn found<'a>(&self, nodes: impl Iterator<Item = Node<'a>>) -> impl Iterator<Item = (&Wanted<'p>, Node<'a>)> {
        let last = self.places.last_key_value().map_or(0, |(last, _)| *last as usize + 1);
        let numbered = nodes.take(last).enumerate();
        numbered.filter_map(|(index, node)| {
            let wanted = self.places.get(&u32::try_from(index).ok()?)?;
            wanted.is_in(node).then_some((wanted, node))
        })
    }

    /// Writes what there is of it.
    fn write(&self, builder: &mut Builder, node: Node<'_>) -> Result<(), BuildError> {
        match node {
            _ if self.all => builder.node(node),
            Node::Map(entries) => {
                builder.open_map()?;
                self.write_entries(builder, entries)?;
                builder.close_map()
            }
            Node::List(nodes) => {
                builder.open_list()?;
                for (wanted, node) in self.found(nodes) {
                    wanted.write(builder, node)?;
                }
                builder.close_list()
            }
            _ => builder.node(node),
        }
    }

    fn write_entries<'a>(
        &self,
        builder: &mut Builder,
        entries: impl Iterator<Item = (&'a str, Node<'a>)>,
    ) -> Result<(), BuildError> {
        for (name, node) in entries {
            if let Some(wanted) = self.names.get(name).filter(|wanted| wanted.is_in(node)) {
                builder.name(name)?;
                wanted.write(builder, node)?;
            }
        }
        Ok(())
    }
}

/// The parts of a document at these paths.
pub(super) fn select<'p>(document: &Document, paths: impl IntoIterator<Item = &'p Path>) -> Document {
    let wanted = Wanted::of(paths);
    let mut builder = Builder::with_capacity(document.as_bytes().len());
    // Part of a document is one: it is no deeper, longer or larger.
    let written = wanted.write_entries(&mut builder, document.entries());
    written.and_then(|()| builder.finish()).unwrap_or_default()
}
