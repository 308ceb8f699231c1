//! An update on an item.
//!
//! First every action is worked out on the item as it was: what stands at its path afterwards, or that nothing does.
//! These edits make a tree along their paths. Then the item is written anew in one walk along item and tree, so that
//! indexes of lists are those of the old item whatever is removed: elements stay in their order, what is removed is
//! left out, and elements set beyond the end follow in the order of their indexes.
//!
//! A short text can ask for an item that is many times as large as any (`SET b = a, c = a, …`), so the walk stops where
//! it is larger than an item can be.
//!
//! A path whose parent is not there, or is neither a map nor a list as the path says, is an error for every action.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::arithmetic::{add, subtract};
use super::error::EvaluationError;
use super::evaluate::{ItemView, follow};
use super::path::{Path, Step};
use super::update::{SetOperand, SetValue, Update, Updated};
use super::value::Value;
use crate::domain::document::{BuildError, Builder, Node, Nodes, SetItems};
use crate::domain::limits::ITEM_BYTES_MAX;

impl From<BuildError> for EvaluationError {
    fn from(error: BuildError) -> EvaluationError {
        match error {
            BuildError::TooDeep => EvaluationError::Depth,
            BuildError::Number(_) | BuildError::EmptySet | BuildError::DuplicateElement => {
                EvaluationError::IncorrectType
            }
            _ => EvaluationError::Size,
        }
    }
}

/// A value that an action makes.
enum Made<'a> {
    Node(Node<'a>),
    /// Canonical text.
    Number(String),
    /// Lists, one after the other.
    Lists(Vec<Nodes<'a>>),
    /// Elements of a set of strings.
    Strings(Vec<&'a str>),
    /// Elements of a set of numbers.
    Numbers(Vec<&'a [u8]>),
    /// Elements of a set of binary.
    Binaries(Vec<&'a [u8]>),
}

impl<'a> Made<'a> {
    fn write(&self, builder: &mut Builder) -> Result<(), EvaluationError> {
        match self {
            Made::Node(node) => builder.node(*node)?,
            Made::Number(text) => builder.number(text.as_bytes())?,
            Made::Strings(items) => builder.string_set(items.iter().copied())?,
            Made::Numbers(items) => builder.number_set(items.iter().copied())?,
            Made::Binaries(items) => builder.binary_set(items.iter().copied())?,
            Made::Lists(lists) => {
                builder.open_list()?;
                for nodes in lists {
                    nodes.into_iter().try_for_each(|node| builder.node(node))?;
                    check_size(builder)?;
                }
                builder.close_list()?;
            }
        }
        check_size(builder)
    }

    fn of(operand: &'a SetOperand, view: &ItemView<'a>) -> Result<Made<'a>, EvaluationError> {
        match operand {
            SetOperand::Value(value) => Ok(Made::Node(value.node())),
            SetOperand::Path(path) => view.at(path).map(Made::Node).ok_or(EvaluationError::MissingAttribute),
            SetOperand::IfNotExists(path, otherwise) => match view.at(path) {
                Some(node) => Ok(Made::Node(node)),
                None => Made::of(otherwise, view),
            },
            SetOperand::ListAppend(first, second) => {
                let mut lists = Made::of(first, view)?.lists()?;
                lists.extend(Made::of(second, view)?.lists()?);
                Ok(Made::Lists(lists))
            }
        }
    }

    fn lists(self) -> Result<Vec<Nodes<'a>>, EvaluationError> {
        match self {
            Made::Node(Node::List(nodes)) => Ok(vec![nodes]),
            Made::Lists(lists) => Ok(lists),
            _ => Err(EvaluationError::IncorrectType),
        }
    }

    fn number(&self) -> Result<&str, EvaluationError> {
        match self {
            Made::Node(Node::Number(text)) => Ok(text),
            Made::Number(text) => Ok(text),
            _ => Err(EvaluationError::IncorrectType),
        }
    }

    fn of_set(value: &'a SetValue, view: &ItemView<'a>) -> Result<Made<'a>, EvaluationError> {
        match value {
            SetValue::Operand(operand) => Made::of(operand, view),
            SetValue::Plus(left, right) => {
                let (left, right) = (Made::of(left, view)?, Made::of(right, view)?);
                add(left.number()?, right.number()?).map(Made::Number)
            }
            SetValue::Minus(left, right) => {
                let (left, right) = (Made::of(left, view)?, Made::of(right, view)?);
                subtract(left.number()?, right.number()?).map(Made::Number)
            }
        }
    }
}

/// Stops where the item is larger than items can be.
fn check_size(builder: &Builder) -> Result<(), EvaluationError> {
    if builder.item_size() > ITEM_BYTES_MAX { Err(EvaluationError::Size) } else { Ok(()) }
}

/// What ADD leaves at its path.
fn added<'a>(old: Option<Node<'a>>, value: &'a Value) -> Result<Made<'a>, EvaluationError> {
    match (old, value.node()) {
        (None, new @ (Node::Number(_) | Node::List(_))) => Ok(Made::Node(new)),
        (None, new @ (Node::StringSet(_) | Node::NumberSet(_) | Node::BinarySet(_))) => Ok(Made::Node(new)),
        (Some(Node::Number(old)), Node::Number(new)) => add(old, new).map(Made::Number),
        (Some(Node::List(old)), Node::List(new)) => Ok(Made::Lists(vec![old, new])),
        (Some(Node::StringSet(old)), Node::StringSet(new)) => {
            let mut items: Vec<&str> = old.texts().chain(new.texts()).collect();
            items.sort_unstable();
            items.dedup();
            Ok(Made::Strings(items))
        }
        (Some(Node::BinarySet(old)), Node::BinarySet(new)) => {
            let mut items: Vec<&[u8]> = old.chain(new).collect();
            items.sort_unstable();
            items.dedup();
            Ok(Made::Binaries(items))
        }
        (Some(Node::NumberSet(old)), Node::NumberSet(new)) => {
            // Texts are canonical: equal numbers are equal bytes.
            let mut items: Vec<&[u8]> = old.chain(new).collect();
            items.sort_unstable();
            items.dedup();
            Ok(Made::Numbers(items))
        }
        _ => Err(EvaluationError::IncorrectType),
    }
}

/// What DELETE leaves at its path; none where no element is left.
fn deleted<'a>(old: Node<'a>, value: &'a Value) -> Result<Option<Made<'a>>, EvaluationError> {
    fn left<'a>(old: SetItems<'a>, gone: SetItems<'_>) -> Vec<&'a [u8]> {
        let mut gone: Vec<&[u8]> = gone.collect();
        gone.sort_unstable();
        old.filter(|item| gone.binary_search(item).is_err()).collect()
    }
    let (items, made): (Vec<&[u8]>, fn(Vec<&'a [u8]>) -> Made<'a>) = match (old, value.node()) {
        (Node::StringSet(old), Node::StringSet(gone)) => (left(old, gone), |items| {
            Made::Strings(items.into_iter().filter_map(|item| std::str::from_utf8(item).ok()).collect())
        }),
        (Node::NumberSet(old), Node::NumberSet(gone)) => (left(old, gone), Made::Numbers),
        (Node::BinarySet(old), Node::BinarySet(gone)) => (left(old, gone), Made::Binaries),
        _ => return Err(EvaluationError::IncorrectType),
    };
    Ok((!items.is_empty()).then(|| made(items)))
}

/// What changes in a value.
enum Edit<'a> {
    Put(Made<'a>),
    Remove,
    Map(BTreeMap<&'a str, Edit<'a>>),
    List(BTreeMap<u32, Edit<'a>>),
}

/// Puts an edit at the end of a path. Refuses what an update from text cannot have: an edit at a path that leads
/// through another.
fn place<'a>(edits: &mut BTreeMap<&'a str, Edit<'a>>, path: &'a Path, edit: Edit<'a>) -> Result<(), EvaluationError> {
    match path.steps.split_first() {
        None => vacant(edits.entry(&path.attribute), edit),
        Some((step, rest)) => {
            let inner = edits.entry(&path.attribute).or_insert_with(|| inside(step));
            place_inside(inner, step, rest, edit)
        }
    }
}

fn place_inside<'a>(
    parent: &mut Edit<'a>,
    step: &'a Step,
    rest: &'a [Step],
    edit: Edit<'a>,
) -> Result<(), EvaluationError> {
    match (parent, step, rest.split_first()) {
        (Edit::Map(edits), Step::Attribute(name), None) => vacant(edits.entry(name), edit),
        (Edit::List(edits), Step::Index(index), None) => vacant(edits.entry(*index), edit),
        (Edit::Map(edits), Step::Attribute(name), Some((next, rest))) => {
            place_inside(edits.entry(name).or_insert_with(|| inside(next)), next, rest, edit)
        }
        (Edit::List(edits), Step::Index(index), Some((next, rest))) => {
            place_inside(edits.entry(*index).or_insert_with(|| inside(next)), next, rest, edit)
        }
        _ => Err(EvaluationError::InvalidPath),
    }
}

fn inside<'a>(step: &Step) -> Edit<'a> {
    match step {
        Step::Attribute(_) => Edit::Map(BTreeMap::new()),
        Step::Index(_) => Edit::List(BTreeMap::new()),
    }
}

fn vacant<'a, K: Ord>(entry: Entry<'_, K, Edit<'a>>, edit: Edit<'a>) -> Result<(), EvaluationError> {
    match entry {
        Entry::Vacant(entry) => {
            entry.insert(edit);
            Ok(())
        }
        Entry::Occupied(_) => Err(EvaluationError::InvalidPath),
    }
}

/// Checks that the parent of a path is there and is what the path says.
fn check_parent(view: &ItemView<'_>, path: &Path) -> Result<(), EvaluationError> {
    let Some((last, before)) = path.steps.split_last() else { return Ok(()) };
    let parent = view.attribute(&path.attribute).and_then(|node| follow(node, before));
    match (parent, last) {
        (Some(Node::Map(_)), Step::Attribute(_)) | (Some(Node::List(_)), Step::Index(_)) => Ok(()),
        _ => Err(EvaluationError::InvalidPath),
    }
}

impl Update {
    /// The item after the update. All operands see the item as it was. Where there is no item, one with the changes is
    /// made.
    ///
    /// # Errors
    /// Where operands are missing or of wrong types, a parent of a path is missing, or a number or the item does not
    /// fit.
    pub fn apply(&self, view: &ItemView<'_>) -> Result<Updated, EvaluationError> {
        let mut edits = BTreeMap::new();
        for (path, value) in &self.sets {
            let made = Made::of_set(value, view)?;
            check_parent(view, path)?;
            place(&mut edits, path, Edit::Put(made))?;
        }
        for path in &self.removes {
            check_parent(view, path)?;
            place(&mut edits, path, Edit::Remove)?;
        }
        for (path, value) in &self.adds {
            check_parent(view, path)?;
            place(&mut edits, path, Edit::Put(added(view.at(path), value)?))?;
        }
        for (path, value) in &self.deletes {
            check_parent(view, path)?;
            if let Some(old) = view.at(path) {
                place(&mut edits, path, deleted(old, value)?.map_or(Edit::Remove, Edit::Put))?;
            }
        }
        for (name, _) in view.keys.entries() {
            edits.remove(name);
        }
        let room = view.item.map_or(0, |item| item.as_bytes().len());
        let mut builder = Builder::with_capacity(room + 64);
        let old = view.item.map(|item| item.entries()).into_iter().flatten();
        write_entries(&mut builder, old.filter(|(name, _)| view.keys.get(name).is_none()), edits)?;
        let touched = self.paths().into_iter().cloned().collect();
        Ok(Updated { document: builder.finish()?, touched })
    }
}

/// Writes entries as they are after these edits. Both are in the order of names.
fn write_entries<'a>(
    builder: &mut Builder,
    old: impl Iterator<Item = (&'a str, Node<'a>)>,
    mut edits: BTreeMap<&'a str, Edit<'a>>,
) -> Result<(), EvaluationError> {
    for (name, node) in old {
        while let Some(first) = edits.first_entry().filter(|first| first.key().as_bytes() < name.as_bytes()) {
            let (name, edit) = first.remove_entry();
            write_new(builder, Some(name), edit)?;
        }
        match edits.remove(name) {
            Some(Edit::Remove) => {}
            edit => {
                builder.name(name)?;
                write_edited(builder, node, edit)?;
            }
        }
    }
    edits.into_iter().try_for_each(|(name, edit)| write_new(builder, Some(name), edit))
}

/// Writes what was not there before.
fn write_new(builder: &mut Builder, name: Option<&str>, edit: Edit<'_>) -> Result<(), EvaluationError> {
    let Edit::Put(made) = edit else {
        // Removed, but was not there. A parent always is: that was checked.
        return Ok(());
    };
    if let Some(name) = name {
        builder.name(name)?;
    }
    made.write(builder)
}

/// Writes a value as it is after this edit, which does not remove it.
fn write_edited<'a>(builder: &mut Builder, node: Node<'a>, edit: Option<Edit<'a>>) -> Result<(), EvaluationError> {
    match (node, edit) {
        (Node::Map(entries), Some(Edit::Map(edits))) => {
            builder.open_map()?;
            write_entries(builder, entries, edits)?;
            Ok(builder.close_map()?)
        }
        (Node::List(nodes), Some(Edit::List(mut edits))) => {
            builder.open_list()?;
            for (index, node) in (0u32..).zip(nodes) {
                match edits.remove(&index) {
                    Some(Edit::Remove) => {}
                    edit => write_edited(builder, node, edit)?,
                }
            }
            edits.into_values().try_for_each(|edit| write_new(builder, None, edit))?;
            Ok(builder.close_list()?)
        }
        (_, Some(Edit::Put(made))) => made.write(builder),
        (node, None) => Ok(builder.node(node)?),
        _ => Err(EvaluationError::InvalidPath),
    }
}
