//! Settings: defaults, then the file, then the environment, then flags, into one checked [`Config`].
//!
//! Every setting is one line of the table in [`schema`]: key, kind, default, one sentence. From it come the checks of
//! values, the errors that name an unknown key and its nearest neighbour, the file `docs/dstore.example.toml`,
//! and what `dstore config show --origin` prints. The structures below are the same settings as types; a
//! test holds both together.
//!
//! | source | spelling of the same setting | wins over |
//! |---|---|---|
//! | default | the table in `schema.rs` | nothing |
//! | file, `--config PATH` | `[client]` `listen = "0.0.0.0:8080"` | defaults |
//! | environment | `DSTORE__CLIENT__LISTEN=0.0.0.0:8080` | the file |
//! | flag | `--listen 0.0.0.0:8080` | everything |
//!
//! What is checked when: keys and single values while loading (a typing error is told before anything starts), and
//! what concerns several settings, files or folders by [`Config::check`] for one role, before it listens.
//!
//! Secrets are never flags (other users of the machine see those) and never stand in the file (it is copied about and
//! shown to colleagues): they come from a file of their own or from the environment, and [`Secret`] prints as `(secret)`.
//!
//! Rejected: deriving everything from the structures by serde alone. It cannot say where a value came
//! from, its errors name types instead of keys, and it has no place for the sentence that explains a setting.

mod check;
pub mod contexts;
mod example;
mod load;
pub mod schema;
pub mod sinks;
mod values;

pub use crate::domain::watermark::Watermark;
pub use check::Problem;
pub use example::example;
pub use load::{ConfigError, Origin, Origins};
pub use values::Secret;

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A role that a process can play; each reads its part of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Role {
    /// All roles in one process.
    Dev,
    /// A node that is its own control plane.
    Standalone,
    /// Stores data.
    Node,
    /// Public entry; holds no data.
    Proxy,
    /// Admin API and placement.
    Control,
    /// Collects usage.
    Reporting,
}

impl Role {
    /// Its name, as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Dev => "dev",
            Role::Standalone => "standalone",
            Role::Node => "node",
            Role::Proxy => "proxy",
            Role::Control => "control",
            Role::Reporting => "reporting",
        }
    }
}

/// All settings, merged, each value checked by itself. Made by [`Config::load`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where this process keeps its data.
    pub data: Data,
    /// The listener for clients.
    pub client: Client,
    /// The listener for other roles.
    pub inside: Inside,
    /// The listener for the admin API and the console.
    pub admin: Admin,
    /// The listener for metrics and health.
    pub metrics: Metrics,
    /// etcd, or the embedded store.
    pub coordinator: Coordinator,
    /// How to reach control and how to join.
    pub control: Control,
    /// What a node says of itself.
    pub node: Node,
    /// The commit log.
    pub log: Log,
    /// Memory budgets.
    pub memory: Memory,
    /// What a reporter gathers, and how long it keeps it.
    pub reporting: Reporting,
    /// When work is refused.
    pub limits: Limits,
    /// What is counted.
    pub usage: Usage,
    /// What is logged, and how.
    pub logging: Logging,
    /// Where traces go.
    pub tracing: Tracing,
    /// How keys that rest on this machine are sealed.
    pub keys: Keys,
}

/// `[data]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The folder for everything this process keeps.
    pub dir: PathBuf,
}

/// `[client]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The URL under which clients reach this process, where it is not the address it listens on.
    pub advertise: Option<String>,
    /// Certificate chain, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Whether HTTP without TLS may be served where other machines reach it.
    pub plain_http: bool,
    /// The domain below which each tenant has a host of its own.
    pub domain: Option<String>,
}

/// `[inside]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// Address and port; always mutual TLS.
    pub listen: SocketAddr,
    /// The URL under which other roles reach this process.
    pub advertise: Option<String>,
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port.
    pub listen: SocketAddr,
    /// Certificate chain, PEM; without it control's own CA issues one.
    pub tls_cert: Option<PathBuf>,
    /// Private key, PEM.
    pub tls_key: Option<PathBuf>,
}

/// `[metrics]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Address and port.
    pub listen: SocketAddr,
}

/// Which coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoordinatorKind {
    /// In this process, kept in its data folder.
    Embedded,
    /// An etcd cluster.
    Etcd,
}

/// `[coordinator]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordinator {
    /// Which one.
    pub kind: CoordinatorKind,
    /// URLs of etcd's members.
    #[serde(deserialize_with = "values::one_or_many")]
    pub endpoints: Vec<String>,
    /// CA that signed etcd's certificate, PEM.
    pub ca: Option<PathBuf>,
    /// Client certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// User name.
    pub user: Option<String>,
    /// File that holds the user's password.
    pub password_file: Option<PathBuf>,
    /// The password itself; from the environment only.
    pub password: Option<Secret>,
    /// What every key begins with.
    pub prefix: String,
    /// etcd's quota, where it does not tell it itself, in MiB.
    pub quota_mib: u64,
}

/// `[control]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// URL of control's inside listener.
    pub url: Option<String>,
    /// File that holds a one-time join token.
    pub join_token_file: Option<PathBuf>,
    /// The token itself; from the environment only.
    pub join_token: Option<Secret>,
    /// The control plane's CA, PEM, where it did not come with the token.
    pub ca: Option<PathBuf>,
    /// File that holds control's own key, which seals the secrets it keeps in the coordinator.
    pub key_file: Option<PathBuf>,
    /// After how many seconds of silence a node's copies are made anew elsewhere.
    pub node_lost_after: u64,
    /// Copies of a range that are placed, at most, whatever tables ask for.
    pub replicas_max: u8,
}

/// `[node]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The zone, for spreading replicas.
    pub zone: String,
    /// The set of zones that a table may be pinned to; `NA` when free.
    pub location: String,
    /// In how many seconds all files are verified and all copies compared.
    pub scrub_period: u64,
    /// In how many seconds tables whose items expire are looked through.
    pub expiry_period: u64,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Size of one segment file, in MiB.
    pub segment_mib: u64,
    /// How large all segments together may grow before writers are held back, in MiB.
    pub budget_mib: u64,
}

/// `[memory]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// For writes that are not in SQLite yet, in MiB.
    pub tables_mib: u64,
    /// For items read lately, in MiB; 0 for no cache.
    pub item_cache_mib: u64,
}

/// `[reporting]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reporting {
    /// For how many hours records are kept that all sinks have.
    pub records_hours: u64,
    /// Whether notices and what admins did become records, too.
    pub events: bool,
    /// Free space on the disk below which nothing more is gathered.
    pub disk_refuse: Watermark,
    /// The file that names the sinks.
    pub sinks_file: Option<PathBuf>,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests that may wait at once.
    pub queue: usize,
    /// Client connections at once.
    pub connections: usize,
    /// Replica files open at once.
    pub open_files: usize,
    /// Free space on the disk below which a notice is written.
    pub disk_notice: Watermark,
    /// Free space on the disk below which writes are refused.
    pub disk_refuse: Watermark,
    /// How long a request's body may take to arrive, in seconds.
    pub body_seconds: u64,
    /// How long a process that stops waits for the work it has begun, in seconds.
    pub drain_seconds: u64,
}

/// `[usage]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Counts on disk that reporting has not taken yet, at most, in MiB.
    pub spool_mib: u64,
    /// Tenants that have counters of their own in `/metrics`.
    pub tenants: usize,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[logging]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// How lines look.
    pub format: LogFormat,
    /// The least level, or directives such as `info,dstore::storage=debug`.
    pub level: String,
    /// Which requests get a line.
    pub requests: LoggedRequests,
    /// From how many milliseconds on a request is told to be slow; 0 for never.
    pub slow_ms: u64,
}

/// Which requests get a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoggedRequests {
    /// None.
    None,
    /// Those answered with a status of 500 and above.
    Errors,
    /// All.
    All,
}

/// `[tracing]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// The collector that spans are sent to.
    pub endpoint: Option<String>,
    /// Which part of all requests is sampled, besides those that their clients sample.
    pub sample: f64,
}

/// `[keys]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// File that holds the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// The passphrase itself; from the environment only.
    pub passphrase: Option<Secret>,
}

#[cfg(test)]
mod tests;
