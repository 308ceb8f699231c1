//! The messages of OTLP's metrics that are sent, and the answer: those fields of `opentelemetry/proto/metrics/v1/metrics.proto` and
//! `collector/metrics/v1/metrics_service.proto` that are used, with their numbers there. A test compares them, byte by byte, with what
//! `protoc` makes of the published files.
//!
//! Rejected: the crate with all of them, generated. It brings a whole SDK for a dozen structures.

/// `AGGREGATION_TEMPORALITY_DELTA`: each point tells what came since the one before.
pub(super) const DELTA: i32 = 1;

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$tag:meta])* $field:ident: $kind:ty),+ $(,)? })+) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct $name { $($(#[$tag])* pub(super) $field: $kind),+ }
    )+ };
}

messages! {
    /// What is posted.
    ExportRequest {
        #[prost(message, repeated, tag = "1")]
        resource_metrics: Vec<ResourceMetrics>,
    }
    /// Metrics of one resource.
    ResourceMetrics {
        #[prost(message, optional, tag = "1")]
        resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        scope_metrics: Vec<ScopeMetrics>,
    }
    /// Whose they are.
    Resource {
        #[prost(message, repeated, tag = "1")]
        attributes: Vec<KeyValue>,
    }
    /// Metrics of one part of a program.
    ScopeMetrics {
        #[prost(message, optional, tag = "1")]
        scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        metrics: Vec<Metric>,
    }
    /// The part.
    Scope {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        version: String,
    }
    /// One metric; one of its kinds of data is set.
    Metric {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "3")]
        unit: String,
        #[prost(message, optional, tag = "5")]
        gauge: Option<Gauge>,
        #[prost(message, optional, tag = "7")]
        sum: Option<Sum>,
        #[prost(message, optional, tag = "9")]
        histogram: Option<Histogram>,
    }
    /// Values that go up and down.
    Gauge {
        #[prost(message, repeated, tag = "1")]
        data_points: Vec<Number>,
    }
    /// Counts.
    Sum {
        #[prost(message, repeated, tag = "1")]
        data_points: Vec<Number>,
        #[prost(int32, tag = "2")]
        aggregation_temporality: i32,
        #[prost(bool, tag = "3")]
        is_monotonic: bool,
    }
    /// Counts in buckets.
    Histogram {
        #[prost(message, repeated, tag = "1")]
        data_points: Vec<Buckets>,
        #[prost(int32, tag = "2")]
        aggregation_temporality: i32,
    }
    /// One number.
    Number {
        #[prost(fixed64, tag = "2")]
        start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")]
        time_unix_nano: u64,
        // It is one of several kinds of value, so it is sent also where it is 0.
        #[prost(sfixed64, optional, tag = "6")]
        as_int: Option<i64>,
        #[prost(message, repeated, tag = "7")]
        attributes: Vec<KeyValue>,
    }
    /// One histogram.
    Buckets {
        #[prost(fixed64, tag = "2")]
        start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")]
        time_unix_nano: u64,
        #[prost(fixed64, tag = "4")]
        count: u64,
        #[prost(double, optional, tag = "5")]
        sum: Option<f64>,
        #[prost(fixed64, repeated, tag = "6")]
        bucket_counts: Vec<u64>,
        #[prost(double, repeated, tag = "7")]
        explicit_bounds: Vec<f64>,
        #[prost(message, repeated, tag = "9")]
        attributes: Vec<KeyValue>,
    }
    /// One attribute.
    KeyValue {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(message, optional, tag = "2")]
        value: Option<Text>,
    }
    /// Its value: always text here.
    Text {
        #[prost(string, optional, tag = "1")]
        string_value: Option<String>,
    }
    /// What is answered.
    ExportResponse {
        #[prost(message, optional, tag = "1")]
        partial_success: Option<PartialSuccess>,
    }
    /// What was not taken of it.
    PartialSuccess {
        #[prost(int64, tag = "1")]
        rejected_data_points: i64,
    }
}
