//! What sinks share that post to a URL: a client that trusts whom it was told to, compressed bodies, and what an answer means.
//!
//! | answer | then |
//! |---|---|
//! | 2xx | taken |
//! | 413, 422 | the batch is too large, or holds something that will never be taken: it is halved, and at last one record is set aside |
//! | anything else, or none | the same again later |
//!
//! So a receiver that was set up wrongly (401, 404, a redirect to a login page) costs nothing but time. Redirects are not followed: what
//! was signed for one place is not sent to another.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::SinkError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client that speaks TLS by these rules.
pub(super) fn client(tls: rustls::ClientConfig) -> Result<Client, String> {
    let builder = Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).no_proxy();
    let builder = builder.redirect(reqwest::redirect::Policy::none()).tls_backend_preconfigured(tls);
    builder.build().map_err(|error| with_causes(&error))
}

/// The bytes, compressed.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(bytes);
    written.and_then(|()| encoder.finish()).expect("memory takes all that is written to it")
}

/// Sends it. `is_for_good` are the statuses, beside 413 and 422, by which a receiver refuses what it is given for
/// what it is.
pub(super) async fn post(request: RequestBuilder, is_for_good: &[StatusCode]) -> Result<Response, SinkError> {
    // Some URLs carry a secret, so it is not told.
    let answer = request.send().await.map_err(|error| SinkError::Later(with_causes(&error.without_url())))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let message = format!("answered with status {status}");
    match status {
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => Err(SinkError::Unacceptable(message)),
        status if is_for_good.contains(&status) => Err(SinkError::Unacceptable(message)),
        _ => Err(SinkError::Later(message)),
    }
}

/// An error and all that led to it.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
