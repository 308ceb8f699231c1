//! Signing as a client does, for tests.

use actix_web::http::header::HeaderMap;
use hmac::Mac;
use sha2::{Digest, Sha256};

use super::names::Names;
use super::{ALGORITHM, SERVICE, TERMINATOR, basic, canonical, hex};
use crate::api::dynamodb::head::Head;
use crate::services::access_keys::{AccessKey, SigningScope};

/// What a request is signed with.
pub(crate) struct Signer<'a> {
    /// The id of the access key.
    pub(crate) id: &'a str,
    /// The access key.
    pub(crate) key: &'a AccessKey,
    /// The time, in seconds since 1970.
    pub(crate) at_seconds: u64,
    /// The host.
    pub(crate) host: &'a str,
}

impl Signer<'_> {
    /// The value of `Authorization` for a POST of this body with these headers, of which these are signed.
    pub(crate) fn authorization(&self, headers: &HeaderMap, signed: &str, body: &[u8]) -> String {
        let head = Head { host: self.host, ..Head::new("POST", "/", "", "", headers) };
        let (names, mut text) = (Names::unchecked(signed), Vec::new());
        canonical::write(&mut text, &head, names, false, digits(Sha256::digest(body)).as_bytes());
        let (hash, time) = (digits(Sha256::digest(&text)), self.time());
        let (date, region) = (&time[..8], "anywhere");
        let scope = format!("{date}/{region}/{SERVICE}/{TERMINATOR}");
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{hash}");
        let key = self.key.signing_key(SigningScope { date, region, service: SERVICE });
        let signature = digits(key.chain_update(to_sign).finalize().into_bytes());
        format!("{ALGORITHM} Credential={}/{scope},SignedHeaders={signed},Signature={signature}", self.id)
    }

    /// The value of `X-Amz-Date`.
    pub(crate) fn time(&self) -> String {
        basic(self.at_seconds)
    }
}

fn digits(hash: impl Into<[u8; 32]>) -> String {
    hex(hash.into()).map(char::from).iter().collect()
}
