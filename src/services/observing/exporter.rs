//! Sends spans to a collector: OTLP over HTTP, protobuf, `POST {endpoint}/v1/traces`.
//!
//! A second after the first span that waits, or when there are enough, all go in one request. It is tried once: what does not
//! arrive is given up and counted. Spans explain; they are not the books, and a collector that comes back must
//! not be met by an hour of them. Its absence is logged when it begins and when it ends, not each time.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::otlp;
use super::spans::{Span, Tracing};

/// Spans in one request, at most.
const BATCH_SPANS: usize = 1024;
/// How long the first span waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// See the module's essay.
pub struct Exporter {
    tracing: Arc<Tracing>,
    spans: mpsc::Receiver<Span>,
    client: Client,
    url: String,
    process: Vec<(&'static str, String)>,
    is_away: bool,
}

impl Exporter {
    /// Sends what comes out of `spans` to `endpoint`, as told by a process with these attributes.
    pub fn new(
        tracing: Arc<Tracing>,
        spans: mpsc::Receiver<Span>,
        client: Client,
        endpoint: &str,
        process: Vec<(&'static str, String)>,
    ) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        let url = format!("{}/v1/traces", endpoint.trim_end_matches("/v1/traces"));
        Self { tracing, spans, client, url, process, is_away: false }
    }

    /// Sends until dropped. What waits then is lost: a process that stops does not wait for its collector.
    pub async fn run(mut self) {
        while let Some(first) = self.spans.recv().await {
            let (mut batch, deadline) = (vec![first], Instant::now() + LINGER);
            while batch.len() < BATCH_SPANS {
                let room = BATCH_SPANS - batch.len();
                match timeout_at(deadline, self.spans.recv_many(&mut batch, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<Span>) {
        let count = batch.len();
        let body = otlp::request(&self.process, batch).encode_to_vec();
        let sent = self.client.post(&self.url).header(CONTENT_TYPE, "application/x-protobuf").body(body).send().await;
        let problem = match sent.and_then(reqwest::Response::error_for_status) {
            Ok(_) => None,
            Err(problem) => {
                let mut cause: &dyn std::error::Error = &problem;
                while let Some(inner) = cause.source() {
                    cause = inner;
                }
                Some(cause.to_string())
            }
        };
        match &problem {
            None => self.tracing.note_sent(count),
            Some(_) => self.tracing.note_dropped(count),
        }
        match (problem, self.is_away) {
            (Some(problem), false) => {
                tracing::warn!(problem, "the collector takes no spans; they are dropped meanwhile")
            }
            (None, true) => tracing::info!("the collector takes spans again"),
            _ => return,
        }
        self.is_away = !self.is_away;
    }
}
