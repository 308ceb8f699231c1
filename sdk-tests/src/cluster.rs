//! A cluster of processes: etcd, control, three nodes and a proxy, each on free ports over a folder that goes with it. Whatever is
//! started here is killed when it is dropped, and where a test fails, the end of each log is shown.
//!
//! dStore's own tests have a cluster that can do more (`tests/suite/cluster.rs`) and takes dStore's library, which this package is
//! without. So it is made here once more, and only as far as a test of an SDK needs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary;

/// How long anything may take that normally takes a moment.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often etcd is started, where somebody else takes one of its ports meanwhile.
const ETCD_ATTEMPTS: usize = 3;
/// How many lines of a log are shown where a test fails.
const LOG_LINES: usize = 20;
const PASSPHRASE: &str = "correct horse battery staple";
const NODES: usize = 3;
const TENANT: &str = "acme";
/// Any port that is free.
const FREE: &str = "127.0.0.1:0";

/// A process, killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// See the module's essay.
pub struct Cluster {
    /// None where it was killed.
    nodes: Vec<Option<Running>>,
    /// Control and the proxy, and etcd as the last.
    others: Vec<Running>,
    etcd_url: String,
    /// Where clients are served: the proxy.
    pub url: String,
    /// An access key of the tenant.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    // The last: logs are shown while processes are dropped.
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts it, and waits until all of it is ready.
    ///
    /// # Panics
    /// Where it does not start: this is for tests.
    pub fn start() -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let (etcd, etcd_url) = start_etcd(folder.path());
        let mut cluster = Cluster {
            nodes: Vec::new(),
            others: vec![etcd],
            etcd_url,
            url: String::new(),
            access_key_id: String::new(),
            secret_access_key: String::new(),
            folder,
        };
        let control = cluster.start_control();
        let mut health = Vec::new();
        for number in 0..NODES {
            let (node, told) = cluster.start_member("node", number, &control);
            cluster.nodes.push(Some(node));
            health.push(address(&told, "metrics"));
        }
        let (proxy, told) = cluster.start_member("proxy", 0, &control);
        cluster.others.insert(0, proxy);
        cluster.url = format!("http://{}", address(&told, "client"));
        health.push(address(&told, "metrics"));
        for place in health {
            until("a member is ready", || get(&place, "/readyz").is_some_and(|said| said["status"] == "ready"));
        }
        Self::succeed(cluster.command(&["control", "tenant", "create", TENANT]));
        let principal = ["principal", "create", "app", "--tenant", TENANT, "--may", "read,write,admin"];
        Self::succeed(cluster.command(&[&["control"][..], &principal].concat()));
        let key = cluster.admin(&["access-key", "create", "app"]);
        let text = |name: &str| key[name].as_str().expect("an access key").to_owned();
        (cluster.access_key_id, cluster.secret_access_key) = (text("access_key_id"), text("secret_access_key"));
        cluster
    }

    /// Makes a table of a single range, with the keys `id` (String) and `sort` (Integer).
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn create_table(&self, name: &str) {
        let keys = ["--id-type", "String", "--sort-type", "Integer", "--initial-ranges", "1"];
        let create = ["control", "table", "create", name, "--tenant", TENANT];
        Self::succeed(self.command(&[&create[..], &keys].concat()));
    }

    /// Kills the node that leads the first range of a table, with SIGKILL.
    ///
    /// # Panics
    /// Where nobody is known to lead it.
    pub fn kill_leader(&mut self, table: &str) {
        let ranges = self.admin(&["range", "list", table, "--tenant", TENANT]);
        let leader = ranges[0]["leader"].as_str().expect("a leader").to_owned();
        let nodes = self.admin(&["node", "list"]);
        let mut all = nodes.as_array().expect("nodes").iter();
        let node = all.find(|node| node["id"] == leader.as_str()).expect("the leader is a node");
        let number = node["name"].as_str().and_then(|name| name.strip_prefix("node-")?.parse::<usize>().ok());
        drop(self.nodes[number.expect("a name")].take().expect("it runs"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the binary, knowing nothing of who runs the tests.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env_remove("DSTORE_CONFIG")
            .env_remove("DSTORE_CONTEXT")
            .env("HOME", self.folder.path())
            .env("DSTORE_CLI_CONFIG", self.path("cli.toml"))
            .env("DSTORE__COORDINATOR__KIND", "etcd")
            .env("DSTORE__COORDINATOR__ENDPOINTS", &self.etcd_url);
        command
    }

    /// Runs a command that has to succeed; what it printed.
    fn succeed(mut command: Command) -> String {
        let ran = command.output().expect("the binary starts");
        assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("text")
    }

    /// Runs an admin command; the JSON that it printed.
    fn admin(&self, arguments: &[&str]) -> Value {
        let text = Self::succeed(self.command(&[&["control", "--output", "json"][..], arguments].concat()));
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("JSON, not {text:?}"))
    }

    /// Starts a process that prints a line with its addresses.
    fn begin(&self, mut command: Command, name: &str) -> (Running, Value) {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut running = Running(command.spawn().expect("the binary starts"));
        let mut line = String::new();
        let stdout = running.0.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line is read");
        let told = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name} tells addresses, not {line:?}"));
        (running, told)
    }

    /// Makes a cluster and serves its control plane; where members reach it.
    fn start_control(&mut self) -> String {
        let (data, passphrase) = (self.path("control"), self.path("passphrase"));
        private_file(&passphrase, PASSPHRASE);
        let mut init = self.command(&["control", "init", "--data"]);
        init.arg(&data).arg("--recovery-passphrase-file").arg(&passphrase);
        Self::succeed(init);
        let mut serve = self.command(&["control", "--output", "json", "serve", "--data"]);
        serve.arg(&data);
        for setting in ["DSTORE__ADMIN__LISTEN", "DSTORE__INSIDE__LISTEN", "DSTORE__METRICS__LISTEN"] {
            serve.env(setting, FREE);
        }
        let (control, told) = self.begin(serve, "control");
        self.others.insert(0, control);
        let mut login = self.command(&["control", "login", &format!("https://{}", address(&told, "admin"))]);
        login.arg("--token-file").arg(data.join("root.token"));
        login.arg("--authority-file").arg(data.join("authority.pem"));
        Self::succeed(login);
        format!("https://{}", address(&told, "inside"))
    }

    /// Invites and starts a member.
    fn start_member(&self, role: &str, number: usize, control: &str) -> (Running, Value) {
        let name = format!("{role}-{number}");
        let invitation = self.admin(&[role, "invite", "--name", &name]);
        let token = self.path(&format!("{name}.token"));
        private_file(&token, invitation["token"].as_str().expect("a token"));
        let mut command =
            self.command(&[role, "--listen", FREE, "--metrics-listen", FREE, "--control", control, "--data"]);
        command.arg(self.path(&name)).arg("--join-token-file").arg(token).env("DSTORE__INSIDE__LISTEN", FREE);
        if role == "node" {
            command.args(["--set", "log.segment_mib=4", "--set", "log.budget_mib=64"]);
        }
        self.begin(command, &name)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                eprintln!("--- {}\n{last}", path.display());
            }
        }
    }
}

/// An etcd that answers, and where.
fn start_etcd(folder: &Path) -> (Running, String) {
    for attempt in 0..ETCD_ATTEMPTS {
        let [client, peer, health] = free_addresses();
        let (url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let log = std::fs::File::create(folder.join(format!("etcd-{attempt}.log"))).expect("a log");
        let mut command = Command::new("etcd");
        command
            .arg(format!("--data-dir={}", folder.join(format!("etcd-{attempt}")).display()))
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--listen-peer-urls={peer_url}"))
            .arg(format!("--initial-advertise-peer-urls={peer_url}"))
            .arg(format!("--initial-cluster=default={peer_url}"))
            .arg(format!("--listen-metrics-urls=http://{health}"))
            .args(["--heartbeat-interval=50", "--election-timeout=500", "--logger=zap", "--log-level=warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        let mut etcd = Running(command.spawn().expect("etcd is installed: run scripts/bootstrap.sh test"));
        let (mut is_healthy, mut has_ended) = (false, false);
        until("etcd answers", || {
            is_healthy = get(&health, "/health").is_some_and(|said| said["health"] == "true");
            has_ended = etcd.0.try_wait().expect("it is ours").is_some();
            is_healthy || has_ended
        });
        if is_healthy && !has_ended {
            return (etcd, url);
        }
    }
    panic!("etcd does not start");
}

/// Three addresses that are free. Held together, so that they are different ones.
fn free_addresses() -> [String; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind(FREE).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").to_string())
}

/// The JSON that is told at a path, where it is.
fn get(address: &str, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// An address that a process told.
fn address(told: &Value, name: &str) -> String {
    told[name][0].as_str().unwrap_or_else(|| panic!("{name} in {told}")).to_owned()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file that only its owner may read.
fn private_file(path: &Path, content: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.expect("a file").write_all(content.as_bytes()).expect("is written");
}
