//! From templates to trees: what stands for placeholders is put in, and what can only be told then is checked.

use super::error::ExpressionError;
use super::lexer::too_deep;
use super::path::{Path, Step};
use super::role::Role;
use super::substitutions::Substitutions;
use super::template::{Name, PathTemplate, StepTemplate};
use super::value::{AttributeType, Value};
use std::sync::Arc;

/// Binds the templates of one expression.
pub(super) struct Binding<'s, 'a> {
    pub(super) role: Role,
    pub(super) substitutions: &'s mut Substitutions<'a>,
}

impl Binding<'_, '_> {
    /// An error of this expression.
    pub(super) fn error(&self, what: impl std::fmt::Display) -> ExpressionError {
        ExpressionError::invalid(self.role, what)
    }

    fn name(&mut self, name: &Name) -> Result<Arc<str>, ExpressionError> {
        match name {
            Name::Plain(name) => Ok(Arc::clone(name)),
            Name::Placeholder(placeholder) => self.substitutions.name(self.role, placeholder),
        }
    }

    /// A path with its names.
    pub(super) fn path(&mut self, template: &PathTemplate) -> Result<Path, ExpressionError> {
        let attribute = self.name(&template.first)?;
        let mut steps = Vec::with_capacity(template.steps.len());
        for step in &template.steps {
            steps.push(match step {
                StepTemplate::Attribute(name) => Step::Attribute(self.name(name)?),
                StepTemplate::Index(index) => Step::Index(*index),
                StepTemplate::Beyond(digits) => {
                    let what = "List index is not within the allowable range; index";
                    return Err(self.error(format_args!("{what}: [{digits}]")));
                }
            });
        }
        match too_deep(1 + steps.len()) {
            None => Ok(Path { attribute, steps }),
            Some(what) => Err(self.error(what)),
        }
    }

    /// The value for a placeholder.
    pub(super) fn value(&mut self, placeholder: &Arc<str>) -> Result<Value, ExpressionError> {
        self.substitutions.value(self.role, placeholder)
    }

    /// The error of an operand of a type that its operator or function does not take.
    pub(super) fn wrong_type(&self, operator: &str, kind: impl std::fmt::Display) -> ExpressionError {
        let what = "Incorrect operand type for operator or function; operator or function";
        self.error(format_args!("{what}: {operator}, operand type: {kind}"))
    }

    /// The error of a function with too many or too few arguments.
    pub(super) fn wrong_count(&self, function: &str, count: usize) -> ExpressionError {
        let what = "Incorrect number of operands for operator or function; operator or function";
        self.error(format_args!("{what}: {function}, number of operands: {count}"))
    }

    /// The error of a function that asks for a path and got something else.
    pub(super) fn path_wanted(&self, function: &str) -> ExpressionError {
        let what = "Operator or function requires a document path; operator or function";
        self.error(format_args!("{what}: {function}"))
    }
}

impl std::fmt::Display for AttributeType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
