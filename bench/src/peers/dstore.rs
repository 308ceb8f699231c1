//! dStore itself: `dstore dev` in a fresh folder, authentication and encryption on, TLS off (it listens on loopback).

use super::{Failure, Running, fresh_folder};
use crate::Options;
use dstore::cli::bench::rest::{RestSession, Server};
use dstore::cli::dynamodb::credentials::Credentials;
use std::process::Command;
use std::rc::Rc;

/// A started dStore.
pub struct Dstore {
    /// The process.
    pub running: Running,
    /// Where clients are served.
    pub url: String,
    token: String,
    /// An access key.
    pub key: Credentials,
}

impl Dstore {
    /// Starts it with further settings, as `section.name=value`.
    pub async fn start(options: &Options, name: &str, settings: &[&str]) -> Result<Dstore, Failure> {
        let folder = fresh_folder(&options.data, name)?;
        let log = folder.join("log");
        let mut command = Command::new(&options.dstore);
        command.args(["dev", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--output", "json"]);
        command
            .args(["--set", "admin.listen=127.0.0.1:0", "--set", "logging.level=warn", "--data"])
            .arg(folder.join("data"));
        for setting in settings {
            command.args(["--set", setting]);
        }
        // It writes a context for the admin CLI; the one of whoever runs this is left alone.
        command.env("DSTORE_CLI_CONFIG", folder.join("cli.toml"));
        let mut running = Running::start(&mut command, &log)?;
        let ready = async || {
            let text = std::fs::read_to_string(&log).ok()?;
            let line = text.lines().find(|line| line.starts_with("{\"") && line.contains("\"url\""))?;
            serde_json::from_str::<serde_json::Value>(line).ok()
        };
        let printed = running
            .wait(ready)
            .await
            .map_err(|error| format!("{error}; its output: {}", std::fs::read_to_string(&log).unwrap_or_default()))?;
        let field = |name: &str| {
            printed[name].as_str().map(str::to_owned).ok_or_else(|| format!("dstore dev printed no {name}"))
        };
        let key = Credentials {
            access_key_id: field("access_key_id")?,
            secret_access_key: field("secret_access_key")?.into(),
            session_token: None,
        };
        Ok(Dstore { url: field("url")?, token: field("token")?, key, running })
    }

    /// Creates tables `bench-0…` of one tenant, or one table in each of several tenants.
    pub async fn tables(&self, tenants: usize, tables: usize) -> Result<Rc<[Server]>, Failure> {
        let mut servers = Vec::new();
        for tenant in 0..tenants {
            let tenant = if tenants == 1 { "default".to_owned() } else { format!("bench-{tenant}") };
            for table in 0..tables {
                let server = Server::new(&self.url, &self.token, &tenant, &format!("bench-{table}"))?;
                if tenants > 1 && table == 0 {
                    server.create_tenant().await?;
                }
                server.create_table().await?;
                servers.push(server);
            }
        }
        Ok(servers.into())
    }

    /// A table that is there already, whoever made it.
    pub fn table(&self, table: &str) -> Result<Rc<[Server]>, Failure> {
        let servers: Rc<[Server]> = Rc::new([Server::new(&self.url, &self.token, "default", table)?]);
        Ok(servers)
    }

    /// Opens connections that spread operations over `servers`.
    pub async fn sessions(&self, servers: &Rc<[Server]>, connections: usize) -> Result<Vec<RestSession>, Failure> {
        let mut sessions = Vec::new();
        for _ in 0..connections {
            sessions.push(RestSession::open(Rc::clone(servers)).await?);
        }
        Ok(sessions)
    }
}
