//! Log lines, to stderr, as the settings say; and the level that is changed while the process runs, as control wishes
//! ([`crate::services::log_level`]).
//!
//! The filter lies behind a handle that stays with the process, because the logger itself is the process's and cannot be
//! set twice. A wish replaces the level of dStore's own code and nothing else in it.

use std::sync::{Arc, OnceLock};

use tokio::task::JoinHandle;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{Config, LogFormat};
use crate::domain::Clock;
use crate::services::log_level::{self, LevelSource, LogLevel};

/// Exchanges the filter, and the directives that the settings gave it.
type Filter = (Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>, String);

static FILTER: OnceLock<Filter> = OnceLock::new();

/// Sends log lines to stderr, as the settings say.
pub fn start_logging(config: &Config) {
    start_logging_at(config, &config.logging.level);
}

/// The same at another level.
pub fn start_logging_at(config: &Config, level: &str) {
    // The server's library tells of its threads at this level, which is of use to nobody who runs a store.
    let level = if level == "info" { "info,actix_server=warn,actix_http=warn" } else { level };
    // It calls what any client can send an error of ours. Who wants to see it names it.
    // And openraft warns of each message that did not arrive. What that comes to for a group, its host tells.
    let directives = format!("actix_http::h1::dispatcher=off,openraft=error,{level}");
    let filter = EnvFilter::try_new(&directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    let started = match config.logging.format {
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = FILTER.set((Box::new(move |filter| handle.reload(filter)), directives));
            builder.try_init()
        }
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = FILTER.set((Box::new(move |filter| handle.reload(filter)), directives));
            builder.try_init()
        }
    };
    if started.is_err() {
        eprintln!("warning: logging was set up before; its settings are not used");
    }
}

/// Follows what is wished for, until the task is aborted.
pub fn follow(source: impl LevelSource, clock: Arc<dyn Clock>) -> JoinHandle<()> {
    tokio::spawn(async move { log_level::follow(source, &*clock, set).await })
}

/// Logs at this level from now on; none: at the one of the settings.
fn set(level: Option<LogLevel>) {
    let Some((reload, directives)) = FILTER.get() else { return };
    let changed = EnvFilter::try_new(wished(directives, level)).map(reload);
    match changed {
        Ok(Ok(())) => {
            tracing::warn!(level = level.map_or("as in the settings", LogLevel::word), "the log level was changed")
        }
        Ok(Err(error)) => tracing::error!(%error, "the log level stays as it is"),
        Err(error) => tracing::error!(%error, "the log level stays as it is"),
    }
}

/// The directives of the settings with another level for dStore's own code. The last one of the same target counts; those
/// for single modules of it stay, as somebody wrote them down for a reason.
fn wished(directives: &str, level: Option<LogLevel>) -> String {
    match level {
        Some(level) => format!("{directives},dstore={}", level.word()),
        None => directives.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_changes_our_own_code_and_nothing_else() {
        use tracing_subscriber::Registry;
        use tracing_subscriber::layer::SubscriberExt;
        let seen = |directives: &str, level| {
            let filter = EnvFilter::try_new(wished(directives, level)).unwrap();
            let subscriber = Registry::default().with(filter);
            tracing::subscriber::with_default(subscriber, || {
                [
                    tracing::enabled!(target: "dstore::services", tracing::Level::DEBUG),
                    tracing::enabled!(target: "dstore::request", tracing::Level::INFO),
                    tracing::enabled!(target: "hyper::client", tracing::Level::DEBUG),
                    tracing::enabled!(target: "h2", tracing::Level::INFO),
                ]
            })
        };
        assert_eq!(seen("info", None), [false, true, false, true]);
        assert_eq!(seen("info", Some(LogLevel::Trace)), [true, true, false, true]);
        assert_eq!(seen("info,dstore=debug", Some(LogLevel::Warn)), [false, false, false, true]);
        assert_eq!(seen("warn", Some(LogLevel::Debug)), [true, true, false, false]);
    }
}
