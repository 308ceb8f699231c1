//! What all roles share: the signals that stop a process, and settings turned into what
//! the parts take.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::api::body::Limits;
use crate::config::{Config, Origin, Origins};
use crate::domain::rid::Location;
use crate::services::engine::admission::AdmissionLimits;
use crate::services::engine::flusher::FlushBudget;
use crate::services::usage::UsageSettings;
use crate::storage::log::LogOptions;
use crate::transport::tls::public_server_config;

use super::descriptors;
use super::key_files::Passphrase;
use super::logging::{start_logging, start_logging_at};
use super::node_parts::{NodeSettings, StartError};
use super::observing::ObservingSettings;
use super::one_process::{self, OneProcess, OneProcessOptions};
use super::{dev, standalone};

/// Waits for Ctrl-C or SIGTERM.
pub async fn stop_asked() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Settings of each of so many nodes of this process, from the configuration.
pub fn node_settings(config: &Config, nodes: u16) -> NodeSettings {
    let nodes = usize::from(nodes.max(1));
    let files_max = descriptors::replica_files_max(config.limits.open_files * nodes, config.limits.connections);
    let defaults = NodeSettings::default();
    let tables_bytes = (config.memory.tables_mib << 20) as usize;
    NodeSettings {
        log: LogOptions {
            segment_bytes: config.log.segment_mib << 20,
            budget_bytes: config.log.budget_mib << 20,
            reserve_bytes: config.log.segment_mib << 20,
            ..defaults.log
        },
        flush: FlushBudget {
            // Flushing begins early, so that writers seldom reach the end of the budget.
            memory_bytes_soft: tables_bytes / 8,
            memory_bytes_hard: tables_bytes.max(1 << 20),
            ..defaults.flush
        },
        admission: AdmissionLimits {
            writes_max: config.limits.queue,
            disk_notice: config.limits.disk_notice,
            disk_refuse: config.limits.disk_refuse,
        },
        cache_bytes: config.memory.item_cache_mib << 20,
        scrub_period: Duration::from_secs(config.node.scrub_period),
        expiry_period: Duration::from_secs(config.node.expiry_period),
        usage: usage_settings(config),
        // The limit of open files is the process's, so its nodes share it.
        open_files_max: (files_max / nodes).max(1),
        ..defaults
    }
}

/// How usage is counted, from the configuration.
pub fn usage_settings(config: &Config) -> UsageSettings {
    UsageSettings { spool_bytes: config.usage.spool_mib << 20, tenants_max: config.usage.tenants }
}

/// What a process that is its own control plane is asked for, from the configuration.
///
/// # Errors
/// Where the location's name, the certificate or the passphrase cannot be used.
pub fn one_process_options(
    name: &'static str,
    config: &Config,
    origins: &Origins,
    nodes: u16,
) -> Result<OneProcessOptions, StartError> {
    let is_chosen = |key| origins.get(key).is_some_and(|(_, origin)| *origin != Origin::Default);
    Ok(OneProcessOptions {
        name,
        data: config.data.dir.clone(),
        listen: config.client.listen,
        tls: client_tls(config)?,
        advertise: config.client.advertise.clone(),
        domain: config.client.domain.as_deref().map(Arc::from),
        admin_listen: config.admin.listen,
        is_admin_chosen: is_chosen("admin.listen"),
        metrics_listen: config.metrics.listen,
        is_metrics_chosen: is_chosen("metrics.listen"),
        nodes,
        passphrase: Passphrase::from_settings(&config.keys)?.map(Arc::new),
        node: node_settings(config, nodes),
        zone: config.node.zone.clone(),
        drain_seconds: config.limits.drain_seconds,
        location: Location::new(&config.node.location).map_err(|refusal| StartError(refusal.message))?,
        body_limits: Limits { time_max: Duration::from_secs(config.limits.body_seconds), ..Limits::default() },
        connections_max: config.limits.connections,
        observing: ObservingSettings::of(config),
    })
}

/// The certificate that clients are shown, where one is set.
///
/// # Errors
/// Where it cannot be read or used.
pub fn client_tls(config: &Config) -> Result<Option<rustls::ServerConfig>, StartError> {
    let (Some(chain), Some(key)) = (&config.client.tls_cert, &config.client.tls_key) else { return Ok(None) };
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| StartError(format!("{}: {error}", path.display())))
    };
    let key = zeroize::Zeroizing::new(read(key)?);
    let tls = public_server_config(&read(chain)?, &key)
        .map_err(|error| StartError(format!("client.tls_cert and client.tls_key cannot be used: {error}")))?;
    Ok(Some(tls))
}

/// Runs `dstore dev` until it is told to stop.
pub fn run_dev(config: &Config, origins: &Origins, nodes: u16, json: bool) -> ExitCode {
    // Who asked for nothing sees what is printed to begin with, and then only what is wrong.
    let is_asked_for = origins.get("logging.level").is_some_and(|(_, origin)| *origin != Origin::Default);
    start_logging_at(config, if is_asked_for { &config.logging.level } else { "warn" });
    run(async {
        let running = one_process::start(one_process_options("dstore dev", config, origins, nodes)?).await?;
        let offered = dev::offer_context(&running);
        if let dev::Offered::Not(problem) = &offered {
            tracing::warn!(%problem, "the context for the admin commands could not be kept");
        }
        announce(&running, json, || dev::greeting(&running, &config.data.dir, &offered, &program()))?;
        until_stopped(running).await
    })
}

/// Runs `dstore node --standalone` until it is told to stop.
pub fn run_standalone(config: &Config, origins: &Origins, json: bool) -> ExitCode {
    start_logging(config);
    run(async {
        let options = one_process_options("dstore node --standalone", config, origins, 1)?;
        let running = one_process::start(options).await?;
        announce(&running, json, || standalone::greeting(&running, &config.data.dir, &program()))?;
        until_stopped(running).await
    })
}

/// Prints the credentials as one line of JSON, or what is there to say to people. A reader who is gone does not matter.
fn announce(running: &OneProcess, json: bool, greeting: impl Fn() -> String) -> Result<(), StartError> {
    use std::io::Write;
    let text = if json {
        serde_json::to_string(&running.credentials).map_err(|error| StartError(error.to_string()))?
    } else {
        greeting()
    };
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    Ok(())
}

async fn until_stopped(running: OneProcess) -> Result<(), StartError> {
    stop_asked().await;
    eprintln!("stopping: answering what is under way and writing memory to disk");
    running.stop().await;
    Ok(())
}

/// What this program was called as, for commands to paste.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    let is_plain = |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-+".contains(letter));
    if !called.is_empty() && is_plain(&called) { called } else { "dstore".to_owned() }
}

/// Runs `dstore node` as a member of a cluster until it is told to stop.
pub fn run_node(config: &Config) -> ExitCode {
    start_logging(config);
    run(super::node::run(config))
}

/// Runs `dstore proxy` until it is told to stop.
pub fn run_proxy(config: &Config, origins: &Origins) -> ExitCode {
    start_logging(config);
    run(super::proxy::run(config, origins))
}

/// Runs `dstore reporting` until it is told to stop.
pub fn run_reporting(config: &Config) -> ExitCode {
    start_logging(config);
    run(super::reporting::run(config))
}

/// Runs a command of control that needs the control key; `serve` until it is told to stop. What it has to tell goes to `show`.
pub fn run_control(
    config: &Config,
    command: super::control::LocalCommand,
    show: impl Fn(serde_json::Value),
) -> ExitCode {
    // What runs and ends tells its result; only who serves tells what it does meanwhile, unless more is asked for. What
    // follows the coordinator may even see it close before it is told to end, and that is no reason to warn anybody.
    let is_quiet = !matches!(command, super::control::LocalCommand::Serve) && config.logging.level == "info";
    start_logging_at(config, if is_quiet { "error" } else { &config.logging.level });
    run(async {
        super::control::run(config, command, show).await.map_err(|error| StartError(error.to_string()))?;
        Ok(())
    })
}

fn run(role: impl Future<Output = Result<(), StartError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
