//! Servers of DynamoDB's protocol, measured by the same signed requests: dStore itself, dynoxide (Rust, over SQLite) and moto
//! (Python, in memory). The last two are for tests of applications: they keep one copy, encrypt nothing as they are installed
//! here, and check no signature. What they tell is what the protocol itself costs in other hands.
//!
//! | | dynoxide | moto |
//! |---|---|---|
//! | items are | in a file (`--db-path`), where it can also keep them in memory | in memory, it knows nothing else |
//! | a write is on disk when it is answered | yes, see below | no |
//! | a signature | must be there and complete; it cannot check one | is not checked, as it comes |
//! | a connection | stays open | is closed after each answer, so that each request opens one |
//!
//! dynoxide has no flag for syncs: it opens SQLite in WAL mode, makes a transaction of each write, and leaves `synchronous` as
//! SQLite has it, FULL, which syncs the log at each commit. The flushes an operation on the page must show that.
//!
//! A peer that is not installed is passed over, and that is said.

use super::{Failure, Running, free_port, fresh_folder};
use crate::Options;
use dstore::cli::bench::dynamodb::{DynamoSession, Server};
use dstore::cli::dynamodb::credentials::Credentials;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;

/// The table that is measured.
pub const TABLE: &str = "bench";
/// How long a server may take to make it; the requests for that have a shorter limit where the server answers at all.
const TABLE_PATIENCE: Duration = Duration::from_secs(90);
/// Lines of a server's output that are told where it fails.
const TAIL_LINES: usize = 5;

/// A started server.
pub struct Started {
    /// Its name.
    pub name: &'static str,
    /// The process.
    pub running: Running,
    /// Where it listens.
    pub url: String,
    log: PathBuf,
}

impl Started {
    /// What went wrong with it, with its name and what it said last.
    pub fn told(&self, error: Failure) -> Failure {
        told(self.name, &self.log, error)
    }
}

fn told(name: &str, log: &Path, error: Failure) -> Failure {
    let output = std::fs::read(log).unwrap_or_default();
    format!("{name}: {error}; the end of its output, {}:\n{}", log.display(), tail(&output)).into()
}

fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// A key for servers that take any.
pub fn any_key() -> Credentials {
    Credentials { access_key_id: "any".to_owned(), secret_access_key: "any".to_owned().into(), session_token: None }
}

/// Makes the table.
pub async fn table(url: &str, key: Credentials) -> Result<Rc<Server>, Failure> {
    let server = Server::new(url, key, "us-east-1".to_owned(), TABLE)?;
    let made = tokio::time::timeout(TABLE_PATIENCE, server.create_table()).await;
    made.map_err(|_| format!("the table was not made within {} s", TABLE_PATIENCE.as_secs()))??;
    Ok(Rc::new(server))
}

/// Opens connections.
pub async fn sessions(server: &Rc<Server>, connections: usize) -> Result<Vec<DynamoSession>, Failure> {
    let mut sessions = Vec::with_capacity(connections);
    for _ in 0..connections {
        sessions.push(DynamoSession::open(Rc::clone(server)).await?);
    }
    Ok(sessions)
}

/// Starts dynoxide over a file; nothing where it is not installed.
pub async fn start_dynoxide(options: &Options) -> Result<Option<Started>, Failure> {
    if !is_there(&options.dynoxide) {
        return Ok(None);
    }
    let folder = fresh_folder(&options.data, "dynoxide")?;
    let mut command = Command::new(&options.dynoxide);
    let port = free_port()?;
    command
        .args(["serve", "--host", "127.0.0.1", "--port", &port.to_string(), "--db-path"])
        .arg(folder.join("data.db"))
        // It logs by this variable: what somebody has set for another program would cost it time.
        .env_remove("RUST_LOG");
    start("dynoxide", command, &folder, port).await.map(Some)
}

/// Starts moto; nothing where it is not installed.
pub async fn start_moto(options: &Options) -> Result<Option<Started>, Failure> {
    if !is_there(&options.moto) {
        return Ok(None);
    }
    let folder = fresh_folder(&options.data, "moto")?;
    let mut command = Command::new(&options.moto);
    let port = free_port()?;
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    start("moto", command, &folder, port).await.map(Some)
}

fn is_there(program: &Path) -> bool {
    let is_there = program.exists();
    if !is_there {
        eprintln!("bench: {} is not there, and left out; scripts/bootstrap.sh bench installs it", program.display());
    }
    is_there
}

async fn start(name: &'static str, mut command: Command, folder: &Path, port: u16) -> Result<Started, Failure> {
    let log = folder.join("log");
    let mut running = Running::start(&mut command, &log)?;
    let listens = running.wait(async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    listens.map_err(|error| told(name, &log, error))?;
    Ok(Started { name, running, url: format!("http://127.0.0.1:{port}"), log })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_ends_at_once_is_named_with_what_it_said() {
        let folder = fresh_folder(&std::env::temp_dir(), &format!("dstore-bench-peer-{}", std::process::id())).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "for n in 1 2 3 4 5 6; do echo line $n; done; exit 3"]);
        // Port 1 has no listener, so that only the end of the process can end the waiting.
        let failed = start("somebody", command, &folder, 1).await.map(|_| ()).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(failed.starts_with("somebody: the server ended at once"), "{failed}");
        assert!(failed.ends_with("line 2\nline 3\nline 4\nline 5\nline 6"), "{failed}");
    }

    #[test]
    fn the_end_of_an_output_is_cut_by_lines() {
        assert_eq!(tail(b""), "");
        assert_eq!(tail(b"a\nb\n\n"), "a\nb");
        assert_eq!(tail(b"1\n2\n3\n4\n5\n6\n"), "2\n3\n4\n5\n6");
    }
}
