//! What is noted of a request: its tag and stages, which lines are written, and the spans that a collector gets.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc::Receiver;

use super::exporter::Exporter;
use super::otlp::{AnyValue, ExportTraceServiceRequest, Span as Received, Value};
use super::spans::{Span, Tracing, WAITING_MAX};
use super::*;
use crate::domain::ids::{NodeId, ReplicaId};
use crate::domain::{Clock, Random, Timestamp};
use crate::transport::client::plain_client;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000_000)
    }
}

struct Counting(std::sync::atomic::AtomicU64);

impl Random for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        let next = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
        buffer.iter_mut().rev().zip(next.iter().rev()).for_each(|(byte, next)| *byte = *next);
    }
}

fn random() -> Arc<dyn Random> {
    Arc::new(Counting(1.into()))
}

fn observing(logged: Logged, slow: Option<Duration>, sample: Option<f64>) -> (Observing, Option<Receiver<Span>>) {
    let (tracing, spans) = match sample {
        Some(sample) => {
            let (tracing, spans) = Tracing::new(sample, Arc::new(Still), random());
            (Some(tracing), Some(spans))
        }
        None => (None, None),
    };
    (Observing { logged, slow, tracing, numbers: TagNumbers::new(&*random()) }, spans)
}

fn came(is_sampled: bool) -> Sent {
    let trace = TraceContext { trace: [7; 16], span: [8; 8], is_sampled };
    Sent { tag: RequestTag::from_bytes(b"mine"), trace: Some(trace) }
}

/// All that is logged while `work` runs, as JSON.
async fn logged(work: impl Future<Output = ()>) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    work.await;
    drop(guard);
    String::from_utf8(lines.0.lock().clone()).unwrap()
}

fn subject(operation: &'static str, is_quick: bool) -> Subject {
    Subject { operation, tenant: Some(TenantName::new("acme").unwrap()), is_quick }
}

async fn asked(observing: &Observing, surface: Surface, status: u16) {
    let work = async {
        about(subject("get-item", true));
        lap(Stage::Route);
        observing.ended(status);
    };
    within(observing.begin(came(false), surface), work).await;
}

#[tokio::test]
async fn lines_are_written_for_whom_the_settings_name() {
    for (which, statuses) in [(Logged::None, &[][..]), (Logged::Errors, &[503]), (Logged::All, &[200, 503])] {
        let (observing, _) = observing(which, None, None);
        let text = logged(async {
            asked(&observing, Surface::Client, 200).await;
            asked(&observing, Surface::Client, 503).await;
            asked(&observing, Surface::Inside, 503).await;
        });
        let text = text.await;
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<u64> = lines.iter().map(|line| line["fields"]["status"].as_u64().unwrap()).collect();
        assert_eq!(told, statuses, "{which:?}");
        for line in lines {
            let fields = &line["fields"];
            assert_eq!((&line["target"], &line["level"]), (&"dstore::request".into(), &"INFO".into()));
            assert_eq!((&fields["request_id"], &fields["tenant"]), (&"mine".into(), &"acme".into()));
            assert_eq!(fields["operation"], "get-item");
            assert!(fields["ms"].is_f64());
        }
    }
}

#[tokio::test]
async fn a_slow_request_tells_its_stages_on_both_sides() {
    let (observing, _) = observing(Logged::None, Some(Duration::from_millis(300)), None);
    for surface in [Surface::Client, Surface::Inside] {
        let observed = observing.begin(came(false), surface);
        let began = observed.began;
        let work = async {
            lap_until(Stage::Admit, Some(began + Duration::from_millis(100)));
            lap_until(Stage::Commit, Some(began + Duration::from_millis(50)));
            lap_until(Stage::Commit, Some(began + Duration::from_millis(312)));
            observing.ended(200);
        };
        let text = logged(within(observed, work)).await;
        assert!(text.contains("dstore::slow") && text.contains("WARN"), "{text}");
        assert!(text.contains("admit=100.0 commit=212.0"), "a time before the last lap counts as that: {text}");
        assert_eq!(text.lines().count(), 1);
    }
    let quick = within(observing.begin(came(false), Surface::Client), async { observing.ended(200) });
    assert_eq!(logged(quick).await, "");
    let observed = observing.begin(came(false), Surface::Client);
    let began = observed.began;
    let waits = within(observed, async {
        about(subject("create-table", false));
        lap_until(Stage::Prepare, Some(began + Duration::from_secs(2)));
        observing.ended(201);
    });
    assert_eq!(logged(waits).await, "", "that is how long it takes");
}

#[tokio::test]
async fn outside_of_a_request_nothing_is_noted() {
    lap(Stage::Apply);
    about(subject("get-item", true));
    assert!(tag().is_none() && asking().is_none() && !is_recorded());
    let (observing, _) = observing(Logged::All, Some(Duration::ZERO), None);
    assert_eq!(logged(async { observing.ended(200) }).await, "");
}

#[tokio::test]
async fn a_trace_goes_on_as_it_came_where_it_is_not_recorded() {
    // Without a collector, and with one where the client does not sample and the dice never do.
    for sample in [None, Some(0.0)] {
        let (observing, _spans) = observing(Logged::None, None, sample);
        let work = async {
            assert_eq!(asking().unwrap().trace, came(false).trace);
            assert_eq!((tag(), is_recorded()), (came(false).tag, false));
        };
        within(observing.begin(came(false), Surface::Client), work).await;
        let fresh = async { assert!(asking().unwrap().trace.is_none()) };
        within(observing.begin(Sent::default(), Surface::Client), fresh).await;
    }
    let (all, _spans) = observing(Logged::None, None, Some(1.0));
    within(all.begin(came(false), Surface::Inside), async { assert!(!is_recorded(), "who asked has thrown the dice") })
        .await;
    let sampled = async {
        let told = asking().unwrap().trace.unwrap();
        assert_eq!((told.trace, told.is_sampled, is_recorded()), ([7; 16], true, true));
        assert_ne!(told.span, [8; 8]);
    };
    within(all.begin(came(false), Surface::Client), sampled).await;
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted() {
    let (observing, spans) = observing(Logged::None, None, Some(1.0));
    let work = async { (0..WAITING_MAX + 7).for_each(|_| lap(Stage::Memory)) };
    within(observing.begin(Sent::default(), Surface::Client), work).await;
    assert_eq!(observing.tracing.as_ref().unwrap().counts(), (0, 7));
    drop(spans);
}

/// A collector on loopback that answers so: gives the bodies that it was posted.
async fn collector(status: u16) -> (String, Receiver<Vec<u8>>) {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = posted(&mut stream).await;
            let answer = format!("HTTP/1.1 {status} said\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            sender.send(body).await.unwrap();
        }
    });
    (endpoint, bodies)
}

/// The body of the one request on a connection.
async fn posted(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).await.unwrap() > 0, "a whole head");
    }
    let head = head.to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1") && head.contains("application/x-protobuf"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).await.unwrap();
    body
}

fn attribute(span: &Received, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.clone()? {
        AnyValue { value: Some(Value::Text(text)) } => text,
        AnyValue { value: Some(Value::Number(number)) } => number.to_string(),
        AnyValue { value: None } => String::new(),
    })
}

#[tokio::test]
async fn a_collector_gets_the_whole_tree() {
    let (endpoint, mut bodies) = collector(200).await;
    let (observing, spans) = observing(Logged::None, None, Some(0.0));
    let (tracing, process) = (observing.tracing.clone().unwrap(), vec![("service.name", "dstore".to_owned())]);
    let client = plain_client(Duration::from_secs(30)).unwrap();
    tokio::spawn(Exporter::new(tracing.clone(), spans.unwrap(), client, &endpoint, process).run());
    let (node, replica) = (NodeId::from_bytes([1; 16]), ReplicaId::from_bytes([2; 16]));
    let observed = observing.begin(came(true), Surface::Client);
    let began = observed.began;
    let work = async {
        about(subject("put-item", true));
        let asked = asking().unwrap();
        let told = asked.trace.unwrap().span;
        asked.ended(node, true);
        let commit = lap_until(Stage::Commit, Some(began + Duration::from_millis(5)));
        replica_appended(commit, replica, (began, began + Duration::from_millis(3)));
        lap(Stage::Node);
        observing.ended(504);
        told
    };
    let asked = within(observed, work).await;

    let sent = ExportTraceServiceRequest::decode(&*bodies.recv().await.unwrap()).unwrap();
    let told = &sent.resource_spans[0];
    assert_eq!(told.resource.as_ref().unwrap().attributes[0].key, "service.name");
    let spans = &told.scope_spans[0].spans;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}"));
    let (request, ask, commit) = (named("request"), named("ask"), named("commit"));
    assert!(spans.iter().all(|span| span.trace_id == [7; 16] && span.end_time_unix_nano >= span.start_time_unix_nano));
    assert_eq!((request.parent_span_id.as_slice(), request.kind), (&[8; 8][..], 2));
    assert_eq!(request.start_time_unix_nano, 1_800_000_000_000_000_000);
    assert_eq!(
        (attribute(request, "http.response.status_code"), request.status.is_some()),
        (Some("504".to_owned()), true)
    );
    assert_eq!(
        (attribute(request, "dstore.tenant"), attribute(request, "dstore.request_id")),
        (Some("acme".to_owned()), Some("mine".to_owned()))
    );
    assert_eq!((ask.span_id.as_slice(), &ask.parent_span_id, ask.kind), (&asked[..], &request.span_id, 3));
    assert_eq!(attribute(ask, "dstore.node"), Some(node.to_string()));
    assert_eq!(commit.parent_span_id, request.span_id);
    let append = named("replica append");
    assert_eq!(
        (&append.parent_span_id, attribute(append, "dstore.replica")),
        (&commit.span_id, Some(replica.to_string()))
    );
    assert!(spans.iter().all(|span| span.name != "node"), "asking it has a span already");
    until(|| tracing.counts() == (spans.len() as u64, 0)).await;
}

#[tokio::test]
async fn a_collector_that_refuses_is_not_asked_twice() {
    let (endpoint, mut bodies) = collector(503).await;
    let (observing, spans) = observing(Logged::None, None, Some(1.0));
    let tracing = observing.tracing.clone().unwrap();
    let client = plain_client(Duration::from_secs(30)).unwrap();
    tokio::spawn(
        Exporter::new(tracing.clone(), spans.unwrap(), client, &format!("{endpoint}/v1/traces"), Vec::new()).run(),
    );
    for round in 1..=2 {
        within(observing.begin(Sent::default(), Surface::Client), async { lap(Stage::Memory) }).await;
        bodies.recv().await.unwrap();
        until(|| tracing.counts() == (0, round)).await;
    }
}

/// Waits until that is so.
async fn until(is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "it does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
