//! The command line: what can be typed, and the commands that need no role to run here.
//!
//! [`enter`] reads the arguments and loads the settings. A role (`dstore dev|node|proxy|reporting`) is handed back
//! to `main`, which alone knows how roles are assembled, so that this module never imports them; every other command
//! runs here, talks HTTP to a server that runs elsewhere, and ends with an exit code:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | refused or failed; the reason is on stderr |
//! | 2 | the command line could not be understood |
//! | 3 | the server could not be reached (`dstore control …`) |
//! | 4, 5 | there is no such thing; not allowed (`dstore control …`) |
//!
//! Results go to stdout and everything else (progress, warnings, errors) to stderr, so that output can be piped. Secrets are
//! never arguments: other users of the machine can read those.

pub mod bench;
mod config;
pub mod control;
mod copy;
pub mod dynamodb;
mod flags;
mod health;
mod version;

pub use flags::{DevFlags, ListenFlags, NodeFlags, OutputFormat, ProxyFlags, ReportingFlags};

use crate::config::{Config, Origins, Role};
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// A federated, multi-tenant, encrypted, distributed key/value store.
///
/// Start on this machine: dstore dev. It prints a URL, a token and commands to paste.
#[derive(Debug, Parser)]
#[command(name = "dstore", version, long_version = version::long(), propagate_version = false)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Settings file in TOML; `dstore config example` prints one
    #[arg(long, global = true, env = "DSTORE_CONFIG", value_name = "FILE", help_heading = "Settings of this machine")]
    pub config: Option<PathBuf>,
    /// Any setting by its key, as in --set log.segment_mib=16; may be given several times
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = flags::key_value)]
    #[arg(help_heading = "Settings of this machine")]
    pub set: Vec<(String, String)>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process on this machine: for development and single-machine use
    #[command(after_help = control::examples::DEV)]
    Dev(DevFlags),
    /// Store data as a member of a cluster, or with --standalone as its own control plane
    #[command(after_help = control::examples::SERVER_NODE)]
    Node(NodeFlags),
    /// Be the public entry of a cluster
    #[command(after_help = control::examples::SERVER_PROXY)]
    Proxy(ProxyFlags),
    /// Gather what a cluster's tenants use, answer what was used, and hand it on
    #[command(after_help = control::examples::SERVER_REPORTING)]
    Reporting(ReportingFlags),
    /// Make, serve and administer a cluster
    Control(control::ControlCommand),
    /// Measure a server with the YCSB core workloads
    Bench(bench::Options),
    /// Ask a process of any role whether it is alive, or serves: for health checks and scripts
    #[command(after_help = control::examples::HEALTH)]
    Health(health::HealthFlags),
    /// Copy the data folder of a running process, as a backup
    #[command(after_help = control::examples::COPY)]
    Copy(copy::CopyFlags),
    /// Show and check the settings of this machine, without a server
    #[command(subcommand)]
    Config(config::Command),
    /// Print a completion script for a shell, as in: source <(dstore completions bash)
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What `main` has to do after the command line was read.
#[derive(Debug)]
pub enum Entry {
    /// Nothing more: end with this code.
    Finished(ExitCode),
    /// Run a role until it is told to stop.
    Serve(Box<Serve>),
}

/// A role to run.
#[derive(Debug)]
pub struct Serve {
    /// Which, with the flags that are no settings.
    pub command: ServeCommand,
    /// The merged settings.
    pub config: Config,
    /// Where each came from.
    pub origins: Origins,
}

/// The roles, with the flags that are no settings.
#[derive(Debug)]
pub enum ServeCommand {
    /// `dstore dev`
    Dev(DevFlags),
    /// `dstore node`
    Node(NodeFlags),
    /// `dstore proxy`
    Proxy(ProxyFlags),
    /// `dstore reporting`
    Reporting(ReportingFlags),
    /// `dstore control init|serve|recovery`
    Control(control::ControlCommand),
}

impl ServeCommand {
    /// The role, for checking its settings.
    pub fn role(&self) -> Role {
        match self {
            ServeCommand::Dev(_) => Role::Dev,
            ServeCommand::Node(flags) if flags.standalone => Role::Standalone,
            ServeCommand::Node(_) => Role::Node,
            ServeCommand::Proxy(_) => Role::Proxy,
            ServeCommand::Reporting(_) => Role::Reporting,
            ServeCommand::Control(_) => Role::Control,
        }
    }
}

/// Reads the command line and does everything but running a role. Prints its own errors.
pub fn enter(arguments: impl IntoIterator<Item = OsString>) -> Entry {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with code 0. Nothing can be done about a closed stdout.
            let _ = error.print();
            return Entry::Finished(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    let finished = |good: bool| Entry::Finished(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    match cli.command {
        Command::Dev(flags) => {
            let overrides = [flags.overrides(), cli.set].concat();
            serve(ServeCommand::Dev(flags), cli.config, overrides)
        }
        Command::Node(flags) => {
            let overrides = [flags.overrides(), cli.set].concat();
            serve(ServeCommand::Node(flags), cli.config, overrides)
        }
        Command::Proxy(flags) => {
            let overrides = [flags.overrides(), cli.set].concat();
            serve(ServeCommand::Proxy(flags), cli.config, overrides)
        }
        Command::Reporting(flags) => {
            let overrides = [flags.overrides(), cli.set].concat();
            serve(ServeCommand::Reporting(flags), cli.config, overrides)
        }
        Command::Control(command) if command.is_local() => {
            let overrides = [command.overrides(), cli.set].concat();
            serve(ServeCommand::Control(command), cli.config, overrides)
        }
        Command::Control(command) => Entry::Finished(command.run()),
        Command::Bench(options) => finished(bench::run(&options)),
        Command::Health(flags) => Entry::Finished(health::run(&flags, cli.config.as_deref(), &cli.set)),
        Command::Copy(flags) => finished(copy::run(&flags)),
        Command::Config(command) => finished(config::run(&command, cli.config.as_deref(), &cli.set)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "dstore", &mut std::io::stdout());
            finished(true)
        }
    }
}

/// Loads and checks the settings of a role.
fn serve(command: ServeCommand, file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Entry {
    let (config, origins) = match Config::load(file.as_deref(), std::env::vars(), overrides) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error);
            return Entry::Finished(ExitCode::FAILURE);
        }
    };
    let problems = config.check(command.role(), &origins);
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    if !problems.is_empty() {
        return Entry::Finished(ExitCode::FAILURE);
    }
    Entry::Serve(Box::new(Serve { command, config, origins }))
}

/// Prints an error and what caused it, a line each.
pub fn complain(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound_and_every_command_explains_itself() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut open = vec![command];
        while let Some(command) = open.pop() {
            assert!(command.get_about().is_some(), "{} says nothing of itself", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            open.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn flags_become_settings_and_win() {
        let arguments = ["dstore", "dev", "--data", "/x", "--listen", "127.0.0.1:0", "--set", "node.zone=b"];
        let cli = Cli::try_parse_from(arguments).expect("is understood");
        let Command::Dev(flags) = cli.command else { panic!("dev") };
        let (config, _) = Config::load(None, [], [flags.overrides(), cli.set].concat()).expect("loads");
        assert_eq!((config.data.dir.to_str(), config.client.listen.port()), (Some("/x"), 0));
        assert_eq!(config.node.zone, "b");
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in
            [&["dstore", "dance"][..], &["dstore", "dev", "--set", "novalue"], &["dstore", "dev", "--nodes", "0"]]
        {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
