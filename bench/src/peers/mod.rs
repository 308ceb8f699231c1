//! What is measured: each file starts one kind of server and knows how to talk to it.

pub mod bare;
pub mod dstore;
pub mod dynamodb;
pub mod etcd;
pub mod postgres;
pub mod redis;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Anything that keeps a measurement from being taken; these are told to a person and not handled.
pub type Failure = Box<dyn std::error::Error>;

/// A started server, killed when dropped.
pub struct Running {
    child: Child,
    /// The process whose descendants do the work.
    pub pid: u32,
}

impl Running {
    /// Starts `command` with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Running, Failure> {
        let file = std::fs::File::create(log)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        let child = child.map_err(|error| format!("{program} could not be started: {error}"))?;
        let pid = child.id();
        Ok(Running { child, pid })
    }

    /// Waits until `ready` says so, up to a minute.
    pub async fn wait<T>(&mut self, mut ready: impl AsyncFnMut() -> Option<T>) -> Result<T, Failure> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended at once: {status}").into());
            }
            if let Some(value) = ready().await {
                return Ok(value);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("the server was not ready within a minute".into())
    }
}

impl Running {
    /// Kills it as it stands.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first: PostgreSQL's postmaster leaves its children behind when killed. Whether it worked shows in
        // `try_wait`; nothing is left to do where even SIGKILL fails.
        let _ = Command::new("kill").arg(self.pid.to_string()).stderr(Stdio::null()).status();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An empty folder of this name below the data folder.
pub fn fresh_folder(data: &Path, name: &str) -> Result<PathBuf, Failure> {
    let folder = data.join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::canonicalize(folder)?)
}

/// A port that is free now.
pub fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
