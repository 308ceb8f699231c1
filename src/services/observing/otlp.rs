//! Spans as OpenTelemetry's collector reads them: the messages of `opentelemetry/proto/collector/trace/v1` (release 1.x of the
//! protocol), as far as they are used here, in protobuf. Numbers of fields are never given a second meaning there, so these
//! few lines stay right; the published crates would bring a code generator's output of all signals and a second HTTP client.

use prost::Message;

use super::spans::{Attribute, Span as Told, SpanKind};

/// What is posted.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceRequest {
    /// Spans by who tells them.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// Spans of one process.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// The process.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// A process.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// What is known of it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Spans of one part of a program; we are one.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// The spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// A span.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// What was done.
    #[prost(string, tag = "5")]
    pub name: String,
    /// 1 internal, 2 server, 3 client.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What else is known.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// 0 not said, 2 failed.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// One of its kinds.
    #[prost(oneof = "Value", tags = "1, 3")]
    pub value: Option<Value>,
}

/// The kinds of values that are used here.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// What is posted of these spans, told by a process with these attributes.
pub fn request(process: &[(&'static str, String)], spans: Vec<Told>) -> ExportTraceServiceRequest {
    let text = |(key, text): &(&'static str, String)| attribute((*key, Attribute::Text(text.clone())));
    let resource = Resource { attributes: process.iter().map(text).collect() };
    let scope_spans = vec![ScopeSpans { spans: spans.into_iter().map(span).collect() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
}

fn span(told: Told) -> Span {
    Span {
        trace_id: told.trace.to_vec(),
        span_id: told.id.to_vec(),
        parent_span_id: told.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        name: told.name.to_owned(),
        kind: match told.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        },
        start_time_unix_nano: told.began_ns,
        end_time_unix_nano: told.ended_ns,
        attributes: told.attributes.into_iter().map(attribute).collect(),
        status: told.has_failed.then_some(Status { code: 2 }),
    }
}

fn attribute((key, value): (&'static str, Attribute)) -> KeyValue {
    let value = match value {
        Attribute::Text(text) => Value::Text(text),
        Attribute::Number(number) => Value::Number(number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand from the published messages: a field moved to another number would show here.
    #[test]
    fn the_bytes_are_pinned() {
        let told = Told {
            trace: [0x11; 16],
            id: [0x22; 8],
            parent: Some([0x33; 8]),
            name: "ask",
            kind: SpanKind::Client,
            began_ns: 1,
            ended_ns: 0x0102,
            attributes: vec![("n", Attribute::Number(5))],
            has_failed: true,
        };
        let sent = request(&[("a", "b".to_owned())], vec![told]);
        let key_value =
            |key: &str, value: &[u8]| [&[0x0A, 1][..], key.as_bytes(), &[0x12, value.len() as u8], value].concat();
        let within = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8][..], bytes].concat();
        let span = [
            within(0x0A, &[0x11; 16]),
            within(0x12, &[0x22; 8]),
            within(0x22, &[0x33; 8]),
            within(0x2A, b"ask"),
            vec![0x30, 3],
            [&[0x39][..], &1u64.to_le_bytes()].concat(),
            [&[0x41][..], &0x0102u64.to_le_bytes()].concat(),
            within(0x4A, &key_value("n", &[0x18, 5])),
            within(0x7A, &[0x18, 2]),
        ]
        .concat();
        let resource = within(0x0A, &within(0x0A, &key_value("a", &within(0x0A, b"b"))));
        let scope = within(0x12, &within(0x12, &span));
        let expected = within(0x0A, &[resource, scope].concat());
        assert_eq!(sent.encode_to_vec(), expected);
        assert_eq!(ExportTraceServiceRequest::decode(&*expected).unwrap(), sent);
    }
}
