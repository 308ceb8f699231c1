//! `dstore control serve` as a process: health first, then control as soon as the coordinator can be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::control::{ControlError, RunningControl, start};
use super::lifecycle;
use super::serving::start_health;
use crate::api::health::{Condition, Health};
use crate::config::Config;
use crate::coordination::{Coordinator, layout};
use crate::domain::RefusalKind;

/// What `/readyz` calls the coordinator.
const WHAT: &str = "coordinator";
/// How long to wait before the coordinator is asked again.
const WAIT_PAUSE: Duration = Duration::from_millis(500);
/// How often a serving control looks whether the coordinator answers.
const LOOK_PAUSE: Duration = Duration::from_secs(3);

/// Serves until told to stop. Shows its addresses when it serves.
///
/// # Errors
/// Where it cannot start, and waiting will not help.
pub async fn serve(config: &Config, show: impl Fn(serde_json::Value)) -> Result<(), ControlError> {
    let health = Health::new("control", env!("CARGO_PKG_VERSION"));
    // Before anybody can ask: it is not ready until it serves.
    health.note(WHAT, Condition::Waiting("it is starting".to_owned()));
    let health_server = start_health(config.metrics.listen, &health)?;
    let stop = lifecycle::stop_asked();
    tokio::pin!(stop);
    let started = tokio::select! {
        started = start_when_possible(config, &health) => Some(started?),
        () = &mut stop => None,
    };
    if let Some(running) = started {
        health.note(WHAT, Condition::Good);
        let reachable = Arc::new(AtomicBool::new(true));
        let told = reachable.clone();
        health.count(move |metrics| {
            let is_reachable = f64::from(u8::from(told.load(Ordering::Relaxed)));
            metrics.gauge("dstore_coordinator_reachable", "1 where the coordinator answers.", &[], is_reachable);
        });
        let look = tokio::spawn(look(running.plane().coordinator().clone(), health, reachable));
        show(serde_json::json!({
            "role": "control",
            "admin": running.admin_addresses(),
            "inside": running.inside_addresses(),
            "metrics": health_server.addresses(),
        }));
        stop.await;
        eprintln!("stopping: answering what is under way");
        look.abort();
        running.stop().await?;
    }
    Ok(health_server.stop().await?)
}

async fn start_when_possible(config: &Config, health: &Health) -> Result<RunningControl, ControlError> {
    loop {
        match start(config).await {
            Err(ControlError::Refused(refusal)) if refusal.kind == RefusalKind::Unavailable => {
                health.note(WHAT, Condition::Waiting(refusal.to_string()));
                tracing::warn!(%refusal, "waiting for the coordinator");
                tokio::time::sleep(WAIT_PAUSE).await;
            }
            started => return started,
        }
    }
}

/// Looks whether the coordinator answers: without it control hands its members what it handed them before, and can
/// change nothing.
async fn look(coordinator: Arc<dyn Coordinator>, health: Arc<Health>, reachable: Arc<AtomicBool>) {
    loop {
        let condition = match coordinator.get(layout::CONTROL_CLUSTER).await {
            Ok(_) => Condition::Good,
            Err(error) => Condition::Stale(format!("{error}; members are told what they were told before")),
        };
        reachable.store(condition == Condition::Good, Ordering::Relaxed);
        health.note(WHAT, condition);
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}
