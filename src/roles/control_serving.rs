//! `dstore control serve` as a process: health first, then control as soon as the coordinator can be asked.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::control::{ControlError, RunningControl, start};
use super::lifecycle;
use super::serving::start_health;
use crate::api::health::{Condition, Health, Metrics};
use crate::config::Config;
use crate::coordination::{Coordinator, StoreHealth, layout};
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
        let seen = Arc::new(Mutex::new(Seen { is_reachable: true, state: None }));
        let (told, leads) = (seen.clone(), running.leads());
        health.count(move |metrics| tell(metrics, &told.lock(), *leads.borrow()));
        let look = tokio::spawn(look(running.plane().coordinator().clone(), health, seen));
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

/// What was seen of the coordinator.
struct Seen {
    is_reachable: bool,
    state: Option<StoreHealth>,
}

/// Looks whether the coordinator answers, and how full it is: without it control hands its members what it handed them
/// before, and can change nothing.
async fn look(coordinator: Arc<dyn Coordinator>, health: Arc<Health>, seen: Arc<Mutex<Seen>>) {
    loop {
        let condition = match coordinator.get(layout::CONTROL_CLUSTER).await {
            Ok(_) => Condition::Good,
            Err(error) => Condition::Stale(format!("{error}; members are told what they were told before")),
        };
        let state = coordinator.health().await.ok();
        *seen.lock() = Seen { is_reachable: condition == Condition::Good, state };
        health.note(WHAT, condition);
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// The numbers of an instance of control, which has seen this of the coordinator when it last looked.
fn tell(metrics: &mut Metrics, seen: &Seen, leads: bool) {
    let is_reachable = f64::from(u8::from(seen.is_reachable));
    metrics.gauge("dstore_coordinator_reachable", "1 where the coordinator answers.", &[], is_reachable);
    let help = "1 where this instance of control leads, which means that it places ranges and cleans up.";
    metrics.gauge("dstore_control_leads", help, &[], f64::from(u8::from(leads)));
    let Some(coordinator) = &seen.state else { return };
    let help = "Bytes that the coordinator's database takes.";
    metrics.gauge("dstore_coordinator_bytes", help, &[], coordinator.bytes as f64);
    if let Some(quota) = coordinator.quota_bytes {
        let help = "Bytes that the coordinator's database may take.";
        metrics.gauge("dstore_coordinator_quota_bytes", help, &[], quota as f64);
    }
}
