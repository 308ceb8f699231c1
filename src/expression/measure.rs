//! Whether a tree is within the limits of its bytes: not too deep, not too many parts, not too long, and nothing longer
//! than its length field. Bounded itself: it stops where the tree is too deep or has too much.

use std::collections::BTreeSet;

use super::condition::{Condition, Operand};
use super::encoding::memory;
use super::limits::{CONDITION_LEVELS_MAX, FUNCTION_LEVELS_MAX, PATH_ELEMENTS_MAX, TREE_BYTES_MAX, TREE_PARTS_MAX};
use super::path::{Path, Step};
use super::update::{SetOperand, SetValue, Update};
use super::value::Value;

/// More than a part takes beside its names and its value.
const PART_BYTES: usize = 16;

/// Counts parts and bytes; none once there were too many.
struct Measure {
    parts_left: usize,
    bytes_left: usize,
    values: BTreeSet<(usize, usize)>,
}

impl Measure {
    fn new() -> Measure {
        Measure { parts_left: TREE_PARTS_MAX, bytes_left: TREE_BYTES_MAX, values: BTreeSet::new() }
    }

    fn part(&mut self) -> Option<()> {
        self.parts_left = self.parts_left.checked_sub(1)?;
        self.bytes(PART_BYTES)
    }

    fn bytes(&mut self, bytes: usize) -> Option<()> {
        self.bytes_left = self.bytes_left.checked_sub(bytes)?;
        Some(())
    }

    fn text(&mut self, text: &str) -> Option<()> {
        Self::count(text.len())?;
        self.bytes(text.len() + 5)
    }

    fn value(&mut self, value: &Value) -> Option<()> {
        self.part()?;
        let is_new = self.values.insert(memory(value));
        if is_new { self.bytes(value.document().as_bytes().len()) } else { Some(()) }
    }

    fn count(count: usize) -> Option<()> {
        (count <= usize::from(u16::MAX)).then_some(())
    }

    fn path(&mut self, path: &Path) -> Option<()> {
        self.part()?;
        self.text(&path.attribute)?;
        (path.steps.len() < PATH_ELEMENTS_MAX).then_some(())?;
        path.steps.iter().try_for_each(|step| match step {
            Step::Attribute(name) => self.text(name),
            Step::Index(_) => self.bytes(5),
        })
    }

    fn operand(&mut self, operand: &Operand) -> Option<()> {
        match operand {
            Operand::Path(path) | Operand::Size(path) => self.path(path),
            Operand::Value(value) => self.value(value),
        }
    }

    fn condition(&mut self, condition: &Condition, level: usize) -> Option<()> {
        self.part()?;
        (level <= CONDITION_LEVELS_MAX).then_some(())?;
        match condition {
            Condition::And(conditions) | Condition::Or(conditions) => {
                Self::count(conditions.len())?;
                conditions.iter().try_for_each(|condition| self.condition(condition, level + 1))
            }
            Condition::Not(condition) => self.condition(condition, level + 1),
            Condition::Compare(left, _, right)
            | Condition::BeginsWith(left, right)
            | Condition::Contains(left, right) => {
                self.operand(left)?;
                self.operand(right)
            }
            Condition::Between(value, low, high) => {
                [value, low, high].into_iter().try_for_each(|operand| self.operand(operand))
            }
            Condition::In(value, list) => {
                Self::count(list.len())?;
                self.operand(value)?;
                list.iter().try_for_each(|operand| self.operand(operand))
            }
            Condition::Exists(path) | Condition::NotExists(path) => self.path(path),
            Condition::Type(operand, _) => self.operand(operand),
        }
    }

    fn set_operand(&mut self, operand: &SetOperand, level: usize) -> Option<()> {
        (level <= FUNCTION_LEVELS_MAX + 1).then_some(())?;
        match operand {
            SetOperand::Path(path) => self.path(path),
            SetOperand::Value(value) => self.value(value),
            SetOperand::IfNotExists(path, otherwise) => {
                self.path(path)?;
                self.set_operand(otherwise, level + 1)
            }
            SetOperand::ListAppend(first, second) => {
                self.set_operand(first, level + 1)?;
                self.set_operand(second, level + 1)
            }
        }
    }

    fn update(&mut self, update: &Update) -> Option<()> {
        let counts = [update.sets.len(), update.removes.len(), update.adds.len(), update.deletes.len()];
        counts.into_iter().try_for_each(Self::count)?;
        for (path, value) in &update.sets {
            self.path(path)?;
            match value {
                SetValue::Operand(operand) => self.set_operand(operand, 1)?,
                SetValue::Plus(left, right) | SetValue::Minus(left, right) => {
                    self.set_operand(left, 1)?;
                    self.set_operand(right, 1)?;
                }
            }
        }
        update.removes.iter().try_for_each(|path| self.path(path))?;
        update.adds.iter().chain(&update.deletes).try_for_each(|(path, value)| {
            self.path(path)?;
            self.value(value)
        })
    }
}

impl Condition {
    /// Whether its bytes can be decoded again. What was bound from text always can; whoever builds trees without text
    /// asks before encoding.
    pub fn within_limits(&self) -> bool {
        Measure::new().condition(self, 1).is_some()
    }
}

impl Update {
    /// As [`Condition::within_limits`].
    pub fn within_limits(&self) -> bool {
        Measure::new().update(self).is_some()
    }
}
