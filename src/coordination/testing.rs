//! A real etcd for tests, as a child process on free loopback ports with a folder of its own. It can be
//! stopped, killed, paused and started again on the same port over the same data. Compiled into the
//! library so that tests outside of it can use it, too; no role does.
//!
//! Tests take free ports all the time, and one that a stopped process has given back is free. So the ports are
//! held meanwhile ([`HeldPort`]); tests that start other processes again hold theirs in the same way.
//!
//! Everything here blocks; the longest wait is a second or two for an election of one.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpSocket;

/// How long etcd may take to answer for the first time.
const START_DEADLINE: Duration = Duration::from_secs(120);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A port of loopback that stays its holder's while the process that listens there is away: bound, so that nobody else is
/// given it, and not listened on, so that this process may be. Both sides set `SO_REUSEADDR`, as whoever listens does.
pub struct HeldPort {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl HeldPort {
    /// Takes a free one.
    ///
    /// # Errors
    /// Where none is free.
    pub fn take() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What differs from a plain etcd.
#[derive(Debug, Clone, Default)]
pub struct EtcdServerOptions {
    /// Serve TLS: further arguments name the files (`--cert-file=…`).
    pub tls: bool,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// A running (or stopped) etcd. Dropping it kills it and removes its folder.
pub struct EtcdServer {
    options: EtcdServerOptions,
    folder: PathBuf,
    client: HeldPort,
    peer: HeldPort,
    metrics: HeldPort,
    child: Option<Child>,
}

impl EtcdServer {
    /// A plain etcd, ready to answer.
    ///
    /// # Errors
    /// Where `etcd` is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(EtcdServerOptions::default())
    }

    /// An etcd with options, ready to answer.
    ///
    /// # Errors
    /// As [`EtcdServer::start`].
    pub fn start_with(options: EtcdServerOptions) -> Result<Self> {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("dstore-etcd-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let (client, peer, metrics) = (HeldPort::take()?, HeldPort::take()?, HeldPort::take()?);
        let mut server = Self { options, folder, client, peer, metrics, child: None };
        server.restart()?;
        Ok(server)
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        let scheme = if self.options.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.client.address())
    }

    /// Where its data and log lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// Where the process cannot be signalled.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.reap()
    }

    /// Kills it as it stands.
    ///
    /// # Errors
    /// As [`EtcdServer::stop`].
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.reap()
    }

    /// Lets it stand still, connections open: the way a network that loses everything looks. Returns when it does,
    /// which on a busy machine is a while after the signal was sent.
    ///
    /// # Errors
    /// As [`EtcdServer::stop`].
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + START_DEADLINE;
        while !self.stands_still()? {
            if Instant::now() > deadline {
                return Err(Error::new(ErrorKind::TimedOut, "etcd does not stop"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Whether each of its threads is stopped (`T` in Linux's proc(5)).
    fn stands_still(&self) -> Result<bool> {
        let child = self.child.as_ref().ok_or_else(|| Error::other("etcd is not running"))?;
        for thread in std::fs::read_dir(format!("/proc/{}/task", child.id()))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
            if state != Some('T') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// As [`EtcdServer::stop`].
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Starts it (again) on the same ports over the same data, and waits until it answers.
    ///
    /// # Errors
    /// Where it ends or does not answer in time; the error has the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            self.kill()?;
        }
        self.child = Some(self.command()?.spawn()?);
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if self.is_healthy() {
                return Ok(());
            }
            if let Some(child) = self.child.as_mut()
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                return Err(Error::other(format!("etcd has ended with {status}: {}", self.log_tail())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Error::new(ErrorKind::TimedOut, format!("etcd does not answer: {}", self.log_tail())))
    }

    fn command(&self) -> Result<Command> {
        let client = self.endpoint();
        let peer = format!("http://{}", self.peer.address());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = Command::new("etcd");
        command
            .arg(format!("--data-dir={}", self.folder.join("data").display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"))
            .arg(format!("--listen-metrics-urls=http://{}", self.metrics.address()))
            .args(["--heartbeat-interval=50", "--election-timeout=500", "--logger=zap", "--log-level=warn"])
            .args(&self.options.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    fn is_healthy(&self) -> bool {
        let ask = || -> Result<String> {
            let mut stream = TcpStream::connect(self.metrics.address())?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().ok_or_else(|| Error::other("etcd is not running"))?;
        kill_process(Pid::from_child(child), signal).map_err(Error::from)
    }

    fn reap(&mut self) -> Result<()> {
        match self.child.take() {
            Some(mut child) => child.wait().map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_held_port_is_listened_on_again_and_again() {
        let held = HeldPort::take().unwrap();
        for _ in 0..3 {
            assert!(TcpStream::connect(held.address()).is_err(), "nobody listens");
            let listener = TcpListener::bind(held.address()).unwrap();
            TcpStream::connect(held.address()).unwrap();
            listener.accept().unwrap();
            assert!(TcpListener::bind(held.address()).is_err(), "one listens, and no other");
        }
    }
}
