//! Records posted to a receiver: JSON lines, compressed, signed.
//!
//! ```text
//! POST /path
//! content-type: application/x-ndjson
//! content-encoding: gzip
//! x-dstore-batch: 17-1016                      the first and the last sequence in it
//! x-dstore-timestamp: 1800000000               seconds since 1970
//! x-dstore-signature: v1=6b8f…                 hex(HMAC-SHA-256(secret, timestamp + "." + body))
//! ```
//!
//! The body that is signed is the one that travels, compressed, so a receiver checks before it unpacks; the timestamp is signed with it,
//! so an old request that somebody recorded can be told by its age. A receiver answers 2xx when it holds the batch
//! durably; what other answers mean stands in `posting.rs`.
//!
//! Rejected: the batch's range of sequences as an idempotency key. The same records come again in other batches; `id` in each line is the key.

use std::sync::Arc;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::posting::{client, gzip, post};
use super::rows::json_lines;
use super::{Sink, SinkError, Terms};
use crate::domain::Clock;
use crate::domain::usage::record::Record;

/// See the module's essay.
pub struct HttpSink {
    terms: Terms,
    url: String,
    secret: Zeroizing<String>,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl HttpSink {
    /// A sink that posts to `url`, signing with `secret`.
    ///
    /// # Errors
    /// Where no client can be made of these rules of TLS.
    pub fn new(
        terms: Terms,
        url: &str,
        secret: Zeroizing<String>,
        tls: rustls::ClientConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        Ok(Self { terms, url: url.to_owned(), secret, client: client(tls)?, clock })
    }
}

#[async_trait]
impl Sink for HttpSink {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn take(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
        let body = gzip(&json_lines(records));
        let timestamp = (self.clock.now().0 / 1_000_000).to_string();
        let request = self.client.post(&self.url);
        let request = request
            .header("content-type", "application/x-ndjson")
            .header("content-encoding", "gzip")
            .header("x-dstore-batch", format!("{}-{}", first.sequence, last.sequence))
            .header("x-dstore-signature", signature(&self.secret, &timestamp, &body))
            .header("x-dstore-timestamp", timestamp);
        post(request.body(body), &[]).await.map(drop)
    }
}

fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut text = "v1=".to_owned();
    for byte in mac.finalize().into_bytes() {
        text += &format!("{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
