//! Pages of listings: how many entries, and where the next page starts. A cursor holds the last key
//! (or name) of its page, sealed ([`crate::crypto::cursor`]) and bound to what was listed, so it tells
//! nothing and fits nothing else. The limit is not part of it: pages of one listing may differ in size.

use crate::crypto::cursor::{self, Binding, NONCE_BYTES};
use crate::domain::Refusal;
use crate::domain::limits::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};

use super::asked::Asked;

/// How many entries the caller wants in this page.
///
/// # Errors
/// `BadInput` for anything but 1 to [`PAGE_ITEMS_MAX`].
pub fn limit(asked: &Asked<'_>) -> Result<usize, Refusal> {
    asked.query.count("limit", PAGE_ITEMS_MAX, PAGE_ITEMS_DEFAULT)
}

/// The position in the cursor that came with the request; none on the first page.
///
/// # Errors
/// `BadInput` where it was not given out for this listing.
pub fn position(asked: &Asked<'_>, binding: &Binding) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(text) = asked.query.get("cursor") else { return Ok(None) };
    let keys = asked.state.token_keys.load();
    let opened = cursor::open(keys.iter().map(|key| key.cursor_key()), binding, text);
    opened.map(Some).map_err(|error| Refusal::bad_input(error.to_string()))
}

/// The cursor for the page after `position`.
///
/// # Errors
/// `Unavailable` where no token key has arrived yet.
pub fn cursor(asked: &Asked<'_>, binding: &Binding, position: &[u8]) -> Result<String, Refusal> {
    let keys = asked.state.token_keys.load();
    let key = keys.first().ok_or_else(|| Refusal::unavailable("the token keys have not arrived yet", 1))?;
    let mut nonce = [0u8; NONCE_BYTES];
    asked.state.random.fill(&mut nonce);
    Ok(cursor::seal(key.cursor_key(), binding, position, nonce))
}

/// A page of things that are listed by name, of which one more than wanted was asked for.
pub struct NamedPage<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// The cursor of the next page; none on the last.
    pub cursor: Option<String>,
}

/// Makes a page of `found`, which holds up to `limit` + 1 entries.
///
/// # Errors
/// Those of [`cursor`].
pub fn named<T>(
    asked: &Asked<'_>,
    binding: &Binding,
    limit: usize,
    mut found: Vec<T>,
    name: impl Fn(&T) -> &str,
) -> Result<NamedPage<T>, Refusal> {
    let more = found.len() > limit;
    found.truncate(limit);
    let cursor = match found.last() {
        Some(last) if more => Some(cursor(asked, binding, name(last).as_bytes())?),
        _ => None,
    };
    Ok(NamedPage { entries: found, cursor })
}

/// The name in the cursor that came with the request; none on the first page.
///
/// # Errors
/// Those of [`position`].
pub fn after(asked: &Asked<'_>, binding: &Binding) -> Result<Option<String>, Refusal> {
    let unreadable = |_| Refusal::bad_input("this cursor was not given out for this listing");
    position(asked, binding)?.map(String::from_utf8).transpose().map_err(unreadable)
}
