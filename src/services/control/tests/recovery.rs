//! The control key, and what survives losing everything else.

use std::sync::Arc;

use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::{Coordinator, Writer, layout};
use crate::crypto::Key256;
use crate::domain::RefusalKind;
use crate::domain::ids::Role;
use crate::services::control::testing::{Cluster, SystemRandom, open};
use crate::services::control::{ControlPlane, RecoveryContents};

#[tokio::test]
async fn a_cluster_is_made_once_and_opens_under_its_key_only() {
    let cluster = Cluster::start().await;
    let (clock, random): (Arc<dyn crate::domain::Clock>, Arc<dyn crate::domain::Random>) =
        (cluster.clock.clone(), Arc::new(SystemRandom));
    let again = ControlPlane::create(&cluster.coordinator, &cluster.control_key, None, &clock, &random).await;
    assert_eq!(again.unwrap_err().kind, RefusalKind::Conflict);
    let wrong = open(&cluster.coordinator, &Key256::new([0xee; 32]), &cluster.clock).await;
    assert_eq!(wrong.err().unwrap().kind, RefusalKind::Denied);
    let zero = open(&cluster.coordinator, &Key256::new([0; 32]), &cluster.clock).await;
    assert_eq!(zero.err().unwrap().kind, RefusalKind::BadInput);
}

#[tokio::test]
async fn a_secret_passed_off_as_another_does_not_open() {
    let cluster = Cluster::start().await;
    let (first, second) = (cluster.node(1, "a").await, cluster.node(2, "a").await);
    let key = |node: crate::domain::ids::NodeId| layout::control_key(&["node", &node.to_string()]);
    let stolen = cluster.coordinator.get(&key(first)).await.unwrap().unwrap().value;
    cluster.coordinator.put(&key(second), stolen, None).await.unwrap();
    assert!(cluster.plane.node_key_local(first).await.is_ok());
    assert_eq!(cluster.plane.node_key_local(second).await.unwrap_err().kind, RefusalKind::Denied);
}

#[tokio::test]
async fn nothing_secret_stands_in_the_coordinator_in_clear() {
    let cluster = Cluster::start().await;
    let node = cluster.node(1, "a").await;
    let part = cluster.plane.node_key_local(node).await.unwrap().remove(0).1;
    let base64 = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(part.expose())
    };
    let token_key = cluster.plane.token_keys().await.unwrap().remove(0).part;
    for entry in cluster.coordinator.list("").await.unwrap().entries {
        for secret in [part.expose().as_slice(), token_key.expose(), cluster.control_key.expose(), base64.as_bytes()] {
            assert!(!entry.value.windows(secret.len()).any(|window| window == secret), "{}", entry.key);
        }
        assert!(!String::from_utf8_lossy(&entry.value).contains("PRIVATE KEY"), "{}", entry.key);
    }
}

#[tokio::test]
async fn everything_sealed_comes_back_into_an_empty_coordinator() {
    let cluster = Cluster::start().await;
    let node = cluster.node(1, "a").await;
    let acme = cluster.tenant("acme").await;
    let tenant = crate::services::ports::Catalog::tenant(cluster.plane.as_ref(), &acme).unwrap().id;
    let bytes = cluster.plane.recovery_contents(&cluster.control_key).await.unwrap().to_bytes();
    let contents = RecoveryContents::from_bytes(&bytes).unwrap();
    assert_eq!(contents.control_key().unwrap(), cluster.control_key);
    assert_eq!(contents.summary().secrets.values().sum::<usize>(), 4, "token, authority, node, tenant");

    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("new.db"), EmbeddedOptions::default()).unwrap();
    let empty: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
    assert_eq!(contents.restore(empty.as_ref(), Arc::new(SystemRandom)).await.unwrap(), 5);
    assert_eq!(contents.restore(empty.as_ref(), Arc::new(SystemRandom)).await.unwrap(), 0, "nothing is overwritten");
    let restored = open(&empty, &contents.control_key().unwrap(), &cluster.clock).await.unwrap();
    assert_eq!(restored.plane(), cluster.plane.plane());
    assert_eq!(restored.node_key_local(node).await.unwrap(), cluster.plane.node_key_local(node).await.unwrap());
    assert_eq!(restored.tenant_key_local(tenant).await.unwrap(), cluster.plane.tenant_key_local(tenant).await.unwrap());
    // The authority, too: a node that joined before is still trusted, and new ones can join.
    let root = cluster.root.clone();
    assert!(restored.invite(&root, Role::Node, None, None).await.is_ok());
}

#[tokio::test]
async fn a_recovery_file_says_what_it_lacks() {
    let cluster = Cluster::start().await;
    let contents = cluster.plane.recovery_contents(&cluster.control_key).await.unwrap();
    assert!(cluster.plane.recovery_verify(&contents).await.unwrap().missing.is_empty());
    let node = cluster.node(1, "a").await;
    let missing = cluster.plane.recovery_verify(&contents).await.unwrap().missing;
    assert_eq!(missing, [format!("node {node} version 1")]);
    let other = Cluster::start().await;
    assert_eq!(other.plane.recovery_verify(&contents).await.unwrap_err().kind, RefusalKind::Conflict);
    let refused = contents.restore(other.coordinator.as_ref(), Arc::new(SystemRandom)).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict);
}
