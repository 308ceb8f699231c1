//! UpdateTable: capacity, how the table is paid for, class, and whether it can be deleted. A change is done when this
//! answers; of capacity and class the answer says UPDATING all the same, as clients expect.

use serde::Deserialize;
use serde_json::json;

use super::describe::{self, Status};
use super::parameters::{self, AskedThroughput, BillingMode, TABLE_CLASSES, structure};
use super::{body, find, unsupported};
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Constraints, Flag, Raw, Text};
use crate::domain::RefusalKind;
use crate::domain::table::{TableChange, TableSpecification};
use crate::domain::table_options::{TableClass, Throughput};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    table_name: Text<'a>,
    #[serde(borrow)]
    billing_mode: Text<'a>,
    #[serde(borrow)]
    provisioned_throughput: Raw<'a>,
    #[serde(borrow)]
    table_class: Text<'a>,
    deletion_protection_enabled: Flag,
    #[serde(borrow)]
    stream_specification: Raw<'a>,
    #[serde(borrow, rename = "SSESpecification")]
    encryption: Raw<'a>,
}

struct Parts {
    billing_mode: Option<BillingMode>,
    throughput: Option<AskedThroughput>,
    table_class: Option<TableClass>,
    deletion_protection: Option<bool>,
}

impl Asked<'_> {
    fn parts(&self) -> Result<Parts, Failure> {
        let throughput: Option<AskedThroughput> = structure(self.provisioned_throughput)?;
        let mut constraints = Constraints::new();
        request::check_table_name(&mut constraints, &self.table_name);
        let billing_mode = constraints.word("billingMode", &self.billing_mode, BillingMode::WORDS);
        if let Some(throughput) = &throughput {
            throughput.check(&mut constraints);
        }
        let table_class = constraints.word("tableClass", &self.table_class, TABLE_CLASSES);
        constraints.finish()?;
        Ok(Parts { billing_mode, throughput, table_class, deletion_protection: self.deletion_protection_enabled.0 })
    }

    /// The parts of this body, where it asks for anything, and for nothing that there is not.
    fn read(&self, body: &[u8]) -> Result<Parts, Failure> {
        let parts = self.parts()?;
        unsupported::refuse(body)?;
        // To be without a stream or a key of its own is what every table is.
        if parts.is_empty() && self.stream_specification.is_none() && self.encryption.is_none() {
            return Err(nothing_asked());
        }
        Ok(parts)
    }
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.billing_mode.is_none()
            && self.throughput.is_none()
            && self.table_class.is_none()
            && self.deletion_protection.is_none()
    }

    /// The change that makes it so of this table.
    fn change(&self, table: &TableSpecification) -> Result<TableChange, Failure> {
        Ok(TableChange {
            throughput: self.throughput_change(table.throughput)?,
            table_class: self.table_class,
            deletion_protection: self.deletion_protection,
            ..TableChange::default()
        })
    }

    fn throughput_change(&self, now: Option<Throughput>) -> Result<Option<Option<Throughput>>, Failure> {
        match (self.billing_mode, &self.throughput) {
            (None, None) => Ok(None),
            (Some(BillingMode::PayPerRequest), None) => Ok(Some(None)),
            (Some(BillingMode::PayPerRequest), Some(_)) => Err(parameters::no_capacity_by_request()),
            (Some(BillingMode::Provisioned), None) => Err(parameters::capacity_is_missing()),
            (None, Some(_)) if now.is_none() => Err(parameters::no_capacity_by_request()),
            (_, Some(asked)) => {
                let asked = asked.throughput()?;
                if now == Some(asked) { Err(unchanged(asked)) } else { Ok(Some(Some(asked))) }
            }
        }
    }
}

/// UpdateTable.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn update_table(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let parts = asked.read(&call.body)?;
    let table = find(call, &asked.table_name)?;
    let change = parts.change(&table.specification)?;
    let changed = call.state.catalog.change_table(call.caller, call.tenant, &table.name, change).await;
    let changed = changed.map_err(|refusal| match refusal.kind {
        RefusalKind::NotFound => Failure::table_not_found(table.name.as_str()),
        _ => refusal.into(),
    })?;
    let (status, stored) = describe::state(call, &table).await;
    let is_more = changed.specification.throughput != table.specification.throughput
        || changed.specification.table_class != table.specification.table_class;
    let status = if is_more { Status::Updating } else { status };
    body(&json!({ "TableDescription": describe::description(call, &changed, status, &stored) }))
}

/// For the fuzzer: reads a request about this table, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    asked.read(body)?.change(table).map(drop)
}

fn nothing_asked() -> Failure {
    Failure::validation(
        "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required",
    )
}

fn unchanged(throughput: Throughput) -> Failure {
    let Throughput { read, write } = throughput;
    Failure::validation(format!(
        "The provisioned throughput for the table will not change. The requested value equals the current value. Current ReadCapacityUnits provisioned for the table: {read}. Requested ReadCapacityUnits: {read}. Current WriteCapacityUnits provisioned for the table: {write}. Requested WriteCapacityUnits: {write}. Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits."
    ))
}
