//! Reading one item. The answer's body is the item as it is stored, streamed from its compact form
//! into JSON once; `ETag` and `DStore-Rid` stand in the headers. A table with a sort key is read by
//! `…/id/{id}/sort/{sort}`; without the sort key, the same path lists ([`super::listing`]).

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderValue};

use super::asked::{Asked, Target};
use super::conditions::{self, Reading};
use super::keys;
use super::listing;
use super::metered;
use super::parameters::Parameter;
use super::rid::RID_HEADER;
use crate::domain::Refusal;
use crate::replication::operation::Preconditions;
use crate::services::ports::StoredItem;

/// The query parameters of a listing that make no sense where one item is read.
const LISTING_PARAMETERS: [&str; 6] = ["sort_prefix", "sort_from", "sort_to", "limit", "cursor", "descending"];

/// Reads the item, or lists the items of its ID.
///
/// # Errors
/// `NotFound`, `PreconditionFailed`, `BadInput`, and those of the service.
pub async fn read(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let table = asked.table();
    if is_listing(asked) {
        return Box::pin(listing::query(asked)).await;
    }
    if let Some(name) = LISTING_PARAMETERS.iter().find(|name| asked.query.get(name).is_some()) {
        return Err(Refusal::bad_input(format!("{name} needs a table with a sort key; this one has none")));
    }
    let key = keys::of_item(asked)?;
    let preconditions = conditions::preconditions(asked.request.headers())?;
    let consistency = asked.consistency()?;
    let key_bytes = key.packed.len();
    let found = asked.state.items.read(table, key.packed, consistency).await?;
    metered::read(asked, key_bytes, found.as_ref(), consistency);
    show(asked, &preconditions, found)
}

/// Whether a path of an ID stands for all items of that ID. None does where the table is not known.
pub fn is_listing(asked: &Asked<'_>) -> bool {
    let Target::Table(table) = &asked.target else { return false };
    table.specification.sort_type.is_some() && asked.given.get(Parameter::Sort).is_none()
}

fn show(asked: &Asked<'_>, preconditions: &Preconditions, found: Option<StoredItem>) -> Result<HttpResponse, Refusal> {
    let item = found.ok_or_else(no_item)?;
    let reading = conditions::reading(preconditions, item.version)?;
    let mut answer = match reading {
        Reading::Whole => HttpResponse::Ok(),
        Reading::NotModified => HttpResponse::NotModified(),
    };
    answer.insert_header((ETAG, item.version.to_etag()));
    answer.insert_header((RID_HEADER, asked.table_rid(asked.table())));
    if reading == Reading::NotModified {
        return Ok(answer.finish());
    }
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    let mut json = Vec::with_capacity(item.document.as_bytes().len() * 5 / 4 + 64);
    item.document.write_json(&mut json);
    Ok(answer.body(json))
}

/// There is no such item.
pub fn no_item() -> Refusal {
    Refusal::not_found("there is no item with this key")
}
