//! The canonical text of a request, which both sides of a signature hash:
//!
//! ```text
//! <method>\n<path>\n<query, sorted>\n<name:value of each signed header\n>…\n<names of signed headers>\n<hash of the body>
//! ```

use actix_web::http::header::HeaderValue;
use memchr::memchr;

use super::names::Names;
use super::spelling::{cut, pieces};
use crate::api::dynamodb::head::{Head, SentHeader, TARGET, TIME};

/// Appends the canonical text; `names` are the headers that are signed.
pub(super) fn write(text: &mut Vec<u8>, head: &Head<'_>, names: Names<'_>, is_in_query: bool, payload: &[u8]) {
    let path = if head.path.is_empty() { "/" } else { head.path };
    for line in [head.method, path, &query(head.query, is_in_query)] {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    for name in names.each() {
        let start = text.len();
        text.extend_from_slice(name.as_bytes());
        if !names.are_lower {
            text[start..].make_ascii_lowercase();
        }
        text.push(b':');
        push_values(text, head, name);
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(names.spelled().as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload);
}

/// The values of a header, with commas between. What every client signs was found already.
fn push_values(text: &mut Vec<u8>, head: &Head<'_>, name: &str) {
    if name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority") {
        return text.extend_from_slice(head.host.as_bytes());
    }
    let found = match name {
        "content-type" => head.content_type,
        TIME => head.time,
        TARGET => head.target,
        _ => SentHeader::default(),
    };
    if let Some(value) = found.only() {
        return push_value(text, value);
    }
    for (number, value) in head.headers.get_all(name).enumerate() {
        if number > 0 {
            text.push(b',');
        }
        push_value(text, value);
    }
}

/// A value, trimmed, its runs of spaces made one.
fn push_value(text: &mut Vec<u8>, value: &HeaderValue) {
    let value = value.as_bytes().trim_ascii();
    // As nearly all are.
    if memchr(b' ', value).is_none() {
        return text.extend_from_slice(value);
    }
    let words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    for (number, word) in words.enumerate() {
        if number > 0 {
            text.push(b' ');
        }
        text.extend_from_slice(word);
    }
}

/// The query string: names and values decoded once, encoded in the one way, and sorted. The signature itself is not signed.
fn query(query: &str, is_in_query: bool) -> String {
    if query.is_empty() {
        return String::new();
    }
    let mut pairs: Vec<(String, String)> = pairs(query)
        .map(|(name, value)| (encoded(&decoded(name)), encoded(&decoded(value))))
        .filter(|(name, _)| !(is_in_query && name == "X-Amz-Signature"))
        .collect();
    pairs.sort_unstable();
    let mut text = String::with_capacity(query.len());
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&name);
        text.push('=');
        text.push_str(&value);
    }
    text
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    pieces(query, b'&').filter(|pair| !pair.is_empty()).map(|pair| cut(pair, b'=').unwrap_or((pair, "")))
}

/// The first parameter of this name in the query string, decoded.
pub(crate) fn parameter(query: &str, wanted: &str) -> Option<String> {
    let value = pairs(query).find(|(name, _)| *name == wanted).map(|(_, value)| value)?;
    Some(String::from_utf8_lossy(&decoded(value)).into_owned())
}

/// Percent-encoding undone; what is no encoding stays.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(16 * high + low);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Everything but unreserved characters (RFC 3986 §2.3) as `%XX`.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The ways in which a client may have spelled the host when it signed, besides how it was sent: without its port, and
/// with a port that it did not send because it is the usual one.
pub(super) fn other_spellings(host: &str) -> Vec<String> {
    match without_port(host) {
        Some(bare) => vec![bare.to_owned()],
        None => vec![format!("{host}:443"), format!("{host}:80")],
    }
}

/// The host without its port; none where it has none.
fn without_port(host: &str) -> Option<&str> {
    let (bare, port) = host.rsplit_once(':')?;
    // What follows the last colon of a bare IPv6 address is no port.
    let has_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = !bare.contains(':') || bare.ends_with(']');
    (has_port && is_whole).then_some(bare)
}

/// The host alone, for whoever looks at its name.
pub(crate) fn bare_host(host: &str) -> &str {
    without_port(host).unwrap_or(host)
}

/// A key for the fuzzer.
pub(super) fn fuzz_key() -> crate::services::access_keys::AccessKey {
    let caller = crate::services::ports::Caller {
        principal: crate::domain::ids::PrincipalId::from_bytes([1; 16]),
        name: String::new(),
        tenant: None,
        capabilities: Vec::new(),
    };
    crate::services::access_keys::AccessKey::new(zeroize::Zeroizing::new("secret".to_owned()), caller)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderMap, HeaderName};

    use super::*;

    #[test]
    fn hosts_are_tried_with_and_without_their_port() {
        assert_eq!(other_spellings("a.example:8080"), ["a.example"]);
        assert_eq!(other_spellings("a.example"), ["a.example:443", "a.example:80"]);
        assert_eq!(other_spellings("[::1]:80"), ["[::1]"]);
        assert_eq!(bare_host("[::1]"), "[::1]");
        assert_eq!(bare_host("::1"), "::1");
        assert_eq!(bare_host("a:"), "a:");
    }

    #[test]
    fn a_request_is_spelled_in_one_way() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-amz-date", "20150830T123600Z"),
            ("content-type", " application/json;  charset=utf-8 "),
            ("x-amz-target", "\ta\t b"),
            ("x-more", "one"),
            ("x-more", "  "),
            ("x-more", "two   words"),
        ] {
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let head = Head::new("POST", "", "b=1&a", "h:80", &headers);
        let spelled = "content-type;Host;X-Amz-Date;x-amz-target;X-More;x-none;no name";
        let mut text = Vec::new();
        write(&mut text, &head, Names::unchecked(spelled), false, b"00");
        let lines = [
            "POST",
            "/",
            "a=&b=1",
            "content-type:application/json; charset=utf-8",
            "host:h:80",
            "x-amz-date:20150830T123600Z",
            "x-amz-target:a\t b",
            "x-more:one,,two words",
            "x-none:",
            "no name:",
            "",
            spelled,
            "00",
        ];
        assert_eq!(String::from_utf8(text).unwrap(), lines.join("\n"));
    }

    #[test]
    fn queries_are_spelled_in_one_way() {
        assert_eq!(query("b=2&a=1&a=0&c", false), "a=0&a=1&b=2&c=");
        assert_eq!(query("k=%7e%2f+ %zz&X-Amz-Signature=1", true), "k=~%2F%2B%20%25zz");
        assert_eq!(query("", false), "");
        assert_eq!(parameter("a=1&b=%2F&b=2", "b").as_deref(), Some("/"));
        assert_eq!(parameter("a=1", "b"), None);
    }
}
