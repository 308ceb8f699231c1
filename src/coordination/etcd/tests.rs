//! What only etcd can do to us: die, stand still, be out of reach, fill up, and speak TLS. The promises
//! both coordinators share are tested by the contract suite.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{EtcdCoordinator, EtcdOptions, EtcdTls, enable_authentication, install_roles, remove_writer};
use crate::coordination::testing::{EtcdServer, EtcdServerOptions};
use crate::coordination::{Coordinator, Error, Operation, Reflected, Reflector, ReflectorOptions, Writer};
use crate::domain::ids::NodeId;

const DEADLINE: Duration = Duration::from_secs(30);

fn handle(endpoint: String, request_timeout_ms: u64) -> Arc<EtcdCoordinator> {
    Arc::new(EtcdCoordinator::new(EtcdOptions { request_timeout_ms, ..EtcdOptions::plain(endpoint, "dstore/") }))
}

fn quick() -> ReflectorOptions {
    ReflectorOptions { backoff_ms_min: 10, backoff_ms_max: 100, ..ReflectorOptions::default() }
}

async fn next(reflector: &mut Reflector) -> Reflected {
    loop {
        match timeout(DEADLINE, reflector.next()).await.expect("news in time").expect("the reflector runs") {
            Reflected::Changes(batch) if batch.events.is_empty() => {}
            other => return other,
        }
    }
}

async fn eventually_writes(coordinator: &EtcdCoordinator, key: &str) {
    timeout(DEADLINE, async {
        while coordinator.put(key, "1".into(), None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the server takes writes");
}

/// Writes until it is said that surely nothing happened. Until the client has noticed that its connection is gone, a
/// write may be handed to that connection, and then it is not known what became of it.
async fn refused_for_sure(coordinator: &EtcdCoordinator, key: &str) {
    loop {
        match coordinator.put(key, "1".into(), None).await {
            Err(Error::Unavailable(_)) => return,
            Err(Error::OutcomeUnknown(_)) => {}
            other => panic!("a dead server answered {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_changes_nothing_and_the_same_handle_goes_on_after_it() {
    let mut server = EtcdServer::start().unwrap();
    let coordinator = handle(server.endpoint(), 3_000);
    coordinator.put("tenant/a", "1".into(), None).await.unwrap();
    let mut reflector = Reflector::start(coordinator.clone(), "tenant/", quick());
    let Reflected::Snapshot(listing) = next(&mut reflector).await else { panic!("first everything") };
    assert_eq!(listing.entries.len(), 1);

    server.kill().unwrap();
    assert!(matches!(next(&mut reflector).await, Reflected::Lost(Error::Unavailable(_))));
    timeout(DEADLINE, refused_for_sure(&coordinator, "tenant/b")).await.expect("the broken connection is noticed");
    assert!(matches!(coordinator.get("tenant/a").await, Err(Error::Unavailable(_))));

    server.restart().unwrap();
    assert!(matches!(next(&mut reflector).await, Reflected::Resumed(revision) if revision == listing.revision));
    eventually_writes(&coordinator, "tenant/c").await;
    let Reflected::Changes(batch) = next(&mut reflector).await else { panic!("then what is new") };
    assert_eq!(batch.events[0].key(), "tenant/c");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_leaves_writes_unknown_and_reads_unavailable() {
    let mut server = EtcdServer::start().unwrap();
    let coordinator = handle(server.endpoint(), 300);
    // Its time is for the server that stands still: one that only has a slow disk is asked again.
    eventually_writes(&coordinator, "tenant/a").await;
    server.pause().unwrap();
    assert!(matches!(coordinator.get("tenant/a").await, Err(Error::Unavailable(_))));
    let unknown = coordinator.put("tenant/b", "1".into(), None).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown(_))), "{unknown:?}");
    server.resume().unwrap();
    eventually_writes(&coordinator, "tenant/c").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_is_made_while_the_server_is_away() {
    let mut server = EtcdServer::start().unwrap();
    server.stop().unwrap();
    let coordinator = handle(server.endpoint(), 2_000);
    let mut reflector = Reflector::start(coordinator.clone(), "tenant/", quick());
    assert!(matches!(next(&mut reflector).await, Reflected::Lost(Error::Unavailable(_))));
    server.restart().unwrap();
    assert!(matches!(next(&mut reflector).await, Reflected::Snapshot(_)));
}

/// Passes bytes to the server until it is dropped; then connections break and new ones are refused.
struct Relay {
    address: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn start(address: Option<std::net::SocketAddr>, server: &EtcdServer) -> Self {
        let target = server.endpoint().trim_start_matches("http://").to_owned();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(address.unwrap_or(any)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    if let Ok(mut upstream) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
                    }
                });
            }
        });
        Self { address, task }
    }

    async fn cut(self) -> std::net::SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reflector_that_missed_what_was_compacted_lists_again() {
    let server = EtcdServer::start().unwrap();
    let direct = handle(server.endpoint(), 3_000);
    direct.put("tenant/a", "1".into(), None).await.unwrap();
    let relay = Relay::start(None, &server).await;
    let far = handle(format!("http://{}", relay.address), 10_000);
    let mut reflector = Reflector::start(far, "tenant/", quick());
    assert!(matches!(next(&mut reflector).await, Reflected::Snapshot(_)));

    let address = relay.cut().await;
    assert!(matches!(next(&mut reflector).await, Reflected::Lost(_)));
    direct.delete("tenant/a").await.unwrap();
    let revision = direct.put("tenant/b", "1".into(), None).await.unwrap();
    let relay = Relay::start(Some(address), &server).await;
    let Reflected::Resumed(_) = next(&mut reflector).await else { panic!("what is missed is still there") };
    let Reflected::Changes(batch) = next(&mut reflector).await else { panic!("and told") };
    assert_eq!(batch.events.len(), 2, "{batch:?}");

    let address = relay.cut().await;
    assert!(matches!(next(&mut reflector).await, Reflected::Lost(_)));
    direct.delete("tenant/b").await.unwrap();
    direct.put("tenant/c", "1".into(), None).await.unwrap();
    let last = direct.put("tenant/c", "2".into(), None).await.unwrap();
    assert!(last > revision);
    direct.compact(last).await.unwrap();
    let _relay = Relay::start(Some(address), &server).await;
    let listing = loop {
        match next(&mut reflector).await {
            Reflected::Snapshot(listing) => break listing,
            Reflected::Resumed(_) | Reflected::Lost(_) => {}
            Reflected::Changes(batch) => panic!("there is nothing to tell but everything: {batch:?}"),
        }
    };
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.entries[0].value.as_ref(), b"2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_says_so_and_still_reads() {
    let arguments = vec!["--quota-backend-bytes=8000000".to_owned()];
    let server = EtcdServer::start_with(EtcdServerOptions { tls: false, arguments }).unwrap();
    let options = EtcdOptions { quota_bytes: 8_000_000, ..EtcdOptions::plain(server.endpoint(), "dstore/") };
    let coordinator = EtcdCoordinator::new(options);
    assert!(!coordinator.health().await.unwrap().no_space);
    coordinator.put("tenant/a", "1".into(), None).await.unwrap();
    // etcd sees how large it has become when it commits, every tenth of a second: until then it takes more than it has.
    let full = timeout(DEADLINE, async {
        loop {
            let large = vec![Operation::put("tenant/large", vec![7; 1_000_000])];
            if let Err(error) = coordinator.transact(vec![], large).await {
                return error;
            }
        }
    });
    let full = full.await.expect("it is full at last");
    assert!(matches!(full, Error::NoSpace(_)), "{full:?}");
    assert!(coordinator.get("tenant/a").await.unwrap().is_some());
    let health = coordinator.health().await.unwrap();
    assert!(health.no_space && health.bytes > 7_000_000, "{health:?}");
    assert_eq!(health.quota_bytes, Some(8_000_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_writer_is_refused_and_a_new_password_holds() {
    let server = EtcdServer::start().unwrap();
    let with_user = |user: Option<(String, &str)>| {
        let mut options = EtcdOptions::plain(server.endpoint(), "dstore/");
        options.user = user.map(|(name, password)| (name, password.to_owned().into()));
        EtcdCoordinator::new(options)
    };
    enable_authentication(&with_user(None), "root's").await.unwrap();
    let root = with_user(Some(("root".into(), "root's")));
    let writer = Writer::Node(NodeId::from_bytes([1; 16]));
    install_roles(&root, &writer, Some("first")).await.unwrap();
    install_roles(&root, &writer, Some("second")).await.unwrap();
    let old = with_user(Some((writer.name(), "first")));
    assert!(matches!(old.get("tenant/a").await, Err(Error::Denied(_))));
    let node = with_user(Some((writer.name(), "second")));
    node.put("tenant/a", "1".into(), None).await.unwrap();
    assert!(matches!(with_user(None).get("tenant/a").await, Err(Error::Denied(_))));
    assert!(matches!(install_roles(&node, &writer, Some("third")).await, Err(Error::Denied(_))));
    remove_writer(&root, &writer).await.unwrap();
    remove_writer(&root, &writer).await.unwrap();
    assert!(matches!(node.put("tenant/a", "2".into(), None).await, Err(Error::Denied(_))));
}

/// A fresh authority, and what it signs for this name: (authority, certificate, key), all PEM.
fn certificates(name: &str) -> (String, String, String) {
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, name);
    leaf.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    (authority_pem, leaf.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_client_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, certificate, key) = certificates("control");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let arguments = vec![
        format!("--trusted-ca-file={}", file("ca", &authority)),
        format!("--cert-file={}", file("cert", &certificate)),
        format!("--key-file={}", file("key", &key)),
        "--client-cert-auth".to_owned(),
    ];
    let server = EtcdServer::start_with(EtcdServerOptions { tls: true, arguments }).unwrap();
    let with = |ca: &str, identity: Option<(&str, &str)>| {
        let mut options = EtcdOptions::plain(server.endpoint(), "dstore/");
        options.request_timeout_ms = 2_000;
        options.tls = Some(EtcdTls {
            ca_pem: ca.into(),
            identity_pem: identity.map(|(certificate, key)| (certificate.into(), key.as_bytes().to_vec().into())),
            server_name: None,
        });
        EtcdCoordinator::new(options)
    };
    let good = with(&authority, Some((&certificate, &key)));
    eventually_writes(&good, "tenant/a").await;
    assert!(with(&authority, None).get("tenant/a").await.is_err(), "no client certificate");
    let (stranger, strange_certificate, strange_key) = certificates("control");
    assert!(with(&stranger, Some((&certificate, &key))).get("tenant/a").await.is_err(), "a stranger's server");
    let strange_client = with(&authority, Some((&strange_certificate, &strange_key)));
    assert!(strange_client.get("tenant/a").await.is_err(), "a stranger's certificate");
}
