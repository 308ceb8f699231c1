//! The template of a condition and what stands for its placeholders, to a condition.
//!
//! Comparisons and functions are checked one after the other, in the order of the text; in each of them first that all
//! placeholders are defined, then the numbers of operands, then that the first operand is not repeated, then the types.

use super::binding::Binding;
use super::condition::{Comparison, Condition, Operand};
use super::condition_syntax::{Clause, FUNCTIONS, SIZE};
use super::error::ExpressionError;
use super::evaluate::{compare_nodes, size_of};
use super::limits::IN_OPERANDS_MAX;
use super::path::Path;
use super::template::{Argument, Call};
use super::value::{AttributeType, Value};
use crate::domain::document::Node;

/// An argument with what stands for its placeholders.
enum Bound {
    Path(Path),
    Value(Value),
    Call(String, Vec<Bound>),
}

/// Types that have an order.
fn has_order(kind: AttributeType) -> bool {
    matches!(kind, AttributeType::String | AttributeType::Number | AttributeType::Binary)
}

impl Binding<'_, '_> {
    /// A condition with what stands for its placeholders.
    pub(super) fn clause(&mut self, clause: &Clause) -> Result<Condition, ExpressionError> {
        match clause {
            Clause::And(clauses) => Ok(Condition::And(self.clauses(clauses)?)),
            Clause::Or(clauses) => Ok(Condition::Or(self.clauses(clauses)?)),
            Clause::Not(clause) => Ok(Condition::Not(Box::new(self.clause(clause)?))),
            Clause::Compare(left, comparison, right) => self.compare(left, *comparison, right),
            Clause::Between(value, low, high) => self.between(value, low, high),
            Clause::In(value, list) => self.among(value, list),
            Clause::Call(call) => self.function(call),
        }
    }

    fn clauses(&mut self, clauses: &[Clause]) -> Result<Vec<Condition>, ExpressionError> {
        let mut conditions = Vec::with_capacity(clauses.len());
        // A plain loop: frames of iterators would add up where clauses nest.
        for clause in clauses {
            conditions.push(self.clause(clause)?);
        }
        Ok(conditions)
    }

    fn compare(
        &mut self,
        left: &Argument,
        comparison: Comparison,
        right: &Argument,
    ) -> Result<Condition, ExpressionError> {
        let bound = [self.bound(left)?, self.bound(right)?];
        bound.iter().try_for_each(|argument| self.check_counts(argument))?;
        self.check_distinct(comparison.sign(), &bound)?;
        let [left, right] = bound;
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            self.check_ordered(comparison.sign(), &[&left, &right])?;
        }
        Ok(Condition::Compare(left, comparison, right))
    }

    fn between(&mut self, value: &Argument, low: &Argument, high: &Argument) -> Result<Condition, ExpressionError> {
        let bound = [self.bound(value)?, self.bound(low)?, self.bound(high)?];
        bound.iter().try_for_each(|argument| self.check_counts(argument))?;
        self.check_distinct("BETWEEN", &bound)?;
        let [value, low, high] = bound;
        let (value, low, high) = (self.operand(value)?, self.operand(low)?, self.operand(high)?);
        self.check_ordered("BETWEEN", &[&value, &low, &high])?;
        if let (Operand::Value(low), Operand::Value(high)) = (&low, &high) {
            self.check_bounds(low, high)?;
        }
        Ok(Condition::Between(value, low, high))
    }

    fn check_bounds(&self, low: &Value, high: &Value) -> Result<(), ExpressionError> {
        let wanted = if low.kind() != high.kind() {
            "same data type for lower and upper bounds"
        } else if compare_nodes(low.node(), high.node()).is_some_and(std::cmp::Ordering::is_gt) {
            "upper bound to be greater than or equal to lower bound"
        } else {
            return Ok(());
        };
        let (low, high) = (shown(low), shown(high));
        Err(self.error(format_args!(
            "The BETWEEN operator requires {wanted}; lower bound operand: {low}, upper bound operand: {high}"
        )))
    }

    fn among(&mut self, value: &Argument, list: &[Argument]) -> Result<Condition, ExpressionError> {
        let mut bound = vec![self.bound(value)?];
        for argument in list {
            bound.push(self.bound(argument)?);
        }
        bound.iter().try_for_each(|argument| self.check_counts(argument))?;
        if list.len() > IN_OPERANDS_MAX {
            let what = "The IN operator is provided with too many operands; number of operands";
            return Err(self.error(format_args!("{what}: {}", list.len())));
        }
        self.check_distinct("IN", &bound)?;
        let mut operands = Vec::with_capacity(list.len());
        let mut first = None;
        for argument in bound {
            let operand = self.operand(argument)?;
            match first {
                None => first = Some(operand),
                Some(_) => operands.push(operand),
            }
        }
        let first = first.ok_or_else(|| self.wrong_count("IN", 0))?;
        Ok(Condition::In(first, operands))
    }

    fn function(&mut self, call: &Call) -> Result<Condition, ExpressionError> {
        let name = &*call.name;
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(self.bound(argument)?);
        }
        arguments.iter().try_for_each(|argument| self.check_counts(argument))?;
        self.check_count(name, arguments.len())?;
        self.check_distinct(name, &arguments)?;
        let mut arguments = arguments.into_iter();
        // The number of arguments was checked: there is a first.
        let first = arguments.next().ok_or_else(|| self.wrong_count(name, 0))?;
        let second = arguments.next();
        match (name, first, second) {
            ("attribute_exists", Bound::Path(path), _) => Ok(Condition::Exists(path)),
            ("attribute_not_exists", Bound::Path(path), _) => Ok(Condition::NotExists(path)),
            ("attribute_type", first, Some(second)) => {
                let operand = self.operand(first)?;
                let second = self.operand(second)?;
                Ok(Condition::Type(operand, self.type_named(&second)?))
            }
            ("begins_with", first, Some(second)) => {
                let operands = [self.operand(first)?, self.operand(second)?];
                for operand in &operands {
                    if let Some(kind) = kind_of(operand)
                        && !matches!(kind, AttributeType::String | AttributeType::Binary)
                    {
                        return Err(self.wrong_type(name, kind));
                    }
                }
                let [operand, beginning] = operands;
                Ok(Condition::BeginsWith(operand, beginning))
            }
            ("contains", first, Some(second)) => Ok(Condition::Contains(self.operand(first)?, self.operand(second)?)),
            _ => Err(self.path_wanted(name)),
        }
    }

    /// The second argument of attribute_type: a string that names a type.
    fn type_named(&self, operand: &Operand) -> Result<AttributeType, ExpressionError> {
        const ANY: &str = "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}";
        let Some(kind) = kind_of(operand) else { return Err(self.wrong_type("attribute_type", ANY)) };
        let name = match operand {
            Operand::Value(value) => match value.node() {
                Node::String(name) => name.to_owned(),
                _ => return Err(self.wrong_type("attribute_type", kind)),
            },
            _ => return Err(self.wrong_type("attribute_type", kind)),
        };
        AttributeType::from_name(&name).ok_or_else(|| {
            let known = "{B,NULL,SS,BOOL,L,BS,N,NS,S,M}";
            self.error(format_args!("Invalid attribute type name found; type: {name}, valid types: {known}"))
        })
    }

    fn bound(&mut self, argument: &Argument) -> Result<Bound, ExpressionError> {
        Ok(match argument {
            Argument::Path(path) => Bound::Path(self.path(path)?),
            Argument::Value(placeholder) => Bound::Value(self.value(placeholder)?),
            Argument::Call(call) => {
                let mut arguments = Vec::with_capacity(call.arguments.len());
                for argument in &call.arguments {
                    arguments.push(self.bound(argument)?);
                }
                Bound::Call(call.name.to_string(), arguments)
            }
        })
    }

    fn check_count(&self, name: &str, count: usize) -> Result<(), ExpressionError> {
        let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
        if known.is_some_and(|(_, wanted)| *wanted == count) { Ok(()) } else { Err(self.wrong_count(name, count)) }
    }

    /// Checks the numbers of arguments of functions in this one, inner ones first.
    fn check_counts(&self, argument: &Bound) -> Result<(), ExpressionError> {
        let Bound::Call(name, arguments) = argument else { return Ok(()) };
        arguments.iter().try_for_each(|argument| self.check_counts(argument))?;
        self.check_count(name, arguments.len())
    }

    fn check_distinct(&self, operator: &str, arguments: &[Bound]) -> Result<(), ExpressionError> {
        let Some((Bound::Path(first), others)) = arguments.split_first() else { return Ok(()) };
        if !others.iter().any(|other| matches!(other, Bound::Path(path) if path == first)) {
            return Ok(());
        }
        let what = "The first operand must be distinct from the remaining operands for this operator or function";
        Err(self.error(format_args!("{what}; operator: {operator}, first operand: {first}")))
    }

    fn check_ordered(&self, operator: &str, operands: &[&Operand]) -> Result<(), ExpressionError> {
        match operands.iter().filter_map(|operand| kind_of(operand)).find(|kind| !has_order(*kind)) {
            None => Ok(()),
            Some(kind) => Err(self.wrong_type(operator, kind)),
        }
    }

    /// What an operator works on. Functions other than size were refused before.
    fn operand(&self, bound: Bound) -> Result<Operand, ExpressionError> {
        match bound {
            Bound::Path(path) => Ok(Operand::Path(path)),
            Bound::Value(value) => Ok(Operand::Value(value)),
            Bound::Call(_, arguments) => match arguments.into_iter().next() {
                Some(Bound::Path(path)) => Ok(Operand::Size(path)),
                Some(Bound::Value(value)) => {
                    let size = size_of(value.node()).ok_or_else(|| self.wrong_type(SIZE, value.kind()))?;
                    let number = Value::build(|builder| builder.number(size.to_string().as_bytes()));
                    number.map(Operand::Value).map_err(|_| self.wrong_type(SIZE, value.kind()))
                }
                _ => Err(self.wrong_type(SIZE, AttributeType::Number)),
            },
        }
    }
}

/// The type of an operand that is known without the item.
fn kind_of(operand: &Operand) -> Option<AttributeType> {
    match operand {
        Operand::Path(_) => None,
        Operand::Value(value) => Some(value.kind()),
        Operand::Size(_) => Some(AttributeType::Number),
    }
}

/// A bound of BETWEEN in an error.
fn shown(value: &Value) -> String {
    let text = match value.node() {
        Node::String(text) | Node::Number(text) => text.to_owned(),
        Node::Binary(bytes) => base64(bytes),
        _ => String::new(),
    };
    format!("AttributeValue: {{{}:{text}}}", value.kind())
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
