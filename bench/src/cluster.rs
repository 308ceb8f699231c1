//! A cluster of processes on loopback: etcd, control, nodes and a proxy, each on free ports, with mutual TLS between them as
//! anywhere else. Takes no rights; what it measures is therefore without a network's delay.

use crate::Options;
use crate::peers::{Failure, Running, etcd, fresh_folder};
use dstore::cli::bench::client::{Address, Connection};
use dstore::cli::bench::rest::{RestSession, Server};
use dstore::cli::bench::server_cpu;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(1800);
const TENANT: &str = "bench";

/// A node or a proxy.
pub struct Member {
    /// None after it was killed.
    running: Option<Running>,
    client: String,
    metrics: String,
}

/// See the module's essay. Processes end in this order.
pub struct Cluster {
    proxy: Member,
    nodes: Vec<Member>,
    _control: Running,
    _etcd: Running,
    token: String,
}

/// How the processes of a cluster are started.
struct Ground<'a> {
    dstore: &'a Path,
    folder: PathBuf,
    etcd: String,
}

impl Ground<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.dstore);
        command
            .args(arguments)
            .env_remove("DSTORE_CONFIG")
            .env_remove("DSTORE_CONTEXT")
            .env("DSTORE_CLI_CONFIG", self.folder.join("cli.toml"))
            .env("DSTORE__COORDINATOR__KIND", "etcd")
            .env("DSTORE__COORDINATOR__ENDPOINTS", &self.etcd)
            .env("DSTORE__LOGGING__LEVEL", "warn");
        command
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn succeed(&self, arguments: &[&str]) -> Result<String, Failure> {
        let output = self.command(arguments).output()?;
        if !output.status.success() {
            return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a process and waits for the line with its addresses.
    async fn start(&self, mut command: Command, name: &str) -> Result<(Running, Value), Failure> {
        let log = self.folder.join(format!("{name}.log"));
        let mut running = Running::start(&mut command, &log)?;
        let told = async || {
            let text = std::fs::read_to_string(&log).ok()?;
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["role"].is_string() && line["metrics"].is_array())
        };
        let said = running.wait(told).await.map_err(|error| {
            format!("{name}: {error}; its output: {}", std::fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok((running, said))
    }

    async fn member(&self, role: &str, name: &str, control: &str) -> Result<Member, Failure> {
        let invited = self.succeed(&["control", "--output", "json", role, "invite", "--name", name])?;
        let invited: Value = serde_json::from_str(&invited)?;
        let token = invited["token"].as_str().ok_or("no join token")?.to_owned();
        let mut command = self.command(&[role, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
        command.args(["--control", control, "--data", &self.path(name), "--set", "client.plain_http=true"]);
        command.env("DSTORE__CONTROL__JOIN_TOKEN", token);
        if role == "node" {
            command.args(["--inside-listen", "127.0.0.1:0"]);
        }
        let (running, told) = self.start(command, name).await?;
        let (client, metrics) = (address(&told, "client")?, address(&told, "metrics")?);
        Ok(Member { running: Some(running), client, metrics })
    }
}

fn address(told: &Value, name: &str) -> Result<String, Failure> {
    told[name][0].as_str().map(str::to_owned).ok_or_else(|| format!("no address {name} in {told}").into())
}

impl Member {
    /// Its process.
    pub fn pid(&self) -> Result<u32, Failure> {
        Ok(self.running.as_ref().ok_or("it was killed")?.pid)
    }

    /// Seconds of CPU it has used.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        server_cpu::seconds(self.pid()?).ok_or_else(|| "the process is gone".into())
    }

    /// Memory that it has in use, KiB.
    pub fn memory_kib(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
    }

    /// Kills it as it stands.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// A number that it tells; lines of the same name are added up.
    pub async fn number(&self, name: &str) -> Result<f64, Failure> {
        let text = self.told("/metrics").await?;
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    async fn told(&self, path: &str) -> Result<String, Failure> {
        let (status, body) = exchange(&format!("http://{}", self.metrics), "GET", path, "", "").await?;
        if status == 200 { Ok(body) } else { Err(format!("{path} answers {status}: {body}").into()) }
    }

    async fn until_ready(&self) -> Result<(), Failure> {
        wait("a process is ready", async || Ok(self.told("/readyz").await.is_ok())).await
    }
}

impl Cluster {
    /// Starts so many nodes, all else there is, and a tenant. Data lies in a folder of this name.
    pub async fn start(options: &Options, name: &str, nodes: usize) -> Result<Cluster, Failure> {
        let (etcd, endpoint) = etcd::start(options).await?;
        let folder = fresh_folder(&options.data, name)?;
        let ground = Ground { dstore: &std::fs::canonicalize(&options.dstore)?, folder, etcd: endpoint };
        private_file(&ground.folder.join("passphrase"), "correct horse battery staple")?;
        let (data, passphrase) = (ground.path("control"), ground.path("passphrase"));
        ground.succeed(&["control", "init", "--data", &data, "--recovery-passphrase-file", &passphrase])?;
        let mut command = ground.command(&["control", "--output", "json", "serve", "--data", &data]);
        for setting in ["ADMIN", "INSIDE", "METRICS"] {
            command.env(format!("DSTORE__{setting}__LISTEN"), "127.0.0.1:0");
        }
        let (control, told) = ground.start(command, "control-process").await?;
        let (admin, inside) = (address(&told, "admin")?, address(&told, "inside")?);
        let (token_file, authority) = (format!("{data}/root.token"), format!("{data}/authority.pem"));
        let files = ["--token-file", &token_file, "--authority-file", &authority];
        ground.succeed(&[&["control", "login", &format!("https://{admin}")][..], &files].concat())?;
        let token = std::fs::read_to_string(&token_file)?.trim().to_owned();
        let control_url = format!("https://{inside}");
        let mut members = Vec::new();
        for number in 0..nodes {
            members.push(ground.member("node", &format!("node-{number}"), &control_url).await?);
        }
        let proxy = ground.member("proxy", "proxy", &control_url).await?;
        let cluster = Cluster { proxy, nodes: members, _control: control, _etcd: etcd, token };
        for member in cluster.nodes.iter().chain([&cluster.proxy]) {
            member.until_ready().await?;
        }
        cluster.server("none")?.create_tenant().await?;
        Ok(cluster)
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Member] {
        &self.nodes
    }

    /// A node.
    pub fn node(&mut self, number: usize) -> &mut Member {
        &mut self.nodes[number]
    }

    /// What clients talk to.
    pub fn proxy(&self) -> &Member {
        &self.proxy
    }

    fn url(&self) -> String {
        format!("http://{}/", self.proxy.client)
    }

    fn server(&self, table: &str) -> Result<Server, Failure> {
        Ok(Server::new(&self.url(), &self.token, TENANT, table)?)
    }

    /// Makes a table.
    pub async fn table(&self, table: &str, ranges: usize, replication_factor: usize) -> Result<(), Failure> {
        let definition =
            format!(r#"{{"id_type":"String","initial_ranges":{ranges},"replication_factor":{replication_factor}}}"#);
        Ok(self.server(table)?.create_table_as(definition.as_bytes()).await?)
    }

    /// Connections of clients that use a table.
    pub async fn sessions(&self, table: &str, connections: usize) -> Result<Vec<RestSession>, Failure> {
        let servers: Rc<[Server]> = vec![self.server(table)?].into();
        let mut sessions = Vec::new();
        for _ in 0..connections {
            sessions.push(RestSession::open(Rc::clone(&servers)).await?);
        }
        Ok(sessions)
    }

    /// Puts an item; how long that took.
    pub async fn put(&self, table: &str, id: &str) -> Result<Duration, Failure> {
        let (path, began) = (format!("/v1/tenant/{TENANT}/table/{table}/id/{id}"), Instant::now());
        let (status, body) = exchange(&self.url(), "PUT", &path, &self.token, r#"{"n":1}"#).await?;
        let time = began.elapsed();
        if matches!(status, 200 | 201) { Ok(time) } else { Err(format!("PUT answers {status}: {body}").into()) }
    }

    /// A number that all nodes tell together.
    pub async fn sum(&self, name: &str) -> Result<f64, Failure> {
        let mut sum = 0.0;
        for node in self.nodes.iter().filter(|node| node.running.is_some()) {
            sum += node.number(name).await?;
        }
        Ok(sum)
    }
}

/// Waits until something is so.
pub async fn wait(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await? {
        if Instant::now() > deadline {
            return Err(format!("it never came to that: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn exchange(url: &str, method: &str, path: &str, token: &str, body: &str) -> Result<(u16, String), Failure> {
    let address = Address::parse(url).ok_or("no URL")?;
    let mut connection = Connection::open(&address).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let answer = connection.exchange(request.as_bytes()).await?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

fn private_file(path: &Path, content: &str) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(content.as_bytes())?)
}
