//! Who gets which part of which key, and how members come and go.

use uuid::Uuid;

use crate::coordination::layout;
use crate::coordination::values::{ProxyAlive, to_json};
use crate::domain::ids::{NodeId, ProxyId, Role, TenantId};
use crate::domain::{Refusal, RefusalKind};
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::control::{JoinRequest, Joined, KeyOwner, RemoveNode, SecretName};
use crate::services::ports::Catalog;
use crate::transport::pki::{PeerIdentity, certificate_request};

async fn join(cluster: &Cluster, role: Role, token: &str) -> Result<Joined, Refusal> {
    let (_, request) = certificate_request().unwrap();
    let uri = (role == Role::Node).then(|| "https://n:8080/".to_owned());
    let asked = JoinRequest {
        token: token.to_owned(),
        role,
        certificate_request_pem: request,
        uri,
        inside_uri: None,
        zone: None,
        format: None,
    };
    cluster.plane.join(asked).await
}

async fn invited(cluster: &Cluster, role: Role) -> KeyOwner {
    let invitation = cluster.plane.invite(&cluster.root, role, Some(format!("the {role}")), None).await.unwrap();
    let joined = join(cluster, role, &invitation.token).await.unwrap();
    KeyOwner { role, id: joined.id }
}

fn denied<T: std::fmt::Debug>(answer: Result<T, Refusal>) {
    assert_eq!(answer.unwrap_err().kind, RefusalKind::Denied);
}

fn stranger(role: Role) -> KeyOwner {
    KeyOwner { role, id: Uuid::from_bytes([0xee; 16]) }
}

#[tokio::test]
async fn an_invitation_lets_one_in_once() {
    let cluster = Cluster::start().await;
    let invitation = cluster.plane.invite(&cluster.root, Role::Node, None, None).await.unwrap();
    for key in cluster.keys("control/join-token/").await {
        assert!(!key.contains(invitation.token.split('.').nth(1).unwrap()), "only a digest is kept");
    }
    let refused = join(&cluster, Role::Proxy, &invitation.token).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Unauthenticated, "an invitation is for one role");
    let joined = join(&cluster, Role::Node, &invitation.token).await.unwrap();
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice_of(&joined.certificate_pem);
    let identity = PeerIdentity::of_certificate(&certificate).unwrap();
    assert_eq!(identity, PeerIdentity { plane: cluster.plane.plane(), role: Role::Node, id: joined.id });
    let again = join(&cluster, Role::Node, &invitation.token).await.unwrap_err();
    assert_eq!(again.kind, RefusalKind::Unauthenticated);
}

/// Reads one certificate of PEM.
trait FromPem {
    fn from_pem_slice_of(pem: &str) -> rustls::pki_types::CertificateDer<'static>;
}

impl FromPem for rustls::pki_types::CertificateDer<'static> {
    fn from_pem_slice_of(pem: &str) -> rustls::pki_types::CertificateDer<'static> {
        use rustls::pki_types::pem::PemObject;
        rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }
}

#[tokio::test]
async fn of_two_that_use_one_invitation_at_once_one_gets_in() {
    let cluster = Cluster::start().await;
    let invitation = cluster.plane.invite(&cluster.root, Role::Proxy, None, None).await.unwrap();
    let (first, second) =
        tokio::join!(join(&cluster, Role::Proxy, &invitation.token), join(&cluster, Role::Proxy, &invitation.token));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|ok| **ok).count(), 1);
    assert_eq!(cluster.plane.member_list(Role::Proxy).await.unwrap().len(), 1);
}

#[tokio::test]
async fn invitations_expire() {
    let cluster = Cluster::start().await;
    let invitation = cluster.plane.invite(&cluster.root, Role::Node, None, Some(60)).await.unwrap();
    cluster.clock.forward(60);
    assert_eq!(join(&cluster, Role::Node, &invitation.token).await.unwrap_err().kind, RefusalKind::Unauthenticated);
    assert_eq!(cluster.plane.maintain().await.unwrap().credentials_expired, 1);
    let control = cluster.plane.invite(&cluster.root, Role::Control, None, None).await;
    assert_eq!(control.err().unwrap().kind, RefusalKind::BadInput);
}

#[tokio::test]
async fn every_role_gets_its_own_part_and_no_other() {
    let cluster = Cluster::start().await;
    let (node, proxy, reporter) = (
        invited(&cluster, Role::Node).await,
        invited(&cluster, Role::Proxy).await,
        invited(&cluster, Role::Reporting).await,
    );
    let other = invited(&cluster, Role::Node).await;
    let mut own = Vec::new();
    for peer in [node, proxy, reporter, other] {
        let parts = cluster.plane.key_parts(peer).await.unwrap();
        assert_eq!(parts.own.len(), 1);
        assert!(parts.tenants.is_empty(), "nobody holds a range yet");
        assert_eq!(parts.token_keys.is_empty(), peer.role == Role::Reporting);
        own.push(parts.own[0].part.clone());
    }
    for (index, part) in own.iter().enumerate() {
        assert!(!part.is_zero());
        assert!(own.iter().skip(index + 1).all(|later| later != part), "parts are independent");
    }
    // A certificate says the role, too: the UUID of a node with the role of a proxy is nobody.
    denied(cluster.plane.key_parts(KeyOwner { role: Role::Proxy, id: node.id }).await);
    denied(cluster.plane.key_parts(KeyOwner { role: Role::Node, id: proxy.id }).await);
    denied(cluster.plane.key_parts(KeyOwner { role: Role::Control, id: node.id }).await);
    for role in [Role::Node, Role::Proxy, Role::Reporting, Role::Control] {
        denied(cluster.plane.key_parts(stranger(role)).await);
    }
}

#[tokio::test]
async fn reporting_is_told_where_those_are_who_count() {
    let cluster = Cluster::start().await;
    let (alive, asleep) = (cluster.node(1, "a").await, cluster.node(2, "a").await);
    cluster.alive(alive, true).await;
    let (proxy, reporter) = (invited(&cluster, Role::Proxy).await, invited(&cluster, Role::Reporting).await);
    for id in [proxy.id, Uuid::from_u128(77)] {
        let says = ProxyAlive { inside_uri: "https://proxy:8081/".into(), version: None };
        cluster.coordinator.put(&layout::proxy_alive(ProxyId(id)), to_json(&says), None).await.unwrap();
    }
    let told = cluster.plane.inside_members(reporter).await.unwrap().members;
    let told: Vec<_> = told.iter().map(|member| (member.component.id, member.inside_url.as_str())).collect();
    assert_eq!(told, [(alive.0, "https://node-1:8081/"), (proxy.id, "https://proxy:8081/")], "{asleep} gives no sign");
    denied(cluster.plane.inside_members(stranger(Role::Reporting)).await);
}

#[tokio::test]
async fn a_tenants_part_goes_to_the_nodes_that_hold_its_ranges_only() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let tenant = cluster.plane.tenant(&acme).unwrap().id;
    let holder = KeyOwner { role: Role::Node, id: cluster.node(1, "a").await.0 };
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(1, 1)).await.unwrap();
    let other = KeyOwner { role: Role::Node, id: cluster.node(2, "b").await.0 };
    let proxy = invited(&cluster, Role::Proxy).await;

    let part = cluster.plane.tenant_key_parts(holder, tenant).await.unwrap();
    assert_eq!(cluster.plane.key_parts(holder).await.unwrap().tenants, [(tenant, part.clone())]);
    denied(cluster.plane.tenant_key_parts(other, tenant).await);
    denied(cluster.plane.tenant_key_parts(proxy, tenant).await);
    denied(cluster.plane.tenant_key_parts(KeyOwner { role: Role::Proxy, id: holder.id }, tenant).await);
    let nobody = cluster.plane.tenant_key_parts(holder, TenantId::from_bytes([1; 16])).await.unwrap_err();
    assert_eq!(nobody.kind, RefusalKind::NotFound, "so a node can tell a destroyed key from one it may not have");

    // Its log may still hold records of a dropped table: it keeps the right while the table can come back.
    cluster.plane.delete_table(&cluster.root, &acme, &table("users")).await.unwrap();
    assert_eq!(cluster.plane.tenant_key_parts(holder, tenant).await.unwrap(), part);
    cluster.clock.forward(7 * 24 * 3600);
    cluster.plane.maintain().await.unwrap();
    denied(cluster.plane.tenant_key_parts(holder, tenant).await);
}

#[tokio::test]
async fn access_keys_are_for_those_who_check_signatures() {
    let cluster = Cluster::start().await;
    let (proxy, reporter) = (invited(&cluster, Role::Proxy).await, invited(&cluster, Role::Reporting).await);
    assert!(cluster.plane.access_keys_for(proxy).await.unwrap().is_empty());
    assert_eq!(cluster.plane.access_keys_for(reporter).await.err().unwrap().kind, RefusalKind::Denied);
    assert_eq!(cluster.plane.access_keys_for(stranger(Role::Proxy)).await.err().unwrap().kind, RefusalKind::Denied);
}

#[tokio::test]
async fn a_removed_member_gets_nothing_more() {
    let cluster = Cluster::start().await;
    let proxy = invited(&cluster, Role::Proxy).await;
    cluster.plane.member_remove(&cluster.root, Role::Proxy, proxy.id).await.unwrap();
    denied(cluster.plane.key_parts(proxy).await);
    let (_, request) = certificate_request().unwrap();
    denied(cluster.plane.certificate_renew(proxy, &request).await);
    let again = cluster.plane.member_remove(&cluster.root, Role::Proxy, proxy.id).await.unwrap_err();
    assert_eq!(again.kind, RefusalKind::NotFound);
}

#[tokio::test]
async fn a_rotation_keeps_two_versions_until_every_holder_has_moved() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let tenant = cluster.plane.tenant(&acme).unwrap().id;
    let name = SecretName::Tenant(tenant);
    let mut holders = Vec::new();
    for (number, zone) in [(1, "a"), (2, "b")] {
        holders.push(KeyOwner { role: Role::Node, id: cluster.node(number, zone).await.0 });
    }
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(2, 3)).await.unwrap();
    let versions = async || -> Vec<u32> {
        let parts = cluster.plane.tenant_key_parts(holders[0], tenant).await.unwrap();
        parts.iter().map(|part| part.version).collect()
    };
    assert_eq!(cluster.plane.key_rotate(&cluster.root, name).await.unwrap(), 2);
    assert_eq!(versions().await, [1, 2]);
    let third = cluster.plane.key_rotate(&cluster.root, name).await.unwrap_err();
    assert_eq!(third.kind, RefusalKind::Conflict, "the last rotation has not ended");
    assert!(!cluster.plane.key_in_use(holders[0], name, 2).await.unwrap());
    assert!(!cluster.plane.key_in_use(holders[1], name, 1).await.unwrap());
    assert_eq!(versions().await, [1, 2]);
    denied(cluster.plane.key_in_use(invited(&cluster, Role::Node).await, name, 2).await);
    assert!(cluster.plane.key_in_use(holders[1], name, 2).await.unwrap());
    assert_eq!(versions().await, [2]);
    assert_eq!(cluster.plane.key_rotate(&cluster.root, name).await.unwrap(), 3);
}

#[tokio::test]
async fn keys_are_listed_without_a_byte_of_them() {
    let cluster = Cluster::start().await;
    let node = cluster.node(1, "a").await;
    cluster.clock.forward(90);
    let keys = cluster.plane.key_list().await.unwrap();
    let own = keys.iter().find(|key| key.owner == Some(node.0)).unwrap();
    assert_eq!((own.kind.as_str(), own.version, own.age_seconds), ("node", 1, 90));
    let shown = serde_json::to_string(&keys).unwrap();
    assert!(shown.len() < keys.len() * 200, "there is no room for a key");
}

#[tokio::test]
async fn a_node_that_holds_ranges_is_not_removed_by_mistake() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let node = cluster.node(1, "a").await;
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(2, 1)).await.unwrap();
    let remove = async |lose_data, typed: Option<&str>| {
        let how = RemoveNode { lose_data, typed_name: typed.map(str::to_owned) };
        cluster.plane.node_remove(&cluster.root, node, how).await
    };
    let refused = remove(false, None).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert!(refused.message.contains("acme/users/0000000000"), "{refused}");
    assert_eq!(remove(true, Some("node-2")).await.unwrap_err().kind, RefusalKind::BadInput);
    assert_eq!(remove(true, Some("node-1")).await.unwrap_err().kind, RefusalKind::Unavailable, "no other node");
    let other = cluster.node(2, "b").await;
    remove(true, Some("node-1")).await.unwrap();
    let ranges = cluster.plane.range_list(&acme, &table("users")).await.unwrap();
    assert!(ranges.iter().all(|range| range.leader == other && range.epoch == 0));
    assert_eq!(cluster.plane.node_list().await.unwrap().len(), 1);
    let notices = cluster.plane.notice_list(None).await.unwrap();
    assert!(notices.iter().any(|notice| notice.details.contains("was lost")));
    denied(cluster.plane.key_parts(KeyOwner { role: Role::Node, id: node.0 }).await);
    assert_eq!(remove(true, Some("node-1")).await.unwrap_err().kind, RefusalKind::NotFound);
    let nobody = cluster.plane.node_ranges(NodeId::from_bytes([7; 16])).await.unwrap_err();
    assert_eq!(nobody.kind, RefusalKind::NotFound);
}
