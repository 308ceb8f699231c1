//! `/healthz`, `/readyz` and `/metrics`, on a listener of their own that every role opens before anything
//! else: a process that waits at its start says for what.
//!
//! * `/healthz`: 200 while the process answers at all.
//! * `/readyz`: 200 where requests are served, also from what is stale; 503 while the role waits. The body
//!   names each thing that is not as it should be:
//!   `{"status":"waiting","role":"node","waiting":[{"what":"key parts","detail":"…"}],"stale":[]}`
//! * `/metrics`: numbers, in Prometheus' text format (version 0.0.4).
//!
//! Parts of a role are watched by closures that look when asked, so that there is no second record of their
//! state that could be wrong. Nothing here is secret, and nothing names a table or an item; some numbers name a few tenants
//! ([`super::usage_metrics`]). The listener belongs in a network of the operators'.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};
use parking_lot::RwLock;
use serde_json::json;

use super::error;
use super::rest::start_page;
use crate::domain::Refusal;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Seconds after which a load balancer may ask again.
const RETRY_SECONDS: u32 = 2;

/// How one part of a role is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// As it should be.
    Good,
    /// Requests are served, from something that may be old; why, and since when.
    Stale(String),
    /// Requests cannot be served before this is over; for what it waits.
    Waiting(String),
}

type Look = Arc<dyn Fn() -> Condition + Send + Sync>;
type Count = Arc<dyn Fn(&mut Metrics) + Send + Sync>;

/// How a role is, put together from its parts.
pub struct Health {
    role: &'static str,
    version: &'static str,
    looks: RwLock<Vec<(&'static str, Look)>>,
    counts: RwLock<Vec<Count>>,
}

impl Health {
    /// Of a role that has no parts yet.
    pub fn new(role: &'static str, version: &'static str) -> Arc<Self> {
        Arc::new(Self { role, version, looks: RwLock::default(), counts: RwLock::default() })
    }

    /// Looks at a part in this way from now on, in place of how it was looked at before.
    pub fn watch(&self, what: &'static str, look: impl Fn() -> Condition + Send + Sync + 'static) {
        let mut looks = self.looks.write();
        looks.retain(|(known, _)| *known != what);
        looks.push((what, Arc::new(look)));
    }

    /// Notes how a part is, until something else is noted.
    pub fn note(&self, what: &'static str, condition: Condition) {
        self.watch(what, move || condition.clone());
    }

    /// Adds numbers to `/metrics`.
    pub fn count(&self, count: impl Fn(&mut Metrics) + Send + Sync + 'static) {
        self.counts.write().push(Arc::new(count));
    }

    /// The same for one of several alike in this process, as the nodes of `dstore dev` are: each number carries this label.
    pub fn count_as(
        &self,
        label: &'static str,
        value: impl Into<String>,
        count: impl Fn(&mut Metrics) + Send + Sync + 'static,
    ) {
        let value = value.into();
        self.count(move |metrics| {
            metrics.common = Some((label, value.clone()));
            count(metrics);
            metrics.common = None;
        });
    }

    /// What is not good: what is waited for, and what is stale.
    pub fn complaints(&self) -> (Vec<(&'static str, String)>, Vec<(&'static str, String)>) {
        let looks = self.looks.read().clone();
        let (mut waiting, mut stale) = (Vec::new(), Vec::new());
        for (what, look) in looks {
            match look() {
                Condition::Good => {}
                Condition::Stale(detail) => stale.push((what, detail)),
                Condition::Waiting(detail) => waiting.push((what, detail)),
            }
        }
        (waiting, stale)
    }

    /// Whether requests can be served. The refusal names what is waited for, without details: clients may see it.
    ///
    /// # Errors
    /// `Unavailable` while something is waited for.
    pub fn readiness(&self) -> Result<(), Refusal> {
        let (waiting, _) = self.complaints();
        if waiting.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = waiting.iter().map(|(what, _)| *what).collect();
        Err(Refusal::unavailable(format!("this {} waits for: {}", self.role, names.join(", ")), RETRY_SECONDS))
    }

    fn ready(&self) -> HttpResponse {
        let (waiting, stale) = self.complaints();
        let (code, status) = match (waiting.is_empty(), stale.is_empty()) {
            (false, _) => (503, "waiting"),
            (true, false) => (200, "stale"),
            (true, true) => (200, "ready"),
        };
        let list = |complaints: Vec<(&str, String)>| {
            let one = |(what, detail): (&str, String)| json!({ "what": what, "detail": detail });
            complaints.into_iter().map(one).collect::<Vec<_>>()
        };
        let body = json!({ "status": status, "role": self.role, "waiting": list(waiting), "stale": list(stale) });
        let status = actix_web::http::StatusCode::from_u16(code).unwrap_or_default();
        HttpResponse::build(status).json(body)
    }

    fn metrics(&self) -> HttpResponse {
        let mut metrics = Metrics::default();
        let labels = [("role", self.role), ("version", self.version)];
        metrics.gauge("dstore_build_info", "Always 1; the labels say what runs.", &labels, 1.0);
        let (waiting, stale) = self.complaints();
        metrics.gauge("dstore_ready", "1 where requests are served.", &[], f64::from(u8::from(waiting.is_empty())));
        metrics.gauge("dstore_stale", "How many parts serve from something that may be old.", &[], stale.len() as f64);
        for count in self.counts.read().clone() {
            count(&mut metrics);
        }
        HttpResponse::Ok().content_type(METRICS_TYPE).body(metrics.text())
    }
}

/// Numbers in the making, as text. All numbers of a name stand together, as the format wants them, also where several
/// parts of a process tell numbers of the same name.
///
/// What is told as the same name has the same type and the same help: the first that tells a name says both.
#[derive(Default)]
pub struct Metrics {
    families: Vec<(String, String)>,
    /// A label of all numbers that are told now.
    common: Option<(&'static str, String)>,
}

/// A number as the format writes it: only infinities differ from Rust's way.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

impl Metrics {
    /// A number that may fall.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.line("gauge", name, help, labels, value);
    }

    /// A number that only grows while the process runs; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.line("counter", name, help, labels, value);
    }

    /// How many of what was measured lie in each bucket. `bounds` are the upper ones (inclusive), in order; `buckets`, not
    /// added up, has one more for what lies above the last. `sum` is of all that was measured.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        buckets: &[u64],
        sum: f64,
    ) {
        let mut below = 0;
        for (place, count) in buckets.iter().enumerate() {
            below += count;
            let bound = number(bounds.get(place).copied().unwrap_or(f64::INFINITY));
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.sample("histogram", name, "_bucket", help, &labels, below as f64);
        }
        self.sample("histogram", name, "_sum", help, labels, sum);
        self.sample("histogram", name, "_count", help, labels, below as f64);
    }

    fn line(&mut self, kind: &str, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(kind, name, "", help, labels, value);
    }

    fn sample(&mut self, kind: &str, name: &str, suffix: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let common = self.common.iter().map(|(label, value)| (*label, value.as_str()));
        let labels: Vec<String> = common
            .chain(labels.iter().copied())
            .map(|(label, value)| format!("{label}=\"{}\"", escape(value)))
            .collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let number = format!("{name}{suffix}{braces} {}\n", number(value));
        match self.families.iter_mut().find(|(known, _)| known == name) {
            Some((_, text)) => text.push_str(&number),
            None => {
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                self.families.push((name.to_owned(), format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{number}")));
            }
        }
    }

    /// All of them.
    pub(super) fn text(self) -> String {
        self.families.into_iter().map(|(_, text)| text).collect()
    }
}

/// The function that answers these requests, for [`crate::api::server::start`].
pub fn surface(
    health: Arc<Health>,
) -> impl Fn(HttpRequest, Payload) -> Pin<Box<dyn Future<Output = HttpResponse>>> + Clone {
    move |request, _| {
        let health = health.clone();
        Box::pin(async move {
            if request.method() != "GET" && request.method() != "HEAD" {
                return error::method_not_allowed("GET");
            }
            match request.uri().path() {
                "/healthz" => start_page::alive(),
                "/readyz" => health.ready(),
                "/metrics" => health.metrics(),
                _ => error::response(&Refusal::not_found("there are /healthz, /readyz and /metrics here"), None),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_weighs_more_than_what_is_stale() {
        let health = Health::new("proxy", "1.2.3");
        assert_eq!(health.readiness(), Ok(()));
        assert_eq!(health.ready().status(), 200);
        health.note("routing table", Condition::Stale("since Tuesday".into()));
        assert_eq!((health.readiness(), health.ready().status().as_u16()), (Ok(()), 200));
        health.note("key parts", Condition::Waiting("control at https://c:8081 is away".into()));
        let refusal = health.readiness().unwrap_err();
        assert!(refusal.message.contains("key parts") && !refusal.message.contains("https"), "{refusal}");
        assert_eq!(health.ready().status(), 503);
        health.note("key parts", Condition::Good);
        assert_eq!(health.complaints(), (Vec::new(), vec![("routing table", "since Tuesday".to_owned())]));
    }

    #[test]
    fn metrics_are_what_prometheus_reads() {
        let mut metrics = Metrics::default();
        metrics.gauge("dstore_ranges", "Ranges.", &[("state", "ser\"ving")], 3.0);
        metrics.gauge("dstore_ranges", "Ranges.", &[("state", "damaged")], 0.0);
        metrics.counter("dstore_notices_total", "Notices.", &[], 1e6);
        metrics.common = Some(("node", "2".to_owned()));
        metrics.gauge("dstore_ranges", "Ranges.", &[("state", "damaged")], 1.0);
        let expected = "# HELP dstore_ranges Ranges.\n# TYPE dstore_ranges gauge\n\
                        dstore_ranges{state=\"ser\\\"ving\"} 3\ndstore_ranges{state=\"damaged\"} 0\n\
                        dstore_ranges{node=\"2\",state=\"damaged\"} 1\n\
                        # HELP dstore_notices_total Notices.\n# TYPE dstore_notices_total counter\n\
                        dstore_notices_total 1000000\n";
        assert_eq!(metrics.text(), expected);
    }

    #[test]
    fn histograms_add_up_from_bucket_to_bucket() {
        let mut metrics = Metrics::default();
        let labels = [("operation", "get-item")];
        metrics.histogram("dstore_request_seconds", "Time\nof \\.", &labels, &[0.001, 0.5], &[2, 0, 1], 7.25);
        let expected = "# HELP dstore_request_seconds Time\\nof \\\\.\n# TYPE dstore_request_seconds histogram\n\
                        dstore_request_seconds_bucket{operation=\"get-item\",le=\"0.001\"} 2\n\
                        dstore_request_seconds_bucket{operation=\"get-item\",le=\"0.5\"} 2\n\
                        dstore_request_seconds_bucket{operation=\"get-item\",le=\"+Inf\"} 3\n\
                        dstore_request_seconds_sum{operation=\"get-item\"} 7.25\n\
                        dstore_request_seconds_count{operation=\"get-item\"} 3\n";
        assert_eq!(metrics.text(), expected);
    }
}
