//! PostgreSQL as it comes from Debian, with its defaults: `fsync` and `synchronous_commit` are on. Items are jsonb, written
//! by a prepared upsert. They travel as text, because that is what a client has; the server parses them, as dStore does.
//!
//! PostgreSQL refuses to run as root, so as root it runs as the user `postgres` that its package made.

use super::{Failure, Running, free_port, fresh_folder};
use crate::Options;
use dstore::cli::bench::item::Values;
use dstore::cli::bench::runner::Session;
use dstore::cli::bench::workload::{Kind, Operation};
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio_postgres::{Client, NoTls, Statement};

fn program(name: &str) -> Result<PathBuf, Failure> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().ok_or_else(|| format!("{name} is not installed; run scripts/bootstrap.sh bench").into())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

/// The command, as a user that PostgreSQL accepts; `setpriv` replaces itself by it, so that the process id is its own.
fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
    command
}

/// Starts it; the connection string follows.
pub async fn start(options: &Options) -> Result<(Running, String), Failure> {
    // Under root's folders the user postgres could reach nothing, so as root it gets one beside the system's own data.
    let folder = if is_root() {
        fresh_folder(Path::new("/var/lib/postgresql"), "dstore-bench")?
    } else {
        fresh_folder(&options.data, "postgres")?
    };
    if is_root() {
        run(Command::new("chown").arg("postgres:postgres").arg(&folder))?;
    }
    let data = folder.join("data");
    run(as_user(&program("initdb")?)
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "-D"])
        .arg(&data)
        .current_dir(&folder))?;
    let port = free_port()?;
    let mut command = as_user(&program("postgres")?);
    command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]).current_dir(&folder);
    let mut running = Running::start(&mut command, &folder.join("log"))?;
    let address = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let client = running.wait(async || connect(&address).await.ok()).await?;
    client.batch_execute("CREATE TABLE items (id text PRIMARY KEY, item jsonb NOT NULL)").await?;
    Ok((running, address))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr)).into())
}

async fn connect(address: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await?;
    // Its errors reach the client's calls as well.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(client)
}

/// One connection with its prepared statements.
pub struct PostgresSession {
    client: Client,
    select: Statement,
    upsert: Statement,
}

impl PostgresSession {
    /// Opens it.
    pub async fn open(address: &str) -> Result<PostgresSession, Failure> {
        let client = connect(address).await?;
        let select = client.prepare("SELECT item::text FROM items WHERE id = $1").await?;
        let upsert =
            "INSERT INTO items VALUES ($1, $2::text::jsonb) ON CONFLICT (id) DO UPDATE SET item = EXCLUDED.item";
        let upsert = client.prepare(upsert).await?;
        Ok(PostgresSession { client, select, upsert })
    }
}

impl Session for PostgresSession {
    async fn perform(&mut self, operation: &Operation, values: &mut Values) -> Result<(), String> {
        let id = operation.id();
        match operation.kind {
            Kind::Read => match self.client.query_opt(&self.select, &[&id]).await {
                Ok(Some(row)) => row.try_get::<_, &str>(0).map(drop).map_err(|error| error.to_string()),
                Ok(None) => Err("no such row".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Kind::Insert | Kind::Put => {
                let mut item = Vec::new();
                values.item(&mut item);
                let item = String::from_utf8(item).map_err(|error| error.to_string())?;
                self.client.execute(&self.upsert, &[&id, &item]).await.map(drop).map_err(|error| error.to_string())
            }
            other => Err(format!("{} is not measured here", other.as_str())),
        }
    }
}
