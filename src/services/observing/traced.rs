//! A request's place in its trace, and the spans that other parts of the process add below it.
//!
//! Every span but the request's own has the request's as its parent, or the one of the stage that it explains. A span is made
//! only for a request that is recorded; for all others the questions here answer "none" before anything is allocated.

use std::sync::Arc;
use std::time::Instant;

use super::CURRENT;
use super::spans::{Attribute, Span, SpanId, SpanKind, Tracing};
use crate::domain::ids::{NodeId, ReplicaId};
use crate::domain::observed::{RequestTag, TraceContext};

/// See the module's essay.
pub(super) struct Trace {
    /// What the request hands on: its own span where it is recorded, else what came.
    context: TraceContext,
    /// The span that asked.
    parent: Option<SpanId>,
    recorder: Option<Recorder>,
}

/// Where spans go, and when the request began, by both clocks.
struct Recorder {
    tracing: Arc<Tracing>,
    began: Instant,
    began_ns: u64,
}

impl Trace {
    /// One that is handed on as it came.
    pub(super) fn passed_on(context: TraceContext) -> Self {
        Self { context, parent: None, recorder: None }
    }

    /// One that goes on, or begins, with a span of this process.
    pub(super) fn recorded(tracing: &Arc<Tracing>, sent: Option<TraceContext>, now: Instant) -> Self {
        let trace = sent.map_or_else(|| tracing.trace_id(), |sent| sent.trace);
        let context = TraceContext { trace, span: tracing.span_id(), is_sampled: true };
        let recorder = Recorder { tracing: Arc::clone(tracing), began: now, began_ns: tracing.now_ns() };
        Self { context, parent: sent.map(|sent| sent.span), recorder: Some(recorder) }
    }

    /// The request's own span, and its parent.
    pub(super) fn own(&self) -> (SpanId, Option<SpanId>) {
        (self.context.span, self.parent)
    }

    /// A span below the request's; none where it is not recorded.
    pub(super) fn span(&self, name: &'static str, kind: SpanKind, (from, until): (Instant, Instant)) -> Option<Span> {
        let recorder = self.recorder.as_ref()?;
        let at = |time: Instant| recorder.began_ns + time.saturating_duration_since(recorder.began).as_nanos() as u64;
        Some(Span {
            trace: self.context.trace,
            id: recorder.tracing.span_id(),
            parent: Some(self.context.span),
            name,
            kind,
            began_ns: at(from),
            ended_ns: at(until),
            attributes: Vec::new(),
            has_failed: false,
        })
    }

    /// Hands a span over to be sent; its id.
    pub(super) fn record(&self, span: Span) -> Option<SpanId> {
        let id = span.id;
        self.recorder.as_ref()?.tracing.record(span);
        Some(id)
    }
}

/// A question to another node, on behalf of the request of this task.
pub struct Asking {
    /// The request's tag.
    pub tag: RequestTag,
    /// What the node is told of the trace.
    pub trace: Option<TraceContext>,
    began: Instant,
}

/// A question to a node begins now; none outside of a request.
pub fn asking() -> Option<Asking> {
    let begin = |observed: &super::Observed| {
        let trace = observed.trace.as_ref().map(|trace| match &trace.recorder {
            Some(recorder) => TraceContext { span: recorder.tracing.span_id(), ..trace.context },
            None => trace.context,
        });
        Asking { tag: observed.tag, trace, began: Instant::now() }
    };
    CURRENT.try_with(begin).ok()
}

impl Asking {
    /// The node has answered, or given none.
    pub fn ended(self, node: NodeId, has_failed: bool) {
        let _ = CURRENT.try_with(|observed| {
            let (trace, asked) = (observed.trace.as_ref()?, self.trace?);
            let span = trace.span("ask", SpanKind::Client, (self.began, Instant::now()))?;
            let attributes = vec![("dstore.node", Attribute::Text(node.to_string()))];
            trace.record(Span { id: asked.span, attributes, has_failed, ..span })
        });
    }
}

/// Whether spans of the request of this task are taken.
pub fn is_recorded() -> bool {
    let is_recorded =
        |observed: &super::Observed| observed.trace.as_ref().is_some_and(|trace| trace.recorder.is_some());
    CURRENT.try_with(is_recorded).unwrap_or(false)
}

/// A replica had an entry of the request of this task from its leader within these times; a part of the stage with this span.
pub fn replica_appended(parent: Option<SpanId>, replica: ReplicaId, times: (Instant, Instant)) {
    let _ = CURRENT.try_with(|observed| {
        let trace = observed.trace.as_ref()?;
        let span = trace.span("replica append", SpanKind::Client, times)?;
        let attributes = vec![("dstore.replica", Attribute::Text(replica.to_string()))];
        trace.record(Span { parent: parent.or(span.parent), attributes, ..span })
    });
}
