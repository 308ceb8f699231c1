//! A real PostgreSQL for tests, which each test starts for itself on a port of its own, and which ends with the test, whatever becomes
//! of it. As root it runs as the user `postgres` that its package made, since it refuses to run as root.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;
use tokio_postgres::{Config, NoTls};

/// A server in a folder of its own.
pub struct Server {
    process: Option<Child>,
    programs: PathBuf,
    folder: tempfile::TempDir,
    /// Where it listens, on loopback.
    pub port: u16,
    /// Holds the port while the server is away: bound, so that nobody else is given it, and not listened on.
    _held: TcpSocket,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program, as a user that PostgreSQL accepts; it ends when the test's thread does.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.arg(program);
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    /// Starts one, with TLS where a certificate and its key are given; none where PostgreSQL is not installed, which is said.
    pub async fn start(certificate: Option<(&str, &str)>) -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> =
            versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
        found.sort();
        let Some(programs) = found.pop() else {
            let _ =
                std::io::stderr().write_all(b"SKIPPED: PostgreSQL is not installed; run scripts/bootstrap.sh test\n");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        std::fs::write(&password, "hunter2").expect("is written");
        let own = |path: &Path| is_root().then(|| run(Command::new("chown").arg("postgres:postgres").arg(path)));
        own(folder.path());
        own(&password);
        run(as_user(&programs.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(&data)
            .current_dir(folder.path()));
        if let Some((certificate, key)) = certificate {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                std::fs::write(data.join(name), text).expect("is written");
                run(Command::new("chmod").arg("600").arg(data.join(name)));
                own(&data.join(name));
            }
            let settings = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"));
            settings.expect("is there").write_all(b"ssl = on\n").expect("is written");
        }
        let held = TcpSocket::new_v4().expect("a socket");
        // As PostgreSQL does, too: else it could not listen there.
        held.set_reuseaddr(true).expect("an option of the socket");
        held.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let port = held.local_addr().expect("is bound").port();
        let mut server = Self { process: None, programs, folder, port, _held: held };
        server.start_again().await;
        Some(server)
    }

    /// Starts it again, over what it has kept.
    pub async fn start_again(&mut self) {
        let mut command = as_user(&self.programs.join("postgres"));
        command.arg("-D").arg(self.folder.path().join("data"));
        command.args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", "", "-F"]);
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        let child = command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(child.spawn().expect("starts"));
        self.until_it_answers().await;
    }

    async fn until_it_answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.config().connect(NoTls).await {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{error}: {log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// At once, as in a crash.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let id = rustix::process::Pid::from_child(&process);
            let _ = rustix::process::kill_process(id, rustix::process::Signal::QUIT);
            let _ = process.wait();
        }
    }

    /// How to reach it, without TLS.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("postgres").dbname("postgres").password("hunter2");
        config
    }
}
