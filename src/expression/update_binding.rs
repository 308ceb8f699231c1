//! The template of an update and what stands for its placeholders, to an update.
//!
//! Errors come in this order, each over the whole text: names that are not defined, values that are not, paths that
//! overlap, paths that conflict, types of the values of ADD and DELETE, and at last what is wrong with functions and
//! sums.

use super::binding::Binding;
use super::error::ExpressionError;
use super::path::{Path, check_apart};
use super::role::Role;
use super::template::{Argument, Call, PathTemplate};
use super::update::{SetOperand, SetValue, Update};
use super::update_syntax::{Action, FUNCTIONS, SetTemplate};
use super::value::{AttributeType, Value};

impl Binding<'_, '_> {
    /// The update of these actions.
    pub(super) fn update(&mut self, actions: &[Action]) -> Result<Update, ExpressionError> {
        actions.iter().try_for_each(|action| self.check_names(action))?;
        actions.iter().try_for_each(|action| self.check_values(action))?;
        let mut targets = Vec::with_capacity(actions.len());
        for action in actions {
            targets.push(self.path(target(action))?);
        }
        check_apart(Role::Update, &targets.iter().collect::<Vec<_>>())?;
        for action in actions {
            self.check_operand(action)?;
        }
        let mut update = Update::default();
        for (action, path) in actions.iter().zip(targets) {
            match action {
                Action::Set(_, value) => {
                    let value = self.set_value(value)?;
                    update.sets.push((path, value));
                }
                Action::Remove(_) => update.removes.push(path),
                Action::Add(_, placeholder) => update.adds.push((path, self.value(placeholder)?)),
                Action::Delete(_, placeholder) => update.deletes.push((path, self.value(placeholder)?)),
            }
        }
        Ok(update)
    }

    fn check_names(&mut self, action: &Action) -> Result<(), ExpressionError> {
        self.path(target(action))?;
        for argument in set_arguments(action) {
            self.visit(argument, &mut |binding, argument| match argument {
                Argument::Path(path) => binding.path(path).map(|_| ()),
                _ => Ok(()),
            })?;
        }
        Ok(())
    }

    fn check_values(&mut self, action: &Action) -> Result<(), ExpressionError> {
        if let Action::Add(_, placeholder) | Action::Delete(_, placeholder) = action {
            self.value(placeholder)?;
        }
        for argument in set_arguments(action) {
            self.visit(argument, &mut |binding, argument| match argument {
                Argument::Value(placeholder) => binding.value(placeholder).map(|_| ()),
                _ => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Shows an argument and those in it, in the order of the text.
    fn visit(
        &mut self,
        argument: &Argument,
        see: &mut impl FnMut(&mut Self, &Argument) -> Result<(), ExpressionError>,
    ) -> Result<(), ExpressionError> {
        see(self, argument)?;
        if let Argument::Call(call) = argument {
            for argument in &call.arguments {
                self.visit(argument, see)?;
            }
        }
        Ok(())
    }

    /// Checks the type of the value of ADD or DELETE.
    fn check_operand(&mut self, action: &Action) -> Result<(), ExpressionError> {
        let (operator, placeholder) = match action {
            Action::Add(_, placeholder) => ("ADD", placeholder),
            Action::Delete(_, placeholder) => ("DELETE", placeholder),
            Action::Set(..) | Action::Remove(_) => return Ok(()),
        };
        let kind = self.value(placeholder)?.kind();
        let set = matches!(kind, AttributeType::StringSet | AttributeType::NumberSet | AttributeType::BinarySet);
        if set || operator == "ADD" && kind == AttributeType::Number {
            return Ok(());
        }
        let what = "Incorrect operand type for operator or function; operator";
        let (kind, types) = (kind.long_name(), format!("ALLOWED_FOR_{operator}_OPERAND"));
        Err(self.error(format_args!("{what}: {operator}, operand type: {kind}, typeSet: {types}")))
    }

    fn set_value(&mut self, template: &SetTemplate) -> Result<SetValue, ExpressionError> {
        match template {
            SetTemplate::Operand(operand) => Ok(SetValue::Operand(self.set_operand(operand)?)),
            SetTemplate::Plus(left, right) => {
                let (left, right) = self.numbers("+", left, right)?;
                Ok(SetValue::Plus(left, right))
            }
            SetTemplate::Minus(left, right) => {
                let (left, right) = self.numbers("-", left, right)?;
                Ok(SetValue::Minus(left, right))
            }
        }
    }

    fn numbers(
        &mut self,
        operator: &str,
        left: &Argument,
        right: &Argument,
    ) -> Result<(SetOperand, SetOperand), ExpressionError> {
        let (left, right) = (self.set_operand(left)?, self.set_operand(right)?);
        for operand in [&left, &right] {
            self.check_literal(operator, operand, AttributeType::Number)?;
        }
        Ok((left, right))
    }

    /// Checks that an operand that is a value is of this type.
    fn check_literal(
        &self,
        operator: &str,
        operand: &SetOperand,
        wanted: AttributeType,
    ) -> Result<(), ExpressionError> {
        match operand {
            SetOperand::Value(value) if value.kind() != wanted => Err(self.wrong_type(operator, value.kind())),
            SetOperand::ListAppend(..) if wanted != AttributeType::List => {
                Err(self.wrong_type(operator, AttributeType::List))
            }
            _ => Ok(()),
        }
    }

    fn set_operand(&mut self, argument: &Argument) -> Result<SetOperand, ExpressionError> {
        match argument {
            Argument::Path(path) => Ok(SetOperand::Path(self.path(path)?)),
            Argument::Value(placeholder) => Ok(SetOperand::Value(self.value(placeholder)?)),
            Argument::Call(call) => self.set_function(call),
        }
    }

    fn set_function(&mut self, call: &Call) -> Result<SetOperand, ExpressionError> {
        let name = &*call.name;
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(self.set_operand(argument)?);
        }
        let count = arguments.len();
        let wanted = FUNCTIONS.iter().find(|(known, _)| *known == name).map(|(_, wanted)| *wanted);
        let mut arguments = arguments.into_iter();
        let (Some(first), Some(second), None, Some(_)) = (arguments.next(), arguments.next(), arguments.next(), wanted)
        else {
            return Err(self.wrong_count(name, count));
        };
        if name == "list_append" {
            for operand in [&first, &second] {
                self.check_literal(name, operand, AttributeType::List)?;
            }
            return Ok(SetOperand::ListAppend(Box::new(first), Box::new(second)));
        }
        match first {
            SetOperand::Path(path) => Ok(SetOperand::IfNotExists(path, Box::new(second))),
            _ => Err(self.path_wanted(name)),
        }
    }
}

/// The path that an action changes.
fn target(action: &Action) -> &PathTemplate {
    match action {
        Action::Set(path, _) | Action::Remove(path) | Action::Add(path, _) | Action::Delete(path, _) => path,
    }
}

/// What stands on the right of SET.
fn set_arguments(action: &Action) -> Vec<&Argument> {
    match action {
        Action::Set(_, SetTemplate::Operand(operand)) => vec![operand],
        Action::Set(_, SetTemplate::Plus(left, right) | SetTemplate::Minus(left, right)) => vec![left, right],
        Action::Remove(_) | Action::Add(..) | Action::Delete(..) => Vec::new(),
    }
}

impl Update {
    /// The paths that it changes, in the order SET, REMOVE, ADD, DELETE (what operands read is not among them).
    pub fn paths(&self) -> Vec<&Path> {
        fn first<T>((path, _): &(Path, T)) -> &Path {
            path
        }
        let sets = self.sets.iter().map(first::<SetValue>);
        let changes = self.adds.iter().chain(&self.deletes).map(first::<Value>);
        sets.chain(&self.removes).chain(changes).collect()
    }

    /// Whether it changes nothing at all.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.removes.is_empty() && self.adds.is_empty() && self.deletes.is_empty()
    }
}
