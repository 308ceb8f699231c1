//! DeleteItem: the item goes. One that is not there is no mistake.

use serde::Deserialize;

use super::body::Body;
use super::choices::{Choices, Words};
use super::collections;
use super::write::Write;
use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::expressions::{self, Parameters};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Names, Raw, ReturnValues, Text};
use crate::api::dynamodb::table_lookup::{self, KeySchema};
use crate::domain::document::Document;
use crate::domain::table::TableSpecification;
use crate::expression::Condition;
use crate::replication::operation::{Change, Images};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    table_name: Text<'a>,
    #[serde(borrow)]
    key: Raw<'a>,
    #[serde(borrow)]
    expected: Raw<'a>,
    #[serde(borrow)]
    return_values: Text<'a>,
    #[serde(borrow)]
    return_consumed_capacity: Text<'a>,
    #[serde(borrow)]
    return_item_collection_metrics: Text<'a>,
    #[serde(borrow)]
    conditional_operator: Text<'a>,
    #[serde(borrow)]
    condition_expression: Text<'a>,
    expression_attribute_names: Names,
    #[serde(borrow)]
    expression_attribute_values: Raw<'a>,
    #[serde(borrow)]
    return_values_on_condition_check_failure: Text<'a>,
}

impl Asked<'_> {
    fn choices(&self) -> Result<Choices, Failure> {
        let words = Words {
            table_name: &self.table_name,
            subject: ("key", self.key.is_some()),
            return_values: &self.return_values,
            return_consumed_capacity: &self.return_consumed_capacity,
            return_item_collection_metrics: &self.return_item_collection_metrics,
            return_values_on_condition_check_failure: &self.return_values_on_condition_check_failure,
            conditional_operator: &self.conditional_operator,
        };
        words.check()
    }

    fn parameters(&self) -> Parameters<'_> {
        Parameters {
            condition: self.condition_expression.get(),
            names: self.expression_attribute_names.0.as_ref(),
            values: self.expression_attribute_values,
            expected: self.expected,
            conditional_operator: self.conditional_operator.get(),
            ..Parameters::default()
        }
    }

    /// The map of `Key`, and the condition: what is read without the table.
    fn read(&self, returns: ReturnValues) -> Result<(Document, Option<Condition>), Failure> {
        let key = attribute_value::read_item(request::given(self.key, "key")?.get().as_bytes())?;
        request::only_old_or_none(returns)?;
        let condition = expressions::read(expressions::Operation::DeleteItem, &self.parameters())?.condition;
        Ok((key, condition))
    }
}

/// DeleteItem.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn delete_item(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let choices = asked.choices()?;
    let (key, condition) = asked.read(choices.returns)?;
    let table = table_lookup::find(call, &asked.table_name)?;
    let key = table_lookup::key_of(key, &KeySchema::of(&table.specification))?;
    let images = Images {
        before: choices.returns == ReturnValues::AllOld,
        after: false,
        before_on_failure: choices.item_on_failure && condition.is_some(),
        ..Images::default()
    };
    let write = Write { key, change: Change::Remove, condition, images, capacity: choices.capacity };
    let written = write.run(call, &table).await?;
    let keys = Some(&written.keys).filter(|_| choices.collection_metrics);
    let metrics = collections::metrics(call, &table, keys).await;
    let mut body = Body::with_capacity(0);
    if let Some(before) = &written.before {
        body.item("Attributes", before, Some(&written.keys));
    }
    body.consumed(asked.table_name.get().unwrap_or_default(), &written.consumed, choices.capacity);
    body.collection(metrics.as_deref());
    Ok(body.finish())
}

/// For the fuzzer: reads a request about this table, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    let (key, _) = asked.read(asked.choices()?.returns)?;
    table_lookup::key_of(key, &KeySchema::of(table)).map(drop)
}
