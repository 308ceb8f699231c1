//! The state machine of one range: an item as it stands and an operation go in; an outcome and an
//! effect come out. Conditions are evaluated here and nowhere else, at the moment of applying, so
//! that every replica refuses and accepts the same writes.
//!
//! What the next author must keep: nothing in here may depend on anything but the arguments.

use crate::domain::document::Document;
use crate::domain::limits::ITEM_BYTES_MAX;
use crate::domain::version::ItemVersion;

use super::operation::{Change, Operation, Outcome, Preconditions, TagCondition};

/// What becomes of the stored item.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Nothing changes.
    None,
    /// The item becomes this document, in the version of the entry's index.
    Store(Document),
    /// The item goes.
    Remove,
}

/// How much of the present item an operation needs to be evaluated: reading a version costs less
/// than reading a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Whether it is there, and its version.
    Version,
    /// The document itself.
    Document,
}

/// What [`evaluate`] must be given for this operation.
pub fn needs(operation: &Operation) -> Needs {
    match operation.change {
        Change::Merge(_) => Needs::Document,
        Change::Put(_) | Change::Delete => Needs::Version,
    }
}

/// The item as it stands before the operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Present {
    /// Its version.
    pub version: ItemVersion,
    /// The document, where [`needs`] asked for it.
    pub document: Option<Document>,
}

/// Evaluates `operation`, whose entry has `index`, against the item as it stands.
///
/// `present` must hold the document where [`needs`] says so; a merge without it is a bug of the
/// caller and refused as invalid, never guessed.
pub fn evaluate(index: u64, operation: &Operation, present: Option<&Present>) -> (Outcome, Effect) {
    if matches!(operation.change, Change::Merge(_) | Change::Delete) && present.is_none() {
        let outcome =
            if operation.preconditions.if_match.is_some() { Outcome::PreconditionFailed } else { Outcome::NotFound };
        return (outcome, Effect::None);
    }
    if !holds(&operation.preconditions, present.map(|item| item.version)) {
        return (Outcome::PreconditionFailed, Effect::None);
    }
    let version = ItemVersion(index);
    match &operation.change {
        Change::Put(document) => {
            let outcome = if present.is_some() { Outcome::Updated(version) } else { Outcome::Created(version) };
            (outcome, Effect::Store(document.clone()))
        }
        Change::Delete => (Outcome::Deleted, Effect::Remove),
        Change::Merge(patch) => merge(version, operation, present.and_then(|item| item.document.as_ref()), patch),
    }
}

fn merge(version: ItemVersion, operation: &Operation, base: Option<&Document>, patch: &Document) -> (Outcome, Effect) {
    let Some(base) = base else {
        return (Outcome::Invalid("the item to merge into was not read".to_owned()), Effect::None);
    };
    match base.merge_patch(patch) {
        Err(refusal) => (Outcome::Invalid(refusal.message), Effect::None),
        Ok(merged) if merged.item_size() + operation.key.len() > ITEM_BYTES_MAX => (
            Outcome::Invalid(format!(
                "the merged item would be larger than {ITEM_BYTES_MAX} bytes; store less in one item"
            )),
            Effect::None,
        ),
        Ok(merged) => (Outcome::Updated(version), Effect::Store(merged)),
    }
}

/// Whether the preconditions hold for an item of this version (none: no item).
///
/// Source: RFC 9110 §13.1.1 and §13.1.2.
pub fn holds(preconditions: &Preconditions, version: Option<ItemVersion>) -> bool {
    let names = |condition: &TagCondition| match (condition, version) {
        (_, None) => false,
        (TagCondition::Any, Some(_)) => true,
        (TagCondition::Versions(versions), Some(version)) => versions.contains(&version),
    };
    preconditions.if_match.as_ref().is_none_or(names) && !preconditions.if_none_match.as_ref().is_some_and(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::{KeyValue, PackedKey};

    fn operation(change: Change) -> Operation {
        let key = PackedKey::new(&KeyValue::String("a".into()), None);
        Operation { key, change, preconditions: Preconditions::default(), request: None, receipt: None }
    }

    fn document(text: &str) -> Document {
        Document::from_json(text.as_bytes()).unwrap()
    }

    fn present(version: u64, text: &str) -> Present {
        Present { version: ItemVersion(version), document: Some(document(text)) }
    }

    #[test]
    fn a_put_creates_and_then_replaces() {
        let put = operation(Change::Put(document(r#"{"a":1}"#)));
        assert_eq!(evaluate(7, &put, None).0, Outcome::Created(ItemVersion(7)));
        let (outcome, effect) = evaluate(8, &put, Some(&present(7, "{}")));
        assert_eq!(outcome, Outcome::Updated(ItemVersion(8)));
        assert_eq!(effect, Effect::Store(document(r#"{"a":1}"#)));
    }

    #[test]
    fn a_merge_needs_an_item_and_keeps_what_it_does_not_name() {
        let merge = operation(Change::Merge(document(r#"{"a":null,"b":2}"#)));
        assert_eq!(needs(&merge), Needs::Document);
        assert_eq!(evaluate(7, &merge, None), (Outcome::NotFound, Effect::None));
        let (outcome, effect) = evaluate(9, &merge, Some(&present(3, r#"{"a":1,"c":3}"#)));
        assert_eq!(outcome, Outcome::Updated(ItemVersion(9)));
        assert_eq!(effect, Effect::Store(document(r#"{"b":2,"c":3}"#)));
    }

    #[test]
    fn a_merge_past_the_item_limit_changes_nothing() {
        let long = format!(r#"{{"b":"{}"}}"#, "x".repeat(300 * 1024));
        let base = format!(r#"{{"a":"{}"}}"#, "x".repeat(200 * 1024));
        let (outcome, effect) = evaluate(9, &operation(Change::Merge(document(&long))), Some(&present(3, &base)));
        assert!(matches!(outcome, Outcome::Invalid(_)), "{outcome:?}");
        assert_eq!(effect, Effect::None);
    }

    #[test]
    fn a_delete_of_nothing_says_so() {
        assert_eq!(evaluate(7, &operation(Change::Delete), None), (Outcome::NotFound, Effect::None));
        assert_eq!(
            evaluate(7, &operation(Change::Delete), Some(&present(3, "{}"))),
            (Outcome::Deleted, Effect::Remove)
        );
    }

    #[test]
    fn preconditions_follow_rfc_9110() {
        let versions = |number| Some(TagCondition::Versions(vec![ItemVersion(number)]));
        let check = |if_match, if_none_match, version: Option<u64>| {
            holds(&Preconditions { if_match, if_none_match }, version.map(ItemVersion))
        };
        assert!(check(None, None, None));
        assert!(check(Some(TagCondition::Any), None, Some(1)));
        assert!(!check(Some(TagCondition::Any), None, None));
        assert!(check(versions(1), None, Some(1)));
        assert!(!check(versions(1), None, Some(2)));
        assert!(check(None, Some(TagCondition::Any), None));
        assert!(!check(None, Some(TagCondition::Any), Some(1)));
        assert!(check(None, versions(1), Some(2)));
        assert!(!check(None, versions(2), Some(2)));
    }
}
