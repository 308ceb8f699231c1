//! Bytes that the published definitions give, and a receiver that decodes what arrives.

use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::messages::PartialSuccess;
use super::*;
use crate::sinks::samples::{any_record, record};
use crate::sinks::testing::{Answer, Receiver, no_tls, offer_until_taken, terms};

/// Made by `protoc --encode=opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest` of the published files.
const RECORDED: &str = "\
0ad7010a1a0a180a0c736572766963652e6e616d6512080a066473746f726512b8010a0b0a066473746f726512013112260a01671a0242792a1d0a1b\
1903000000000000003100000000000000003a070a016b12020a0012290a01731a01313a210a1b110100000000000000190200000000000000310700\
0000000000001001180112560a01681a01734a4e0a4a11010000000000000019020000000000000021030000000000000029000000000000e03f3210\
010000000000000002000000000000003a08000000000000d03f4a080a016b12030a01761001";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn metric(name: &str, unit: &str) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), ..Metric::default() }
}

#[test]
fn messages_are_those_of_the_published_definitions() {
    let attributes = vec![attribute("k", "")];
    let zero = Number { start_time_unix_nano: 0, time_unix_nano: 3, as_int: Some(0), attributes };
    let seven = Number { start_time_unix_nano: 1, time_unix_nano: 2, as_int: Some(7), attributes: Vec::new() };
    let buckets = Buckets {
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(0.5),
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![0.25],
        attributes: vec![attribute("k", "v")],
    };
    let sum = Sum { data_points: vec![seven], aggregation_temporality: DELTA, is_monotonic: true };
    let histogram = Histogram { data_points: vec![buckets], aggregation_temporality: DELTA };
    let metrics = vec![
        Metric { gauge: Some(Gauge { data_points: vec![zero] }), ..metric("g", "By") },
        Metric { sum: Some(sum), ..metric("s", "1") },
        Metric { histogram: Some(histogram), ..metric("h", "s") },
    ];
    let scope = Some(Scope { name: "dstore".to_owned(), version: "1".to_owned() });
    let resource = Some(Resource { attributes: vec![attribute("service.name", "dstore")] });
    let scope_metrics = vec![ScopeMetrics { scope, metrics }];
    let request = ExportRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics }] };
    assert_eq!(request.encode_to_vec(), bytes(RECORDED));
    assert_eq!(ExportRequest::decode(bytes(RECORDED).as_slice()).unwrap(), request);
    // partial_success { rejected_data_points: 5 error_message: "no" }
    let response = ExportResponse::decode(bytes("0a06080512026e6f").as_slice()).unwrap();
    assert_eq!(response.partial_success, Some(PartialSuccess { rejected_data_points: 5 }));
}

/// The metrics of a request, by name.
fn metrics(request: ExportRequest) -> BTreeMap<String, Metric> {
    let resource = request.resource_metrics.into_iter().next().expect("one resource");
    let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
    metrics.map(|metric| (metric.name.clone(), metric)).collect()
}

fn attributes(told: &[KeyValue]) -> Vec<(&str, &str)> {
    fn value(told: &KeyValue) -> &str {
        told.value.as_ref().and_then(|value| value.string_value.as_deref()).expect("a text")
    }
    told.iter().map(|told| (told.key.as_str(), value(told))).collect()
}

#[tokio::test]
async fn a_receiver_gets_what_was_counted() {
    let held: Arc<Mutex<Vec<ExportRequest>>> = Arc::default();
    let receiving = Arc::clone(&held);
    let receiver = Receiver::start(
        |number| number == 1,
        move |request| {
            assert_eq!(request.headers["content-type"], "application/x-protobuf");
            assert_eq!(request.headers["authorization"], "Bearer hunter2");
            let mut held = receiving.lock();
            held.push(ExportRequest::decode(request.unpacked().as_slice()).unwrap());
            let partial_success = Some(PartialSuccess { rejected_data_points: 5 });
            let body = ExportResponse { partial_success }.encode_to_vec();
            if held.len() == 1 { Answer::Status(503, Vec::new()) } else { Answer::Status(200, body) }
        },
    )
    .await;
    let authorization = Some(Zeroizing::new("Bearer hunter2".to_owned()));
    let mut sink = OtlpSink::new(terms(), &receiver.url, authorization, no_tls()).unwrap();
    let records = RecordKind::ALL.map(|kind| record(kind, 7));
    assert_eq!(offer_until_taken(&mut sink, &records, 10).await, 2);
    let request = held.lock().pop().unwrap();
    let resource = request.resource_metrics[0].resource.clone().unwrap();
    assert_eq!(attributes(&resource.attributes), [("service.name", "dstore")]);
    let metrics = metrics(request);
    let sum = metrics["dstore.usage.read_half_units"].sum.as_ref().unwrap();
    assert_eq!((sum.aggregation_temporality, sum.is_monotonic, sum.data_points.len()), (DELTA, true, 1));
    let point = &sum.data_points[0];
    let (began, ended) = (1_800_000_070_000_000_000, 1_800_000_080_000_000_000);
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano, point.as_int), (began, ended, Some(5)));
    let component = "00000000-0000-0000-0000-000000000001";
    let wanted = [
        ("role", "proxy"),
        ("component", component),
        ("tenant", "acme"),
        ("table", "users"),
        ("operation", "put-item"),
        ("result", "ok"),
    ];
    assert_eq!(attributes(&point.attributes), wanted);
    let buckets = &metrics["dstore.usage.duration"].histogram.as_ref().unwrap().data_points[0];
    assert_eq!((buckets.count, buckets.sum, buckets.bucket_counts[1]), (1, Some(0.000_15), 1));
    assert_eq!(buckets.bucket_counts.len(), buckets.explicit_bounds.len() + 1);
    let gauge = &metrics["dstore.range.stored_bytes"].gauge.as_ref().unwrap().data_points[0];
    assert_eq!((gauge.time_unix_nano, gauge.as_int), (ended, Some(2)));
    assert_eq!(metrics["dstore.node.disk_bytes"].unit, "By");
    // Events are no metrics, and nothing is posted for them.
    let mut unreachable = OtlpSink::new(terms(), "http://127.0.0.1:1/", None, no_tls()).unwrap();
    unreachable.take(&records[3..]).await.unwrap();
    assert!(matches!(unreachable.take(&records).await, Err(SinkError::Later(_))));
}

#[tokio::test]
async fn what_the_receiver_calls_wrong_is_not_sent_for_ever() {
    let receiver = Receiver::start(|_| false, |_| Answer::Status(400, Vec::new())).await;
    let mut sink = OtlpSink::new(terms(), &receiver.url, None, no_tls()).unwrap();
    let took = sink.take(&[record(RecordKind::Usage, 1)]).await;
    assert!(matches!(took, Err(SinkError::Unacceptable(_))), "{took:?}");
}

proptest! {
    /// However many principals and records there are, a series has one point of a time, and nothing is lost.
    #[test]
    fn points_add_up_to_what_was_counted(records in proptest::collection::vec(any_record(), 0..30), fold in any::<bool>()) {
        let mut records = records;
        for record in &mut records {
            record.at_ms %= 1 << 40;
            if let RecordBody::Usage(usage) = &mut record.body {
                // Sums of many must not be larger than what fits.
                usage.counts = UsageCounts { requests: usage.counts.requests % 1000, ..UsageCounts::default() };
                if fold {
                    record.at_ms = 0;
                    usage.key.tenant = crate::domain::ids::TenantId(uuid::Uuid::nil());
                    (usage.tenant_name, usage.key.table) = (None, None);
                }
            }
        }
        let wanted: u64 = records.iter().filter_map(|record| match &record.body {
            RecordBody::Usage(usage) => Some(usage.counts.requests),
            _ => None,
        }).sum();
        let metrics = metrics(request(&records));
        let points = metrics.get("dstore.usage.requests").and_then(|metric| metric.sum.clone()).unwrap_or_default();
        let found: i64 = points.data_points.iter().filter_map(|point| point.as_int).sum();
        prop_assert_eq!(found as u64, wanted);
        let series: std::collections::BTreeSet<_> = points.data_points.iter()
            .map(|point| (point.time_unix_nano, format!("{:?}", point.attributes))).collect();
        prop_assert_eq!(series.len(), points.data_points.len());
    }
}

#[test]
fn the_documents_name_every_metric() {
    let document = include_str!("../../../docs/REPORTING.md");
    let all = RecordKind::ALL.map(|kind| record(kind, 1));
    for name in metrics(request(&all)).keys() {
        // Gauges are named by their columns, which stand there once.
        let is_told = document.contains(&format!("`{name}`"))
            || name.rsplit_once('.').is_some_and(|(kind, column)| {
                document.contains(&format!("`{kind}.…`")) && document.contains(&format!("| `{column}` |"))
            });
        assert!(is_told, "{name}");
    }
}
