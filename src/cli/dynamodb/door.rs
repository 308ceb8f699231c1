//! Asks one operation of the DynamoDB protocol, over HTTP or HTTPS, of dStore or of AWS itself.
//!
//! What may pass by itself (no connection, no answer, throttling, a fault of the server) is asked again, more and more seldom, for
//! [`PATIENCE`]. So [`Door::ask`] is for operations that may be carried out twice: reads, and puts of whole items. A refusal is
//! given back with its name, as the SDKs know it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use parking_lot::Mutex;
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use serde_json::Value;

use super::credentials::{Credentials, region};
use super::signing::{CONTENT_TYPE, Signer, TARGET_PREFIX};

/// How long something is asked again that might pass.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one answer may take, and the making of a connection.
const TIMEOUTS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));
/// The shortest and the longest pause before it is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Refusals that pass by themselves.
const PASSING: &[&str] = &[
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
    "ServiceUnavailable",
];

/// Which server is asked, and as whom.
#[derive(Debug, Clone, Args)]
pub struct DoorFlags {
    /// Where clients are served: a proxy, a node, a dstore dev, or AWS itself
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// File with the access key, of `access-key create --out` or the credentials.json of a dstore dev; without it,
    /// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are used
    #[arg(long, value_name = "FILE")]
    pub access_key_file: Option<PathBuf>,
    /// The region that is signed for, which AWS wants to be its own; AWS_REGION or us-east-1 where none is given
    #[arg(long)]
    pub region: Option<String>,
    /// File with the certificate of the authority that signs the server's, for https; the system's where none is given
    #[arg(long, value_name = "FILE")]
    pub authority_file: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// The flags cannot be used: a URL that is none, no access key.
    Flags(String),
    /// The server refuses.
    Refused {
        /// The exception's name, without what stands before its `#`.
        name: String,
        /// What the server says.
        message: String,
    },
    /// Nobody answers, or only that it cannot be done now.
    Unreached(String),
}

/// A server, and who asks it.
pub struct Door {
    client: reqwest::Client,
    url: Url,
    signer: Mutex<Signer>,
    patience: Duration,
}

impl Door {
    /// Prepares to ask; nothing is sent yet.
    ///
    /// # Errors
    /// `Flags` where they cannot be used.
    pub fn open(flags: &DoorFlags) -> Result<Door, Trouble> {
        let credentials = Credentials::find(flags.access_key_file.as_deref()).map_err(|problem| told(&problem))?;
        let is_no_url = || Trouble::Flags(format!("{:?} is no URL such as http://127.0.0.1:8080", flags.url));
        let mut url = Url::parse(&flags.url).map_err(|_| is_no_url())?;
        let name = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or_else(is_no_url)?;
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        url.set_path("/");
        url.set_query(None);
        let client = reqwest::Client::builder()
            .timeout(TIMEOUTS.0)
            .connect_timeout(TIMEOUTS.1)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls(url.scheme() == "https", flags.authority_file.as_deref())?)
            .build()
            .map_err(|problem| Trouble::Flags(format!("no client can be made: {problem}")))?;
        let signer = Mutex::new(Signer::new(credentials, region(flags.region.as_deref()), host));
        Ok(Door { client, url, signer, patience: PATIENCE })
    }

    /// The same, which gives up at the first failure.
    #[cfg(test)]
    pub(in crate::cli) fn impatient(self) -> Door {
        Door { patience: Duration::ZERO, ..self }
    }

    /// Asks an operation that may be carried out twice.
    ///
    /// # Errors
    /// `Refused` at once; `Unreached` after some minutes.
    pub async fn ask(&self, operation: &str, body: &Value) -> Result<Value, Trouble> {
        let body = bytes::Bytes::from(body.to_string());
        let (begun, mut pause, mut has_told) = (Instant::now(), PAUSES.0, false);
        loop {
            let trouble = match self.ask_once(operation, body.clone()).await {
                Err(Trouble::Unreached(text)) => text,
                Err(Trouble::Refused { name, message }) if PASSING.contains(&name.as_str()) => {
                    format!("{name}: {message}")
                }
                ended => return ended,
            };
            if begun.elapsed() >= self.patience {
                return Err(Trouble::Unreached(trouble));
            }
            if pause > Duration::from_secs(1) && !has_told {
                eprintln!("waiting for {}: {trouble}", self.url);
                has_told = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn ask_once(&self, operation: &str, body: bytes::Bytes) -> Result<Value, Trouble> {
        let mut request = self.client.post(self.url.clone());
        {
            let mut signer = self.signer.lock();
            let signature = signer.sign(jiff::Timestamp::now(), operation, &body);
            request = request
                .header("content-type", CONTENT_TYPE)
                .header("x-amz-target", format!("{TARGET_PREFIX}{operation}"))
                .header("x-amz-date", signature.date)
                .header("authorization", signature.authorization);
            if let Some(token) = signer.session_token() {
                request = request.header("x-amz-security-token", token);
            }
        }
        let unreached = |problem: reqwest::Error| Trouble::Unreached(format!("{} {}", self.url, chain(&problem)));
        let answer = request.body(body).send().await.map_err(unreached)?;
        let status = answer.status();
        let text = answer.bytes().await.map_err(unreached)?;
        let json: Option<Value> = serde_json::from_slice(&text).ok();
        match json {
            Some(json) if status.is_success() => Ok(json),
            None if status.is_success() && text.is_empty() => Ok(Value::Null),
            Some(json) if status.is_client_error() && json["__type"].is_string() => Err(refusal(&json)),
            Some(json) => Err(Trouble::Unreached(format!("{} answers {status}: {}", self.url, message_of(&json)))),
            None => Err(Trouble::Unreached(format!("{} answers {status}, and no JSON", self.url))),
        }
    }
}

fn refusal(json: &Value) -> Trouble {
    let kind = json["__type"].as_str().unwrap_or_default();
    let name = kind.rsplit('#').next().unwrap_or(kind).to_owned();
    Trouble::Refused { name, message: message_of(json).to_owned() }
}

fn message_of(json: &Value) -> &str {
    ["message", "Message"].iter().find_map(|name| json[*name].as_str()).unwrap_or("no reason is given")
}

/// An error of flags, with what caused it.
fn told(problem: &dyn std::error::Error) -> Trouble {
    Trouble::Flags(chain(problem))
}

/// An error and its causes in one line.
fn chain(problem: &dyn std::error::Error) -> String {
    let mut text = problem.to_string();
    let mut cause = problem.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn tls(is_needed: bool, authority_file: Option<&Path>) -> Result<ClientConfig, Trouble> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|problem| told(&problem))?;
    let mut roots = RootCertStore::empty();
    match authority_file {
        None if is_needed => {
            let builder = builder.with_platform_verifier().map_err(|problem| told(&problem))?;
            return Ok(builder.with_no_client_auth());
        }
        // It is not used, but a client without any would look for one that the process has as its default.
        None => {}
        Some(path) => {
            let wrong = |problem: &dyn std::fmt::Display| Trouble::Flags(format!("{}: {problem}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|problem| wrong(&problem))? {
                let certificate = certificate.map_err(|problem| wrong(&problem))?;
                roots.add(certificate).map_err(|problem| wrong(&problem))?;
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A door to a server that gives these answers, one a connection, and then listens no more.
    async fn door(answers: Vec<&'static str>) -> (Door, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, r#"{"access_key_id":"A","secret_access_key":"s"}"#).unwrap();
        let flags = DoorFlags {
            url: format!("http://{}/x?y", listener.local_addr().unwrap()),
            access_key_file: Some(key),
            region: None,
            authority_file: None,
        };
        let door = Door::open(&flags).map_err(|_| "flags").unwrap().impatient();
        let served = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"{}") {
                    assert!(stream.read_buf(&mut request).await.unwrap() > 0, "a whole request");
                }
                requests.push(String::from_utf8(request).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        });
        (door, served)
    }

    #[tokio::test]
    async fn refusals_keep_their_names_and_faults_are_told_from_them() {
        let answers = vec![
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 47\r\n\r\n{\"__type\":\"com.x#ResourceNotFound\",\"Message\":1}",
            "HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 43\r\n\r\n{\"__type\":\"x#ThrottlingException\",\"b\":true}",
        ];
        let (door, served) = door(answers).await;
        let empty = serde_json::json!({});
        assert_eq!(door.ask("Scan", &empty).await.map_err(|_| "refused").unwrap(), serde_json::json!({ "a": 1 }));
        let refused = door.ask("Scan", &empty).await;
        assert!(matches!(&refused, Err(Trouble::Refused { name, .. }) if name == "ResourceNotFound"), "{refused:?}");
        for _ in 0..2 {
            let unreached = door.ask("Scan", &empty).await;
            assert!(matches!(&unreached, Err(Trouble::Unreached(_))), "{unreached:?}");
        }
        let requests = served.await.unwrap();
        assert!(requests[0].starts_with("POST / HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].contains("x-amz-target: DynamoDB_20120810.Scan\r\n"), "{}", requests[0]);
        assert!(matches!(door.ask("Scan", &empty).await, Err(Trouble::Unreached(_))), "nobody is there any more");
    }

    #[test]
    fn what_is_no_url_is_said() {
        let flags =
            |url: &str| DoorFlags { url: url.to_owned(), access_key_file: None, region: None, authority_file: None };
        // Without an access key it says so before; either way nothing is sent.
        for url in ["ftp://x", "x", "http://"] {
            assert!(matches!(Door::open(&flags(url)), Err(Trouble::Flags(_))), "{url}");
        }
    }
}
