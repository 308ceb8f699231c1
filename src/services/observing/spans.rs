//! Spans: what is told of a sampled request, and the queue in which they wait to be sent.
//!
//! The queue is bounded. Whoever records never waits: what does not fit is dropped and counted, because a collector that is
//! away must not be felt by anybody's request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::domain::{Clock, Random};

/// Spans that wait to be sent, at most.
pub const WAITING_MAX: usize = 8_192;

/// A span's id within its trace.
pub type SpanId = [u8; 8];

/// Which side of a question a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Neither.
    Internal,
    /// Who is asked.
    Server,
    /// Who asks.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

/// Something that was done for a request. No attribute of one ever holds a key or a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub id: SpanId,
    /// The one that it is a part of.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: &'static str,
    /// Which side of a question it is.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since 1970.
    pub began_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// What else is known.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it failed.
    pub has_failed: bool,
}

/// Which requests are sampled, and where their spans go.
pub struct Tracing {
    /// Dice below this are sampled.
    below: u64,
    is_all: bool,
    waiting: mpsc::Sender<Span>,
    sent: AtomicU64,
    dropped: AtomicU64,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Tracing {
    /// Takes this part of all traces (0 to 1) that begin here, and gives the spans to whoever sends them.
    pub fn new(sample: f64, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> (Arc<Self>, mpsc::Receiver<Span>) {
        let (waiting, spans) = mpsc::channel(WAITING_MAX);
        let below = (sample.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let (sent, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        (Arc::new(Self { below, is_all: sample >= 1.0, waiting, sent, dropped, clock, random }), spans)
    }

    /// Whether a request with these evenly spread dice is sampled.
    pub fn takes(&self, dice: u64) -> bool {
        dice < self.below || self.is_all
    }

    /// A fresh trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.fresh()
    }

    /// A fresh span.
    pub fn span_id(&self) -> SpanId {
        self.fresh()
    }

    fn fresh<const BYTES: usize>(&self) -> [u8; BYTES] {
        let mut id = [0; BYTES];
        self.random.fill(&mut id);
        // All zeros is none.
        id[BYTES - 1] |= u8::from(id == [0; BYTES]);
        id
    }

    /// The time in nanoseconds since 1970.
    pub fn now_ns(&self) -> u64 {
        self.clock.now().0.saturating_mul(1000)
    }

    /// Hands a span over to be sent, or drops it.
    pub fn record(&self, span: Span) {
        if self.waiting.try_send(span).is_err() {
            self.note_dropped(1);
        }
    }

    /// So many spans arrived.
    pub fn note_sent(&self, count: usize) {
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// So many were given up.
    pub fn note_dropped(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Spans that arrived, and spans that were given up.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}
