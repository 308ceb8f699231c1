//! The parameters that Query and Scan have, and the checks of the service model.

use serde::Deserialize;

use super::select::{self, Select};
use crate::api::dynamodb::expressions::{self, Expressions, Operation, Parameters};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{
    CONDITIONAL_OPERATOR, Constraints, Count, Flag, Names, Raw, ReturnConsumedCapacity, Text, Texts, check_table_name,
};
use crate::services::ports::Consistency;

/// The largest TotalSegments.
const SEGMENTS_MAX: i64 = 1_000_000;
/// The largest Limit: the model's integers have 32 bits.
const LIMIT_MAX: i64 = i32::MAX as i64;

/// A request. Members that only the other operation has are skipped by whoever does not have them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub(super) table_name: Text<'a>,
    #[serde(borrow)]
    pub(super) index_name: Text<'a>,
    #[serde(borrow)]
    select: Text<'a>,
    attributes_to_get: Texts,
    limit: Count,
    consistent_read: Flag,
    #[serde(borrow)]
    key_conditions: Raw<'a>,
    #[serde(borrow)]
    pub(super) query_filter: Raw<'a>,
    #[serde(borrow)]
    scan_filter: Raw<'a>,
    #[serde(borrow)]
    conditional_operator: Text<'a>,
    pub(super) scan_index_forward: Flag,
    #[serde(borrow)]
    pub(super) exclusive_start_key: Raw<'a>,
    #[serde(borrow)]
    return_consumed_capacity: Text<'a>,
    #[serde(borrow)]
    projection_expression: Text<'a>,
    #[serde(borrow)]
    filter_expression: Text<'a>,
    #[serde(borrow)]
    key_condition_expression: Text<'a>,
    expression_attribute_names: Names,
    #[serde(borrow)]
    expression_attribute_values: Raw<'a>,
    pub(super) total_segments: Count,
    pub(super) segment: Count,
}

/// What of a request was read and checked without the table.
pub(super) struct Checked {
    pub(super) expressions: Expressions,
    /// Whether only the count is wanted.
    pub(super) counts_only: bool,
    /// Whether all attributes are asked for by name, also those that an index does not show.
    pub(super) all_attributes: bool,
    /// Items to look at, at most.
    pub(super) limit: Option<usize>,
    pub(super) consistency: Consistency,
    pub(super) capacity: ReturnConsumedCapacity,
}

impl Request<'_> {
    /// Checks everything that can be checked without knowing the table.
    ///
    /// # Errors
    /// ValidationException and SerializationException with AWS's texts.
    pub(super) fn check(&self, operation: Operation) -> Result<Checked, Failure> {
        let (select, capacity) = self.check_constraints(operation)?;
        let expressions = expressions::read(operation, &self.expressions(operation))?;
        let projecting = match (self.projection_expression.get(), &self.attributes_to_get.0) {
            (Some(_), _) => Some("ProjectionExpression"),
            (None, Some(_)) => Some("AttributesToGet"),
            (None, None) => None,
        };
        select::check(select, projecting, self.index_name.get().is_some())?;
        let consistency = if self.consistent_read.is_set() { Consistency::Strong } else { Consistency::Eventual };
        // Below nothing, and not above what fits in 32 bits: that was checked.
        let limit = self.limit.0.and_then(|limit| usize::try_from(limit).ok());
        let counts_only = select == Some(Select::Count);
        let all_attributes = select == Some(Select::AllAttributes);
        Ok(Checked { expressions, counts_only, all_attributes, limit, consistency, capacity })
    }

    fn check_constraints(&self, operation: Operation) -> Result<(Option<Select>, ReturnConsumedCapacity), Failure> {
        let mut constraints = Constraints::new();
        check_table_name(&mut constraints, &self.table_name);
        if let Some(name) = self.index_name.get() {
            constraints.spelled("indexName", name);
        }
        let select = constraints.word("select", &self.select, Select::WORDS);
        if self.attributes_to_get.0.as_ref().is_some_and(Vec::is_empty) {
            constraints.broken("[]", "attributesToGet", "Member must have length greater than or equal to 1");
        }
        constraints.within("limit", self.limit, 1, LIMIT_MAX);
        if operation == Operation::Scan {
            constraints.within("totalSegments", self.total_segments, 1, SEGMENTS_MAX);
            constraints.within("segment", self.segment, 0, SEGMENTS_MAX - 1);
        }
        constraints.word("conditionalOperator", &self.conditional_operator, CONDITIONAL_OPERATOR);
        let capacity = constraints
            .word("returnConsumedCapacity", &self.return_consumed_capacity, ReturnConsumedCapacity::WORDS)
            .unwrap_or_default();
        constraints.finish()?;
        Ok((select, capacity))
    }

    fn expressions(&self, operation: Operation) -> Parameters<'_> {
        let common = Parameters {
            projection: self.projection_expression.get(),
            filter: self.filter_expression.get(),
            names: self.expression_attribute_names.0.as_ref(),
            values: self.expression_attribute_values,
            attributes_to_get: self.attributes_to_get.0.as_deref(),
            conditional_operator: self.conditional_operator.get(),
            ..Parameters::default()
        };
        if operation == Operation::Scan {
            return Parameters { scan_filter: self.scan_filter, ..common };
        }
        Parameters {
            key_condition: self.key_condition_expression.get(),
            key_conditions: self.key_conditions,
            query_filter: self.query_filter,
            ..common
        }
    }
}
