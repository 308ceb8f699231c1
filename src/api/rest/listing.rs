//! Listings of items: of a whole table, in the order of packed keys, which is that of the IDs' hashes;
//! and of one ID, in the order of its sort keys.
//!
//! ```json
//! {"items":[{"id":"a","sort":7,"etag":"\"v17\"","item":{…}}],"cursor":"…","rid":"rid:dStore:…"}
//! ```
//!
//! `cursor` is null on the last page. A page may hold fewer items than asked for, even none, and still have a
//! cursor: it also ends where it has grown large. A listing is no snapshot: each page shows the table
//! as it is when the page is read, and an item that is there throughout appears once.
//!
//! `sort_from` and `sort_to` both include themselves, as DynamoDB's BETWEEN does.

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use bytes::Bytes;

use super::asked::Asked;
use super::keys::{self, write_string};
use super::metered;
use super::pages;
use crate::crypto::cursor::Binding;
use crate::domain::Refusal;
use crate::domain::key::{PackedKey, SortInterval};
use crate::services::ports::{ListRequest, Page};

/// The interval of packed keys that is listed: start inclusive, end exclusive (none: to the end).
type Interval = (PackedKey, Option<PackedKey>);

/// Lists the items of a table.
///
/// # Errors
/// `BadInput`, and those of the service.
pub async fn list(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let binding = Binding::new(&[b"items", asked.table().id.as_bytes()]);
    page(asked, (PackedKey::hash_floor(0), None), false, &binding).await
}

/// Lists the items of one ID, of a table with a sort key.
///
/// # Errors
/// `BadInput`, and those of the service.
pub async fn query(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let table = asked.table();
    let sort_type = table.specification.sort_type.unwrap_or(table.specification.id_type);
    let id = keys::id_of_query(asked)?;
    let wanted = SortInterval {
        prefix: keys::sort_parameter(asked, "sort_prefix", sort_type)?,
        from: keys::sort_parameter(asked, "sort_from", sort_type)?,
        to: keys::sort_parameter(asked, "sort_to", sort_type)?,
    };
    let descending = asked.query.flag("descending")?;
    let (start, end) = wanted.bounds(&id)?;
    let binding = Binding::new(&[
        b"query",
        table.id.as_bytes(),
        start.as_bytes(),
        end.as_ref().map_or(&[][..], PackedKey::as_bytes),
        &[u8::from(descending)],
    ]);
    page(asked, (start, end), descending, &binding).await
}

async fn page(
    asked: &Asked<'_>,
    interval: Interval,
    descending: bool,
    binding: &Binding,
) -> Result<HttpResponse, Refusal> {
    let limit = pages::limit(asked)?;
    let (start, end) = match pages::position(asked, binding)? {
        None => interval,
        Some(last) => beyond(interval, last, descending)?,
    };
    let empty = end.as_ref().is_some_and(|end| *end <= start);
    let consistency = asked.consistency()?;
    let page = if empty {
        Page::default()
    } else {
        let request = ListRequest { index: None, start, end, limit, descending, consistency, bytes_max: None };
        asked.state.items.list(asked.table(), request).await?
    };
    metered::listed(asked, &page, consistency);
    let cursor = match &page.last {
        None => None,
        Some(last) => Some(pages::cursor(asked, binding, last.as_bytes())?),
    };
    let json = write(&page, cursor.as_deref(), &asked.table_rid(asked.table()))?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(json))
}

/// What is left of the interval after the last key of the page before.
fn beyond((start, end): Interval, last: Vec<u8>, descending: bool) -> Result<Interval, Refusal> {
    let last = PackedKey::from_bytes(Bytes::from(last)).map_err(|_| Refusal::bad_input("this cursor holds no key"))?;
    Ok(if descending { (start, Some(last)) } else { (last.successor(), end) })
}

fn write(page: &Page, cursor: Option<&str>, rid: &str) -> Result<Vec<u8>, Refusal> {
    let bytes: usize = page.items.iter().map(|(key, item)| key.len() + item.document.as_bytes().len() + 64).sum();
    let mut json = Vec::with_capacity(bytes * 5 / 4 + 256);
    json.extend_from_slice(b"{\"items\":[");
    for (place, (key, item)) in page.items.iter().enumerate() {
        let (id, sort) = key.decode().map_err(|error| Refusal::internal(error.to_string()))?;
        json.extend_from_slice(if place == 0 { b"{\"id\":" } else { b",{\"id\":" });
        keys::write_json(&id, &mut json);
        if let Some(sort) = sort {
            json.extend_from_slice(b",\"sort\":");
            keys::write_json(&sort, &mut json);
        }
        json.extend_from_slice(b",\"etag\":");
        write_string(&mut json, &item.version.to_etag());
        json.extend_from_slice(b",\"item\":");
        item.document.write_json(&mut json);
        json.push(b'}');
    }
    json.extend_from_slice(b"],\"cursor\":");
    match cursor {
        Some(cursor) => write_string(&mut json, cursor),
        None => json.extend_from_slice(b"null"),
    }
    json.extend_from_slice(b",\"rid\":");
    write_string(&mut json, rid);
    json.push(b'}');
    Ok(json)
}
