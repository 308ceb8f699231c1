//! One request followed through processes: the same tag in the logs of the proxy and the node, one trace over all of
//! them at a collector, and the log level changed while they run.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};
use dstore::api::body::{self, Limits};
use dstore::api::server::{self, Listener, RunningServer, ServerOptions};
use dstore::services::observing::otlp::{ExportTraceServiceRequest, Span, Value};
use parking_lot::Mutex;
use prost::Message;
use serde_json::json;

use crate::cluster::Cluster;
use crate::process::DEADLINE;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector: each span with the role of the process that sent it.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

impl Collector {
    fn start(&self) -> (RunningServer, String) {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None).unwrap();
        let own = self.clone();
        let options = ServerOptions { workers: 1, ..ServerOptions::default() };
        let surface = move || {
            let own = own.clone();
            move |request: HttpRequest, mut payload: Payload| {
                let own = own.clone();
                async move {
                    let bytes = body::collect(&request, &mut payload, Limits::default()).await.unwrap();
                    own.take(ExportTraceServiceRequest::decode(bytes).unwrap());
                    HttpResponse::Ok().finish()
                }
            }
        };
        let server = server::start(vec![listener], &options, surface).unwrap();
        let endpoint = format!("http://{}", server.addresses()[0]);
        (server, endpoint)
    }

    fn take(&self, sent: ExportTraceServiceRequest) {
        for process in sent.resource_spans {
            let attributes = process.resource.unwrap().attributes;
            let role = attributes.into_iter().find(|attribute| attribute.key == "service.namespace").unwrap();
            let Some(Value::Text(role)) = role.value.unwrap().value else { panic!("a role is text") };
            let spans = process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().extend(spans.map(|span| (role.clone(), span)));
        }
    }

    fn of_trace(&self) -> Vec<(String, Span)> {
        let is_ours = |(_, span): &&(String, Span)| hex(&span.trace_id) == TRACE;
        self.0.lock().iter().filter(is_ours).cloned().collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until this finds what it looks for.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The lines of a member's log that hold all of these.
fn lines(cluster: &Cluster, name: &str, parts: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(cluster.path(&format!("{name}.log"))).unwrap_or_default();
    text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
}

async fn start(collector: &Collector) -> (Cluster, RunningServer) {
    let (server, endpoint) = collector.start();
    let mut cluster = Cluster::start();
    let settings = [format!("tracing.endpoint={endpoint}"), "logging.requests=all".into(), "logging.slow_ms=1".into()];
    cluster.member_settings.extend(settings);
    cluster.add_nodes(3);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let acme = format!("{}/v1/tenant/acme", cluster.proxies[0].url());
    cluster.put(&acme, &json!({})).await;
    let table = json!({ "id_type": "String", "replication_factor": 3 });
    assert_eq!(cluster.put(&format!("{acme}/table/things"), &table).await.0, 201);
    (cluster, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_followed_through_all_processes() {
    let collector = Collector::default();
    let (cluster, _server) = start(&collector).await;
    let url = format!("{}/v1/tenant/acme/table/things/id/secret-key", cluster.proxies[0].url());
    let asked = cluster.request(reqwest::Method::PUT, &url).header("content-type", "application/json");
    let asked = asked.header("x-request-id", "followed-7").header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    let answer = asked.body(r#"{"a":"secret-value"}"#).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-request-id"]), (201, &"followed-7".parse().unwrap()));

    let names = |spans: &[(String, Span)]| {
        spans.iter().map(|(role, span)| format!("{role} {}", span.name)).collect::<BTreeSet<_>>()
    };
    let wanted = ["proxy request", "proxy ask", "node node", "node commit", "node apply", "node replica append"];
    let spans = until("the trace has all of its spans", || {
        let spans = collector.of_trace();
        let names = names(&spans);
        // A node that was asked first and does not lead has a span, too, which may come before the leader's.
        let commit = &spans.iter().find(|(_, span)| span.name == "commit")?.1.parent_span_id;
        let is_led = spans.iter().any(|(_, span)| span.name == "node" && span.span_id == *commit);
        (is_led && wanted.iter().all(|name| names.contains(*name))).then_some(spans)
    });
    let spans = spans.await;
    let one = |name: &str| &spans.iter().find(|(role, span)| format!("{role} {}", span.name) == name).unwrap().1;
    // The node that led answered to the last question.
    let node = &spans
        .iter()
        .find(|(_, span)| span.name == "node" && span.span_id == one("node commit").parent_span_id)
        .unwrap()
        .1;
    assert_eq!(hex(&one("proxy request").parent_span_id), PARENT);
    assert_eq!(one("proxy ask").parent_span_id, one("proxy request").span_id);
    assert!(spans.iter().any(|(_, span)| span.name == "ask" && span.span_id == node.parent_span_id));
    assert_eq!(one("node replica append").parent_span_id, one("node commit").span_id);

    let told = until("the proxy tells of the request", || {
        lines(&cluster, "proxy-0", &["dstore::request", "followed-7"]).pop()
    })
    .await;
    assert!(["acme", "put-item", "201"].iter().all(|part| told.contains(part)), "{told}");
    // A write is synced on two disks, which takes more than a millisecond nearly always; where it does not, there is no line.
    let slow: Vec<String> =
        (0..3).flat_map(|number| lines(&cluster, &format!("node-{number}"), &["dstore::slow", "followed-7"])).collect();
    // One that does not lead commits nothing, and may be slow to say so.
    let mut answered = slow.iter().filter(|line| line.contains("status=200"));
    assert!(answered.all(|line| line.contains("write") && line.contains("commit=")), "{slow:?}");
    for name in ["proxy-0", "node-0", "node-1", "node-2"] {
        assert!(lines(&cluster, name, &["secret-"]).is_empty(), "{name} tells a key or a value");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_level_is_changed_while_processes_run() {
    let mut cluster = Cluster::start();
    cluster.add_nodes(1);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let refused = cluster.run(&["control", "log-level", "set", "loud"]);
    assert_eq!(refused.status.code(), Some(2));
    let wish = cluster.admin(&["log-level", "set", "debug", "--for", "30m"]);
    assert_eq!((&wish, &wish["level"]), (&cluster.admin(&["log-level", "show"]), &json!("debug")));
    for name in ["control", "node-0", "proxy-0"] {
        let changed = || lines(&cluster, name, &["the log level was changed", "debug"]).pop();
        until(&format!("{name} follows"), changed).await;
    }
    cluster.succeed(&["control", "log-level", "reset"]);
    assert!(cluster.succeed(&["control", "log-level", "show"]).contains("as its settings say"));
    for name in ["control", "node-0", "proxy-0"] {
        let changed = || lines(&cluster, name, &["the log level was changed", "as in the settings"]).pop();
        until(&format!("{name} goes back"), changed).await;
    }
}
