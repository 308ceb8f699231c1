//! `dstore config check|show|example`: the settings of this machine, told without starting anything.

use super::OutputFormat;
use crate::config::schema::{Kind, SETTINGS};
use crate::config::{Config, ConfigError, Origins, Role, example};
use clap::{Args, Subcommand};
use std::path::Path;

/// `dstore config …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check everything that can be checked before a role starts
    Check(Which),
    /// Print every setting a role reads, and where its value came from
    Show(Which),
    /// Print a settings file with every setting, its default and what it does
    Example,
}

/// Whose settings.
#[derive(Debug, Args)]
pub struct Which {
    /// The role that would read them
    #[arg(long = "origin", value_enum, value_name = "ROLE", default_value = "dev")]
    role: Role,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the command; false where something is wrong.
pub fn run(command: &Command, file: Option<&Path>, overrides: &[(String, String)]) -> bool {
    let load = || Config::load(file, std::env::vars(), overrides.to_vec());
    match command {
        Command::Example => {
            print!("{}", example());
            true
        }
        Command::Check(which) => load().map_or_else(refuse, |(config, origins)| check(which, &config, &origins)),
        Command::Show(which) => load().map_or_else(refuse, |(_, origins)| {
            show(which, &origins);
            true
        }),
    }
}

fn refuse(error: ConfigError) -> bool {
    super::complain(&error);
    false
}

fn check(which: &Which, config: &Config, origins: &Origins) -> bool {
    let problems = config.check(which.role, origins);
    match which.output {
        OutputFormat::Json => {
            let list: Vec<_> = problems
                .iter()
                .map(|problem| serde_json::json!({"key": problem.key, "reason": problem.reason}))
                .collect();
            println!("{}", serde_json::json!({"role": which.role.as_str(), "problems": list}));
        }
        OutputFormat::Human if problems.is_empty() => println!("{}: all settings are good", which.role.as_str()),
        OutputFormat::Human => problems.iter().for_each(|problem| println!("{problem}")),
    }
    problems.is_empty()
}

fn show(which: &Which, origins: &Origins) {
    let read = SETTINGS.iter().filter(|setting| setting.is_read_by(which.role));
    let rows = read.filter_map(|setting| {
        let (value, origin) = origins.get(setting.key)?;
        // A secret that is not set is not worth a line.
        (setting.kind != Kind::Secret || value.is_some()).then_some((setting.key, value, origin.to_string()))
    });
    match which.output {
        OutputFormat::Human => rows.for_each(|(key, value, origin)| {
            println!("{key:<28} {:<28} {origin}", value.unwrap_or("-"));
        }),
        OutputFormat::Json => {
            let settings: serde_json::Map<String, serde_json::Value> = rows
                .map(|(key, value, origin)| (key.to_owned(), serde_json::json!({"value": value, "origin": origin})))
                .collect();
            println!("{}", serde_json::Value::Object(settings));
        }
    }
}
