//! Random items, conditions and updates. Names and numbers are few, so that paths often lead somewhere.

use proptest::prelude::*;

use super::super::path::check_apart;
use super::super::*;
use crate::domain::document::sample::{Map, Tree, document};

pub(super) fn number(value: i64) -> Tree {
    Tree::Number(value.to_string(), value.to_string())
}

fn small_name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("zz")].prop_map(str::to_owned)
}

pub(super) fn value() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        3 => (-3i64..4).prop_map(number),
        2 => "[ab]{0,3}".prop_map(Tree::String),
        1 => any::<bool>().prop_map(Tree::Boolean),
        1 => Just(Tree::Null),
        1 => proptest::collection::vec(0u8..2, 0..3).prop_map(Tree::Binary),
        1 => proptest::collection::btree_set("[ab]{0,2}", 1..3).prop_map(Tree::StringSet),
        1 => proptest::collection::btree_set(-2i64..3, 1..3).prop_map(Tree::NumberSet),
        1 => proptest::collection::btree_set(proptest::collection::vec(0u8..2, 0..2), 1..3).prop_map(Tree::BinarySet),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            proptest::collection::btree_map(small_name(), inner, 0..4).prop_map(Tree::Map),
        ]
    })
}

pub(super) fn item() -> impl Strategy<Value = Map> {
    proptest::collection::btree_map(small_name(), value(), 0..4)
}

pub(super) fn path() -> impl Strategy<Value = Path> {
    let step = prop_oneof![
        small_name().prop_map(|name| Step::Attribute(name.as_str().into())),
        (0u32..4).prop_map(Step::Index),
    ];
    (small_name(), proptest::collection::vec(step, 0..3))
        .prop_map(|(name, steps)| Path { attribute: name.as_str().into(), steps })
}

pub(super) fn owned(tree: &Tree) -> Value {
    let document = document(&Map::from([("v".to_owned(), tree.clone())]));
    Value::new(document.get("v").unwrap()).unwrap()
}

/// An operand and, for the model, the value in it.
fn operand() -> impl Strategy<Value = Operand> {
    prop_oneof![
        4 => path().prop_map(Operand::Path),
        4 => value().prop_map(|tree| Operand::Value(owned(&tree))),
        1 => path().prop_map(Operand::Size),
    ]
}

pub(super) fn conditions() -> impl Strategy<Value = Condition> {
    let comparison = (0usize..6).prop_map(|index| Comparison::ALL[index]);
    let kind = (0usize..10).prop_map(|index| AttributeType::ALL[index]);
    let leaf = prop_oneof![
        (operand(), comparison, operand())
            .prop_map(|(left, comparison, right)| Condition::Compare(left, comparison, right)),
        (operand(), operand(), operand()).prop_map(|(value, low, high)| Condition::Between(value, low, high)),
        (operand(), proptest::collection::vec(operand(), 1..4)).prop_map(|(value, list)| Condition::In(value, list)),
        path().prop_map(Condition::Exists),
        path().prop_map(Condition::NotExists),
        (operand(), kind).prop_map(|(operand, kind)| Condition::Type(operand, kind)),
        (operand(), operand()).prop_map(|(left, right)| Condition::BeginsWith(left, right)),
        (operand(), operand()).prop_map(|(left, right)| Condition::Contains(left, right)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Condition::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Condition::Or),
            inner.prop_map(|condition| Condition::Not(Box::new(condition))),
        ]
    })
}

fn set_operand() -> impl Strategy<Value = SetOperand> {
    let leaf = prop_oneof![
        path().prop_map(SetOperand::Path),
        value().prop_map(|tree| SetOperand::Value(owned(&tree))),
        (-3i64..4).prop_map(|value| SetOperand::Value(owned(&number(value)))),
        proptest::collection::vec(value(), 0..3).prop_map(|list| SetOperand::Value(owned(&Tree::List(list)))),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            (path(), inner.clone()).prop_map(|(path, otherwise)| SetOperand::IfNotExists(path, Box::new(otherwise))),
            (inner.clone(), inner)
                .prop_map(|(first, second)| SetOperand::ListAppend(Box::new(first), Box::new(second))),
        ]
    })
}

/// Updates whose paths go together.
pub(super) fn updates() -> impl Strategy<Value = Update> {
    let set_value = prop_oneof![
        2 => set_operand().prop_map(SetValue::Operand),
        1 => (set_operand(), set_operand()).prop_map(|(left, right)| SetValue::Plus(left, right)),
        1 => (set_operand(), set_operand()).prop_map(|(left, right)| SetValue::Minus(left, right)),
    ];
    let action = prop_oneof![
        3 => (path(), set_value).prop_map(|(path, value)| Update { sets: vec![(path, value)], ..Update::default() }),
        2 => path().prop_map(|path| Update { removes: vec![path], ..Update::default() }),
        1 => (path(), value()).prop_map(|(path, tree)| Update { adds: vec![(path, owned(&tree))], ..Update::default() }),
        1 => (path(), value()).prop_map(|(path, tree)| Update { deletes: vec![(path, owned(&tree))], ..Update::default() }),
    ];
    proptest::collection::vec(action, 1..5).prop_map(|actions| {
        let mut update = Update::default();
        for action in actions {
            let mut both = update.clone();
            both.sets.extend(action.sets);
            both.removes.extend(action.removes);
            both.adds.extend(action.adds);
            both.deletes.extend(action.deletes);
            if check_apart(Role::Update, &both.paths()).is_ok() {
                update = both;
            }
        }
        update
    })
}
