//! A `dstore dev` process of the test's own, and a small client for it; and how long a command or a process is waited for.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take that normally takes a moment. On a busy machine a moment is long.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// A client that goes through no proxy.
pub fn client() -> reqwest::Client {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    PROVIDER.call_once(|| {
        // Another test may have been first; any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client")
}

/// The binary, untouched by the settings of whoever runs the tests, with its contexts in this file.
pub fn dstore(contexts: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dstore"));
    command.env_remove("DSTORE_CONFIG").env_remove("DSTORE_CONTEXT").env("DSTORE_CLI_CONFIG", contexts);
    command
}

/// Runs a command to its end; what it printed. One that does not end in time is killed with all that it began, and told with
/// what it had printed until then.
pub fn wait_for_output(command: &mut Command) -> Output {
    // A group of its own: what a shell has begun would outlive it, and hold the pipes open.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the program starts");
    let group = rustix::process::Pid::from_child(&child);
    let (ended, has_ended) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        let is_late = has_ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout);
        if is_late {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        is_late
    });
    let output = child.wait_with_output().expect("its output is read");
    drop(ended);
    assert!(!guard.join().expect("the guard ends"), "{command:?} did not end in time: {output:?}");
    output
}

/// Waits for the first line that a process prints; nothing where it ends before, or prints none in time.
pub fn wait_for_line(stdout: ChildStdout) -> String {
    let (sender, line) = mpsc::channel();
    // Nobody waits for this thread: where no line comes, it ends with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line is read");
        let _ = sender.send(line);
    });
    line.recv_timeout(DEADLINE).unwrap_or_default()
}

/// A running `dstore dev`; killed when dropped.
pub struct DevProcess {
    child: Child,
    /// Where its contexts are kept, apart from those of whoever runs the tests.
    home: tempfile::TempDir,
    pub url: String,
    pub token: String,
    pub client: reqwest::Client,
}

impl DevProcess {
    /// Starts it on a free port over this folder, and waits for its line.
    pub fn start(data: &Path, flags: &[&str]) -> DevProcess {
        DevProcess::start_as(&["dev"], data, flags)
    }

    /// The same for another command that prints such a line.
    pub fn start_as(command_line: &[&str], data: &Path, flags: &[&str]) -> DevProcess {
        DevProcess::start_at_home(tempfile::tempdir().expect("a folder"), command_line, data, flags)
    }

    /// The same for a user who has `cli.toml` in this folder for their contexts.
    pub fn start_at_home(home: tempfile::TempDir, command_line: &[&str], data: &Path, flags: &[&str]) -> DevProcess {
        let mut command = dstore(&home.path().join("cli.toml"));
        command
            .args(command_line)
            .args(["--log-level", "warn", "--listen", "127.0.0.1:0", "--output", "json", "--data"])
            .arg(data)
            .args(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = DevProcess {
            child: command.spawn().expect("the binary starts"),
            home,
            url: String::new(),
            token: String::new(),
            client: client(),
        };
        let line = wait_for_line(process.child.stdout.take().expect("stdout is piped"));
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("a line of JSON, not {line:?}"));
        let text = |name: &str| told[name].as_str().unwrap_or_else(|| panic!("{name} in {line}")).to_owned();
        for name in ["tenant", "access_key_id", "secret_access_key"] {
            assert!(!text(name).is_empty());
        }
        process.url = text("url");
        process.token = text("token");
        process
    }

    /// An admin command as typed in the next terminal.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        wait_for_output(dstore(&self.contexts()).arg("control").args(arguments))
    }

    /// The same, which has to succeed; what it printed.
    pub fn cli_prints(&self, arguments: &[&str]) -> String {
        let ran = self.cli(arguments);
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("text")
    }

    /// The file of contexts that it wrote to.
    pub fn contexts(&self) -> std::path::PathBuf {
        self.home.path().join("cli.toml")
    }

    /// A request with the token.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// A PUT of JSON; gives status and body.
    pub async fn put(&self, path: &str, body: &str) -> (u16, String) {
        let answer = self
            .request(reqwest::Method::PUT, path)
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// A GET; gives status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.request(reqwest::Method::GET, path).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a process");
        rustix::process::kill_process(pid, signal).expect("the signal is sent");
    }

    /// Waits for it to end and gives its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it did not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for DevProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
