//! AttributeUpdates: for each attribute PUT, ADD or DELETE, and mostly a value.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{invalid, map, path, too_much, value};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{Raw, Text};
use crate::expression::{AttributeType, SetOperand, SetValue, Update, Value};

/// What is said of one attribute.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Said<'a> {
    #[serde(borrow)]
    action: Text<'a>,
    #[serde(borrow)]
    value: Raw<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Put,
    Add,
    Delete,
}

/// The update that AttributeUpdates makes.
///
/// # Errors
/// ValidationException with AWS's texts, SerializationException.
pub fn update(json: &RawValue) -> Result<Update, Failure> {
    let said: Vec<(String, Said<'_>)> = map(json)?.into_iter().collect();
    let actions = said.iter().map(|(attribute, said)| action(attribute, said)).collect::<Result<Vec<_>, Failure>>()?;
    let mut update = Update::default();
    for ((attribute, said), action) in said.iter().zip(actions) {
        let value = said.value.map(value).transpose()?;
        add(&mut update, attribute, action, value)?;
    }
    if update.within_limits() { Ok(update) } else { Err(too_much()) }
}

fn action(attribute: &str, said: &Said<'_>) -> Result<Action, Failure> {
    match said.action.get() {
        None | Some("PUT") => Ok(Action::Put),
        Some("ADD") => Ok(Action::Add),
        Some("DELETE") => Ok(Action::Delete),
        Some(other) => Err(Failure::validation(format!(
            "1 validation error detected: Value '{other}' at 'attributeUpdates.{attribute}.member.action' failed to satisfy \
             constraint: Member must satisfy enum value set: [ADD, DELETE, PUT]"
        ))),
    }
}

fn add(update: &mut Update, attribute: &str, action: Action, value: Option<Value>) -> Result<(), Failure> {
    let path = path(attribute);
    let Some(value) = value else {
        if action != Action::Delete {
            return Err(invalid("Only DELETE action is allowed when no attribute value is specified"));
        }
        update.removes.push(path);
        return Ok(());
    };
    let kind = value.kind();
    let refused = |what: &str| Err(invalid(format_args!("{what} is not supported for the type {}", kind.name())));
    match (action, kind) {
        (Action::Put, _) => update.sets.push((path, SetValue::Operand(SetOperand::Value(value)))),
        (
            Action::Add,
            AttributeType::Number | AttributeType::StringSet | AttributeType::NumberSet | AttributeType::BinarySet,
        ) => update.adds.push((path, value)),
        (Action::Add, AttributeType::List) => {
            // ADD on a list appends; expressions say so with a function.
            let there = SetOperand::IfNotExists(path.clone(), Box::new(SetOperand::Value(empty_list()?)));
            let appended = SetOperand::ListAppend(Box::new(there), Box::new(SetOperand::Value(value)));
            update.sets.push((path, SetValue::Operand(appended)));
        }
        (Action::Add, _) => return refused("ADD action"),
        (Action::Delete, AttributeType::StringSet | AttributeType::NumberSet | AttributeType::BinarySet) => {
            update.deletes.push((path, value));
        }
        (Action::Delete, _) => return refused("DELETE action with value"),
    }
    Ok(())
}

fn empty_list() -> Result<Value, Failure> {
    let built = Value::build(|builder| {
        builder.open_list()?;
        builder.close_list()
    });
    built.map_err(|error| Failure::internal(error.to_string()))
}
