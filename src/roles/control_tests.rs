//! Control as it is run: made in an empty folder, served over TLS on real sockets, joined, and brought
//! back from its recovery file.

use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ambient;
use super::control::{InitWishes, Newcomer, init, recovery_restore, recovery_verify, start};
use super::membership::Membership;
use super::renewal::Renewal;
use crate::config::Config;
use crate::domain::ids::Role;
use crate::domain::{Clock, RefusalKind, Timestamp};
use crate::services::control::JoinRequest;
use crate::services::control::remote::{RemoteControl, join};
use crate::transport::client::JsonClient;
use crate::transport::tls::{ClientCertificates, Identity, client_config, server_config};

const PASSPHRASE: &[u8] = b"correct horse battery staple";

fn config(folder: &std::path::Path) -> Config {
    let set = |key: &str, value: String| (key.to_owned(), value);
    let overrides = vec![
        set("data.dir", folder.display().to_string()),
        set("coordinator.kind", "embedded".to_owned()),
        set("admin.listen", "127.0.0.1:0".to_owned()),
        set("inside.listen", "127.0.0.1:0".to_owned()),
    ];
    Config::load(None, [], overrides).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_made_served_and_joined() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let report = init(&config, PASSPHRASE, InitWishes::default()).await.unwrap();
    assert!(init(&config, PASSPHRASE, InitWishes::default()).await.is_err(), "there is a cluster already");
    let control = start(&config).await.unwrap();
    let authority = std::fs::read_to_string(&report.authority_file).unwrap();
    let token = std::fs::read_to_string(&report.root_token_file).unwrap();

    let admin_url = format!("https://{}", control.admin_addresses()[0]);
    let client = || {
        let tls = client_config(None, &authority, Role::Control).unwrap();
        JsonClient::new(&admin_url, Some(tls)).unwrap()
    };
    let nobody = client().get::<Value>("/admin/v1/status").await.unwrap_err();
    assert_eq!(nobody.kind, RefusalKind::Unauthenticated);
    let admin = client().with_token(Zeroizing::new(token));
    assert_eq!(admin.get::<Value>("/admin/v1/status").await.unwrap()["plane"], report.plane.to_string());
    let unknown = admin.get::<Value>("/admin/v1/status?nonsense=1").await.unwrap_err();
    assert_eq!(unknown.kind, RefusalKind::BadInput);
    let invite = async |role: &str| {
        let asked = json!({ "role": role, "name": "first" });
        let answer: Value = admin.send(Method::POST, "/admin/v1/invitation", Some(&asked)).await.unwrap();
        answer["token"].as_str().unwrap().to_owned()
    };

    let inside_url = format!("https://{}", control.inside_addresses()[0]);
    let token = invite("node").await;
    let describe = |request: &mut JoinRequest| request.uri = Some("https://node:8080/".to_owned());
    let node = join(&inside_url, &token, Role::Node, describe).await.unwrap();
    let proxy = join(&inside_url, &invite("proxy").await, Role::Proxy, |_| {}).await.unwrap();
    let remote = |member: &crate::services::control::remote::Membership| {
        let identity = Identity::new(&member.joined.certificate_pem, &member.key_pem, &member.joined.authority_pem);
        RemoteControl::new(&inside_url, identity.unwrap(), &member.joined.authority_pem).unwrap()
    };
    let (node_control, proxy_control) = (remote(&node), remote(&proxy));
    let own = node_control.key_parts().await.unwrap().own;
    assert_ne!(own, proxy_control.key_parts().await.unwrap().own);
    let tenant = crate::domain::ids::TenantId::from_bytes([1; 16]);
    assert_eq!(proxy_control.tenant_key_parts(tenant).await.unwrap_err().kind, RefusalKind::Denied);
    // A node is told that there is no such key: it destroys its own part then.
    assert_eq!(node_control.tenant_key_parts(tenant).await.unwrap_err().kind, RefusalKind::NotFound);
    assert_eq!(proxy_control.access_snapshot().await.unwrap().principals.len(), 1);

    // A renewed certificate goes on where the old one was.
    node_control.certificate_renew().await.unwrap();
    assert_eq!(node_control.key_parts().await.unwrap().own, own);
    // The certificate outlives a removal; the right to anything does not.
    admin.send::<Value, Value>(Method::DELETE, &format!("/admin/v1/proxy/{}", proxy.joined.id), None).await.unwrap();
    assert_eq!(proxy_control.key_parts().await.unwrap_err().kind, RefusalKind::Denied);
    control.stop().await.unwrap();
}

/// The system's clock, some days ahead.
struct Ahead(u64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        ambient::clock().now().plus_seconds(self.0 * 24 * 3600)
    }
}

/// The certificate that a listener with this identity shows in a handshake.
fn shown(identity: &std::sync::Arc<Identity>, authority: &str) -> Vec<u8> {
    let server = server_config(identity.clone(), authority, ClientCertificates::Optional).unwrap();
    let client = client_config(None, authority, Role::Proxy).unwrap();
    let mut server = rustls::ServerConnection::new(server.into()).unwrap();
    let mut client = rustls::ClientConnection::new(client.into(), "proxy".try_into().unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    client.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_exchanged_at_two_thirds_of_its_life_while_it_is_in_use() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config(folder.path());
    let report = init(&config, PASSPHRASE, InitWishes::default()).await.unwrap();
    let control = start(&config).await.unwrap();
    let root = control.plane().principal_root().await.unwrap();
    let caller =
        crate::services::ports::Caller { principal: root.id, name: "root".into(), tenant: None, capabilities: vec![] };
    let invitation = control.plane().invite(&caller, Role::Proxy, None, None).await.unwrap();
    let url = format!("https://{}", control.inside_addresses()[0]);
    let joined = join(&url, &invitation.token, Role::Proxy, |_| {}).await.unwrap();
    let authority = joined.joined.authority_pem.clone();
    let membership = Membership::new(Role::Proxy, &url, joined.joined, &joined.key_pem);
    membership.keep(data.path()).unwrap();
    let identity = Identity::new(&membership.certificate_pem, membership.key_pem(), &authority).unwrap();
    let remote = RemoteControl::new(&url, identity.clone(), &authority).unwrap();
    let renewal = |days| Renewal {
        control: remote.clone(),
        identity: identity.clone(),
        data: data.path().to_owned(),
        membership: parking_lot::Mutex::new(membership.clone()),
        clock: std::sync::Arc::new(Ahead(days)),
    };
    let before = shown(&identity, &authority);
    assert!(!renewal(0).look().await.unwrap());
    assert!(!renewal(59).look().await.unwrap(), "not yet two thirds of 90 days");
    assert_eq!(shown(&identity, &authority), before);
    assert!(renewal(61).look().await.unwrap());
    let after = shown(&identity, &authority);
    assert_ne!(after, before, "the next handshake shows the new one");
    assert!(remote.key_parts().await.is_ok(), "and control knows it");
    let kept = super::membership::all(data.path()).unwrap().remove(0);
    assert_ne!(kept, membership);
    let restarted = Identity::new(&kept.certificate_pem, kept.key_pem(), &authority).unwrap();
    assert_eq!(shown(&restarted, &authority), after, "after a restart, too");

    // Without control the old one stays in use, and it is tried again.
    control.stop().await.unwrap();
    assert!(renewal(61).look().await.is_err());
    assert_eq!(shown(&identity, &authority), after);
    assert_eq!(report.plane, kept.plane);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_says_what_is_wrong() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    init(&config(folder.path()), PASSPHRASE, InitWishes::default()).await.unwrap();
    init(&config(other.path()), PASSPHRASE, InitWishes::default()).await.unwrap();
    let (control, foreign) =
        (start(&config(folder.path())).await.unwrap(), start(&config(other.path())).await.unwrap());
    let root = control.plane().principal_root().await.unwrap();
    let caller =
        crate::services::ports::Caller { principal: root.id, name: "root".into(), tenant: None, capabilities: vec![] };
    let invitation = control.plane().invite(&caller, Role::Node, None, None).await.unwrap();
    let url = |control: &super::control::RunningControl| format!("https://{}", control.inside_addresses()[0]);
    let node = |request: &mut JoinRequest| request.uri = Some("http://node:8080/".into());
    let kind = async |url: &str, role| {
        join(url, &invitation.token, role, node).await.map(drop).map_err(|refusal| refusal.kind)
    };
    assert_eq!(kind(&url(&foreign), Role::Node).await, Err(RefusalKind::Denied), "another authority");
    assert_eq!(kind(&url(&control), Role::Proxy).await, Err(RefusalKind::Unauthenticated), "another role");
    assert_eq!(kind("https://127.0.0.1:1", Role::Node).await, Err(RefusalKind::Unavailable), "nobody there");
    assert_eq!(kind(&url(&control), Role::Node).await, Ok(()));
    assert_eq!(kind(&url(&control), Role::Node).await, Err(RefusalKind::Unauthenticated), "used up");
    control.stop().await.unwrap();
    foreign.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recovery_file_of_init_brings_control_back_on_another_machine() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let report = init(&config(folder.path()), PASSPHRASE, InitWishes::default()).await.unwrap();
    let there = config(other.path());
    assert!(recovery_restore(&there, b"another passphrase", &report.recovery_file).await.is_err());
    assert_eq!(recovery_restore(&there, PASSPHRASE, &report.recovery_file).await.unwrap(), 3);
    assert!(recovery_verify(&there, PASSPHRASE, &report.recovery_file).await.unwrap().missing.is_empty());
    let key = |folder: &std::path::Path| std::fs::read_to_string(folder.join("control.key")).unwrap();
    assert_eq!(key(folder.path()), key(other.path()));
    let control = start(&there).await.unwrap();
    assert_eq!(control.plane().plane(), report.plane);
    control.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_invited_while_a_cluster_is_made_joins_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let invitations = ["node=n-1", "reporter=usage"].map(|text| text.parse::<Newcomer>().unwrap()).to_vec();
    let join_tokens = Some(folder.path().join("join"));
    let report = init(&config, PASSPHRASE, InitWishes { invitations, join_tokens, token_key: None }).await.unwrap();
    let tokens: Vec<String> =
        report.join_token_files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(report.join_token_files[0].ends_with("join/n-1.join-token"));
    let control = start(&config).await.unwrap();
    let url = format!("https://{}", control.inside_addresses()[0]);
    let describe = |request: &mut JoinRequest| request.uri = Some("https://node:8080/".to_owned());
    assert!(join(&url, &tokens[1], Role::Node, describe).await.is_err(), "it is a reporter's");
    join(&url, &tokens[0], Role::Node, describe).await.unwrap();
    join(&url, &tokens[1], Role::Reporting, |_| {}).await.unwrap();
    control.stop().await.unwrap();
}

#[test]
fn newcomers_are_written_as_role_and_name() {
    let newcomer: Newcomer = "proxy=p_2".parse().unwrap();
    assert_eq!((newcomer.role, newcomer.name.as_str()), (Role::Proxy, "p_2"));
    for wrong in ["node", "node=", "control=c", "node=../etc", "node=a b", "=x"] {
        assert!(wrong.parse::<Newcomer>().is_err(), "{wrong}");
    }
}
