//! etcd as it comes from Debian, one member, by its own client.

use super::{Failure, Running, free_port, fresh_folder};
use crate::Options;
use dstore::cli::bench::item::Values;
use dstore::cli::bench::runner::Session;
use dstore::cli::bench::workload::{Kind, Operation};
use etcd_client::Client;
use std::process::Command;

/// Starts it; the URL follows.
pub async fn start(options: &Options) -> Result<(Running, String), Failure> {
    let folder = fresh_folder(&options.data, "etcd")?;
    let (client, peer) = (free_port()?, free_port()?);
    let (url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder.join("data"));
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    command.args(["--initial-cluster", &format!("default={peer_url}"), "--log-level", "error"]);
    // Long runs of 1 KiB values would meet the default limit of 2 GiB.
    command.args(["--quota-backend-bytes", &(8u64 << 30).to_string()]);
    let mut running = Running::start(&mut command, &folder.join("log"))?;
    running.wait(async || Client::connect([&url], None).await.ok()?.get("x", None).await.ok()).await?;
    Ok((running, url))
}

/// One connection.
pub struct EtcdSession {
    client: Client,
}

impl EtcdSession {
    /// Opens it.
    pub async fn open(url: &str) -> Result<EtcdSession, Failure> {
        Ok(EtcdSession { client: Client::connect([url], None).await? })
    }
}

impl Session for EtcdSession {
    async fn perform(&mut self, operation: &Operation, values: &mut Values) -> Result<(), String> {
        let id = operation.id();
        match operation.kind {
            Kind::Read => {
                let answer = self.client.get(id, None).await.map_err(|error| error.to_string())?;
                if answer.kvs().is_empty() { Err("no such key".to_owned()) } else { Ok(()) }
            }
            Kind::Insert | Kind::Put => {
                let mut item = Vec::new();
                values.item(&mut item);
                self.client.put(id, item, None).await.map(drop).map_err(|error| error.to_string())
            }
            other => Err(format!("{} is not measured here", other.as_str())),
        }
    }
}
