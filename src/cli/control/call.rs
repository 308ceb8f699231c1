//! One call of the admin API by the context in use, and how a failure ends the process.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::contexts::{Context, Contexts};
use crate::domain::ids::Role;
use crate::domain::{Refusal, RefusalKind};
use crate::transport::client::JsonClient;
use crate::transport::tls::client_config;

const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// Why a command was not carried out, and the code that says so.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: USAGE }
    }

    /// Says it on stderr.
    pub(super) fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.kind {
            RefusalKind::Unavailable | RefusalKind::OutcomeUnknown => UNREACHABLE,
            _ => REFUSED,
        };
        Self { message: refusal.message, code }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, code: REFUSED }
    }
}

/// Says it on stderr.
pub(super) fn failed(message: &str) -> ExitCode {
    Failure::from(message.to_owned()).report()
}

/// The admin API of a context.
pub(super) struct Admin {
    client: JsonClient,
    tenant: Option<String>,
}

impl Admin {
    /// Of the context in use.
    pub(super) fn open() -> Result<Self, Failure> {
        Self::of(Contexts::load()?.chosen()?.1)
    }

    /// Of this context.
    pub(super) fn of(context: &Context) -> Result<Self, Failure> {
        let tls = match &context.authority_pem {
            Some(pem) => Some(client_config(None, pem, Role::Control).map_err(|problem| problem.to_string())?),
            None => None,
        };
        let client = JsonClient::new(&context.url, tls)?.with_token(Zeroizing::new(context.token.clone()));
        Ok(Self { client, tenant: context.tenant.clone() })
    }

    /// The tenant that was named, or the context's.
    pub(super) fn tenant(&self, named: Option<&str>) -> Result<String, Failure> {
        named.map(str::to_owned).or_else(|| self.tenant.clone()).ok_or_else(|| {
            Failure::usage(
                "name a tenant with --tenant, or set one with `dstore control context use NAME --tenant TENANT`",
            )
        })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.client.get(&format!("/admin/v1/{path}")).await?)
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        Ok(self.client.send(Method::PUT, &format!("/admin/v1/{path}"), Some(body)).await?)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        Ok(self.client.send(Method::POST, &format!("/admin/v1/{path}"), Some(body)).await?)
    }

    pub(super) async fn delete(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        Ok(self.client.send(Method::DELETE, &format!("/admin/v1/{path}"), body).await?)
    }
}

/// One segment of a path, or one value of a query, percent-encoded.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
