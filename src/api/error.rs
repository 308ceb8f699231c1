//! The one table from a refusal to what a client of REST sees: status, a stable `type`, a title, and
//! the headers that belong to it. Bodies are `application/problem+json` (RFC 9457):
//!
//! ```json
//! {"type":"urn:dstore:problem:not-found","title":"Not found","status":404,
//!  "detail":"there is no item with this id","rid":"rid:dStore:acme:NA:table:orders","request_id":"4bf92f…"}
//! ```
//!
//! `type` is what programs look at, and never changes its meaning; `title` is the same for each
//! type; `detail` is for people and may be worded better at any time. Handlers and services know
//! none of this: they return [`Refusal`]. `request_id` is the request's tag, as in its header `x-request-id`. Where a fault is our own (500), the detail is logged with the
//! refusal's kind and the client sees the same words, which therefore hold nothing secret.
//!
//! Rejected: one status per type (several types share 409 or 503 for good reason), and bodies in
//! any other shape for any status: a client parses one thing.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder};

use crate::domain::observed::RequestTag;
use crate::domain::{Refusal, RefusalKind};
use crate::services::observing;

/// The media type of problems (RFC 9457 §3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How one family of refusals is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// The HTTP status.
    pub status: u16,
    /// The last part of the stable `type`.
    pub name: &'static str,
    /// The same few words each time.
    pub title: &'static str,
}

impl ProblemKind {
    const fn new(status: u16, name: &'static str, title: &'static str) -> Self {
        Self { status, name, title }
    }

    /// The stable `type`.
    pub fn type_uri(&self) -> String {
        format!("urn:dstore:problem:{}", self.name)
    }

    /// The HTTP status.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// A known path asked with a method that it does not have. No service refuses so, hence no [`RefusalKind`].
pub const METHOD_NOT_ALLOWED: ProblemKind = ProblemKind::new(405, "method-not-allowed", "Method not allowed");

/// All families, for the documents and the tests.
pub const KINDS: &[RefusalKind] = &[
    RefusalKind::BadInput,
    RefusalKind::Unauthenticated,
    RefusalKind::Denied,
    RefusalKind::NotFound,
    RefusalKind::TooSlow,
    RefusalKind::Conflict,
    RefusalKind::PreconditionFailed,
    RefusalKind::TooLarge,
    RefusalKind::UnsupportedMediaType,
    RefusalKind::WrongNode,
    RefusalKind::RequestIdReused,
    RefusalKind::Throttled,
    RefusalKind::Damaged,
    RefusalKind::Internal,
    RefusalKind::Unavailable,
    RefusalKind::OutcomeUnknown,
    RefusalKind::StorageFull,
];

/// How a family of refusals is shown.
pub const fn problem_kind(kind: RefusalKind) -> ProblemKind {
    match kind {
        RefusalKind::BadInput => ProblemKind::new(400, "bad-input", "Bad input"),
        RefusalKind::Unauthenticated => ProblemKind::new(401, "unauthenticated", "No valid credential"),
        RefusalKind::Denied => ProblemKind::new(403, "denied", "Not allowed"),
        RefusalKind::NotFound => ProblemKind::new(404, "not-found", "Not found"),
        RefusalKind::TooSlow => ProblemKind::new(408, "too-slow", "The request arrived too slowly"),
        RefusalKind::Conflict => ProblemKind::new(409, "conflict", "In conflict with what is there"),
        RefusalKind::PreconditionFailed => {
            ProblemKind::new(412, "precondition-failed", "If-Match or If-None-Match did not hold")
        }
        RefusalKind::TooLarge => ProblemKind::new(413, "too-large", "Too large"),
        RefusalKind::UnsupportedMediaType => ProblemKind::new(415, "unsupported-media-type", "Unsupported media type"),
        RefusalKind::WrongNode => ProblemKind::new(421, "wrong-node", "Held by another node"),
        RefusalKind::RequestIdReused => {
            ProblemKind::new(422, "request-id-reused", "Idempotency-Key used before with another request")
        }
        RefusalKind::Throttled => ProblemKind::new(429, "throttled", "Too many requests"),
        RefusalKind::Damaged => ProblemKind::new(500, "damaged", "Stored data is damaged"),
        RefusalKind::Internal => ProblemKind::new(500, "internal", "Internal error"),
        RefusalKind::Unavailable => ProblemKind::new(503, "unavailable", "Cannot be served now"),
        RefusalKind::OutcomeUnknown => {
            ProblemKind::new(504, "outcome-unknown", "The write may or may not have happened")
        }
        RefusalKind::StorageFull => ProblemKind::new(507, "storage-full", "The tenant's storage limit is reached"),
    }
}

#[derive(serde::Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// The problem as JSON. `rid` names the resource that it is about, where the caller may know of it.
pub fn problem_json(kind: ProblemKind, detail: &str, rid: Option<&str>) -> serde_json::Value {
    let tag = observing::tag();
    let request_id = tag.as_ref().map(RequestTag::as_str);
    let body = Body { r#type: kind.type_uri(), title: kind.title, status: kind.status, detail, rid, request_id };
    serde_json::to_value(body).unwrap_or_default()
}

/// The answer that a refusal becomes.
pub fn response(refusal: &Refusal, rid: Option<&str>) -> HttpResponse {
    let kind = problem_kind(refusal.kind);
    // One of a limit says nothing of this process, and comes as often as the tenant writes.
    if kind.status >= 500 && refusal.kind != RefusalKind::StorageFull {
        let request_id = observing::tag().map(tracing::field::display);
        tracing::warn!(kind = kind.name, detail = %refusal.message, request_id, "request refused");
    }
    let mut answer = builder(kind);
    if let Some(seconds) = refusal.retry_after_seconds {
        answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    // One that cannot stand in a header is left out, and the answer stays what it is.
    if let Some(location) = refusal.location.as_deref().and_then(|text| header::HeaderValue::from_str(text).ok()) {
        answer.insert_header((header::LOCATION, location));
    }
    match refusal.kind {
        RefusalKind::Unauthenticated => {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"dStore\""));
        }
        // What is left of the body is not read, so the connection cannot carry another request.
        RefusalKind::TooLarge | RefusalKind::TooSlow => {
            answer.force_close();
        }
        _ => {}
    }
    finish(answer, kind, &refusal.message, rid)
}

/// The answer to a method that a path does not have; `allow` lists those that it has.
pub fn method_not_allowed(allow: &str) -> HttpResponse {
    let mut answer = builder(METHOD_NOT_ALLOWED);
    answer.insert_header((header::ALLOW, allow));
    finish(answer, METHOD_NOT_ALLOWED, &format!("this path can be asked with {allow}"), None)
}

fn builder(kind: ProblemKind) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(kind.status_code());
    answer.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
    answer
}

fn finish(mut answer: HttpResponseBuilder, kind: ProblemKind, detail: &str, rid: Option<&str>) -> HttpResponse {
    if let Some(rid) = rid {
        answer.insert_header((super::rest::RID_HEADER, rid));
    }
    answer.body(problem_json(kind, detail, rid).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Programs depend on these; a changed line here breaks them.
    #[test]
    fn types_and_statuses_are_stable() {
        let table: Vec<String> =
            KINDS.iter().map(|kind| problem_kind(*kind)).map(|kind| format!("{} {}", kind.status, kind.name)).collect();
        let expected = "400 bad-input,401 unauthenticated,403 denied,404 not-found,408 too-slow,409 conflict,\
                        412 precondition-failed,413 too-large,415 unsupported-media-type,421 wrong-node,\
                        422 request-id-reused,429 throttled,500 damaged,500 internal,503 unavailable,504 outcome-unknown,\
                        507 storage-full";
        assert_eq!(table.join(","), expected);
    }

    #[test]
    fn each_type_is_its_own() {
        let names: HashSet<&str> = KINDS.iter().map(|kind| problem_kind(*kind).name).collect();
        assert_eq!(names.len(), KINDS.len());
    }

    #[test]
    fn headers_follow_the_refusal() {
        let answer = response(&Refusal::unavailable("full", 7), None);
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers().get("retry-after").unwrap(), "7");
        let elsewhere =
            Refusal { location: Some("https://n2:8080/".into()), ..Refusal::new(RefusalKind::WrongNode, "not here") };
        let answer = response(&elsewhere, None);
        assert_eq!(
            (answer.status().as_u16(), answer.headers().get("location").unwrap().to_str().unwrap()),
            (421, "https://n2:8080/")
        );
        let answer = response(&Refusal::new(RefusalKind::Unauthenticated, "no token"), Some("rid:x"));
        assert!(answer.headers().contains_key("www-authenticate"));
        assert_eq!(answer.headers().get("dstore-rid").unwrap(), "rid:x");
        assert_eq!(method_not_allowed("GET, HEAD").headers().get("allow").unwrap(), "GET, HEAD");
    }
}
