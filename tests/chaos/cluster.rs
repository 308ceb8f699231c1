//! A cluster on a network of its own: etcd, control, nodes and two proxies, each in its own namespace with the same ports
//! as anywhere else. Nodes keep their data on small file systems in memory, so that a disk can be filled, and keep their key parts under a
//! passphrase, so that they start while control is away.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::network::{Host, Network};
use crate::process::{DEADLINE, Process};

/// The table that everything is written to.
pub const TABLE: &str = "/v1/tenant/acme/table/things";
/// How REST says that a table has no such item: other things may not be found either.
pub const NO_ITEM: &str = "there is no item with this key";
/// Keys that are read to see whether every range answers, at most.
const PROBES_MAX: usize = 2_000;
/// How long a command is waited for that may never be answered: longer than control waits for a node that is silent.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(4);
/// How the binary says that a command line makes no sense.
const USAGE: i32 = 2;
const PASSPHRASE: &str = "correct horse battery staple";
/// The disk of a node, in MiB, where the table has few ranges.
const DISK_MIB: u32 = 160;

/// A process and where it stands.
pub struct Member {
    /// Where it stands.
    pub host: Host,
    role: Role,
    /// None while it is down.
    pub process: Option<Process>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Etcd,
    Control,
    Node,
    Proxy,
}

impl Member {
    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://{}:8080", self.host.address)
    }

    fn health(&self) -> String {
        match self.role {
            Role::Etcd => format!("http://{}:2379/health", self.host.address),
            _ => format!("http://{}:9090/readyz", self.host.address),
        }
    }

    /// Its process.
    pub fn running(&mut self) -> &mut Process {
        let name = &self.host.name;
        self.process.as_mut().unwrap_or_else(|| panic!("{name} runs"))
    }

    /// Kills it as it stands.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }
}

/// How a cluster is made.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Nodes.
    pub nodes: usize,
    /// Copies of each range.
    pub replication_factor: usize,
    /// Ranges of the table.
    pub ranges: usize,
}

/// See the module's essay. Fields are dropped in their order: processes first, the network last.
pub struct Cluster {
    pub etcd: Member,
    pub control: Member,
    pub nodes: Vec<Member>,
    pub proxies: Vec<Member>,
    pub token: String,
    pub client: reqwest::Client,
    pub shape: Shape,
    network: Network,
}

impl Cluster {
    /// Makes a cluster with its table; none where no network can be made.
    pub async fn start(shape: Shape) -> Option<Cluster> {
        let mut network = Network::make()?;
        // Another test may have been first; any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
        let mut member = |role, name: &str| Member { host: network.host(name), role, process: None };
        let (etcd, control) = (member(Role::Etcd, "etcd"), member(Role::Control, "control"));
        let nodes = (0..shape.nodes).map(|number| member(Role::Node, &format!("node-{number}"))).collect();
        let proxies = (0..2).map(|number| member(Role::Proxy, &format!("proxy-{number}"))).collect();
        let mut cluster = Cluster { etcd, control, nodes, proxies, token: String::new(), client, shape, network };
        private_file(&cluster.path("passphrase"), PASSPHRASE);
        cluster.begin("etcd");
        cluster.until_ready(&["etcd"]).await;
        let data = cluster.text_path("control");
        let passphrase = cluster.text_path("passphrase");
        cluster.succeed(&["control", "init", "--data", &data, "--recovery-passphrase-file", &passphrase]);
        cluster.token = std::fs::read_to_string(cluster.path("control/root.token")).expect("a token").trim().to_owned();
        cluster.begin("control");
        cluster.until_ready(&["control"]).await;
        let admin = format!("https://{}:8082", cluster.control.host.address);
        let (token, authority) = (format!("{data}/root.token"), format!("{data}/authority.pem"));
        // Ready means that it serves: nothing else is waited for.
        cluster.succeed(&["control", "login", &admin, "--token-file", &token, "--authority-file", &authority]);
        cluster.join_everyone().await;
        cluster.make_table().await;
        Some(cluster)
    }

    async fn join_everyone(&mut self) {
        let members: Vec<(Role, String)> =
            self.nodes.iter().chain(&self.proxies).map(|member| (member.role, member.host.name.clone())).collect();
        for (role, name) in &members {
            let noun = if *role == Role::Node { "node" } else { "proxy" };
            let invitation = self.admin(&[noun, "invite", "--name", name]);
            private_file(&self.path(&format!("{name}.token")), invitation["token"].as_str().expect("a token"));
            if *role == Role::Node {
                // A file with what waits beside it may take some MiB, however little is in it.
                self.network.mount(name, DISK_MIB.max(4 * self.shape.ranges as u32));
            }
            self.begin(name);
        }
        let names: Vec<&str> = members.iter().map(|(_, name)| name.as_str()).collect();
        self.until_ready(&names).await;
    }

    async fn make_table(&self) {
        let tenant = format!("{}/v1/tenant/acme", self.proxies[0].url());
        assert_eq!(self.send(Method::PUT, &tenant, None).await.0, 201);
        let Shape { replication_factor, ranges, .. } = self.shape;
        let definition =
            json!({ "id_type": "String", "initial_ranges": ranges, "replication_factor": replication_factor });
        // A thousand ranges take longer to be made than one request waits; asked again for the same, nothing is made twice.
        let (url, deadline) = (format!("{}{TABLE}", self.proxies[0].url()), Instant::now() + DEADLINE * 4);
        loop {
            let (status, body) = self.send(Method::PUT, &url, Some(&definition)).await;
            if matches!(status, 200 | 201) {
                break;
            }
            assert!(matches!(status, 0 | 503) && Instant::now() < deadline, "{status} {body}");
        }
        self.until_every_range_answers().await;
    }

    /// A path in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.network.folder().join(name)
    }

    fn text_path(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The member of this name.
    pub fn member(&mut self, name: &str) -> &mut Member {
        let own = [&mut self.etcd, &mut self.control].into_iter().chain(&mut self.nodes).chain(&mut self.proxies);
        own.into_iter().find(|member| member.host.name == name).unwrap_or_else(|| panic!("{name} is no member"))
    }

    /// The nodes but this one.
    pub fn other_nodes(&self, name: &str) -> Vec<Host> {
        self.nodes.iter().map(|node| node.host.clone()).filter(|host| host.name != name).collect()
    }

    /// Fills a node's disk to the last byte.
    pub fn fill_disk(&self, name: &str) {
        let path = self.path(name).join("filler");
        let mut file = std::fs::File::create(path).expect("a file");
        let block = vec![7u8; 64 << 10];
        for size in [block.len(), 4096, 1] {
            while std::io::Write::write_all(&mut file, &block[..size]).is_ok() {}
        }
    }

    /// Frees it again.
    pub fn free_disk(&self, name: &str) {
        let _ = std::fs::remove_file(self.path(name).join("filler"));
    }

    /// Every member's name.
    pub fn names(&self) -> Vec<String> {
        let all = [&self.etcd, &self.control].into_iter().chain(&self.nodes).chain(&self.proxies);
        all.map(|member| member.host.name.clone()).collect()
    }

    /// Waits until everybody serves.
    pub async fn until_all_ready(&mut self) {
        let names = self.names();
        self.until_ready(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        self.until_every_range_answers().await;
    }

    fn surround(&self, command: &mut Command) {
        command
            .env_remove("DSTORE_CONFIG")
            .env_remove("DSTORE_CONTEXT")
            .env("HOME", self.network.folder())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("DSTORE__COORDINATOR__KIND", "etcd")
            .env("DSTORE__COORDINATOR__ENDPOINTS", format!("http://{}:2379", self.etcd.host.address))
            .env("DSTORE__LOGGING__LEVEL", std::env::var("DSTORE_CHAOS_LOG").unwrap_or("info".to_owned()));
    }

    /// Runs a command of the binary that has to succeed; what it printed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(crate::program());
        self.surround(command.args(arguments));
        let output = command.output().expect("the binary starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs an admin command that prints JSON.
    pub fn admin(&self, arguments: &[&str]) -> Value {
        let text = self.succeed(&[&["control", "--output", "json"][..], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("JSON, not {text:?}"))
    }

    /// Runs an admin command that may fail, or never be answered, while other things go on: what it printed, or why there is
    /// nothing.
    ///
    /// # Panics
    /// Where the command makes no sense, which is no answer of the cluster.
    pub async fn ask(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(crate::program());
        self.surround(command.args(["control", "--output", "json"]).args(arguments));
        let mut command = tokio::process::Command::from(command);
        // Where it is given up, it ends.
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let Ok(output) = tokio::time::timeout(COMMAND_TIME_MAX, output).await else {
            return Err("no answer came in time".to_owned());
        };
        let output = output.expect("the binary starts");
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            assert_ne!(output.status.code(), Some(USAGE), "{arguments:?}: {why}");
            return Err(why);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(serde_json::from_str(&text).unwrap_or_else(|_| panic!("JSON, not {text:?}")))
    }

    /// Starts a member that is down, and does not wait for it.
    pub fn begin(&mut self, name: &str) {
        let (host, role) = (self.member(name).host.clone(), self.member(name).role);
        let command = match role {
            Role::Etcd => self.etcd_command(&host),
            Role::Control => self.control_command(&host),
            Role::Node | Role::Proxy => self.member_command(&host, role),
        };
        let process = Process::start(command, &self.path(&format!("{name}.log")));
        self.member(name).process = Some(process);
    }

    fn etcd_command(&self, host: &Host) -> Command {
        let mut command = host.command(Path::new("etcd"));
        let (client, peer) = (format!("http://{}:2379", host.address), format!("http://{}:2380", host.address));
        command.arg("--data-dir").arg(self.path("etcd-data"));
        for (flag, url) in [
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
        ] {
            command.arg(flag).arg(url);
        }
        command.args(["--initial-cluster", &format!("default={peer}"), "--logger", "zap", "--log-level", "warn"]);
        command
    }

    fn control_command(&self, host: &Host) -> Command {
        let mut command = host.command(&crate::program());
        self.surround(&mut command);
        command.args(["control", "serve", "--data", &self.text_path("control")]);
        for (setting, port) in [("ADMIN", 8082), ("INSIDE", 8081), ("METRICS", 9090)] {
            command.env(format!("DSTORE__{setting}__LISTEN"), format!("{}:{port}", host.address));
        }
        command
    }

    fn member_command(&self, host: &Host, role: Role) -> Command {
        let mut command = host.command(&crate::program());
        self.surround(&mut command);
        let data = match role {
            Role::Node => self.path(&host.name).join("data"),
            _ => self.path(&host.name),
        };
        command.arg(if role == Role::Node { "node" } else { "proxy" });
        command.args(["--listen", &format!("{}:8080", host.address)]);
        command.args(["--metrics-listen", &format!("{}:9090", host.address)]);
        command.args(["--control", &format!("https://{}:8081", self.control.host.address)]);
        command.arg("--data").arg(data).arg("--passphrase-file").arg(self.path("passphrase"));
        command.arg("--join-token-file").arg(self.path(&format!("{}.token", host.name)));
        command.args(["--set", "client.plain_http=true"]);
        if role == Role::Node {
            command.args(["--inside-listen", &format!("{}:8081", host.address)]);
            for setting in
                ["log.segment_mib=4", "log.budget_mib=48", "limits.disk_notice=16 MiB", "limits.disk_refuse=8 MiB"]
            {
                command.args(["--set", setting]);
            }
        }
        command
    }

    /// Waits until these members answer that they serve.
    pub async fn until_ready(&mut self, names: &[&str]) {
        for name in names {
            let url = self.member(name).health();
            let deadline = Instant::now() + DEADLINE;
            loop {
                let said = match self.client.get(&url).send().await {
                    Ok(answer) if answer.status().is_success() => break,
                    Ok(answer) => answer.text().await.unwrap_or_default(),
                    Err(error) => error.to_string(),
                };
                let ended = self.member(name).process.as_mut().is_none_or(Process::has_ended);
                assert!(!ended && Instant::now() < deadline, "{name} does not serve (it ended: {ended}): {said}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Waits until keys of every part of the table are read through every proxy.
    pub async fn until_every_range_answers(&self) {
        for number in 0..self.probes() {
            for proxy in &self.proxies {
                self.until_read(&format!("{}{TABLE}/id/probe-{number}", proxy.url())).await;
            }
        }
    }

    /// Waits until the copy of the routing table on each disk holds what is known: before anything is taken away.
    pub async fn until_copies_are_saved(&self) {
        for member in self.nodes.iter().chain(&self.proxies) {
            self.until_metric(member, "dstore_routing_saved", |value| value == 1.0).await;
        }
    }

    /// Waits until a number that a member tells is as wished.
    pub async fn until_metric(&self, member: &Member, name: &str, wished: impl Fn(f64) -> bool) {
        let url = format!("http://{}:9090/metrics", member.host.address);
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (_, body) = self.send(Method::GET, &url, None).await;
            let text = body.as_str().unwrap_or_default().to_owned();
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse().ok());
            if line.is_some_and(&wished) {
                return;
            }
            assert!(Instant::now() < deadline, "{}: {name} is {line:?}", member.host.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every range has a leader, and every node serves its copies, so that the next one may go.
    pub async fn until_caught_up(&self) {
        self.until_every_range_answers().await;
        if self.shape.replication_factor < self.shape.nodes {
            return;
        }
        // A copy that has not heard its leader lately does not answer even a read that may lag.
        for number in 0..self.probes() {
            for node in &self.nodes {
                self.until_read(&format!("{}{TABLE}/id/probe-{number}?consistency=eventual", node.url())).await;
            }
        }
    }

    /// So many keys that no range is missed, whatever the hashes are.
    fn probes(&self) -> usize {
        (self.shape.ranges * 8).min(PROBES_MAX)
    }

    /// Asks until there is an answer: an item, or that there is none.
    pub async fn until_read(&self, url: &str) -> (u16, Value) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (status, body) = self.send(Method::GET, url, None).await;
            if status == 200 || (status == 404 && body["detail"] == NO_ITEM) {
                return (status, body);
            }
            assert!(Instant::now() < deadline, "{url}: {status} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A request with root's token; status 0 where there is no answer.
    pub async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let text = answer.text().await.unwrap_or_default();
                (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
            }
            Err(error) => (0, Value::String(error.to_string())),
        }
    }
}

fn private_file(path: &Path, content: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.expect("a file").write_all(content.as_bytes()).expect("is written");
}
