//! GetItem: one item, or the wanted parts of it. An item that is not there is no mistake: the answer has no `Item` then.

use serde::Deserialize;

use super::body::Body;
use super::choices;
use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::capacity::{self, Consumed};
use crate::api::dynamodb::expressions::{self, Parameters};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Constraints, Flag, Names, Raw, ReturnConsumedCapacity, Text, Texts};
use crate::api::dynamodb::table_lookup::{self, KeySchema};
use crate::domain::document::Document;
use crate::domain::table::TableSpecification;
use crate::expression::{ItemView, Projection};
use crate::services::ports::Consistency;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    table_name: Text<'a>,
    #[serde(borrow)]
    key: Raw<'a>,
    attributes_to_get: Texts,
    consistent_read: Flag,
    #[serde(borrow)]
    return_consumed_capacity: Text<'a>,
    #[serde(borrow)]
    projection_expression: Text<'a>,
    expression_attribute_names: Names,
}

impl Asked<'_> {
    fn capacity(&self) -> Result<ReturnConsumedCapacity, Failure> {
        let mut constraints = Constraints::new();
        request::check_table_name(&mut constraints, &self.table_name);
        constraints.required("key", self.key.as_ref());
        check_attributes_to_get(&mut constraints, "attributesToGet", &self.attributes_to_get);
        let capacity = choices::capacity(&mut constraints, &self.return_consumed_capacity);
        constraints.finish()?;
        Ok(capacity)
    }

    /// All that is read and checked without the table.
    fn read(&self) -> Result<Read, Failure> {
        let capacity = self.capacity()?;
        let key = attribute_value::read_item(request::given(self.key, "key")?.get().as_bytes())?;
        let parameters = Parameters {
            projection: self.projection_expression.get(),
            names: self.expression_attribute_names.0.as_ref(),
            attributes_to_get: self.attributes_to_get.0.as_deref(),
            ..Parameters::default()
        };
        let projection = expressions::read(expressions::Operation::GetItem, &parameters)?.projection;
        Ok(Read { key, projection, capacity })
    }
}

/// What a request says, as far as it is known without the table.
struct Read {
    /// The map of `Key`.
    key: Document,
    projection: Option<Projection>,
    capacity: ReturnConsumedCapacity,
}

/// Notes an empty list of names.
pub(super) fn check_attributes_to_get(constraints: &mut Constraints, place: &str, names: &Texts) {
    if names.0.as_ref().is_some_and(Vec::is_empty) {
        constraints.broken("[]", place, "Member must have length greater than or equal to 1");
    }
}

/// How fresh a read is to be.
pub(super) fn consistency(consistent_read: Flag) -> Consistency {
    if consistent_read.is_set() { Consistency::Strong } else { Consistency::Eventual }
}

/// Appends what is wanted of an item.
pub(super) fn write_wanted(json: &mut Vec<u8>, document: &Document, keys: &Document, projection: Option<&Projection>) {
    match projection {
        None => attribute_value::write_item(document, Some(keys), json),
        Some(projection) => {
            let whole = ItemView { item: Some(document), keys }.document();
            attribute_value::write_item(&projection.project(&whole), None, json);
        }
    }
}

/// GetItem.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn get_item(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let Read { key, projection, capacity: wanted } = asked.read()?;
    let table = table_lookup::find(call, &asked.table_name)?;
    let key = table_lookup::key_of(key, &KeySchema::of(&table.specification))?;
    let consistency = consistency(asked.consistent_read);
    let found = call.state.items.read(&table, key.packed, consistency).await?;
    let bytes = found.as_ref().map_or(0, |item| capacity::item_bytes(&key.attributes, &item.document));
    let cost = capacity::read_cost(bytes, consistency);
    call.note_cost(&table, cost);
    let mut body = Body::with_capacity(found.as_ref().map_or(0, |item| item.document.as_bytes().len() * 3 / 2 + 128));
    if let Some(item) = &found {
        write_wanted(body.member("Item"), &item.document, &key.attributes, projection.as_ref());
    }
    let consumed = Consumed::of_table(capacity::half_units(&cost));
    body.consumed(asked.table_name.get().unwrap_or_default(), &consumed, wanted);
    Ok(body.finish())
}

/// For the fuzzer: reads a request about this table, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    table_lookup::key_of(asked.read()?.key, &KeySchema::of(table)).map(drop)
}
