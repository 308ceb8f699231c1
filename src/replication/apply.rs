//! The state machine of one range: an item as it stands and an operation go in; an outcome and an
//! effect come out. Conditions are evaluated here and nowhere else, at the moment of applying, so
//! that every replica refuses and accepts the same writes.
//!
//! An item that an index of its table cannot hold is refused here too ([`evaluate_indexed`]), for only here is it known what an
//! update or a merge makes of the item. So an item with an index's attribute is always in that index, whoever wrote it.
//!
//! What the next author must keep: nothing in here may depend on anything but the arguments.

use crate::domain::document::Document;
use crate::domain::limits::ITEM_BYTES_MAX;
use crate::domain::local_index::{LocalIndex, bytes_with_entries};
use crate::domain::version::ItemVersion;
use crate::expression::EvaluationError;

use super::conditional;
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
        Change::Put(_) | Change::Delete if operation.conditional.is_none() => Needs::Version,
        _ => Needs::Document,
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
        _ if operation.conditional.is_some() => conditional::evaluate(version, operation, present),
        Change::Put(document) => {
            let outcome = if present.is_some() { Outcome::Updated(version) } else { Outcome::Created(version) };
            (outcome, Effect::Store(document.clone()))
        }
        Change::Delete => (Outcome::Deleted, Effect::Remove),
        Change::Merge(patch) => merge(version, operation, present.and_then(|item| item.document.as_ref()), patch),
        Change::Update(_) | Change::Remove => conditional::evaluate(version, operation, present),
    }
}

/// [`evaluate`], and a refusal of what would leave an item that an index of its table cannot hold.
///
/// It comes last: a write that is refused for another reason is refused for that one. It costs nothing where there are no
/// indexes.
pub fn evaluate_indexed(
    index: u64,
    operation: &Operation,
    present: Option<&Present>,
    indexes: &[LocalIndex],
) -> (Outcome, Effect) {
    let (outcome, effect) = evaluate(index, operation, present);
    let refused = match &effect {
        Effect::Store(document) => unindexable(operation, document, indexes),
        Effect::None | Effect::Remove => None,
    };
    match refused {
        Some(text) => (Outcome::Invalid(text), Effect::None),
        None => (outcome, effect),
    }
}

/// Why one of these indexes cannot hold what the item becomes, or all of them together cannot, in words for the client.
fn unindexable(operation: &Operation, document: &Document, indexes: &[LocalIndex]) -> Option<String> {
    let is_update = matches!(operation.change, Change::Update(_));
    let refused = |index: &LocalIndex| index.check(document).err().map(|why| index.refusal(&why, is_update));
    let is_too_large =
        || !indexes.is_empty() && bytes_with_entries(indexes, operation.key_bytes(), document) > ITEM_BYTES_MAX;
    let too_large = || {
        is_too_large().then(|| if is_update { EvaluationError::Size.to_string() } else { ITEM_TOO_LARGE.to_owned() })
    };
    indexes.iter().find_map(refused).or_else(too_large)
}

/// What is said of an item that is too large, by itself or with its entries, in the words of AWS.
pub const ITEM_TOO_LARGE: &str = "Item size has exceeded the maximum allowed size";

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
    use crate::domain::document::sample::of_text as document;
    use crate::domain::key::{KeyType, KeyValue, PackedKey};
    use crate::domain::limits::SORT_BYTES_MAX;
    use crate::domain::local_index::IndexProjection;
    use crate::expression::{Path, SetOperand, SetValue, Update, Value};
    use crate::replication::operation::{Conditional, Images};

    fn operation(change: Change) -> Operation {
        let key = PackedKey::new(&KeyValue::String("a".into()), None);
        let preconditions = Preconditions::default();
        Operation { key, change, preconditions, conditional: None, request: None, receipt: None }
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

    /// By a number `rank` and by a text `title`.
    fn indexes() -> [LocalIndex; 2] {
        [
            LocalIndex::of("by-rank", "rank", KeyType::Integer, IndexProjection::KeysOnly),
            LocalIndex::of("by-title", "title", KeyType::String, IndexProjection::KeysOnly),
        ]
    }

    fn set(name: &str, text: &str) -> Change {
        let value = Value::new(document(&format!(r#"{{"v":{text}}}"#)).get("v").unwrap()).unwrap();
        let path = Path { attribute: name.into(), steps: Vec::new() };
        let sets = vec![(path, SetValue::Operand(SetOperand::Value(value)))];
        Change::Update(Box::new(Update { sets, ..Update::default() }))
    }

    /// Why this change of that item is refused where there are indexes; where it is, it is done where there are none.
    fn refusal(change: Change, there: Option<&str>) -> Option<String> {
        let (operation, there) = (operation(change), there.map(|text| present(3, text)));
        let plain = evaluate(9, &operation, there.as_ref());
        assert_eq!(evaluate_indexed(9, &operation, there.as_ref(), &[]), plain);
        match evaluate_indexed(9, &operation, there.as_ref(), &indexes()) {
            (Outcome::Invalid(text), effect) => {
                assert_eq!(effect, Effect::None, "a refused item leaves everything as it was");
                assert!(matches!(plain.1, Effect::Store(_)), "{plain:?}");
                Some(text)
            }
            done => {
                assert_eq!(done, plain);
                None
            }
        }
    }

    #[test]
    fn what_every_index_can_hold_or_leave_out_is_stored() {
        for text in [r#"{"rank":1,"title":"x"}"#, r#"{"rank":-1.5}"#, r#"{"other":null}"#, "{}"] {
            assert_eq!(refusal(Change::Put(document(text)), None), None, "{text}");
            assert_eq!(refusal(Change::Merge(document(text)), Some(r#"{"rank":7,"title":"y"}"#)), None, "{text}");
        }
        assert_eq!(refusal(set("rank", "3"), None), None);
        assert_eq!(refusal(set("rank", "3"), Some(r#"{"rank":7}"#)), None);
        // A merge takes an attribute away that it gives as null: the item leaves the index.
        assert_eq!(refusal(Change::Merge(document(r#"{"rank":null}"#)), Some(r#"{"rank":7}"#)), None);
        assert_eq!(refusal(Change::Delete, Some(r#"{"rank":7}"#)), None);
        assert_eq!(refusal(Change::Remove, None), None);
        let longest = format!(r#"{{"title":"{}"}}"#, "x".repeat(SORT_BYTES_MAX));
        assert_eq!(refusal(Change::Put(document(&longest)), None), None);
    }

    #[test]
    fn a_put_or_merge_that_an_index_cannot_hold_names_the_index() {
        let wrong = "One or more parameter values were invalid: Type mismatch for Index Key rank Expected: N Actual: S \
                     IndexName: by-rank";
        let text = r#"{"rank":"1","title":"x"}"#;
        assert_eq!(refusal(Change::Put(document(text)), None).as_deref(), Some(wrong));
        assert_eq!(refusal(Change::Merge(document(text)), Some("{}")).as_deref(), Some(wrong));
        let empty = refusal(Change::Put(document(r#"{"rank":1,"title":""}"#)), Some(r#"{"rank":1}"#)).unwrap();
        assert!(
            empty.ends_with("cannot contain an empty string value. IndexName: by-title, IndexKey: title"),
            "{empty}"
        );
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(SORT_BYTES_MAX + 1));
        let long = refusal(Change::Put(document(&long)), None).unwrap();
        assert!(
            long.ends_with("Aggregated size of all range keys has exceeded the size limit of 1024 bytes"),
            "{long}"
        );
    }

    #[test]
    fn an_update_that_an_index_cannot_hold_is_told_in_words_of_its_own() {
        let wrong = "The update expression attempted to update the secondary index key to unsupported type";
        for there in [None, Some("{}"), Some(r#"{"rank":7}"#)] {
            assert_eq!(refusal(set("rank", r#""x""#), there).as_deref(), Some(wrong), "{there:?}");
        }
        assert_eq!(refusal(set("rank", "null"), Some(r#"{"rank":7}"#)).as_deref(), Some(wrong));
        let empty = refusal(set("title", r#""""#), Some("{}")).unwrap();
        assert!(empty.ends_with("cannot contain an empty string value."), "{empty}");
    }

    #[test]
    fn an_item_with_its_entries_may_be_as_large_as_items_may_be() {
        // The key's packed bytes, name and value of `a`, and once more for the index that shows all: with the rank in both.
        let all = LocalIndex::of("by-rank", "rank", KeyType::Integer, IndexProjection::All);
        let text = |bytes: usize| format!(r#"{{"a":"{}","rank":1}}"#, "x".repeat(bytes));
        let key_bytes = operation(Change::Remove).key.len();
        let fitting = ITEM_BYTES_MAX / 2 - key_bytes - document(&text(0)).item_size();
        let put = |bytes: usize| {
            evaluate_indexed(9, &operation(Change::Put(document(&text(bytes)))), None, std::slice::from_ref(&all))
        };
        assert!(matches!(put(fitting), (Outcome::Created(_), Effect::Store(_))));
        assert_eq!(put(fitting + 1), (Outcome::Invalid(ITEM_TOO_LARGE.to_owned()), Effect::None));
        // What is not in the index counts once.
        let other = document(&format!(r#"{{"a":"{}"}}"#, "x".repeat(fitting + 1)));
        let (outcome, _) = evaluate_indexed(9, &operation(Change::Put(other)), None, std::slice::from_ref(&all));
        assert!(matches!(outcome, Outcome::Created(_)));
        let there = present(3, r#"{"rank":1}"#);
        let update = operation(set("a", &format!(r#""{}""#, "x".repeat(fitting + 1))));
        let (outcome, _) = evaluate_indexed(9, &update, Some(&there), std::slice::from_ref(&all));
        assert_eq!(outcome, Outcome::Invalid(EvaluationError::Size.to_string()));
    }

    #[test]
    fn what_is_refused_for_another_reason_is_refused_for_that_one() {
        let wrong = || Change::Put(document(r#"{"rank":"x"}"#));
        let mut put = operation(wrong());
        put.preconditions.if_none_match = Some(TagCondition::Any);
        let (outcome, effect) = evaluate_indexed(9, &put, Some(&present(3, "{}")), &indexes());
        assert_eq!((outcome, effect), (Outcome::PreconditionFailed, Effect::None));
        let merge = operation(Change::Merge(document(r#"{"rank":"x"}"#)));
        assert_eq!(evaluate_indexed(9, &merge, None, &indexes()), (Outcome::NotFound, Effect::None));
    }

    #[test]
    fn a_refused_write_tells_nothing_of_the_item() {
        let mut put = operation(Change::Put(document(r#"{"rank":"x"}"#)));
        let images = Images { before: true, after: true, ..Images::default() };
        let (condition, keys) = (None, document(r#"{"id":"a"}"#));
        put.conditional = Some(Box::new(Conditional { condition, keys, images, key_bytes: 3 }));
        let (outcome, effect) = evaluate_indexed(9, &put, Some(&present(3, r#"{"rank":1}"#)), &indexes());
        assert!(matches!(outcome, Outcome::Invalid(_)), "{outcome:?}");
        assert!(!outcome.has_changed() && !outcome.has_created());
        assert_eq!(effect, Effect::None);
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
