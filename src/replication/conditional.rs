//! Writes that ask what only the item as it stands can tell: conditions, updates by expressions, and images of the
//! item before and after.
//!
//! They are evaluated where every other write is, when their entry is applied, and by the same rule: what comes out depends on the
//! item and the operation alone. The key's attributes are no part of what is stored; they come with the operation
//! and expressions see them in the item's place.
//!
//! An expression that makes no sense for the item (a sum of what is no number) is a refusal like any other: applied, final and
//! remembered.

use crate::domain::document::Document;
use crate::domain::limits::ITEM_BYTES_MAX;
use crate::domain::version::ItemVersion;
use crate::expression::{EvaluationError, ItemView, Path, changed_only};

use super::apply::{Effect, Present};
use super::operation::{Change, Changed, ConditionFailed, Images, Operation, Outcome};

/// Evaluates a write with a conditional, an update or a removal. `present` must hold the document, where there is an item;
/// without it is a bug of the caller and refused as invalid, never guessed.
pub(super) fn evaluate(version: ItemVersion, operation: &Operation, present: Option<&Present>) -> (Outcome, Effect) {
    let before = match present {
        Some(Present { document: Some(document), .. }) => Some(document),
        Some(Present { document: None, .. }) => {
            return (Outcome::Invalid("the item to look at was not read".to_owned()), Effect::None);
        }
        None => None,
    };
    let no_keys = Document::empty();
    let (condition, keys, images) = match &operation.conditional {
        Some(conditional) => (conditional.condition.as_ref(), &conditional.keys, conditional.images),
        None => (None, &no_keys, Images::default()),
    };
    let view = ItemView { item: before, keys };
    let bytes = |item: Option<&Document>| item.map_or(0, |document| size(operation, document) as u32);
    match condition.map_or(Ok(true), |condition| condition.holds(&view)) {
        Ok(true) => {}
        Ok(false) => {
            let image = before.filter(|_| images.before_on_failure).cloned();
            let failed = ConditionFailed { before: image, before_bytes: bytes(before) };
            return (Outcome::ConditionFailed(Box::new(failed)), Effect::None);
        }
        Err(error) => return (Outcome::Invalid(error.to_string()), Effect::None),
    }
    let after = match changed(operation, &view) {
        Ok(after) => after,
        Err(message) => return (Outcome::Invalid(message), Effect::None),
    };
    let touched = match &operation.change {
        Change::Update(update) if images.touched_only => Some(update.paths()),
        _ => None,
    };
    let told_of = |document: &Document| image(document, touched.as_deref());
    let told = Changed {
        version: after.as_ref().map(|_| version),
        existed: before.is_some(),
        before: before.filter(|_| images.before).map(told_of),
        after: after.as_ref().filter(|_| images.after).map(told_of),
        before_bytes: bytes(before),
        after_bytes: bytes(after.as_ref()),
    };
    let effect = match after {
        Some(document) => Effect::Store(document),
        None if before.is_some() => Effect::Remove,
        None => Effect::None,
    };
    (Outcome::Changed(Box::new(told)), effect)
}

/// What is told of an item: all of it, or what these paths name.
fn image(document: &Document, touched: Option<&[&Path]>) -> Document {
    match touched {
        Some(touched) => changed_only(document, touched.iter().copied()),
        None => document.clone(),
    }
}

/// The item's size with its key.
fn size(operation: &Operation, document: &Document) -> usize {
    document.item_size() + operation.key_bytes()
}

/// What the item becomes; none: it goes, or there is none. The error is in words for the client.
fn changed(operation: &Operation, view: &ItemView<'_>) -> Result<Option<Document>, String> {
    let document = match &operation.change {
        // Its size was looked at before it was taken.
        Change::Put(document) => return Ok(Some(document.clone())),
        Change::Delete | Change::Remove => return Ok(None),
        Change::Update(update) => {
            let updated = update.apply(view).map_err(|error| error.to_string())?.document;
            // Where there is nothing, taking something away makes nothing.
            if view.item.is_none() && update.only_takes_away() {
                return Ok(None);
            }
            updated
        }
        Change::Merge(patch) => match view.item {
            Some(base) => base.merge_patch(patch).map_err(|refusal| refusal.message)?,
            None => return Err("there is no item to merge into".to_owned()),
        },
    };
    if size(operation, &document) > ITEM_BYTES_MAX {
        return Err(EvaluationError::Size.to_string());
    }
    Ok(Some(document))
}

#[cfg(test)]
mod tests;
