//! Records as metrics for OpenTelemetry: OTLP over HTTP, in protobuf, compressed.
//!
//! Usage becomes sums with delta temporality and a histogram, `dstore.usage.…`, kept apart by tenant, table, operation, result and
//! component; principals are added up, since a series for each would be more than such systems bear. How ranges and nodes are
//! becomes gauges, `dstore.range.…` and `dstore.node.…`, at the end of their interval. Names and attributes stand in `docs/REPORTING.md`.
//! Events are no metrics.
//!
//! OTLP has no ids: of a batch whose answer got lost the receiver counts twice what it does not recognise by series and time. Points of
//! the same records have the same times, so many receivers do recognise them; whoever needs exact totals takes another sink.
//! For the same reason a part that the receiver rejects is told in the log and not sent again, as the protocol asks.

mod messages;

use std::collections::BTreeMap;

use async_trait::async_trait;
use prost::Message;
use reqwest::{Response, StatusCode};
use zeroize::Zeroizing;

use super::posting::{client, gzip, post};
use super::rows::{RecordKind, Type, Value, columns, row};
use super::{Sink, SinkError, Terms};
use crate::domain::usage::latency::BOUNDS_US;
use crate::domain::usage::record::{RECORD_INTERVAL_MS, Record, RecordBody, UsageRecord};
use crate::domain::usage::{Component, UsageCounts};
use messages::{
    Buckets, DELTA, ExportRequest, ExportResponse, Gauge, Histogram, KeyValue, Metric, Number, Resource,
    ResourceMetrics, Scope, ScopeMetrics, Sum, Text,
};

/// See the module's essay.
pub struct OtlpSink {
    terms: Terms,
    url: String,
    authorization: Option<Zeroizing<String>>,
    client: reqwest::Client,
}

impl OtlpSink {
    /// A sink that posts to `url`, which usually ends in `/v1/metrics`, with this as the `authorization` header.
    ///
    /// # Errors
    /// Where no client can be made of these rules of TLS.
    pub fn new(
        terms: Terms,
        url: &str,
        authorization: Option<Zeroizing<String>>,
        tls: rustls::ClientConfig,
    ) -> Result<Self, String> {
        Ok(Self { terms, url: url.to_owned(), authorization, client: client(tls)? })
    }

    /// Tells what the receiver threw away. An answer that cannot be read tells nothing, and the batch was taken all the same.
    async fn tell_rejected(&self, mut answer: Response) {
        let mut body = Vec::new();
        while let (true, Ok(Some(piece))) = (body.len() < ANSWER_BYTES_MAX, answer.chunk().await) {
            body.extend_from_slice(&piece);
        }
        let partial = ExportResponse::decode(body.as_slice()).ok().and_then(|response| response.partial_success);
        let rejected = partial.map_or(0, |partial| partial.rejected_data_points);
        if rejected > 0 {
            tracing::warn!(sink = self.name(), rejected, "the receiver of metrics threw data points away");
        }
    }
}

const ANSWER_BYTES_MAX: usize = 64 << 10;

#[async_trait]
impl Sink for OtlpSink {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn take(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let request = request(records);
        if request.resource_metrics.iter().all(|resource| resource.scope_metrics.is_empty()) {
            return Ok(());
        }
        let mut post_request = self.client.post(&self.url);
        if let Some(authorization) = &self.authorization {
            post_request = post_request.header("authorization", authorization.as_str());
        }
        let post_request =
            post_request.header("content-type", "application/x-protobuf").header("content-encoding", "gzip");
        // By the protocol, 400 says that this data will never be taken.
        let answer = post(post_request.body(gzip(&request.encode_to_vec())), &[StatusCode::BAD_REQUEST]).await?;
        self.tell_rejected(answer).await;
        Ok(())
    }
}

fn request(records: &[Record]) -> ExportRequest {
    let mut metrics = usage_metrics(records);
    metrics.extend(gauges(records));
    let scope = Some(Scope { name: "dstore".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() });
    let scope_metrics = if metrics.is_empty() { Vec::new() } else { vec![ScopeMetrics { scope, metrics }] };
    let resource = Some(Resource { attributes: vec![attribute("service.name", "dstore")] });
    ExportRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics }] }
}

type Attributes = Vec<(&'static str, String)>;

const SUMS: [(&str, &str, fn(&UsageCounts) -> u64); 5] = [
    ("dstore.usage.requests", "{request}", |counts| counts.requests),
    ("dstore.usage.read_bytes", "By", |counts| counts.read_bytes),
    ("dstore.usage.written_bytes", "By", |counts| counts.written_bytes),
    ("dstore.usage.read_half_units", "{half unit}", |counts| counts.read_half_units),
    ("dstore.usage.write_units", "{unit}", |counts| counts.write_units),
];

fn usage_metrics(records: &[Record]) -> Vec<Metric> {
    let mut series: BTreeMap<(u64, Attributes), UsageCounts> = BTreeMap::new();
    for record in records {
        if let RecordBody::Usage(usage) = &record.body {
            series.entry((record.at_ms, usage_attributes(usage))).or_default().merge(&usage.counts);
        }
    }
    if series.is_empty() {
        return Vec::new();
    }
    let mut metrics: Vec<Metric> = Vec::new();
    for (name, unit, count) in SUMS {
        let points = series.iter().map(|((at_ms, attributes), counts)| Number {
            start_time_unix_nano: nanos(*at_ms),
            ..number(end(*at_ms), attributes, count(counts))
        });
        let sum = Sum { data_points: points.collect(), aggregation_temporality: DELTA, is_monotonic: true };
        metrics.push(Metric { name: name.to_owned(), unit: unit.to_owned(), sum: Some(sum), ..Metric::default() });
    }
    let points = series.iter().map(|((at_ms, attributes), counts)| Buckets {
        start_time_unix_nano: nanos(*at_ms),
        time_unix_nano: nanos(end(*at_ms)),
        count: counts.latency.count(),
        sum: Some(seconds(counts.latency.sum_us)),
        bucket_counts: counts.latency.buckets.to_vec(),
        explicit_bounds: BOUNDS_US.map(seconds).to_vec(),
        attributes: told(attributes),
    });
    let histogram = Some(Histogram { data_points: points.collect(), aggregation_temporality: DELTA });
    let (name, unit) = ("dstore.usage.duration".to_owned(), "s".to_owned());
    metrics.push(Metric { name, unit, histogram, ..Metric::default() });
    metrics
}

/// Every count of ranges and nodes under the name of its column.
fn gauges(records: &[Record]) -> Vec<Metric> {
    let mut points: BTreeMap<(RecordKind, &str), Vec<Number>> = BTreeMap::new();
    for record in records {
        let attributes = match &record.body {
            RecordBody::Range(range) => {
                let mut attributes = component(&range.component);
                attributes.push(("tenant", known(&range.tenant_name, &range.gauge.tenant)));
                attributes.push(("table", known(&range.table_name, &range.gauge.table)));
                attributes.push(("range", range.gauge.range.to_string()));
                attributes
            }
            RecordBody::Node(node) => component(&node.component),
            RecordBody::Usage(_) | RecordBody::Notice(_) | RecordBody::AdminEvent(_) => continue,
        };
        let kind = RecordKind::of(record);
        for (column, value) in columns(kind).zip(row(record)).filter(|(column, _)| column.name != "sequence") {
            if let (Type::Number, Value::Number(count)) = (column.holds, value) {
                let point = number(end(record.at_ms), &attributes, count);
                points.entry((kind, column.name)).or_default().push(point);
            }
        }
    }
    let metric = |((kind, column), data_points): ((RecordKind, &str), Vec<Number>)| {
        let unit = match column.rsplit('_').next() {
            Some("bytes") => "By",
            Some("us") => "us",
            _ => "1",
        };
        let name = format!("dstore.{}.{column}", kind.word());
        Metric { name, unit: unit.to_owned(), gauge: Some(Gauge { data_points }), ..Metric::default() }
    };
    points.into_iter().map(metric).collect()
}

fn number(time_ms: u64, attributes: &Attributes, count: u64) -> Number {
    let as_int = Some(i64::try_from(count).unwrap_or(i64::MAX));
    Number { start_time_unix_nano: 0, time_unix_nano: nanos(time_ms), as_int, attributes: told(attributes) }
}

fn usage_attributes(usage: &UsageRecord) -> Attributes {
    let mut attributes = component(&usage.component);
    attributes.push(("tenant", known(&usage.tenant_name, &usage.key.tenant)));
    if let Some(table) = &usage.key.table {
        attributes.push(("table", known(&usage.table_name, table)));
    }
    attributes.push(("operation", usage.key.operation.to_string()));
    attributes.push(("result", usage.key.result.to_string()));
    attributes
}

fn component(component: &Component) -> Attributes {
    vec![("role", component.role.to_string()), ("component", component.id.to_string())]
}

fn known(name: &Option<String>, id: &impl ToString) -> String {
    name.clone().unwrap_or_else(|| id.to_string())
}

fn told(attributes: &Attributes) -> Vec<KeyValue> {
    attributes.iter().map(|(key, value)| attribute(key, value)).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(Text { string_value: Some(value.to_owned()) }) }
}

/// The end of the interval that begins then, in milliseconds.
fn end(at_ms: u64) -> u64 {
    at_ms.saturating_add(RECORD_INTERVAL_MS)
}

fn nanos(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests;
