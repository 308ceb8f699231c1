//! What is noted of a request on its way through this process: its tag, its place in a trace, and how long each stage took.
//!
//! It is carried by the task that answers the request, in a value that lies within the request's own future
//! ([`within`]); so no trait and no handler has it as a parameter, and none of it is allocated. Whoever finishes a
//! stage says so by [`lap`], wherever that is; outside of a request that does nothing.
//!
//! | what | when | where |
//! |---|---|---|
//! | the tag | always | answer header `x-request-id`, problems, the question to a node, all lines below |
//! | a request line, target `dstore::request`, level info | as `logging.requests` says | where the client asked |
//! | a slow-request line, target `dstore::slow`, level warn, with its stages | from `logging.slow_ms` on | where the client asked, and at the node that a proxy asked |
//! | spans | for a trace that is sampled | [`spans`], sent by [`exporter`] |
//!
//! No line holds a key, a value, a path or a query string; a tenant stands in it only once it was found.
//!
//! The node does not send its stages back to the proxy: both tell theirs under the same tag, and the wire stays as it
//! is. Messages between the replicas of a range carry neither tag nor trace, because one frame carries
//! the entries of many requests; what a replica did for a traced write is told by its leader, which knows when it
//! sent the entry and when that was acknowledged.
//!
//! A request that is not sampled costs a look at the clock for each stage; a sampled one allocates for its spans.

pub mod exporter;
pub mod otlp;
pub mod spans;
mod traced;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::TenantName;
use crate::domain::observed::tag::TagNumbers;
use crate::domain::observed::{RequestTag, Stage, Stages, TraceContext};

use self::spans::{Attribute, SpanKind, Tracing};
use self::traced::Trace;
pub use self::traced::{Asking, asking, is_recorded, replica_appended};

/// The header with a request's tag.
pub const TAG_HEADER: &str = "x-request-id";
/// The header with its place in a trace.
pub const TRACE_HEADER: &str = "traceparent";

/// Which requests get a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// None.
    None,
    /// Those that failed through no fault of the client: status 500 and above.
    Errors,
    /// All.
    All,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// A client.
    Client,
    /// Another process of the cluster, for one of its clients.
    Inside,
}

/// What came with a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Its tag, where a well-formed one came.
    pub tag: Option<RequestTag>,
    /// Its trace.
    pub trace: Option<TraceContext>,
}

/// What is noted in this process, and where spans go.
pub struct Observing {
    /// Which requests get a line.
    pub logged: Logged,
    /// From which time on a request is told to be slow.
    pub slow: Option<Duration>,
    /// Where spans go; none where none are taken.
    pub tracing: Option<Arc<Tracing>>,
    /// Where tags come from.
    pub numbers: TagNumbers,
}

/// What is noted of one request. See the module's essay.
pub struct Observed {
    tag: RequestTag,
    surface: Surface,
    began: Instant,
    /// Up to here the time has been told.
    hand: Cell<Instant>,
    stages: Cell<Stages>,
    subject: RefCell<Subject>,
    trace: Option<Trace>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The word for it.
    pub operation: &'static str,
    /// Whose it is, where that was found.
    pub tenant: Option<TenantName>,
    /// Whether it is meant to be quick. Making a table waits until nodes serve it, and is not told to be slow.
    pub is_quick: bool,
}

tokio::task_local! {
    static CURRENT: Observed;
}

impl Observing {
    /// The request that begins now.
    pub fn begin(&self, sent: Sent, surface: Surface) -> Observed {
        let (now, number) = (Instant::now(), self.numbers.next());
        Observed {
            tag: sent.tag.unwrap_or_else(|| RequestTag::of_number(number)),
            surface,
            began: now,
            hand: Cell::new(now),
            stages: Cell::default(),
            subject: RefCell::new(Subject { operation: "-", tenant: None, is_quick: true }),
            trace: self.trace(sent.trace, surface, number as u64, now),
        }
    }

    /// A trace that the client has sampled is; others are by the dice, where clients ask.
    fn trace(&self, sent: Option<TraceContext>, surface: Surface, dice: u64, now: Instant) -> Option<Trace> {
        let Some(tracing) = &self.tracing else { return sent.map(Trace::passed_on) };
        let is_sampled = sent.is_some_and(|sent| sent.is_sampled);
        if is_sampled || surface == Surface::Client && tracing.takes(dice) {
            return Some(Trace::recorded(tracing, sent, now));
        }
        sent.map(Trace::passed_on)
    }

    /// The request of this task was answered with this status: writes its lines and its span.
    pub fn ended(&self, status: u16) {
        let _ = CURRENT.try_with(|observed| {
            observed.lap(Stage::Reply, Instant::now());
            let took = observed.hand.get() - observed.began;
            let subject = observed.subject.borrow();
            let (operation, tenant) = (subject.operation, subject.tenant.as_ref().map(TenantName::as_str));
            let ms = took.as_micros() as f64 / 1000.0;
            let request_id = &observed.tag;
            if observed.surface == Surface::Client && self.is_logged(status) {
                tracing::info!(target: "dstore::request", %request_id, tenant, operation, status, ms, "request");
            }
            if subject.is_quick && self.slow.is_some_and(|slow| took >= slow) {
                let stages = observed.stages.get();
                tracing::warn!(target: "dstore::slow", %request_id, tenant, operation, status, ms, %stages, "slow request");
            }
            observed.record_whole(operation, tenant, status);
        });
    }

    fn is_logged(&self, status: u16) -> bool {
        match self.logged {
            Logged::None => false,
            Logged::Errors => status >= 500,
            Logged::All => true,
        }
    }
}

impl Observed {
    /// What has passed since the last lap until then was this stage. The span of it, where it has one.
    fn lap(&self, stage: Stage, until: Instant) -> Option<spans::SpanId> {
        let from = self.hand.get();
        let until = until.max(from);
        self.hand.set(until);
        let mut stages = self.stages.get();
        stages.add(stage, until - from);
        self.stages.set(stages);
        // Whoever asks a node has a span for that already, which is there before the answer.
        let trace = self.trace.as_ref().filter(|_| stage != Stage::Node)?;
        trace.record(trace.span(stage.word(), SpanKind::Internal, (from, until))?)
    }

    fn record_whole(&self, operation: &'static str, tenant: Option<&str>, status: u16) {
        let Some(trace) = &self.trace else { return };
        let name = match self.surface {
            Surface::Client => "request",
            Surface::Inside => "node",
        };
        let Some(span) = trace.span(name, SpanKind::Server, (self.began, self.hand.get())) else { return };
        let text = |text: &str| Attribute::Text(text.to_owned());
        let mut attributes = vec![
            ("http.response.status_code", Attribute::Number(i64::from(status))),
            ("dstore.operation", text(operation)),
            ("dstore.request_id", text(self.tag.as_str())),
        ];
        attributes.extend(tenant.map(|tenant| ("dstore.tenant", text(tenant))));
        let (id, parent) = trace.own();
        trace.record(spans::Span { id, parent, attributes, has_failed: status >= 500, ..span });
    }
}

/// Answers a request, whose task carries what is noted of it meanwhile.
pub fn within<F: Future>(observed: Observed, answer: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(observed, answer)
}

/// A stage of the request of this task ends now.
pub fn lap(stage: Stage) {
    lap_until(stage, None);
}

/// A stage of the request of this task ended at this time, or else now. The span of it, where it has one.
pub fn lap_until(stage: Stage, until: Option<Instant>) -> Option<spans::SpanId> {
    CURRENT.try_with(|observed| observed.lap(stage, until.unwrap_or_else(Instant::now))).ok().flatten()
}

/// What the request of this task asks for.
pub fn about(subject: Subject) {
    let _ = CURRENT.try_with(|observed| *observed.subject.borrow_mut() = subject);
}

/// The tag of the request of this task.
pub fn tag() -> Option<RequestTag> {
    CURRENT.try_with(|observed| observed.tag).ok()
}

#[cfg(test)]
mod tests;
