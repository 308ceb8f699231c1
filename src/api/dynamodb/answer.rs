//! Answers as the service sends them: the JSON, and the headers around it.
//!
//! | header | what |
//! |---|---|
//! | `Content-Type` | `application/x-amz-json-1.0`; `application/json` where the request said so |
//! | `x-amzn-RequestId` | the tag ([`crate::api::observed`]): 52 letters and digits, new each time, or what the client chose |
//! | `x-amz-crc32` | CRC-32 of the body as it is sent, so of the packed one where it is packed. Clients check it and try again where it is wrong |
//! | `Content-Encoding` | `gzip`, see [`super::encoding`] |
//! | `Retry-After` | seconds, of a call that found no room ([`super::body_budget`]) |
//! | `Server` | always the same |
//!
//! The length and the date are the server's ([`crate::api::server`]).

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};

use super::failure::Failure;
use super::head::{Head, SentHeader};
use super::{cors, encoding};
use crate::api::observed;
use crate::services::observing;

const PLAIN_JSON: &str = "application/json";
// Made once: each time it is made, it is looked at letter by letter.
static JSON_VALUE: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");
static PLAIN_JSON_VALUE: HeaderValue = HeaderValue::from_static(PLAIN_JSON);
static SERVER: HeaderValue = HeaderValue::from_static("dStore");
/// The header with the request's tag.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-crc32");

/// The answer to a call that was done.
pub fn done(asked: &Head<'_>, body: Vec<u8>) -> HttpResponse {
    answer(asked, StatusCode::OK, body)
}

/// The answer to a call that was not.
pub fn failed(asked: &Head<'_>, failure: &Failure) -> HttpResponse {
    // Who is told to come again is told so because there are many; and maybe before anybody knows who it is.
    if failure.status() >= 500 && failure.retry_after_seconds().is_none() {
        let (kind, detail) = (failure.name(), failure.message());
        let request_id = observing::tag().map(tracing::field::display);
        tracing::warn!(kind, detail, request_id, "call refused");
    }
    let status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = answer(asked, status, failure.body());
    if let Some(seconds) = failure.retry_after_seconds() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        answer.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    answer
}

fn answer(asked: &Head<'_>, status: StatusCode, body: Vec<u8>) -> HttpResponse {
    let (body, is_packed) = encoding::pack(asked.headers, body);
    let checksum = crc32fast::hash(&body);
    let mut answer = HttpResponse::build(status).body(body);
    let told = answer.headers_mut();
    told.insert(header::CONTENT_TYPE, json_of(asked.content_type).clone());
    told.insert(header::SERVER, SERVER.clone());
    told.insert(CHECKSUM, HeaderValue::from(checksum));
    if let Some(tag) = observed::tag_value() {
        told.insert(REQUEST_ID, tag);
    }
    if is_packed {
        told.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    cors::allow(asked, told);
    answer
}

/// What a load balancer asks, and AWS's tools do: that there is somebody at this host.
pub fn healthy(asked: &Head<'_>) -> HttpResponse {
    let mut answer = HttpResponse::Ok().content_type("text/plain").body(format!("healthy: {}", asked.host));
    answer.headers_mut().insert(header::SERVER, SERVER.clone());
    cors::allow(asked, answer.headers_mut());
    answer
}

fn json_of(content_type: SentHeader<'_>) -> &'static HeaderValue {
    let is_plain = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        let essence = bytes.split(|byte| *byte == b';').next().unwrap_or(bytes);
        essence.trim_ascii().eq_ignore_ascii_case(PLAIN_JSON.as_bytes())
    };
    match content_type.first() {
        Some(value) if *value != JSON_VALUE && is_plain(value) => &PLAIN_JSON_VALUE,
        _ => &JSON_VALUE,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody;
    use actix_web::test::TestRequest;
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::observed::RequestTag;
    use crate::domain::observed::tag::TagNumbers;
    use crate::services::observing::{Logged, Observing, Sent, Surface};

    struct Zeros;

    impl crate::domain::Random for Zeros {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }

    /// What is answered to a request with this tag.
    fn tagged(tag: RequestTag, answer: impl FnOnce() -> HttpResponse) -> HttpResponse {
        let observing = Observing { logged: Logged::None, slow: None, tracing: None, numbers: TagNumbers::new(&Zeros) };
        let observed = observing.begin(Sent { tag: Some(tag), trace: None }, Surface::Client);
        observing::within(observed, async { answer() }).now_or_never().expect("it waits for nothing")
    }

    fn header<'a>(answer: &'a HttpResponse, name: &str) -> &'a str {
        answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn an_answer_has_the_headers_of_the_service() {
        let request = TestRequest::default().insert_header(("origin", "https://page.example")).to_http_request();
        let tag = RequestTag::of_numbers([1, u128::MAX]);
        let answer = tagged(tag, || done(&Head::of(&request), b"{}".to_vec()));
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), "application/x-amz-json-1.0");
        // python3 -c 'import zlib; print(zlib.crc32(b"{}"))'
        assert_eq!(header(&answer, "x-amz-crc32"), "2745614147");
        assert_eq!(header(&answer, "access-control-allow-origin"), "*");
        assert_eq!(header(&answer, "x-amzn-requestid"), "000000000000000000000000017VVVVVVVVVVVVVVVVVVVVVVVVV");
        let request = TestRequest::default().insert_header(("content-type", "application/json; charset=utf-8"));
        let answer = failed(&Head::of(&request.to_http_request()), &Failure::validation("no"));
        assert_eq!((answer.status().as_u16(), header(&answer, "content-type")), (400, "application/json"));
        assert_eq!(header(&answer, "access-control-allow-origin"), "");
    }

    #[test]
    fn the_checksum_is_of_what_is_sent() {
        let request = TestRequest::default().insert_header(("accept-encoding", "gzip")).to_http_request();
        let answer = done(&Head::of(&request), vec![b'a'; 10_000]);
        assert_eq!(header(&answer, "content-encoding"), "gzip");
        let told = header(&answer, "x-amz-crc32").to_owned();
        let body = answer.into_body().try_into_bytes().unwrap();
        assert_eq!(crc32fast::hash(&body).to_string(), told);
    }
}
