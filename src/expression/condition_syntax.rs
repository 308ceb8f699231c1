//! Tokens to the template of a condition.
//!
//! NOT binds more closely than AND, AND more closely than OR. A parenthesis at the beginning of a term may hold a
//! condition or an operand (`(a) = :v`); which of the two shows only behind it. Two parentheses around the same thing
//! are an error of their own.
//!
//! Open parentheses are kept in a list, not on the stack, so that it does not matter how many there are. Only functions
//! in functions recurse, and there can be few: none but `size` may stand in another. Two NOTs are none. So a tree that
//! has at most 300 operators, as is checked before anything walks it, is at most some 200 levels deep.

use super::condition::Comparison;
use super::error::ExpressionError;
use super::lexer::{Cursor, TokenKind};
use super::limits::FUNCTION_LEVELS_MAX;
use super::role::Role;
use super::template::{Argument, Call};

/// The functions of conditions and how many arguments they have.
pub(super) const FUNCTIONS: &[(&str, usize)] = &[
    ("attribute_exists", 1),
    ("attribute_not_exists", 1),
    ("attribute_type", 2),
    ("begins_with", 2),
    ("contains", 2),
    ("size", 1),
];

/// The one function that gives a value.
pub(super) const SIZE: &str = "size";

/// A condition with placeholders.
#[derive(Debug, Clone)]
pub(super) enum Clause {
    And(Vec<Clause>),
    Or(Vec<Clause>),
    Not(Box<Clause>),
    Compare(Argument, Comparison, Argument),
    Between(Argument, Argument, Argument),
    In(Argument, Vec<Argument>),
    Call(Call),
}

/// What is open between two parentheses, or at the beginning of the text.
#[derive(Default)]
struct Level {
    /// What stands between ORs, up to the last one.
    any: Vec<Clause>,
    /// What stands between ANDs, from the last OR on.
    all: Vec<Clause>,
    /// Whether the next term is turned round.
    negated: bool,
    /// Whether a NOT stood here.
    has_not: bool,
}

/// What stood somewhere, and whether in parentheses.
enum Parsed {
    Clause(Clause, bool),
    Argument(Argument, bool),
}

/// Reads the whole text.
pub(super) fn read(role: Role, text: &str) -> Result<Clause, ExpressionError> {
    let mut parser = Parser { cursor: Cursor::new(role, text)?, redundant: false };
    let clause = match parser.condition()? {
        Parsed::Clause(clause, _) => clause,
        Parsed::Argument(Argument::Call(call), _) => Clause::Call(call),
        Parsed::Argument(..) => return Err(parser.cursor.unexpected()),
    };
    parser.cursor.expect_end()?;
    parser.cursor.check_operators()?;
    if parser.redundant {
        return Err(parser.cursor.error("The expression has redundant parentheses;"));
    }
    let mut functions = Vec::new();
    visit_calls(&clause, &mut |call, misused| functions.push((call.name.clone(), misused)));
    if let Some((name, _)) = functions.iter().find(|(name, _)| !FUNCTIONS.iter().any(|(known, _)| **name == **known)) {
        return Err(parser.cursor.error(format_args!("Invalid function name; function: {name}")));
    }
    if let Some((name, _)) = functions.iter().find(|(_, misused)| *misused) {
        let what = "The function is not allowed to be used this way in an expression; function";
        return Err(parser.cursor.error(format_args!("{what}: {name}")));
    }
    parser.cursor.check_reserved()?;
    Ok(clause)
}

/// Shows every function, inner ones first, and whether it stands where it must not: `size` where a condition is wanted,
/// every other where a value is wanted.
fn visit_calls(clause: &Clause, see: &mut impl FnMut(&Call, bool)) {
    match clause {
        Clause::And(clauses) | Clause::Or(clauses) => clauses.iter().for_each(|clause| visit_calls(clause, see)),
        Clause::Not(clause) => visit_calls(clause, see),
        Clause::Compare(left, _, right) => [left, right].into_iter().for_each(|argument| visit_values(argument, see)),
        Clause::Between(value, low, high) => {
            [value, low, high].into_iter().for_each(|argument| visit_values(argument, see));
        }
        Clause::In(value, list) => [value].into_iter().chain(list).for_each(|argument| visit_values(argument, see)),
        Clause::Call(call) => {
            call.arguments.iter().for_each(|argument| visit_values(argument, see));
            see(call, &*call.name == SIZE);
        }
    }
}

fn visit_values(argument: &Argument, see: &mut impl FnMut(&Call, bool)) {
    if let Argument::Call(call) = argument {
        call.arguments.iter().for_each(|argument| visit_values(argument, see));
        see(call, &*call.name != SIZE);
    }
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    /// Two parentheses stood around the same thing.
    redundant: bool,
}

impl Parser<'_> {
    /// Terms between AND and OR, up to what is neither. Or one operand, where that is all.
    fn condition(&mut self) -> Result<Parsed, ExpressionError> {
        let mut levels: Vec<Level> = Vec::new();
        let mut level = Level::default();
        loop {
            while self.cursor.take_keyword("NOT") {
                self.cursor.count_operator();
                (level.negated, level.has_not) = (!level.negated, true);
            }
            if self.cursor.take_mark("(") {
                levels.push(std::mem::take(&mut level));
                continue;
            }
            let argument = self.simple(0)?;
            let mut parsed = self.term(argument, false, !levels.is_empty())?;
            // The term may be the last before one parenthesis or more.
            while let Some(whole) = self.join(&mut level, parsed)? {
                let Some(outer) = levels.pop() else { return Ok(whole) };
                level = outer;
                self.cursor.expect_mark(")")?;
                parsed = match whole {
                    Parsed::Clause(clause, grouped) => {
                        self.redundant |= grouped;
                        Parsed::Clause(clause, true)
                    }
                    Parsed::Argument(mut argument, grouped) => {
                        self.redundant |= grouped;
                        let grouped = !self.steps_behind(&mut argument)?;
                        self.term(argument, grouped, !levels.is_empty())?
                    }
                };
            }
        }
    }

    /// Adds a term to its level. None where AND or OR follows; else what the level is altogether.
    fn join(&mut self, level: &mut Level, parsed: Parsed) -> Result<Option<Parsed>, ExpressionError> {
        let goes_on = self.cursor.is_keyword("AND") || self.cursor.is_keyword("OR");
        if !goes_on && !level.has_not && level.any.is_empty() && level.all.is_empty() {
            return Ok(Some(parsed));
        }
        let mut clause = match parsed {
            Parsed::Clause(clause, _) => clause,
            Parsed::Argument(Argument::Call(call), _) => Clause::Call(call),
            Parsed::Argument(..) => return Err(self.cursor.unexpected()),
        };
        if std::mem::take(&mut level.negated) {
            clause = match clause {
                Clause::Not(clause) => *clause,
                clause => Clause::Not(Box::new(clause)),
            };
        }
        level.all.push(clause);
        if self.cursor.take_keyword("AND") {
            self.cursor.count_operator();
            return Ok(None);
        }
        level.any.push(one_or(&mut level.all, Clause::And));
        if self.cursor.take_keyword("OR") {
            self.cursor.count_operator();
            return Ok(None);
        }
        Ok(Some(Parsed::Clause(one_or(&mut level.any, Clause::Or), false)))
    }

    /// A comparison whose first operand was read, or that operand alone, which may be a function or stand in
    /// parentheses.
    fn term(&mut self, argument: Argument, grouped: bool, is_inside: bool) -> Result<Parsed, ExpressionError> {
        if let Some(comparison) = self.comparison() {
            self.cursor.advance();
            self.cursor.count_operator();
            let right = self.operand(0)?;
            return Ok(Parsed::Clause(Clause::Compare(argument, comparison, right), false));
        }
        if self.cursor.take_keyword("BETWEEN") {
            self.cursor.count_operator();
            let low = self.operand(0)?;
            if !self.cursor.take_keyword("AND") {
                return Err(self.cursor.unexpected());
            }
            let high = self.operand(0)?;
            return Ok(Parsed::Clause(Clause::Between(argument, low, high), false));
        }
        if self.cursor.take_keyword("IN") {
            self.cursor.count_operator();
            let list = self.arguments(0)?;
            return Ok(Parsed::Clause(Clause::In(argument, list), false));
        }
        let closes = is_inside && self.cursor.is_mark(0, ")");
        match argument {
            Argument::Call(_) => Ok(Parsed::Argument(argument, grouped)),
            _ if closes => Ok(Parsed::Argument(argument, grouped)),
            _ => Err(self.cursor.unexpected()),
        }
    }

    /// Reads the steps that follow a path in parentheses; whether there were any.
    fn steps_behind(&mut self, argument: &mut Argument) -> Result<bool, ExpressionError> {
        let Argument::Path(path) = argument else { return Ok(false) };
        let steps = path.steps.len();
        self.cursor.more_steps(path)?;
        Ok(path.steps.len() > steps)
    }

    /// An operand, perhaps in parentheses.
    fn operand(&mut self, level: usize) -> Result<Argument, ExpressionError> {
        if !self.cursor.is_mark(0, "(") {
            return self.simple(level);
        }
        let mut open = 0;
        while self.cursor.take_mark("(") {
            open += 1;
        }
        let mut argument = self.simple(level)?;
        let mut grouped = false;
        for _ in 0..open {
            self.cursor.expect_mark(")")?;
            self.redundant |= grouped;
            grouped = !self.steps_behind(&mut argument)?;
        }
        Ok(argument)
    }

    /// A path, a value or a function.
    fn simple(&mut self, level: usize) -> Result<Argument, ExpressionError> {
        match self.cursor.kind(0) {
            TokenKind::ValuePlaceholder => {
                let placeholder = self.cursor.token(0).into();
                self.cursor.advance();
                Ok(Argument::Value(placeholder))
            }
            TokenKind::Word if self.cursor.is_mark(1, "(") && !self.is_keyword() => {
                let name = self.cursor.token(0);
                if level >= FUNCTION_LEVELS_MAX {
                    let what = "The function is not allowed to be used this way in an expression; function";
                    return Err(self.cursor.error(format_args!("{what}: {name}")));
                }
                self.cursor.count_operator();
                self.cursor.advance();
                Ok(Argument::Call(Call { name: name.into(), arguments: self.arguments(level)? }))
            }
            _ => Ok(Argument::Path(self.cursor.path()?)),
        }
    }

    fn is_keyword(&self) -> bool {
        ["AND", "OR", "NOT", "IN", "BETWEEN"].iter().any(|keyword| self.cursor.is_keyword(keyword))
    }

    /// Operands in parentheses, between commas.
    fn arguments(&mut self, level: usize) -> Result<Vec<Argument>, ExpressionError> {
        self.cursor.expect_mark("(")?;
        let mut arguments = vec![self.operand(level + 1)?];
        while self.cursor.take_mark(",") {
            arguments.push(self.operand(level + 1)?);
        }
        self.cursor.expect_mark(")")?;
        Ok(arguments)
    }

    fn comparison(&self) -> Option<Comparison> {
        if self.cursor.kind(0) != TokenKind::Mark {
            return None;
        }
        Comparison::ALL.into_iter().find(|comparison| comparison.sign() == self.cursor.token(0))
    }
}

/// The one there is, or all of them together.
fn one_or(clauses: &mut Vec<Clause>, together: fn(Vec<Clause>) -> Clause) -> Clause {
    match clauses.pop() {
        Some(only) if clauses.is_empty() => only,
        Some(last) => {
            clauses.push(last);
            together(std::mem::take(clauses))
        }
        None => together(Vec::new()),
    }
}
