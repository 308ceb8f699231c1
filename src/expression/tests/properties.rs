//! Conditions and updates do what the model does; what is built is printed as text and read again, and goes through
//! bytes; nothing that is read panics.

use proptest::prelude::*;

use super::super::*;
use super::model::{find, model_apply, model_holds};
use super::printer::Printer;
use super::trees::{conditions, item, path, updates};
use crate::domain::document::Document;
use crate::domain::document::sample::{Map, Tree, document};

proptest! {
    #[test]
    fn conditions_hold_as_in_the_model(item in item(), condition in conditions()) {
        let stored = document(&item);
        let keys = Document::empty();
        let view = ItemView { item: Some(&stored), keys: &keys };
        prop_assert_eq!(condition.holds(&view), Ok(model_holds(&item, &condition)));
    }

    #[test]
    fn updates_change_as_in_the_model(item in item(), update in updates()) {
        let stored = document(&item);
        let keys = Document::empty();
        let updated = update.apply(&ItemView { item: Some(&stored), keys: &keys });
        match model_apply(&item, &update) {
            None => prop_assert!(updated.is_err()),
            Some(after) => {
                let document = updated.map(|updated| updated.document);
                prop_assert_eq!(document.map(|document| Tree::of(document.root())), Ok(canonical(&after)));
            }
        }
    }

    #[test]
    fn key_attributes_win_and_are_not_stored(item in item(), key in item(), update in updates()) {
        let (stored, keys) = (document(&item), document(&key));
        let view = ItemView { item: Some(&stored), keys: &keys };
        let mut whole = item.clone();
        whole.extend(key.clone());
        prop_assert_eq!(Tree::of(view.document().root()), canonical(&whole));
        if let Ok(updated) = update.apply(&view) {
            let expected = model_apply(&whole, &update).map(|mut after| {
                after.retain(|name, _| !key.contains_key(name));
                canonical(&after)
            });
            prop_assert_eq!(Some(Tree::of(updated.document.root())), expected);
        }
    }

    #[test]
    fn conditions_read_back_from_text(condition in conditions()) {
        let mut printer = Printer::default();
        let text = printer.condition(&condition);
        match condition::parse(Role::Filter, &text, &mut printer.substitutions()) {
            Ok(read) => prop_assert!(read == without_double_negation(condition), "{}", text),
            // Types that do not go together, operands that are repeated, texts that are too long.
            Err(error) => prop_assert!(
                ["operand", "BETWEEN", "size", "function"].iter().any(|word| error.message.contains(word)),
                "{}", error.message
            ),
        }
    }

    #[test]
    fn updates_read_back_from_text(update in updates()) {
        let mut printer = Printer::default();
        let text = printer.update(&update);
        match update::parse(&text, &mut printer.substitutions()) {
            Ok(read) => prop_assert_eq!(read, update),
            Err(error) => prop_assert!(error.message.contains("operand type"), "{}: {}", text, error.message),
        }
    }

    #[test]
    fn trees_survive_their_bytes(condition in conditions(), update in updates(), cut in any::<prop::sample::Index>()) {
        let mut buffer = bytes::BytesMut::new();
        condition.encode(&mut buffer);
        let bytes = buffer.split().freeze();
        prop_assert_eq!(Condition::decode(&bytes), Ok(condition));
        prop_assert!(Condition::decode(&bytes.slice(..cut.index(bytes.len()))).is_err());
        update.encode(&mut buffer);
        let bytes = buffer.freeze();
        prop_assert_eq!(Update::decode(&bytes), Ok(update));
        prop_assert!(Update::decode(&bytes.slice(..cut.index(bytes.len()))).is_err());
    }

    #[test]
    fn parts_are_those_of_the_model(item in item(), paths in proptest::collection::vec(path(), 1..4)) {
        let stored = document(&item);
        let part = changed_only(&stored, &paths);
        for path in paths.iter().filter(|path| path.steps.iter().all(|step| matches!(step, Step::Attribute(_)))) {
            let view = ItemView { item: Some(&part), keys: &Document::empty() };
            prop_assert_eq!(view.at(path).map(Tree::of), find(&item, path).cloned().map(|tree| one_canonical(&tree)));
        }
    }

    #[test]
    fn nothing_that_is_read_panics(text in "[-a-c#:.,()\\[\\]0-9<>=+ ]{0,24}|(a|:n|AND|OR|NOT|IN|BETWEEN|SET|REMOVE|ADD|DELETE|size|contains|if_not_exists|list_append|[(),=.<+\\[\\]]| |0){0,16}", role: u8) {
        fuzz_expression(&[&[role], text.as_bytes()].concat());
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, condition in conditions(), update in updates(), place in any::<prop::sample::Index>(), byte: u8) {
        fuzz_expression_bytes(&bytes);
        let mut buffer = bytes::BytesMut::from(&[0u8][..]);
        condition.encode(&mut buffer);
        let mut encoded = buffer.to_vec();
        fuzz_expression_bytes(&encoded);
        encoded[place.index(buffer.len())] = byte;
        fuzz_expression_bytes(&encoded);
        let mut buffer = bytes::BytesMut::from(&[1u8][..]);
        update.encode(&mut buffer);
        let mut encoded = buffer.to_vec();
        encoded[place.index(buffer.len())] = byte;
        fuzz_expression_bytes(&encoded);
    }
}

fn one_canonical(tree: &Tree) -> Tree {
    let document = document(&Map::from([("v".to_owned(), tree.clone())]));
    Tree::of(document.get("v").unwrap())
}

fn canonical(map: &Map) -> Tree {
    Tree::of(document(map).root())
}

fn without_double_negation(condition: Condition) -> Condition {
    match condition {
        Condition::And(all) => Condition::And(all.into_iter().map(without_double_negation).collect()),
        Condition::Or(any) => Condition::Or(any.into_iter().map(without_double_negation).collect()),
        Condition::Not(condition) => match without_double_negation(*condition) {
            Condition::Not(condition) => *condition,
            condition => Condition::Not(Box::new(condition)),
        },
        other => other,
    }
}
