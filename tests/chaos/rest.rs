//! One request over REST, and what its answer says about the operation: how it ended, that it certainly did not happen, or
//! that nobody knows.
//!
//! The difference is the whole point. A write whose connection broke after it was sent may have happened; one that was
//! refused with 503 has not, and dStore is taken at its word: where somebody reads it later, the judge finds a value
//! that nobody wrote.

use std::collections::BTreeMap;

use dstore_checkers::{Action, Answer, Condition, Document, Operation, Stored};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Map, Value};

use crate::cluster::NO_ITEM;

/// What one request told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// How the operation ended.
    Ended(Answer),
    /// It is durable; what becomes of it is told at this path.
    Queued(String),
    /// This request did nothing.
    NotDone(String),
    /// It may have done something.
    Unknown(String),
    /// An answer that nothing explains but a fault of dStore.
    Wrong(String),
}

/// The request for an operation.
pub fn request(client: &reqwest::Client, url: &str, token: &str, operation: &Operation) -> RequestBuilder {
    let method = match operation.action {
        Action::Read => Method::GET,
        Action::Put(_) => Method::PUT,
        Action::Merge(_) => Method::POST,
        Action::Delete => Method::DELETE,
    };
    let request = client.request(method, url).bearer_auth(token);
    let request = match operation.condition {
        Condition::Always => request,
        Condition::IfVersion(version) => request.header("if-match", format!("\"v{version}\"")),
        Condition::IfAbsent => request.header("if-none-match", "*"),
    };
    let fields: Map<String, Value> = match &operation.action {
        Action::Put(document) => document.0.iter().map(|(name, number)| (name.clone(), (*number).into())).collect(),
        Action::Merge(patch) => patch.0.iter().map(|(name, number)| (name.clone(), (*number).into())).collect(),
        Action::Read | Action::Delete => return request,
    };
    request.header("content-type", "application/json").body(Value::Object(fields).to_string())
}

/// Sends it and reads what it told.
pub async fn send(request: RequestBuilder, is_read: bool) -> Told {
    match request.send().await {
        Ok(answer) => read(answer, is_read).await,
        Err(error) if is_read || error.is_connect() => Told::NotDone(error.to_string()),
        Err(error) => Told::Unknown(error.to_string()),
    }
}

async fn read(answer: Response, is_read: bool) -> Told {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    // The head of an answer says all of a write; the body is the item that was read.
    let text = match answer.text().await {
        Ok(text) => text,
        Err(error) if is_read => return Told::NotDone(error.to_string()),
        Err(_) => String::new(),
    };
    if status == 202 && !is_read {
        let location = headers.get("location").and_then(|path| path.to_str().ok());
        return location.map_or(Told::Wrong("202 without a receipt".to_owned()), |path| Told::Queued(path.to_owned()));
    }
    match told(status, &headers, &text, is_read) {
        Some(answer) => Told::Ended(answer),
        None => {
            let what = format!("{status} {text}");
            match status {
                200..=299 => Told::Wrong(format!("not understood: {what}")),
                404 | 421 | 429 | 503 => Told::NotDone(what),
                504 if is_read => Told::NotDone(what),
                504 => Told::Unknown(what),
                _ => Told::Wrong(what),
            }
        }
    }
}

/// What a receipt tells; `Queued` is told as long as nobody knows.
pub async fn receipt(client: &reqwest::Client, url: &str, path: &str, token: &str) -> Told {
    let again = || Told::Queued(path.to_owned());
    let Ok(answer) = client.get(format!("{url}{path}")).bearer_auth(token).send().await else { return again() };
    let status = answer.status().as_u16();
    let Ok(text) = answer.text().await else { return again() };
    let wrong = || Told::Wrong(format!("a receipt that nobody understands: {status} {text}"));
    if status != 200 {
        // It was given out, so there is one for 24 hours.
        return if matches!(status, 421 | 429 | 503 | 504) { again() } else { wrong() };
    }
    let Ok(receipt) = serde_json::from_str::<Value>(&text) else { return wrong() };
    match receipt["state"].as_str() {
        Some("queued") => again(),
        Some("lost") => Told::NotDone("the receipt says that it was lost".to_owned()),
        Some("refused") => match receipt["problem"]["status"].as_u64() {
            Some(404) => Told::Ended(Answer::NotFound),
            Some(412) => Told::Ended(Answer::PreconditionFailed),
            // The clocks of proxy and leader are far apart.
            Some(503) => Told::NotDone("it was turned down for good".to_owned()),
            _ => wrong(),
        },
        Some("done") => {
            let mut headers = HeaderMap::new();
            if let Some(etag) = receipt["etag"].as_str().and_then(|etag| etag.parse().ok()) {
                headers.insert("etag", etag);
            }
            let status = receipt["status"].as_u64().unwrap_or(0) as u16;
            told(status, &headers, "", false).map_or_else(wrong, Told::Ended)
        }
        _ => wrong(),
    }
}

fn told(status: u16, headers: &HeaderMap, text: &str, is_read: bool) -> Option<Answer> {
    let version = || headers.get("etag")?.to_str().ok()?.strip_prefix("\"v")?.strip_suffix('"')?.parse().ok();
    match (status, is_read) {
        (200, true) => Some(Answer::Item(Some(Stored { version: version()?, document: document(text)? }))),
        (404, true) => text.contains(NO_ITEM).then_some(Answer::Item(None)),
        (200, false) => Some(Answer::Updated(version()?)),
        (201, false) => Some(Answer::Created(version()?)),
        (204, false) => Some(Answer::Deleted),
        (404, false) => text.contains(NO_ITEM).then_some(Answer::NotFound),
        (412, false) => Some(Answer::PreconditionFailed),
        _ => None,
    }
}

fn document(text: &str) -> Option<Document> {
    let fields: BTreeMap<String, u64> = serde_json::from_str(text).ok()?;
    Some(Document(fields))
}
