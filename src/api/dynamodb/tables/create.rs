//! CreateTable. It answers when the table can be used, and says CREATING all the same, as clients expect: they ask
//! DescribeTable until it says ACTIVE.

use serde::Deserialize;
use serde_json::json;

use super::definition::{self, AttributeDefinition, KeyElement};
use super::describe::{self, Quantities, Status};
use super::local_indexes::{self, AskedIndex};
use super::parameters::{self, AskedThroughput, BillingMode, TABLE_CLASSES, Tag, list_of, structure};
use super::{body, unsupported};
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Constraints, Flag, Raw, Text};
use crate::api::dynamodb::table_lookup::{TableReference, table_reference};
use crate::domain::table::TableSpecification;
use crate::domain::table_options::{TableClass, Throughput};
use crate::domain::{RefusalKind, TableName};
use crate::services::ports::Creation;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    table_name: Text<'a>,
    #[serde(borrow)]
    key_schema: Raw<'a>,
    #[serde(borrow)]
    attribute_definitions: Raw<'a>,
    #[serde(borrow)]
    local_secondary_indexes: Raw<'a>,
    #[serde(borrow)]
    billing_mode: Text<'a>,
    #[serde(borrow)]
    provisioned_throughput: Raw<'a>,
    #[serde(borrow)]
    table_class: Text<'a>,
    deletion_protection_enabled: Flag,
    #[serde(borrow)]
    tags: Raw<'a>,
}

/// The lists and structures within, and the words understood.
struct Parts<'a> {
    key: Vec<KeyElement<'a>>,
    attributes: Vec<AttributeDefinition<'a>>,
    local_indexes: Option<Vec<AskedIndex<'a>>>,
    billing_mode: Option<BillingMode>,
    throughput: Option<AskedThroughput>,
    table_class: Option<TableClass>,
    tags: Vec<Tag<'a>>,
}

impl<'a> Asked<'a> {
    /// What the model allows, or all that it does not.
    fn parts(&self) -> Result<Parts<'a>, Failure> {
        let key: Option<Vec<KeyElement<'a>>> = list_of(self.key_schema)?;
        let attributes: Option<Vec<AttributeDefinition<'a>>> = list_of(self.attribute_definitions)?;
        let local_indexes = local_indexes::read(self.local_secondary_indexes)?;
        let throughput: Option<AskedThroughput> = structure(self.provisioned_throughput)?;
        let tags: Vec<Tag<'a>> = list_of(self.tags)?.unwrap_or_default();
        let mut constraints = Constraints::new();
        request::check_table_name(&mut constraints, &self.table_name);
        definition::check_attributes(&mut constraints, attributes.as_deref());
        definition::check_key(&mut constraints, "keySchema", key.as_deref());
        local_indexes::check(&mut constraints, local_indexes.as_deref().unwrap_or_default());
        let billing_mode = constraints.word("billingMode", &self.billing_mode, BillingMode::WORDS);
        if let Some(throughput) = &throughput {
            throughput.check(&mut constraints);
        }
        let table_class = constraints.word("tableClass", &self.table_class, TABLE_CLASSES);
        parameters::check_tags(&mut constraints, &tags);
        constraints.finish()?;
        let (key, attributes) = (key.unwrap_or_default(), attributes.unwrap_or_default());
        Ok(Parts { key, attributes, local_indexes, billing_mode, throughput, table_class, tags })
    }

    /// The table that this body, of which these are the parts, asks for.
    fn specification(&self, parts: &Parts<'_>, body: &[u8]) -> Result<TableSpecification, Failure> {
        unsupported::refuse(body)?;
        parts.specification(self.deletion_protection_enabled.is_set())
    }
}

impl Parts<'_> {
    fn throughput(&self) -> Result<Option<Throughput>, Failure> {
        match (self.billing_mode.unwrap_or(BillingMode::Provisioned), &self.throughput) {
            (BillingMode::PayPerRequest, None) => Ok(None),
            (BillingMode::PayPerRequest, Some(_)) => Err(parameters::no_capacity_by_request()),
            (BillingMode::Provisioned, None) => Err(parameters::capacity_is_missing()),
            (BillingMode::Provisioned, Some(asked)) => asked.throughput().map(Some),
        }
    }

    fn specification(&self, is_protected: bool) -> Result<TableSpecification, Failure> {
        let throughput = self.throughput()?;
        let keys = definition::specification(&self.key, &self.attributes)?;
        let asked = self.local_indexes.as_deref();
        let local_indexes = local_indexes::specification(asked, &keys, &self.attributes)?;
        let index_keys: Vec<_> = asked.unwrap_or_default().iter().map(AskedIndex::key).collect();
        definition::check_definitions(&self.key, &index_keys, &self.attributes)?;
        let tags = parameters::tag_map(&self.tags)?;
        let table_class = self.table_class.unwrap_or_default();
        Ok(TableSpecification {
            throughput,
            table_class,
            deletion_protection: is_protected,
            tags,
            local_indexes,
            ..keys
        })
    }
}

/// CreateTable.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn create_table(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let parts = asked.parts()?;
    let name = own_name(call, asked.table_name.get().unwrap_or_default())?;
    let specification = asked.specification(&parts, &call.body)?;
    if call.find_table(&name).is_some() {
        return Err(exists(&name));
    }
    let made = call.state.catalog.create_table(call.caller, call.tenant, &name, specification).await;
    let (table, creation) = made.map_err(|refusal| match refusal.kind {
        RefusalKind::Conflict => exists(&name),
        _ => refusal.into(),
    })?;
    if creation == Creation::Unchanged {
        return Err(exists(&name));
    }
    call.note_table(&std::sync::Arc::new(table.clone()));
    let description = describe::description(call, &table, Status::Creating, &Quantities::zero(&table));
    body(&json!({ "TableDescription": description }))
}

/// For the fuzzer: reads a request, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8]) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    asked.specification(&asked.parts()?, body).map(drop)
}

/// The name of a table to be made, which an ARN may tell, too.
fn own_name(call: &Call<'_>, name: &str) -> Result<TableName, Failure> {
    match table_reference(call, name)? {
        TableReference::Own(name) => Ok(name),
        TableReference::Foreign => Err(Failure::validation(format!("Invalid TableArn: {name}"))),
    }
}

fn exists(name: &TableName) -> Failure {
    Failure::resource_in_use(format!("Table already exists: {name}"))
}
