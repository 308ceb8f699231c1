//! ListTables: the tables of the caller's tenant by name, whichever protocol made them.

use serde::Deserialize;
use serde_json::json;

use super::body;
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::request::{self, Constraints, Count, Text};

/// Names in an answer, at most.
const NAMES_MAX: i64 = 100;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    exclusive_start_table_name: Text<'a>,
    limit: Count,
}

impl Asked<'_> {
    fn check(&self) -> Result<(), crate::api::dynamodb::Failure> {
        let mut constraints = Constraints::new();
        if let Some(name) = self.exclusive_start_table_name.get() {
            constraints.spelled("exclusiveStartTableName", name);
        }
        constraints.within("limit", self.limit, 1, NAMES_MAX);
        constraints.finish()
    }
}

/// For the fuzzer: reads a request, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8]) -> Result<(), crate::api::dynamodb::Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    asked.check()
}

/// ListTables.
///
/// # Errors
/// [`Failure`](crate::api::dynamodb::Failure), as AWS has it.
pub async fn list_tables(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    asked.check()?;
    let limit = usize::try_from(asked.limit.0.unwrap_or(NAMES_MAX)).unwrap_or(1);
    let after = asked.exclusive_start_table_name.get();
    let mut found = call.state.catalog.list_tables(call.tenant, after, limit + 1).await?;
    let is_more = found.len() > limit;
    found.truncate(limit);
    found.retain(|table| table.tenant_id == call.tenant_id);
    let names: Vec<&str> = found.iter().map(|table| table.name.as_str()).collect();
    let mut answer = json!({ "TableNames": names });
    if let Some(last) = names.last().filter(|_| is_more) {
        answer["LastEvaluatedTableName"] = (*last).into();
    }
    body(&answer)
}
