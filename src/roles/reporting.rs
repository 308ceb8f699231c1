//! `dstore reporting`: gathers what proxies and nodes counted, keeps it sealed, answers what was used, and hands it on.
//!
//! It joins as a proxy does and has nothing to do with the coordinator: control tells which components there are. It reaches control and the
//! inside listeners of proxies and nodes, where its role opens counters and nothing else; control reaches its own inside
//! listener. No client reaches it, and its sinks are its only way out.
//!
//! It goes on without control, and starts without it where its key parts were kept under a passphrase: with the components it was
//! told last.
//!
//! ```text
//! <data>/<plane>/member.json      who this is, see [`super::membership`]
//! <data>/<plane>/reporting.key    its own part of its key
//! <data>/<plane>/key-parts        control's part, only with a passphrase
//! <data>/<plane>/reporting.db     what it gathered, see [`crate::storage::sqlite::reporting`]
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::inside::{InsideSocket, failed};
use super::lifecycle;
use super::logging;
use super::member::{Entry, Ground};
use super::member_parts::MemberParts;
use super::node_parts::StartError;
use super::proxy::{START, stop_health};
use super::reporting_store::{self, ReportingSettings, Sources};
use super::serving::{server_options, start_health};
use super::sinks;
use crate::api::gate::{self, Gate};
use crate::api::health::{Condition, Health};
use crate::api::inside;
use crate::api::server::{self, RunningServer};
use crate::config::Config;
use crate::domain::ids::{ReporterId, Role};
use crate::services::assignments::KeyParts;
use crate::services::control::SecretName;
use crate::services::control::remote::RemoteControl;
use crate::services::reporting::events::EventFeed;
use crate::services::reporting::remote::RemoteComponents;
use crate::services::reporting::{Reporting, UsageReports};
use crate::storage::sqlite::reporting::SqliteReportingStore;

/// How often control is told where this is, and asked for parts of keys.
const CONTROL_PAUSE: Duration = Duration::from_secs(60);
/// How long to wait where that went wrong.
const CONTROL_RETRY: Duration = Duration::from_secs(3);

/// Runs a reporter until it is told to stop. Prints its addresses as one line of JSON as soon as it has them.
///
/// # Errors
/// Where it cannot start, with what to do.
pub async fn run(config: &Config) -> Result<(), StartError> {
    let health = Health::new("reporting", env!("CARGO_PKG_VERSION"));
    let ground = Ground::take(config, Role::Reporting, health.clone())?;
    let health_server = start_health(config.metrics.listen, &health)?;
    health.note(START, Condition::Waiting("it is starting".to_owned()));
    crate::storage::vfs::register(ground.random.clone()).map_err(|error| StartError(error.to_string()))?;
    let inside = InsideSocket::take(config.inside.listen, config.inside.advertise.as_deref())?;
    println!(
        "{}",
        serde_json::json!({ "role": "reporting", "inside": [inside.address], "metrics": health_server.addresses() })
    );
    let stop = lifecycle::stop_asked();
    tokio::pin!(stop);
    let started = tokio::select! {
        started = start(&ground, config, inside) => Some(started?),
        () = &mut stop => None,
    };
    if let Some(running) = started {
        stop.await;
        eprintln!("stopping: what was taken in is on disk, the rest stays with those who counted it");
        running.stop().await;
    }
    stop_health(health_server).await
}

struct Running {
    inside: RunningServer,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    async fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Err(error) = self.inside.stop().await {
            tracing::error!(%error, "the inside listener did not stop cleanly");
        }
    }
}

async fn start(ground: &Ground, config: &Config, socket: InsideSocket) -> Result<Running, StartError> {
    let uri = socket.uri.clone();
    let entry = Entry::enter(ground, config, |request| request.inside_uri = Some(uri.clone())).await?;
    let (gate, inside) = start_inside(ground, config, &entry, socket)?;
    entry.parts.wait(&ground.health).await?;
    let (plane, reporter) = (entry.membership.plane, ReporterId(entry.membership.id));
    let parts = entry.parts.clone();
    let at_control = Box::new(move || parts.own());
    let passphrase = ground.passphrase.as_deref();
    let store = reporting_store::open(&entry.folder, plane, reporter, at_control, passphrase, &ground.random)?;
    let sinks = sinks::from_settings(config)?;
    let names: Vec<String> = sinks.iter().map(|sink| sink.name().to_owned()).collect();
    let reporting = Reporting::over(store.clone(), ground.clock.clone(), &names)
        .map_err(|error| StartError(format!("the reporter's store: {error}")))?;
    gate.open(reporting.clone());
    let components = RemoteComponents {
        control: entry.control.clone(),
        reporting: reporting.clone(),
        plane,
        identity: entry.identity.clone(),
        authority_pem: entry.membership.authority_pem.clone(),
    };
    let settings = ReportingSettings {
        records_kept: Duration::from_secs(config.reporting.records_hours * 3600),
        disk_refuse: config.reporting.disk_refuse,
    };
    let feed: Arc<dyn EventFeed> = Arc::new(entry.control.clone());
    let sources = Sources { components: Arc::new(components), events: config.reporting.events.then_some(feed) };
    let mut tasks = reporting_store::gather(&reporting, reporter, sources, &entry.folder, &settings, &ground.health);
    tasks.extend(sinks::feed(&reporting, sinks, ground));
    tasks.push(tokio::spawn(entry.renewal(ground).run()));
    tasks.push(logging::follow(entry.control.clone(), ground.clock.clone()));
    tasks.push(tokio::spawn(tell_address(entry.control.clone(), uri)));
    tasks.push(tokio::spawn(follow_keys(entry.parts.clone(), entry.control.clone(), store, reporter)));
    ground.health.note(START, Condition::Good);
    tracing::info!(%plane, id = %reporter, "the reporter gathers");
    Ok(Running { inside, tasks })
}

type InsideGate = Arc<Gate<Arc<dyn UsageReports>>>;

fn start_inside(
    ground: &Ground,
    config: &Config,
    entry: &Entry,
    socket: InsideSocket,
) -> Result<(InsideGate, RunningServer), StartError> {
    let (gate, plane, health): (InsideGate, _, _) = (Arc::default(), entry.membership.plane, ground.health.clone());
    let waiting: Arc<dyn Fn() -> Result<(), crate::domain::Refusal> + Send + Sync> =
        Arc::new(move || health.readiness());
    let behind = gate.clone();
    let server = server::start(
        vec![socket.secured(&entry.identity, &entry.membership.authority_pem)?],
        &server_options(config),
        move || {
            gate::surface(behind.clone(), waiting.clone(), move |reports| inside::reporting_surface(reports, plane))
        },
    );
    Ok((gate, server.map_err(|error| failed(&error))?))
}

/// Tells control now and then where this is asked what was used.
async fn tell_address(control: RemoteControl, uri: String) {
    loop {
        let told = control.address(&uri).await;
        if let Err(refusal) = &told {
            tracing::debug!(%refusal, "control does not know yet where this reporter is");
        }
        tokio::time::sleep(if told.is_ok() { CONTROL_PAUSE } else { CONTROL_RETRY }).await;
    }
}

/// Follows control's part of the key: after a rotation the store's key is wrapped anew, and control told that the old version is
/// used no more.
async fn follow_keys(
    parts: Arc<MemberParts>,
    control: RemoteControl,
    store: Arc<SqliteReportingStore>,
    reporter: ReporterId,
) {
    parts.clone().until_told().await;
    // With the start the key was wrapped under the newest version already; control may not know it yet.
    let mut said = None;
    loop {
        let newest = parts.own().last().map(|part| part.version);
        if let Some(version) = newest.filter(|version| said != Some(*version)) {
            let wrapped = store.clone();
            let wrapped = crate::storage::workers::blocking(move || wrapped.wrap_anew()).await;
            let told = match wrapped {
                Ok(Ok(())) => control.key_in_use(SecretName::Reporting(reporter), version).await.map(|_| ()),
                Ok(Err(error)) => Err(crate::domain::Refusal::internal(error.to_string())),
                Err(panicked) => Err(crate::domain::Refusal::internal(panicked.to_string())),
            };
            match told {
                Ok(()) => said = Some(version),
                Err(refusal) => {
                    tracing::warn!(%refusal, version, "the new version of the key is not in use yet; trying again")
                }
            }
        }
        tokio::time::sleep(CONTROL_PAUSE).await;
        if let Err(refusal) = parts.all().await {
            tracing::debug!(%refusal, "key parts were not told; the last known stay");
        }
    }
}
