//! The head of a request, as far as calls look at it. A call looks at some ten headers, several of them more than once; so all of
//! them are gone through once, and what is found is kept here as it lies in the request.

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderValue};

/// The header that names the operation.
pub const TARGET: &str = "x-amz-target";
/// The header with the time of the signature.
pub const TIME: &str = "x-amz-date";

/// A header as it was sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct SentHeader<'a> {
    first: Option<&'a HeaderValue>,
    is_repeated: bool,
}

impl<'a> SentHeader<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        self.is_repeated = self.first.is_some();
        self.first.get_or_insert(value);
    }

    /// Its first value.
    pub fn first(self) -> Option<&'a HeaderValue> {
        self.first
    }

    /// Its value, where it was sent exactly once.
    pub fn only(self) -> Option<&'a HeaderValue> {
        self.first.filter(|_| !self.is_repeated)
    }

    /// Whether it was sent.
    pub fn is_given(self) -> bool {
        self.first.is_some()
    }

    /// Whether it was sent more than once.
    pub fn is_repeated(self) -> bool {
        self.is_repeated
    }
}

/// The head of a request.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it was sent.
    pub path: &'a str,
    /// The query string as it was sent, without its `?`.
    pub query: &'a str,
    /// The host that the client asked, with its port if it sent one; empty where it named none.
    pub host: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// Bytes of the request line and the headers, as HTTP/1.1 writes them, without the empty line.
    pub bytes: usize,
    /// `Authorization`.
    pub authorization: SentHeader<'a>,
    /// `X-Amz-Date`: the time of the signature.
    pub time: SentHeader<'a>,
    /// `X-Amz-Target`: the operation.
    pub target: SentHeader<'a>,
    /// `Content-Type`.
    pub content_type: SentHeader<'a>,
    /// `Content-Encoding`.
    pub content_encoding: SentHeader<'a>,
    /// `Origin`.
    pub origin: SentHeader<'a>,
}

impl<'a> Head<'a> {
    /// That of a request.
    pub fn of(request: &'a HttpRequest) -> Self {
        let uri = request.uri();
        // HTTP/2 has the host in the request line.
        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let query = uri.query().unwrap_or_default();
        Self::new(request.method().as_str(), uri.path(), query, host, request.headers())
    }

    /// One of these parts; `host` counts where no header says another.
    pub fn new(method: &'a str, path: &'a str, query: &'a str, host: &'a str, headers: &'a HeaderMap) -> Self {
        let target = path.len() + query.len() + usize::from(!query.is_empty());
        let line = method.len() + target + "  HTTP/1.1\r\n".len();
        let none = SentHeader::default();
        let mut head = Self {
            method,
            path,
            query,
            host,
            headers,
            bytes: line,
            authorization: none,
            time: none,
            target: none,
            content_type: none,
            content_encoding: none,
            origin: none,
        };
        let mut sent_host = none;
        for (name, value) in headers {
            let name = name.as_str();
            head.bytes += name.len() + value.len() + ": \r\n".len();
            match name {
                "host" => sent_host.add(value),
                "authorization" => head.authorization.add(value),
                TIME => head.time.add(value),
                TARGET => head.target.add(value),
                "content-type" => head.content_type.add(value),
                "content-encoding" => head.content_encoding.add(value),
                "origin" => head.origin.add(value),
                _ => {}
            }
        }
        head.host = sent_host.first().and_then(text_of).unwrap_or(host);
        head
    }
}

/// The text of a header; none where it is not ASCII. As `to_str` of the value, which looks at each byte by itself.
pub fn text_of(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.is_ascii())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn what_calls_look_at_is_found_in_one_pass() {
        let request = TestRequest::post()
            .uri("/?a=1")
            .insert_header(("host", "h:80"))
            .insert_header(("x-amz-date", "20150830T123600Z"))
            .append_header(("authorization", "one"))
            .append_header(("authorization", "two"))
            .insert_header(("x-more", "v"))
            .to_http_request();
        let head = Head::of(&request);
        assert_eq!((head.method, head.path, head.query, head.host), ("POST", "/", "a=1", "h:80"));
        assert_eq!(head.time.only().unwrap(), "20150830T123600Z");
        assert_eq!(head.authorization.first().unwrap(), "one");
        assert!(head.authorization.is_repeated() && head.authorization.only().is_none());
        assert!(!head.target.is_given() && !head.origin.is_given() && head.content_encoding.only().is_none());
        let sent = "POST /?a=1 HTTP/1.1\r\nhost: h:80\r\nx-amz-date: 20150830T123600Z\r\n\
                    authorization: one\r\nauthorization: two\r\nx-more: v\r\n";
        assert_eq!(head.bytes, sent.len());
    }

    #[test]
    fn the_host_is_that_of_the_header_or_else_of_the_request_line() {
        let host = |request: TestRequest| Head::of(&request.to_http_request()).host.to_owned();
        assert_eq!(host(TestRequest::default().uri("http://line:1/")), "line:1");
        assert_eq!(host(TestRequest::default().uri("http://line:1/").insert_header(("host", "sent"))), "sent");
        assert_eq!(host(TestRequest::default()), "");
    }
}
