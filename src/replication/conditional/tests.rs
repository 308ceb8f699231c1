//! What comes out of writes that ask, item by item.

use super::*;
use crate::domain::document::sample::of_text as document;
use crate::domain::key::{KeyValue, PackedKey};
use crate::expression::{Comparison, Condition, Operand, Path, SetOperand, SetValue, Update, Value};
use crate::replication::apply::{Needs, evaluate as apply, needs};
use crate::replication::operation::{Conditional, Preconditions, TagCondition};
use proptest::prelude::*;

fn path(name: &str) -> Path {
    Path { attribute: name.into(), steps: Vec::new() }
}

/// The value of the attribute `v`.
fn value(text: &str) -> Value {
    Value::new(document(text).get("v").unwrap()).unwrap()
}

fn add(number: i64) -> Change {
    let adds = vec![(path("n"), value(&format!(r#"{{"v":{number}}}"#)))];
    Change::Update(Box::new(Update { adds, ..Update::default() }))
}

fn set(name: &str, text: &str) -> Change {
    let sets = vec![(path(name), SetValue::Operand(SetOperand::Value(value(text))))];
    Change::Update(Box::new(Update { sets, ..Update::default() }))
}

const ALL: Images = Images { before: true, after: true, before_on_failure: true, touched_only: false };

fn operation(change: Change, condition: Option<Condition>, images: Images) -> Operation {
    let conditional = Conditional { condition, keys: document(r#"{"id":"a"}"#), images, key_bytes: 3 };
    Operation {
        key: PackedKey::new(&KeyValue::String("a".into()), None),
        change,
        preconditions: Preconditions::default(),
        conditional: Some(Box::new(conditional)),
        request: None,
        receipt: None,
    }
}

fn present(text: &str) -> Present {
    Present { version: ItemVersion(3), document: Some(document(text)) }
}

fn changed(outcome: Outcome) -> Changed {
    match outcome {
        Outcome::Changed(changed) => *changed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_counter_begins_where_nothing_is_and_tells_what_it_became() {
    let count = operation(add(5), None, Images { after: true, ..Images::default() });
    assert_eq!(needs(&count), Needs::Document);
    let (outcome, effect) = apply(7, &count, None);
    let first = Changed {
        version: Some(ItemVersion(7)),
        existed: false,
        before: None,
        after: Some(document(r#"{"n":5}"#)),
        before_bytes: 0,
        after_bytes: 6,
    };
    assert_eq!((changed(outcome), effect), (first, Effect::Store(document(r#"{"n":5}"#))));
    let (outcome, effect) = apply(8, &count, Some(&present(r#"{"n":5,"other":true}"#)));
    let second = changed(outcome);
    assert_eq!((second.version, second.existed, second.before), (Some(ItemVersion(8)), true, None));
    assert_eq!(second.after, Some(document(r#"{"n":10,"other":true}"#)));
    assert_eq!(effect, Effect::Store(document(r#"{"n":10,"other":true}"#)));
}

#[test]
fn of_an_update_only_what_it_touches_can_be_told() {
    let images = Images { before: true, after: true, touched_only: true, ..Images::default() };
    let (outcome, effect) = apply(8, &operation(add(5), None, images), Some(&present(r#"{"n":5,"other":true}"#)));
    let told = changed(outcome);
    assert_eq!((told.before, told.after), (Some(document(r#"{"n":5}"#)), Some(document(r#"{"n":10}"#))));
    assert_eq!(effect, Effect::Store(document(r#"{"n":10,"other":true}"#)), "all of it is kept");
    let (outcome, _) = apply(8, &operation(Change::Put(document(r#"{"x":1}"#)), None, images), None);
    assert_eq!(changed(outcome).after, Some(document(r#"{"x":1}"#)), "a put touches all");
}

#[test]
fn a_condition_that_does_not_hold_changes_nothing_and_tells_what_is_there() {
    let only_new = Some(Condition::NotExists(path("id")));
    let put = operation(Change::Put(document(r#"{"x":1}"#)), only_new, ALL);
    let (outcome, effect) = apply(7, &put, None);
    assert!(outcome.has_created() && effect == Effect::Store(document(r#"{"x":1}"#)));
    let (outcome, effect) = apply(8, &put, Some(&present(r#"{"x":2}"#)));
    let failed = ConditionFailed { before: Some(document(r#"{"x":2}"#)), before_bytes: 6 };
    assert_eq!((outcome.item_bytes(), outcome.has_changed()), (Some(6), false));
    assert_eq!((outcome, effect), (Outcome::ConditionFailed(Box::new(failed)), Effect::None));

    let must_be =
        Some(Condition::Compare(Operand::Path(path("x")), Comparison::Equal, Operand::Value(value(r#"{"v":2}"#))));
    let remove = operation(Change::Remove, must_be, Images::default());
    let nothing = ConditionFailed { before: None, before_bytes: 0 };
    assert_eq!(apply(8, &remove, None), (Outcome::ConditionFailed(Box::new(nothing)), Effect::None));
    let untold = ConditionFailed { before: None, before_bytes: 6 };
    assert_eq!(apply(8, &remove, Some(&present(r#"{"x":3}"#))).0, Outcome::ConditionFailed(Box::new(untold)));
    assert_eq!(apply(8, &remove, Some(&present(r#"{"x":2}"#))).1, Effect::Remove);
}

#[test]
fn a_removal_of_nothing_is_no_refusal() {
    for images in [Images::default(), ALL] {
        let (outcome, effect) = apply(7, &operation(Change::Remove, None, images), None);
        assert!(!outcome.has_changed() && effect == Effect::None);
        let told = changed(outcome);
        assert_eq!((told.version, told.existed, told.before, told.after_bytes), (None, false, None, 0));
    }
    let (outcome, effect) = apply(7, &operation(Change::Remove, None, ALL), Some(&present(r#"{"x":1}"#)));
    assert!(outcome.has_changed() && effect == Effect::Remove);
    let told = changed(outcome);
    assert_eq!((told.version, told.existed, told.after), (None, true, None));
    assert_eq!((told.before, told.before_bytes, told.after_bytes), (Some(document(r#"{"x":1}"#)), 6, 0));
    // Without anything asked beside, too.
    let plain = Operation { conditional: None, ..operation(Change::Remove, None, ALL) };
    assert!(matches!(apply(7, &plain, None), (Outcome::Changed(_), Effect::None)));
}

#[test]
fn what_makes_no_sense_for_the_item_is_refused_in_words() {
    let (outcome, effect) = apply(7, &operation(add(1), None, ALL), Some(&present(r#"{"n":"text"}"#)));
    let text = EvaluationError::IncorrectType.to_string();
    assert_eq!((outcome, effect), (Outcome::Invalid(text), Effect::None));
}

#[test]
fn an_item_may_be_as_large_as_items_may_be_and_not_by_a_byte_larger() {
    let long = |bytes: usize| set("a", &format!(r#"{{"v":"{}"}}"#, "x".repeat(bytes)));
    // Name and value, and the three bytes of the key.
    let fits = operation(long(ITEM_BYTES_MAX - 4), None, Images::default());
    assert_eq!(apply(7, &fits, None).0.item_bytes(), Some(ITEM_BYTES_MAX as u64));
    let too_large = operation(long(ITEM_BYTES_MAX - 3), None, Images::default());
    let text = "Item size to update has exceeded the maximum allowed size".to_owned();
    assert_eq!(apply(7, &too_large, None), (Outcome::Invalid(text), Effect::None));
}

#[test]
fn taking_away_from_nothing_makes_no_item() {
    let remove = Update { removes: vec![path("n")], ..Update::default() };
    let delete = Update { deletes: vec![(path("s"), value(r#"{"v":1}"#))], ..Update::default() };
    let both = Update { removes: vec![path("n")], deletes: delete.deletes.clone(), ..Update::default() };
    for update in [remove, delete, both] {
        let (outcome, effect) = apply(7, &operation(Change::Update(Box::new(update.clone())), None, ALL), None);
        let told = changed(outcome.clone());
        assert_eq!((effect, outcome.has_changed(), outcome.has_created()), (Effect::None, false, false), "{update:?}");
        assert_eq!((told.version, told.existed, told.before, told.after), (None, false, None, None), "{update:?}");
        // With anything beside it does.
        let more =
            Update { sets: vec![(path("x"), SetValue::Operand(SetOperand::Value(value(r#"{"v":1}"#))))], ..update };
        assert!(matches!(apply(7, &operation(Change::Update(Box::new(more)), None, ALL), None).1, Effect::Store(_)));
    }
    let nothing = operation(Change::Update(Box::default()), None, ALL);
    assert_eq!(apply(7, &nothing, None).1, Effect::Store(Document::empty()));
    assert_eq!(apply(7, &operation(add(1), None, ALL), None).1, Effect::Store(document(r#"{"n":1}"#)));
}

#[test]
fn preconditions_come_first() {
    let condition = Some(Condition::Exists(path("x")));
    let mut put = operation(Change::Put(document("{}")), condition, ALL);
    put.preconditions.if_match = Some(TagCondition::Versions(vec![ItemVersion(9)]));
    assert_eq!(apply(7, &put, Some(&present("{}"))).0, Outcome::PreconditionFailed);
    let delete = operation(Change::Delete, None, ALL);
    assert_eq!(apply(7, &delete, None).0, Outcome::NotFound);
}

#[test]
fn an_item_that_was_not_read_is_not_guessed() {
    let unread = Present { version: ItemVersion(3), document: None };
    let (outcome, effect) = apply(7, &operation(add(1), None, ALL), Some(&unread));
    assert!(matches!(outcome, Outcome::Invalid(_)) && effect == Effect::None);
}

proptest! {
    /// What is told is what was there and what is there then; sizes are those of both.
    #[test]
    fn images_are_what_was_and_what_is(
        changes in proptest::collection::vec((0u8..4, -50i64..50), 1..30),
        images in any::<[bool; 3]>(),
    ) {
        let images = Images { before: images[0], after: images[1], before_on_failure: images[2], ..Images::default() };
        let mut item: Option<Document> = None;
        for (index, (kind, number)) in changes.into_iter().enumerate() {
            let change = match kind {
                0 => Change::Put(document(&format!(r#"{{"n":{number}}}"#))),
                1 => Change::Remove,
                2 => set("s", &format!(r#"{{"v":"{number}"}}"#)),
                _ => add(number),
            };
            let condition = (number % 3 == 0).then(|| Condition::Exists(path("n")));
            let before = item.clone().map(|document| Present { version: ItemVersion(1), document: Some(document) });
            let (outcome, effect) = apply(index as u64, &operation(change, condition, images), before.as_ref());
            match &effect {
                Effect::Store(document) => item = Some(document.clone()),
                Effect::Remove => item = None,
                Effect::None => {}
            }
            let was = before.and_then(|present| present.document);
            let size = |item: &Option<Document>| item.as_ref().map_or(0, |item| item.item_size() as u32 + 3);
            match outcome {
                Outcome::Changed(told) => {
                    prop_assert_eq!(told.existed, was.is_some());
                    prop_assert_eq!((told.before_bytes, told.after_bytes), (size(&was), size(&item)));
                    prop_assert_eq!(told.before, was.filter(|_| images.before));
                    prop_assert_eq!(told.after, item.clone().filter(|_| images.after));
                    prop_assert_eq!(told.version.is_some(), item.is_some());
                }
                Outcome::ConditionFailed(told) => {
                    prop_assert_eq!(effect, Effect::None);
                    prop_assert_eq!(told.before_bytes, size(&was));
                    prop_assert_eq!(told.before, was.filter(|_| images.before_on_failure));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
