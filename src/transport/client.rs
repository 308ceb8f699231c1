//! A JSON client for the inside and the admin listener: a base URL, TLS that knows whom it means, and
//! answers that are either what was asked for or a [`Refusal`].
//!
//! Refusals travel as problem documents (RFC 9457); their `type` names the family. A request that may have
//! been carried out though no answer came is `OutcomeUnknown`, never `Unavailable`: only a
//! connection that was not made at all is surely harmless to try again. A server that shows a certificate of another
//! authority is `Denied`: it will show the same one next time.

use std::time::Duration;

use reqwest::{Client, Method};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::tls::trusting_nobody;
use crate::domain::{Refusal, RefusalKind};

const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PROBLEM_TYPE: &str = "urn:dstore:problem:";

/// A client of `http://` for other protocols than JSON: bounded in time, through no proxy, following nobody elsewhere.
///
/// # Errors
/// `BadInput` where it cannot be made.
pub fn plain_client(timeout: Duration) -> Result<Client, Refusal> {
    Client::builder()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // It is not used, but a client without any would look for one that the process has as its default.
        .tls_backend_preconfigured(trusting_nobody()?)
        .build()
        .map_err(|problem| Refusal::bad_input(format!("no client can be made: {problem}")))
}

/// See the module's text.
#[derive(Clone)]
pub struct JsonClient {
    http: Client,
    base: String,
    token: Option<Zeroizing<String>>,
}

impl JsonClient {
    /// A client of `base` (`https://host:port`); without `tls` for `http://` only.
    ///
    /// # Errors
    /// `BadInput` where the client cannot be made of these.
    pub fn new(base: &str, tls: Option<ClientConfig>) -> Result<Self, Refusal> {
        let builder = Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).no_proxy();
        let builder = match tls {
            Some(tls) => builder.tls_backend_preconfigured(tls),
            // It is not used, but a client without any would look for one that the process has as its default.
            None if base.starts_with("http://") => builder.tls_backend_preconfigured(trusting_nobody()?),
            None => return Err(Refusal::bad_input(format!("no certificate is known to reach {base} with"))),
        };
        let http = builder.build().map_err(|problem| Refusal::bad_input(format!("no client for {base}: {problem}")))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token: None })
    }

    /// The same client, sending this bearer token.
    pub fn with_token(self, token: Zeroizing<String>) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Where it asks.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Reads.
    ///
    /// # Errors
    /// What the server refuses; `Unavailable` where it cannot be reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.ask(Method::GET, path, None::<&Value>).await
    }

    /// Writes. `method` is PUT, POST or DELETE.
    ///
    /// # Errors
    /// What the server refuses; `Unavailable` where it cannot be reached; `OutcomeUnknown` where no answer came.
    pub async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Refusal> {
        self.ask(method, path, body).await
    }

    async fn ask<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Refusal> {
        let reads = method == Method::GET;
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.as_str());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|problem| self.unanswered(&problem, reads))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|problem| self.unanswered(&problem, reads))?;
        if status.is_success() {
            let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
            return serde_json::from_slice(text)
                .map_err(|_| Refusal::internal(format!("{} answered something that is not understood", self.base)));
        }
        Err(refusal_of(status.as_u16(), &bytes))
    }

    fn unanswered(&self, problem: &reqwest::Error, reads: bool) -> Refusal {
        let mut text = problem.to_string();
        let mut cause = std::error::Error::source(problem);
        while let Some(inner) = cause {
            if is_foreign_certificate(inner) {
                return Refusal::new(
                    RefusalKind::Denied,
                    format!(
                        "{} shows a certificate of another authority: this is not the control plane that is meant, or something stands in between",
                        self.base
                    ),
                );
            }
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        if reads || problem.is_connect() {
            Refusal::unavailable(format!("{} cannot be reached: {text}", self.base), 2)
        } else {
            Refusal::new(RefusalKind::OutcomeUnknown, format!("{} gave no answer: {text}", self.base))
        }
    }
}

/// Whether TLS ended because the other side showed a certificate of another authority, or of another role.
fn is_foreign_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::CertificateError::{NotValidForName, UnknownIssuer};
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidCertificate(UnknownIssuer | NotValidForName));
    }
    // An I/O error does not name what it wraps as its source, and several may lie around each other.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    wrapped.is_some_and(|inner| is_foreign_certificate(inner))
}

/// The refusal in a problem document.
fn refusal_of(status: u16, body: &[u8]) -> Refusal {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let name = problem["type"].as_str().and_then(|name| name.strip_prefix(PROBLEM_TYPE));
    let kind = name.and_then(|name| serde_json::from_value(Value::String(name.to_owned())).ok());
    let kind = kind.unwrap_or(match status {
        401 => RefusalKind::Unauthenticated,
        403 => RefusalKind::Denied,
        404 => RefusalKind::NotFound,
        409 => RefusalKind::Conflict,
        400..=499 => RefusalKind::BadInput,
        503 => RefusalKind::Unavailable,
        _ => RefusalKind::Internal,
    });
    let message = problem["detail"].as_str().map_or_else(|| format!("refused with status {status}"), str::to_owned);
    Refusal::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_becomes_the_refusal_that_it_was() {
        let body = br#"{"type":"urn:dstore:problem:bad-input","title":"Bad input","status":400,"detail":"no"}"#;
        assert_eq!(refusal_of(400, body), Refusal::bad_input("no"));
        assert_eq!(refusal_of(503, b"<html>").kind, RefusalKind::Unavailable);
        assert_eq!(refusal_of(418, b"").kind, RefusalKind::BadInput);
    }
}
