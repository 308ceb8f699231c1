//! UpdateTimeToLive and DescribeTimeToLive. Items that have expired are gone for readers from then on, and are
//! removed in the background; so a time to live is ENABLED or DISABLED and never on its way.

use serde::Deserialize;
use serde_json::json;

use super::parameters::{TableOnly, structure};
use super::{body, find};
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Constraints, Flag, Raw, Text};
use crate::domain::RefusalKind;
use crate::domain::table::{TableChange, TableSpecification};

/// The longest name of an attribute.
const NAME_CHARACTERS_MAX: usize = 255;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    table_name: Text<'a>,
    #[serde(borrow)]
    time_to_live_specification: Raw<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Specification<'a> {
    enabled: Flag,
    #[serde(borrow)]
    attribute_name: Text<'a>,
}

impl<'a> Asked<'a> {
    fn specification(&self) -> Result<Specification<'a>, Failure> {
        let specification: Option<Specification<'a>> = structure(self.time_to_live_specification)?;
        let mut constraints = Constraints::new();
        request::check_table_name(&mut constraints, &self.table_name);
        constraints.required("timeToLiveSpecification", specification.as_ref());
        let specification = specification.unwrap_or_default();
        if self.time_to_live_specification.is_some() {
            constraints.required("timeToLiveSpecification.enabled", specification.enabled.0.as_ref());
            let place = "timeToLiveSpecification.attributeName";
            match specification.attribute_name.get() {
                None => constraints.missing(place),
                Some(name) => constraints.length(place, name, 1, NAME_CHARACTERS_MAX),
            }
        }
        constraints.finish()?;
        Ok(specification)
    }
}

/// Whether a change from what is there makes sense.
fn check(there: Option<&str>, attribute: &str, is_enabled: bool) -> Result<(), Failure> {
    match there {
        Some(there) if there != attribute => Err(Failure::validation(format!(
            "TimeToLive is active on a different AttributeName: current AttributeName is {there}"
        ))),
        Some(_) if is_enabled => Err(Failure::validation("TimeToLive is already enabled")),
        None if !is_enabled => Err(Failure::validation("TimeToLive is already disabled")),
        _ => Ok(()),
    }
}

/// UpdateTimeToLive.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn update_time_to_live(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let wanted = asked.specification()?;
    let (attribute, is_enabled) = (wanted.attribute_name.get().unwrap_or_default(), wanted.enabled.is_set());
    let table = find(call, &asked.table_name)?;
    check(table.specification.time_to_live.as_deref(), attribute, is_enabled)?;
    let time_to_live = Some(is_enabled.then(|| attribute.to_owned()));
    let change = TableChange { time_to_live, ..TableChange::default() };
    let changed = call.state.catalog.change_table(call.caller, call.tenant, &table.name, change).await;
    changed.map_err(|refusal| match refusal.kind {
        RefusalKind::NotFound => Failure::table_not_found(table.name.as_str()),
        _ => refusal.into(),
    })?;
    body(&json!({ "TimeToLiveSpecification": { "Enabled": is_enabled, "AttributeName": attribute } }))
}

/// For the fuzzer: reads an UpdateTimeToLive of this table, and asks no service.
pub(in crate::api::dynamodb) fn rehearse(body: &[u8], table: &TableSpecification) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    let wanted = asked.specification()?;
    check(table.time_to_live.as_deref(), wanted.attribute_name.get().unwrap_or_default(), wanted.enabled.is_set())
}

/// DescribeTimeToLive.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn describe_time_to_live(call: &Call<'_>) -> Answered {
    let asked = TableOnly::read(&call.body)?;
    let table = find(call, &asked.table_name)?;
    let description = match &table.specification.time_to_live {
        Some(attribute) => json!({"TimeToLiveStatus": "ENABLED", "AttributeName": attribute}),
        None => json!({"TimeToLiveStatus": "DISABLED"}),
    };
    body(&json!({ "TimeToLiveDescription": description }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_must_be_one() {
        let text = |there, attribute, is_enabled| {
            check(there, attribute, is_enabled).err().map(|failure| failure.message().unwrap_or_default().to_owned())
        };
        assert_eq!(text(None, "until", true), None);
        assert_eq!(text(Some("until"), "until", false), None);
        assert_eq!(text(Some("until"), "until", true).as_deref(), Some("TimeToLive is already enabled"));
        assert_eq!(text(None, "until", false).as_deref(), Some("TimeToLive is already disabled"));
        for is_enabled in [false, true] {
            assert_eq!(
                text(Some("until"), "other", is_enabled).as_deref(),
                Some("TimeToLive is active on a different AttributeName: current AttributeName is until")
            );
        }
    }
}
