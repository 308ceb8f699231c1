//! Sinks from their settings: here it is chosen which code stands behind which kind, secrets are read, and it is settled whom TLS trusts:
//! the authority that the settings name and no other, or else those of the system.
//!
//! Nothing is connected to: a receiver that is away must not keep reporting from starting.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::ambient;
use super::member::Ground;
use super::node_parts::StartError;
use crate::api::health::{Condition, Metrics};
use crate::config::Config;
use crate::config::sinks::{SecretFrom, SinkConfig, SinksConfig, Target};
use crate::services::reporting::exporter::{SinkState, run_sink};
use crate::services::reporting::{RecordSource, Reporting};
use crate::sinks::files::FilesSink;
use crate::sinks::http::HttpSink;
use crate::sinks::otlp::OtlpSink;
use crate::sinks::postgres::PostgresSink;
use crate::sinks::{Sink, Terms};

/// Why a sink could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sink {sink}: {reason}")]
pub struct OpenError {
    /// Its name.
    pub sink: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// The sinks of the file that the settings name; none where they name none.
///
/// # Errors
/// Where the file or what it names cannot be read or used.
pub fn from_settings(config: &Config) -> Result<Vec<Box<dyn Sink>>, StartError> {
    let Some(path) = &config.reporting.sinks_file else { return Ok(Vec::new()) };
    let failed = |problem: &dyn std::fmt::Display| StartError(format!("{}: {problem}", path.display()));
    let settings = SinksConfig::load(path).map_err(|problem| failed(&problem))?;
    open_sinks(&settings).map_err(|problem| failed(&problem))
}

/// Begins to hand records to these sinks, each in a task of its own, and has `/metrics` tell how they are.
pub fn feed(reporting: &Arc<Reporting>, sinks: Vec<Box<dyn Sink>>, ground: &Ground) -> Vec<JoinHandle<()>> {
    let (mut tasks, mut states) = (Vec::new(), Vec::new());
    for sink in sinks {
        let state = SinkState::new(sink.name(), ground.clock.clone(), ground.random.clone());
        states.push(state.clone());
        tasks.push(tokio::spawn(run_sink(reporting.clone() as Arc<dyn RecordSource>, sink, state)));
    }
    // What a sink lacks is kept for it, so that a sink that is behind is told and keeps nobody from asking.
    let watched = states.clone();
    ground.health.watch("sinks", move || {
        let behind: Vec<String> = watched.iter().filter_map(|state| behind(state)).collect();
        if behind.is_empty() { Condition::Good } else { Condition::Stale(behind.join("; ")) }
    });
    let reporting = reporting.clone();
    ground.health.count(move |metrics| states.iter().for_each(|state| tell(metrics, state, reporting.newest())));
    tasks
}

/// Since when a sink lacks records, and why; none where it takes them.
fn behind(state: &SinkState) -> Option<String> {
    let report = state.report();
    let (since, why) = (report.behind_since?, report.last_error?);
    Some(format!("the sink {} takes nothing since {since}: {why}", state.name()))
}

fn tell(metrics: &mut Metrics, state: &SinkState, newest: u64) {
    let (report, labels) = (state.report(), [("sink", state.name())]);
    let behind = newest.saturating_sub(report.position);
    let position = "The sequence up to which a sink has all records.";
    metrics.gauge("dstore_sink_position", position, &labels, report.position as f64);
    metrics.gauge("dstore_sink_behind_records", "Records that a sink does not have yet.", &labels, behind as f64);
    let errors = "Times that a sink did not take what it was given.";
    metrics.counter("dstore_sink_errors_total", errors, &labels, report.errors as f64);
    let sent = "Records that a sink took.";
    metrics.counter("dstore_sink_records_total", sent, &labels, report.sent as f64);
    let aside = "Records that a sink would never take, and that were passed over.";
    metrics.counter("dstore_sink_records_set_aside_total", aside, &labels, report.set_aside as f64);
}

/// The sinks of these settings.
///
/// # Errors
/// Where a secret, a certificate or a folder is not there or not as it should be.
pub fn open_sinks(config: &SinksConfig) -> Result<Vec<Box<dyn Sink>>, OpenError> {
    let open = |sink: &SinkConfig| open(sink).map_err(|reason| OpenError { sink: sink.name.clone(), reason });
    config.sinks.iter().map(open).collect()
}

fn open(sink: &SinkConfig) -> Result<Box<dyn Sink>, String> {
    let terms = Terms::prompt(&sink.name, sink.records.clone());
    Ok(match &sink.target {
        Target::Postgres { connection, password, ca_file, schema } => {
            let mut config: tokio_postgres::Config = connection.parse().map_err(|error| format!("{error}"))?;
            if let Some(password) = password {
                config.password(read_secret(password)?.as_str());
            }
            let is_off = config.get_ssl_mode() == tokio_postgres::config::SslMode::Disable;
            let tls = if is_off || is_socket(&config) { None } else { Some(tls_config(ca_file.as_deref())?) };
            Box::new(PostgresSink::new(terms, config, tls, schema))
        }
        Target::Http { url, secret, ca_file } => {
            let tls = tls_for(url, ca_file.as_deref())?;
            Box::new(HttpSink::new(terms, url, read_secret(secret)?, tls, ambient::clock())?)
        }
        Target::Files { folder, format, records_max, patience } => {
            super::private_files::create_folder(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let terms = Terms { records_max: *records_max, patience: *patience, ..terms };
            Box::new(FilesSink::new(terms, folder.clone(), *format))
        }
        Target::Otlp { url, authorization, ca_file } => {
            let authorization = authorization.as_ref().map(read_secret).transpose()?;
            Box::new(OtlpSink::new(terms, url, authorization, tls_for(url, ca_file.as_deref())?)?)
        }
    })
}

/// Whether a server is reached without any network: there is nobody on the way, and PostgreSQL speaks no TLS there.
fn is_socket(config: &tokio_postgres::Config) -> bool {
    let hosts = config.get_hosts();
    config.get_hostaddrs().is_empty()
        && !hosts.is_empty()
        && hosts.iter().all(|host| matches!(host, tokio_postgres::config::Host::Unix(_)))
}

fn tls_for(url: &str, ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    if url.starts_with("https://") {
        return tls_config(ca_file);
    }
    // It is not used, but a client without any would look for one that the process has as its default.
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let Some(path) = ca_file else {
        let builder = builder()?.with_platform_verifier();
        let no_roots = |error| format!("no authorities of the system can be used ({error}); set ca_file");
        return Ok(builder.map_err(no_roots)?.with_no_client_auth());
    };
    let wrong = |error: &dyn std::fmt::Display| format!("ca_file {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"there is no certificate in PEM in it"));
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    builder.with_safe_default_protocol_versions().map_err(|error| format!("TLS cannot be set up: {error}"))
}

fn read_secret(from: &SecretFrom) -> Result<Zeroizing<String>, String> {
    use std::os::unix::fs::PermissionsExt;
    let (text, place) = match from {
        SecretFrom::File(path) => {
            let failed = |error: std::io::Error| format!("the secret in {} cannot be read: {error}", path.display());
            if std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
                let path = path.display();
                return Err(format!("{path} can be read by other users of this machine; chmod 600 {path}"));
            }
            (std::fs::read_to_string(path).map_err(failed)?, path.display().to_string())
        }
        SecretFrom::Variable(name) => {
            let text = std::env::var(name).map_err(|_| format!("the variable {name} is not set, or is no text"))?;
            (text, name.clone())
        }
    };
    let text = Zeroizing::new(text);
    let secret = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if secret.is_empty() { Err(format!("there is no secret in {place}")) } else { Ok(secret) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn opened(text: &str) -> Result<Vec<String>, String> {
        let config = SinksConfig::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let sinks = open_sinks(&config).map_err(|error| error.to_string())?;
        Ok(sinks.iter().map(|sink| sink.name().to_owned()).collect())
    }

    #[test]
    fn sinks_open_where_nobody_answers() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hunter2\n").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let authority = folder.path().join("ca.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["db".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(&authority, certificate.pem()).unwrap();
        let (secret, authority, out) = (secret.display(), authority.display(), folder.path().join("out"));
        let out_text = out.display();
        let text = format!(
            "[[sink]]\nname = \"a\"\nkind = \"postgres\"\nconnection = \"host=db user=me\"\npassword_file = \"{secret}\"\nca_file = \"{authority}\"\n
             [[sink]]\nname = \"b\"\nkind = \"postgres\"\nconnection = \"host=/run/postgresql user=me\"\n
             [[sink]]\nname = \"c\"\nkind = \"http\"\nurl = \"https://b/\"\nsecret_file = \"{secret}\"\nca_file = \"{authority}\"\n
             [[sink]]\nname = \"d\"\nkind = \"files\"\nfolder = \"{out_text}\"\nseconds_per_file = 5\n
             [[sink]]\nname = \"e\"\nkind = \"otlp\"\nurl = \"http://127.0.0.1:4318/v1/metrics\"\n"
        );
        assert_eq!(opened(&text).unwrap(), ["a", "b", "c", "d", "e"]);
        assert!(out.is_dir());
    }

    #[test]
    fn secrets_that_are_missing_or_open_to_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let sink = |field: &str, value: &str| {
            opened(&format!("[[sink]]\nname = \"a\"\nkind = \"http\"\nurl = \"http://b/\"\n{field} = \"{value}\""))
                .unwrap_err()
        };
        let file = path.display().to_string();
        assert!(sink("secret_file", &file).contains("cannot be read"));
        std::fs::write(&path, "hunter2").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let told = sink("secret_file", &file);
        assert!(told.contains("sink a: ") && told.contains("chmod 600") && !told.contains("hunter2"), "{told}");
        std::fs::write(&path, "\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(sink("secret_file", &file).contains("there is no secret in"));
        assert!(sink("secret_env", "DSTORE_NOBODY_SETS_THIS").contains("is not set"));
    }

    #[test]
    fn authorities_that_are_none_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let path = path.display();
        let told =
            opened(&format!("[[sink]]\nname = \"a\"\nkind = \"otlp\"\nurl = \"https://b/\"\nca_file = \"{path}\""));
        assert!(told.unwrap_err().contains("no certificate"));
    }
}
