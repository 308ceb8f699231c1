//! `dstore control` as processes over a real etcd that asks for everything: TLS, a client certificate, a user and a
//! password. Two instances serve one cluster; one leads, and the other takes over when it is killed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dstore::coordination::etcd::{EtcdCoordinator, EtcdOptions, EtcdTls, enable_authentication, install_roles};
use dstore::coordination::testing::{EtcdServer, EtcdServerOptions};
use dstore::coordination::{Coordinator, Error, Writer};
use dstore::crypto::Key256;
use dstore::domain::ids::Role;
use dstore::domain::{RefusalKind, TenantName};
use dstore::roles::ambient;
use dstore::services::control::{ControlOptions, ControlPlane};
use dstore::services::ports::{Caller, Catalog};
use dstore::transport::client::JsonClient;
use dstore::transport::tls::client_config;
use serde_json::Value;

use crate::process::{DEADLINE, wait_for_line};

const PREFIX: &str = "/a-cluster/";
const ROOT_PASSWORD: &str = "root's password";
const PASSWORD: &str = "correct horse battery";

/// An etcd over TLS with authentication on, and what control needs to reach it.
struct SecuredEtcd {
    _server: EtcdServer,
    folder: tempfile::TempDir,
    endpoint: String,
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file is written");
    // Others may not read secrets; the settings are checked for that.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode is changed");
    path
}

/// Writes an authority, a certificate for 127.0.0.1 that it signed, and the certificate's key.
fn certificates(folder: &Path) -> [PathBuf; 3] {
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    // No etcd user has this name, so it is the user and the password that tell who control is.
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "a machine");
    leaf.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate_pem = leaf.signed_by(&key, &issuer).unwrap().pem();
    let files = [("ca.pem", authority_pem), ("cert.pem", certificate_pem), ("key.pem", key.serialize_pem())];
    files.map(|(name, pem)| file(folder, name, &pem))
}

impl SecuredEtcd {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [ca, cert, key] = certificates(folder.path());
        let arguments = vec![
            format!("--trusted-ca-file={}", ca.display()),
            format!("--cert-file={}", cert.display()),
            format!("--key-file={}", key.display()),
            "--client-cert-auth".to_owned(),
        ];
        let server = EtcdServer::start_with(EtcdServerOptions { tls: true, arguments }).expect("etcd starts");
        let read = |path: &Path| std::fs::read(path).unwrap();
        let handle = |user: Option<(&str, &str)>| {
            EtcdCoordinator::new(EtcdOptions {
                tls: Some(EtcdTls {
                    ca_pem: read(&ca),
                    identity_pem: Some((read(&cert), read(&key).into())),
                    server_name: None,
                }),
                user: user.map(|(name, password)| (name.to_owned(), password.to_owned().into())),
                ..EtcdOptions::plain(server.endpoint(), PREFIX)
            })
        };
        enable_authentication(&handle(None), ROOT_PASSWORD).await.expect("authentication is on");
        let root = handle(Some(("root", ROOT_PASSWORD)));
        install_roles(&root, &Writer::Control, Some(PASSWORD)).await.expect("control has a user");
        let endpoint = server.endpoint();
        Self { _server: server, folder, endpoint }
    }

    /// The settings of an instance of control: everything that etcd asks for, as files.
    fn settings(&self, name: &str, password: &str) -> PathBuf {
        let folder = self.folder.path();
        let password_file = file(folder, &format!("{name}.password"), &format!("{password}\n"));
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "[data]\ndir = '{}'\n[admin]\nlisten = '127.0.0.1:0'\n[inside]\nlisten = '127.0.0.1:0'\n[metrics]\nlisten = '127.0.0.1:0'\n\
             [control]\nkey_file = '{}'\n[coordinator]\nkind = 'etcd'\nendpoints = ['{}']\nprefix = '{PREFIX}'\n\
             ca = '{}'\ncert = '{}'\nkey = '{}'\nuser = 'control'\npassword_file = '{}'\n",
            path(name),
            path("control.key"),
            self.endpoint,
            path("ca.pem"),
            path("cert.pem"),
            path("key.pem"),
            password_file.display()
        );
        file(folder, &format!("{name}.toml"), &text)
    }
}

fn dstore(settings: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dstore"));
    command.env_remove("DSTORE_CONFIG").arg("--config").arg(settings).arg("control");
    command
}

fn init(settings: &Path) -> Output {
    let mut command = dstore(settings);
    command.args(["--output", "json", "init", "--recovery-passphrase-file", "-"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary starts");
    child.stdin.take().unwrap().write_all(b"a passphrase for a test\n").unwrap();
    child.wait_with_output().unwrap()
}

/// A running `dstore control serve`; killed when dropped.
struct ControlProcess {
    child: Child,
    client: JsonClient,
}

impl ControlProcess {
    fn start(settings: &Path, authority_pem: &str, token: &str) -> Self {
        let mut command = dstore(settings);
        command.args(["--output", "json", "serve"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary starts");
        let line = wait_for_line(child.stdout.take().unwrap());
        let Ok(told) = serde_json::from_str::<Value>(&line) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("a line of JSON, not {line:?}");
        };
        let url = format!("https://{}", told["admin"][0].as_str().expect("an address"));
        let tls = client_config(None, authority_pem, Role::Control).unwrap();
        let client = JsonClient::new(&url, Some(tls)).unwrap().with_token(token.to_owned().into());
        Self { child, client }
    }

    async fn status(&self) -> Value {
        self.client.get("/admin/v1/status").await.expect("control answers")
    }
}

impl Drop for ControlProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer will do.
async fn until(what: &str, process: &ControlProcess, mut will_do: impl FnMut(&Value) -> bool) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let status = process.status().await;
        if will_do(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "in vain: {what}: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn two_instances_over_a_secured_etcd_elect_one_and_the_other_takes_over() {
    // Another test may have been first; any provider will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let etcd = SecuredEtcd::start().await;
    let refused = init(&etcd.settings("first", "another password"));
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && complaint.contains("authentication failed"), "{complaint}");
    assert!(!complaint.contains("another password"));
    let settings = etcd.settings("first", PASSWORD);
    let made = init(&settings);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert!(!init(&settings).status.success(), "there is a cluster now");
    let read = |name: &str| std::fs::read_to_string(made[name].as_str().unwrap()).unwrap();
    let (authority_pem, token) = (read("authority_file"), read("root_token_file"));

    let first = ControlProcess::start(&settings, &authority_pem, &token);
    let second = ControlProcess::start(&etcd.settings("second", PASSWORD), &authority_pem, &token);
    let led = until("one leads and cleans up", &first, |status| !status["leader"].is_null()).await;
    let there = second.status().await;
    assert_eq!((&led["plane"], &led["plane"]), (&made["plane"], &there["plane"]));
    let instances = [led["instance"].clone(), there["instance"].clone()];
    assert_ne!(instances[0], instances[1]);
    assert_eq!(there["leader"], led["leader"], "both know the same leader");
    let (mut leader, follower) = if led["leader"] == instances[0] { (first, second) } else { (second, first) };
    until("the leader cleans up", &leader, |status| status["maintenance_rounds"].as_u64() > Some(0)).await;
    let before = follower.status().await;
    assert_eq!(before["maintenance_rounds"], 0, "nobody else does");

    leader.child.kill().unwrap();
    // It has released nothing: its lease has to run out. The other serves all the while, or `status` would fail.
    let after = until("the other leads", &follower, |status| status["leader"] == status["instance"]).await;
    assert_ne!(after["leader"], before["leader"]);
    until("and cleans up", &follower, |status| status["maintenance_rounds"].as_u64() > Some(0)).await;
    let tenant: Value =
        follower.client.send(reqwest::Method::PUT, "/admin/v1/tenant/acme", Some(&Value::Null)).await.unwrap();
    assert_eq!(tenant["name"], "acme");
}

/// etcd counts what it has committed to its file, every 100 ms. Where it is late, the file is a little fuller than was
/// asked for; there is room for that between four fifths and the whole.
async fn wait_for_etcds_next_commit() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

/// Puts a megabyte. Whether it is there is not told by an etcd that is late or away for a moment, which is no error here.
async fn fill(coordinator: &dyn Coordinator) -> Result<(), Error> {
    match coordinator.put("control/filler", vec![7; 1_000_000].into(), None).await {
        Ok(_) | Err(Error::OutcomeUnknown(_) | Error::Unavailable(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A quota that a test can fill.
const SMALL_QUOTA_BYTES: u64 = 24_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_told_before_etcd_is_full_and_what_to_do_when_it_is() {
    let arguments = vec![format!("--quota-backend-bytes={SMALL_QUOTA_BYTES}")];
    let server = EtcdServer::start_with(EtcdServerOptions { tls: false, arguments }).expect("etcd starts");
    let options = EtcdOptions { quota_bytes: SMALL_QUOTA_BYTES, ..EtcdOptions::plain(server.endpoint(), PREFIX) };
    let coordinator: Arc<dyn Coordinator> = Arc::new(EtcdCoordinator::new(options));
    let (clock, random) = (ambient::clock(), ambient::random());
    let key = Key256::random(&*random);
    let created = ControlPlane::create(&coordinator, &key, None, &clock, &random).await.unwrap();
    let plane = ControlPlane::open(coordinator.clone(), &key, ControlOptions::default(), clock, random).await.unwrap();
    let root = Caller { principal: created.root, name: "root".to_owned(), tenant: None, capabilities: Vec::new() };
    let name = |name: &str| TenantName::new(name).unwrap();
    plane.create_tenant(&root, &name("first")).await.unwrap();
    plane.maintain().await.unwrap();
    assert!(plane.notice_list(None).await.unwrap().is_empty(), "there is room");

    let deadline = Instant::now() + DEADLINE;
    while plane.coordinator_health().await.unwrap().bytes < SMALL_QUOTA_BYTES * 8 / 10 {
        assert!(Instant::now() < deadline, "etcd is never nearly full");
        fill(&*coordinator).await.expect("it is not full yet");
        wait_for_etcds_next_commit().await;
    }
    plane.maintain().await.unwrap();
    plane.maintain().await.unwrap();
    let notices = plane.notice_list(Some(plane.plane().0)).await.unwrap();
    assert_eq!((notices.len(), notices[0].count), (1, 1), "{notices:?}");
    assert!(notices[0].details.contains("80 %") && notices[0].details.contains("etcdctl defrag"), "{notices:?}");

    let deadline = Instant::now() + DEADLINE;
    let full = loop {
        if let Err(error) = fill(&*coordinator).await {
            break error;
        }
        assert!(Instant::now() < deadline, "etcd is never full");
    };
    assert!(matches!(full, Error::NoSpace(_)), "{full:?}");
    assert!(plane.coordinator_health().await.unwrap().no_space);
    let refused = plane.create_tenant(&root, &name("second")).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Unavailable);
    for part in ["no space left", "etcdctl defrag", "etcdctl alarm disarm"] {
        assert!(refused.message.contains(part), "{part} in {}", refused.message);
    }
    assert_eq!(plane.list_tenants(None, 10).await.unwrap().len(), 1, "reads go on");
    plane.maintain().await.expect("what the leader does needs no room, but for the notice of it");
}
