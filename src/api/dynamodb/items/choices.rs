//! The words that writes of one item take: what to return, and how conditions go together.

use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{
    self, CONDITIONAL_OPERATOR, Constraints, ITEM_COLLECTION_METRICS, ON_CONDITION_FAILURE, ReturnConsumedCapacity,
    ReturnValues, Text,
};

/// The words as they were given.
pub(super) struct Words<'t> {
    pub(super) table_name: &'t Text<'t>,
    /// The member that the item or its key stands in, and whether it was given.
    pub(super) subject: (&'static str, bool),
    pub(super) return_values: &'t Text<'t>,
    pub(super) return_consumed_capacity: &'t Text<'t>,
    pub(super) return_item_collection_metrics: &'t Text<'t>,
    pub(super) return_values_on_condition_check_failure: &'t Text<'t>,
    pub(super) conditional_operator: &'t Text<'t>,
}

/// What they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choices {
    pub(super) returns: ReturnValues,
    pub(super) capacity: ReturnConsumedCapacity,
    /// The item is to be told where its condition does not hold.
    pub(super) item_on_failure: bool,
    /// The size of the item collection is to be told, where the table has such.
    pub(super) collection_metrics: bool,
}

impl Words<'_> {
    /// What they mean, and that what must be given is.
    pub(super) fn check(&self) -> Result<Choices, Failure> {
        let mut constraints = Constraints::new();
        request::check_table_name(&mut constraints, self.table_name);
        let (member, is_given) = self.subject;
        if !is_given {
            constraints.missing(member);
        }
        let returns = constraints.word("returnValues", self.return_values, ReturnValues::WORDS);
        let capacity = capacity(&mut constraints, self.return_consumed_capacity);
        let collection_metrics = collection_metrics(&mut constraints, self.return_item_collection_metrics);
        constraints.word("conditionalOperator", self.conditional_operator, CONDITIONAL_OPERATOR);
        let on_failure = self.return_values_on_condition_check_failure;
        let item_on_failure = constraints.word("returnValuesOnConditionCheckFailure", on_failure, ON_CONDITION_FAILURE);
        constraints.finish()?;
        Ok(Choices {
            returns: returns.unwrap_or_default(),
            capacity,
            item_on_failure: item_on_failure.unwrap_or(false),
            collection_metrics,
        })
    }
}

/// ReturnConsumedCapacity.
pub(super) fn capacity(constraints: &mut Constraints, given: &Text<'_>) -> ReturnConsumedCapacity {
    let word = constraints.word("returnConsumedCapacity", given, ReturnConsumedCapacity::WORDS);
    word.unwrap_or_default()
}

/// ReturnItemCollectionMetrics: whether it asks for sizes.
pub(super) fn collection_metrics(constraints: &mut Constraints, given: &Text<'_>) -> bool {
    let word = constraints.word("returnItemCollectionMetrics", given, ITEM_COLLECTION_METRICS);
    word.unwrap_or(false)
}
