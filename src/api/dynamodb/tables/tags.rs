//! Labels of tables: TagResource, UntagResource, ListTagsOfResource. They name the table by its ARN alone.
//!
//! The two that change something answer with no body at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::parameters::{Tag, check_tag_count, check_tags, list_of, tag_map};
use super::{body, find_or, invalid};
use crate::api::dynamodb::call::{Answered, Call};
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::names::{Named, named};
use crate::api::dynamodb::request::{self, Constraints, Raw, Text, Texts};
use crate::domain::RefusalKind;
use crate::domain::table::{TableChange, TableDefinition};
use crate::domain::table_options::TAG_NAME_CHARACTERS_MAX;

/// The longest ARN.
const ARN_CHARACTERS_MAX: usize = 1283;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked<'a> {
    #[serde(borrow)]
    resource_arn: Text<'a>,
    #[serde(borrow)]
    tags: Raw<'a>,
    tag_keys: Texts,
    #[serde(borrow)]
    next_token: Text<'a>,
}

impl<'a> Asked<'a> {
    /// Constraints that hold what is wrong with the ARN.
    fn constraints(&self) -> Constraints {
        let mut constraints = Constraints::new();
        match self.resource_arn.get() {
            None => constraints.missing("resourceArn"),
            Some(arn) => constraints.length("resourceArn", arn, 1, ARN_CHARACTERS_MAX),
        }
        constraints
    }

    /// The tags to be put on.
    fn tags(&self) -> Result<Vec<Tag<'a>>, Failure> {
        let tags: Option<Vec<Tag<'a>>> = list_of(self.tags)?;
        let mut constraints = self.constraints();
        constraints.required("tags", tags.as_ref());
        let tags = tags.unwrap_or_default();
        check_tags(&mut constraints, &tags);
        constraints.finish()?;
        if tags.is_empty() {
            return Err(Failure::validation("Atleast one Tag needs to be provided as Input."));
        }
        Ok(tags)
    }

    /// The names of the tags to be taken off.
    fn tag_names(&self) -> Result<&[String], Failure> {
        let mut constraints = self.constraints();
        constraints.required("tagKeys", self.tag_keys.0.as_ref());
        let names = self.tag_keys.0.as_deref().unwrap_or_default();
        for (number, name) in (1..).zip(names) {
            constraints.length(&format!("tagKeys.{number}.member"), name, 1, TAG_NAME_CHARACTERS_MAX);
        }
        constraints.finish()?;
        if names.is_empty() {
            return Err(Failure::validation("Atleast one Tag Key needs to be provided as Input."));
        }
        Ok(names)
    }

    /// Checks a request that asks for the tags. All are told at once, so there is no token that would be good for more.
    fn check_listing(&self) -> Result<(), Failure> {
        self.constraints().finish()?;
        if self.next_token.get().is_some() {
            return Err(invalid("The provided NextToken is not valid"));
        }
        Ok(())
    }

    fn arn(&self) -> Result<&str, Failure> {
        let arn = self.resource_arn.get().unwrap_or_default();
        if !matches!(named(arn), Named::Arn { .. }) {
            return Err(Failure::validation(format!("Invalid TableArn: Invalid ResourceArn provided as input {arn}")));
        }
        Ok(arn)
    }

    fn table(&self, call: &Call<'_>) -> Result<Arc<TableDefinition>, Failure> {
        let arn = self.arn()?;
        find_or(call, arn, || not_found(arn))
    }
}

// The misspelling is theirs, and clients have been seen to look for it.
fn not_found(arn: &str) -> Failure {
    Failure::resource_not_found(format!("Requested resource not found: ResourcArn: {arn} not found"))
}

/// TagResource.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn tag_resource(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let tags = asked.tags()?;
    let table = asked.table(call)?;
    let tags = tag_map(&tags)?;
    let there = &table.specification.tags;
    check_tag_count(there.len() + tags.keys().filter(|name| !there.contains_key(*name)).count())?;
    change(call, &asked, &table, tags.into_iter().map(|(name, text)| (name, Some(text))).collect()).await
}

/// UntagResource.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn untag_resource(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    let names = asked.tag_names()?;
    let table = asked.table(call)?;
    change(call, &asked, &table, names.iter().map(|name| (name.clone(), None)).collect()).await
}

async fn change(
    call: &Call<'_>,
    asked: &Asked<'_>,
    table: &TableDefinition,
    tags: BTreeMap<String, Option<String>>,
) -> Answered {
    let change = TableChange { tags, ..TableChange::default() };
    let changed = call.state.catalog.change_table(call.caller, call.tenant, &table.name, change).await;
    changed.map_err(|refusal| match refusal.kind {
        RefusalKind::NotFound => not_found(asked.resource_arn.get().unwrap_or_default()),
        _ => refusal.into(),
    })?;
    Ok(Vec::new())
}

/// ListTagsOfResource.
///
/// # Errors
/// [`Failure`], as AWS has it.
pub async fn list_tags_of_resource(call: &Call<'_>) -> Answered {
    let asked: Asked<'_> = request::parse(&call.body)?;
    asked.check_listing()?;
    let table = asked.table(call)?;
    let tags = table.specification.tags.iter();
    let tags: Vec<Value> = tags.map(|(name, text)| json!({"Key": name, "Value": text})).collect();
    body(&json!({ "Tags": tags }))
}

/// For the fuzzer: reads a TagResource, and asks no service.
pub(in crate::api::dynamodb) fn rehearse_tag_resource(body: &[u8]) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    let tags = asked.tags()?;
    asked.arn()?;
    tag_map(&tags).map(drop)
}

/// The same of an UntagResource.
pub(in crate::api::dynamodb) fn rehearse_untag_resource(body: &[u8]) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    asked.tag_names()?;
    asked.arn().map(drop)
}

/// The same of a ListTagsOfResource.
pub(in crate::api::dynamodb) fn rehearse_list_tags_of_resource(body: &[u8]) -> Result<(), Failure> {
    let asked: Asked<'_> = request::parse(body)?;
    asked.check_listing()?;
    asked.arn().map(drop)
}
