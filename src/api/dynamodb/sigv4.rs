//! AWS Signature Version 4, as a server checks it: in the header `Authorization`, or in the query string of a
//! presigned URL.
//!
//! ```text
//! Authorization: AWS4-HMAC-SHA256 Credential=KEY/20150830/us-east-1/dynamodb/aws4_request,
//!                SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=<64 hexadecimal digits>
//! ```
//!
//! What is signed is a canonical text of the request: method, path, query, the headers that the signature names, and
//! the hash of the body. Its hash, the time and the scope of the credential make the string to sign; the signing key follows from the
//! secret and the scope ([`crate::services::access_keys`]).
//!
//! The order of what a client is told, from the cheapest to the dearest, and never more than it may know: no signature →
//! one that cannot be read → one of another time → an unknown key (by the caller) → a wrong scope → a wrong
//! signature. The body is hashed at last.
//!
//! What is looked at with care:
//!
//! - Header values are trimmed and their runs of spaces are one; a header that came twice is joined by commas.
//! - A client may have signed the host with its port or without, whatever stands in `Host`: both are tried.
//! - Host and operation must be among what is signed, or the same signature would do for another operation.
//! - The hash of the body is always that of the body; what a header says of it counts for nothing.
//! - The region may be any: a client is set to some, and there is but one here.
//!
//! What a signature is made of is read where it lies: [`Parts`] hold what was found in the request, [`Signed`] is what
//! that says. No text is made but the canonical one.

mod canonical;

use std::borrow::Cow;
use std::collections::HashSet;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use hmac::Mac;
use sha2::{Digest, Sha256};

use super::failure::Failure;
use crate::services::access_keys::{AccessKey, SigningScope};

use self::canonical::other_spellings;
pub(crate) use self::canonical::{bare_host, parameter};

/// The header that names the operation.
pub const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// The header with the time of the signature; where it is not there, `Date` counts.
const TIME: HeaderName = HeaderName::from_static("x-amz-date");
/// The algorithm, as it is named in headers.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What the scope of a credential ends with.
const TERMINATOR: &str = "aws4_request";
/// The service that credentials are scoped to.
pub const SERVICE: &str = "dynamodb";
/// How far the clocks of both sides may be apart.
const SKEW_SECONDS: u64 = 15 * 60;
/// How long a presigned URL may be good.
const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// Headers that a signature may name; a request has no more.
const HEADERS_MAX: usize = 128;

/// What of a request is signed, but for its body.
#[derive(Clone, Copy)]
pub struct Signable<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it was sent.
    pub path: &'a str,
    /// The query string as it was sent, without its `?`.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The host as it was sent, with its port if that was sent.
    pub host: &'a str,
}

/// The texts that make up a signature, as they were found.
#[derive(Default)]
pub struct Parts<'a> {
    credential: Option<Cow<'a, str>>,
    headers: Option<Cow<'a, str>>,
    signature: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    /// How long it is good, where it stands in the query string.
    expires_seconds: Option<u64>,
    is_in_query: bool,
}

/// A signature that was read and not checked yet.
pub struct Signed<'p> {
    /// The id of the access key.
    pub access_key_id: &'p str,
    /// What else stands in the credential: day, region, service and terminator.
    scope: &'p str,
    date: &'p str,
    region: &'p str,
    service: &'p str,
    terminator: &'p str,
    headers: &'p str,
    signature: &'p str,
    /// The time it was made, as it is signed.
    time: Cow<'p, str>,
    /// The same in seconds since 1970.
    at_seconds: u64,
    expires_seconds: Option<u64>,
    is_in_query: bool,
}

impl<'a> Parts<'a> {
    /// Finds the signature of a request.
    ///
    /// # Errors
    /// Where there is none, or a part of it is missing.
    pub fn find(request: &Signable<'a>) -> Result<Self, Failure> {
        let algorithm = parameter(request.query, "X-Amz-Algorithm");
        let mut given = request.headers.get_all(header::AUTHORIZATION);
        match (given.next(), algorithm) {
            (None, None) => Err(Failure::missing_authentication_token()),
            (Some(_), Some(_)) => Err(Failure::invalid_signature(
                "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
            )),
            (None, Some(algorithm)) => Self::from_query(request.query, &algorithm),
            (Some(value), None) => {
                let text = text_of(value).ok_or_else(Failure::missing_authentication_token)?;
                if given.next().is_some() {
                    return Err(Failure::incomplete_signature("The request has more than one Authorization header."));
                }
                Self::from_header(request.headers, text.trim_ascii())
            }
        }
    }

    fn from_header(headers: &'a HeaderMap, text: &'a str) -> Result<Self, Failure> {
        // A credential of another kind is none of this one.
        let Some((algorithm, rest)) = text.split_once(' ').or(Some((text, ""))).filter(|_| text.starts_with("AWS4-"))
        else {
            return Err(Failure::missing_authentication_token());
        };
        if algorithm != ALGORITHM {
            return Err(unsupported(algorithm));
        }
        let mut parts = Parts::default();
        for part in rest.split(',') {
            let (name, value) = part.trim_ascii().split_once('=').unwrap_or_default();
            let slot = match name.trim_ascii() {
                "Credential" => &mut parts.credential,
                "SignedHeaders" => &mut parts.headers,
                "Signature" => &mut parts.signature,
                _ => continue,
            };
            if slot.replace(Cow::Borrowed(value.trim_ascii())).is_some() {
                return Err(Failure::incomplete_signature(format!("Authorization header has more than one '{name}'.")));
            }
        }
        let sent = headers.get(TIME).or_else(|| headers.get(header::DATE)).and_then(text_of);
        parts.time = sent.map(|time| Cow::Borrowed(time.trim_ascii()));
        if let Some(missing) = parts.missing_of_header() {
            return Err(Failure::incomplete_signature(format!("{missing}{}", hashed(text))));
        }
        Ok(parts)
    }

    fn from_query(query: &str, algorithm: &str) -> Result<Self, Failure> {
        if algorithm != ALGORITHM {
            return Err(unsupported(algorithm));
        }
        let given = |name| parameter(query, name).map(Cow::Owned);
        let parts = Parts {
            credential: given("X-Amz-Credential"),
            headers: given("X-Amz-SignedHeaders"),
            signature: given("X-Amz-Signature"),
            time: given("X-Amz-Date"),
            expires_seconds: None,
            is_in_query: true,
        };
        if let Some(missing) = parts.missing_of_query() {
            return Err(Failure::incomplete_signature(missing));
        }
        let expires = match parameter(query, "X-Amz-Expires") {
            None => SKEW_SECONDS,
            Some(text) => text.parse().ok().filter(|seconds| *seconds <= EXPIRES_SECONDS_MAX).ok_or_else(|| {
                Failure::incomplete_signature("X-Amz-Expires must be a number of seconds of no more than a week.")
            })?,
        };
        Ok(Parts { expires_seconds: Some(expires), ..parts })
    }

    /// Reads the signature.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self) -> Result<Signed<'_>, Failure> {
        let credential = self.credential.as_deref().unwrap_or_default();
        let (access_key_id, scope) = credential.split_once('/').unwrap_or_default();
        let mut elements = scope.split('/');
        let mut element = || elements.next();
        let (Some(date), Some(region), Some(service), Some(terminator), None) =
            (element(), element(), element(), element(), element())
        else {
            return Err(Failure::incomplete_signature(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
                shown(credential)
            )));
        };
        let sent = self.time.as_deref().unwrap_or_default();
        let (time, at_seconds) = time_of(sent).ok_or_else(|| {
            Failure::incomplete_signature(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                shown(sent)
            ))
        })?;
        Ok(Signed {
            access_key_id,
            scope,
            date,
            region,
            service,
            terminator,
            headers: self.headers.as_deref().unwrap_or_default(),
            signature: self.signature.as_deref().unwrap_or_default(),
            time,
            at_seconds,
            expires_seconds: self.expires_seconds,
            is_in_query: self.is_in_query,
        })
    }

    /// What is missing in the header, as AWS tells it.
    fn missing_of_header(&self) -> Option<String> {
        let mut text = String::new();
        for (part, name) in
            [(&self.credential, "Credential"), (&self.signature, "Signature"), (&self.headers, "SignedHeaders")]
        {
            if part.is_none() {
                text.push_str(&format!("Authorization header requires '{name}' parameter. "));
            }
        }
        if self.time.is_none() {
            text.push_str("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ");
        }
        (!text.is_empty()).then_some(text)
    }

    /// What is missing in the query string, as AWS tells it.
    fn missing_of_query(&self) -> Option<String> {
        let all = [
            (&self.credential, "X-Amz-Credential"),
            (&self.signature, "X-Amz-Signature"),
            (&self.headers, "X-Amz-SignedHeaders"),
            (&self.time, "X-Amz-Date"),
        ];
        let missing = all.iter().filter(|(part, _)| part.is_none());
        let text: String =
            missing.map(|(_, name)| format!("AWS query-string parameters must include '{name}'. ")).collect();
        (!text.is_empty()).then_some(text)
    }
}

impl<'p> Signed<'p> {
    /// Checks that it is of the present time.
    ///
    /// # Errors
    /// Where it is too old, or not valid yet.
    pub fn check_time(&self, now_seconds: u64) -> Result<(), Failure> {
        let (earliest, latest) = (now_seconds.saturating_sub(SKEW_SECONDS), now_seconds.saturating_add(SKEW_SECONDS));
        let at = &self.time;
        if self.at_seconds > latest {
            let (latest, now) = (basic(latest), basic(now_seconds));
            return Err(Failure::invalid_signature(format!(
                "Signature not yet current: {at} is still later than {latest} ({now} + 15 min.)"
            )));
        }
        match self.expires_seconds {
            Some(expires) if self.at_seconds.saturating_add(expires) < now_seconds => {
                let (end, now) = (basic(self.at_seconds.saturating_add(expires)), basic(now_seconds));
                Err(Failure::invalid_signature(format!("Signature expired: {end} is now earlier than {now}")))
            }
            None if self.at_seconds < earliest => {
                let (earliest, now) = (basic(earliest), basic(now_seconds));
                Err(Failure::invalid_signature(format!(
                    "Signature expired: {at} is now earlier than {earliest} ({now} - 15 min.)"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Checks what the credential is scoped to.
    ///
    /// # Errors
    /// Where it is another day, or another service.
    pub fn check_scope(&self) -> Result<(), Failure> {
        let day = self.time.get(..8).unwrap_or_default();
        if self.date != day {
            return Err(Failure::invalid_signature(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{day}', from '{}'.",
                shown(self.date),
                self.time
            )));
        }
        if self.service != SERVICE {
            return Err(Failure::invalid_signature(format!(
                "Credential should be scoped to correct service: '{SERVICE}'."
            )));
        }
        if self.terminator != TERMINATOR {
            return Err(Failure::invalid_signature(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{}'.",
                shown(self.terminator)
            )));
        }
        Ok(())
    }

    /// Checks the signature itself, by the access key that it names.
    ///
    /// # Errors
    /// Where it is wrong, or leaves out what must be signed.
    pub fn verify(&self, request: &Signable<'_>, key: &AccessKey, body: &[u8]) -> Result<(), Failure> {
        self.verify_payload(request, key, &hex(Sha256::digest(body).into()))
    }

    fn verify_payload(&self, request: &Signable<'_>, key: &AccessKey, payload: &[u8]) -> Result<(), Failure> {
        let names = self.names(request)?;
        let signature = unhex(self.signature).ok_or_else(mismatch)?;
        let scope = SigningScope { date: self.date, region: self.region, service: self.service };
        let is_good = |host: &str| {
            let request = Signable { host, ..*request };
            let canonical = canonical::request(&request, &names, self.headers, self.is_in_query, payload);
            let mut mac = key.signing_key(scope);
            for part in [ALGORITHM, "\n", &*self.time, "\n", self.scope, "\n"] {
                mac.update(part.as_bytes());
            }
            mac.update(&hex(Sha256::digest(&canonical).into()));
            // In constant time.
            mac.verify_slice(&signature).is_ok()
        };
        if is_good(request.host) || other_spellings(request.host).iter().any(|host| is_good(host)) {
            return Ok(());
        }
        Err(mismatch())
    }

    /// The headers that are signed, as the signature spells them.
    fn names(&self, request: &Signable<'_>) -> Result<Vec<&'p str>, Failure> {
        let names: Vec<&str> = self.headers.split(';').collect();
        if names.len() > HEADERS_MAX {
            return Err(Failure::incomplete_signature("SignedHeaders names more headers than a request has."));
        }
        // Each is hashed as often as it is named.
        if has_one_twice(&names) {
            return Err(Failure::incomplete_signature("SignedHeaders names a header more than once."));
        }
        let is_signed = |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
        if !is_signed("host") && !is_signed(":authority") {
            return Err(Failure::invalid_signature(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        if request.headers.contains_key(TARGET) && !is_signed(TARGET.as_str()) {
            return Err(Failure::invalid_signature(
                "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        Ok(names)
    }
}

/// The text of a header; none where it is not ASCII. As `to_str` of the value, which looks at each byte by itself.
fn text_of(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.is_ascii())
}

/// Whether a name stands there twice, in whatever case.
fn has_one_twice(names: &[&str]) -> bool {
    // Clients send them in lower case and in order, and then no two can be the same.
    let is_lower = |name: &&str| !name.bytes().any(|byte| byte.is_ascii_uppercase());
    if names.is_sorted_by(|one, next| one < next) && names.iter().all(is_lower) {
        return false;
    }
    let mut once = HashSet::with_capacity(names.len());
    !names.iter().all(|name| once.insert(name.to_ascii_lowercase()))
}

fn mismatch() -> Failure {
    Failure::invalid_signature(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
         and signing method. Consult the service documentation for details.",
    )
}

fn unsupported(algorithm: &str) -> Failure {
    Failure::incomplete_signature(format!("Unsupported AWS 'algorithm': '{}'.", shown(algorithm)))
}

/// A part of what a client sent, short enough to be sent back.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The header in a form that tells it to nobody: a signature is good for some minutes.
fn hashed(header: &str) -> String {
    use base64::Engine as _;
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(header.as_bytes()));
    format!("(Hashed with SHA-256 and encoded with Base64) Authorization={hash}")
}

/// A hash as 64 hexadecimal digits.
fn hex(hash: [u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    digits
}

/// What each byte is worth as a hexadecimal digit in lower case; [`NO_DIGIT`] where it is none.
const DIGIT_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};
const NO_DIGIT: u8 = 0xff;

/// The hash that these digits are; none where they are not 64 of them, in lower case. By a table, because nobody can foresee
/// which of them are letters.
fn unhex(digits: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = digits.as_bytes().try_into().ok()?;
    let mut hash = [0; 32];
    let mut all = 0;
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (DIGIT_VALUES[usize::from(pair[0])], DIGIT_VALUES[usize::from(pair[1])]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all < 16).then_some(hash)
}

/// `YYYYMMDDTHHMMSSZ`.
fn basic(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The time as it is signed, and in seconds since 1970. It is sent in the basic format of ISO 8601, which is how it is
/// signed, or as HTTP writes dates.
fn time_of(text: &str) -> Option<(Cow<'_, str>, u64)> {
    if let Some(time) = basic_time(text) {
        let timestamp = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
        return Some((Cow::Borrowed(text), u64::try_from(timestamp.as_second()).ok()?));
    }
    let timestamp = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = u64::try_from(timestamp.as_second()).ok()?;
    Some((Cow::Owned(basic(seconds)), seconds))
}

fn basic_time(text: &str) -> Option<jiff::civil::DateTime> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| matches!(at, 0..=7 | 9..=14);
    let is_basic = bytes.len() == 16
        && bytes[8] == b'T'
        && bytes[15] == b'Z'
        && bytes.iter().enumerate().all(|(at, byte)| !is_digit(at) || byte.is_ascii_digit());
    if !is_basic {
        return None;
    }
    let two = |at: usize| text.get(at..at + 2)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse::<i16>().ok()?;
    jiff::civil::DateTime::new(year, two(4)?, two(6)?, two(9)?, two(11)?, two(13)?, 0).ok()
}

/// For the fuzzer: whatever stands in the header and in the query string is read or refused, and what is read can be checked.
#[doc(hidden)]
pub fn fuzz_signature(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (authorization, query) = text.split_once('\n').unwrap_or((text, ""));
    let mut headers = HeaderMap::new();
    if let Ok(value) = header::HeaderValue::from_str(authorization)
        && !authorization.is_empty()
    {
        headers.insert(header::AUTHORIZATION, value);
        headers.insert(TIME, header::HeaderValue::from_static("20150830T123600Z"));
    }
    let request = Signable { method: "POST", path: "/", query, headers: &headers, host: "example.com:8080" };
    let Ok(parts) = Parts::find(&request) else { return };
    let Ok(signed) = parts.read() else { return };
    let _ = signed.check_time(1_440_938_160);
    let _ = signed.check_scope();
    let key = canonical::fuzz_key();
    assert!(signed.verify(&request, &key, b"").is_err(), "nobody signs by chance");
}

#[cfg(test)]
pub(crate) mod signing;
#[cfg(test)]
mod tests;
