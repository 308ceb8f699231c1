//! DeleteTable. The table can be brought back for seven days with `dstore control table undelete`; its name is free
//! at once.

use serde_json::json;

use super::describe::short_description;
use super::parameters::TableOnly;
use super::{body, find};
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::failure::Failure;
use crate::domain::RefusalKind;

/// DeleteTable.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn delete_table(call: &Call<'_>) -> Answered {
    let asked = TableOnly::read(&call.body)?;
    let table = find(call, &asked.table_name)?;
    if table.specification.deletion_protection {
        return Err(protected());
    }
    let gone = call.state.catalog.delete_table(call.caller, call.tenant, &table.name).await;
    gone.map_err(|refusal| match refusal.kind {
        RefusalKind::NotFound => Failure::table_not_found(table.name.as_str()),
        // It was protected a moment ago.
        RefusalKind::Conflict => protected(),
        _ => refusal.into(),
    })?;
    body(&json!({ "TableDescription": short_description(call, &table) }))
}

fn protected() -> Failure {
    Failure::validation(
        "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.",
    )
}
