//! Conditions and updates as text, with a placeholder for every value.

use super::super::*;
use crate::domain::document::{Builder, Document};

/// Prints trees, and gathers the values that stand in them.
#[derive(Default)]
pub(super) struct Printer {
    values: Vec<Value>,
}

impl Printer {
    fn path(path: &Path) -> String {
        let mut text = path.attribute.to_string();
        for step in &path.steps {
            match step {
                Step::Attribute(name) => text.push_str(&format!(".{name}")),
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    fn value(&mut self, value: &Value) -> String {
        self.values.push(value.clone());
        format!(":v{}", self.values.len() - 1)
    }

    fn operand(&mut self, operand: &Operand) -> String {
        match operand {
            Operand::Path(path) => Self::path(path),
            Operand::Value(value) => self.value(value),
            Operand::Size(path) => format!("size ({})", Self::path(path)),
        }
    }

    fn operands<'o>(&mut self, operands: impl IntoIterator<Item = &'o Operand>) -> Vec<String> {
        operands.into_iter().map(|operand| self.operand(operand)).collect()
    }

    pub(super) fn condition(&mut self, condition: &Condition) -> String {
        let inner = |printer: &mut Self, conditions: &[Condition], word: &str| {
            let all: Vec<String> = conditions.iter().map(|one| format!("({})", printer.condition(one))).collect();
            all.join(word)
        };
        match condition {
            Condition::And(all) => inner(self, all, " AND "),
            Condition::Or(any) => inner(self, any, " or "),
            Condition::Not(condition) => format!("NOT ({})", self.condition(condition)),
            Condition::Compare(left, comparison, right) => self.operands([left, right]).join(comparison.sign()),
            Condition::Between(value, low, high) => {
                let texts = self.operands([value, low, high]);
                format!("{} BETWEEN {} AND {}", texts[0], texts[1], texts[2])
            }
            Condition::In(value, list) => {
                let value = self.operand(value);
                format!("{value} IN ({})", self.operands(list).join(", "))
            }
            Condition::Exists(path) => format!("attribute_exists({})", Self::path(path)),
            Condition::NotExists(path) => format!("attribute_not_exists({})", Self::path(path)),
            Condition::Type(operand, kind) => {
                let operand = self.operand(operand);
                let kind = Value::build(|builder| builder.string(kind.name())).unwrap();
                format!("attribute_type({operand}, {})", self.value(&kind))
            }
            Condition::BeginsWith(left, right) => format!("begins_with({})", self.operands([left, right]).join(",")),
            Condition::Contains(left, right) => format!("contains({})", self.operands([left, right]).join(",")),
        }
    }

    fn set_operand(&mut self, operand: &SetOperand) -> String {
        match operand {
            SetOperand::Path(path) => Self::path(path),
            SetOperand::Value(value) => self.value(value),
            SetOperand::IfNotExists(path, otherwise) => {
                format!("if_not_exists({}, {})", Self::path(path), self.set_operand(otherwise))
            }
            SetOperand::ListAppend(first, second) => {
                format!("list_append({}, {})", self.set_operand(first), self.set_operand(second))
            }
        }
    }

    pub(super) fn update(&mut self, update: &Update) -> String {
        let mut sections = Vec::new();
        let sets: Vec<String> = update
            .sets
            .iter()
            .map(|(path, value)| {
                let value = match value {
                    SetValue::Operand(operand) => self.set_operand(operand),
                    SetValue::Plus(left, right) => format!("{} + {}", self.set_operand(left), self.set_operand(right)),
                    SetValue::Minus(left, right) => format!("({}-{})", self.set_operand(left), self.set_operand(right)),
                };
                format!("{}={value}", Self::path(path))
            })
            .collect();
        sections.push(("SET", sets));
        sections.push(("REMOVE", update.removes.iter().map(Self::path).collect()));
        for (word, changes) in [("ADD", &update.adds), ("delete", &update.deletes)] {
            let changes = changes.iter().map(|(path, value)| format!("{} {}", Self::path(path), self.value(value)));
            sections.push((word, changes.collect()));
        }
        let sections = sections.into_iter().filter(|(_, actions)| !actions.is_empty());
        sections.map(|(word, actions)| format!("{word} {}", actions.join(", "))).collect::<Vec<_>>().join(" ")
    }

    /// The values as a request gives them; the number in its name is the value's place.
    fn document(&self) -> Document {
        let mut builder = Builder::new();
        for (index, value) in self.values.iter().enumerate() {
            builder.name(&format!("v{index}")).unwrap();
            builder.node(value.node()).unwrap();
        }
        builder.finish().unwrap()
    }

    pub(super) fn substitutions(&self) -> Substitutions<'static> {
        if self.values.is_empty() {
            return Substitutions::none();
        }
        Substitutions::new(None, Some(self.document())).unwrap()
    }
}
