//! A cluster of processes of the test's own: etcd, control, nodes, proxies and reporters, each on free ports over a folder that
//! goes with it. Whatever is started here is killed when it is dropped, and where a test fails, the end of
//! each log is shown.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dstore::coordination::testing::{EtcdServer, HeldPort};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{DEADLINE, client, wait_for_line, wait_for_output};

/// The passphrase of everything that has one.
pub const PASSPHRASE: &str = "correct horse battery staple";
/// How many lines of a log are shown where a test fails.
const LOG_LINES: usize = 30;

/// One process of a role.
pub struct Process {
    child: Child,
    /// What it printed: its addresses.
    pub told: Value,
    log: PathBuf,
}

impl Process {
    fn spawn(mut command: Command, log: &Path) -> Process {
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        command.env_remove("DSTORE_CONFIG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        Process { child: command.spawn().expect("the binary starts"), told: Value::Null, log: log.to_owned() }
    }

    /// Waits for the line with its addresses.
    fn wait_for_line(&mut self) {
        let line = wait_for_line(self.child.stdout.take().expect("stdout is piped"));
        self.told =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("addresses, not {line:?}: {}", tail(&self.log)));
    }

    /// An address that it told.
    pub fn address(&self, name: &str) -> String {
        self.told[name][0].as_str().unwrap_or_else(|| panic!("{name} in {}", self.told)).to_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a process");
        rustix::process::kill_process(pid, signal).expect("the signal is sent");
    }

    /// Kills it as it stands.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for it to end; its exit code.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it did not end: {}", tail(&self.log));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), tail(&self.log));
        }
        self.kill();
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Ports for a process, which stay its own while it is away.
fn held_ports() -> [HeldPort; 3] {
    [(); 3].map(|()| HeldPort::take().expect("a free port"))
}

/// A node, proxy or reporter: its folder, and its process while it runs.
pub struct Member {
    role: &'static str,
    name: String,
    passphrase: bool,
    /// For clients, for its numbers, and inside.
    ports: Option<[HeldPort; 3]>,
    process: Option<Process>,
}

impl Member {
    fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("{} runs", self.name))
    }

    /// Takes other ports at its next start.
    pub fn forget_ports(&mut self) {
        self.ports = None;
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://{}", self.process().address("client"))
    }

    /// What it is.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// Where it tells its numbers.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.process().address("metrics"))
    }

    /// Kills it, if it runs.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks it to stop; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut process = self.process.take()?;
        process.signal(Signal::TERM);
        process.wait_for_end()
    }
}

/// A cluster of processes.
pub struct Cluster {
    pub control: Option<Process>,
    /// Of its admin API, inside, and for its numbers.
    control_ports: Option<[HeldPort; 3]>,
    pub nodes: Vec<Member>,
    pub proxies: Vec<Member>,
    pub reporters: Vec<Member>,
    /// Settings of all nodes that are begun from now on.
    pub node_settings: Vec<&'static str>,
    /// Further sinks of all reporters, as their file names them.
    pub sinks: String,
    /// Settings of all members that are begun from now on.
    pub member_settings: Vec<String>,
    pub token: String,
    pub client: reqwest::Client,
    pub etcd: EtcdServer,
    // The last: logs are shown while processes are dropped.
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Makes a cluster and serves its control plane.
    pub fn start() -> Cluster {
        let mut cluster = Cluster::empty();
        cluster.succeed(&["control", "init", "--data", "{control}", "--recovery-passphrase-file", "{passphrase}"]);
        cluster.token = std::fs::read_to_string(cluster.path("control/root.token")).expect("a token").trim().to_owned();
        cluster.start_control();
        let admin = format!("https://{}", cluster.control().address("admin"));
        let files = ["--token-file", "{control}/root.token", "--authority-file", "{control}/authority.pem"];
        cluster.succeed(&[&["control", "login", &admin][..], &files].concat());
        cluster
    }

    /// A folder, an etcd and a passphrase, for what is brought back from elsewhere.
    pub fn empty() -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = Cluster {
            etcd: EtcdServer::start().expect("etcd"),
            folder,
            control: None,
            control_ports: None,
            nodes: Vec::new(),
            proxies: Vec::new(),
            reporters: Vec::new(),
            node_settings: Vec::new(),
            sinks: String::new(),
            member_settings: Vec::new(),
            token: String::new(),
            client: client(),
        };
        private_file(&cluster.path("passphrase"), PASSPHRASE);
        cluster
    }

    /// Starts over the data folders of members that were once invited elsewhere: so many nodes and proxies.
    pub fn begin_over_folders(&mut self, nodes: usize, proxies: usize) {
        for (role, number) in (0..nodes).map(|number| ("node", number)).chain((0..proxies).map(|one| ("proxy", one))) {
            let name = format!("{role}-{number}");
            let mut member = Member { role, name, passphrase: number % 2 == 1, ports: None, process: None };
            self.begin(&mut member);
            if role == "node" { &mut self.nodes } else { &mut self.proxies }.push(member);
        }
    }

    /// A path in the cluster's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the binary, with this cluster's surroundings. `{control}` and `{passphrase}` in arguments are paths.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dstore"));
        let fill = |argument: &str| {
            let control = self.path("control").display().to_string();
            argument
                .replace("{control}", &control)
                .replace("{passphrase}", &self.path("passphrase").display().to_string())
        };
        command
            .args(arguments.iter().map(|argument| fill(argument)))
            .env_remove("DSTORE_CONFIG")
            .env_remove("DSTORE_CONTEXT")
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("DSTORE__COORDINATOR__KIND", "etcd")
            .env("DSTORE__COORDINATOR__ENDPOINTS", self.etcd.endpoint())
            .env("DSTORE__LOGGING__LEVEL", "info");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        wait_for_output(&mut self.command(arguments))
    }

    /// Runs a command that has to succeed; what it printed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs an admin command that prints JSON.
    pub fn admin(&self, arguments: &[&str]) -> Value {
        let text = self.succeed(&[&["control", "--output", "json"][..], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("JSON, not {text:?}"))
    }

    /// The running control process.
    pub fn control(&self) -> &Process {
        self.control.as_ref().expect("control runs")
    }

    /// Starts control, on the ports it had before, and does not wait for it.
    pub fn begin_control(&mut self) {
        let ports = self.control_ports.get_or_insert_with(held_ports);
        let addresses = ports.each_ref().map(|port| port.address().to_string());
        let mut command = self.command(&["control", "--output", "json", "serve", "--data", "{control}"]);
        for (setting, address) in
            ["DSTORE__ADMIN__LISTEN", "DSTORE__INSIDE__LISTEN", "DSTORE__METRICS__LISTEN"].iter().zip(&addresses)
        {
            command.env(setting, address);
        }
        self.control = Some(Process::spawn(command, &self.path("control.log")));
    }

    /// Starts control and waits until it serves.
    pub fn start_control(&mut self) {
        self.begin_control();
        self.finish_control();
    }

    /// Waits until control, which was begun, serves.
    pub fn finish_control(&mut self) {
        self.control.as_mut().expect("it was begun").wait_for_line();
    }

    /// Kills control.
    pub fn kill_control(&mut self) {
        if let Some(mut control) = self.control.take() {
            control.kill();
        }
    }

    /// Where control tells of its health while it runs.
    pub fn control_health(&self) -> String {
        let ports = self.control_ports.as_ref().expect("it was begun");
        format!("http://{}/readyz", ports[2].address())
    }

    fn control_url(&self) -> String {
        let ports = self.control_ports.as_ref().expect("it was begun");
        format!("https://{}", ports[1].address())
    }

    /// Invites and starts nodes; those of an odd number keep their key parts under the passphrase.
    pub fn add_nodes(&mut self, count: usize) {
        for number in 0..count {
            let mut member = self.invite("node", number);
            self.begin(&mut member);
            self.nodes.push(member);
        }
    }

    /// Invites and starts proxies; those of an odd number keep their key parts under the passphrase.
    pub fn add_proxies(&mut self, count: usize) {
        for number in 0..count {
            let mut member = self.invite("proxy", number);
            self.begin(&mut member);
            self.proxies.push(member);
        }
    }

    /// Invites and starts reporters; those of an odd number keep their key parts under the passphrase.
    /// All write what they gather into the folder `reported`, as JSON lines, and to [`Cluster::sinks`].
    pub fn add_reporters(&mut self, count: usize) {
        let folder = self.path("reported");
        let sink = "name = \"files\"\nkind = \"files\"\nseconds_per_file = 1";
        let sinks = format!("[[sink]]\n{sink}\nfolder = \"{}\"\n{}", folder.display(), self.sinks);
        std::fs::write(self.path("sinks.toml"), sinks).expect("the sinks' settings");
        for number in 0..count {
            let mut member = self.invite("reporting", number);
            self.begin(&mut member);
            self.reporters.push(member);
        }
    }

    fn invite(&self, role: &'static str, number: usize) -> Member {
        let name = format!("{role}-{number}");
        let noun = if role == "reporting" { "reporter" } else { role };
        let invitation = self.admin(&[noun, "invite", "--name", &name]);
        private_file(&self.path(&format!("{name}.token")), invitation["token"].as_str().expect("a token"));
        Member { role, name, passphrase: number % 2 == 1, ports: None, process: None }
    }

    /// Starts a member, on the ports it had before, and waits for its addresses, not for more.
    pub fn begin(&self, member: &mut Member) {
        let (data, token) = (self.path(&member.name), self.path(&format!("{}.token", member.name)));
        let ports = member.ports.get_or_insert_with(held_ports);
        let [client, metrics, inside] = ports.each_ref().map(|port| port.address().to_string());
        let mut command = self.command(&[member.role, "--metrics-listen", &metrics]);
        let serves_clients = member.role != "reporting";
        match serves_clients {
            true => command.args(["--listen", &client]),
            false => command.env("DSTORE__REPORTING__SINKS_FILE", self.path("sinks.toml")),
        };
        command.env("DSTORE__INSIDE__LISTEN", &inside);
        command.arg("--control").arg(self.control_url()).arg("--data").arg(data);
        command.arg("--join-token-file").arg(token);
        if member.role == "node" {
            command.args(["--set", "log.segment_mib=4", "--set", "log.budget_mib=64"]);
            for setting in &self.node_settings {
                command.args(["--set", setting]);
            }
        }
        for setting in &self.member_settings {
            command.args(["--set", setting]);
        }
        if member.passphrase {
            command.arg("--passphrase-file").arg(self.path("passphrase"));
        }
        let mut process = Process::spawn(command, &self.path(&format!("{}.log", member.name)));
        process.wait_for_line();
        member.process = Some(process);
    }

    /// Waits until every member is ready, and until control, where it runs, knows that every node is there.
    pub async fn until_ready(&self) {
        for member in self.nodes.iter().chain(&self.proxies).chain(&self.reporters) {
            self.until_member(member, "ready").await;
        }
        if self.control.is_some() {
            self.until_nodes_are_known().await;
        }
    }

    /// Waits until control knows that every node is there. A node is ready when it serves; that it is there it tells the
    /// coordinator meanwhile, and a table that is made before goes to fewer nodes.
    async fn until_nodes_are_known(&self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let listed = self.run(&["control", "--output", "json", "node", "list"]);
            // Control may not be able to tell for a moment, as when etcd has just come back.
            let nodes: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
            let is_known = |member: &Member| {
                let is_it = |node: &Value| node["name"] == member.name.as_str() && node["status"] == "okay";
                nodes.as_array().into_iter().flatten().any(|node| is_it(node) && node["alive"] == true)
            };
            if self.nodes.iter().all(is_known) {
                return;
            }
            assert!(Instant::now() < deadline, "control does not know all nodes: {listed:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a member has this status.
    pub async fn until_member(&self, member: &Member, status: &str) {
        self.until_member_says(member, status, |said| said["status"] == status).await;
    }

    /// Waits until `/readyz` of a member says something.
    pub async fn until_member_says(&self, member: &Member, what: &str, holds: impl Fn(&Value) -> bool) {
        let url = format!("http://{}/readyz", member.process().address("metrics"));
        self.until_said(&url, &format!("{} should be {what}", member.name), holds).await;
    }

    /// Waits until `/readyz` at this URL has this status; what it says then.
    pub async fn until_status(&self, url: &str, status: &str, name: &str) -> Value {
        self.until_said(url, &format!("{name} should be {status}"), |said| said["status"] == status).await
    }

    async fn until_said(&self, url: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let said = match self.client.get(url).send().await {
                Ok(answer) => answer.json::<Value>().await.unwrap_or_default(),
                Err(error) => Value::String(error.to_string()),
            };
            if holds(&said) {
                return said;
            }
            assert!(Instant::now() < deadline, "{what}, and says {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every member's copy of the routing table on disk holds what it knows.
    pub async fn until_copies_are_saved(&self) {
        for member in self.nodes.iter().chain(&self.proxies) {
            let url = format!("http://{}/metrics", member.process().address("metrics"));
            let deadline = Instant::now() + DEADLINE;
            let is_saved = |text: &str| text.lines().any(|line| line == "dstore_routing_saved 1");
            while !is_saved(&self.client.get(&url).send().await.expect("an answer").text().await.unwrap_or_default()) {
                assert!(Instant::now() < deadline, "{} does not save its routing table", member.name);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Asks until the answer has this status: another process may learn of a change a moment later. Its body.
    pub async fn until_answer(&self, url: &str, expected: u16) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (status, body) = self.get(url).await;
            if status == expected {
                return body;
            }
            assert!(Instant::now() < deadline, "{url}: {status} {body}, not {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A request with root's token.
    pub fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        self.client.request(method, url).bearer_auth(&self.token)
    }

    /// A request with a JSON body; status and body of the answer, JSON where it is.
    pub async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> (u16, Value) {
        let request = self.request(method, url);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A PUT of JSON.
    pub async fn put(&self, url: &str, body: &Value) -> (u16, Value) {
        self.send(Method::PUT, url, Some(body)).await
    }

    /// A GET.
    pub async fn get(&self, url: &str) -> (u16, Value) {
        self.send(Method::GET, url, None).await
    }
}

/// A file that only its owner may read.
pub fn private_file(path: &Path, content: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.expect("a file").write_all(content.as_bytes()).expect("is written");
}
