//! What makes no difference to anybody. A number that no read shows may as well be any other such number, so they all become one;
//! then many configurations of the search are the same, and many operations without an answer are alike.
//!
//! It changes no verdict: a document with such a number equals no document that was read, before and after.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Action, Answer, Condition, Document, NEVER, Operation, Patch};

/// The operations, with all numbers that no read shows made the same.
pub(crate) fn without_unread(operations: &[&Operation]) -> Vec<Operation> {
    let mut read: BTreeSet<u64> = BTreeSet::new();
    for operation in operations {
        if let Answer::Item(Some(item)) = &operation.answer {
            read.extend(item.document.0.values());
        }
    }
    let Some(unread) = (0..u64::MAX).rev().find(|number| !read.contains(number)) else {
        return operations.iter().map(|operation| (*operation).clone()).collect();
    };
    let shown = |number: u64| if read.contains(&number) { number } else { unread };
    let plain = |operation: &&Operation| {
        let action = match &operation.action {
            Action::Put(document) => {
                Action::Put(Document(document.0.iter().map(|(name, number)| (name.clone(), shown(*number))).collect()))
            }
            Action::Merge(patch) => {
                Action::Merge(Patch(patch.0.iter().map(|(name, number)| (name.clone(), number.map(shown))).collect()))
            }
            other => other.clone(),
        };
        Operation { action, ..(*operation).clone() }
    };
    operations.iter().map(plain).collect()
}

/// For each of these operations without an answer the kind that it is of. Those with a last moment are of a kind of their own.
pub(crate) fn kinds(operations: &[Operation], optional: &[usize]) -> Vec<usize> {
    let mut known: BTreeMap<(&Action, Condition), usize> = BTreeMap::new();
    optional
        .iter()
        .enumerate()
        .map(|(number, index)| {
            let operation = &operations[*index];
            match operation.answered {
                NEVER => *known.entry((&operation.action, operation.condition)).or_insert(number),
                _ => number,
            }
        })
        .collect()
}
