//! Updates: what changes in an item.

use super::binding::Binding;
use super::error::ExpressionError;
use super::path::Path;
use super::role::Role;
use super::substitutions::Substitutions;
use super::update_syntax::{self, Action};
use super::value::Value;
use crate::domain::document::Document;

/// An operand on the right of SET.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetOperand {
    /// What lies there in the item as it was.
    Path(Path),
    /// A value of the request.
    Value(Value),
    /// What lies there, or else the operand.
    IfNotExists(Path, Box<SetOperand>),
    /// Two lists, one after the other.
    ListAppend(Box<SetOperand>, Box<SetOperand>),
}

/// What SET puts at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetValue {
    /// The operand.
    Operand(SetOperand),
    /// The sum of two numbers.
    Plus(SetOperand, SetOperand),
    /// The difference of two numbers.
    Minus(SetOperand, SetOperand),
}

/// What changes in an item. No path is the beginning of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Update {
    /// Paths and what they get.
    pub sets: Vec<(Path, SetValue)>,
    /// Paths that go.
    pub removes: Vec<Path>,
    /// Numbers that grow and sets that get elements.
    pub adds: Vec<(Path, Value)>,
    /// Sets that lose elements.
    pub deletes: Vec<(Path, Value)>,
}

impl Update {
    /// Whether it takes away and does nothing else. Where there is no item, AWS then makes none; an update that says nothing
    /// at all makes one of its key alone.
    pub fn only_takes_away(&self) -> bool {
        self.sets.is_empty() && self.adds.is_empty() && !(self.removes.is_empty() && self.deletes.is_empty())
    }
}

/// A changed item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The item without its key attributes.
    pub document: Document,
    /// The paths that the update names, for UPDATED_OLD and UPDATED_NEW.
    pub touched: Vec<Path>,
}

/// The structure of a text, before anything stands for its placeholders.
#[derive(Debug, Clone)]
pub struct UpdateTemplate {
    actions: Vec<Action>,
}

impl UpdateTemplate {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with the text whatever its placeholders stand for.
    pub fn parse(text: &str) -> Result<UpdateTemplate, ExpressionError> {
        Ok(UpdateTemplate { actions: update_syntax::read(text)? })
    }

    /// The update of one request.
    ///
    /// # Errors
    /// Placeholders that nothing stands for, wrong types of values, and paths that overlap.
    pub fn bind(&self, substitutions: &mut Substitutions<'_>) -> Result<Update, ExpressionError> {
        let update = Binding { role: Role::Update, substitutions }.update(&self.actions)?;
        if update.within_limits() { Ok(update) } else { Err(ExpressionError::too_large(Role::Update)) }
    }
}

/// Template and binding in one.
///
/// # Errors
/// Those of [`UpdateTemplate::parse`] and [`UpdateTemplate::bind`].
pub fn parse(text: &str, substitutions: &mut Substitutions<'_>) -> Result<Update, ExpressionError> {
    UpdateTemplate::parse(text)?.bind(substitutions)
}
