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
mod names;
mod spelling;

use std::borrow::Cow;

use actix_web::http::header;
use hmac::Mac;
use sha2::{Digest, Sha256};

use super::failure::Failure;
use super::head::{Head, TIME, text_of};
use crate::services::access_keys::{AccessKey, SigningScope};

use self::canonical::other_spellings;
pub(crate) use self::canonical::{bare_host, parameter};
use self::names::Names;
use self::spelling::{basic, cut, hashed, hex, pieces, shown, time_of, unhex};

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
/// Room for the canonical text as nearly all clients sign it.
const TEXT_BYTES: usize = 512;

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
    pub fn find(head: &Head<'a>) -> Result<Self, Failure> {
        let algorithm = parameter(head.query, "X-Amz-Algorithm");
        match (head.authorization.first(), algorithm) {
            (None, None) => Err(Failure::missing_authentication_token()),
            (Some(_), Some(_)) => Err(Failure::invalid_signature(
                "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
            )),
            (None, Some(algorithm)) => Self::from_query(head.query, &algorithm),
            (Some(value), None) => {
                let text = text_of(value).ok_or_else(Failure::missing_authentication_token)?;
                if head.authorization.is_repeated() {
                    return Err(Failure::incomplete_signature("The request has more than one Authorization header."));
                }
                Self::from_header(head, text.trim_ascii())
            }
        }
    }

    fn from_header(head: &Head<'a>, text: &'a str) -> Result<Self, Failure> {
        // A credential of another kind is none of this one.
        if !text.starts_with("AWS4-") {
            return Err(Failure::missing_authentication_token());
        }
        let (algorithm, rest) = cut(text, b' ').unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            return Err(unsupported(algorithm));
        }
        let mut parts = Parts::default();
        for part in pieces(rest, b',') {
            let (name, value) = cut(part.trim_ascii(), b'=').unwrap_or_default();
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
        // Where there is no time of the signature, that of the request counts.
        let sent = head.time.first().or_else(|| head.headers.get(header::DATE)).and_then(text_of);
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
        let (access_key_id, scope) = cut(credential, b'/').unwrap_or_default();
        let mut elements = pieces(scope, b'/');
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
    pub fn verify(&self, head: &Head<'_>, key: &AccessKey, body: &[u8]) -> Result<(), Failure> {
        self.verify_payload(head, key, &hex(Sha256::digest(body).into()))
    }

    fn verify_payload(&self, head: &Head<'_>, key: &AccessKey, payload: &[u8]) -> Result<(), Failure> {
        let names = Names::check(self.headers, head)?;
        let signature = unhex(self.signature).ok_or_else(mismatch)?;
        let scope = SigningScope { date: self.date, region: self.region, service: self.service };
        let mut text = Vec::with_capacity(TEXT_BYTES);
        let mut is_good = |host: &str| {
            text.clear();
            canonical::write(&mut text, &Head { host, ..*head }, names, self.is_in_query, payload);
            let hash = hex(Sha256::digest(&text).into());
            text.clear();
            for line in [ALGORITHM, &*self.time, self.scope] {
                text.extend_from_slice(line.as_bytes());
                text.push(b'\n');
            }
            text.extend_from_slice(&hash);
            // In constant time.
            key.signing_key(scope).chain_update(&text).verify_slice(&signature).is_ok()
        };
        if is_good(head.host) || other_spellings(head.host).iter().any(|host| is_good(host)) {
            return Ok(());
        }
        Err(mismatch())
    }
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

/// For the fuzzer: whatever stands in the header and in the query string is read or refused, and what is read can be checked.
#[doc(hidden)]
pub fn fuzz_signature(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (authorization, query) = text.split_once('\n').unwrap_or((text, ""));
    let mut headers = header::HeaderMap::new();
    if let Ok(value) = header::HeaderValue::from_str(authorization)
        && !authorization.is_empty()
    {
        headers.insert(header::AUTHORIZATION, value);
        headers.insert(header::HeaderName::from_static(TIME), header::HeaderValue::from_static("20150830T123600Z"));
    }
    let head = Head::new("POST", "/", query, "example.com:8080", &headers);
    let Ok(parts) = Parts::find(&head) else { return };
    let Ok(signed) = parts.read() else { return };
    let _ = signed.check_time(1_440_938_160);
    let _ = signed.check_scope();
    let key = canonical::fuzz_key();
    assert!(signed.verify(&head, &key, b"").is_err(), "nobody signs by chance");
}

#[cfg(test)]
pub(crate) mod signing;
#[cfg(test)]
mod tests;
