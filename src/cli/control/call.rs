//! One call of the admin API by the context in use, and how a failure ends the process.

use std::process::ExitCode;
use std::time::Duration;

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
const NOT_FOUND: u8 = 4;
const NOT_ALLOWED: u8 = 5;

/// How many of a list are asked for at once.
const PAGE: usize = 1000;

/// After this time people are told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

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

    pub(super) fn unreached(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: UNREACHABLE }
    }

    pub(super) fn not_allowed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: NOT_ALLOWED }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: NOT_FOUND }
    }

    /// Whether the credential is none, or does not suffice.
    pub(super) fn is_not_allowed(&self) -> bool {
        self.code == NOT_ALLOWED
    }

    /// The same with another word for what to do: the server speaks of its API, people type flags.
    pub(super) fn instead_of(self, words: &str, others: &str) -> Self {
        Self { message: self.message.replace(words, others), ..self }
    }

    /// Says it on stderr.
    pub(super) fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (code, hint) = match refusal.kind {
            RefusalKind::Unavailable | RefusalKind::OutcomeUnknown => {
                (UNREACHABLE, "\nIs it running? `dstore control context show` tells which control plane is asked.")
            }
            RefusalKind::NotFound => (NOT_FOUND, ""),
            RefusalKind::Unauthenticated => (
                NOT_ALLOWED,
                "\nLog in again: `dstore control login URL --token-file FILE`; for a dstore dev, start it anew.",
            ),
            RefusalKind::Denied => (NOT_ALLOWED, ""),
            _ => (REFUSED, ""),
        };
        Self { message: format!("{}{hint}", refusal.message), code }
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
        let path = format!("/admin/v1/{path}");
        Ok(self.patiently(self.client.get(&path)).await?)
    }

    /// A list whole: pages of it are asked for until one is not full. `name` is the field that they are in order of.
    pub(super) async fn all(&self, path: &str, name: &str) -> Result<Value, Failure> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().and_then(|last| last[name].as_str());
            let after = after.map(|after| format!("&after={}", escape(after))).unwrap_or_default();
            let page = self.get(&format!("{path}?limit={PAGE}{after}")).await?;
            let Value::Array(page) = page else { return Ok(page) };
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(Value::Array(all));
            }
        }
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.send(Method::DELETE, path, body).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let path = format!("/admin/v1/{path}");
        Ok(self.patiently(self.client.send(method, &path, body)).await?)
    }

    /// Waits for an answer, and says so where that takes long.
    async fn patiently<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        eprintln!("waiting for {} …", self.client.base());
        answer.await
    }

    /// The id of the one thing of `noun` that `text` names: by its id itself, or by a name that only one has.
    pub(super) async fn id_of(&self, noun: &str, text: &str) -> Result<String, Failure> {
        if uuid::Uuid::parse_str(text).is_ok() {
            return Ok(text.to_owned());
        }
        let all = self.get(noun).await?;
        let named =
            all.as_array().into_iter().flatten().filter(|one| one["name"] == text && one["revoked_at"].is_null());
        let ids: Vec<&str> = named.filter_map(|one| one["id"].as_str()).collect();
        match ids.as_slice() {
            [id] => Ok((*id).to_owned()),
            [] => Err(Failure::not_found(format!(
                "there is no {noun} {text:?}; `dstore control {noun} list` shows those there are"
            ))),
            several => Err(Failure::usage(format!(
                "{} {noun}s are called {text:?}; say which by its UUID: {}",
                several.len(),
                several.join(", ")
            ))),
        }
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
