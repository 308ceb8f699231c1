//! PutItem: the item becomes what the request brings, whatever it was.

use std::sync::Arc;

use serde::Deserialize;

use super::body::Body;
use super::choices::{Choices, Words};
use super::collections;
use super::indexed;
use super::write::Write;
use crate::api::dynamodb::attribute_value::Split;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::expressions::{self, Parameters};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Names, Raw, ReturnValues, Text};
use crate::api::dynamodb::table_lookup::{self, KeySchema, SplitItem};
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::expression::Condition;
use crate::replication::operation::{Change, Images};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    table_name: Text<'a>,
    #[serde(borrow)]
    item: Raw<'a>,
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
            subject: ("item", self.item.is_some()),
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

    /// The item and the condition: what is read before the table is told of. `schema` is that of the table, if there is one.
    fn read(
        &self,
        schema: Option<&KeySchema<'_>>,
        returns: ReturnValues,
    ) -> Result<(Split, Option<Condition>), Failure> {
        let split = attributes(request::given(self.item, "item")?.get(), schema, returns)?;
        let condition = expressions::read(expressions::Operation::PutItem, &self.parameters())?.condition;
        Ok((split, condition))
    }
}

/// A request that was read and checked.
struct Ready<'a> {
    table: Arc<TableDefinition>,
    /// The table as the request calls it.
    table_name: Text<'a>,
    choices: Choices,
    write: Write,
}

/// Reads and checks a request: all that is done before the range is asked.
fn ready<'a>(call: &'a Call<'_>) -> Result<Ready<'a>, Failure> {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let choices = asked.choices()?;
    // The table is looked up first, because its key attributes are parted from the others while they are read; what is wrong
    // with values is told before what is wrong with the table, all the same.
    let table = table_lookup::find(call, &asked.table_name);
    let schema = table.as_ref().ok().map(|table| KeySchema::of(&table.specification));
    let (split, condition) = asked.read(schema.as_ref(), choices.returns)?;
    let table = table?;
    let split = storable(split, &table.specification)?;
    let images = Images {
        before: choices.returns == ReturnValues::AllOld,
        after: false,
        before_on_failure: choices.item_on_failure && condition.is_some(),
        ..Images::default()
    };
    let change = Change::Put(split.document);
    let write = Write { key: split.key, change, condition, images, capacity: choices.capacity };
    Ok(Ready { table, table_name: asked.table_name, choices, write })
}

/// PutItem.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn put_item(call: &Call<'_>) -> Answered {
    let Ready { table, table_name, choices, write } = ready(call)?;
    let written = write.run(call, &table).await?;
    let keys = Some(&written.keys).filter(|_| choices.collection_metrics);
    let metrics = collections::metrics(call, &table, keys).await;
    let mut body = Body::with_capacity(0);
    if let Some(before) = &written.before {
        body.item("Attributes", before, Some(&written.keys));
    }
    body.consumed(table_name.get().unwrap_or_default(), &written.consumed, choices.capacity);
    body.collection(metrics.as_deref());
    Ok(body.finish())
}

/// For the fuzzer: reads a request about this table, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    let (split, _) = asked.read(Some(&KeySchema::of(table)), asked.choices()?.returns)?;
    storable(split, table).map(drop)
}

/// Reads the item; AWS looks at its values, then at ReturnValues, then at its size.
fn attributes(json: &str, schema: Option<&KeySchema<'_>>, returns: ReturnValues) -> Result<Split, Failure> {
    let split = table_lookup::read_item(json.as_bytes(), schema)?;
    request::only_old_or_none(returns)?;
    table_lookup::check_item_size(&split)?;
    Ok(split)
}

/// The item with its key, where the table and its indexes can hold it.
fn storable(split: Split, table: &TableSpecification) -> Result<SplitItem, Failure> {
    let split = table_lookup::split_item(split, &KeySchema::of(table))?;
    indexed::check_put(table, &split.key.attributes, &split.document)?;
    Ok(split)
}
