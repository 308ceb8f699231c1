//! DescribeTable, and the description of a table in other answers.
//!
//! A table is ACTIVE when all of its ranges can be asked; to know that, they are asked how much they store, so ItemCount
//! and TableSizeBytes are those of the moment and not of some hours ago. Where they cannot be asked, a table that was
//! just made is still CREATING. An older one is ACTIVE nevertheless, since nothing in its making is under way, and
//! the two counts are left out: a number that is not known is not zero. The same goes for each of its local indexes, which
//! are always there when the table is.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::local_indexes::shown_projection;
use super::parameters::{TableOnly, class_word};
use super::{body, find};
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::names::table_arn;
use crate::api::dynamodb::table_lookup::KeySchema;
use crate::domain::key::KeyType;
use crate::domain::local_index::LocalIndex;
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::domain::{RefusalKind, Timestamp};
use crate::services::ports::{Stored, StoredPart};

/// How long the making of a table may take until its ranges are served.
const CREATING_SECONDS_MAX: u64 = 300;

/// What state a table is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Creating,
    Active,
    Updating,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Creating => "CREATING",
            Status::Active => "ACTIVE",
            Status::Updating => "UPDATING",
        }
    }
}

/// What a table and its indexes store, each where that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Quantities {
    table: Option<Stored>,
    /// By their positions.
    indexes: Vec<Option<Stored>>,
}

impl Quantities {
    /// Those of a table that was just made.
    pub(super) fn zero(table: &TableDefinition) -> Self {
        let zero = Some(Stored::default());
        Self { table: zero, indexes: vec![zero; table.specification.local_indexes.len()] }
    }
}

/// DescribeTable.
///
/// # Errors
/// [`Failure`](crate::api::dynamodb::Failure), as AWS has it.
pub async fn describe_table(call: &Call<'_>) -> Answered {
    let asked = TableOnly::read(&call.body)?;
    let table = find(call, &asked.table_name)?;
    let (status, stored) = state(call, &table).await;
    body(&json!({ "Table": description(call, &table, status, &stored) }))
}

/// In what state a table is, and what it stores, where that is known.
pub(super) async fn state(call: &Call<'_>, table: &Arc<TableDefinition>) -> (Status, Quantities) {
    let refusal = match call.state.items.stored(table, StoredPart::Table).await {
        Ok(stored) => {
            let indexes = indexes_stored(call, table).await;
            return (Status::Active, Quantities { table: Some(stored), indexes });
        }
        Err(refusal) => refusal,
    };
    // A node that is asked directly knows of its own ranges only.
    let is_elsewhere = refusal.kind == RefusalKind::WrongNode;
    let age = call.state.clock.now().seconds_since(table.created_at);
    if !is_elsewhere && age < CREATING_SECONDS_MAX {
        return (Status::Creating, Quantities::zero(table));
    }
    tracing::debug!(table = %table.id, %refusal, "what a table stores is not known");
    (Status::Active, Quantities::default())
}

/// What each of its indexes stores; all of them are asked at once.
async fn indexes_stored(call: &Call<'_>, table: &Arc<TableDefinition>) -> Vec<Option<Stored>> {
    let positions = (0..).zip(&table.specification.local_indexes).map(|(position, _)| position);
    let asked: Vec<_> = positions.map(|position| call.state.items.stored(table, StoredPart::Index(position))).collect();
    let answers = join_all(asked).await;
    let known = answers.into_iter().map(|answer| {
        answer.inspect_err(|refusal| tracing::debug!(table = %table.id, %refusal, "what an index stores is not known"))
    });
    known.map(Result::ok).collect()
}

/// A table as answers show it.
pub(super) fn description(call: &Call<'_>, table: &TableDefinition, status: Status, stored: &Quantities) -> Value {
    let schema = KeySchema::of(&table.specification);
    let mut shown = common(call, table);
    shown["TableStatus"] = status.word().into();
    shown["CreationDateTime"] = seconds(table.created_at).into();
    shown["KeySchema"] = key_schema(schema.id.name, schema.sort.map(|sort| sort.name));
    shown["AttributeDefinitions"] = attribute_definitions(&table.specification);
    if let Some(stored) = stored.table {
        shown["ItemCount"] = stored.items.into();
        shown["TableSizeBytes"] = stored.bytes.into();
    }
    if !table.specification.local_indexes.is_empty() {
        shown["LocalSecondaryIndexes"] = local_indexes(call, table, &stored.indexes);
    }
    let times = &table.option_times;
    if !table.specification.table_class.is_default() || times.class_changed_at.is_some() {
        let mut class = json!({"TableClass": class_word(table.specification.table_class)});
        if let Some(at) = times.class_changed_at {
            class["LastUpdateDateTime"] = seconds(at).into();
        }
        shown["TableClassSummary"] = class;
    }
    shown
}

fn key_schema(hash: &str, range: Option<&str>) -> Value {
    let parts = [(hash, "HASH")].into_iter().chain(range.map(|range| (range, "RANGE")));
    parts.map(|(name, part)| json!({"AttributeName": name, "KeyType": part})).collect()
}

/// The attributes of all keys, each once: those of the table's first.
fn attribute_definitions(specification: &TableSpecification) -> Value {
    let schema = KeySchema::of(specification);
    let of_table = [schema.id].into_iter().chain(schema.sort).map(|key| (key.name, key.key_type));
    let of_indexes = specification.local_indexes.iter().map(|index| (index.attribute.as_str(), index.key_type));
    let mut all: Vec<(&str, KeyType)> = Vec::new();
    for (name, key_type) in of_table.chain(of_indexes) {
        if !all.iter().any(|(known, _)| *known == name) {
            all.push((name, key_type));
        }
    }
    let shown =
        |(name, key_type): (&str, KeyType)| json!({"AttributeName": name, "AttributeType": key_type.type_code()});
    all.into_iter().map(shown).collect()
}

/// A table's local indexes.
fn local_indexes(call: &Call<'_>, table: &TableDefinition, stored: &[Option<Stored>]) -> Value {
    let arn = table_arn(call.location, &table.tenant, &table.name);
    let one = |(position, index): (usize, &LocalIndex)| {
        let mut shown = json!({
            "IndexName": index.name,
            "IndexArn": format!("{arn}/index/{}", index.name),
            "KeySchema": key_schema(&table.specification.id_name, Some(&index.attribute)),
            "Projection": shown_projection(&index.projection),
        });
        if let Some(stored) = stored.get(position).copied().flatten() {
            shown["ItemCount"] = stored.items.into();
            shown["IndexSizeBytes"] = stored.bytes.into();
        }
        shown
    };
    table.specification.local_indexes.iter().enumerate().map(one).collect()
}

/// A table that has just been dropped. Of one, AWS tells neither keys nor indexes.
pub(super) fn short_description(call: &Call<'_>, table: &TableDefinition) -> Value {
    let mut shown = common(call, table);
    shown["TableStatus"] = "DELETING".into();
    shown["ItemCount"] = 0.into();
    shown["TableSizeBytes"] = 0.into();
    shown
}

/// What both show.
fn common(call: &Call<'_>, table: &TableDefinition) -> Value {
    let (specification, times) = (&table.specification, &table.option_times);
    let units = specification.throughput.map_or((0, 0), |throughput| (throughput.read, throughput.write));
    let mut throughput = json!({
        "ReadCapacityUnits": units.0,
        "WriteCapacityUnits": units.1,
        "NumberOfDecreasesToday": times.lowered_today(call.state.clock.now()),
    });
    for (name, at) in [("LastIncreaseDateTime", times.raised_at), ("LastDecreaseDateTime", times.lowered_at)] {
        if let Some(at) = at {
            throughput[name] = seconds(at).into();
        }
    }
    let mut shown = json!({
        "TableName": table.name.as_str(),
        "TableArn": table_arn(call.location, &table.tenant, &table.name),
        "TableId": table.id.to_string(),
        "ProvisionedThroughput": throughput,
        "DeletionProtectionEnabled": specification.deletion_protection,
    });
    let is_by_request = specification.throughput.is_none();
    let since = times.by_request_since.or(is_by_request.then_some(table.created_at));
    if let Some(since) = since {
        let mode = if is_by_request { "PAY_PER_REQUEST" } else { "PROVISIONED" };
        shown["BillingModeSummary"] = json!({"BillingMode": mode, "LastUpdateToPayPerRequestDateTime": seconds(since)});
    }
    shown
}

/// A time as the protocol has it: seconds since 1970, to the millisecond.
pub(super) fn seconds(time: Timestamp) -> f64 {
    (time.0 / 1000) as f64 / 1000.0
}
