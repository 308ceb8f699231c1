//! AWS Signature Version 4 for one kind of request: `POST /` with a body, of the service `dynamodb`
//! ("Authenticating Requests: Using the Authorization Header", AWS's general reference).
//!
//! The key of a day is derived once and kept: deriving takes four HMACs, signing one, and one hash of the body. Signed are
//! the headers that decide what happens: `content-type`, `host`, `x-amz-date`, `x-amz-target`, and `x-amz-security-token`
//! where there is one. The signature is made for a given moment, so that it can be tested; asking the clock is the caller's.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::credentials::Credentials;

/// The content type of every request.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// What stands before the name of an operation in the header `x-amz-target`.
pub const TARGET_PREFIX: &str = "DynamoDB_20120810.";

const SERVICE: &str = "dynamodb";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Signs requests to one host.
pub struct Signer {
    credentials: Credentials,
    region: String,
    host: String,
    day: Option<(String, Zeroizing<[u8; 32]>)>,
}

/// What a signature adds to the headers of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The header `x-amz-date`.
    pub date: String,
    /// The header `authorization`.
    pub authorization: String,
}

impl Signer {
    /// Signs with these, for this region, what goes to `host` (with its port where the header `host` has it).
    pub fn new(credentials: Credentials, region: String, host: String) -> Signer {
        Signer { credentials, region, host, day: None }
    }

    /// The header `host`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The header `x-amz-security-token`, where there has to be one.
    pub fn session_token(&self) -> Option<&str> {
        self.credentials.session_token.as_ref().map(|token| token.as_str())
    }

    /// Signs the call of an operation (`GetItem`) with this body at this moment.
    pub fn sign(&mut self, at: Timestamp, operation: &str, body: &[u8]) -> Signature {
        let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = date.get(..8).unwrap_or_default();
        let (mut token, mut names) = (String::new(), "content-type;host;x-amz-date;x-amz-target");
        if let Some(text) = self.session_token() {
            token = format!("x-amz-security-token:{text}\n");
            names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
        }
        let host = &self.host;
        let hash = hex(&Sha256::digest(body));
        let request = Zeroizing::new(format!(
            "POST\n/\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\nx-amz-date:{date}\n{token}x-amz-target:{TARGET_PREFIX}{operation}\n\n{names}\n{hash}"
        ));
        let scope = format!("{day}/{}/{SERVICE}/aws4_request", self.region);
        let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
        let signature = hex(&mac(self.key_of(day), text.as_bytes()));
        let key = &self.credentials.access_key_id;
        let authorization =
            format!("{ALGORITHM} Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}");
        Signature { date, authorization }
    }

    /// The key that signs on this day.
    fn key_of(&mut self, day: &str) -> &[u8; 32] {
        if self.day.as_ref().is_none_or(|(known, _)| known != day) {
            let secret = Zeroizing::new(format!("AWS4{}", self.credentials.secret_access_key.as_str()));
            let mut key = Zeroizing::new(mac(secret.as_bytes(), day.as_bytes()));
            for part in [self.region.as_str(), SERVICE, "aws4_request"] {
                key = Zeroizing::new(mac(key.as_slice(), part.as_bytes()));
            }
            self.day = Some((day.to_owned(), key));
        }
        self.day.as_ref().map_or(&[0; 32], |(_, key)| &**key)
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(session_token: Option<&str>) -> String {
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: session_token.map(|token| Zeroizing::new(token.to_owned())),
        };
        let mut signer = Signer::new(credentials, "eu-west-1".to_owned(), "127.0.0.1:8080".to_owned());
        let at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let signature = signer.sign(at, "GetItem", br#"{"TableName":"t"}"#);
        assert_eq!(signature.date, "20260102T030405Z");
        assert_eq!(signer.sign(at, "GetItem", br#"{"TableName":"t"}"#), signature, "by the key that was kept");
        let next: Timestamp = "2026-01-03T03:04:05Z".parse().unwrap();
        assert!(signer.sign(next, "GetItem", b"").authorization.contains("/20260103/"));
        signature.authorization
    }

    /// What botocore signs for the same request at the same moment.
    #[test]
    fn signatures_are_those_of_aws_own_client() {
        let plain = signed(None);
        assert_eq!(
            plain,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/dynamodb/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
             Signature=c5b3a1e97417ec838401b395bd034c2143a8eb7faeba027bc297785a0c72c65d"
        );
        let with_token = signed(Some("session/token=="));
        assert!(with_token.contains("x-amz-date;x-amz-security-token;x-amz-target"));
        assert!(
            with_token.ends_with("e3f3539687505d8fa9abf2d990f8ff54767873a0d41fba56912b53026ea95983"),
            "{with_token}"
        );
    }
}
