//! What a process notes of requests, put together from its settings: see [`crate::services::observing`].

use std::sync::Arc;
use std::time::Duration;

use super::node_parts::StartError;
use crate::api::health::Health;
use crate::config::{Config, LoggedRequests};
use crate::domain::observed::tag::TagNumbers;
use crate::domain::{Clock, Random};
use crate::services::observing::exporter::Exporter;
use crate::services::observing::spans::Tracing;
use crate::services::observing::{Logged, Observing};
use crate::transport::client::plain_client;

/// How long a collector may take to accept spans.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(10);

/// What the settings say.
#[derive(Debug, Clone)]
pub struct ObservingSettings {
    logged: Logged,
    slow: Option<Duration>,
    endpoint: Option<String>,
    sample: f64,
}

impl ObservingSettings {
    /// As they are configured.
    pub fn of(config: &Config) -> Self {
        Self {
            logged: match config.logging.requests {
                LoggedRequests::None => Logged::None,
                LoggedRequests::Errors => Logged::Errors,
                LoggedRequests::All => Logged::All,
            },
            slow: Some(Duration::from_millis(config.logging.slow_ms)).filter(|slow| !slow.is_zero()),
            endpoint: config.tracing.endpoint.clone(),
            sample: config.tracing.sample,
        }
    }

    /// Begins to note, and to send spans where a collector is set. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Where no client for the collector can be made.
    pub fn start(
        &self,
        role: &str,
        health: &Health,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Arc<Observing>, StartError> {
        let tracing = match &self.endpoint {
            Some(endpoint) => Some(self.send_spans(endpoint, role, health, clock, random)?),
            None => None,
        };
        let numbers = TagNumbers::new(&**random);
        Ok(Arc::new(Observing { logged: self.logged, slow: self.slow, tracing, numbers }))
    }

    fn send_spans(
        &self,
        endpoint: &str,
        role: &str,
        health: &Health,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Arc<Tracing>, StartError> {
        let client = plain_client(COLLECTOR_TIMEOUT).map_err(|refusal| StartError(refusal.to_string()))?;
        let (tracing, spans) = Tracing::new(self.sample, Arc::clone(clock), Arc::clone(random));
        let process = vec![
            ("service.name", "dstore".to_owned()),
            ("service.namespace", role.to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", crate::domain::ambient::random_uuid(&**random).to_string()),
        ];
        tokio::spawn(Exporter::new(Arc::clone(&tracing), spans, client, endpoint, process).run());
        let counted = Arc::clone(&tracing);
        health.count(move |metrics| {
            let (sent, dropped) = counted.counts();
            let help = "Spans that the collector took.";
            metrics.counter("dstore_trace_spans_sent_total", help, &[], sent as f64);
            let help = "Spans that were dropped, since the collector did not take them or too many waited.";
            metrics.counter("dstore_trace_spans_dropped_total", help, &[], dropped as f64);
        });
        Ok(tracing)
    }
}
