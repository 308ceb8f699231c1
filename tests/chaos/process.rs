//! A process that is watched, killed, stopped and started again, with a log that is shown where a test fails.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

/// How long anything may take that normally takes a moment.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// How many lines of a log are shown where a test fails.
const LOG_LINES: usize = 25;

/// One process.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints goes to the end of this log.
    pub fn start(mut command: Command, log: &Path) -> Process {
        let output = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let errors = output.try_clone().expect("the same log");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        Process { child: command.spawn().expect("the binary starts"), log: log.to_owned() }
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a process");
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Kills it as it stands.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it stand still, with its connections open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to stop, and waits until it has; its exit code.
    pub async fn wait_for_stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it did not end:\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.tail());
        }
        self.kill();
    }
}
