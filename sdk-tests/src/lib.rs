//! A `dstore dev` for tests of SDKs, and a cluster of processes. A package of its own without dStore's library: the binary that lies
//! beside the test binaries is what is tried, as a user would start it.

mod cluster;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub use cluster::Cluster;

/// A running `dstore dev` over a folder of its own; both are gone when it is dropped.
pub struct Server {
    child: Child,
    /// Where clients are served.
    pub url: String,
    /// An access key of the default tenant.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    _folder: tempfile::TempDir,
}

/// The binary: the one that DSTORE_BINARY names, or the one that cargo built into the folder above that of test binaries.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DSTORE_BINARY") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a test binary knows where it is");
    let path = own.parent().and_then(|folder| folder.parent()).expect("it lies in deps").join("dstore");
    assert!(path.exists(), "{} is missing: run cargo build, or name a binary by DSTORE_BINARY", path.display());
    path
}

impl Server {
    /// Starts it on free ports and waits for its line.
    ///
    /// # Panics
    /// Where it does not start: this is for tests.
    pub fn start() -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(binary());
        command.args(["dev", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-level", "warn"]);
        command.args(["--admin-listen", "127.0.0.1:0", "--output", "json", "--data"]).arg(folder.path().join("data"));
        command.env_remove("DSTORE_CONFIG").env("DSTORE_CLI_CONFIG", folder.path().join("cli.toml"));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line is printed");
        let told: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
        let text = |name: &str| told[name].as_str().expect("it tells how it is reached").to_owned();
        let (url, access_key_id, secret_access_key) = (text("url"), text("access_key_id"), text("secret_access_key"));
        Server { child, url, access_key_id, secret_access_key, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
