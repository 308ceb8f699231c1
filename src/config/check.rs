//! What can only be told from several settings together, or by looking at the files they name. Run by each role before
//! it listens and by `dstore config check`; it changes nothing on disk.

use super::schema::{self, Kind, SETTINGS};
use super::sinks::SinksConfig;
use super::{Config, CoordinatorKind, Origins, Role};
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One thing that would keep a role from starting, or make it unsafe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting to change.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.reason)
    }
}

impl Config {
    /// Everything that is wrong for `role`; empty where it can start.
    pub fn check(&self, role: Role, origins: &Origins) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_paths(role, origins, &mut problems);
        self.check_listeners(role, &mut problems);
        if schema_has(role, "coordinator.kind") {
            self.check_coordinator(&mut problems);
        }
        if matches!(role, Role::Node | Role::Dev | Role::Standalone) {
            self.check_storage(&mut problems);
        }
        if schema_has(role, "tracing.endpoint") {
            self.check_tracing(&mut problems);
        }
        if let Some(path) =
            self.reporting.sinks_file.as_deref().filter(|path| path.is_file() && role == Role::Reporting)
        {
            let problem = SinksConfig::load(path).err();
            let reason = problem.map(|problem| format!("{}: {problem}", path.display()));
            problems.extend(reason.map(|reason| Problem { key: "reporting.sinks_file", reason }));
        }
        problems
    }

    /// Spans go to a collector that is near, which passes them on.
    fn check_tracing(&self, problems: &mut Vec<Problem>) {
        if self.tracing.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("https://")) {
            let reason = "spans are sent by plain HTTP: let a collector on this machine take them, as http://127.0.0.1:4318, and pass them on by TLS";
            problems.push(Problem { key: "tracing.endpoint", reason: reason.to_owned() });
        }
        if self.tracing.endpoint.is_none() && self.tracing.sample > 0.0 {
            let reason = "traces are taken but go nowhere: set tracing.endpoint, too";
            problems.push(Problem { key: "tracing.sample", reason: reason.to_owned() });
        }
    }

    /// Files that are named must be readable, and those with secrets must be closed to others.
    fn check_paths(&self, role: Role, origins: &Origins, problems: &mut Vec<Problem>) {
        for setting in SETTINGS.iter().filter(|setting| setting.kind == Kind::Path && setting.is_read_by(role)) {
            let Some((Some(text), _)) = origins.get(setting.key) else { continue };
            if setting.key == "data.dir" {
                problems.extend(folder_problem(Path::new(text)).map(|reason| Problem { key: setting.key, reason }));
                continue;
            }
            let reason = match std::fs::File::open(text).and_then(|file| file.metadata()) {
                // `control init` makes the key there, and a token is needed for the first start only; whoever needs one
                // says that it is missing.
                Err(error)
                    if matches!(setting.key, "control.key_file" | "control.join_token_file")
                        && error.kind() == std::io::ErrorKind::NotFound =>
                {
                    continue;
                }
                Err(error) => format!("{text} cannot be read: {error}"),
                Ok(metadata) if !metadata.is_file() => format!("{text} is not a file"),
                Ok(metadata) if holds_secret(setting.key) && metadata.permissions().mode() & 0o077 != 0 => {
                    format!("{text} can be read by other users of this machine; chmod 600 {text}")
                }
                Ok(_) => continue,
            };
            problems.push(Problem { key: setting.key, reason });
        }
    }

    fn check_listeners(&self, role: Role, problems: &mut Vec<Problem>) {
        let mut pair = |cert: bool, key: bool, name: &'static str| {
            if cert != key {
                problems
                    .push(Problem { key: name, reason: "a certificate and its key are needed together".to_owned() });
            }
        };
        if schema_has(role, "client.listen") {
            pair(self.client.tls_cert.is_some(), self.client.tls_key.is_some(), "client.tls_cert");
        }
        if schema_has(role, "admin.listen") {
            pair(self.admin.tls_cert.is_some(), self.admin.tls_key.is_some(), "admin.tls_cert");
        }
        let is_open = !self.client.listen.ip().is_loopback();
        if is_open && role == Role::Dev {
            let reason = "dstore dev listens on loopback only: all its keys lie on one disk";
            problems.push(Problem { key: "client.listen", reason: reason.to_owned() });
        } else if is_open
            && schema_has(role, "client.listen")
            && self.client.tls_cert.is_none()
            && !self.client.plain_http
        {
            let reason = "other machines reach this address, so tls_cert and tls_key are needed \
                          (or plain_http = true behind something that ends TLS)";
            problems.push(Problem { key: "client.listen", reason: reason.to_owned() });
        }
        if matches!(role, Role::Dev | Role::Standalone) {
            self.check_plain_admin(problems);
        }
        let listeners: [(&'static str, SocketAddr); 4] = [
            ("client.listen", self.client.listen),
            ("inside.listen", self.inside.listen),
            ("admin.listen", self.admin.listen),
            ("metrics.listen", self.metrics.listen),
        ];
        let mut taken: Vec<(&'static str, SocketAddr)> = Vec::new();
        for (key, address) in listeners.into_iter().filter(|(key, _)| schema_has(role, key)) {
            if let Some((other, _)) = taken.iter().find(|(_, other)| *other == address && address.port() != 0) {
                problems.push(Problem { key, reason: format!("{address} is taken by {other} already") });
            }
            taken.push((key, address));
        }
    }

    /// A process that is its own control plane serves the admin API in plain HTTP: for this machine alone.
    fn check_plain_admin(&self, problems: &mut Vec<Problem>) {
        let mut problem = |key, reason: &str| problems.push(Problem { key, reason: reason.to_owned() });
        if !self.admin.listen.ip().is_loopback() {
            problem("admin.listen", "the admin API is served on loopback only here, as 127.0.0.1:8082");
        }
        if self.admin.tls_cert.is_some() {
            problem("admin.tls_cert", "the admin API is served in plain HTTP on loopback here; leave this out");
        }
    }

    fn check_coordinator(&self, problems: &mut Vec<Problem>) {
        let mut problem = |key, reason: &str| problems.push(Problem { key, reason: reason.to_owned() });
        let settings = &self.coordinator;
        if settings.kind == CoordinatorKind::Etcd && settings.endpoints.is_empty() {
            problem("coordinator.endpoints", "etcd needs at least one");
        }
        if settings.cert.is_some() != settings.key.is_some() {
            problem("coordinator.cert", "a client certificate and its key are needed together");
        }
        if settings.user.is_some() && settings.password.is_none() && settings.password_file.is_none() {
            problem("coordinator.user", "a user needs a password_file");
        }
        if settings.user.is_none() && (settings.password.is_some() || settings.password_file.is_some()) {
            problem("coordinator.password_file", "a password needs a user");
        }
    }

    fn check_storage(&self, problems: &mut Vec<Problem>) {
        let mut problem = |key, reason: String| problems.push(Problem { key, reason });
        if self.log.budget_mib < 4 * self.log.segment_mib {
            let least = 4 * self.log.segment_mib;
            problem("log.budget_mib", format!("at least four segments are needed: {least} MiB"));
        }
        // Any size of disk will do to compare two percentages or two amounts; unlike ones are compared on the spot.
        let disk_bytes = 1 << 40;
        if self.limits.disk_refuse.bytes(disk_bytes) > self.limits.disk_notice.bytes(disk_bytes) {
            problem(
                "limits.disk_notice",
                "the notice must come before writes are refused: more than disk_refuse".to_owned(),
            );
        }
    }
}

fn schema_has(role: Role, key: &str) -> bool {
    schema::find(key).is_some_and(|setting| setting.is_read_by(role))
}

fn holds_secret(key: &str) -> bool {
    matches!(
        key,
        "client.tls_key"
            | "admin.tls_key"
            | "coordinator.key"
            | "coordinator.password_file"
            | "control.join_token_file"
            | "control.key_file"
            | "keys.passphrase_file"
    )
}

/// Why the data folder could not be used: its nearest existing ancestor must be a folder that can be written.
fn folder_problem(folder: &Path) -> Option<String> {
    let absolute = std::path::absolute(folder).ok()?;
    let existing = absolute.ancestors().find(|path| path.exists())?;
    if !existing.is_dir() {
        return Some(format!("{} is not a folder", existing.display()));
    }
    let access = rustix::fs::access(existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    access.err().map(|error| format!("{} cannot be written: {error}", existing.display()))
}
