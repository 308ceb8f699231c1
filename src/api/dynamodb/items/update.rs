//! UpdateItem: parts of the item change, and the item is made where there is none. What changes comes as an UpdateExpression or
//! as AttributeUpdates; without either, a missing item is made of its key alone. An update that makes an item which an index of
//! the table cannot hold is refused by the range, as one that makes no sense for the item is.

use serde::Deserialize;

use super::body::Body;
use super::choices::{Choices, Words};
use super::collections;
use super::write::{NotWritten, Write, Written};
use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::expressions::{self, Expressions, Parameters};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::legacy;
use crate::api::dynamodb::request::{self, Names, Raw, ReturnValues, Text};
use crate::api::dynamodb::table_lookup::{self, ItemKey, KeySchema};
use crate::domain::document::Document;
use crate::domain::table::TableSpecification;
use crate::expression::Update;
use crate::replication::operation::{Change, Images};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    table_name: Text<'a>,
    #[serde(borrow)]
    key: Raw<'a>,
    #[serde(borrow)]
    attribute_updates: Raw<'a>,
    #[serde(borrow)]
    expected: Raw<'a>,
    #[serde(borrow)]
    conditional_operator: Text<'a>,
    #[serde(borrow)]
    return_values: Text<'a>,
    #[serde(borrow)]
    return_consumed_capacity: Text<'a>,
    #[serde(borrow)]
    return_item_collection_metrics: Text<'a>,
    #[serde(borrow)]
    update_expression: Text<'a>,
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
            update: self.update_expression.get(),
            names: self.expression_attribute_names.0.as_ref(),
            values: self.expression_attribute_values,
            expected: self.expected,
            attribute_updates: self.attribute_updates,
            conditional_operator: self.conditional_operator.get(),
            ..Parameters::default()
        }
    }

    /// The map of `Key`, and the expressions: what is read without the table.
    fn read(&self) -> Result<(Document, Expressions), Failure> {
        let key = attribute_value::read_item(request::given(self.key, "key")?.get().as_bytes())?;
        Ok((key, expressions::read(expressions::Operation::UpdateItem, &self.parameters())?))
    }
}

/// UpdateItem.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn update_item(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let choices = asked.choices()?;
    let (key, read) = asked.read()?;
    let update = read.update.unwrap_or_default();
    let table = table_lookup::find(call, &asked.table_name)?;
    let key = key_for(key, &update, &table.specification)?;
    let images = Images {
        before: matches!(choices.returns, ReturnValues::AllOld | ReturnValues::UpdatedOld),
        after: matches!(choices.returns, ReturnValues::AllNew | ReturnValues::UpdatedNew),
        before_on_failure: choices.item_on_failure && read.condition.is_some(),
        touched_only: matches!(choices.returns, ReturnValues::UpdatedOld | ReturnValues::UpdatedNew),
    };
    let change = Change::Update(Box::new(update));
    let write = Write { key, change, condition: read.condition, images, capacity: choices.capacity };
    let written = write.run(call, &table).await.map_err(|not_written| match not_written {
        NotWritten::Invalid(text) if read.is_legacy_update => Failure::validation(legacy::evaluation_text(&text)),
        other => other.into(),
    })?;
    let keys = Some(&written.keys).filter(|_| choices.collection_metrics);
    let metrics = collections::metrics(call, &table, keys).await;
    let mut body = Body::with_capacity(0);
    write_attributes(&mut body, &written, choices.returns);
    body.consumed(asked.table_name.get().unwrap_or_default(), &written.consumed, choices.capacity);
    body.collection(metrics.as_deref());
    Ok(body.finish())
}

/// For the fuzzer: reads a request about this table, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    asked.choices()?;
    let (key, read) = asked.read()?;
    key_for(key, &read.update.unwrap_or_default(), table).map(drop)
}

/// The key of the item that is updated, by the schema of its table.
fn key_for(key: Document, update: &Update, table: &TableSpecification) -> Result<ItemKey, Failure> {
    let schema = KeySchema::of(table);
    let key = table_lookup::key_of(key, &schema)?;
    check_paths(update, &schema)?;
    Ok(key)
}

/// The key of an item does not change.
fn check_paths(update: &Update, schema: &KeySchema<'_>) -> Result<(), Failure> {
    match update.paths().into_iter().find(|path| schema.contains(&path.attribute)) {
        None => Ok(()),
        Some(path) => Err(Failure::validation(format!(
            "One or more parameter values were invalid: Cannot update attribute {}. This attribute is part of the key",
            path.attribute
        ))),
    }
}

fn write_attributes(body: &mut Body, written: &Written, returns: ReturnValues) {
    let image = written.before.as_ref().or(written.after.as_ref());
    let Some(image) = image else { return };
    match returns {
        ReturnValues::None => {}
        ReturnValues::AllOld | ReturnValues::AllNew => body.item("Attributes", image, Some(&written.keys)),
        // No more is left of the image than what was touched.
        ReturnValues::UpdatedOld | ReturnValues::UpdatedNew => {
            if !image.is_empty() {
                body.item("Attributes", image, None);
            }
        }
    }
}
