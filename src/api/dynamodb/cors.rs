//! What browsers ask and are told (CORS), so that a page may speak to the store: any page may, since nothing is let in
//! by cookies and each call is signed. Nothing is said to who sends no `Origin`.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

use super::head::Head;

/// Headers of answers that a page may read.
const EXPOSED: &str = "x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,x-amz-crc32,Date";
/// How long a browser may remember what it was told, in seconds.
const REMEMBERED_SECONDS: &str = "172800";

/// Adds to an answer what a page of another origin must be told to read it.
pub fn allow(asked: &Head<'_>, answer: &mut HeaderMap) {
    if asked.origin.is_given() {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// The answer to OPTIONS: whatever is asked for may be sent.
pub fn preflight(asked: &Head<'_>) -> HttpResponse {
    let mut answer = HttpResponse::Ok().body("");
    let told = answer.headers_mut();
    allow(asked, told);
    told.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED_SECONDS));
    for (wanted, allowed) in [
        (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
        (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
    ] {
        if let Some(wanted) = asked.headers.get(wanted) {
            told.insert(allowed, wanted.clone());
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_browser_is_told_what_it_asked_and_others_nothing() {
        let request = TestRequest::default()
            .insert_header(("origin", "https://page.example"))
            .insert_header(("access-control-request-method", "POST"))
            .insert_header(("access-control-request-headers", "x-amz-target,authorization"))
            .to_http_request();
        let answer = preflight(&Head::of(&request));
        let told = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap());
        assert_eq!(told("access-control-allow-origin"), "*");
        assert_eq!(told("access-control-allow-methods"), "POST");
        assert_eq!(told("access-control-allow-headers"), "x-amz-target,authorization");
        assert_eq!(told("access-control-max-age"), "172800");
        let mut nothing = HeaderMap::new();
        allow(&Head::of(&TestRequest::default().to_http_request()), &mut nothing);
        assert!(nothing.is_empty());
    }
}
