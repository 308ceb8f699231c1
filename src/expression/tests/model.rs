//! A naive model: items as trees, paths followed by hand, lists changed in place.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::trees::number;
use crate::domain::document::sample::{Map, Tree};

pub(super) fn find<'t>(item: &'t Map, path: &Path) -> Option<&'t Tree> {
    let mut tree = item.get(&*path.attribute)?;
    for step in &path.steps {
        tree = match (tree, step) {
            (Tree::Map(map), Step::Attribute(name)) => map.get(&**name)?,
            (Tree::List(list), Step::Index(index)) => list.get(*index as usize)?,
            _ => return None,
        };
    }
    Some(tree)
}

fn model_size(tree: &Tree) -> Option<usize> {
    Some(match tree {
        Tree::String(text) => text.len(),
        Tree::Binary(bytes) => bytes.len(),
        Tree::List(list) => list.len(),
        Tree::Map(map) => map.len(),
        Tree::StringSet(set) => set.len(),
        Tree::NumberSet(set) => set.len(),
        Tree::BinarySet(set) => set.len(),
        Tree::Null | Tree::Boolean(_) | Tree::Number(..) => return None,
    })
}

fn see(item: &Map, operand: &Operand) -> Option<Tree> {
    match operand {
        Operand::Path(path) => find(item, path).cloned(),
        Operand::Value(value) => Some(Tree::of(value.node())),
        Operand::Size(path) => find(item, path).and_then(model_size).map(|size| number(size as i64)),
    }
}

fn below(left: &Tree, right: &Tree) -> Option<bool> {
    match (left, right) {
        (Tree::Number(left, _), Tree::Number(right, _)) => {
            Some(left.parse::<i64>().unwrap() < right.parse::<i64>().unwrap())
        }
        (Tree::String(left), Tree::String(right)) => Some(left < right),
        (Tree::Binary(left), Tree::Binary(right)) => Some(left < right),
        _ => None,
    }
}

fn compared(left: &Option<Tree>, comparison: Comparison, right: &Option<Tree>) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return comparison == Comparison::NotEqual };
    let (lower, higher) = (below(left, right), below(right, left));
    match comparison {
        Comparison::Equal => left == right,
        Comparison::NotEqual => left != right,
        Comparison::Less => lower == Some(true),
        Comparison::Greater => higher == Some(true),
        Comparison::LessOrEqual => higher == Some(false),
        Comparison::GreaterOrEqual => lower == Some(false),
    }
}

fn model_contains(whole: &Tree, part: &Tree) -> bool {
    match (whole, part) {
        (Tree::List(list), part) => list.contains(part),
        (Tree::String(whole), Tree::String(part)) => whole.contains(part.as_str()),
        (Tree::Binary(whole), Tree::Binary(part)) => {
            part.is_empty() || whole.windows(part.len()).any(|window| window == part.as_slice())
        }
        (Tree::StringSet(set), Tree::String(part)) => set.contains(part),
        (Tree::NumberSet(set), Tree::Number(part, _)) => set.contains(&part.parse().unwrap()),
        (Tree::BinarySet(set), Tree::Binary(part)) => set.contains(part),
        _ => false,
    }
}

pub(super) fn model_holds(item: &Map, condition: &Condition) -> bool {
    let see = |operand| see(item, operand);
    match condition {
        Condition::And(all) => all.iter().all(|condition| model_holds(item, condition)),
        Condition::Or(any) => any.iter().any(|condition| model_holds(item, condition)),
        Condition::Not(condition) => !model_holds(item, condition),
        Condition::Compare(left, comparison, right) => compared(&see(left), *comparison, &see(right)),
        Condition::Between(value, low, high) => {
            compared(&see(low), Comparison::LessOrEqual, &see(value))
                && compared(&see(value), Comparison::LessOrEqual, &see(high))
        }
        Condition::In(value, list) => list.iter().any(|one| compared(&see(value), Comparison::Equal, &see(one))),
        Condition::Exists(path) => find(item, path).is_some(),
        Condition::NotExists(path) => find(item, path).is_none(),
        Condition::Type(operand, kind) => {
            let names = |tree: Tree| match tree {
                Tree::Null => "NULL",
                Tree::Boolean(_) => "BOOL",
                Tree::Number(..) => "N",
                Tree::String(_) => "S",
                Tree::Binary(_) => "B",
                Tree::List(_) => "L",
                Tree::Map(_) => "M",
                Tree::StringSet(_) => "SS",
                Tree::NumberSet(_) => "NS",
                Tree::BinarySet(_) => "BS",
            };
            see(operand).map(names) == Some(kind.name())
        }
        Condition::BeginsWith(left, right) => match (see(left), see(right)) {
            (Some(Tree::String(left)), Some(Tree::String(right))) => left.starts_with(&right),
            (Some(Tree::Binary(left)), Some(Tree::Binary(right))) => left.starts_with(&right),
            _ => false,
        },
        Condition::Contains(left, right) => match (see(left), see(right)) {
            (Some(left), Some(right)) => model_contains(&left, &right),
            _ => false,
        },
    }
}

fn model_operand(item: &Map, operand: &SetOperand) -> Option<Tree> {
    match operand {
        SetOperand::Path(path) => find(item, path).cloned(),
        SetOperand::Value(value) => Some(Tree::of(value.node())),
        SetOperand::IfNotExists(path, otherwise) => {
            find(item, path).cloned().or_else(|| model_operand(item, otherwise))
        }
        SetOperand::ListAppend(first, second) => match (model_operand(item, first)?, model_operand(item, second)?) {
            (Tree::List(first), Tree::List(second)) => Some(Tree::List([first, second].concat())),
            _ => None,
        },
    }
}

fn model_sum(item: &Map, left: &SetOperand, right: &SetOperand, sign: i64) -> Option<Tree> {
    match (model_operand(item, left)?, model_operand(item, right)?) {
        (Tree::Number(left, _), Tree::Number(right, _)) => {
            Some(number(left.parse::<i64>().unwrap() + sign * right.parse::<i64>().unwrap()))
        }
        _ => None,
    }
}

fn model_added(old: Option<&Tree>, new: Tree) -> Option<Tree> {
    Some(match (old, new) {
        (
            None,
            new @ (Tree::Number(..) | Tree::List(_) | Tree::StringSet(_) | Tree::NumberSet(_) | Tree::BinarySet(_)),
        ) => new,
        (Some(Tree::Number(old, _)), Tree::Number(new, _)) => {
            number(old.parse::<i64>().unwrap() + new.parse::<i64>().unwrap())
        }
        (Some(Tree::List(old)), Tree::List(new)) => Tree::List([old.clone(), new].concat()),
        (Some(Tree::StringSet(old)), Tree::StringSet(new)) => Tree::StringSet(old | &new),
        (Some(Tree::NumberSet(old)), Tree::NumberSet(new)) => Tree::NumberSet(old | &new),
        (Some(Tree::BinarySet(old)), Tree::BinarySet(new)) => Tree::BinarySet(old | &new),
        _ => return None,
    })
}

/// What is left of a set; the inner none where that is nothing.
fn model_deleted(old: &Tree, gone: &Tree) -> Option<Option<Tree>> {
    fn kept<T: Ord + Clone>(set: BTreeSet<T>, tree: fn(BTreeSet<T>) -> Tree) -> Option<Tree> {
        (!set.is_empty()).then(|| tree(set))
    }
    match (old, gone) {
        (Tree::StringSet(old), Tree::StringSet(gone)) => Some(kept(old - gone, Tree::StringSet)),
        (Tree::NumberSet(old), Tree::NumberSet(gone)) => Some(kept(old - gone, Tree::NumberSet)),
        (Tree::BinarySet(old), Tree::BinarySet(gone)) => Some(kept(old - gone, Tree::BinarySet)),
        _ => None,
    }
}

/// The value whose element or entry the last step of a path is.
fn parent<'t>(item: &'t mut Map, path: &Path) -> Option<&'t mut Tree> {
    let (_, before) = path.steps.split_last()?;
    let mut tree = item.get_mut(&*path.attribute)?;
    for step in before {
        tree = match (tree, step) {
            (Tree::Map(map), Step::Attribute(name)) => map.get_mut(&**name)?,
            (Tree::List(list), Step::Index(index)) => list.get_mut(*index as usize)?,
            _ => return None,
        };
    }
    Some(tree)
}

/// Puts a value: replaces, or goes to the end of its list.
fn put(item: &mut Map, path: &Path, value: Tree) -> Option<()> {
    let Some(last) = path.steps.last() else {
        item.insert(path.attribute.to_string(), value);
        return Some(());
    };
    match (parent(item, path)?, last) {
        (Tree::Map(map), Step::Attribute(name)) => {
            map.insert(name.to_string(), value);
        }
        (Tree::List(list), Step::Index(index)) => match list.get_mut(*index as usize) {
            Some(place) => *place = value,
            None => list.push(value),
        },
        _ => return None,
    }
    Some(())
}

fn remove(item: &mut Map, path: &Path) -> Option<()> {
    let Some(last) = path.steps.last() else {
        item.remove(&*path.attribute);
        return Some(());
    };
    match (parent(item, path)?, last) {
        (Tree::Map(map), Step::Attribute(name)) => {
            map.remove(&**name);
        }
        (Tree::List(list), Step::Index(index)) => {
            if (*index as usize) < list.len() {
                list.remove(*index as usize);
            }
        }
        _ => return None,
    }
    Some(())
}

/// The item afterwards; none for whatever error. Puts come in the order of their paths, so that elements beyond the end
/// do too; what goes goes at last and backwards, so that no index moves before its turn.
pub(super) fn model_apply(item: &Map, update: &Update) -> Option<Map> {
    let mut puts: BTreeMap<Path, Tree> = BTreeMap::new();
    let mut gone: BTreeSet<Path> = BTreeSet::new();
    for (path, value) in &update.sets {
        let tree = match value {
            SetValue::Operand(operand) => model_operand(item, operand)?,
            SetValue::Plus(left, right) => model_sum(item, left, right, 1)?,
            SetValue::Minus(left, right) => model_sum(item, left, right, -1)?,
        };
        puts.insert(path.clone(), tree);
    }
    for path in &update.removes {
        gone.insert(path.clone());
    }
    for (path, value) in &update.adds {
        puts.insert(path.clone(), model_added(find(item, path), Tree::of(value.node()))?);
    }
    for (path, value) in &update.deletes {
        if let Some(old) = find(item, path) {
            match model_deleted(old, &Tree::of(value.node()))? {
                Some(left) => puts.insert(path.clone(), left).map_or((), |_| ()),
                None => {
                    gone.insert(path.clone());
                }
            }
        } else {
            remove(&mut item.clone(), path)?;
        }
    }
    let mut after = item.clone();
    for (path, tree) in puts {
        put(&mut after, &path, tree)?;
    }
    for path in gone.iter().rev() {
        // What was not there before must not take what came in its place: only its parent is asked for.
        let mut copy = item.clone();
        remove(if find(item, path).is_some() { &mut after } else { &mut copy }, path)?;
    }
    Some(after)
}
