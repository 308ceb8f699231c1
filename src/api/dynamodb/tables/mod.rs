//! Operations on tables: made, described, listed, changed, dropped, labelled; when their items expire; and what
//! clients ask of the service before they begin.
//!
//! A table of this protocol is one of REST, and the other way round: the key attributes are `id_name` and `sort_name`, N is
//! `Integer`. Capacity, class and labels are kept and shown; nothing is reserved by them.
//!
//! | module | what |
//! |---|---|
//! | [`create`], [`delete`], [`describe`], [`list`], [`update`] | CreateTable and so on |
//! | [`tags`] | TagResource, UntagResource, ListTagsOfResource |
//! | [`time_to_live`] | UpdateTimeToLive, DescribeTimeToLive |
//! | [`service`] | DescribeLimits, DescribeEndpoints, DescribeContinuousBackups |
//! | [`definition`] | from KeySchema and AttributeDefinitions to a specification |
//! | [`local_indexes`] | from LocalSecondaryIndexes to the table's indexes |
//! | [`parameters`] | parts of bodies that several of them take |
//! | [`unsupported`] | the one place that names what dStore does not have |
//!
//! What the next author must keep: nothing is accepted that has no effect and would be missed. What is not built is
//! refused by [`unsupported`], in words that say so.

mod create;
mod definition;
mod delete;
mod describe;
mod list;
mod local_indexes;
mod parameters;
mod service;
mod tags;
#[cfg(test)]
mod tests;
mod time_to_live;
mod unsupported;
mod update;

use std::sync::Arc;

use serde_json::Value;

use super::call::{Answered, Call};
use super::failure::Failure;
use super::request::Text;
use super::table_lookup::{TableReference, table_reference};
use crate::domain::table::TableDefinition;

pub use create::create_table;
pub use delete::delete_table;
pub use describe::describe_table;
pub use list::list_tables;
pub use service::{describe_continuous_backups, describe_endpoints, describe_limits};
pub use tags::{list_tags_of_resource, tag_resource, untag_resource};
pub use time_to_live::{describe_time_to_live, update_time_to_live};
pub use update::update_table;

// For the fuzzer.
pub(super) use create::rehearse as rehearse_create_table;
pub(super) use list::rehearse as rehearse_list_tables;
pub(super) use service::check_object as rehearse_any_object;
pub(super) use tags::{rehearse_list_tags_of_resource, rehearse_tag_resource, rehearse_untag_resource};
pub(super) use time_to_live::rehearse as rehearse_update_time_to_live;
pub(super) use update::rehearse as rehearse_update_table;

/// The same for an operation of which all parameters are the name of a table.
pub(super) fn rehearse_table_only(body: &[u8]) -> Result<(), Failure> {
    parameters::TableOnly::read(body).map(drop)
}

/// The table that an operation on tables names. Unlike one on items it says which one is not there.
fn find(call: &Call<'_>, name: &Text<'_>) -> Result<Arc<TableDefinition>, Failure> {
    let name = name.get().unwrap_or_default();
    find_or(call, name, || Failure::table_not_found(name))
}

/// The same, with this failure where it is not there.
fn find_or(call: &Call<'_>, name: &str, missing: impl Fn() -> Failure) -> Result<Arc<TableDefinition>, Failure> {
    let TableReference::Own(name) = table_reference(call, name)? else { return Err(missing()) };
    let table = call.find_table(&name).ok_or_else(missing)?;
    call.note_table(&table);
    Ok(table)
}

/// The body of an answer.
fn body(answer: &Value) -> Answered {
    Ok(answer.to_string().into_bytes())
}

/// A failure about a parameter that fits the model and makes no sense.
fn invalid(why: impl std::fmt::Display) -> Failure {
    Failure::validation(format!("One or more parameter values were invalid: {why}"))
}
