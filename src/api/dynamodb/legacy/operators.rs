//! The thirteen comparison operators: how many values each takes, of which types, and what condition they make.

use serde_json::value::RawValue;

use super::{invalid, value};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::Constraints;
use crate::domain::document::Node;
use crate::domain::number::Number;
use crate::expression::{Comparison, Condition, Operand, Path, Value};

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Eq,
    Ne,
    In,
    Le,
    Lt,
    Ge,
    Gt,
    Between,
    NotNull,
    Null,
    Contains,
    NotContains,
    BeginsWith,
}

/// All of them as AWS lists them in its text.
const NAMES: &str = "[IN, NULL, BETWEEN, LT, NOT_CONTAINS, EQ, GT, NOT_NULL, NE, LE, BEGINS_WITH, GE, CONTAINS]";

impl Operator {
    /// The operator of this name that a parameter (in the spelling of the model, such as `scanFilter`) gives an attribute.
    pub(super) fn read(name: Option<&str>, parameter: &str, attribute: &str) -> Result<Operator, Failure> {
        Ok(match name {
            Some("EQ") => Operator::Eq,
            Some("NE") => Operator::Ne,
            Some("IN") => Operator::In,
            Some("LE") => Operator::Le,
            Some("LT") => Operator::Lt,
            Some("GE") => Operator::Ge,
            Some("GT") => Operator::Gt,
            Some("BETWEEN") => Operator::Between,
            Some("NOT_NULL") => Operator::NotNull,
            Some("NULL") => Operator::Null,
            Some("CONTAINS") => Operator::Contains,
            Some("NOT_CONTAINS") => Operator::NotContains,
            Some("BEGINS_WITH") => Operator::BeginsWith,
            other => {
                let mut constraints = Constraints::new();
                let place = format!("{parameter}.{attribute}.member.comparisonOperator");
                match other {
                    Some(name) => {
                        constraints.broken(name, &place, &format!("Member must satisfy enum value set: {NAMES}"));
                    }
                    None => constraints.missing(&place),
                }
                constraints.finish()?;
                return Err(Failure::internal("a constraint was broken and not told"));
            }
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Operator::Eq => "EQ",
            Operator::Ne => "NE",
            Operator::In => "IN",
            Operator::Le => "LE",
            Operator::Lt => "LT",
            Operator::Ge => "GE",
            Operator::Gt => "GT",
            Operator::Between => "BETWEEN",
            Operator::NotNull => "NOT_NULL",
            Operator::Null => "NULL",
            Operator::Contains => "CONTAINS",
            Operator::NotContains => "NOT_CONTAINS",
            Operator::BeginsWith => "BEGINS_WITH",
        }
    }

    /// Whether it takes no value.
    pub(super) fn is_about_presence(self) -> bool {
        matches!(self, Operator::Null | Operator::NotNull)
    }

    fn takes(self, count: usize) -> bool {
        match self {
            Operator::Null | Operator::NotNull => count == 0,
            Operator::Between => count == 2,
            Operator::In => count >= 1,
            _ => count == 1,
        }
    }

    /// Whether it compares with a value of this kind.
    fn accepts(self, node: &Node<'_>) -> bool {
        match self {
            Operator::Eq | Operator::Ne | Operator::Null | Operator::NotNull => true,
            Operator::BeginsWith => matches!(node, Node::String(_) | Node::Binary(_)),
            _ => matches!(node, Node::String(_) | Node::Number(_) | Node::Binary(_)),
        }
    }

    /// Whether its values must be of one type.
    fn wants_one_type(self) -> bool {
        matches!(self, Operator::In | Operator::Between)
    }
}

/// Reads the values of an operator and checks that it takes them.
pub(super) fn arguments(operator: Operator, values: &[&RawValue]) -> Result<Vec<Value>, Failure> {
    let values = values.iter().map(|json| value(json)).collect::<Result<Vec<Value>, Failure>>()?;
    if !operator.takes(values.len()) {
        return Err(invalid(format_args!(
            "Invalid number of argument(s) for the {} ComparisonOperator",
            operator.name()
        )));
    }
    if let Some(other) = values.iter().find(|value| !operator.accepts(&value.node())) {
        return Err(invalid(format_args!(
            "ComparisonOperator {} is not valid for {} AttributeValue type",
            operator.name(),
            other.kind().name()
        )));
    }
    let has_one_type = values.windows(2).all(|pair| pair[0].kind() == pair[1].kind());
    if operator.wants_one_type() && !has_one_type {
        return Err(invalid("AttributeValues inside AttributeValueList must be of same type"));
    }
    if let (Operator::Between, [low, high]) = (operator, values.as_slice())
        && is_above(&low.node(), &high.node())
    {
        return Err(Failure::validation(
            "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound",
        ));
    }
    Ok(values)
}

/// Whether the first of two values of one type is the greater one.
fn is_above(low: &Node<'_>, high: &Node<'_>) -> bool {
    match (low, high) {
        (Node::String(low), Node::String(high)) => low > high,
        (Node::Binary(low), Node::Binary(high)) => low > high,
        (Node::Number(low), Node::Number(high)) => Number::parse(low).ok() > Number::parse(high).ok(),
        _ => false,
    }
}

/// The condition that the operator makes of an attribute and values that [`arguments`] has checked.
pub(super) fn condition(attribute: Path, operator: Operator, values: Vec<Value>) -> Condition {
    let compare = |comparison| {
        move |attribute: Path, value: Value| {
            Condition::Compare(Operand::Path(attribute), comparison, Operand::Value(value))
        }
    };
    let mut values = values.into_iter();
    let first = values.next();
    let (operator, value) = match (operator, first) {
        (Operator::Null, _) => return Condition::NotExists(attribute),
        (Operator::NotNull, _) => return Condition::Exists(attribute),
        (operator, Some(value)) => (operator, value),
        // Checked before; an operator without its value holds for nothing.
        (_, None) => return Condition::Or(Vec::new()),
    };
    match operator {
        Operator::Eq => compare(Comparison::Equal)(attribute, value),
        Operator::Ne => compare(Comparison::NotEqual)(attribute, value),
        Operator::Le => compare(Comparison::LessOrEqual)(attribute, value),
        Operator::Lt => compare(Comparison::Less)(attribute, value),
        Operator::Ge => compare(Comparison::GreaterOrEqual)(attribute, value),
        Operator::Gt => compare(Comparison::Greater)(attribute, value),
        Operator::In => {
            let all = std::iter::once(value).chain(values).map(Operand::Value).collect();
            Condition::In(Operand::Path(attribute), all)
        }
        Operator::Between => {
            let high = values.next().unwrap_or_else(|| value.clone());
            Condition::Between(Operand::Path(attribute), Operand::Value(value), Operand::Value(high))
        }
        Operator::Contains => Condition::Contains(Operand::Path(attribute), Operand::Value(value)),
        Operator::NotContains => {
            Condition::Not(Box::new(Condition::Contains(Operand::Path(attribute), Operand::Value(value))))
        }
        Operator::BeginsWith => Condition::BeginsWith(Operand::Path(attribute), Operand::Value(value)),
        Operator::Null | Operator::NotNull => Condition::Exists(attribute),
    }
}
