//! Requests as they are noted ([`crate::services::observing`]): what their headers say, and the tag in their answers.
//!
//! | header | of the request | of the answer |
//! |---|---|---|
//! | `x-request-id` | the tag that the client chose, else one is made | the tag, but in answers to calls of the DynamoDB protocol |
//! | `x-amzn-RequestId` | | the tag, in answers to calls of the DynamoDB protocol: SDKs show it with every error |
//! | `traceparent` | the trace that it belongs to (W3C) | |
//!
//! A header that comes twice, or is not well formed, counts as not sent.

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use super::dynamodb;
use super::rest::asked::{Asked, Target};
use super::rest::routes::Action;
use crate::domain::observed::{RequestTag, TraceContext};
use crate::services::observing::{self, Observing, Sent, Subject, Surface, TAG_HEADER, TRACE_HEADER};

const TAG: HeaderName = HeaderName::from_static(TAG_HEADER);
const TRACE: HeaderName = HeaderName::from_static(TRACE_HEADER);

/// What the headers say.
pub fn sent(request: &HttpRequest) -> Sent {
    let one = |name: &HeaderName| {
        let mut values = request.headers().get_all(name);
        let value = values.next()?;
        values.next().is_none().then(|| value.as_bytes())
    };
    Sent { tag: one(&TAG).and_then(RequestTag::from_bytes), trace: one(&TRACE).and_then(TraceContext::parse) }
}

/// What the headers say of a call of the DynamoDB protocol: with a tag of its form where the client chose none.
pub fn with_long_tag(mut sent: Sent, observing: &Observing) -> Sent {
    let made = || RequestTag::of_numbers([observing.numbers.next(), observing.numbers.next()]);
    sent.tag.get_or_insert_with(made);
    sent
}

/// Answers a client's request that came with this by `answer`, notes it, and puts its tag into the answer.
pub async fn client(observing: &Observing, sent: Sent, answer: impl Future<Output = HttpResponse>) -> HttpResponse {
    let noted = async {
        let mut response = answer.await;
        if !response.headers().contains_key(dynamodb::answer::REQUEST_ID)
            && let Some(tag) = tag_value()
        {
            response.headers_mut().insert(TAG, tag);
        }
        observing.ended(response.status().as_u16());
        response
    };
    observing::within(observing.begin(sent, Surface::Client), noted).await
}

/// The tag of the request of this task, for a header: every tag can stand in one.
pub fn tag_value() -> Option<HeaderValue> {
    HeaderValue::from_str(observing::tag()?.as_str()).ok()
}

/// Answers a request of another process of the cluster by `answer`, and notes it.
pub async fn inside(
    observing: &Observing,
    request: &HttpRequest,
    answer: impl Future<Output = HttpResponse>,
) -> HttpResponse {
    let noted = async {
        let response = answer.await;
        observing.ended(response.status().as_u16());
        response
    };
    observing::within(observing.begin(sent(request), Surface::Inside), noted).await
}

/// Notes what a client asks for.
pub fn about(asked: &Asked<'_>) {
    let tenant = match &asked.target {
        Target::Service => None,
        Target::Tenant(tenant) => Some(tenant.name.clone()),
        Target::Table(table) => Some(table.tenant.clone()),
    };
    let action = asked.endpoint.action;
    let is_quick = !matches!(
        action,
        Action::CreateTable | Action::ChangeTable | Action::DeleteTable | Action::CreateTenant | Action::DeleteTenant
    );
    observing::about(Subject { operation: operation(action), tenant, is_quick });
}

/// The word for it in logs and traces. Of items they are the words of what is counted ([`crate::domain::usage`]).
fn operation(action: Action) -> &'static str {
    match action {
        Action::ReadItem => "get-item",
        Action::PutItem => "put-item",
        Action::MergeItem => "update-item",
        Action::DeleteItem => "delete-item",
        Action::ListItems => "list-items",
        Action::ReadReceipt => "get-receipt",
        Action::ReadTable => "get-table",
        Action::ListTables => "list-tables",
        Action::CreateTable => "create-table",
        Action::ChangeTable => "change-table",
        Action::DeleteTable => "delete-table",
        Action::ReadTenant => "get-tenant",
        Action::ListTenants => "list-tenants",
        Action::CreateTenant => "create-tenant",
        Action::DeleteTenant => "delete-tenant",
        Action::TellAlive | Action::TellReady => "health",
        Action::ShowOpenApi | Action::ShowStartPage => "description",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    #[test]
    fn a_header_counts_once_and_well_formed() {
        const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let sent = |headers: &[(&'static str, &str)]| {
            let add = |request: TestRequest, header: &(&'static str, &str)| request.append_header(*header);
            let sent = super::sent(&headers.iter().fold(TestRequest::default(), add).to_http_request());
            (sent.tag.map(|tag| tag.as_str().to_owned()), sent.trace.is_some_and(|trace| trace.is_sampled))
        };
        assert_eq!(sent(&[]), (None, false));
        assert_eq!(sent(&[("X-Request-Id", "a.7"), ("traceparent", TRACEPARENT)]), (Some("a.7".to_owned()), true));
        assert_eq!(sent(&[("x-request-id", "a b"), ("traceparent", "00-1-2-01")]), (None, false));
        let twice =
            [("x-request-id", "a"), ("x-request-id", "b"), ("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)];
        assert_eq!(sent(&twice), (None, false));
    }
}
