//! The stack under test, by the script that people use.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::say;

/// How long a part may take to be as it should be.
const DEADLINE: Duration = Duration::from_secs(120);
/// What nobody in the clients' network may reach: inside and admin listeners, health, etcd for clients and for its peers.
const PORTS: [(&str, &[u16]); 4] =
    [("etcd", &[2379, 2380]), ("control", &[8081, 8082]), ("node", &[8080, 8081]), ("reporting", &[8081])];
/// An address that belongs to nobody (RFC 5737).
const NOBODY: &str = "203.0.113.1";
/// Where a question was not answered, since nobody listens or can be reached.
const UNREACHED: i32 = 3;

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("docker is there")
}

/// The lines that a docker command prints, which has to succeed.
fn lines(arguments: &[&str]) -> Vec<String> {
    let output = docker(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Whether there is a Docker Engine; else why not.
pub fn engine() -> Result<(), String> {
    match Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]).output() {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => Ok(()),
        Ok(_) => Err("no Docker Engine answers here".to_owned()),
        Err(_) => Err("docker is not installed here".to_owned()),
    }
}

fn swarm_state() -> String {
    lines(&["info", "--format", "{{.Swarm.LocalNodeState}}"]).concat()
}

/// A stack of a name and ports of its own. What is left of it goes when this is dropped.
pub struct Stack {
    name: String,
    folder: tempfile::TempDir,
    ports: [u16; 2],
    swarm_before: String,
    images: Vec<String>,
    is_up: bool,
}

impl Stack {
    /// Makes it, and waits until it serves.
    pub fn up() -> Stack {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("dstore-test-{}", std::process::id());
        let mut stack =
            Stack { name, folder, ports: free_ports(), swarm_before: swarm_state(), images: Vec::new(), is_up: true };
        let told = stack.script(&["up"]);
        assert!(told.contains("curl"), "the first line to ask with: {told}");
        stack.images.push(format!("dstore:{}", stack.name));
        stack
    }

    fn kept(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// A file that is kept for people.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.kept().join(name)).expect(name)
    }

    /// Where clients reach the proxies.
    pub fn urls(&self) -> [String; 2] {
        self.ports.map(|port| format!("https://127.0.0.1:{port}"))
    }

    /// `overlay` or `bridge`.
    pub fn networks(&self) -> &'static str {
        if self.read("settings").contains("DSTORE_NETWORKS=bridge") { "bridge" } else { "overlay" }
    }

    /// Runs the script, which has to succeed; what it printed.
    pub fn script(&self, arguments: &[&str]) -> String {
        let binary = std::env::var("DSTORE_TEST_BINARY").unwrap_or(env!("CARGO_BIN_EXE_dstore").to_owned());
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/swarm.sh");
        let began = Instant::now();
        let output = Command::new(program)
            .args(arguments)
            .env("DSTORE_STACK", &self.name)
            .env("DSTORE_SWARM_FOLDER", self.kept())
            .env("DSTORE_PORT_1", self.ports[0].to_string())
            .env("DSTORE_PORT_2", self.ports[1].to_string())
            .env("DSTORE_BINARY", binary)
            .output()
            .expect("the script starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "swarm.sh {arguments:?}: {errors}");
        if !matches!(arguments[0], "container" | "control") {
            let seconds = began.elapsed().as_secs();
            say(&format!("swarm: {} took {seconds} s\n{}", arguments.join(" "), errors.trim_end()));
        }
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn container(&self, name: &str) -> String {
        let id = self.script(&["container", name]);
        assert!(!id.is_empty(), "{name} runs");
        id
    }

    /// Kills a container as it stands.
    pub fn kill(&self, name: &str) {
        lines(&["kill", &self.container(name)]);
        say(&format!("swarm: {name} was killed"));
    }

    /// Stops services as planned, all of them.
    pub fn stop(&self, names: &[&str]) {
        self.script(&[&["stop"][..], names].concat());
    }

    /// Starts services that were stopped or killed, and waits until they serve.
    pub fn start(&self, names: &[&str]) {
        self.script(&[&["start"][..], names].concat());
    }

    /// Waits until no copy of a range is missing or behind.
    pub async fn until_caught_up(&self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.script(&["control", "--output", "json", "status"]);
            let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
            let numbers = ["ranges_under_replicated", "ranges_unavailable", "ranges_changing"];
            if numbers.iter().all(|number| status[number] == 0) {
                return;
            }
            assert!(Instant::now() < deadline, "{status}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// An image that differs by a label only.
    pub fn another_image(&mut self) -> String {
        use std::io::Write;
        let image = format!("dstore:{}-next", self.name);
        let mut build = Command::new("docker")
            .args(["build", "-q", "-t", &image, "-"])
            .env("DOCKER_BUILDKIT", "0")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("docker is there");
        let text = format!("FROM dstore:{}\nLABEL version=next\n", self.name);
        build.stdin.take().expect("stdin is piped").write_all(text.as_bytes()).expect("it reads");
        assert!(build.wait().expect("it ends").success(), "another image is made");
        self.images.push(image.clone());
        image
    }

    /// The image that a service runs.
    pub fn image_of(&self, name: &str) -> String {
        lines(&["inspect", "-f", "{{.Image}}", &self.container(name)]).concat()
    }

    /// What the Engine calls an image.
    pub fn id_of(&self, image: &str) -> String {
        lines(&["image", "inspect", "-f", "{{.Id}}", image]).concat()
    }

    /// Asks `HOST:PORT` from a container in one of the stack's networks; what came back, if anything did.
    fn answer(&self, network: &str, target: &str) -> Option<String> {
        let network = format!("{}_{network}", self.name);
        let output = docker(&["run", "--rm", "--network", &network, &self.images[0], "health", "--address", target]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let code = output.status.code().filter(|code| *code <= UNREACHED);
        (code.unwrap_or_else(|| panic!("{target}: {said}")) != UNREACHED).then_some(said)
    }

    /// Whether somebody is there. Some networks of test machines answer for every address in the world; who is answered for so is not
    /// reached, and nobody within the stack answers in the same way.
    fn is_reached(&self, network: &str, target: &str) -> bool {
        let (_, port) = target.rsplit_once(':').expect("a port");
        let answer = self.answer(network, target);
        answer.is_some() && answer != self.answer(network, &format!("{NOBODY}:{port}"))
    }

    /// Everybody but the proxies whom clients reach, by name or by any of their addresses. Whether it could be told at all is tried with
    /// whom they do reach, and from a network where everybody is reached.
    pub fn reached_by_clients(&self) -> Vec<String> {
        assert!(self.is_reached("client", "proxy-1:8080") && self.is_reached("client", "proxy-2:8080"));
        for (network, target) in [
            ("control", "node-a:8081"),
            ("control", "control:8082"),
            ("control", "reporting:8081"),
            ("coordinator", "etcd-1:2379"),
        ] {
            assert!(self.is_reached(network, target), "{target} is reached from the network that it stands in");
        }
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let mut targets = Vec::new();
        for service in
            ["etcd-1", "etcd-2", "etcd-3", "control-1", "control-2", "node-a", "node-b", "node-c", "reporting"]
        {
            let (_, ports) = PORTS.iter().find(|(role, _)| service.starts_with(role)).expect("a role");
            let mut addresses = lines(&["inspect", "-f", format, &self.container(service)]);
            assert!(!addresses.is_empty(), "{service} has addresses");
            addresses.push(service.to_owned());
            targets.extend(addresses.iter().flat_map(|host| ports.iter().map(move |port| format!("{host}:{port}"))));
        }
        std::thread::scope(|scope| {
            let pieces: Vec<_> = targets.chunks(targets.len().div_ceil(6)).collect();
            let threads: Vec<_> = pieces
                .into_iter()
                .map(|piece| {
                    scope.spawn(|| -> Vec<String> {
                        piece.iter().filter(|target| self.is_reached("client", target)).cloned().collect()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect()
        })
    }

    /// Removes it, and looks whether anything is left.
    pub fn down(mut self) {
        self.remove();
        for what in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
            let left = lines(&[what, &["--filter", &format!("name={}", self.name)]].concat());
            assert!(left.is_empty(), "{what:?}: {left:?}");
        }
        if swarm_state() == "active" {
            for what in ["service", "secret", "config"] {
                let left = lines(&[what, "ls", "-q", "--filter", &format!("name={}", self.name)]);
                assert!(left.is_empty(), "{what}: {left:?}");
            }
        }
        assert_eq!(swarm_state(), self.swarm_before, "a swarm is left in place where there was one, and only there");
        assert!(!self.kept().exists());
    }

    fn remove(&mut self) {
        self.is_up = false;
        self.script(&["down"]);
        // The one that was rolled out is ours and not the script's.
        for image in self.images.iter().skip(1) {
            docker(&["image", "rm", "--force", image]);
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !self.is_up {
            return;
        }
        if std::thread::panicking() {
            for service in ["node-a", "node-b", "node-c", "proxy-1", "proxy-2", "control-1"] {
                for id in lines(&["ps", "-aq", "--filter", &format!("name={}.{service}", self.name)]) {
                    let logs = docker(&["logs", "--tail", "20", &id]);
                    say(&format!("--- {service} {id}\n{}", String::from_utf8_lossy(&logs.stderr)));
                }
            }
        }
        self.remove();
    }
}

fn free_ports() -> [u16; 2] {
    let taken = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    taken.map(|listener| listener.local_addr().expect("an address").port())
}
