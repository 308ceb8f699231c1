//! If-Match and If-None-Match (RFC 9110 §13.1) from the headers of a request. How tags are spelled is
//! [`crate::domain::version`]'s business; here several lines of one header become one list, as RFC 9110 §5.3
//! has it, and conditions on reading are evaluated. Those on writing travel with the operation and are
//! evaluated where it is applied.

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::domain::version::{EntityTags, ItemVersion, parse_entity_tags};
use crate::domain::{Refusal, RefusalKind};
use crate::replication::operation::{Preconditions, TagCondition};

/// Bytes of tags in one header, at most.
const BYTES_MAX: usize = 4096;

/// The conditions in the headers of a request.
///
/// # Errors
/// `BadInput` where a header is neither `*` nor a list of tags.
pub fn preconditions(headers: &HeaderMap) -> Result<Preconditions, Refusal> {
    Ok(Preconditions {
        if_match: condition(headers, &IF_MATCH, false)?,
        if_none_match: condition(headers, &IF_NONE_MATCH, true)?,
    })
}

/// One header as a condition. Weak tags count only in If-None-Match, which compares weakly.
fn condition(headers: &HeaderMap, name: &HeaderName, weak_counts: bool) -> Result<Option<TagCondition>, Refusal> {
    let Some(text) = combined(headers, name)? else { return Ok(None) };
    Ok(Some(match parse_entity_tags(&text, weak_counts)? {
        EntityTags::Any => TagCondition::Any,
        EntityTags::Versions(versions) => TagCondition::Versions(versions),
    }))
}

/// What a reader that sent conditions gets of an item that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The item.
    Whole,
    /// 304: the reader has it already.
    NotModified,
}

/// Evaluates conditions for reading an item in this version, in the order of RFC 9110 §13.2.2.
///
/// # Errors
/// `PreconditionFailed` where If-Match does not hold.
pub fn reading(preconditions: &Preconditions, version: ItemVersion) -> Result<Reading, Refusal> {
    let names = |condition: &TagCondition| match condition {
        TagCondition::Any => true,
        TagCondition::Versions(versions) => versions.contains(&version),
    };
    if preconditions.if_match.as_ref().is_some_and(|condition| !names(condition)) {
        return Err(precondition_failed());
    }
    match preconditions.if_none_match.as_ref().is_some_and(names) {
        true => Ok(Reading::NotModified),
        false => Ok(Reading::Whole),
    }
}

/// If-Match or If-None-Match did not hold.
pub fn precondition_failed() -> Refusal {
    let what = "If-Match or If-None-Match did not hold; read the item again for its present ETag";
    Refusal::new(RefusalKind::PreconditionFailed, what)
}

/// The lines of one header as one list.
fn combined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, Refusal> {
    let mut list: Option<Cow<'a, str>> = None;
    for value in headers.get_all(name) {
        let text =
            value.to_str().map_err(|_| Refusal::bad_input(format!("{name} holds characters that no ETag has")))?;
        list = Some(match list {
            None => Cow::Borrowed(text),
            Some(before) => Cow::Owned(format!("{before}, {text}")),
        });
        if list.as_ref().is_some_and(|list| list.len() > BYTES_MAX) {
            return Err(Refusal::bad_input(format!("{name} is longer than {BYTES_MAX} bytes; name fewer ETags")));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    fn parse(values: &[&str]) -> Result<Preconditions, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
        }
        preconditions(&headers)
    }

    fn versions(numbers: &[u64]) -> TagCondition {
        TagCondition::Versions(numbers.iter().map(|number| ItemVersion(*number)).collect())
    }

    #[test]
    fn headers_become_conditions() {
        assert_eq!(parse(&[]).unwrap(), Preconditions::default());
        assert_eq!(parse(&["*"]).unwrap().if_none_match, Some(TagCondition::Any));
        assert_eq!(parse(&["\"v7\", W/\"v8\"", "\"v9\""]).unwrap().if_none_match, Some(versions(&[7, 8, 9])));
        assert_eq!(parse(&["\"v7\""]).unwrap().if_match, None);
        let long = format!("\"{}\"", "x".repeat(BYTES_MAX));
        for bad in [&[""][..], &["7"], &["*", "\"v7\""], &[long.as_str()]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_weak_tag_never_fulfils_if_match() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, HeaderValue::from_static("W/\"v7\""));
        assert_eq!(preconditions(&headers).unwrap().if_match, Some(versions(&[])));
    }

    #[test]
    fn reading_follows_rfc_9110() {
        let ask = |if_match, if_none_match| {
            reading(&Preconditions { if_match, if_none_match }, ItemVersion(7)).map_err(|refusal| refusal.kind)
        };
        let failed = Err(RefusalKind::PreconditionFailed);
        assert_eq!(ask(None, None), Ok(Reading::Whole));
        assert_eq!(ask(None, Some(versions(&[7]))), Ok(Reading::NotModified));
        assert_eq!(ask(None, Some(TagCondition::Any)), Ok(Reading::NotModified));
        assert_eq!(ask(None, Some(versions(&[8]))), Ok(Reading::Whole));
        assert_eq!(ask(Some(versions(&[7])), None), Ok(Reading::Whole));
        assert_eq!(ask(Some(versions(&[8])), None), failed);
        assert_eq!(ask(Some(versions(&[8])), Some(versions(&[7]))), failed);
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(text in "[ -~]{0,60}") {
            let _ = parse(&[&text]);
        }
    }
}
