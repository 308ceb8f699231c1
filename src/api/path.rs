//! Paths and query strings, from bytes to words. The request target arrives as the client spelled
//! it; it is cut at `/` first and each segment is percent-decoded once, here and nowhere else. So an
//! ID may hold any character (`/ + % .` too), `%252F` is the three characters `%2F`, and a proxy in between
//! that does not decode changes nothing.
//!
//! In a path `+` is a plus sign (RFC 3986 §3.3). In a query string it is a space, as every HTML
//! form, `URLSearchParams` and `requests` write it (WHATWG URL §5.1); a plus sign there is `%2B`.
//!
//! Rejected: actix-web's own router and its `Path` extractor, because they decode before they match,
//! leave some characters encoded, and cannot tell `a%2Fb` from `a/b`. Nothing is normalised either: `..` is
//! an ID like any other, and no file system stands behind these paths.

use std::borrow::Cow;

use crate::domain::Refusal;

/// Segments in a path, at most; the longest route has ten.
pub const SEGMENTS_MAX: usize = 12;
/// Parameters in a query string, at most.
const PARAMETERS_MAX: usize = 16;

/// A path cut at its slashes, not yet decoded.
#[derive(Debug, Clone, Copy)]
pub struct RawPath<'a> {
    segments: [&'a str; SEGMENTS_MAX],
    count: usize,
}

impl<'a> RawPath<'a> {
    /// Cuts `path`; none where it does not begin with `/` or has more segments than any route.
    pub fn cut(path: &'a str) -> Option<Self> {
        let mut raw = RawPath { segments: [""; SEGMENTS_MAX], count: 0 };
        for segment in path.strip_prefix('/')?.split('/') {
            *raw.segments.get_mut(raw.count)? = segment;
            raw.count += 1;
        }
        Some(raw)
    }

    /// The segments as the client spelled them. The root path has one, which is empty.
    pub fn segments(&self) -> &[&'a str] {
        &self.segments[..self.count]
    }
}

/// Decodes one segment of a path: `what` names it in the refusal.
///
/// # Errors
/// `BadInput` where it is empty, where a `%` is not followed by two hexadecimal digits, or where
/// the bytes are no UTF-8.
pub fn decode_segment<'a>(what: &str, segment: &'a str) -> Result<Cow<'a, str>, Refusal> {
    if segment.is_empty() {
        return Err(Refusal::bad_input(format!("the {what} in the path is empty; give at least one character")));
    }
    decode(segment, false).map_err(|fault| Refusal::bad_input(format!("the {what} in the path {fault}")))
}

/// Percent-encodes `text` as one segment of a path: everything but unreserved characters
/// (RFC 3986 §2.3).
pub fn encode_segment(text: &str, path: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(byte as char);
        } else {
            path.push('%');
            path.push(DIGITS[usize::from(byte >> 4)] as char);
            path.push(DIGITS[usize::from(byte & 15)] as char);
        }
    }
}

/// The parameters of a query string, each known to the route and given once.
#[derive(Debug, Default)]
pub struct Query<'a> {
    parameters: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads a query string (without the `?`). `allowed` are the names that this route knows.
    ///
    /// # Errors
    /// `BadInput` that names the parameter: not known here, given twice, or not decodable.
    pub fn parse(text: Option<&'a str>, allowed: &[&'static str]) -> Result<Self, Refusal> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let mut parameters: Vec<(&'static str, Cow<'a, str>)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(Refusal::bad_input("too many query parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let fault = |fault| Refusal::bad_input(format!("a query parameter {fault}"));
            let name = decode(name, true).map_err(fault)?;
            let value = decode(value, true).map_err(fault)?;
            let known = allowed.iter().find(|allowed| **allowed == name).ok_or_else(|| unknown(&name, allowed))?;
            if parameters.iter().any(|(given, _)| given == known) {
                return Err(Refusal::bad_input(format!("the query parameter {known} is given twice; give it once")));
            }
            parameters.push((known, value));
        }
        Ok(Self { parameters })
    }

    /// The value of a parameter, where it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_ref())
    }

    /// A parameter that is `true` or `false`; false where it was not given.
    ///
    /// # Errors
    /// `BadInput` for any other value.
    pub fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::bad_input(format!("the query parameter {name} is either true or false"))),
        }
    }

    /// A parameter that is a whole number from 1 to `most`; `otherwise` where it was not given.
    ///
    /// # Errors
    /// `BadInput` for any other value.
    pub fn count(&self, name: &str, most: usize, otherwise: usize) -> Result<usize, Refusal> {
        let Some(text) = self.get(name) else { return Ok(otherwise) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<usize>() {
            Ok(count) if digits && (1..=most).contains(&count) => Ok(count),
            _ => Err(Refusal::bad_input(format!("the query parameter {name} is a whole number from 1 to {most}"))),
        }
    }
}

fn unknown(name: &str, allowed: &[&'static str]) -> Refusal {
    let name: String = name.chars().take(40).collect();
    if allowed.is_empty() {
        return Refusal::bad_input(format!("the query parameter {name:?} is not known; this takes none"));
    }
    Refusal::bad_input(format!("the query parameter {name:?} is not known; this takes {}", allowed.join(", ")))
}

fn decode(text: &str, plus_is_space: bool) -> Result<Cow<'_, str>, &'static str> {
    let special = |byte: &u8| *byte == b'%' || (plus_is_space && *byte == b'+');
    let Some(first) = text.as_bytes().iter().position(special) else {
        return Ok(Cow::Borrowed(text));
    };
    let (plain, rest) = text.as_bytes().split_at(first);
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    let mut rest = rest.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| (*digit as char).to_digit(16));
                let (high, low) = digit().zip(digit()).ok_or("has a '%' that two hexadecimal digits must follow")?;
                (high * 16 + low) as u8
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| "is no UTF-8 when decoded; Bytes are given as base64url")
}

/// For the fuzzer: any target is cut and decoded or refused, and decoding undoes encoding.
#[doc(hidden)]
pub fn fuzz_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(raw) = RawPath::cut(text) {
        for segment in raw.segments() {
            let _ = decode_segment("id", segment);
        }
    }
    let mut encoded = String::new();
    encode_segment(text, &mut encoded);
    assert!(text.is_empty() || decode_segment("id", &encoded).is_ok_and(|decoded| decoded == text));
}

/// For the fuzzer: any query string is read or refused.
#[doc(hidden)]
pub fn fuzz_query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(query) = Query::parse(Some(text), &["limit", "cursor", "descending"]) {
        let _ = query.count("limit", 1000, 100);
        let _ = query.flag("descending");
        let _ = query.get("cursor");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn segments_are_cut_before_they_are_decoded() {
        let raw = RawPath::cut("/v1/a%2Fb//..").unwrap();
        assert_eq!(raw.segments(), ["v1", "a%2Fb", "", ".."]);
        assert_eq!(RawPath::cut("/").unwrap().segments(), [""]);
        assert!(RawPath::cut("v1").is_none());
        assert!(RawPath::cut(&"/a".repeat(SEGMENTS_MAX + 1)).is_none());
    }

    #[test]
    fn a_segment_is_decoded_once() {
        for (spelled, meant) in [("a%2Fb", "a/b"), ("%252F", "%2F"), ("a+b", "a+b"), ("%C3%A4", "ä"), ("%2e%2E", "..")]
        {
            assert_eq!(decode_segment("ID", spelled).unwrap(), meant);
        }
        for bad in ["", "%", "%2", "%zz", "%+1", "%ff", "a%C3"] {
            assert!(decode_segment("ID", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_known_parameters_are_taken_and_each_once() {
        let query = Query::parse(Some("limit=7&sort=a+b%2B"), &["limit", "sort", "strong"]).unwrap();
        assert_eq!((query.get("limit"), query.get("sort"), query.get("strong")), (Some("7"), Some("a b+"), None));
        assert!(Query::parse(Some("limit=7&limit=7"), &["limit"]).is_err());
        assert!(Query::parse(Some("Limit=7"), &["limit"]).is_err());
        assert!(Query::parse(Some("limit=%zz"), &["limit"]).is_err());
        assert!(Query::parse(Some("limit=1"), &[]).is_err());
        assert!(Query::parse(Some(""), &[]).is_ok());
    }

    #[test]
    fn counts_and_flags_are_strict() {
        let count = |text: &str| Query::parse(Some(text), &["limit"]).unwrap().count("limit", 10, 5);
        assert_eq!(count("").unwrap(), 5);
        assert_eq!(count("limit=10").unwrap(), 10);
        for bad in ["limit=0", "limit=11", "limit=-1", "limit=%2B1", "limit=", "limit", "limit=1e1"] {
            assert!(count(bad).is_err(), "{bad}");
        }
        let flag = |text: &str| Query::parse(Some(text), &["on"]).unwrap().flag("on");
        assert!(flag("on=true").unwrap() && !flag("on=false").unwrap() && !flag("").unwrap());
        assert!(flag("on=1").is_err() && flag("on").is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_equal(text in ".+") {
            let mut encoded = String::new();
            encode_segment(&text, &mut encoded);
            prop_assert_eq!(decode_segment("ID", &encoded).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            fuzz_path(&bytes);
            fuzz_query(&bytes);
        }
    }
}
