//! Flags of the roles. Most are settings by a shorter name and become overrides of them; what is left in these structures
//! afterwards is no setting: it concerns one start only.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Where a role keeps its data and listens.
#[derive(Debug, Clone, Default, Args)]
pub struct ListenFlags {
    /// Folder for everything that is kept (setting data.dir)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address for clients; port 0 takes a free one (setting client.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Address for metrics and health (setting metrics.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// Least level of log lines; dstore dev has warn where none is given (setting logging.level)
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How log lines look: text or json (setting logging.format)
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// File with the passphrase that seals keys on this machine (setting keys.passphrase_file)
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl ListenFlags {
    /// The same as settings.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        overrides([
            ("data.dir", path(&self.data)),
            ("client.listen", self.listen.clone()),
            ("metrics.listen", self.metrics_listen.clone()),
            ("logging.level", self.log_level.clone()),
            ("logging.format", self.log_format.clone()),
            ("keys.passphrase_file", path(&self.passphrase_file)),
        ])
    }
}

/// Flags of `dstore dev`.
#[derive(Debug, Clone, Args)]
pub struct DevFlags {
    /// Settings by flag
    #[command(flatten)]
    pub listen: ListenFlags,
    /// Address for the admin API, on loopback; port 0 takes a free one (setting admin.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<String>,
    /// How many nodes to run in the process
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: u16,
    /// Print the address and credentials for people, or as one line of JSON
    #[arg(long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

impl DevFlags {
    /// The same as settings, as far as they are settings.
    pub fn overrides(&self) -> Vec<(String, String)> {
        [self.listen.overrides(), overrides([("admin.listen", self.admin_listen.clone())])].concat()
    }
}

/// Flags of roles that join a control plane.
#[derive(Debug, Clone, Default, Args)]
pub struct JoinFlags {
    /// URL of the control plane (setting control.url)
    #[arg(long, value_name = "URL")]
    pub control: Option<String>,
    /// File with the one-time join token, for the first start (setting control.join_token_file)
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
}

impl JoinFlags {
    /// The same as settings.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let token_file = self.join_token_file.as_ref().map(|path| path.display().to_string());
        overrides([("control.url", self.control.clone()), ("control.join_token_file", token_file)])
    }
}

/// Flags of `dstore node`.
#[derive(Debug, Clone, Default, Args)]
pub struct NodeFlags {
    /// Settings by flag
    #[command(flatten)]
    pub listen: ListenFlags,
    /// Address for other roles, always with mutual TLS; port 0 takes a free one (setting inside.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub inside_listen: Option<String>,
    /// How to join
    #[command(flatten)]
    pub join: JoinFlags,
    /// Serve alone, without a control plane, creating tenants and tables too
    #[arg(long, conflicts_with_all = ["control", "join_token_file"])]
    pub standalone: bool,
    /// With --standalone: address for the admin API, on loopback; port 0 takes a free one (setting admin.listen)
    #[arg(long, value_name = "ADDRESS:PORT", requires = "standalone")]
    pub admin_listen: Option<String>,
    /// With --standalone: print address and place of the credentials for people, or all of them as one line of JSON
    #[arg(long, value_enum, default_value_t, requires = "standalone")]
    pub output: OutputFormat,
}

impl NodeFlags {
    /// The same as settings, as far as they are settings.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let more =
            overrides([("inside.listen", self.inside_listen.clone()), ("admin.listen", self.admin_listen.clone())]);
        [self.listen.overrides(), more, self.join.overrides()].concat()
    }
}

/// Flags of `dstore proxy`.
#[derive(Debug, Clone, Default, Args)]
pub struct ProxyFlags {
    /// Settings by flag
    #[command(flatten)]
    pub listen: ListenFlags,
    /// Address for reporting, always with mutual TLS; a free port of this machine where none is given (setting inside.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub inside_listen: Option<String>,
    /// How to join
    #[command(flatten)]
    pub join: JoinFlags,
}

impl ProxyFlags {
    /// The same as settings.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let inside = overrides([("inside.listen", self.inside_listen.clone())]);
        [self.listen.overrides(), inside, self.join.overrides()].concat()
    }
}

/// Flags of `dstore reporting`.
#[derive(Debug, Clone, Default, Args)]
pub struct ReportingFlags {
    /// Folder for everything that is kept (setting data.dir)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address for control, always with mutual TLS; port 0 takes a free one (setting inside.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub inside_listen: Option<String>,
    /// Address for metrics and health (setting metrics.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// Least level of log lines (setting logging.level)
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How log lines look: text or json (setting logging.format)
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// File with the passphrase that seals keys on this machine (setting keys.passphrase_file)
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// How to join
    #[command(flatten)]
    pub join: JoinFlags,
}

impl ReportingFlags {
    /// The same as settings.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let own = overrides([
            ("data.dir", path(&self.data)),
            ("inside.listen", self.inside_listen.clone()),
            ("metrics.listen", self.metrics_listen.clone()),
            ("logging.level", self.log_level.clone()),
            ("logging.format", self.log_format.clone()),
            ("keys.passphrase_file", path(&self.passphrase_file)),
        ]);
        [own, self.join.overrides()].concat()
    }
}

fn overrides<const COUNT: usize>(flags: [(&str, Option<String>); COUNT]) -> Vec<(String, String)> {
    flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Reads `key=value`.
///
/// # Errors
/// Where there is no `=`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as section.name=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
