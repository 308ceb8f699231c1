//! What all roles share: logging, the signals that stop a process, and settings turned into what
//! the parts take.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::api::body::Limits;
use crate::config::{Config, LogFormat};
use crate::domain::rid::Location;
use crate::services::engine::admission::AdmissionLimits;
use crate::services::engine::flusher::FlushBudget;
use crate::storage::log::LogOptions;

use super::dev::{self, DevOptions};
use super::key_files::Passphrase;
use super::node_parts::{NodeSettings, StartError};

/// Sends log lines to stderr, as the settings say.
pub fn start_logging(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.logging.level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    let started = match config.logging.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.try_init(),
    };
    if started.is_err() {
        eprintln!("warning: logging was set up before; its settings are not used");
    }
}

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

/// Settings of a node, from the configuration.
pub fn node_settings(config: &Config) -> NodeSettings {
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
            memory_bytes_soft: tables_bytes / 2,
            memory_bytes_hard: tables_bytes.max(1 << 20),
            ..defaults.flush
        },
        admission: AdmissionLimits { writes_max: config.limits.queue, ..AdmissionLimits::default() },
        cache_bytes: config.memory.item_cache_mib << 20,
        open_files_max: config.limits.open_files,
        ..defaults
    }
}

/// What `dstore dev` is asked for, from the configuration.
///
/// # Errors
/// Where the location's name or the passphrase cannot be used.
pub fn dev_options(config: &Config, nodes: u16) -> Result<DevOptions, StartError> {
    Ok(DevOptions {
        data: config.data.dir.clone(),
        listen: config.client.listen,
        nodes,
        passphrase: Passphrase::from_settings(&config.keys)?.map(Arc::new),
        node: node_settings(config),
        drain_seconds: config.limits.drain_seconds,
        location: Location::new(&config.node.location).map_err(|refusal| StartError(refusal.message))?,
        body_limits: Limits { time_max: Duration::from_secs(config.limits.body_seconds), ..Limits::default() },
        connections_max: config.limits.connections,
    })
}

/// Runs `dstore dev` until it is told to stop.
pub fn run_dev(config: &Config, nodes: u16, json: bool) -> ExitCode {
    start_logging(config);
    run(async {
        let dev = dev::start(dev_options(config, nodes)?).await?;
        if json {
            println!("{}", serde_json::to_string(&dev.credentials).map_err(|error| StartError(error.to_string()))?);
        } else {
            println!("{}", dev.credentials.greeting());
        }
        stop_asked().await;
        eprintln!("stopping: answering what is under way and writing memory to disk");
        dev.stop().await;
        Ok(())
    })
}

/// Runs a command of control that needs the control key; `serve` until it is told to stop.
pub fn run_control(config: &Config, command: super::control::LocalCommand) -> ExitCode {
    start_logging(config);
    run(async {
        super::control::run(config, command).await.map_err(|error| StartError(error.to_string()))?;
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
