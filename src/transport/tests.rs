//! Real handshakes: who is let in, who is refused, and a certificate exchanged in between.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use uuid::Uuid;

use super::pki::{Authority, PeerIdentity, authority_fingerprint, certificate_request};
use super::tls::{ClientCertificates, Identity, client_config, client_config_of, joining_client, server_config};
use crate::domain::Timestamp;
use crate::domain::ids::{PlaneId, Role};

struct Cluster {
    plane: PlaneId,
    authority_pem: String,
    key_pem: String,
    now: Timestamp,
}

impl Cluster {
    fn new(number: u8) -> Self {
        #[expect(clippy::disallowed_methods, reason = "rustls checks certificates against the system's clock")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let (plane, now) = (PlaneId::from_bytes([number; 16]), Timestamp(since.as_micros() as u64));
        let (authority_pem, key_pem) = Authority::create(plane, now).unwrap();
        Self { plane, authority_pem, key_pem: key_pem.to_string(), now }
    }

    fn sign(&self, role: Role, id: u8) -> (String, String) {
        let authority = Authority::open(&self.authority_pem, &self.key_pem).unwrap();
        let (key, request) = certificate_request().unwrap();
        let identity = PeerIdentity { plane: self.plane, role, id: Uuid::from_bytes([id; 16]) };
        (authority.sign(&request, identity, [id; 16], self.now).unwrap(), key.to_string())
    }

    fn identity(&self, role: Role, id: u8) -> Arc<Identity> {
        let (certificate, key) = self.sign(role, id);
        Identity::new(&certificate, &key, &self.authority_pem).unwrap()
    }

    fn control(&self, clients: ClientCertificates) -> ServerConfig {
        server_config(self.identity(Role::Control, 1), &self.authority_pem, clients).unwrap()
    }

    fn client(&self, role: Role, id: u8) -> ClientConfig {
        client_config(Some(self.identity(role, id)), &self.authority_pem, Role::Control).unwrap()
    }
}

/// Shakes hands in memory; who each side saw.
fn shake(server: ServerConfig, client: ClientConfig) -> Result<(PeerIdentity, Option<PeerIdentity>), rustls::Error> {
    let name = ServerName::try_from("10.1.2.3").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let seen = |certificates: Option<&[rustls::pki_types::CertificateDer<'_>]>| {
        certificates.map(|certificates| PeerIdentity::of_certificate(&certificates[0]).unwrap())
    };
    Ok((seen(client.peer_certificates()).unwrap(), seen(server.peer_certificates())))
}

#[test]
fn both_sides_see_role_and_uuid() {
    let cluster = Cluster::new(1);
    let (server, client) = shake(cluster.control(ClientCertificates::Required), cluster.client(Role::Node, 7)).unwrap();
    assert_eq!((server.role, server.plane), (Role::Control, cluster.plane));
    assert_eq!(client.unwrap(), PeerIdentity { plane: cluster.plane, role: Role::Node, id: Uuid::from_bytes([7; 16]) });
}

#[test]
fn without_a_certificate_one_is_let_in_only_where_that_is_optional() {
    let cluster = Cluster::new(1);
    let nobody = || client_config(None, &cluster.authority_pem, Role::Control).unwrap();
    assert!(shake(cluster.control(ClientCertificates::Required), nobody()).is_err());
    assert_eq!(shake(cluster.control(ClientCertificates::Optional), nobody()).unwrap().1, None);
}

#[test]
fn another_cluster_is_a_stranger_on_both_sides() {
    let (cluster, other) = (Cluster::new(1), Cluster::new(2));
    assert!(shake(cluster.control(ClientCertificates::Required), other.client(Role::Node, 7)).is_err());
    let intruder = client_config(Some(other.identity(Role::Node, 7)), &cluster.authority_pem, Role::Control).unwrap();
    assert!(shake(cluster.control(ClientCertificates::Optional), intruder).is_err());
}

#[test]
fn a_node_cannot_pose_as_control() {
    let cluster = Cluster::new(1);
    let posing =
        server_config(cluster.identity(Role::Node, 7), &cluster.authority_pem, ClientCertificates::Required).unwrap();
    assert!(shake(posing, cluster.client(Role::Proxy, 3)).is_err());
}

#[test]
fn one_node_cannot_pose_as_another() {
    let cluster = Cluster::new(1);
    let node = |id| {
        let identity = cluster.identity(Role::Node, id);
        server_config(identity, &cluster.authority_pem, ClientCertificates::Required).unwrap()
    };
    let meant = PeerIdentity { plane: cluster.plane, role: Role::Node, id: Uuid::from_bytes([7; 16]) };
    let reaching =
        |expected| client_config_of(cluster.identity(Role::Proxy, 3), &cluster.authority_pem, expected).unwrap();
    assert_eq!(shake(node(7), reaching(meant)).unwrap().0, meant);
    assert!(shake(node(8), reaching(meant)).is_err());
    assert!(shake(node(7), reaching(PeerIdentity { role: Role::Proxy, ..meant })).is_err());
    assert!(shake(node(7), reaching(PeerIdentity { plane: PlaneId::from_bytes([9; 16]), ..meant })).is_err());
}

#[test]
fn a_joiner_trusts_the_fingerprint_of_its_token_and_nothing_else() {
    let (cluster, other) = (Cluster::new(1), Cluster::new(2));
    let fingerprint = authority_fingerprint(&cluster.authority_pem).unwrap();
    let joining = || joining_client(&fingerprint).unwrap();
    assert!(shake(cluster.control(ClientCertificates::Optional), joining()).is_ok());
    assert!(shake(other.control(ClientCertificates::Optional), joining()).is_err());
    // A chain that only shows the right authority, signed by another.
    let (certificate, key) = other.sign(Role::Control, 1);
    let forged = Identity::new(&certificate, &key, &cluster.authority_pem).unwrap();
    let forged = server_config(forged, &other.authority_pem, ClientCertificates::Optional).unwrap();
    assert!(shake(forged, joining()).is_err());
}

#[test]
fn a_renewed_certificate_is_shown_without_a_new_configuration() {
    let cluster = Cluster::new(1);
    let identity = cluster.identity(Role::Control, 1);
    let server = server_config(identity.clone(), &cluster.authority_pem, ClientCertificates::Required).unwrap();
    assert_eq!(shake(server.clone(), cluster.client(Role::Node, 7)).unwrap().0.id, Uuid::from_bytes([1; 16]));
    let (certificate, key) = cluster.sign(Role::Control, 2);
    identity.replace(&certificate, &key, &cluster.authority_pem).unwrap();
    assert_eq!(shake(server, cluster.client(Role::Node, 7)).unwrap().0.id, Uuid::from_bytes([2; 16]));
    assert!(!identity.renewal_due(cluster.now));
    assert!(identity.renewal_due(cluster.now.plus_seconds(61 * 24 * 3600)));
}
