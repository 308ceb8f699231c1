//! Tokens to the template of an update.
//!
//! Actions stay in the order of the text: errors are found in that order. Only functions in functions recurse, up to
//! [`FUNCTION_LEVELS_MAX`](super::limits::FUNCTION_LEVELS_MAX).

use std::sync::Arc;

use super::error::ExpressionError;
use super::lexer::{Cursor, TokenKind};
use super::limits::{FUNCTION_LEVELS_MAX, OPERATORS_MAX};
use super::role::Role;
use super::template::{Argument, Call, PathTemplate};

/// The functions of updates and how many arguments they have.
pub(super) const FUNCTIONS: &[(&str, usize)] = &[("if_not_exists", 2), ("list_append", 2)];

const SECTIONS: &[&str] = &["SET", "REMOVE", "ADD", "DELETE"];

/// What SET puts at a path, with placeholders.
#[derive(Debug, Clone)]
pub(super) enum SetTemplate {
    Operand(Argument),
    Plus(Argument, Argument),
    Minus(Argument, Argument),
}

/// One action.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Set(PathTemplate, SetTemplate),
    Remove(PathTemplate),
    Add(PathTemplate, Arc<str>),
    Delete(PathTemplate, Arc<str>),
}

/// Reads the whole text.
pub(super) fn read(text: &str) -> Result<Vec<Action>, ExpressionError> {
    let mut parser = Parser { cursor: Cursor::new(Role::Update, text)?, redundant: false };
    let mut actions = Vec::new();
    let mut sections: Vec<&str> = Vec::new();
    let mut twice = None;
    while parser.cursor.kind(0) != TokenKind::End {
        let Some(section) = SECTIONS.iter().find(|section| parser.cursor.is_keyword(section)) else {
            return Err(parser.cursor.unexpected());
        };
        if sections.contains(section) {
            twice.get_or_insert(*section);
        }
        sections.push(section);
        parser.cursor.advance();
        parser.section(section, &mut actions)?;
    }
    parser.cursor.check_operators()?;
    if parser.redundant {
        return Err(parser.cursor.error("The expression has redundant parentheses;"));
    }
    parser.cursor.check_reserved()?;
    if let Some(name) = actions.iter().find_map(unknown_function) {
        return Err(parser.cursor.error(format_args!("Invalid function name; function: {name}")));
    }
    if let Some(section) = twice {
        let what = "section can only be used once in an update expression;";
        return Err(parser.cursor.error(format_args!("The \"{section}\" {what}")));
    }
    Ok(actions)
}

/// A function of this action that there is not, inner ones first.
fn unknown_function(action: &Action) -> Option<Arc<str>> {
    fn inside(argument: &Argument) -> Option<Arc<str>> {
        let Argument::Call(call) = argument else { return None };
        let own = || (!FUNCTIONS.iter().any(|(known, _)| **known == *call.name)).then(|| Arc::clone(&call.name));
        call.arguments.iter().find_map(inside).or_else(own)
    }
    match action {
        Action::Set(_, SetTemplate::Operand(operand)) => inside(operand),
        Action::Set(_, SetTemplate::Plus(left, right) | SetTemplate::Minus(left, right)) => {
            inside(left).or_else(|| inside(right))
        }
        Action::Remove(_) | Action::Add(..) | Action::Delete(..) => None,
    }
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    /// Two parentheses stood around the same thing.
    redundant: bool,
}

impl Parser<'_> {
    /// The actions of one section.
    fn section(&mut self, section: &str, actions: &mut Vec<Action>) -> Result<(), ExpressionError> {
        loop {
            let path = self.cursor.path()?;
            actions.push(match section {
                "SET" => {
                    self.cursor.expect_mark("=")?;
                    Action::Set(path, self.set_value()?)
                }
                "REMOVE" => Action::Remove(path),
                "ADD" => Action::Add(path, self.placeholder()?),
                _ => Action::Delete(path, self.placeholder()?),
            });
            if !self.cursor.take_mark(",") {
                return Ok(());
            }
        }
    }

    fn placeholder(&mut self) -> Result<Arc<str>, ExpressionError> {
        if self.cursor.kind(0) != TokenKind::ValuePlaceholder {
            return Err(self.cursor.unexpected());
        }
        let placeholder = self.cursor.token(0).into();
        self.cursor.advance();
        Ok(placeholder)
    }

    /// What stands behind `=`: an operand or a sum, and either may stand in parentheses.
    fn set_value(&mut self) -> Result<SetTemplate, ExpressionError> {
        // Parentheses at the beginning are around the first operand or around all: that shows once they are closed.
        let mut open = 0usize;
        while self.cursor.take_mark("(") {
            open += 1;
        }
        let left = self.simple(0)?;
        let mut around_operand = 0;
        while open > 0 && self.cursor.take_mark(")") {
            open -= 1;
            around_operand += 1;
        }
        self.redundant |= around_operand > 1 || open > 1;
        let value = if self.cursor.take_mark("+") {
            self.cursor.count_operator();
            SetTemplate::Plus(left, self.operand(0)?)
        } else if self.cursor.take_mark("-") {
            self.cursor.count_operator();
            SetTemplate::Minus(left, self.operand(0)?)
        } else {
            SetTemplate::Operand(left)
        };
        for _ in 0..open {
            self.cursor.expect_mark(")")?;
        }
        Ok(value)
    }

    /// An operand, perhaps in parentheses.
    fn operand(&mut self, level: usize) -> Result<Argument, ExpressionError> {
        let mut open = 0;
        while self.cursor.take_mark("(") {
            open += 1;
        }
        self.redundant |= open > 1;
        let argument = self.simple(level)?;
        for _ in 0..open {
            self.cursor.expect_mark(")")?;
        }
        Ok(argument)
    }

    /// A path, a value or a function.
    fn simple(&mut self, level: usize) -> Result<Argument, ExpressionError> {
        match self.cursor.kind(0) {
            TokenKind::ValuePlaceholder => Ok(Argument::Value(self.placeholder()?)),
            TokenKind::Word
                if self.cursor.is_mark(1, "(") && !SECTIONS.iter().any(|word| self.cursor.is_keyword(word)) =>
            {
                if level >= FUNCTION_LEVELS_MAX {
                    let what = "The expression contains too many operators; operator count";
                    return Err(self.cursor.error(format_args!("{what}: {}", OPERATORS_MAX + 1)));
                }
                let name = self.cursor.token(0).into();
                self.cursor.count_operator();
                self.cursor.advance();
                self.cursor.expect_mark("(")?;
                let mut arguments = vec![self.operand(level + 1)?];
                while self.cursor.take_mark(",") {
                    arguments.push(self.operand(level + 1)?);
                }
                self.cursor.expect_mark(")")?;
                Ok(Argument::Call(Call { name, arguments }))
            }
            _ => Ok(Argument::Path(self.cursor.path()?)),
        }
    }
}
